use std::{collections::BTreeMap, io::Write, path::Path};

use super::*;
use crate::{
    Change, ChangeSet, ConfinedDir, DirectoryTree, FileSpools, IndexEntry, ModeChange, ModeClause, ModeOperator,
    ModePermissions, Who, merged::implicit_directory,
};

const NOW: Timestamp = Timestamp { seconds: 2_000_000_000, nanoseconds: 0 };
const OLD: Timestamp = Timestamp { seconds: 1_000, nanoseconds: 0 };

fn path(text: impl AsRef<[u8]>) -> RootPath {
    RootPath::new(text).unwrap()
}

struct Unpacked(Arc<ConfinedDir>);

impl LayerContents for Unpacked {
    fn directory(&self) -> Result<Arc<ConfinedDir>, RootfsError> {
        Ok(self.0.clone())
    }
}

/// Content that nobody may ask for.
struct Sealed;

impl LayerContents for Sealed {
    fn directory(&self) -> Result<Arc<ConfinedDir>, RootfsError> {
        panic!("the layer was unpacked")
    }
}

/// A layer that only has an index: `d path`, `f path`, `l path target`.
fn sealed(lines: &str) -> Layer {
    let mut index = LayerIndex::default();
    for line in lines.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (kind, name, target) = (words.next().unwrap(), words.next().unwrap(), words.next());
        let (kind, mode) = match kind {
            "d" => (Kind::Directory, 0o700),
            "l" => (Kind::Symlink { target: target.unwrap().into() }, 0o777),
            _ => (Kind::File { size: 3 }, 0o640),
        };
        let metadata = Metadata { kind, mode, owner: Owner { uid: 5, gid: 6 }, mtime: OLD, ..implicit_directory() };
        index.entries.insert(&path(name), &IndexEntry::Present { metadata, hard_link: None, opaque: false });
    }
    Layer { index: Arc::new(index), contents: Arc::new(Sealed) }
}

fn stage(layers: Vec<Layer>) -> RootFs {
    RootFs::new(layers, Arc::new(FileSpools::new(Box::new(tempfile::tempfile))), NOW)
}

fn attributes(mode: u32) -> Attributes {
    Attributes { mode, owner: Owner::default(), mtime: None }
}

fn put(rootfs: &mut RootFs, name: &str, bytes: &[u8]) -> Result<(), RootfsError> {
    let mut writer = rootfs.put_file(&path(name), &attributes(0o644))?;
    writer.write(bytes)?;
    rootfs.finish_file(writer)
}

fn text(tree: &dyn Tree, name: &str) -> String {
    let mut text = String::new();
    tree.open(&path(name)).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// `kind mode uid path`, and what is special; one line for each change.
fn listing(changes: &ChangeSet) -> Vec<String> {
    let line = |(path, change): (&RootPath, &Change)| match change {
        Change::Remove => format!("w {path}"),
        Change::Put { metadata, hard_link, opaque, content } => {
            let kind = match &metadata.kind {
                Kind::File { .. } => "f",
                Kind::Directory => "d",
                Kind::Symlink { .. } => "l",
                Kind::Fifo => "p",
                _ => "?",
            };
            assert_eq!(content.is_some(), metadata.is_file() && hard_link.is_none(), "{path}");
            let link = hard_link.as_ref().map(|target| format!(" = {target}")).unwrap_or_default();
            let opaque = if *opaque { " opaque" } else { "" };
            format!("{kind} {:o} {} {path}{link}{opaque}", metadata.mode, metadata.owner.uid)
        }
    };
    changes.changes.iter().map(line).collect()
}

/// A tree of files made by `make`, with everything at [`OLD`] and owned by 7:8.
fn source(make: impl Fn(&Path)) -> (tempfile::TempDir, Arc<dyn Tree>) {
    let real = tempfile::tempdir().unwrap();
    make(real.path());
    let confined = Arc::new(ConfinedDir::open(real.path()).unwrap());
    (real, Arc::new(DirectoryTree::new(confined).owned_by(Owner { uid: 7, gid: 8 })))
}

fn write(real: &Path, name: &str, mode: u32) {
    let file = real.join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, name).unwrap();
    chmod(&file, mode);
}

