//! The root of a command as a flat tree, for executors that can mount nothing: written before the first command of a step,
//! with a journal of what can't be true on this disk, and compared with the layers below when the step is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_exec::{DeviceNode, Journal, Recorded, Seen};
use cofferdam_image::{Store, TempDir};
use cofferdam_rootfs::{
    ChangeSet, ConfinedDir, HostEntry, Kind, LayerStack, Metadata, Owner, RootPath, RootfsError,
    flat::{self, Snapshot},
};

use crate::error::StepError;

/// The flat tree of a step's commands.
pub struct FlatRoot {
    directory: TempDir,
    snapshot: Snapshot,
}

impl FlatRoot {
    /// Writes the layers, and what a handler changed so far.
    ///
    /// # Errors
    /// A layer can't be had, or the machine refused.
    pub fn write(store: &Store, below: &Arc<LayerStack>, pending: &ChangeSet) -> Result<Self, StepError> {
        let directory = store.temp_dir("run")?;
        for name in ["tree", "scratch"] {
            store.make_directory(&directory.path().join(name))?;
        }
        let place = directory.path().join("tree");
        let tree = Arc::new(ConfinedDir::open(&place)?);
        let mut journal = Journal::default();
        let snapshot =
            flat::write(&tree, below, pending, |path, metadata| describe(&mut journal, &place, path, metadata))?;
        let root = Self { directory, snapshot };
        journal.save(&root.journal()).map_err(|source| storage("write the journal of a flat tree", source))?;
        Ok(root)
    }

    /// The tree.
    pub fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    /// Its journal.
    pub fn journal(&self) -> PathBuf {
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
        let tree = Arc::new(ConfinedDir::open(directory)?);
        let nothing = Arc::new(LayerStack::new(Vec::new()));
        self.in_journal(|journal| {
            flat::write(&tree, &nothing, changes, |path, metadata| describe(journal, directory, path, metadata))?;
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

    /// What the step changed.
    ///
    /// # Errors
    /// The tree or its journal can't be read.
    pub fn changes(&self, below: &LayerStack) -> Result<ChangeSet, StepError> {
        let place = self.tree();
        let journal =
            Journal::load(&self.journal()).map_err(|source| storage("read the journal of a flat tree", source))?;
        let recorded = |path: &RootPath, entry: &HostEntry| look(&journal, &place, path, entry);
        Ok(flat::changes(&Arc::new(ConfinedDir::open(&place)?), below, &recorded, &self.snapshot)?)
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

fn storage(action: &str, source: std::io::Error) -> RootfsError {
    RootfsError::Storage { action: action.to_owned(), source }
}

/// An entry of a tree whose directories are known.
fn seen(journal: &Journal, tree: &Path, path: &RootPath) -> Result<Seen, RootfsError> {
    let place = tree.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    journal.look_at(&place).map_err(|source| storage(&format!("look at `{}`", place.display()), source))
}

/// Records what an entry has that the disk has not.
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
    let seen = seen(journal, tree, path)?;
    let Owner { uid, gid } = metadata.owner;
    journal.set(&seen, Recorded { uid, gid, mode: metadata.mode, device, xattrs });
    Ok(())
}

/// What a journal says of an entry.
fn look(
    journal: &Journal,
    tree: &Path,
    path: &RootPath,
    entry: &HostEntry,
) -> Result<Option<flat::Recorded>, RootfsError> {
    if !journal.mentions(entry.inode) {
        return Ok(None);
    }
    let seen = seen(journal, tree, path)?;
    let Some(Recorded { uid, gid, mode, device, xattrs }) = journal.get(&seen) else { return Ok(None) };
    let device = device.map(|DeviceNode { block, major, minor }| match block {
        true => Kind::BlockDevice { major, minor },
        false => Kind::CharacterDevice { major, minor },
    });
    let xattrs: BTreeMap<Vec<u8>, Vec<u8>> = xattrs.clone();
    Ok(Some(flat::Recorded { owner: Owner { uid: *uid, gid: *gid }, mode: *mode, device, xattrs }))
}
