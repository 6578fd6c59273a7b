//! Builds whose context, or whose files, come from elsewhere: through both doors, from real servers.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cofferdam_tests::{
    Finished, GitDaemon, GitHttp, Image, KeyAgent, Program, Repositories, SshServer, binary,
    fault_proxy::{Fault, FaultProxy},
    hostile_archives, run,
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

/// Serves one file with what HTTP says of its version, and answers conditional and partial requests as a server does.
fn file_server(path: &'static str, content: Vec<u8>, etag: &'static str) -> FaultProxy {
    FaultProxy::start(None, move |request, _| {
        if request.path != path {
            return Fault::status(404, "no such file");
        }
        let mut headers = vec![
            ("ETag".to_owned(), etag.to_owned()),
            ("Last-Modified".to_owned(), "Tue, 14 Nov 2023 22:13:20 GMT".to_owned()),
        ];
        if request.header("if-none-match") == Some(etag) {
            return Fault::Answer(304, headers, Vec::new());
        }
        let from =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match from {
            Some(from) if request.header("if-range") == Some(etag) => {
                let last = content.len() - 1;
                headers.push(("Content-Range".to_owned(), format!("bytes {from}-{last}/{}", content.len())));
                Fault::Answer(206, headers, content[from..].to_vec())
            }
            _ => Fault::Answer(200, headers, content.clone()),
        }
    })
}

/// A context that holds nothing but a Dockerfile.
fn dockerfile(scene: &Scene, text: &str) {
    let context = scene.place.path().join("context");
    std::fs::create_dir_all(&context).expect("writable");
    std::fs::write(context.join("Dockerfile"), text).expect("writable");
}

#[test]
fn add_fetches_urls_once_and_asks_afterwards_whether_they_changed() {
    let scene = Scene::new();
    let server = file_server("/dir/tool.bin", b"content of the tool".to_vec(), "\"v1\"");
    let url = format!("http://{}/dir/tool.bin", server.host());
    let text = format!(
        "FROM scratch\nADD {url} /opt/\nADD --chmod=755 --chown=5:6 {url}?same=file /bin/tool\nADD --link {url} /linked\n"
    );
    dockerfile(&scene, &text);
    let image = scene.image(scene.docker(&[], "context"));
    assert_eq!(image.content("/opt/tool.bin"), "content of the tool");
    assert_eq!(image.entry("/opt/tool.bin"), "file 600 0:0");
    assert_eq!(image.entry("/bin/tool"), "file 755 5:6");
    assert_eq!(image.entry("/linked"), "file 600 0:0");
    let changed = image.root().join("opt/tool.bin").metadata().expect("there").modified().expect("a time");
    let changed = changed.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert_eq!(changed, 1_700_000_000, "Last-Modified");
    assert_eq!(server.requests().len(), 2, "one for each URL");

    let again = scene.docker(&[], "context").run().success();
    assert!(again.stderr.contains("3 steps, 3 cached"), "{}", again.stderr);
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[2..].iter().all(|request| request.header("if-none-match") == Some("\"v1\"")));
    // A file that is gone fails the build, whatever is still here.
    drop(server);
    refused(scene.docker(&[], "context"), &["can't connect to", ">>>"]);
}

#[test]
fn a_file_that_changed_is_another_layer() {
    let scene = Scene::new();
    let version = std::sync::Arc::new(std::sync::Mutex::new(1));
    let server = FaultProxy::start(None, {
        let version = version.clone();
        move |request, _| {
            let version = version.lock().expect("whole");
            let etag = format!("\"v{version}\"");
            match request.header("if-none-match") == Some(etag.as_str()) {
                true => Fault::with_header(304, "ETag", &etag, ""),
                false => Fault::with_header(200, "ETag", &etag, &format!("version {version}")),
            }
        }
    });
    dockerfile(&scene, &format!("FROM scratch\nADD http://{}/file /file\n", server.host()));
    assert_eq!(scene.image(scene.docker(&[], "context")).content("/file"), "version 1");
    *version.lock().expect("whole") = 2;
    assert_eq!(scene.image(scene.docker(&[], "context")).content("/file"), "version 2");
}

