//! Contexts in tar archives: from files, URLs and standard input; and such as are a Dockerfile alone.

use cofferdam_tests::{
    Cloud, CloudAnswer, Image, Program,
    fault_proxy::{Fault, FaultProxy},
    hostile_archives,
};

use crate::scene::{Scene, check_everywhere, check_packed, fed, file_server, packed, refused};

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
    packed(&scene, "--gzip");
    for (archive, says) in [
        ("dots.tar", "climbs out of the archive"),
        ("link.tar", "is beneath something that is no directory, or is a symbolic link"),
        ("hard.tar", "is a hard link to `etc/shadow`, which is no file of it"),
        ("device.tar", "is a device"),
    ] {
        refused(scene.docker(&[], archive), &[&format!("`{archive}` can't be unpacked"), says]);
        let content = std::fs::read(scene.place.path().join(archive)).expect("there");
        let server = file_server("/archive", content.clone(), "\"v\"");
        let url = format!("http://{}/archive", server.host());
        refused(scene.docker(&[], &url), &[&format!("`{url}` can't be unpacked"), says]);
        let piped = fed(scene.docker(&[], "-"), &content);
        assert!(piped.code != 0 && piped.stderr.contains(says), "{}", piped.stderr);
        let named = format!("code={archive}");
        refused(scene.docker(&["--build-context", &named], "tree"), &[says]);
    }
    assert_eq!(std::fs::read_dir(&outside).expect("there").count(), 0);
    let whole = packed(&scene, "--gzip");
    std::fs::write(scene.place.path().join("cut.tar.gz"), &whole[..whole.len() / 2]).expect("writable");
    refused(scene.docker(&[], "cut.tar.gz"), &["`cut.tar.gz` can't be unpacked", "too early"]);
    let piped = fed(scene.kaniko(&["--context=tar://stdin"]), &whole[..whole.len() / 2]);
    assert!(piped.code != 0 && piped.stderr.contains("`standard input` can't be unpacked"), "{}", piped.stderr);
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
fn an_archive_behind_tls_and_a_password_is_a_context_at_both_doors() {
    let scene = Scene::new();
    // An archive of plain files is a text.
    let archive = String::from_utf8(packed(&scene, "--no-auto-compress")).expect("ASCII");
    let cloud = Cloud::start(&["files.example"], move |request| {
        // base64 of `me:s3cret`.
        let is_known = request.headers.get("authorization").is_some_and(|given| given == "Basic bWU6czNjcmV0");
        match (is_known, request.path.as_str()) {
            (false, _) => CloudAnswer::new(401, ""),
            (true, "/context") => CloudAnswer::new(200, archive.as_str()),
            (true, "/cut") => CloudAnswer::new(200, &archive[..archive.len() / 2]),
            (true, _) => CloudAnswer::new(404, ""),
        }
    });
    let Some(cloud) = cloud else { return };
    let seen_by = |program: Program| cloud.seen_by(program).natively();
    check_everywhere(&scene, "https://me:s3cret@files.example/context", seen_by);
    for (url, says) in [
        (
            "https://me:s3cret@files.example/gone",
            "`https://files.example/gone` answers 404 Not Found; check the address",
        ),
        ("https://me:s3cret@files.example/cut", "`https://…@files.example/cut` can't be unpacked: it ends too early"),
        ("https://me:wr0ng-s3cret@files.example/context", "wants a user and password, and refuses those"),
        ("https://files.example/context", "wants a user and password, and there are none"),
    ] {
        for program in [scene.docker(&[], url), scene.kaniko(&[&format!("--context={url}")])] {
            let said = refused(seen_by(program), &[says]);
            assert!(!said.stderr.contains("s3cret"), "{}", said.stderr);
        }
    }
    let stranger = scene.docker(&[], "https://me:s3cret@files.example/context");
    let stranger = cloud.seen_by(stranger).env("SSL_CERT_FILE", "/dev/null").natively();
    refused(stranger, &["`files.example` can't be trusted", "SSL_CERT_FILE"]);
}
