//! The root of a step's commands for executors that can mount nothing: a tree over the unpacked layers in which a name is
//! made when somebody asks for it, with a journal of what can't be true on this disk.
#![allow(clippy::disallowed_methods, reason = "a tree and a cache of this process, in places that the store gave it")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_exec::{Below, BelowEntry, BelowKind, DeviceNode, Journal, LayersBelow, Lazy, Recorded, Root, Seen};
use cofferdam_image::{Store, TempDir};
use cofferdam_rootfs::{
    Change, ChangeSet, ConfinedDir, HostEntry, IndexEntry, Kind, Layer, LayerContents, LayerIndex, LayerStack,
    MergedIndex, Metadata, Owner, RootPath, RootfsError, UnpackForm, Unpacker,
    flat::{self, FlatJournal, Looked, Origin},
};

use crate::error::StepError;

/// The tree of a step's commands.
pub struct FlatRoot {
    directory: TempDir,
    below: LayersBelow,
    /// The layers below, and what the handler itself changed so far as one more.
    made_of: Arc<LayerStack>,
    /// What the handler itself changed so far.
    pending: ChangeSet,
}

impl FlatRoot {
    /// Begins a tree: `below` and where its layers are unpacked, and what a handler changed so far.
    ///
    /// # Errors
    /// The machine refused.
    pub fn begin(
        store: &Store,
        below: &Arc<LayerStack>,
        mut directories: Vec<PathBuf>,
        pending: ChangeSet,
    ) -> Result<Self, StepError> {
        let directory = store.temp_dir("run")?;
        let place = |name: &str| directory.path().join(name);
        for name in ["tree", "scratch", "pending", "settled"] {
            store.make_directory(&place(name))?;
        }
        let mut made_of = below.clone();
        if !pending.is_empty() {
            let written = Arc::new(ConfinedDir::open(&place("pending"))?);
            let mut unpacker = Unpacker::new(written.clone(), UnpackForm::Plain);
            unpacker.change_set(&pending)?;
            unpacker.finish()?;
            directories.push(place("pending"));
            let layer = Layer { index: Arc::new(pending.index()), contents: Arc::new(Written(written)) };
            made_of = Arc::new(below.with(layer));
        }
        let table = gather(made_of.index()).map_err(|source| storage("gather what the layers have", source))?;
        let table_path = place("below");
        table.save(&table_path).map_err(|source| storage("write what the layers have", source))?;
        let tree = ConfinedDir::open(&place("tree"))?;
        if let Some(root) = made_of.index().lookup(&RootPath::root()).map(|found| found.to_metadata()) {
            tree.set_mode(&RootPath::root(), root.mode & 0o777 | 0o700)?;
            tree.set_mtime(&RootPath::root(), root.mtime)?;
        }
        let root = Self { directory, below: LayersBelow { table: table_path, directories }, made_of, pending };
        if !root.pending.is_empty() {
            let journal = root.load(Some(table))?;
            for path in root.pending.changes.keys() {
                let made = journal.make_path(path.as_bytes());
                made.map_err(|source| storage(&format!("make `{path}` in a flat tree"), source))?;
            }
            journal.save(&root.journal()).map_err(|source| storage("write the journal of a flat tree", source))?;
        }
        Ok(root)
    }

