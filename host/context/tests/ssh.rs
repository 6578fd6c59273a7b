//! Repositories behind OpenSSH's own server, and servers that are not who they should be.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test makes and looks at files")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use cofferdam_context::{FetchError, FetchedGit, GitSource, Remote, SshAccess, SshAgent, fetch_git};
use cofferdam_tests::{KeyAgent, Repositories, SshServer, run};

use common::remote_with;

/// A server, an agent with the key that it lets in, and a file that has the server's key.
struct Scene {
    repositories: Repositories,
    server: SshServer,
    agent: KeyAgent,
    commit: String,
}

impl Scene {
    fn new(settings: &[&str]) -> Option<Self> {
        let repositories = Repositories::new()?;
        repositories.commit("library.git", &[("code", "library\n")]);
        repositories.commit("app.git", &[("file", "one\n"), ("sub/deep/other", "other\n")]);
        repositories.git("app.git", &["tag", "v1"]);
        repositories.git("app.git", &["submodule", "--quiet", "add", "../library.git", "lib"]);
        let commit = repositories.commit("app.git", &[("file", "two\n")]);
        // What `submodule add` resolved against is no server here.
        let server = SshServer::start(&repositories, settings)?;
        let agent = KeyAgent::start(&[server.key("other"), server.key("key")])?;
        Some(Self { repositories, server, agent, commit })
    }

    fn known(&self) -> PathBuf {
        self.server.known_hosts("known", &[self.server.known("", "ed25519")])
    }

    fn remote(&self, agent: Option<&KeyAgent>, known_hosts: &Path) -> Remote {
        remote_with(|options| {
            options.ssh = SshAccess { agent: agent.map(of_process), known_hosts: vec![known_hosts.to_path_buf()] };
        })
    }

    /// A URL of a repository at the server.
    fn url(&self, name: &str) -> String {
        format!("ssh://{}{}/{name}", self.server.login(), self.repositories.path().display())
    }

    fn fetch(&self, text: &str) -> Result<FetchedGit, FetchError> {
        fetch(&self.remote(Some(&self.agent), &self.known()), text)
    }
}

fn of_process(agent: &KeyAgent) -> SshAgent {
    let socket = agent.socket();
    SshAgent::new(move || UnixStream::connect(&socket))
}

fn fetch(remote: &Remote, text: &str) -> Result<FetchedGit, FetchError> {
    fetch_git(remote, &GitSource::parse(text)?, None)
}

fn read(fetched: &FetchedGit, path: &str) -> String {
    fs::read_to_string(fetched.directory.join(path)).unwrap()
}

fn says(error: FetchError, texts: &[&str]) {
    let message = error.to_string();
    for text in texts {
        assert!(message.contains(text), "`{text}` is not in {message}");
    }
}

#[test]
fn repositories_are_fetched_over_ssh_in_both_versions_of_git_s_protocol() {
    for settings in [&["AcceptEnv GIT_PROTOCOL"][..], &[]] {
        let Some(scene) = Scene::new(settings) else { return };
        let fetched =
            scene.fetch(&scene.url("app.git")).unwrap_or_else(|error| panic!("{error}: {}", scene.server.log()));
        assert_eq!((read(&fetched, "file"), fetched.facts.commit.as_str()), ("two\n".into(), scene.commit.as_str()));
        assert_eq!(read(&fetched, "lib/code"), "library\n", "a submodule beside it");
        let tagged = scene.fetch(&format!("{}#v1:sub", scene.url("app.git"))).unwrap();
        assert_eq!(read(&tagged, "deep/other"), "other\n");
        let by_id = scene.fetch(&format!("{}?keep-git-dir=1#{}", scene.url("app.git"), scene.commit)).unwrap();
        assert!(by_id.directory.join(".git/HEAD").exists());
        let config = read(&by_id, ".git/config");
        assert!(config.contains(&format!("url = ssh://{}/", scene.server.login())), "{config}");
    }
}

#[test]
fn a_path_behind_a_colon_begins_at_the_user_s_directory() {
    let Some(scene) = Scene::new(&["AcceptEnv GIT_PROTOCOL"]) else { return };
    let Some(login) = scene.server.login_at_usual_port() else { return };
    let host = login.split_once('@').unwrap().1;
    let known = scene.server.known_hosts("usual", &[scene.server.known(host, "ed25519")]);
    let remote = scene.remote(Some(&scene.agent), &known);
    let fetched = fetch(&remote, &format!("{login}:app.git")).unwrap();
    assert_eq!((read(&fetched, "file"), read(&fetched, "lib/code")), ("two\n".into(), "library\n".into()));
    let absolute = format!("{login}:{}/app.git#v1", scene.repositories.path().display());
    assert_eq!(read(&fetch(&remote, &absolute).unwrap(), "file"), "one\n");
}

