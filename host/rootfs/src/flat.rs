//! A stage's whole file system in one directory, for executors that can mount nothing.
//!
//! Everything in it belongs to the builder's own user. What of it is not true on the disk (owners, modes, devices,
//! attributes of the system) is in a journal that somebody else keeps: here it is a function.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    Change, ChangeSet, ConfinedDir, Content, HostEntry, Kind, LayerStack, Metadata, Owner, RootPath, RootfsError,
    Timestamp, Tree, UnpackForm, Unpacker, upper,
};

/// What a journal says of an entry.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// As the image has it.
    pub owner: Owner,
    /// 0o7777 at most.
    pub mode: u32,
    /// The device that an empty file stands for.
    pub device: Option<Kind>,
    /// The attributes that are not on the disk.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Asks a journal for an entry of the tree.
pub type Record<'r> = dyn Fn(&RootPath, &HostEntry) -> Result<Option<Recorded>, RootfsError> + 'r;

/// What a tree was like before a command.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Inode numbers of directories.
    directories: HashMap<RootPath, u64>,
    /// Nothing was changed after this moment, by the clock of the file system.
    pub since: Timestamp,
}

/// What a walk over a flat tree needs to know.
pub(crate) struct Flat<'f> {
    pub recorded: &'f Record<'f>,
    pub snapshot: &'f Snapshot,
}

impl Flat<'_> {
    /// Whether a directory is the one that was unpacked there. A new one may have got its number, but not its birth.
    pub fn is_same_directory(
        &self,
        path: &RootPath,
        entry: &HostEntry,
        tree: &ConfinedDir,
    ) -> Result<bool, RootfsError> {
        if self.snapshot.directories.get(path) != Some(&entry.inode) {
            return Ok(false);
        }
        Ok(tree.birth(path)?.is_none_or(|birth| birth < self.snapshot.since))
    }
}

/// Writes a stack of layers, and what a step changed on top of it, into an empty directory. `describe` is told of each
/// entry when all are there, the root first, to begin a journal with.
///
/// # Errors
/// A content can't be had, or the machine failed.
pub fn write(
    tree: &Arc<ConfinedDir>,
    stack: &Arc<LayerStack>,
    pending: &ChangeSet,
    mut describe: impl FnMut(&RootPath, &Metadata) -> Result<(), RootfsError>,
) -> Result<Snapshot, RootfsError> {
    let whole = merge(stack, pending)?;
    let mut unpacker = Unpacker::new(tree.clone(), UnpackForm::Plain);
    unpacker.change_set(&whole)?;
    unpacker.finish()?;
    for (path, change) in &whole.changes {
        if let Change::Put { metadata, hard_link: None, .. } = change {
            describe(path, metadata)?;
        }
    }
    let mut directories = HashMap::new();
    for (path, change) in &whole.changes {
        if let Change::Put { metadata, .. } = change
            && metadata.is_directory()
            && let Some(entry) = tree.entry(path)?
        {
            directories.insert(path.clone(), entry.inode);
        }
    }
    // The last thing that was made, so nothing of the tree is younger.
    let marker = RootPath::new(".cofferdam-snapshot")?;
    let before = tree.entry(&RootPath::root())?;
    tree.create_file(&marker)?;
    let since = tree.entry(&marker)?.map_or(Timestamp::default(), |entry| entry.ctime);
    tree.remove_all(&marker)?;
    if let Some(before) = before {
        tree.set_mtime(&RootPath::root(), before.metadata.mtime)?;
    }
    Ok(Snapshot { directories, since })
}

/// The whole of a stack with changes on top, as changes to nothing.
fn merge(stack: &Arc<LayerStack>, pending: &ChangeSet) -> Result<ChangeSet, RootfsError> {
    let mut below: BTreeMap<RootPath, Metadata> = BTreeMap::new();
    let root = RootPath::root();
    if let Some(found) = stack.index().lookup(&root) {
        below.insert(root, found.to_metadata());
    }
    stack.index().for_each(|path, found| {
        below.insert(path.clone(), found.to_metadata());
    });
    for (path, change) in &pending.changes {
        let keeps_what_is_in_it = match change {
            Change::Remove => false,
            Change::Put { metadata, opaque, .. } => metadata.is_directory() && !opaque,
        };
        if !keeps_what_is_in_it {
            let end = RootPath::after_everything_beneath(path);
            let gone = (std::ops::Bound::Excluded(path), std::ops::Bound::Excluded(&end));
            let gone: Vec<RootPath> = below.range(gone).map(|(path, _)| path.clone()).collect();
            for path in gone {
                below.remove(&path);
            }
        }
        below.remove(path);
    }
    let mut whole = ChangeSet::default();
    let mut first_names: HashMap<u64, RootPath> = HashMap::new();
    let tree: Arc<dyn Tree> = stack.clone();
    for (path, metadata) in below {
        let identity = if metadata.is_file() { stack.identity(&path)? } else { None };
        let hard_link = identity.and_then(|identity| first_names.get(&identity).cloned());
        if let (Some(identity), None) = (identity, &hard_link) {
            first_names.insert(identity, path.clone());
        }
        let content = (metadata.is_file() && hard_link.is_none())
            .then(|| Content::Tree { tree: tree.clone(), path: path.clone() });
        whole.changes.insert(path, Change::Put { metadata, content, hard_link, opaque: false });
    }
    for (path, change) in &pending.changes {
        if let Change::Put { .. } = change {
            whole.changes.insert(path.clone(), change.clone());
        }
    }
    Ok(whole)
}

/// What a command changed in a tree that [`write`] made from `below` (and changes that count as the command's). `recorded`
/// asks the journal; the rules are those of [`upper::changes`].
///
/// # Errors
/// The tree can't be read, or a layer's content can't be had.
pub fn changes(
    tree: &Arc<ConfinedDir>,
    below: &LayerStack,
    recorded: &Record<'_>,
    snapshot: &Snapshot,
) -> Result<ChangeSet, RootfsError> {
    upper::flat_changes(tree, below, &Flat { recorded, snapshot }, &[])
}