    /// As a command gets it.
    pub fn root(&self) -> Root {
        Root::Flat { directory: self.tree(), journal: self.journal(), below: Some(self.below.clone()) }
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// For what lives as long as a command.
    pub fn scratch(&self) -> PathBuf {
        self.directory.path().join("scratch")
    }

    /// Writes something beside the tree, which a command may see in it; owners and the like are in the same journal.
    ///
    /// # Errors
    /// A content can't be had, or the machine refused.
    pub fn write_beside(&self, directory: &Path, changes: &ChangeSet) -> Result<(), StepError> {
        let mut unpacker = Unpacker::new(Arc::new(ConfinedDir::open(directory)?), UnpackForm::Plain);
        unpacker.change_set(changes)?;
        unpacker.finish()?;
        self.in_journal(|journal| {
            for (path, change) in &changes.changes {
                if let Change::Put { metadata, hard_link: None, .. } = change {
                    describe(journal, directory, path, metadata)?;
                }
            }
            Ok(())
        })
    }

    /// Says whose a file beside the tree is.
    ///
    /// # Errors
    /// The file or the journal can't be read.
    pub fn give(&self, file: &Path, owner: Owner, mode: u32) -> Result<(), StepError> {
        self.in_journal(|journal| {
            let looked = journal.look_at(file);
            let seen = looked.map_err(|source| storage(&format!("look at `{}`", file.display()), source))?;
            let (uid, gid) = (owner.uid, owner.gid);
            journal.set(&seen, Recorded { uid, gid, mode, device: None, xattrs: BTreeMap::new() });
            Ok(())
        })
    }

    /// Takes over what another journal says of files on the same file system.
    ///
    /// # Errors
    /// A journal can't be read or written.
    pub fn remember(&self, file: &Path) -> Result<(), StepError> {
        let other = Journal::load(file).map_err(|source| storage("read the journal of a cache", source))?;
        self.in_journal(|journal| {
            journal.extend(other);
            Ok(())
        })
    }

    /// Writes what is recorded of the files in a directory to another journal.
    ///
    /// # Errors
    /// The directory can't be read, or a journal can't be read or written.
    pub fn remind(&self, directory: &Path, file: &Path) -> Result<(), StepError> {
        let journal =
            Journal::load(&self.journal()).map_err(|source| storage("read the journal of a flat tree", source))?;
        let mut inodes = BTreeSet::new();
        inodes_of(directory, &mut inodes).map_err(|source| storage("read a cache", source))?;
        let kept = journal.only(&inodes);
        let fresh = file.with_extension("new");
        let saved = kept.save(&fresh).and_then(|()| std::fs::rename(&fresh, file));
        Ok(saved.map_err(|source| storage("write the journal of a cache", source))?)
    }

    fn in_journal(&self, change: impl FnOnce(&mut Journal) -> Result<(), StepError>) -> Result<(), StepError> {
        let file = self.journal();
        let mut journal = Journal::load(&file).map_err(|source| storage("read the journal of a flat tree", source))?;
        change(&mut journal)?;
        Ok(journal.save(&file).map_err(|source| storage("write the journal of a flat tree", source))?)
    }

    fn load(&self, table: Option<Below>) -> Result<Journal, StepError> {
        let failed = |source| storage("read the journal of a flat tree", source);
        let mut journal = Journal::load(&self.journal()).map_err(failed)?;
        let table = table.map_or_else(|| Below::load(&self.below.table), Ok).map_err(failed)?;
        let layers = self.below.directories.iter().map(|layer| layer.as_os_str().as_bytes().to_vec()).collect();
        journal.put_on(table, layers, &self.tree()).map_err(failed)?;
        Ok(journal)
    }

    /// What the step changed.
    ///
    /// # Errors
    /// The tree or its journal can't be read.
    pub fn changes(&self, below: &LayerStack) -> Result<ChangeSet, StepError> {
        let known = Known { journal: self.load(None)?, tree: self.tree(), pending: &self.pending };
        Ok(flat::changes(&Arc::new(ConfinedDir::open(&self.tree())?), below, &self.made_of, &known)?)
    }

    /// Makes of the tree what unpacking its layer would give, and answers where that is.
    ///
    /// # Errors
    /// The machine refused.
    pub fn settle(&self, index: &LayerIndex) -> Result<PathBuf, StepError> {
        let known = Known { journal: self.load(None)?, tree: self.tree(), pending: &self.pending };
        let settled = self.directory.path().join("settled");
        let into = Arc::new(ConfinedDir::open(&settled)?);
        flat::settle(&ConfinedDir::open(&self.tree())?, index, &self.made_of, &known, into)?;
        Ok(settled)
    }
}

/// A directory that holds a layer's files already.
struct Written(Arc<ConfinedDir>);

impl LayerContents for Written {
    fn directory(&self) -> Result<Arc<ConfinedDir>, RootfsError> {
        Ok(self.0.clone())
    }
}

fn inodes_of(path: &Path, inodes: &mut BTreeSet<u64>) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = path.symlink_metadata()?;
    inodes.insert(metadata.ino());
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            inodes_of(&entry?.path(), inodes)?;
        }
    }
    Ok(())
}

/// Records what the disk can't have of an entry that was just written.
fn describe(journal: &mut Journal, tree: &Path, path: &RootPath, metadata: &Metadata) -> Result<(), RootfsError> {
    let device = match metadata.kind {
        Kind::CharacterDevice { major, minor } => Some(DeviceNode { block: false, major, minor }),
        Kind::BlockDevice { major, minor } => Some(DeviceNode { block: true, major, minor }),
        _ => None,
    };
    let link = matches!(metadata.kind, Kind::Symlink { .. });
    let on_disk = metadata.mode & 0o777 | if metadata.is_directory() { 0o700 } else { 0o600 };
    let mut xattrs = metadata.xattrs.clone();
    xattrs.retain(|name, _| !name.starts_with(b"user."));
    let ordinary = metadata.owner == Owner::default() && (link || metadata.mode == on_disk);
    if ordinary && device.is_none() && xattrs.is_empty() {
        return Ok(());
    }
    let place = tree.join(Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())));
    let seen = journal.look_at(&place).map_err(|source| storage(&format!("look at `{}`", place.display()), source))?;
    let Owner { uid, gid } = metadata.owner;
    journal.set(&seen, Recorded { uid, gid, mode: metadata.mode, device, xattrs });
    Ok(())
}

