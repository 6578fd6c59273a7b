//! Builds whose context, or whose files, come from elsewhere: through both doors, from real servers.

use std::path::{Path, PathBuf};

use cofferdam_tests::{
    Finished, GitDaemon, GitHttp, Image, Program, Repositories, binary,
    fault_proxy::{Fault, FaultProxy},
};

/// The program with a store of its own, and a place for what it writes.
struct Scene {
    place: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { place: tempfile::tempdir().expect("a temporary directory") }
    }

    fn store(&self) -> PathBuf {
        self.place.path().join("store")
    }

    fn layout(&self) -> PathBuf {
        self.place.path().join("layout")
    }

    /// `cofferdam build … CONTEXT`.
    fn docker(&self, arguments: &[&str], context: &str) -> Program {
        let output = format!("type=oci,dest={},tar=false", self.layout().display());
        let program = Program::new(&self.store()).args(["build", "--tag", "image", "--output", &output]);
        program.args(arguments).args([context]).current_dir(self.place.path()).env("BUILDKIT_PROGRESS", "plain")
    }

    /// `executor …`, which is the program under another name.
    fn kaniko(&self, arguments: &[&str]) -> Program {
        let executor = self.place.path().join("executor");
        if !executor.exists() {
            std::os::unix::fs::symlink(binary(), &executor).expect("writable");
        }
        let layout = self.layout();
        Program::called(&executor, &self.store())
            .args(["--no-push", "--destination", "image", "--oci-layout-path"])
            .args([layout])
            .args(arguments)
            .current_dir(self.place.path())
    }

    fn image(&self, program: Program) -> Image {
        let _ = std::fs::remove_dir_all(self.layout());
        program.run().success();
        Image::open(&self.layout())
    }
}

fn refused(program: Program, says: &[&str]) -> Finished {
    let finished = program.run();
    assert_ne!(finished.code, 0, "{}", finished.stderr);
    for text in says {
        assert!(finished.stderr.contains(text), "`{text}` is not in {}", finished.stderr);
    }
    finished
}

/// A repository with a Dockerfile at its top and another one in a directory.
fn application() -> Option<(Repositories, String)> {
    let repositories = Repositories::new()?;
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY . /app/\n"),
        (".dockerignore", "secret\n"),
        ("secret", "no\n"),
        ("page", "top\n"),
        ("service/Dockerfile", "FROM scratch\nCOPY page /service\n"),
        ("service/page", "service\n"),
    ];
    let commit = repositories.commit("app.git", &files);
    repositories.git("app.git", &["tag", "v1"]);
    repositories.commit("app.git", &[("page", "later\n")]);
    Some((repositories, commit))
}

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
        assert_eq!(image.config("created"), "2023-11-14T22:13:20Z");
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
    assert_eq!(std::fs::read_dir(scene.store().join("tmp")).map_or(0, Iterator::count), 0, "nothing is left behind");
}

#[test]
fn a_commit_s_facts_decide_tags() {
    let Some((repositories, _)) = application() else { return };
    let http = GitHttp::start(&repositories);
    let scene = Scene::new();
    let context = format!("http://{}/app.git#v1", http.host());
    let built = scene.docker(&["--tag-policy", "git"], &context).run().success();
    assert!(built.stderr.contains("image:v1"), "{}", built.stderr);
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
    refused(scene.docker(&[], "git@example.org:team/app.git"), &["SSH", "https://"]);
    refused(scene.docker(&[], "https://example.org/app.git?reference=x"), &["`reference=`", "subdir"]);
    assert!(!Path::new(&scene.layout()).exists());
}
