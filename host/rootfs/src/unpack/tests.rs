use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::{Owner, Timestamp, confined::is_opaque};

const THEN: Timestamp = Timestamp { seconds: 1234, nanoseconds: 5678 };

fn path(text: impl AsRef<[u8]>) -> RootPath {
    RootPath::new(text).unwrap()
}

fn metadata(kind: Kind, mode: u32) -> Metadata {
    Metadata { kind, mode, owner: Owner { uid: 11, gid: 12 }, mtime: THEN, xattrs: BTreeMap::new() }
}

fn can_give_away() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::chown(file.path(), Some(11), Some(12)).is_ok()
}

struct Layer {
    real: tempfile::TempDir,
    unpacker: Unpacker,
}

impl Layer {
    fn new(form: UnpackForm) -> Self {
        let real = tempfile::tempdir().unwrap();
        std::fs::create_dir(real.path().join("target")).unwrap();
        std::fs::create_dir(real.path().join("outside")).unwrap();
        let target = Arc::new(ConfinedDir::open(&real.path().join("target")).unwrap());
        Self { real, unpacker: Unpacker::new(target, form) }
    }

    fn put(&mut self, name: &str, kind: Kind, mode: u32, bytes: &[u8]) -> Result<(), RootfsError> {
        self.unpacker.entry(&path(name), &metadata(kind, mode), None, &mut &bytes[..])
    }

    fn file(&mut self, name: &str, mode: u32, text: &str) -> Result<(), RootfsError> {
        self.put(name, Kind::File { size: text.len() as u64 }, mode, text.as_bytes())
    }

    fn symlink(&mut self, name: &str, target: &str) -> Result<(), RootfsError> {
        self.put(name, Kind::Symlink { target: target.into() }, 0o777, b"")
    }

    fn directory(&mut self, name: &str, mode: u32) -> Result<(), RootfsError> {
        self.put(name, Kind::Directory, mode, b"")
    }

    fn link(&mut self, name: &str, target: &str) -> Result<(), RootfsError> {
        let metadata = metadata(Kind::File { size: 0 }, 0o644);
        self.unpacker.entry(&path(name), &metadata, Some(&path(target)), &mut io::empty())
    }

    fn finish(self) -> Finished {
        self.unpacker.finish().unwrap();
        let target = ConfinedDir::open(&self.real.path().join("target")).unwrap();
        assert_eq!(std::fs::read_dir(self.real.path().join("outside")).unwrap().count(), 0);
        Finished { real: self.real, target }
    }
}

struct Finished {
    real: tempfile::TempDir,
    target: ConfinedDir,
}

impl Finished {
    fn stat(&self, name: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.real.path().join("target").join(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        self.stat(name).permissions().mode() & 0o7777
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        self.target.entry(&path(name)).unwrap().map(|entry| entry.metadata.kind)
    }

    fn opaque(&self, name: &str) -> bool {
        is_opaque(&self.target.xattrs(&path(name), &Kind::Directory).unwrap())
    }
}

#[test]
fn everything_is_as_the_layer_has_it_whatever_the_umask() {
    if !can_give_away() {
        println!("skipped: owners (needs root)");
        return;
    }
    let mut layer = Layer::new(UnpackForm::Real);
    layer.directory("dir", 0o555).unwrap();
    layer.file("dir/file", 0o4777, "text").unwrap();
    layer.file("dir/secret", 0, "text").unwrap();
    layer.link("dir/again", "dir/file").unwrap();
    layer.symlink("dir/link", "/etc/passwd").unwrap();
    layer.put("dir/pipe", Kind::Fifo, 0o666, b"").unwrap();
    layer.put("dir/null", Kind::CharacterDevice { major: 1, minor: 3 }, 0o666, b"").unwrap();
    layer.file("implied/file", 0o600, "").unwrap();
    let done = layer.finish();
    for (name, mode) in
        [("dir", 0o555), ("dir/file", 0o4777), ("dir/secret", 0), ("dir/pipe", 0o666), ("dir/null", 0o666)]
    {
        let stat = done.stat(name);
        assert_eq!((done.mode(name), stat.uid(), stat.gid()), (mode, 11, 12), "{name}");
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (1234, 5678), "{name}");
    }
    assert_eq!((done.stat("dir/link").uid(), done.stat("dir/link").mtime()), (11, 1234));
    assert_eq!(done.stat("dir/again").ino(), done.stat("dir/file").ino());
    assert_eq!(done.kind("dir/null"), Some(Kind::CharacterDevice { major: 1, minor: 3 }));
    assert_eq!((done.mode("implied"), done.stat("implied").mtime(), done.stat("implied").uid()), (0o755, 0, 0));
}