fn storage(action: &str, source: std::io::Error) -> RootfsError {
    RootfsError::Storage { action: action.to_owned(), source }
}

/// All that a stack has, in the form in which the executor searches it.
fn gather(index: &MergedIndex) -> std::io::Result<Below> {
    // How many names a file has in its layer, by the first of them.
    let mut links: HashMap<(usize, RootPath), u32> = HashMap::new();
    for (number, layer) in index.layers().iter().enumerate() {
        for (_, entry) in layer.entries.iter() {
            if let IndexEntry::Present { hard_link: Some(first), .. } = entry {
                *links.entry((number, first)).or_insert(1) += 1;
            }
        }
    }
    let entry = |path: &RootPath| {
        let found = index.lookup(path)?;
        let links =
            links.get(&(found.layer, found.hard_link.clone().unwrap_or_else(|| path.clone()))).copied().unwrap_or(1);
        Some(below_entry(found.to_metadata(), found.layer, links))
    };
    let root = RootPath::root();
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let first = entry(&root).ok_or_else(missing)?;
    Below::gather(&first, |path| {
        let Ok(directory) = RootPath::new(path) else { return Vec::new() };
        let child = |name: Vec<u8>| Some((entry(&directory.child(&name).ok()?)?, name));
        index.children(&directory).into_iter().filter_map(child).map(|(entry, name)| (name, entry)).collect()
    })
}

fn below_entry(metadata: Metadata, layer: usize, links: u32) -> BelowEntry {
    let kind = match metadata.kind {
        Kind::Directory => BelowKind::Directory,
        Kind::File { size } => BelowKind::File { size, layer: layer as u32 },
        Kind::Symlink { target } => BelowKind::Symlink(target),
        Kind::Fifo => BelowKind::Fifo,
        Kind::CharacterDevice { major, minor } => BelowKind::Device(DeviceNode { block: false, major, minor }),
        Kind::BlockDevice { major, minor } => BelowKind::Device(DeviceNode { block: true, major, minor }),
        // Layers hold none.
        Kind::Socket => BelowKind::Fifo,
    };
    BelowEntry {
        kind,
        uid: metadata.owner.uid,
        gid: metadata.owner.gid,
        mode: metadata.mode,
        mtime: (metadata.mtime.seconds, metadata.mtime.nanoseconds),
        xattrs: metadata.xattrs,
        links,
    }
}

/// A journal that was written by an executor, for the crate that reads trees.
struct Known<'r> {
    journal: Journal,
    tree: PathBuf,
    pending: &'r ChangeSet,
}

impl Known<'_> {
    fn origin(&self, path: &RootPath, seen: &Seen, lazy: &Lazy) -> Option<Origin> {
        let made = lazy.get(seen.number(), seen.birth())?;
        let pending = self.pending.changes.get(path);
        Some(Origin {
            number: made.entry,
            path: RootPath::new(lazy.below().path(made.entry)).ok()?,
            is_stub: !made.filled,
            // What the handler itself changed is a change.
            is_untouched: !made.changed && pending.is_none(),
            is_opaque: matches!(pending, Some(Change::Put { opaque: true, .. })),
        })
    }
}

impl FlatJournal for Known<'_> {
    fn look(&self, path: &RootPath, entry: &HostEntry) -> Result<Looked, RootfsError> {
        if !self.journal.mentions(entry.inode) {
            return Ok(Looked::default());
        }
        let place = self.tree.join(Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())));
        let seen = self.journal.look_at(&place);
        let seen = seen.map_err(|source| storage(&format!("look at `{}`", place.display()), source))?;
        let recorded = self.journal.get(&seen).map(|Recorded { uid, gid, mode, device, xattrs }| {
            let device = device.map(|DeviceNode { block, major, minor }| match block {
                true => Kind::BlockDevice { major, minor },
                false => Kind::CharacterDevice { major, minor },
            });
            let xattrs: BTreeMap<Vec<u8>, Vec<u8>> = xattrs.clone();
            flat::Recorded { owner: Owner { uid: *uid, gid: *gid }, mode: *mode, device, xattrs }
        });
        let origin = self.journal.lazy().and_then(|lazy| self.origin(path, &seen, lazy));
        Ok(Looked { recorded, origin })
    }

    fn is_waiting(&self, directory: u32, name: &[u8]) -> bool {
        self.journal.lazy().is_some_and(|lazy| lazy.is_waiting(directory, name))
    }
}
