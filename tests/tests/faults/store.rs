//! A store that lost its power, or that somebody put something into: each of its files cut short, full of zeros, and
//! replaced by a pipe, a directory and a link.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_tests::{Registry, base, is_root, noise, run, skip};

use crate::scene::{Scene, ends_well};

/// The files of a store that a power failure may damage: not what is unpacked, nor locks, which are empty.
fn files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("unpacked") && !path.ends_with("tmp") {
                files(&path, into);
            }
        } else if entry.metadata().is_ok_and(|file| file.len() > 0) {
            into.push(path);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    run(Command::new("cp").arg("-a").arg(from).arg(to)).success();
}

struct Damaged {
    scene: Scene,
    registry: Registry,
    whole: PathBuf,
    digest: String,
}

impl Damaged {
    fn new() -> Option<Self> {
        if !is_root() {
            skip("RUN is tested as root here");
            return None;
        }
        let (registry, alpine) = (Registry::open()?, base("alpine")?);
        registry.load(&alpine, "latest", "library/alpine:1")?;
        let scene = Scene::new();
        scene.site.file("file", noise(60_000, 8)).file("other", "x");
        let first = format!("FROM {}/library/alpine:1\nRUN seq 1 9000 > /one\nCOPY file /\n", registry.host());
        scene.site.dockerfile(&first);
        let output = format!("type=oci,dest={}", scene.site.path().join("first.tar").display());
        scene.good(&["--output", &output]);
        let whole = scene.site.path().join("whole");
        fs::rename(scene.site.store(), &whole).expect("the same disk");
        // What the next build asks of the store: everything that the first one made, and its files.
        let more = "RUN cat /one /etc/passwd > /two\nCOPY other /\nCOPY --from=0 /one /three\n";
        scene.site.dockerfile(&format!("{first}FROM 0\n{}", more.replace("FROM 0\n", "")).replace("FROM 0\n", ""));
        let first = first.replacen("alpine:1\n", "alpine:1 AS one\n", 1);
        scene.site.dockerfile(&format!("{first}FROM one\n{}", more.replace("--from=0", "--from=one")));
        let digest = scene.good_in(&scene.site.path().join("reference"), &[]);
        Some(Self { scene, registry, whole, digest })
    }

    /// Builds in a damaged store. The image is right, and what the registry got is; or one message says what is wrong, and
    /// the next build is right.
    fn build(&self, name: &str, what: &str) -> bool {
        let store = self.scene.site.store();
        let out = self.scene.site.path().join("out.tar");
        let tag = format!("{}/{name}:1", self.registry.host());
        let output = format!("type=oci,dest={}", out.display());
        let arguments = ["--push", "--tag", tag.as_str(), "--output", output.as_str()];
        let built = self.scene.program_in(&store, &arguments).run();
        self.scene.nothing_left(&store);
        let at_once = built.code == 0;
        if at_once {
            assert_eq!(built.digest(), self.digest, "{what}: {}", built.stderr);
        } else {
            ends_well(&built, &[]);
            let said = &built.stderr;
            assert!(said.contains("damaged") || said.contains("remove it"), "{what}: {said}");
            assert_eq!(self.registry.tags(name), Some(Vec::new()), "{what}");
            let again = self.scene.program_in(&store, &arguments).run();
            assert_eq!(again.code, 0, "{what}, the second time: {}\nafter {said}", again.stderr);
            assert_eq!(again.digest(), self.digest, "{what}");
        }
        assert_eq!(self.registry.digest(&format!("{name}:1")), Some(self.digest.clone()), "{what}");
        at_once
    }
}

#[test]
fn each_damaged_file_is_found_and_made_again() {
    let Some(damaged) = Damaged::new() else { return };
    let mut all = Vec::new();
    files(&damaged.whole, &mut all);
    assert!(all.len() > 15, "{all:?}");
    let (mut at_once, mut told) = (0, 0);
    for (number, file) in all.iter().enumerate() {
        for kind in ["short", "zeros", "a pipe", "a directory", "a link"] {
            let store = damaged.scene.site.store();
            copy(&damaged.whole, &store);
            let place = store.join(file.strip_prefix(&damaged.whole).expect("inside"));
            let bytes = fs::read(&place).expect("there");
            // Not by the same inode: blobs may be linked.
            fs::remove_file(&place).expect("ours");
            match kind {
                "short" => fs::write(&place, &bytes[..bytes.len() / 2]).expect("writable"),
                "zeros" => fs::write(&place, vec![0; bytes.len()]).expect("writable"),
                "a pipe" => assert!(Command::new("mkfifo").arg(&place).status().expect("mkfifo").success()),
                "a directory" => fs::create_dir_all(place.join("beneath")).expect("writable"),
                _ => symlink("/dev/zero", &place).expect("writable"),
            }
            let what = format!("{} {kind}", place.strip_prefix(&store).expect("inside").display());
            match damaged.build(&format!("damaged-{number}-{}", kind.replace(' ', "-")), &what) {
                true => at_once += 1,
                false => told += 1,
            }
        }
    }
    eprintln!("{at_once} were made again at once, {told} were told and made by the next build");
}

#[test]
fn what_was_unpacked_before_a_power_failure_is_not_trusted() {
    let Some(damaged) = Damaged::new() else { return };
    let store = damaged.scene.site.store();
    copy(&damaged.whole, &store);
    let mut unpacked = Vec::new();
    for form in fs::read_dir(store.join("unpacked")).expect("there").flatten() {
        if form.path().is_dir() {
            files(&form.path(), &mut unpacked);
        }
    }
    assert!(unpacked.len() > 3, "{unpacked:?}");
    for file in unpacked.iter().filter(|file| file.symlink_metadata().is_ok_and(|file| file.is_file())) {
        fs::write(file, "").expect("writable");
    }
    fs::write(store.join("unpacked/boot"), "of another day\n").expect("writable");
    assert!(damaged.build("unpacked", "unpacked"));
}
