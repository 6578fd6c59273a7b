//! Git repositories over HTTP and git's own protocol.

use std::{path::Path, process::Command};

use cofferdam_tests::{
    GitDaemon, GitHttp, Image,
    fault_proxy::{Fault, FaultProxy},
    run,
};

use crate::scene::{Scene, application, dockerfile, refused};

#[test]
fn a_repository_is_a_context_at_docker_s_door() {
    let Some((repositories, commit)) = application() else { return };
    let (daemon, http) = (GitDaemon::start(&repositories), GitHttp::start(&repositories));
    let scene = Scene::new();
    for server in [format!("git://{}/app.git", daemon.host()), format!("http://{}/app.git", http.host())] {
        let image = scene.image(scene.docker(&[], &server));
        assert_eq!(image.content("/app/page"), "later\n");
        assert_eq!(
            image.names("/app"),
            ".dockerignore Dockerfile page service",
            "no .git, and nothing that is ignored"
        );
        // The commit's time is the image's.
        assert_eq!(image.document()["created"], "2023-11-14T22:13:20Z");
        let image = scene.image(scene.docker(&[], &format!("{server}#v1:service")));
        assert_eq!(image.content("/service"), "service\n");
        let image = scene.image(scene.docker(&["-f", "service/Dockerfile"], &format!("{server}#{commit}")));
        assert_eq!(image.content("/service"), "top\n");
    }
    let named = format!("code=http://{}/app.git#v1:service", http.host());
    std::fs::create_dir(scene.place.path().join("here")).expect("writable");
    std::fs::write(scene.place.path().join("here/Dockerfile"), "FROM scratch\nCOPY --from=code page /\n")
        .expect("writable");
    let image = scene.image(scene.docker(&["--build-context", &named], "here"));
    assert_eq!(image.content("/page"), "service\n");
    let left = std::fs::read_dir(scene.store().join("tmp")).expect("there").flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| !["gate", "index-json", "use"].iter().any(|lock| name == lock)).collect();
    assert!(left.is_empty(), "nothing is left behind but locks: {left:?}");
}

#[test]
fn a_commit_s_facts_decide_tags() {
    let Some((repositories, _)) = application() else { return };
    let http = GitHttp::start(&repositories);
    let scene = Scene::new();
    let context = format!("http://{}/app.git", http.host());
    scene.docker(&["--tag-policy", "git"], &context).run().success();
    let index = std::fs::read_to_string(scene.layout().join("index.json")).expect("there");
    assert!(index.contains("\"main\"") && index.contains("\"latest\""), "the default branch: {index}");
}

#[test]
fn kaniko_s_command_line_fetches_git() {
    let Some((repositories, commit)) = application() else { return };
    let (daemon, http) = (GitDaemon::start(&repositories), GitHttp::start(&repositories));
    let scene = Scene::new();
    let context = |rest: &str| format!("--context=git://{}/app.git{rest}", http.host());
    let kaniko = |arguments: &[&str]| scene.kaniko(arguments).env("GIT_PULL_METHOD", "http");
    let image = scene.image(kaniko(&["--dockerfile=Dockerfile", &context("#refs/heads/main")]));
    assert_eq!(image.content("/app/page"), "later\n");
    let image = scene.image(kaniko(&[&context(&format!("#refs/heads/main#{commit}"))]));
    assert_eq!(image.content("/app/page"), "top\n");
    let image = scene.image(kaniko(&[&context("#refs/tags/v1"), "--context-sub-path", "service"]));
    assert_eq!(image.content("/service"), "service\n");
    repositories.git("app.git", &["branch", "topic", "v1"]);
    let image =
        scene.image(kaniko(&[&context(""), "--git", "branch=topic,single-branch=true,recurse-submodules=true"]));
    assert_eq!(image.content("/app/page"), "top\n");
    let address = format!("--context=git://{}/app.git", daemon.host());
    let image = scene.image(scene.kaniko(&[&address]).env("GIT_PULL_METHOD", "git"));
    assert_eq!(image.content("/app/page"), "later\n");
    refused(kaniko(&[&context(""), "--git", "depth=many"]), &["--git depth=many"]);
    refused(kaniko(&[&context("#refs/heads/gone")]), &["has no reference `refs/heads/gone`; branches are main, topic"]);
    refused(kaniko(&[&context(""), "--context-sub-path=gone"]), &["has no directory `gone`"]);
    // Without GIT_PULL_METHOD it is https, and never anything less.
    refused(scene.kaniko(&[&context("")]), &["https://", "127.0.0.1"]);
}

