//! What a person reads when something is wrong: once, with its name.

use std::fs;

use cofferdam_tests::Registry;

use crate::{
    crafted::{Crafted, archive, file},
    scene::{Scene, ends_well},
};

#[test]
fn a_failing_step_is_named_once() {
    let scene = Scene::new();
    scene.site.dockerfile("FROM scratch\nCOPY nothing /\n");
    let said = scene
        .bad(&["--progress", "quiet"], &["`COPY nothing /` failed: `nothing` does not exist", "check its spelling"]);
    let expected = "Dockerfile:2\n--------------------\n   1 |     FROM scratch\n   2 | >>> COPY nothing /\n--------------------\n\
                    error: `COPY nothing /` failed: `nothing` does not exist in the build context\n  \
                    check its spelling, and that `.dockerignore` does not leave it out\n";
    assert_eq!(said, expected);
    let Some(scene) = Scene::with_base() else { return };
    scene.site.dockerfile("FROM base AS one\nRUN exit 7\nFROM base\nCOPY --from=one /x /\n");
    let built = scene.program(&["--progress", "quiet"]).run();
    assert_eq!(built.code, 7);
    assert_eq!(built.stderr.matches("exit code 7").count(), 1, "{}", built.stderr);
    assert_eq!(built.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", built.stderr);
    scene.nothing_left(&scene.site.store());
}

#[test]
fn a_base_for_another_platform_is_warned_of() {
    let scene = Scene::new();
    scene.site.file("file", "x").dockerfile("FROM base\nCOPY file /\n");
    let mut base = Crafted::new(&scene.site.path().join("base")).layer(&archive(&[file("kept", b"")]));
    base.config["architecture"] = serde_json::json!("riscv64");
    let base = base.finish();
    let arguments = ["--build-context", base.as_str()];
    for (platform, warned) in [("linux/arm64", true), ("linux/riscv64", false)] {
        let built = scene.program(&arguments).args(["--platform", platform]).run().success();
        let warning = format!("warning: the image `base` is for linux/riscv64, not for {platform}");
        assert_eq!(built.stderr.contains(&warning), warned, "{}", built.stderr);
    }
}

#[test]
fn a_mistake_in_the_file_of_credentials_is_told_and_not_taken_for_none() {
    let Some(registry) = Registry::with_password() else { return };
    let scene = Scene::new();
    let host = registry.host();
    scene.site.dockerfile(&format!("FROM {host}/x:1\n"));
    let directory = scene.site.path().join("docker");
    fs::create_dir(&directory).expect("writable");
    for (entry, says) in [
        (r#"{"auth": 7}"#, "`auth` of the entry"),
        (r#"{"auth": ["czNjcmV0"]}"#, "`auth` of the entry"),
        (r#"{"username": "x", "password": {"a": "czNjcmV0"}}"#, "`password` of the entry"),
        (r#"{"auth": "czNjcmV0"}"#, "is not `username:password` in base64"),
        (r#""czNjcmV0""#, "is not an object"),
    ] {
        let text = format!("{{\"auths\":{{\"{host}\":{entry}}}}}");
        fs::write(directory.join("config.json"), text).expect("writable");
        let built = scene.program(&[]).env("DOCKER_CONFIG", &directory).run();
        ends_well(&built, &["the docker configuration can't be used", says, &host]);
        assert!(!built.stderr.contains("czNjcmV0") && !built.stderr.contains("s3cret"), "{}", built.stderr);
    }
}
