//! Our own image: what is in it, that it works as root, as another user and on a read-only root file system, that it finds
//! hosts by name and trusts what it should.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, UdpSocket},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
    thread,
};

use cofferdam_tests::{Environment, Finished, OwnImage, Registry, Variant, base, build_image, run};

/// Runners on which the image must work.
const PODS: [Environment; 5] = [
    Environment::RootPod,
    Environment::Restricted,
    Environment::RestrictedOld,
    Environment::RestrictedReadOnly,
    Environment::RestrictedArbitraryUid,
];

/// A build context that everybody may read.
fn context(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("writable");
    }
    directory
}

#[test]
fn it_has_kanikos_paths_and_nothing_that_it_does_not_need() {
    let Some(minimal) = OwnImage::get(Variant::Minimal) else { return };
    let root = minimal.rootfs();
    let size = fs::metadata(root.join("kaniko/cofferdam")).expect("the program").len();
    for name in ["executor", "warmer"] {
        assert_eq!(fs::read_link(root.join("kaniko").join(name)).expect("a link"), Path::new("cofferdam"));
    }
    assert!(!root.join("busybox").exists() && !root.join("bin").exists() && !root.join("lib").exists());
    for shared in ["tmp", "workspace", "kaniko/.docker"] {
        let mode = fs::metadata(root.join(shared)).expect(shared).mode();
        assert_eq!(mode & 0o7777, 0o1777, "{shared}");
    }
    let total: u64 = run(Command::new("du").args(["-sb", "--apparent-size"]).arg(&root))
        .success()
        .stdout
        .split_whitespace()
        .next()
        .and_then(|bytes| bytes.parse().ok())
        .expect("a number");
    println!("the program has {size} bytes, the image's files have {total}");
    assert!(total < size + (2 << 20), "{total} bytes, of which {size} are the program's");
    let Some(debug) = OwnImage::get(Variant::Debug) else { return };
    assert!(debug.rootfs().join("busybox/sh").exists());
}

#[test]
fn it_is_the_same_when_it_is_built_again() {
    let Some(first) = OwnImage::get(Variant::Minimal) else { return };
    let store = tempfile::tempdir().expect("a temporary directory");
    let built = build_image(Variant::Minimal, store.path(), &[]).success();
    let index = cofferdam_tests::read_json(&first.layout().join("index.json"));
    assert_eq!(index["manifests"][0]["digest"], built.digest());
}

#[test]
fn names_say_what_they_are() {
    let Some(image) = OwnImage::get(Variant::Minimal) else { return };
    let call =
        |command: &[&str]| -> Option<Finished> { Some(image.container(Environment::RootPod)?.command(command, "")) };
    let Some(version) = call(&["/kaniko/executor", "--version"]) else { return };
    assert!(version.success().stdout.starts_with("executor "));
    let help = call(&["cofferdam", "--help"]).expect("as before").success();
    assert!(help.stdout.contains("doctor"), "{}", help.stdout);
    let warmer = call(&["warmer", "--help"]).expect("as before").success();
    assert!(warmer.stdout.contains("--cache-dir"), "{}", warmer.stdout);
}

#[test]
fn it_builds_and_pushes_in_every_pod() {
    let Some(image) = OwnImage::get(Variant::Minimal) else { return };
    let (Some(alpine), Some(registry)) = (base("alpine"), Registry::with_password()) else { return };
    registry.load(&alpine, "latest", "library/alpine:3.21").expect("skopeo made the image");
    let context = context(&[
        ("Dockerfile", "FROM alpine:3.21\nCOPY file /\nRUN cat /file > /copy && chown 33:33 /copy\n"),
        ("file", "text\n"),
    ]);
    let mut digests = Vec::new();
    for environment in PODS {
        let name = format!("{}/team/{}:1", registry.host(), environment.name());
        let Some(container) = image.container(environment) else { return };
        let container = container.read_only(&registry.docker_config(), "/kaniko/.docker");
        let mut container =
            container.volume(context.path(), "/workspace").env("KANIKO_REGISTRY_MIRROR", &registry.host());
        if environment == Environment::RestrictedReadOnly {
            container = container.empty_directory("/tmp");
        }
        // Nothing but Kaniko's defaults: the context is /workspace, the Dockerfile lies there.
        let built = container.args(&["--destination", &name]).success();
        assert_eq!(registry.digest(&format!("team/{}:1", environment.name())), Some(built.digest()));
        digests.push(built.digest());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "one image in every pod");
}