#[test]
fn tokens_of_the_environment_open_a_repository_and_never_show() {
    let Some((repositories, _)) = application() else { return };
    let http = GitHttp::start(&repositories);
    let guard = |expected: &'static str| {
        FaultProxy::start(Some(http.port()), move |request, _| match request.header("authorization") {
            Some(given) if given == expected => Fault::None,
            _ => Fault::with_header(401, "WWW-Authenticate", "Basic realm=\"tests\"", ""),
        })
    };
    let scene = Scene::new();
    // base64 of `s3cret-token:` and of `me:s3cret`.
    let (token, password) = (guard("Basic czNjcmV0LXRva2VuOg=="), guard("Basic bWU6czNjcmV0"));
    let address = |server: &FaultProxy| format!("http://{}/app.git", server.host());
    scene.image(scene.docker(&[], &address(&token)).env("GIT_TOKEN", "s3cret-token"));
    let with_password =
        |word: &str| scene.docker(&[], &address(&password)).env("GIT_USERNAME", "me").env("GIT_PASSWORD", word);
    scene.image(with_password("s3cret"));
    let said = refused(with_password("s3cret-but-wrong"), &["wants a user and password, and refuses those"]);
    assert!(!said.stderr.contains("s3cret"), "{}", said.stderr);
    refused(scene.docker(&[], &address(&password)), &["there are none", "GIT_TOKEN"]);
    let in_url = address(&password).replace("http://", "http://me:s3cret@");
    let built = scene.docker(&[], &in_url).run().success();
    assert!(!built.stderr.contains("s3cret"), "{}", built.stderr);
}

#[test]
fn a_context_that_can_not_be_fetched_fails_by_name() {
    let scene = Scene::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    for context in [format!("git://{nobody}/app.git"), format!("http://{nobody}/app.git")] {
        refused(scene.docker(&[], &context), &[&format!("can't connect to `{nobody}`"), "proxy"]);
    }
    refused(scene.docker(&[], "git@example.org:team/app.git"), &["reached over SSH", "--ssh default"]);
    refused(scene.docker(&[], "https://example.org/app.git?reference=x"), &["`reference=`", "subdir"]);
    assert!(!Path::new(&scene.layout()).exists());
}

#[test]
fn add_fetches_repositories() {
    let Some((repositories, commit)) = application() else { return };
    let http = GitHttp::start(&repositories);
    let url = format!("http://{}/app.git", http.host());
    let scene = Scene::new();
    let text = format!(
        "FROM scratch\nADD {url} /main\nADD --checksum={commit} {url}#v1:service /service\nADD --keep-git-dir --exclude=page {url}#v1 /kept\n"
    );
    dockerfile(&scene, &text);
    let image = scene.image(scene.docker(&[], "context"));
    assert_eq!(image.content("/main/page"), "later\n");
    assert!(!image.has("/main/.git"));
    assert_eq!(image.content("/service/page"), "service\n");
    assert_eq!(image.names("/kept"), ".dockerignore .git Dockerfile secret service");
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "rev-parse", "HEAD"]).current_dir(image.root().join("kept"));
    assert_eq!(run(&mut git).success().stdout.trim(), commit);
    let again = scene.docker(&[], "context").run().success();
    assert!(again.stderr.contains("3 steps, 3 cached"), "{}", again.stderr);
    repositories.commit("app.git", &[("page", "latest\n")]);
    assert_eq!(scene.image(scene.docker(&[], "context")).content("/main/page"), "latest\n");

    dockerfile(&scene, &format!("FROM scratch\nADD --checksum={commit} {url} /x\n"));
    refused(scene.docker(&[], "context"), &["is at commit", &format!("not {commit}"), ">>>"]);
    dockerfile(&scene, &format!("FROM scratch\nADD {url}#gone /x\n"));
    refused(scene.docker(&[], "context"), &["has no branch or tag `gone`", ">>> ADD"]);
}

#[test]
fn a_dockerfile_never_gets_the_context_s_token() {
    let Some((repositories, _)) = application() else { return };
    let http = GitHttp::start(&repositories);
    let server = FaultProxy::start(Some(http.port()), |request, _| {
        // base64 of `x-access-token:t0ken`.
        match request.header("authorization") {
            Some("Basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=") => Fault::None,
            _ => Fault::with_header(401, "WWW-Authenticate", "Basic realm=\"tests\"", ""),
        }
    });
    let scene = Scene::new();
    dockerfile(&scene, &format!("FROM scratch\nADD http://{}/app.git /x\n", server.host()));
    refused(scene.docker(&[], "context").env("GIT_TOKEN", "stolen"), &["there are none", "GIT_AUTH_TOKEN"]);
    assert!(server.requests().iter().all(|request| request.header("authorization").is_none()));
    let secret = |host: &str| format!("id=GIT_AUTH_TOKEN.{host},env=TOKEN");
    let with = |host: &str| scene.docker(&["--secret", &secret(host)], "context").env("TOKEN", "t0ken");
    refused(with("elsewhere.example"), &["there are none"]);
    assert_eq!(scene.image(with("127.0.0.1")).content("/x/page"), "later\n");
}