#[test]
fn checksums_of_fetched_files_decide() {
    let scene = Scene::new();
    let server = file_server("/f", b"content".to_vec(), "\"v\"");
    // sha256sum of `content`.
    let digest = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    let add =
        |checksum: &str| format!("FROM scratch\nADD --checksum=sha256:{checksum} http://{}/f /f\n", server.host());
    dockerfile(&scene, &add(digest));
    assert_eq!(scene.image(scene.docker(&[], "context")).content("/f"), "content");
    dockerfile(&scene, &add(&"0".repeat(64)));
    refused(scene.docker(&[], "context"), &[&format!("has the digest sha256:{digest}, not sha256:0000"), ">>>"]);
    dockerfile(&scene, "FROM scratch\nADD --checksum=md5:00 http://example.org/f /f\n");
    refused(scene.docker(&["--check"], "context"), &["InvalidChecksum", "sha256sum"]);
}

#[test]
fn fetched_archives_are_unpacked_if_that_is_asked_for() {
    let scene = Scene::new();
    let tree = scene.place.path().join("tree");
    std::fs::create_dir_all(tree.join("d")).expect("writable");
    std::fs::write(tree.join("d/f"), "inside").expect("writable");
    let archive = scene.place.path().join("a.tgz");
    let mut tar = Command::new("tar");
    run(tar.args(["--gzip", "--owner=0", "--group=0", "-cf"]).arg(&archive).arg("-C").arg(&tree).arg(".")).success();
    let server = file_server("/a.tgz", std::fs::read(archive).expect("readable"), "\"v\"");
    let url = format!("http://{}/a.tgz", server.host());
    dockerfile(&scene, &format!("FROM scratch\nADD {url} /as-it-is/\nADD --unpack=true {url} /unpacked/\n"));
    let image = scene.image(scene.docker(&[], "context"));
    assert_eq!(image.names("/as-it-is"), "a.tgz");
    assert_eq!(image.content("/unpacked/d/f"), "inside");
}

#[test]
fn a_download_goes_on_where_it_broke() {
    let scene = Scene::new();
    let content = cofferdam_tests::noise(3_000_000, 7);
    let origin = file_server("/f", content.clone(), "\"v\"");
    let port = origin.host().rsplit(':').next().and_then(|port| port.parse().ok());
    let server =
        FaultProxy::start(port, |_, number| if number < 2 { Fault::CutAnswer(1_000_000) } else { Fault::None });
    dockerfile(&scene, &format!("FROM scratch\nADD http://{}/f /f\n", server.host()));
    let image = scene.image(scene.docker(&[], "context"));
    assert_eq!(std::fs::read(image.root().join("f")).expect("there"), content);
    let ranges: Vec<_> =
        server.requests().iter().filter_map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
}

