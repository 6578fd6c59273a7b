//! Plugins that do their worst, in a build.

use std::fs;

use cofferdam_plan::step::{Planned, Read};

use crate::{
    component::{MANIFEST, NO_FINDINGS, PROBE, changes, component, context_read},
    scene::Scene,
};

/// A scene with one plugin, whose `check` is this text.
fn scene(check: &str, planned: &Planned, manifest: &str) -> Scene {
    let scene = Scene::new();
    let wasm = scene.site.path().join("wasm");
    fs::create_dir(&wasm).expect("writable");
    fs::write(wasm.join("probe.wasm"), component(PROBE, check, planned, "", manifest)).expect("writable");
    let policy = "[limits]\nmemory-mib = 16\ndeadline-ms = 300\n[plugins.probe]\nallow = [\"context\", \"rootfs\"]\n";
    fs::write(scene.site.path().join("policy.toml"), policy).expect("writable");
    scene.site.file("declared", "one").file("other", "two");
    scene
}

const ARGUMENTS: [&str; 4] = ["--plugin-dir", "wasm", "--policy", "policy.toml"];

/// The build fails, saying so, and one without the plugin's instruction succeeds in the same store.
#[track_caller]
fn refused(scene: &Scene, says: &[&str]) -> String {
    let built = scene.program(&ARGUMENTS).run();
    scene.nothing_left(&scene.site.store());
    let said = &built.stderr;
    assert_eq!((built.code, built.stdout.as_str()), (1, ""), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "one message: {said}");
    for text in says {
        assert!(said.contains(text), "no `{text}` in\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    scene.site.dockerfile("FROM scratch\nCOPY declared /\n");
    scene.good(&[]);
    built.stderr
}

#[test]
fn a_plugin_that_fails_by_itself_is_named_with_what_it_did() {
    for (check, says) in [
        ("unreachable", "crashed"),
        ("(loop (br 0)) unreachable", "took too long"),
        ("(loop (drop (memory.grow (i32.const 16))) (br 0)) unreachable", "ran out of memory"),
        ("(i32.const 0x7ffffff0)", "`probe`"),
        ("(i64.store (i32.const 2048) (i64.const 0xffffffff00000000)) (i32.const 2048)", "`probe`"),
    ] {
        let scene = scene(check, &changes(Vec::new()), MANIFEST);
        scene.site.dockerfile("FROM scratch\nPROBE x\n");
        let said = refused(&scene, &["plugin `probe`", says, "   2 | >>> PROBE x"]);
        assert!(says != "ran out of memory" || said.contains("16 MiB"), "{said}");
    }
}

#[test]
fn a_plugin_that_traps_in_the_middle_of_its_step_leaves_nothing() {
    // `x` traps as it was handed no executor.
    let scene = scene(NO_FINDINGS, &changes(Vec::new()), MANIFEST);
    scene.site.dockerfile("FROM scratch\nCOPY declared /\nPROBE x\n");
    refused(&scene, &["plugin `probe` crashed", "   3 | >>> PROBE x"]);
}

#[test]
fn what_a_plugin_did_not_declare_is_denied_by_name() {
    let declared = || changes(vec![context_read(&["declared"], &[])]);
    for (step, says) in [
        ("PROBE oother", "`/other`"),
        ("PROBE sother", "`/other`"),
        ("PROBE o/etc/passwd", "passwd"),
        ("PROBE o../outside", "denied"),
        ("PROBE r/etc/passwd", "passwd"),
        ("PROBE p/etc/passwd", "passwd"),
    ] {
        let scene = scene(NO_FINDINGS, &declared(), MANIFEST);
        scene.site.dockerfile(&format!("FROM scratch\nCOPY declared /etc/passwd\n{step}\n"));
        refused(&scene, &["probe", "denied", says, "tell its author", &format!("   3 | >>> {step}")]);
    }
    let scene = scene(NO_FINDINGS, &declared(), MANIFEST);
    scene.site.dockerfile("FROM scratch\nPROBE odeclared\n");
    scene.good(&ARGUMENTS);
}

#[test]
fn what_a_plugin_was_not_granted_is_refused_with_the_line_that_would_allow_it() {
    let scene = |allow: &str, manifest: &str| {
        let scene = scene(NO_FINDINGS, &changes(vec![Read::WholeRootfs]), manifest);
        fs::write(scene.site.path().join("policy.toml"), allow).expect("writable");
        scene.site.dockerfile("FROM scratch\nPROBE x\n");
        scene
    };
    let wants_exec = MANIFEST.replace("\"rootfs\"]", "\"rootfs\", \"exec\"]");
    refused(
        &scene("[plugins.probe]\nallow = [\"context\", \"rootfs\"]\n", &wants_exec),
        &["plugin `probe` wants `exec`", "allow"],
    );
    refused(&scene("[plugins.probe]\nallow = [\"context\"]\n", MANIFEST), &["plugin `probe` wants `rootfs`", "allow"]);
    let claims = MANIFEST.replace("PROBE =", "RUN =");
    refused(&scene("", &claims), &["probe", "RUN"]);
}

#[test]
fn a_plugin_that_is_none_is_named() {
    for (bytes, says) in [(&b"nothing"[..], "probe.wasm"), (b"\0asm\x0d\0\x01\0", "probe.wasm"), (b"", "probe.wasm")] {
        let scene = scene(NO_FINDINGS, &changes(Vec::new()), MANIFEST);
        fs::write(scene.site.path().join("wasm/probe.wasm"), bytes).expect("writable");
        scene.site.dockerfile("FROM scratch\nPROBE x\n");
        refused(&scene, &[says]);
    }
}
