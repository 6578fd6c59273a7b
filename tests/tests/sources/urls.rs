//! Files behind URLs, as ADD fetches them.

use std::process::Command;

use cofferdam_tests::{
    fault_proxy::{Fault, FaultProxy},
    run,
};

use crate::scene::{Scene, dockerfile, file_server, refused};

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
