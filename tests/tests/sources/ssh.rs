//! Git repositories over SSH.

use cofferdam_tests::{KeyAgent, Program, SshServer};

use crate::scene::{Scene, application, dockerfile, refused};

#[test]
fn a_repository_over_ssh_is_a_context() {
    let Some((repositories, _)) = application() else { return };
    let Some(server) = SshServer::start(&repositories, &["AcceptEnv GIT_PROTOCOL"]) else { return };
    let scene = Scene::new();
    let known = server.known_hosts("known", &[server.known("", "ed25519")]);
    let url = format!("ssh://{}{}/app.git", server.login(), repositories.path().display());
    let key = format!("default={}", server.key("key").display());
    let image = scene.image(scene.docker(&["--ssh", &key], &url).env("SSH_KNOWN_HOSTS", &known));
    assert_eq!(image.content("/app/page"), "later\n");
    // The user's own agent, and the file in the user's own directory.
    let Some(agent) = KeyAgent::start(&[server.key("key")]) else { return };
    std::fs::create_dir(scene.place.path().join(".ssh")).expect("writable");
    std::fs::copy(&known, scene.place.path().join(".ssh/known_hosts")).expect("writable");
    let own = |program: Program| program.env("HOME", scene.place.path()).env("SSH_AUTH_SOCK", agent.socket());
    let image = scene.image(own(scene.docker(&[], &format!("{url}#v1:service"))));
    assert_eq!(image.content("/service"), "service\n");
    let image = scene.image(own(scene.kaniko(&[&format!("--context={url}")])));
    assert_eq!(image.content("/app/page"), "later\n");
    let other = format!("default={}", server.key("other").display());
    let refusal = ["lets", "another key", "--ssh default=FILE"];
    refused(scene.docker(&["--ssh", &other], &url).env("SSH_KNOWN_HOSTS", &known), &refusal);
    let unknown = refused(own(scene.docker(&[], &url)).env("HOME", "/nonexistent"), &["can't be trusted", "SHA256:"]);
    assert!(unknown.stderr.contains("/nonexistent/.ssh/known_hosts"), "{}", unknown.stderr);
    refused(scene.docker(&[], &url).env("SSH_KNOWN_HOSTS", &known), &["there is no key for that", "--ssh default"]);
}

#[test]
fn add_fetches_over_ssh_with_the_keys_that_it_was_given_and_no_others() {
    let Some((repositories, commit)) = application() else { return };
    let Some(server) = SshServer::start(&repositories, &["AcceptEnv GIT_PROTOCOL"]) else { return };
    let Some(agent) = KeyAgent::start(&[server.key("key")]) else { return };
    let scene = Scene::new();
    let known = server.known_hosts("known", &[server.known("", "ed25519")]);
    let url = format!("ssh://{}{}/app.git", server.login(), repositories.path().display());
    dockerfile(&scene, &format!("FROM scratch\nADD --checksum={commit} {url}#v1:service /s/\n"));
    let program = |arguments: &[&str]| {
        scene.docker(arguments, "context").env("SSH_KNOWN_HOSTS", &known).env("SSH_AUTH_SOCK", agent.socket())
    };
    let image = scene.image(program(&["--ssh", "default"]));
    assert_eq!(image.names("/s"), "Dockerfile page");
    let key = format!("default={}", server.key("key").display());
    assert_eq!(scene.image(program(&["--no-cache", "--ssh", &key])).content("/s/page"), "service\n");
    // A Dockerfile may be a stranger's: the user's own agent is the context's alone.
    refused(program(&["--no-cache"]), &["there is no key for that", "--ssh default", "Dockerfile:2"]);
}
