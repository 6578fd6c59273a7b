//! The same tests on a tree that is made of layers when somebody asks for it, and the proof that the journal has missed
//! nothing: afterwards everything that it calls untouched is looked at.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use cofferdam_exec::{Below, BelowEntry, BelowKind, DeviceNode, Journal, LayersBelow};

/// A layer that was unpacked by an ordinary user.
pub struct Layer {
    /// What is in it, as the image has it.
    table: Below,
    /// For the executor.
    pub below: LayersBelow,
}

impl Layer {
    /// Makes a layer of a directory, which becomes what an ordinary user unpacks: everything can be read and written by its
    /// owner, devices are empty files. `owned` says whether the owners on the disk are those of the image.
    pub fn of(directory: &Path, table_path: PathBuf, owned: bool) -> Self {
        let mut entries = BTreeMap::new();
        make_plain(directory, owned, &mut entries);
        let below = |path: &[u8]| {
            let path = directory.join(Path::new(std::ffi::OsStr::from_bytes(path)));
            let mut children: Vec<(Vec<u8>, BelowEntry)> = fs::read_dir(path)
                .expect("readable")
                .map(|found| found.expect("readable"))
                .filter_map(|found| Some((found.file_name().into_vec(), entries.get(&found.path())?.clone())))
                .collect();
            children.sort_by(|one, other| one.0.cmp(&other.0));
            children
        };
        let table = Below::gather(&entries[directory], below).expect("a table");
        table.save(&table_path).expect("writable");
        let below = LayersBelow { table: table_path, directories: vec![directory.to_owned()] };
        Self { table, below }
    }
}

fn entry(path: &Path, owned: bool) -> BelowEntry {
    let seen = path.symlink_metadata().expect("it exists");
    let device = |block| {
        let (major, minor) = (libc::major(seen.rdev()), libc::minor(seen.rdev()));
        BelowKind::Device(DeviceNode { block, major, minor })
    };
    let kind = match seen.file_type() {
        kind if kind.is_dir() => BelowKind::Directory,
        kind if kind.is_symlink() => {
            BelowKind::Symlink(fs::read_link(path).expect("a link").into_os_string().into_vec())
        }
        kind if kind.is_fifo() => BelowKind::Fifo,
        kind if kind.is_char_device() => device(false),
        kind if kind.is_block_device() => device(true),
        _ => BelowKind::File { size: seen.size(), layer: 0 },
    };
    let mut xattrs = BTreeMap::new();
    let mut value = [0; 64];
    if let Ok(length) = rustix::fs::lgetxattr(path, "user.x", &mut value) {
        xattrs.insert(b"user.x".to_vec(), value[..length].to_vec());
    }
    let (uid, gid) = if owned { (seen.uid(), seen.gid()) } else { (0, 0) };
    let mtime = (seen.mtime(), seen.mtime_nsec() as u32);
    BelowEntry { kind, uid, gid, mode: seen.mode() & 0o7777, mtime, xattrs, links: seen.nlink() as u32 }
}

/// Takes down what everything is, and makes it what an ordinary user can have.
fn make_plain(path: &Path, owned: bool, entries: &mut BTreeMap<PathBuf, BelowEntry>) {
    let seen = path.symlink_metadata().expect("it exists");
    let kind = seen.file_type();
    if !kind.is_socket() {
        entries.insert(path.to_owned(), entry(path, owned));
    }
    if kind.is_char_device() || kind.is_block_device() {
        fs::remove_file(path).expect("ours");
        fs::write(path, "").expect("writable");
    }
    let own = (Some(rustix::process::geteuid().as_raw()), Some(rustix::process::getegid().as_raw()));
    std::os::unix::fs::lchown(path, own.0, own.1).expect("ours");
    if kind.is_symlink() {
        return;
    }
    let least = if kind.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, PermissionsExt::from_mode(seen.mode() & 0o777 | least)).expect("ours");
    if kind.is_dir() {
        for found in fs::read_dir(path).expect("readable") {
            make_plain(&found.expect("readable").path(), owned, entries);
        }
    }
}

/// Looks at everything that a journal calls untouched, and at the layer itself.
pub fn check(layer: &Layer, tree: &Path, journal: &Path) {
    let mut journal = Journal::load(journal).expect("a journal");
    let layers = layer.below.directories.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
    journal.put_on(Below::load(&layer.below.table).expect("a table"), layers, tree).expect("a tree");
    check_directory(layer, &journal, tree);
    check_layer(layer, &layer.below.directories[0], 0);
}

fn check_directory(layer: &Layer, journal: &Journal, directory: &Path) {
    for found in fs::read_dir(directory).expect("the builder may read everything") {
        let path = found.expect("an entry").path();
        let seen = journal.look_at(&path).expect("it exists");
        let lazy = journal.lazy().expect("made of a layer");
        let on_disk = path.symlink_metadata().expect("it exists");
        if let Some(made) = lazy.get(seen.number(), seen.birth()) {
            let was = layer.table.entry(made.entry);
            if !made.filled {
                // Nobody has written to a stub: it is all zeroes.
                assert!(
                    fs::read(&path).expect("readable").iter().all(|&byte| byte == 0),
                    "a write to {path:?} was missed"
                );
            }
            // A fifo's time is that of the last write through it.
            if !made.changed && !matches!(was.kind, BelowKind::Directory | BelowKind::Fifo) {
                let size = if let BelowKind::File { size, .. } = was.kind { size } else { on_disk.size() };
                let now = (on_disk.size(), on_disk.mtime(), on_disk.mtime_nsec() as u32, on_disk.nlink());
                assert_eq!(now, (size, was.mtime.0, was.mtime.1, 1), "a change of {path:?} was missed");
                let mode = seen.mode & 0o7777;
                let owner = (seen.uid, seen.gid);
                let is_link = matches!(was.kind, BelowKind::Symlink(_));
                assert!(is_link || mode == was.mode, "a change of the mode of {path:?} was missed: {mode:o}, {was:?}");
                assert_eq!(owner, (was.uid, was.gid), "a change of the owner of {path:?} was missed");
                let mut value = [0; 64];
                let attribute =
                    rustix::fs::lgetxattr(&path, "user.x", &mut value).ok().map(|length| value[..length].to_vec());
                assert_eq!(
                    attribute.as_ref(),
                    was.xattrs.get(b"user.x".as_slice()),
                    "an attribute of {path:?} was missed"
                );
            }
        }
        if on_disk.is_dir() {
            check_directory(layer, journal, &path);
        }
    }
}

/// What is unpacked in the store is what it was, but for the time of the last look.
fn check_layer(layer: &Layer, directory: &Path, number: u32) {
    for child in layer.table.children(number) {
        let path = directory.join(Path::new(std::ffi::OsStr::from_bytes(layer.table.name(child))));
        let was = layer.table.entry(child);
        let now = path.symlink_metadata().expect("it is still there");
        if let BelowKind::File { size, .. } = was.kind {
            assert_eq!(
                (now.size(), now.mtime(), now.mtime_nsec() as u32),
                (size, was.mtime.0, was.mtime.1),
                "{path:?}"
            );
            assert_eq!(now.mode() & 0o7777, was.mode & 0o777 | 0o600, "{path:?}");
        }
        if was.kind == BelowKind::Directory {
            check_layer(layer, &path, child);
        }
    }
    let there = fs::read_dir(directory).expect("readable").count();
    assert_eq!(there, layer.table.children(number).len(), "{directory:?}");
}
