//! Base images whose layers and documents were made to do harm, or were damaged on the way.

use std::fs;

use cofferdam_digest::Digest;
use serde_json::json;

use crate::{
    crafted::{Crafted, archive, file, long_name, member, pax},
    scene::{Scene, ends_well},
};

/// How bytes are damaged.
type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

/// Reads the index of the base, and its files.
const DOCKERFILE: &str = "FROM base\nCOPY file /\nCOPY --from=base /kept /copied\n";

struct Bases {
    scene: Scene,
    next: std::cell::Cell<u32>,
}

impl Bases {
    fn new() -> Self {
        let scene = Scene::new();
        scene.site.file("file", "content").dockerfile(DOCKERFILE);
        Self { scene, next: std::cell::Cell::new(0) }
    }

    fn craft(&self) -> Crafted {
        self.next.set(self.next.get() + 1);
        Crafted::new(&self.scene.site.path().join(format!("base-{}", self.next.get())))
    }

    /// A build on the base fails, and one on a good base succeeds in the same store.
    #[track_caller]
    fn refused(&self, base: &str, says: &[&str]) -> String {
        let said = self.scene.bad(&["--build-context", base], says);
        let good = self.craft().layer(&archive(&[file("kept", b"good")])).finish();
        self.scene.good(&["--build-context", &good]);
        said
    }
}

#[test]
fn entries_that_climb_out_are_refused_and_write_nothing_outside() {
    let bases = Bases::new();
    let kept = || file("kept", b"");
    let outside = bases.scene.site.path().join("outside");
    fs::write(&outside, "untouched").expect("writable");
    let up = format!("{}{}", "../".repeat(20), outside.strip_prefix("/").expect("absolute").display());
    let climbs = "climbs out of the root by `..`";
    let nothing_used = "nothing of it was used";
    for (members, says) in [
        (vec![kept(), file("../outside", b"hostile")], climbs),
        (vec![kept(), file(&up, b"hostile")], climbs),
        (vec![kept(), file(&format!("/{up}"), b"hostile")], climbs),
        (vec![kept(), file("a/../../outside", b"hostile")], climbs),
        (vec![kept(), pax("path", "../outside"), file("x", b"hostile")], climbs),
        (vec![kept(), long_name("../outside"), file("x", b"hostile")], climbs),
        (vec![kept(), member("link", b'1', &up, b"")], climbs),
        (vec![kept(), member("link", b'1', "/etc/shadow", b"")], "a hard link to a path that this layer doesn't have"),
        (vec![kept(), member("etc", b'2', "/", b""), file("etc/passwd", b"hostile")], "lies beneath something"),
        (vec![kept(), member("d", b'2', "..", b""), file("d/outside", b"hostile")], "lies beneath something"),
        (vec![kept(), member("s", b'2', &outside.to_string_lossy(), b""), member("h", b'1', "s/x", b"")], "hard link"),
    ] {
        let base = bases.craft().layer(&archive(&members)).finish();
        bases.refused(&base, &["layer sha256:", says, nothing_used]);
        assert_eq!(fs::read_to_string(&outside).expect("there"), "untouched");
    }
    // Harmless though it looks dangerous: a leading slash means nothing.
    let base = bases.craft().layer(&archive(&[file("/kept", b"inside")])).finish();
    bases.scene.good(&["--build-context", &base]);
}

#[test]
fn a_symlink_of_a_lower_layer_does_not_lead_an_upper_one_outside() {
    let bases = Bases::new();
    let outside = bases.scene.site.path().join("outside");
    fs::create_dir(&outside).expect("writable");
    let lower = archive(&[file("kept", b""), member("dir", b'2', &outside.to_string_lossy(), b"")]);
    let upper = archive(&[file("dir/planted", b"hostile")]);
    let base = bases.craft().layer(&lower).layer(&upper).finish();
    // The upper layer makes a directory of its own over the link.
    let dockerfile = "FROM base\nCOPY file /dir/\nCOPY --from=base /dir/planted /copied\n";
    bases.scene.site.dockerfile(dockerfile);
    bases.scene.good(&["--build-context", &base]);
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    // COPY through the link of a base stays inside the image.
    let base = bases.craft().layer(&lower).finish();
    bases.scene.site.dockerfile("FROM base\nCOPY file /dir/\n");
    bases.scene.good(&["--build-context", &base]);
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
}

#[test]
fn headers_that_disagree_are_refused() {
    let bases = Bases::new();
    for (members, says) in [
        (vec![pax("path", "a"), long_name("b"), file("x", b"")], "differ"),
        (vec![pax("path", "a"), pax("path", "b"), file("x", b"")], "two extended headers"),
        (vec![pax("size", "512"), member("x", b'5', "", b""), file("smuggled", b"")], "has content although"),
        (vec![file("dir/", b"")], "the name of a directory"),
        (vec![pax("GNU.sparse.major", "1"), file("x", b"")], "sparse"),
        (vec![file("one", b""), vec![0; 512], file("two", b"")], "block of zeros between entries"),
    ] {
        let base = bases.craft().layer(&archive(&members)).finish();
        bases.refused(&base, &["layer sha256:", says, "nothing of it was used"]);
    }
}