fn chmod(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn copy(rootfs: &mut RootFs, from: &Arc<dyn Tree>, source: &str, destination: &str) -> Result<Copied, RootfsError> {
    rootfs.copy_tree(from, &path(source), &path(destination), &CopyOptions::default())
}

#[test]
fn a_step_without_reading_needs_no_unpacked_layer() {
    let mut rootfs = stage(vec![sealed("d etc; f etc/os; l link etc")]);
    put(&mut rootfs, "link/new", b"x").unwrap();
    rootfs.remove(&path("etc/os")).unwrap();
    rootfs.put_symlink(&path("etc/s"), b"/x", &attributes(0)).unwrap();
    assert_eq!(rootfs.read_directory(&path("link")).unwrap(), [&b"new"[..], b"s"]);
    let changes = rootfs.take_changes();
    assert_eq!(listing(&changes), ["d 700 5 /etc", "f 644 0 /etc/new", "w /etc/os", "l 777 0 /etc/s"]);
    let Change::Put { metadata, .. } = &changes.changes[&path("etc")] else { panic!() };
    assert_eq!(metadata.mtime, NOW);
    assert!(rootfs.take_changes().is_empty());
}

#[test]
fn missing_parents_are_made_and_symlinks_on_the_way_resolve_in_the_root() {
    let mut rootfs = stage(vec![sealed("l abs /real; l up ../../../real; l gone /new/place; f file")]);
    put(&mut rootfs, "abs/a", b"").unwrap();
    put(&mut rootfs, "up/b", b"").unwrap();
    put(&mut rootfs, "gone/c", b"").unwrap();
    assert!(matches!(put(&mut rootfs, "file/d", b""), Err(RootfsError::NotADirectory(at)) if at == path("file")));
    assert!(matches!(put(&mut rootfs, "/", b""), Err(RootfsError::IsADirectory(_))));
    assert_eq!(
        listing(&rootfs.take_changes()),
        [
            "d 755 0 /new",
            "d 755 0 /new/place",
            "f 644 0 /new/place/c",
            "d 755 0 /real",
            "f 644 0 /real/a",
            "f 644 0 /real/b"
        ]
    );
}

#[test]
fn the_last_component_is_replaced_and_never_written_through() {
    let mut rootfs = stage(vec![sealed("f passwd; l link passwd; d dir; f dir/x; l linked dir")]);
    put(&mut rootfs, "link", b"new").unwrap();
    rootfs.put_directory(&path("linked"), &attributes(0o711)).unwrap();
    put(&mut rootfs, "dir", b"file now").unwrap();
    assert_eq!(rootfs.stat(&path("dir/x"), false).unwrap(), None);
    assert_eq!(listing(&rootfs.take_changes()), ["f 644 0 /dir", "f 644 0 /link", "d 711 0 /linked"]);
}

#[test]
fn a_removed_directory_that_is_made_again_is_empty() {
    let mut rootfs = stage(vec![sealed("d dir; f dir/x")]);
    put(&mut rootfs, "dir/y", b"").unwrap();
    rootfs.remove(&path("dir")).unwrap();
    assert!(matches!(rootfs.remove(&path("dir")), Err(RootfsError::NotFound(_))));
    rootfs.create_directories(&path("dir/z"), &attributes(0o750)).unwrap();
    assert_eq!(rootfs.read_directory(&path("dir")).unwrap(), [b"z"]);
    assert_eq!(listing(&rootfs.take_changes()), ["d 750 0 /dir opaque", "d 750 0 /dir/z"]);
    // What only the step made leaves no trace.
    put(&mut rootfs, "new", b"").unwrap();
    rootfs.remove(&path("new")).unwrap();
    assert!(rootfs.take_changes().is_empty());
}

#[test]
fn directories_that_exist_are_no_change() {
    let mut rootfs = stage(vec![sealed("d dir; l link /dir; f file")]);
    rootfs.create_directories(&path("dir"), &attributes(0o755)).unwrap();
    rootfs.create_directories(&path("link"), &attributes(0o755)).unwrap();
    rootfs.create_directories(&RootPath::root(), &attributes(0o755)).unwrap();
    let same = Attributes { mode: 0o700, owner: Owner { uid: 5, gid: 6 }, mtime: Some(OLD) };
    rootfs.put_directory(&path("dir"), &same).unwrap();
    assert!(matches!(
        rootfs.create_directories(&path("file/x"), &attributes(0o755)),
        Err(RootfsError::NotADirectory(at)) if at == path("file")
    ));
    assert!(rootfs.take_changes().is_empty());
    rootfs.put_directory(&RootPath::root(), &attributes(0o700)).unwrap();
    assert_eq!(listing(&rootfs.take_changes()), ["d 700 0 /"]);
}

#[test]
fn small_files_stay_in_memory_and_large_ones_go_to_the_spool() {
    let mut rootfs = stage(Vec::new());
    let large: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    put(&mut rootfs, "small", &large[..1000]).unwrap();
    let mut writer = rootfs.put_file(&path("large"), &attributes(0o600)).unwrap();
    large.chunks(7000).for_each(|chunk| writer.write(chunk).unwrap());
    rootfs.finish_file(writer).unwrap();
    drop(rootfs.put_file(&path("dropped"), &attributes(0o600)).unwrap());
    assert_eq!(rootfs.read_file(&path("large"), 1 << 20).unwrap(), large);
    assert!(matches!(rootfs.read_file(&path("large"), 199_999), Err(RootfsError::TooLarge { .. })));
    let changes = rootfs.take_changes().changes;
    assert_eq!(changes.len(), 2);
    let content = |name| match &changes[&path(name)] {
        Change::Put { content: Some(content), metadata, .. } => (content.clone(), metadata.size_bytes()),
        _ => panic!(),
    };
    assert!(matches!(content("small"), (crate::Content::Bytes(_), 1000)));
    assert!(matches!(content("large"), (crate::Content::Spool { size: 200_000, .. }, 200_000)));
}

#[test]
fn kept_contents_are_read_without_unpacking_and_others_from_the_unpacked_layer() {
    let Layer { index, .. } = sealed("d etc; f etc/passwd; f etc/other");
    let mut index = LayerIndex::clone(&index);
    index.contents.insert(path("etc/passwd"), b"abc".to_vec());
    let rootfs = stage(vec![Layer { index: Arc::new(index.clone()), contents: Arc::new(Sealed) }]);
    assert_eq!(rootfs.read_file(&path("etc/passwd"), 3).unwrap(), b"abc");
    let real = tempfile::tempdir().unwrap();
    std::fs::create_dir(real.path().join("etc")).unwrap();
    std::fs::write(real.path().join("etc/other"), "xyz").unwrap();
    let contents = Arc::new(Unpacked(Arc::new(ConfinedDir::open(real.path()).unwrap())));
    let rootfs = stage(vec![Layer { index: Arc::new(index), contents }]);
    assert_eq!(rootfs.read_file(&path("etc/other"), 3).unwrap(), b"xyz");
}

#[test]
fn a_pushed_layer_is_what_the_step_made() {
    let mut rootfs = stage(vec![sealed("d dir; f dir/x")]);
    put(&mut rootfs, "dir/y", b"y").unwrap();
    rootfs.remove(&path("dir/x")).unwrap();
    let changes = rootfs.take_changes();
    assert_eq!(rootfs.read_directory(&path("dir")).unwrap(), [b"x"]);
    rootfs.push_layer(Arc::new(changes.index()), Arc::new(Sealed));
    assert_eq!(rootfs.read_directory(&path("dir")).unwrap(), [b"y"]);
    assert_eq!(rootfs.below().layers().count(), 2);
    assert!(!rootfs.is_changed());
}

#[test]
fn hard_links_have_their_content_at_the_first_name_whatever_happens_to_it() {
    let mut rootfs = stage(vec![sealed("f below")]);
    put(&mut rootfs, "m", b"m").unwrap();
    rootfs.put_hard_link(&path("z"), &path("m")).unwrap();
    rootfs.put_hard_link(&path("a"), &path("z")).unwrap();
    rootfs.put_hard_link(&path("linked"), &path("below")).unwrap();
    rootfs.set_xattr(&path("z"), b"user.note", b"1").unwrap();
    assert!(rootfs.identity(&path("a")).unwrap().is_some());
    assert_eq!(rootfs.identity(&path("a")).unwrap(), rootfs.identity(&path("z")).unwrap());
    assert!(matches!(rootfs.put_hard_link(&path("b"), &path("none")), Err(RootfsError::NotFound(_))));
    let mut other = rootfs.clone();
    assert_eq!(
        listing(&rootfs.take_changes()),
        ["f 644 0 /a", "f 640 5 /below", "f 640 5 /linked = /below", "f 644 0 /m = /a", "f 644 0 /z = /a"]
    );
    other.remove(&path("a")).unwrap();
    other.remove(&path("below")).unwrap();
    let changes = other.take_changes();
    assert_eq!(listing(&changes), ["w /below", "f 640 5 /linked", "f 644 0 /m", "f 644 0 /z = /m"]);
    let Change::Put { metadata, .. } = &changes.changes[&path("m")] else { panic!() };
    assert_eq!(metadata.xattrs, BTreeMap::from([(b"user.note".to_vec(), b"1".to_vec())]));
}

#[test]
fn only_attributes_and_nodes_that_images_hold_can_be_made() {
    let mut rootfs = stage(vec![sealed("l link x")]);
    put(&mut rootfs, "file", b"").unwrap();
    for (name, attribute) in [("file", &b"user.overlay.opaque"[..]), ("file", b"security.selinux"), ("link", b"user.a")]
    {
        let refused = rootfs.set_xattr(&path(name), attribute, b"y");
        assert!(matches!(refused, Err(RootfsError::Unsupported { .. })), "{name} {attribute:?}");
    }
    for kind in [Kind::CharacterDevice { major: 0, minor: 0 }, Kind::Directory, Kind::Socket] {
        let refused = rootfs.put_node(&path("node"), kind.clone(), &attributes(0o600));
        assert!(matches!(refused, Err(RootfsError::Unsupported { .. })), "{kind:?}");
    }
    rootfs.put_node(&path("null"), Kind::CharacterDevice { major: 1, minor: 3 }, &attributes(0o666)).unwrap();
}

#[test]
fn a_copied_directory_brings_its_content() {
    let (_real, from) = source(|real| {
        write(real, "src/sub/file", 0o640);
        write(real, "src/run", 0o4755);
        chmod(&real.join("src"), 0o700);
        chmod(&real.join("src/sub"), 0o711);
        std::os::unix::fs::symlink("/etc/passwd", real.join("src/link")).unwrap();
        std::os::unix::fs::symlink("src", real.join("alias")).unwrap();
    });
    let mut rootfs = stage(vec![sealed("d there; d there/sub; f there/sub/old")]);
    // Made for the content: 0755 and the owner asked for; what is beneath has the source's modes.
    let copied = copy(&mut rootfs, &from, "alias", "made/here").unwrap();
    assert_eq!(copied, Copied { entries: 5, bytes: 19 });
    copy(&mut rootfs, &from, "src", "there").unwrap();
    copy(&mut rootfs, &from, "src/run", "there/renamed").unwrap();
    assert_eq!(text(&rootfs, "made/here/sub/file"), "src/sub/file");
    let changes = rootfs.take_changes();
    assert_eq!(
        listing(&changes),
        [
            "d 755 0 /made",
            "d 755 0 /made/here",
            "l 777 0 /made/here/link",
            "f 4755 0 /made/here/run",
            "d 711 0 /made/here/sub",
            "f 640 0 /made/here/sub/file",
            "d 700 5 /there",
            "l 777 0 /there/link",
            "f 4755 0 /there/renamed",
            "f 4755 0 /there/run",
            "d 711 0 /there/sub",
            "f 640 0 /there/sub/file",
        ]
    );
}

#[test]
fn owners_and_modes_are_changed_as_asked() {
    let (_real, from) = source(|real| {
        write(real, "src/sub/file", 0o640);
        chmod(&real.join("src/sub"), 0o700);
        std::os::unix::fs::symlink("x", real.join("src/link")).unwrap();
    });
    let mut rootfs = stage(Vec::new());
    let clause = ModeClause {
        who: Who::default(),
        operator: ModeOperator::Add,
        permissions: ModePermissions { read: true, execute_if: true, ..Default::default() },
    };
    for (name, owner, mode, keep_owner) in [
        ("exact", Some(Owner { uid: 1, gid: 1 }), Some(ModeChange::Exact(0o604)), false),
        ("symbolic", None, Some(ModeChange::Symbolic(vec![clause])), true),
    ] {
        let options = CopyOptions { owner, mode, keep_owner, exclude: None };
        rootfs.copy_tree(&from, &path("src"), &path(name), &options).unwrap();
    }
    assert_eq!(
        listing(&rootfs.take_changes()),
        [
            "d 755 1 /exact",
            "l 777 1 /exact/link",
            "d 604 1 /exact/sub",
            "f 604 1 /exact/sub/file",
            "d 755 0 /symbolic",
            "l 777 7 /symbolic/link",
            "d 755 7 /symbolic/sub",
            "f 644 7 /symbolic/sub/file",
        ]
    );
}

#[test]
fn excluded_directories_are_made_only_for_what_is_not_excluded_beneath() {
    let (_real, from) = source(|real| {
        write(real, "drop/file", 0o600);
        write(real, "drop/keep/file", 0o600);
        write(real, "gone/file", 0o600);
        chmod(&real.join("drop"), 0o711);
    });
    let mut rootfs = stage(Vec::new());
    let exclude = |path: &RootPath| {
        let text = path.to_string();
        (text.starts_with("/drop") || text.starts_with("/gone")) && text != "/drop/keep/file"
    };
    let options = CopyOptions { exclude: Some(&exclude), ..Default::default() };
    let copied = rootfs.copy_tree(&from, &RootPath::root(), &RootPath::root(), &options).unwrap();
    assert_eq!(copied.entries, 3);
    assert_eq!(listing(&rootfs.take_changes()), ["d 711 0 /drop", "d 755 0 /drop/keep", "f 600 0 /drop/keep/file"]);
}

#[test]
fn the_destination_is_resolved_and_beneath_it_nothing_is_written_through() {
    let (_real, from) = source(|real| {
        write(real, "tree/dir/file", 0o644);
        write(real, "tree/plain", 0o644);
        std::os::unix::fs::symlink("elsewhere", real.join("tree/turns")).unwrap();
    });
    let below = "d target; l dest /target; l target/dir /etc; d etc; l target/plain /etc/x; d target/turns; \
                 f target/turns/x; l file target/real; f target/real; l broken /nowhere/at";
    let mut rootfs = stage(vec![sealed(below)]);
    copy(&mut rootfs, &from, "tree", "dest").unwrap();
    copy(&mut rootfs, &from, "tree/plain", "file").unwrap();
    copy(&mut rootfs, &from, "tree/plain", "broken").unwrap();
    assert_eq!(
        listing(&rootfs.take_changes()),
        [
            "d 755 0 /nowhere",
            "f 644 0 /nowhere/at",
            "d 700 5 /target",
            "d 755 0 /target/dir",
            "f 644 0 /target/dir/file",
            "f 644 0 /target/plain",
            "f 644 0 /target/real",
            "l 777 0 /target/turns",
        ]
    );
    assert!(matches!(copy(&mut rootfs, &from, "tree", "etc/../target/real"), Err(RootfsError::NotADirectory(_))));
    assert!(matches!(copy(&mut rootfs, &from, "tree/plain", "etc"), Err(RootfsError::IsADirectory(_))));
    assert!(matches!(copy(&mut rootfs, &from, "none", "x"), Err(RootfsError::NotFound(_))));
}

#[test]
fn hard_links_are_kept_within_one_copy_and_sockets_left_out() {
    let (real, from) = source(|real| {
        write(real, "tree/b", 0o644);
        std::fs::hard_link(real.join("tree/b"), real.join("tree/a")).unwrap();
        std::fs::hard_link(real.join("tree/b"), real.join("outside")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, real.join("tree/pipe"), fifo, 0o600.into(), 0).unwrap();
    });
    let _socket = std::os::unix::net::UnixListener::bind(real.path().join("tree/socket")).unwrap();
    let mut rootfs = stage(Vec::new());
    let copied = copy(&mut rootfs, &from, "tree", "/").unwrap();
    assert_eq!(copied, Copied { entries: 3, bytes: 6 });
    copy(&mut rootfs, &from, "outside", "c").unwrap();
    assert_eq!(listing(&rootfs.take_changes()), ["f 644 0 /a", "f 644 0 /b = /a", "f 644 0 /c", "p 600 0 /pipe"]);
}

#[test]
fn copying_from_a_stage_reads_its_layers_and_its_symlinks_in_its_root() {
    let real = tempfile::tempdir().unwrap();
    std::fs::File::create(real.path().join("data")).unwrap().write_all(b"abc").unwrap();
    let Layer { index, .. } = sealed("f data; l link /data");
    let contents = Arc::new(Unpacked(Arc::new(ConfinedDir::open(real.path()).unwrap())));
    let from: Arc<dyn Tree> = Arc::new(stage(vec![Layer { index, contents }]));
    let mut rootfs = stage(Vec::new());
    let options = CopyOptions { keep_owner: true, ..Default::default() };
    rootfs.copy_tree(&from, &path("link"), &path("copy"), &options).unwrap();
    assert_eq!(text(&rootfs, "copy"), "abc");
    let changes = rootfs.take_changes();
    assert_eq!(listing(&changes), ["f 640 5 /copy"]);
    let Change::Put { metadata, .. } = &changes.changes[&path("copy")] else { panic!() };
    assert_eq!(metadata.mtime, OLD);
}

#[test]
fn names_that_are_not_utf8_are_copied() {
    let (_real, from) = source(|real| {
        let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"caf\xe9");
        std::fs::write(real.join(name), "x").unwrap();
    });
    let mut rootfs = stage(Vec::new());
    copy(&mut rootfs, &from, "/", "/").unwrap();
    assert_eq!(rootfs.read_directory(&RootPath::root()).unwrap(), [b"caf\xe9"]);
    assert_eq!(rootfs.read_file(&path(b"caf\xe9"), 9).unwrap(), b"x");
}