#[test]
fn nothing_is_written_outside_or_through_a_symlink() {
    for target in ["../outside", "/tmp", "."] {
        let mut layer = Layer::new(UnpackForm::Plain);
        layer.symlink("link", target).unwrap();
        for refused in [
            layer.file("link/file", 0o644, "x"),
            layer.directory("link/dir", 0o755),
            layer.symlink("link/deep/er", "x"),
            layer.link("stolen", "link/passwd"),
            layer.link("link/stolen", "link"),
            layer.unpacker.opaque(&path("link")),
        ] {
            assert!(matches!(refused, Err(RootfsError::NotADirectory(_))), "{target}");
        }
        layer.finish();
    }
}

#[test]
fn a_symlink_that_appears_behind_our_back_leads_nowhere() {
    let mut layer = Layer::new(UnpackForm::Plain);
    layer.directory("dir", 0o755).unwrap();
    let target = layer.real.path().join("target");
    std::fs::remove_dir(target.join("dir")).unwrap();
    symlink("../outside", target.join("dir")).unwrap();
    assert!(layer.file("dir/file", 0o644, "x").is_err());
    assert!(layer.symlink("dir/link", "x").is_err());
    assert!(layer.directory("dir/dir", 0o755).is_err());
    assert_eq!(std::fs::read_dir(layer.real.path().join("outside")).unwrap().count(), 0);
}

#[test]
fn the_same_path_again_replaces_what_was_there() {
    let mut layer = Layer::new(UnpackForm::Plain);
    layer.directory("dir", 0o755).unwrap();
    layer.file("dir/file", 0o644, "old").unwrap();
    layer.directory("dir", 0o711).unwrap();
    layer.file("dir/file", 0o644, "new").unwrap();
    layer.directory("turns", 0o755).unwrap();
    layer.file("turns/beneath/file", 0o644, "").unwrap();
    layer.symlink("turns", "dir/file").unwrap();
    layer.file("turns", 0o644, "not written through").unwrap();
    layer.symlink("later", "dir").unwrap();
    layer.directory("later", 0o755).unwrap();
    let done = layer.finish();
    let read = |name: &str| std::fs::read_to_string(done.real.path().join("target").join(name)).unwrap();
    assert_eq!((read("dir/file"), read("turns")), ("new".into(), "not written through".into()));
    assert_eq!((done.mode("dir"), done.kind("later")), (0o711, Some(Kind::Directory)));
}