#[test]
fn the_context_s_git_directory_is_kept_where_that_is_asked_for() {
    let Some((repositories, commit)) = application() else { return };
    let http = GitHttp::start(&repositories);
    let scene = Scene::new();
    let url = format!("http://{}/app.git", http.host());
    let image = scene.image(scene.docker(&["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"], &url));
    let log = run(Command::new("git").arg("-C").arg(image.root().join("app")).args(["log", "--format=%s", "--all"]));
    assert_eq!(log.success().stdout, "change\n");
    let kept = |value: &str| {
        let argument = format!("BUILDKIT_CONTEXT_KEEP_GIT_DIR={value}");
        let program = scene.docker(&["--build-arg", &argument], &format!("{url}#{commit}"));
        let _ = std::fs::remove_dir_all(scene.layout());
        let built = program.run().success();
        (Image::open(&scene.layout()).has("/app/.git"), built.stderr.contains("neither true nor false"))
    };
    assert_eq!([kept("true"), kept("0"), kept("maybe")], [(true, false), (false, false), (false, true)]);
}

#[test]
fn every_way_to_name_a_commit_is_one_at_the_doors() {
    let Some((repositories, commit)) = application() else { return };
    repositories.git("app.git", &["update-ref", "refs/pull/7/head", &commit]);
    repositories.git("app.git", &["update-ref", "refs/merge-requests/3/head", &commit]);
    repositories.git("app.git", &["branch", "topic", &commit]);
    let http = GitHttp::start(&repositories);
    let scene = Scene::new();
    let file = format!("file://{}/app.git", repositories.path().display());
    let over_http = format!("http://{}/app.git", http.host());
    for address in [&file, &over_http] {
        for reference in ["topic", "refs/heads/topic", "v1", "refs/tags/v1", "refs/pull/7/head", "pull/7/head", &commit]
        {
            let image = scene.image(scene.docker(&[], &format!("{address}#{reference}:service")));
            assert_eq!(image.content("/service"), "service\n", "{address}#{reference}");
        }
        let image = scene.image(scene.docker(&[], &format!("{address}?ref=v1&subdir=service")));
        assert_eq!(image.content("/service"), "service\n");
        assert_eq!(scene.image(scene.docker(&[], address)).content("/app/page"), "later\n");
        for (tail, says) in [
            ("#gone", "has no branch or tag `gone`; branches are main, topic"),
            ("#v1:gone", "has no directory `gone`"),
            ("#0123456789012345678901234567890123456789", "0123456789012345678901234567890123456789"),
        ] {
            refused(scene.docker(&[], &format!("{address}{tail}")), &[says]);
        }
    }
    refused(scene.docker(&[], &over_http.replace("app.git", "none.git")), &["/none.git", "404", "check the address"]);
    refused(scene.docker(&[], &file.replace("app.git", "none.git")), &["none.git"]);
    let kaniko = |rest: &str, git: &str| {
        let context = format!("--context=git://{}/app.git{rest}", http.host());
        scene.kaniko(&[&context, "--git", git]).env("GIT_PULL_METHOD", "http")
    };
    for rest in ["#refs/pull/7/head", "#refs/merge-requests/3/head", &format!("#{commit}"), "#topic"] {
        assert_eq!(scene.image(kaniko(rest, "depth=1")).content("/app/page"), "top\n", "{rest}");
    }
    let named = format!("code={over_http}#topic");
    dockerfile(&scene, "FROM scratch\nCOPY --from=code page /\n");
    assert_eq!(scene.image(scene.docker(&["--build-context", &named], "context")).content("/page"), "top\n");
    refused(scene.docker(&["--build-context", &format!("code={over_http}#gone")], "context"), &["`gone`"]);
}

#[test]
fn submodules_are_part_of_a_context() {
    let Some((repositories, _)) = application() else { return };
    repositories.commit("library.git", &[("code", "library\n")]);
    repositories.git("app.git", &["submodule", "--quiet", "add", "../library.git", "lib"]);
    repositories.commit("app.git", &[]);
    let http = GitHttp::start(&repositories);
    let scene = Scene::new();
    let context = format!("http://{}/app.git", http.host());
    assert_eq!(scene.image(scene.docker(&[], &context)).content("/app/lib/code"), "library\n");
    assert!(!scene.image(scene.docker(&[], &format!("{context}?submodules=false"))).has("/app/lib/code"));
    let kaniko = |arguments: &[&str]| {
        let context = format!("--context=git://{}/app.git", http.host());
        scene.kaniko(arguments).args([&context]).env("GIT_PULL_METHOD", "http")
    };
    assert_eq!(scene.image(kaniko(&["--git=recurse-submodules=true"])).content("/app/lib/code"), "library\n");
    std::fs::rename(repositories.path().join("library.git"), repositories.path().join("moved.git")).expect("there");
    refused(scene.docker(&[], &context), &["library.git", "404"]);
}
