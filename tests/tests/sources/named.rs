//! Named contexts that are images, and what is wrong with them.

use cofferdam_tests::{Registry, run};

use crate::scene::{Scene, dockerfile, refused};

/// An OCI layout with the image `made`, which has the file `/page`.
fn made(scene: &Scene) -> std::path::PathBuf {
    dockerfile(scene, "FROM scratch\nCOPY <<E /page\nmade\nE\n");
    scene.image(scene.docker(&[], "context"));
    let layout = scene.place.path().join("made");
    run(std::process::Command::new("cp").arg("-r").arg(scene.layout()).arg(&layout)).success();
    dockerfile(scene, "FROM code\nCOPY --from=code /page /copied\n");
    layout
}

#[test]
fn a_layout_is_a_base_and_a_source() {
    let scene = Scene::new();
    let layout = made(&scene);
    let build = |written: &str| scene.docker(&["--build-context", &format!("code={written}")], "context");
    let whole = format!("oci-layout://{}", layout.display());
    for written in [whole.clone(), "oci-layout://made".to_owned(), format!("{whole}:latest")] {
        let image = scene.image(build(&written));
        assert_eq!((image.content("/page"), image.content("/copied")), ("made\n".to_owned(), "made\n".to_owned()));
    }
    refused(build("oci-layout://gone"), &["gone"]);
    refused(build(&format!("{whole}:other")), &["other"]);
    let blobs = layout.join("blobs/sha256");
    for blob in std::fs::read_dir(blobs).expect("there").flatten() {
        let content = std::fs::read(blob.path()).expect("readable");
        if content.starts_with(&[0x1f, 0x8b]) {
            std::fs::write(blob.path(), &content[..content.len() / 2]).expect("writable");
        }
    }
    let other = Scene::new();
    dockerfile(&other, "FROM code\nCOPY --from=code /page /copied\n");
    refused(other.docker(&["--build-context", &format!("code={whole}")], "context"), &["sha256:"]);
}

#[test]
fn an_image_of_a_registry_is_a_base_and_a_source() {
    let scene = Scene::new();
    let layout = made(&scene);
    let (Some(open), Some(closed)) = (Registry::open(), Registry::with_password()) else { return };
    let build =
        |written: &str| scene.docker(&["--build-context", &format!("code=docker-image://{written}")], "context");
    for registry in [&open, &closed] {
        if registry.load(&layout, "latest", "team/made:1").is_none() {
            return;
        }
    }
    let name = |registry: &Registry| format!("{}/team/made:1", registry.host());
    assert_eq!(scene.image(build(&name(&open))).content("/copied"), "made\n");
    let config = closed.docker_config();
    assert_eq!(scene.image(build(&name(&closed)).env("DOCKER_CONFIG", &config)).content("/copied"), "made\n");
    refused(build(&format!("{}/team/gone:1", open.host())), &["team/gone:1"]);
    let wrong = build(&name(&closed)).env("KANIKO_127_0_0_1_USER", "me").env("KANIKO_127_0_0_1_PASSWORD", "wr0ng");
    let said = refused(wrong, &["401"]);
    assert!(!said.stderr.contains("wr0ng"), "{}", said.stderr);
    refused(build(""), &["is not of the form NAME=PATH"]);
}