#[test]
fn plain_trees_can_be_read_and_removed_by_their_owner() {
    let mut layer = Layer::new(UnpackForm::Plain);
    layer.directory("dir", 0).unwrap();
    layer.file("dir/file", 0o6000, "text").unwrap();
    layer.put("dir/device", Kind::BlockDevice { major: 8, minor: 0 }, 0o660, b"").unwrap();
    layer.unpacker.whiteout(&path("dir/gone")).unwrap();
    layer.unpacker.opaque(&path("dir")).unwrap();
    let done = layer.finish();
    assert_eq!((done.mode("dir"), done.mode("dir/file")), (0o700, 0o600));
    assert_eq!(done.kind("dir/device"), Some(Kind::File { size: 0 }));
    assert_eq!((done.kind("dir/gone"), done.opaque("dir")), (None, false));
    assert_eq!(done.stat("dir/file").uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn whiteouts_and_opaque_directories_are_as_overlayfs_wants_them() {
    let mut layer = Layer::new(UnpackForm::SingleId);
    layer.file("kept/file", 0o644, "").unwrap();
    if let Err(error) = layer.unpacker.whiteout(&path("gone")) {
        println!("skipped: whiteouts ({error}, needs root or a user namespace)");
        return;
    }
    // What the layer itself has stays, before and after.
    layer.unpacker.whiteout(&path("kept")).unwrap();
    layer.unpacker.whiteout(&path("kept/file")).unwrap();
    layer.unpacker.whiteout(&path("file")).unwrap();
    layer.file("file", 0o644, "x").unwrap();
    layer.unpacker.whiteout(&path("dir")).unwrap();
    layer.file("dir/file", 0o644, "x").unwrap();
    layer.unpacker.opaque(&path("opaque")).unwrap();
    layer.put("fake", Kind::CharacterDevice { major: 0, minor: 0 }, 0o644, b"").unwrap();
    let done = layer.finish();
    assert_eq!(done.kind("gone"), Some(Kind::CharacterDevice { major: 0, minor: 0 }));
    assert_eq!(
        (done.kind("kept/file"), done.kind("file")),
        (Some(Kind::File { size: 0 }), Some(Kind::File { size: 1 }))
    );
    assert_eq!(done.kind("fake"), Some(Kind::File { size: 0 }));
    for (name, opaque) in [("kept", true), ("dir", true), ("opaque", true)] {
        assert_eq!(done.opaque(name), opaque, "{name}");
    }
}

#[test]
fn an_archive_cannot_bring_marks_of_overlayfs() {
    let mut layer = Layer::new(UnpackForm::SingleId);
    let mut marked = metadata(Kind::Directory, 0o755);
    marked.xattrs.insert(b"user.overlay.opaque".to_vec(), b"y".to_vec());
    marked.xattrs.insert(b"user.note".to_vec(), b"kept".to_vec());
    layer.unpacker.entry(&path("dir"), &marked, None, &mut io::empty()).unwrap();
    let done = layer.finish();
    assert!(!done.opaque("dir"));
    let xattrs = done.target.xattrs(&path("dir"), &Kind::Directory).unwrap();
    assert!(xattrs.keys().all(|name| name == b"user.note"));
}

#[test]
fn directories_that_the_layer_implies_look_as_below() {
    let mut below = crate::LayerIndex::default();
    let tmp = Metadata { owner: Owner::default(), ..metadata(Kind::Directory, 0o1777) };
    below.entries.insert(&path("tmp"), &crate::IndexEntry::Present { metadata: tmp, hard_link: None, opaque: false });
    let mut layer = Layer::new(UnpackForm::SingleId);
    layer.unpacker = layer.unpacker.on_top_of(Arc::new(MergedIndex::new(vec![Arc::new(below)])));
    layer.file("tmp/file", 0o644, "").unwrap();
    layer.file("other/file", 0o644, "").unwrap();
    let done = layer.finish();
    assert_eq!((done.mode("tmp"), done.mode("other")), (0o1777, 0o755));
}

#[test]
fn contents_of_another_size_and_links_to_nothing_are_refused() {
    let mut layer = Layer::new(UnpackForm::Plain);
    assert!(layer.put("short", Kind::File { size: 4 }, 0o644, b"abc").is_err());
    assert!(layer.put("long", Kind::File { size: 2 }, 0o644, b"abc").is_err());
    assert!(matches!(layer.link("link", "none"), Err(RootfsError::NotFound(at)) if at == path("none")));
    assert!(layer.link("self", "self").is_err());
    assert!(layer.put("socket", Kind::Socket, 0o644, b"").is_err());
}
