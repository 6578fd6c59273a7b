//! Contexts and images with links that point outside.

use std::fs;

use crate::{
    crafted::{Crafted, archive, file, member},
    scene::Scene,
};

#[test]
fn links_of_the_context_lead_nowhere_outside() {
    let scene = Scene::new();
    let outside = scene.site.path().join("outside");
    fs::create_dir(&outside).expect("writable");
    fs::write(outside.join("secret"), "planted").expect("writable");
    let absolute = outside.to_string_lossy().into_owned();
    scene.site.file("file", "inside").link("up", "../outside").link("absolute", &absolute);
    scene.site.link("file-up", "../outside/secret").link("far", "../../../../../../etc");
    scene.site.link("root", "/proc/self/root");
    for (source, link) in [
        ("up/secret", "`up` is a symbolic link to `../outside`"),
        ("absolute/secret", "`absolute` is a symbolic link to"),
        ("far/passwd", "`far` is a symbolic link to `../../../../../../etc`"),
        ("root/etc/passwd", "`root` is a symbolic link to `/proc/self/root`"),
        ("file-up", "`file-up` is a symbolic link to `../outside/secret`"),
        ("up/../outside/secret", "check its spelling"),
    ] {
        scene.site.dockerfile(&format!("FROM scratch\nCOPY {source} /stolen\n"));
        let said = scene.bad(&[], &[source, link, "does not exist"]);
        assert!(!said.contains("planted"), "{said}");
    }
    // As links they are copied: what they mean is a matter of the image.
    scene.site.dockerfile("FROM scratch\nCOPY . /all/\n");
    scene.good(&[]);
    let blobs = scene.site.store().join("blobs/sha256");
    for blob in fs::read_dir(blobs).expect("there").flatten() {
        let bytes = fs::read(blob.path()).expect("readable");
        let mut text = Vec::new();
        let _ = std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut text);
        assert!(!text.windows(7).any(|window| window == b"planted"), "{:?}", blob.path());
    }
    // The Dockerfile and the ignore file themselves.
    fs::write(outside.join("Dockerfile"), "FROM scratch\nLABEL from=outside\n").expect("writable");
    fs::remove_file(scene.site.context().join("Dockerfile")).expect("ours");
    scene.site.link("Dockerfile", "../outside/Dockerfile");
    let built = scene.program(&[]).run();
    assert!(built.code == 0 || built.stderr.contains("Dockerfile"), "{}", built.stderr);
}

#[test]
fn links_of_a_base_lead_nowhere_outside() {
    let scene = Scene::new();
    let outside = scene.site.path().join("outside");
    fs::create_dir(&outside).expect("writable");
    fs::write(outside.join("secret"), "planted").expect("writable");
    scene.site.file("file", "from the context");
    let members = [
        file("inside", b"x"),
        member("out", b'2', &outside.to_string_lossy(), b""),
        member("up", b'2', "../../../../../../../../etc", b""),
        member("loop", b'2', "loop", b""),
        member("passwd", b'2', "/etc/passwd", b""),
    ];
    let base = Crafted::new(&scene.site.path().join("base")).layer(&archive(&members)).finish();
    let arguments = ["--build-context", base.as_str()];
    for (line, says) in [
        ("COPY --from=base /out/secret /stolen", "does not exist"),
        ("COPY --from=base /up/passwd /stolen", "does not exist"),
        ("COPY --from=base /passwd /stolen", "does not exist"),
        ("COPY --from=base /loop/x /stolen", "symbolic links"),
        ("COPY file /loop/x", "symbolic links"),
    ] {
        scene.site.dockerfile(&format!("FROM base\n{line}\n"));
        scene.bad(&arguments, &[line, says]);
    }
    scene.site.dockerfile("FROM base\nCOPY file /out/secret\nCOPY file /up/passwd\nWORKDIR /out/work\n");
    scene.good(&arguments);
    assert_eq!(fs::read_to_string(outside.join("secret")).expect("there"), "planted");
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 1);
}