#[test]
fn a_read_only_root_without_a_writable_directory_is_explained() {
    let Some(image) = OwnImage::get(Variant::Minimal) else { return };
    let context = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let Some(container) = image.container(Environment::RestrictedReadOnly) else { return };
    let built = container.volume(context.path(), "/workspace").args(&["--no-push"]);
    assert_eq!(built.code, 1);
    assert!(built.stderr.contains("/tmp/cofferdam-1000"), "{}", built.stderr);
}

/// A server for one zone, in which every name has this machine's loopback address (RFC 1035).
struct NameServer(String);

impl NameServer {
    /// On an address of the loopback network that nobody else has; `None` where port 53 can't be had.
    fn start() -> Option<Self> {
        let own = std::process::id().to_be_bytes();
        let address = format!("127.{}.{}.53", own[2].max(1), own[3]);
        let socket = UdpSocket::bind((address.as_str(), 53)).ok()?;
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let query = &query[..length];
                let end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name's end") + 5;
                let (id, question) = (&query[..2], &query[12..end]);
                let is_a = question[question.len() - 4..question.len() - 2] == [0, 1];
                // A response, authoritative, without error; one question, and an answer for type A.
                let mut answer = [id, &[0x85, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0], question].concat();
                if is_a {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
                }
                let _ = socket.send_to(&answer, from);
            }
        });
        Some(Self(address))
    }
}

/// A web server for one file, over plain HTTP; answers what is asked of it until the test ends.
fn web_server(body: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    port
}

#[test]
fn hosts_are_found_by_name() {
    let Some(image) = OwnImage::get(Variant::Minimal) else { return };
    let Some(server) = NameServer::start() else {
        cofferdam_tests::skip("no name server can be started here (port 53 of the loopback network)");
        return;
    };
    let port = web_server("found\n");
    let resolver = context(&[
        ("resolv.conf", &format!("nameserver {}\n", server.0)),
        ("hosts", "127.0.0.1 localhost\n127.0.0.1 listed.example\n"),
    ]);
    // A name that only the name server knows, and one of /etc/hosts.
    for host in ["files.cofferdam.example", "listed.example"] {
        let text = format!("FROM scratch\nADD http://{host}:{port}/file /file\n");
        let context = context(&[("Dockerfile", &text)]);
        for environment in [Environment::RootPod, Environment::Restricted] {
            let Some(container) = image.container(environment) else { return };
            let container = container.read_only(&resolver.path().join("resolv.conf"), "/etc/resolv.conf");
            let container = container.read_only(&resolver.path().join("hosts"), "/etc/hosts");
            container.volume(context.path(), "/workspace").args(&["--no-push"]).success();
        }
    }
    let context = context(&[("Dockerfile", "FROM registry.nowhere.invalid/x\n")]);
    let nothing = self::context(&[("resolv.conf", "nameserver 127.255.255.254\noptions timeout:1 attempts:1\n")]);
    let Some(container) = image.container(Environment::RootPod) else { return };
    let container = container.read_only(&nothing.path().join("resolv.conf"), "/etc/resolv.conf");
    let built = container.volume(context.path(), "/workspace").args(&["--no-push"]);
    assert!(built.code == 1 && built.stderr.contains("registry.nowhere.invalid"), "{}", built.stderr);
}