#[test]
fn documents_and_blobs_that_are_not_what_they_are_said_to_be_are_refused() {
    let bases = Bases::new();
    let good = || bases.craft().layer(&archive(&[file("kept", b"good"), file("more", &[7; 3000])]));
    let layer = |base: &Crafted| base.path(base.layers[0]["digest"].as_str().expect("a digest"));
    let change = |at: &std::path::Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(at).expect("there");
        change(&mut bytes);
        fs::write(at, bytes).expect("writable");
    };
    // The layer's bytes: other, fewer, more.
    let changes: [(Change, &str); 3] = [
        (&|bytes| bytes[60] ^= 1, "the content's digest is"),
        (&|bytes| bytes.truncate(100), "the content has only 100 bytes"),
        (&|bytes| bytes.extend_from_slice(b"more"), "the content has at least"),
    ];
    for (how, says) in changes {
        let base = good();
        change(&layer(&base), how);
        bases.refused(&base.finish(), &["layer sha256:", says]);
    }
    // The manifest's and the configuration's.
    for document in ["manifests", "config"] {
        let base = good();
        let reference = base.finish();
        let manifest = base.manifest();
        let digest = match document {
            "config" => manifest["config"]["digest"].as_str().expect("a digest").to_owned(),
            _ => Digest::of(manifest.to_string().as_bytes()).to_string(),
        };
        change(&base.path(&digest), &|bytes| bytes[10] ^= 1);
        bases.refused(&reference, &["image `base`", &digest.replace("sha256:", ""), "was damaged and not used"]);
    }
    // What they say about the layers.
    let base = good();
    let mut manifest = base.manifest();
    manifest["layers"][0]["size"] = json!(17);
    bases.refused(&base.finish_with(&manifest), &["layer sha256:", "expected 17"]);
    let mut base = good();
    base.config["rootfs"]["diff_ids"][0] = json!(Digest::of(b"other").to_string());
    bases.refused(&base.finish(), &["layer sha256:", "DiffID", "expected"]);
    let mut base = good();
    base.config["rootfs"]["diff_ids"] = json!([]);
    bases.refused(&base.finish(), &["image `base`", "lists 0 layers, its manifest 1"]);
    let base = good();
    let mut manifest = base.manifest();
    manifest["config"]["size"] = json!(5);
    bases.refused(&base.finish_with(&manifest), &["image `base`", "damaged"]);
    let mut manifest = base.manifest();
    manifest["manifests"] = json!([]);
    bases.refused(&base.finish_with(&manifest), &["image `base`"]);
    bases.refused(&base.finish_with(&json!("no manifest")), &["image `base`", "damaged, or is none"]);
}

#[test]
fn a_bomb_ends_at_its_bound_and_zeros_that_somebody_needs_do_not() {
    let bases = Bases::new();
    // 300 MB of zeros are 300 kB of gzip.
    let zeros = vec![0; 300 << 20];
    let whole = archive(&[file("kept", b""), file("zeros", &zeros)]);
    drop(zeros);
    let bomb = bases.craft().layer(&whole).finish();
    drop(whole);
    let limited = |limit: &str| bases.scene.program(&["--build-context", &bomb, "--layer-limit", limit]).run();
    let refused = limited("100m");
    ends_well(&refused, &["layer sha256:", "104857600 uncompressed bytes", "may be a bomb", "`--layer-limit SIZE`"]);
    bases.scene.nothing_left(&bases.scene.site.store());
    let by_variable = bases.scene.program(&["--build-context", &bomb]).env("COFFERDAM_LAYER_LIMIT", "200m").run();
    ends_well(&by_variable, &["209715200 uncompressed bytes"]);
    bases.scene.good(&["--build-context", &bomb]);
    // What is in the store is bounded too: another builder may have let it in.
    assert_eq!(limited("nonsense").code, 2);
}

#[test]
fn a_million_entries_take_little_memory() {
    let bases = Bases::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut hasher = cofferdam_digest::Sha256::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        std::io::Write::write_all(&mut encoder, bytes).expect("memory");
    };
    for number in 0..1_000_000 {
        put(&file(&format!("d{:03}/f{number:07}", number % 1000), b""));
    }
    put(&[0; 1024]);
    let (blob, diff_id) = (encoder.finish().expect("memory"), hasher.finish());
    let base = bases.craft().blob(&blob, diff_id).finish();
    // The index is made by the first build and loaded by the others.
    for (what, text) in [
        ("beside them", "FROM base\nCOPY file /\n"),
        ("over one", "FROM base\nCOPY file /d500/f0000500\n"),
        ("out of them", "FROM base AS big\nFROM scratch\nCOPY --from=big /d500 /d\n"),
    ] {
        bases.scene.site.dockerfile(text);
        let command = bases.scene.program(&["--build-context", &base]).into_command();
        let (built, peak_bytes) = crate::scene::measured(command);
        built.success();
        bases.scene.nothing_left(&bases.scene.site.store());
        eprintln!("a million entries, {what}: {} MiB", peak_bytes >> 20);
        assert!(peak_bytes < 100 << 20, "{what}: {} MiB", peak_bytes >> 20);
    }
}
