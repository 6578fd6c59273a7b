//! Sources that git's own servers hand out, and servers that do not.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test makes and looks at files")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use base64::Engine;
use cofferdam_context::{Basic, FetchError, FetchLimits, FetchedGit, GitSource, fetch_git};
use cofferdam_tests::{
    GitDaemon, GitHttp, Repositories,
    fault_proxy::{Fault, FaultProxy, Request, Rules, When},
};

use common::{remote, remote_with};

fn fetch(text: &str) -> Result<FetchedGit, FetchError> {
    fetch_git(&remote(), &GitSource::parse(text)?, None)
}

fn why(text: &str) -> String {
    fetch(text).unwrap_err().to_string()
}

fn read(fetched: &FetchedGit, path: &str) -> String {
    fs::read_to_string(fetched.directory.join(path)).unwrap()
}

/// Everything in a directory, each with what it is and says.
fn listing(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![top.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let (name, metadata) = (path.strip_prefix(top).unwrap().display(), path.symlink_metadata().unwrap());
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_symlink() {
                found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if metadata.is_dir() {
                found.push(format!("{name}/ {mode:o}"));
                waiting.push(path);
            } else {
                found.push(format!("{name} {mode:o} {:?}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// A repository with two commits on `main`, a branch and tags.
fn repositories() -> Option<(Repositories, [String; 2])> {
    let repositories = Repositories::new()?;
    let first = repositories.commit("app.git", &[("file", "one\n"), ("sub/deep/other", "other\n")]);
    repositories.git("app.git", &["tag", "-m", "annotated", "v1"]);
    repositories.git("app.git", &["branch", "old"]);
    // A name that is a branch and a tag: the branch counts.
    repositories.git("app.git", &["tag", "both"]);
    let place = repositories.path().join("app.git");
    fs::write(place.join("script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(place.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("sub/deep", place.join("link")).unwrap();
    let second = repositories.commit("app.git", &[("file", "two\n")]);
    repositories.git("app.git", &["branch", "both"]);
    repositories.git("app.git", &["update-ref", "refs/pull/7/head", &first]);
    Some((repositories, [first, second]))
}

#[test]
fn every_server_gives_the_same_files() {
    let Some((repositories, [_, second])) = repositories() else { return };
    let (daemon, http) = (GitDaemon::start(&repositories), GitHttp::start(&repositories));
    let expected = [
        "file 644 \"two\\n\"",
        "link -> sub/deep",
        "script 755 \"#!/bin/sh\\n\"",
        "sub/ 755",
        "sub/deep/ 755",
        "sub/deep/other 644 \"other\\n\"",
    ];
    for address in [
        format!("git://{}/app.git", daemon.host()),
        format!("http://{}/app.git", http.host()),
        format!("file://{}/app.git", repositories.path().display()),
    ] {
        let fetched = fetch(&address).unwrap();
        assert_eq!(listing(&fetched.directory), expected, "{address}");
        let facts = fetched.facts;
        assert_eq!((facts.commit.as_str(), facts.commit_time, facts.dirty), (second.as_str(), 1_700_000_000, false));
        assert_eq!(
            (facts.branch.as_deref(), facts.default_branch.as_deref()),
            (Some("main"), Some("main")),
            "{address}"
        );
        assert!(facts.tags.is_empty() && fetched.warnings.is_empty());
    }
}

#[test]
fn references_are_found_as_git_would() {
    let Some((repositories, [first, second])) = repositories() else { return };
    let (daemon, http) = (GitDaemon::start(&repositories), GitHttp::start(&repositories));
    for server in [
        format!("git://{}/app.git", daemon.host()),
        format!("http://{}/app.git", http.host()),
        format!("file://{}/app.git", repositories.path().display()),
    ] {
        for (reference, commit, branch) in [
            ("old", &first, Some("old")),
            ("refs/heads/old", &first, Some("old")),
            ("v1", &first, None),
            ("refs/tags/v1", &first, None),
            ("both", &second, Some("both")),
            ("refs/pull/7/head", &first, None),
            ("pull/7/head", &first, None),
            (first.as_str(), &first, None),
            ("HEAD", &second, Some("main")),
        ] {
            let fetched = fetch(&format!("{server}#{reference}")).unwrap();
            assert_eq!(&fetched.facts.commit, commit, "{server}#{reference}");
            assert_eq!(fetched.facts.branch.as_deref(), branch, "{server}#{reference}");
        }
        assert_eq!(fetch(&format!("{server}#v1")).unwrap().facts.tags, ["both", "v1"]);
        let beneath = fetch(&format!("{server}#main:sub")).unwrap();
        assert_eq!(read(&beneath, "deep/other"), "other\n");
        assert_eq!(read(&fetch(&format!("{server}#main:link")).unwrap(), "other"), "other\n", "a link inside");
        let error = why(&format!("{server}#main:nowhere"));
        assert!(error.contains("has no directory `nowhere`"), "{error}");
        for (reference, says) in [
            ("gone", "has no branch or tag `gone`; branches are both, main, old; tags are both, v1"),
            ("refs/heads/gone", "has no reference `refs/heads/gone`; branches are"),
            ("0123456789012345678901234567890123456789", "has no commit 0123456789"),
        ] {
            let error = why(&format!("{server}#{reference}"));
            assert!(error.contains(says), "{server}: {error}");
        }
        let with_checksum = |commit: &str| fetch(&format!("{server}?ref=old&checksum={commit}"));
        with_checksum(&first[..8]).unwrap();
        let error = with_checksum(&second).unwrap_err().to_string();
        assert!(error.contains(&format!("is at commit {first}, not {second}")), "{error}");
    }
}

#[test]
fn what_is_kept_of_git_is_a_repository_that_git_reads() {
    let Some((repositories, [_, second])) = repositories() else { return };
    let http = GitHttp::start(&repositories);
    let fetched = fetch(&format!("http://{}/app.git?keep-git-dir=1", http.host())).unwrap();
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(arguments).current_dir(&fetched.directory);
        cofferdam_tests::run(&mut command).success().stdout.trim().to_owned()
    };
    assert_eq!(git(&["rev-parse", "HEAD"]), second);
    assert_eq!(git(&["status", "--porcelain"]), "");
    assert_eq!(git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(git(&["rev-list", "--count", "HEAD"]), "1", "shallow");
    git(&["fsck"]);
}

#[test]
fn attributes_count_and_lfs_is_named() {
    let Some(repositories) = Repositories::new() else { return };
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    repositories.commit(
        "app.git",
        &[(".gitattributes", "*.bat text eol=crlf\n*.bin filter=lfs\n"), ("run.bat", "a\nb\n"), ("x.bin", pointer)],
    );
    let fetched = fetch(&format!("file://{}/app.git", repositories.path().display())).unwrap();
    assert_eq!(read(&fetched, "run.bat"), "a\r\nb\r\n");
    assert_eq!(fetched.warnings.len(), 1);
    assert!(fetched.warnings[0].contains("Git LFS") && fetched.warnings[0].contains("x.bin"), "{:?}", fetched.warnings);
}

#[test]
fn submodules_come_along() {
    let Some(repositories) = Repositories::new() else { return };
    let (daemon, http) = (GitDaemon::start(&repositories), GitHttp::start(&repositories));
    repositories.commit("inner.git", &[("innermost", "3\n")]);
    repositories.commit("library.git", &[("code", "2\n")]);
    repositories.git("library.git", &["submodule", "--quiet", "add", "../inner.git", "vendor/inner"]);
    repositories.commit("library.git", &[]);
    repositories.commit("app.git", &[("file", "1\n")]);
    let address = format!("http://{}/library.git", http.host());
    repositories.git("app.git", &["submodule", "--quiet", "add", "../library.git", "lib"]);
    repositories.git("app.git", &["config", "-f", ".gitmodules", "submodule.lib.url", &address]);
    repositories.commit("app.git", &[]);
    for server in [format!("git://{}/app.git", daemon.host()), format!("http://{}/app.git", http.host())] {
        let fetched = fetch(&server).unwrap();
        assert_eq!(
            (read(&fetched, "lib/code"), read(&fetched, "lib/vendor/inner/innermost")),
            ("2\n".into(), "3\n".into())
        );
        let without = fetch(&format!("{server}?submodules=false")).unwrap();
        assert!(without.directory.join("lib").is_dir() && !without.directory.join("lib/code").exists());
    }
    // A repository on a server may not name files of this machine.
    let stolen = format!("file://{}/library.git", repositories.path().display());
    repositories.git("app.git", &["config", "-f", ".gitmodules", "submodule.lib.url", &stolen]);
    repositories.commit("app.git", &[]);
    let error = why(&format!("http://{}/app.git", http.host()));
    assert!(error.contains("a file of this machine"), "{error}");
}

fn guarded(request: &Request, user: &str, password: &str) -> Fault {
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    match request.header("authorization") {
        Some(given) if given == format!("Basic {expected}") => Fault::None,
        _ => Fault::with_header(401, "WWW-Authenticate", "Basic realm=\"tests\"", "who are you"),
    }
}

#[test]
fn a_password_is_sent_when_the_server_asks_and_to_nobody_else() {
    let Some((repositories, [_, second])) = repositories() else { return };
    let http = GitHttp::start(&repositories);
    let server = FaultProxy::start(Some(http.port()), |request, _| guarded(request, "me", "p@ss"));
    let address = format!("http://{}/app.git", server.host());
    let source = GitSource::parse(&address).unwrap();
    let basic = |password: &str| Basic { username: "me".to_owned(), password: password.to_owned() };
    let fetched = fetch_git(&remote(), &source, Some(&basic("p@ss"))).unwrap();
    assert_eq!(fetched.facts.commit, second);
    assert!(server.requests()[0].header("authorization").is_none(), "only when it is asked for");
    let in_url = address.replace("http://", "http://me:p%40ss@");
    assert_eq!(fetch(&in_url).unwrap().facts.commit, second);

    let error = fetch_git(&remote(), &source, Some(&basic("wrong-secret"))).unwrap_err().to_string();
    assert!(error.contains("refuses those that it was given") && !error.contains("wrong-secret"), "{error}");
    let error = why(&address);
    assert!(error.contains("there are none") && error.contains("GIT_TOKEN"), "{error}");

    // A server that sends on to another one: that one is not told.
    let place = format!("http://{}", server.host());
    let sender = FaultProxy::start(None, move |request, _| {
        let to = format!("{place}{}?{}", request.path, request.query);
        Fault::with_header(302, "Location", &to, "")
    });
    let before = server.requests().len();
    let source = GitSource::parse(&format!("http://{}/app.git", sender.host())).unwrap();
    let error = fetch_git(&remote(), &source, Some(&basic("p@ss"))).unwrap_err().to_string();
    assert!(error.contains("wants a user and password"), "{error}");
    let told = |request: &Request| request.header("authorization").is_some();
    assert!(!server.requests()[before..].iter().any(told));
}

#[test]
fn redirects_are_followed() {
    let Some((repositories, [_, second])) = repositories() else { return };
    let http = GitHttp::start(&repositories);
    let place = format!("http://{}/app.git", http.host());
    let sender = FaultProxy::start(None, move |request, _| {
        let tail = request.path.trim_start_matches("/moved.git");
        Fault::with_header(301, "Location", &format!("{place}{tail}?{}", request.query), "")
    });
    assert_eq!(fetch(&format!("http://{}/moved.git", sender.host())).unwrap().facts.commit, second);
    let around = FaultProxy::start(None, |_, _| Fault::with_header(302, "Location", "/again.git", ""));
    let error = why(&format!("http://{}/x.git", around.host()));
    assert!(error.contains("more than 10 times"), "{error}");
}

#[test]
fn servers_that_fail_are_named_with_what_to_do() {
    let Some((repositories, _)) = repositories() else { return };
    let (daemon, http) = (GitDaemon::start(&repositories), GitHttp::start(&repositories));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["git", "http"] {
        let error = why(&format!("{scheme}://{nobody}/app.git"));
        assert!(error.contains(&format!("can't connect to `{nobody}`")) && error.contains("proxy"), "{error}");
    }
    let error = why(&format!("http://{}/gone.git", http.host()));
    assert!(
        error.contains("/gone.git/info/refs") && error.contains("404") && error.contains("check the address"),
        "{error}"
    );
    let error = why(&format!("git://{}/gone.git", daemon.host()));
    assert!(error.contains("gone.git") && error.contains("can't be fetched"), "{error}");
    let page = FaultProxy::start(None, |_, _| Fault::status(200, "<html>hello</html>"));
    let error = why(&format!("http://{}/x.git", page.host()));
    assert!(error.contains("can't be fetched"), "{error}");
    let error = why("http://169.254.169.254/x.git");
    assert!(error.contains("link-local"), "{error}");
    let error = why("https://no-such-host.invalid/x.git");
    assert!(error.contains("can't connect to `no-such-host.invalid`"), "{error}");

    let cut = Rules::new().on("POST", "*", When::Always, Fault::CutAnswer(700));
    let cut = FaultProxy::with_rules(Some(http.port()), cut);
    let error = why(&format!("http://{}/app.git", cut.host()));
    assert!(error.contains("was not received whole"), "{error}");
    let stalled = Rules::new().on("POST", "*", When::Always, Fault::StallAnswer(10));
    let stalled = FaultProxy::with_rules(Some(http.port()), stalled);
    let impatient = remote_with(|options| options.patience = Some(std::time::Duration::from_secs(1)));
    let source = GitSource::parse(&format!("http://{}/app.git", stalled.host())).unwrap();
    let error = fetch_git(&impatient, &source, None).unwrap_err().to_string();
    assert!(error.contains("nothing came for 1 seconds"), "{error}");
    let troubled = Rules::new().on("GET", "*", When::First(2), Fault::status(503, "busy"));
    let troubled = FaultProxy::with_rules(Some(http.port()), troubled);
    fetch(&format!("http://{}/app.git", troubled.host())).unwrap();
}

#[test]
fn bounds_and_a_stop_end_a_fetch() {
    let Some((repositories, _)) = repositories() else { return };
    let (daemon, http) = (GitDaemon::start(&repositories), GitHttp::start(&repositories));
    let servers = [format!("git://{}/app.git", daemon.host()), format!("http://{}/app.git", http.host())];
    for server in &servers {
        let source = GitSource::parse(server).unwrap();
        let limited = |limits: FetchLimits| {
            fetch_git(&remote_with(|options| options.limits = limits), &source, None).unwrap_err().to_string()
        };
        let limits = FetchLimits::default();
        assert!(limited(FetchLimits { download_bytes: 100, ..limits }).contains("more than 100 bytes"));
        assert!(limited(FetchLimits { unpacked_bytes: 3, ..limits }).contains("more than 3 bytes"));
        assert!(limited(FetchLimits { entries: 2, ..limits }).contains("more than 2 entries"));
        let stopped = remote_with(|options| options.stopped = std::sync::Arc::new(|| true));
        assert!(matches!(fetch_git(&stopped, &source, None), Err(FetchError::Stopped)), "{server}");
    }
}

#[test]
fn hostile_trees_write_nothing_outside() {
    let Some(repositories) = Repositories::new() else { return };
    let outside = tempfile::tempdir().unwrap();
    repositories.commit("app.git", &[("file", "x")]);
    // git itself refuses to make such trees by its own commands, so they are made object by object.
    let place = repositories.path().join("app.git");
    let hash = |kind: &str, content: &[u8]| {
        let file = place.join("../object");
        fs::write(&file, content).unwrap();
        repositories.git("app.git", &["hash-object", "-w", "--literally", "-t", kind, file.to_str().unwrap()])
    };
    let entry = |mode: &str, name: &str, id: &str| {
        let id: Vec<u8> = (0..40).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect();
        [format!("{mode} {name}\0").as_bytes(), &id].concat()
    };
    let (blob, link) = (hash("blob", b"pwned"), hash("blob", outside.path().as_os_str().as_encoded_bytes()));
    let inner = hash("tree", &entry("100644", "pwned", &blob));
    for (tree, says) in [
        ([entry("120000", "out", &link), entry("40000", "out", &inner)].concat(), "it has `out` twice"),
        (entry("40000", ".git", &inner), "which nothing may be called"),
        (entry("40000", ".GIT", &inner), "which nothing may be called"),
        (entry("40000", "..", &inner), "which nothing may be called"),
        (entry("100644", "../pwned", &blob), "which nothing may be called"),
    ] {
        let tree = hash("tree", &tree);
        let commit = repositories.git("app.git", &["commit-tree", "-m", "hostile", &tree]);
        let error = why(&format!("file://{}#{commit}", place.display()));
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