#[test]
fn a_source_that_can_not_be_fetched_is_named_with_its_line() {
    let scene = Scene::new();
    let server = file_server("/there", b"x".to_vec(), "\"v\"");
    for (source, says) in [
        (format!("http://{}/gone", server.host()), "/gone` answers 404 Not Found; check the address"),
        ("http://169.254.169.254/latest/meta-data".to_owned(), "link-local"),
        ("https://no-such-host.invalid/x".to_owned(), "can't connect to `no-such-host.invalid`"),
    ] {
        dockerfile(&scene, &format!("FROM scratch\nADD {source} /x\n"));
        refused(scene.docker(&[], "context"), &[says, ">>> ADD"]);
    }
    let sender = FaultProxy::start(None, |_, _| Fault::with_header(302, "Location", "http://169.254.169.254/", ""));
    dockerfile(&scene, &format!("FROM scratch\nADD http://{}/x /x\n", sender.host()));
    refused(scene.docker(&[], "context"), &["link-local"]);
    dockerfile(&scene, "FROM scratch\nADD git@example.org:a/b /x\n");
    refused(scene.docker(&[], "context"), &["`git@example.org:a/b` is reached over SSH", "--ssh default", ">>> ADD"]);
    // Stages that nobody needs fetch nothing.
    dockerfile(
        &scene,
        "FROM scratch AS unused\nADD http://no-such-host.invalid/x /x\nFROM scratch\nCOPY Dockerfile /\n",
    );
    scene.docker(&[], "context").run().success();
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
fn the_operator_decides_where_sources_come_from() {
    let scene = Scene::new();
    let server = file_server("/f", b"x".to_vec(), "\"v\"");
    dockerfile(&scene, &format!("FROM scratch\nADD http://{}/f /f\n", server.host()));
    let policy = scene.place.path().join("policy.toml");
    let with = |text: &str| {
        std::fs::write(&policy, text).expect("writable");
        scene.docker(&["--policy", policy.to_str().expect("UTF-8")], "context")
    };
    refused(
        with("[sources]\nfetch = [\"*.corp.example\"]\n"),
        &["the policy does not let", &server.host(), "[sources]"],
    );
    assert!(server.requests().is_empty());
    scene.image(with(&format!("[sources]\nfetch = [\"{}\"]\n", server.host())));
    let denied =
        refused(with("[plugins.instruction-add]\nallow = [\"context\", \"rootfs\"]\n"), &["fetch", "instruction-add"]);
    assert!(denied.stderr.contains("allow"), "{}", denied.stderr);
}

/// A context packed by the machine's tar.
fn packed(scene: &Scene, compression: &str) -> Vec<u8> {
    let tree = scene.place.path().join("tree");
    if !tree.exists() {
        std::fs::create_dir_all(tree.join("service")).expect("writable");
        let files = [
            ("Dockerfile", "FROM scratch\nCOPY . /app/\n"),
            (".dockerignore", "secret\n"),
            ("secret", "no\n"),
            ("service/Dockerfile", "FROM scratch\nCOPY service/page /page\n"),
            ("service/page", "page\n"),
        ];
        for (name, content) in files {
            std::fs::write(tree.join(name), content).expect("writable");
        }
        let script = "chmod 755 service && chmod 711 service/page && ln -s service/page link && ln service/page hard";
        run(Command::new("sh").args(["-c", script]).current_dir(&tree)).success();
    }
    let file = scene.place.path().join("packed.tar");
    run(Command::new("tar").args([compression, "--owner=7", "-cf"]).arg(&file).arg("-C").arg(&tree).arg(".")).success();
    std::fs::read(file).expect("readable")
}

/// Runs a program with this on its standard input.
fn fed(program: Program, input: &[u8]) -> Finished {
    let mut command = program.into_command();
    let mut running =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // A program that refuses its input ends before it has read it.
    let _ = running.stdin.take().expect("piped").write_all(input);
    running.wait_with_output().expect("it ends").into()
}

fn check_packed(image: &Image) {
    assert_eq!(image.names("/app"), ".dockerignore Dockerfile hard link service");
    assert_eq!(image.entry("/app/service/page"), "file 711 0:0", "owners of an archive are not the image's");
    assert_eq!(image.entry("/app/link"), "link service/page");
    assert_eq!(image.content("/app/hard"), "page\n");
}

#[test]
fn archives_are_contexts_from_a_file_a_url_and_standard_input() {
    let scene = Scene::new();
    for compression in ["--no-auto-compress", "--gzip", "--bzip2", "--xz", "--zstd"] {
        let archive = packed(&scene, compression);
        check_packed(&scene.image(scene.docker(&[], "packed.tar")));
        let server = file_server("/context", archive.clone(), "\"v\"");
        check_packed(&scene.image(scene.docker(&[], &format!("http://{}/context", server.host()))));
        let _ = std::fs::remove_dir_all(scene.layout());
        fed(scene.docker(&[], "-"), &archive).success();
        check_packed(&Image::open(&scene.layout()));
    }
    let archive = packed(&scene, "--gzip");
    let image = scene.image(scene.kaniko(&["--context=tar://packed.tar"]));
    check_packed(&image);
    let _ = std::fs::remove_dir_all(scene.layout());
    fed(scene.kaniko(&["--context=tar://stdin", "--dockerfile=service/Dockerfile"]), &archive).success();
    assert_eq!(Image::open(&scene.layout()).content("/page"), "page\n");
}

#[test]
fn a_lone_dockerfile_is_a_context_without_files() {
    let scene = Scene::new();
    let text = b"FROM scratch\nCOPY <<EOF /text\nhello\nEOF\n";
    fed(scene.docker(&[], "-"), text).success();
    assert_eq!(Image::open(&scene.layout()).content("/text"), "hello\n");
    let server = file_server("/Dockerfile", text.to_vec(), "\"v\"");
    let url = format!("http://{}/Dockerfile", server.host());
    assert_eq!(scene.image(scene.docker(&[], &url)).content("/text"), "hello\n");
    // A URL as the Dockerfile, with a context beside it; through both doors.
    packed(&scene, "--gzip");
    let server = file_server("/other", b"FROM scratch\nCOPY service/page /\n".to_vec(), "\"v\"");
    let url = format!("http://{}/other", server.host());
    assert_eq!(scene.image(scene.docker(&["-f", &url], "tree")).content("/page"), "page\n");
    assert_eq!(scene.image(scene.kaniko(&["--context=tree", "-f", &url])).content("/page"), "page\n");
    let _ = std::fs::remove_dir_all(scene.layout());
    fed(scene.docker(&["-f", "-"], "packed.tar"), b"FROM scratch\nCOPY service/page /\n").success();
    assert_eq!(Image::open(&scene.layout()).content("/page"), "page\n");
    refused(scene.docker(&["-f", "-"], "-"), &["standard input can't be the context and the Dockerfile"]);
    refused(scene.docker(&["-f", &format!("http://{}/gone", server.host())], "tree"), &["404 Not Found"]);
}

#[test]
fn archives_that_lie_are_refused() {
    let scene = Scene::new();
    let outside = scene.place.path().join("outside");
    std::fs::create_dir(&outside).expect("writable");
    let script = "with tarfile.open('dots.tar', 'w') as archive: entry(archive, '../' * 40 + outside + '/pwned')
with tarfile.open('link.tar', 'w') as archive: entry(archive, 'out', tarfile.SYMTYPE, outside); entry(archive, 'out/pwned')
with tarfile.open('hard.tar', 'w') as archive: entry(archive, 'shadow', tarfile.LNKTYPE, '/etc/shadow')
with tarfile.open('device.tar', 'w') as archive: entry(archive, 'null', tarfile.CHRTYPE)
";
    hostile_archives(script, &outside, scene.place.path());
    for (archive, says) in [
        ("dots.tar", "climbs out of the archive"),
        ("link.tar", "is beneath something that is no directory, or is a symbolic link"),
        ("hard.tar", "is a hard link to `etc/shadow`, which is no file of it"),
        ("device.tar", "is a device"),
    ] {
        refused(scene.docker(&[], archive), &[&format!("`{archive}` can't be unpacked"), says]);
    }
    assert_eq!(std::fs::read_dir(&outside).expect("there").count(), 0);
    let whole = packed(&scene, "--gzip");
    std::fs::write(scene.place.path().join("cut.tar.gz"), &whole[..whole.len() / 2]).expect("writable");
    refused(scene.docker(&[], "cut.tar.gz"), &["`cut.tar.gz` can't be unpacked", "too early"]);
    std::fs::write(scene.place.path().join("noise.tar"), cofferdam_tests::noise(5000, 3)).expect("writable");
    refused(scene.docker(&[], "noise.tar"), &["neither a tar archive", "nor a Dockerfile"]);
    refused(scene.docker(&[], "tar://gone.tar"), &["gone.tar", "No such file"]);
    std::fs::write(scene.place.path().join("tree/large"), vec![0; 5000]).expect("writable");
    packed(&scene, "--gzip");
    refused(scene.docker(&["--layer-limit", "1k"], "packed.tar"), &["`packed.tar` has more than 1024 bytes, unpacked"]);
    let server = FaultProxy::start(None, |_, _| Fault::status(403, "no"));
    refused(
        scene.docker(&[], &format!("http://{}/c.tar.gz", server.host())),
        &["answers 403 Forbidden", "may not read it"],
    );
}

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