#[test]
fn any_key_of_the_server_that_is_known_vouches_for_it() {
    let Some(scene) = Scene::new(&[]) else { return };
    let fetched = |known: PathBuf| fetch(&scene.remote(Some(&scene.agent), &known), &scene.url("app.git"));
    fetched(scene.server.known_hosts("rsa", &[scene.server.known("", "rsa")])).unwrap();
    // As ssh-keygen hides the names.
    let hashed = scene.known();
    run(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&hashed)).success();
    assert!(fs::read_to_string(&hashed).unwrap().starts_with("|1|"));
    fetched(hashed).unwrap();
}

#[test]
fn a_server_that_is_not_known_gets_nothing() {
    let Some(scene) = Scene::new(&[]) else { return };
    let why = |name: &str, lines: &[String]| {
        let known = scene.server.known_hosts(name, lines);
        fetch(&scene.remote(Some(&scene.agent), &known), &scene.url("app.git")).unwrap_err()
    };
    let fingerprint = run(Command::new("ssh-keygen").arg("-lf").arg(scene.server.key("host-ed25519.pub"))).success();
    let fingerprint = fingerprint.stdout.split(' ').nth(1).unwrap().to_owned();
    let line = scene.server.known("", "ed25519");
    let line = line.rsplit_once(' ').unwrap().0;
    let unknown = why("none", &[]);
    assert!(matches!(unknown, FetchError::UnknownHostKey { .. }), "{unknown}");
    says(unknown, &["ssh-ed25519", &fingerprint, "SSH_KNOWN_HOSTS", line]);
    let other = why("other-key", &[scene.server.known("", "other")]);
    assert!(matches!(other, FetchError::OtherHostKey { .. }), "{other}");
    says(other, &[&fingerprint, "other-key:1", "taken its place"]);
    let revoked = format!("@revoked {}", scene.server.known("*", "ed25519"));
    let revoked = why("revoked", &[scene.server.known("", "ed25519"), revoked]);
    assert!(matches!(revoked, FetchError::RevokedHostKey { .. }), "{revoked}");
    says(revoked, &["revoked:2"]);
    assert!(!scene.server.log().contains("Accepted"), "nobody logged in: {}", scene.server.log());
    // The line that the message names is the remedy.
    let mended = scene.server.known_hosts("mended", &[format!("{line}\n")]);
    fetch(&scene.remote(Some(&scene.agent), &mended), &scene.url("app.git")).unwrap();
}

#[test]
fn whoever_has_not_the_right_key_is_told_so() {
    let Some(scene) = Scene::new(&[]) else { return };
    let url = scene.url("app.git");
    let with = |agent: Option<&KeyAgent>| fetch(&scene.remote(agent, &scene.known()), &url).unwrap_err();
    says(with(None), &["no key", "--ssh default"]);
    let Some(empty) = KeyAgent::start(&[]) else { return };
    says(with(Some(&empty)), &["the SSH agent has none", "--ssh default=FILE"]);
    let Some(wrong) = KeyAgent::start(&[scene.server.key("other")]) else { return };
    let error = with(Some(&wrong));
    assert!(matches!(error, FetchError::SshRefused { keys_count: 1, .. }), "{error}");
    says(error, &["another key than the one", &scene.server.user()]);
    let socket = wrong.socket();
    drop(wrong);
    let gone = SshAgent::new(move || UnixStream::connect(&socket));
    let remote = scene.remote(None, &scene.known()).with_ssh_agent(gone);
    says(fetch(&remote, &url).unwrap_err(), &["reach the SSH agent"]);
}

#[test]
fn what_the_server_says_is_passed_on() {
    let Some(scene) = Scene::new(&[]) else { return };
    says(scene.fetch(&scene.url("missing.git")).unwrap_err(), &["the server says", "missing.git", "check the path"]);
    says(scene.fetch(&format!("{}#nope", scene.url("app.git"))).unwrap_err(), &["no branch or tag `nope`", "v1"]);
    let Some(closed) = Scene::new(&["PermitTTY no", "MaxSessions 0"]) else { return };
    let error = closed.fetch(&closed.url("app.git")).unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error}");
}

#[test]
fn the_policy_and_patience_count_for_ssh_as_for_the_rest() {
    let Some(scene) = Scene::new(&[]) else { return };
    let forbidding = remote_with(|options| {
        options.allowed = Arc::new(|host| !host.starts_with("127.0.0.1"));
        options.ssh = SshAccess { agent: Some(of_process(&scene.agent)), known_hosts: vec![scene.known()] };
    });
    says(fetch(&forbidding, &scene.url("app.git")).unwrap_err(), &["the policy"]);
    let impatient = remote_with(|options| {
        options.patience = Some(Duration::from_secs(1));
        options.ssh = SshAccess { agent: Some(of_process(&scene.agent)), known_hosts: vec![scene.known()] };
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        // The first says nothing, the second is no server for SSH.
        let silent = listener.accept().unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let _ = other.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = other.read_to_end(&mut Vec::new());
        drop(silent);
    });
    let url = format!("ssh://git@127.0.0.1:{port}/x");
    says(fetch(&impatient, &url).unwrap_err(), &["nothing came for 1 seconds"]);
    let error = fetch(&impatient, &url).unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error}");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    says(fetch(&impatient, &format!("ssh://git@127.0.0.1:{free}/x")).unwrap_err(), &["can't connect"]);
}
