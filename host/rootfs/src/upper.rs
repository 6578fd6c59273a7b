//! From the upper directory of an overlay mount to the changes of a step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Read},
    mem,
    sync::Arc,
};

use crate::{
    Change, ChangeSet, ConfinedDir, Content, DirectoryTree, HostEntry, IndexEntry, Kind, LayerIndex, LayerStack,
    MergedIndex, Metadata, Owner, RootPath, RootfsError, Tree,
    confined::is_opaque,
    flat::{Flat, Looked},
    is_image_xattr,
};

/// Whose the entries of an upper directory are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerSource {
    /// The owners are those of the image: the mount was made as root, or in a user namespace with a full range of ids.
    Real,
    /// Everything belongs to the one id that the user namespace has. What exists below, and is of the same kind, keeps its
    /// owner; all else belongs to 0:0.
    SingleId,
}

/// What a RUN changed: reads the upper directory of an overlay mount whose lower directories are the layers of `below`,
/// and nothing else. File contents stay there; the change set reads them when the layer is written.
///
/// The mount has `userxattr` (then markers are `user.overlay.*`) or is a privileged one (`trusted.overlay.*`), without
/// `redirect_dir` and `metacopy`. A whiteout is a character device 0:0, an opaque directory has the attribute
/// `overlay.opaque` with the value `y` (Linux, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
/// directories").
///
/// What was copied up but differs in nothing is no change; a directory's mtime alone never is one. Names of one file stay
/// hard links. Sockets are left out, since layers can't hold them.
///
/// `leave_out` are mount points that the executor made: files and removals there are no changes; directories are one only
/// if something beneath them is.
///
/// # Errors
/// The directory can't be read, or was written with `redirect_dir` or `metacopy` on.
pub fn changes(
    upper: &Arc<ConfinedDir>,
    below: &MergedIndex,
    owners: OwnerSource,
    leave_out: &[RootPath],
) -> Result<ChangeSet, RootfsError> {
    walk(upper, below, None, owners, leave_out)
}

/// As [`changes`], but a file that was copied up and differs in nothing from the one below is compared byte by byte: a command
/// may have written other bytes of the same number, and set the time back.
///
/// # Errors
/// As [`changes`]; or a layer's content can't be had.
pub fn compared_changes(
    upper: &Arc<ConfinedDir>,
    below: &LayerStack,
    owners: OwnerSource,
    leave_out: &[RootPath],
) -> Result<ChangeSet, RootfsError> {
    walk(upper, below.index(), Some(below), owners, leave_out)
}

fn walk(
    upper: &Arc<ConfinedDir>,
    below: &MergedIndex,
    contents: Option<&LayerStack>,
    owners: OwnerSource,
    leave_out: &[RootPath],
) -> Result<ChangeSet, RootfsError> {
    Ok(Walk::new(upper, below, contents, owners, leave_out, None).run()?.finish())
}

/// What a command changed in a flat tree; see [`crate::flat`].
pub(crate) fn flat_changes(
    tree: &Arc<ConfinedDir>,
    below: &LayerStack,
    flat: &Flat<'_>,
) -> Result<ChangeSet, RootfsError> {
    Ok(Walk::new(tree, below.index(), Some(below), OwnerSource::Real, &[], Some(flat)).run()?.finish())
}

/// Makes an upper directory, whose layer was written, into what unpacking that layer would give: times are those of
/// `index`, and mount points that the executor made (`leave_out`) are gone where nothing came into them. So a later command
/// sees the same whether this step ran or was found in a cache.
///
/// # Errors
/// The machine refused.
pub fn settle(upper: &ConfinedDir, index: &LayerIndex, leave_out: &[RootPath]) -> Result<(), RootfsError> {
    let mut stubs: Vec<&RootPath> = leave_out.iter().filter(|path| !index.entries.contains(path)).collect();
    // The deepest first: a directory may become empty by it. A directory that was only copied up for a stub goes too.
    stubs.sort_by(|one, other| other.cmp(one));
    for stub in stubs {
        let mut next = Some((*stub).clone());
        while let Some(path) = next.take().filter(|path| !path.is_root() && !index.entries.contains(path)) {
            let Some(entry) = upper.entry(&path)? else { break };
            if entry.metadata.is_directory() && !upper.read_directory(&path)?.is_empty() {
                break;
            }
            upper.remove_all(&path)?;
            next = path.parent();
        }
    }
    for (path, entry) in index.entries.iter_rev() {
        if let IndexEntry::Present { metadata, .. } = entry
            && upper.entry(&path)?.is_some()
        {
            upper.set_mtime(&path, metadata.mtime)?;
        }
    }
    Ok(())
}

/// Gives an empty upper directory what the root of the layers below has: overlayfs shows the topmost layer's.
///
/// # Errors
/// The machine refused.
pub fn prepare(upper: &ConfinedDir, below: &MergedIndex, owners: OwnerSource) -> Result<(), RootfsError> {
    let root = RootPath::root();
    let metadata = below.lookup(&root).map_or_else(crate::merged::implicit_directory, |found| found.to_metadata());
    if owners == OwnerSource::Real {
        upper.set_owner(&root, metadata.owner)?;
    }
    upper.set_mode(&root, metadata.mode)?;
    upper.set_mtime(&root, metadata.mtime)
}

struct Walk<'u> {
    upper: &'u Arc<ConfinedDir>,
    tree: Arc<dyn Tree>,
    below: &'u MergedIndex,
    contents: Option<&'u LayerStack>,
    owners: OwnerSource,
    leave_out: BTreeSet<&'u RootPath>,
    changes: BTreeMap<RootPath, Change>,
    /// They count once something beneath them has changed.
    unchanged_directories: BTreeMap<RootPath, Change>,
    /// Files with several names, by device and inode.
    linked: HashMap<(u64, u64), BTreeMap<RootPath, LinkedName>>,
    /// Set if the directory is no upper one but the whole tree, as far as somebody has asked for it.
    flat: Option<&'u Flat<'u>>,
}

struct LinkedName {
    metadata: Metadata,
    /// Differs from what is below.
    changed: bool,
    /// There is a file below.
    was_file: bool,
    content: Content,
}

impl<'u> Walk<'u> {
    fn new(
        upper: &'u Arc<ConfinedDir>,
        below: &'u MergedIndex,
        contents: Option<&'u LayerStack>,
        owners: OwnerSource,
        leave_out: &'u [RootPath],
        flat: Option<&'u Flat<'u>>,
    ) -> Self {
        Self {
            upper,
            tree: Arc::new(DirectoryTree::new(upper.clone())),
            below,
            contents,
            owners,
            leave_out: leave_out.iter().collect(),
            changes: BTreeMap::new(),
            unchanged_directories: BTreeMap::new(),
            linked: HashMap::new(),
            flat,
        }
    }

    fn run(mut self) -> Result<Self, RootfsError> {
        let root = RootPath::root();
        if let Some(entry) = self.upper.entry(&root)? {
            let was = self.below.lookup(&root).map(|found| found.to_metadata());
            let xattrs = self.upper.xattrs(&root, &Kind::Directory)?;
            let looked = self.look(&root, &entry)?;
            let metadata = self.as_in_image(self.recorded(&entry, xattrs, looked), was.as_ref());
            if was.is_some_and(|was| !is_same(&metadata, &was)) {
                self.changes.insert(root.clone(), put(metadata, None, false));
            }
        }
        // With each directory: whether the layers below show through in it.
        let mut ahead = vec![(root, true)];
        while let Some((directory, shows_through)) = ahead.pop() {
            let names = self.upper.read_directory(&directory)?;
            if let Some(flat) = self.flat.filter(|_| shows_through) {
                self.find_removed(flat, &directory, &names)?;
            }
            for name in names {
                let path = directory.child(&name)?;
                let Some(entry) = self.upper.entry(&path)? else { continue };
                if let Some(shows_through) = self.visit(&path, entry, shows_through)? {
                    ahead.push((path, shows_through));
                }
            }
        }
        Ok(self)
    }

    /// In a flat tree, what is gone is not there; in an upper directory, a whiteout is.
    fn find_removed(&mut self, flat: &Flat<'_>, directory: &RootPath, names: &[Vec<u8>]) -> Result<(), RootfsError> {
        let entry = self.upper.entry(directory)?;
        let looked = entry.map(|entry| flat.journal.look(directory, &entry)).transpose()?;
        let origin = looked.and_then(|looked| looked.origin);
        let is_waiting =
            |name: &[u8]| origin.as_ref().is_some_and(|origin| flat.journal.is_waiting(origin.number, name));
        let there: BTreeSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
        for name in self.below.children(directory) {
            let path = directory.child(&name)?;
            if !there.contains(name.as_slice()) && !is_waiting(&name) && !self.leave_out.contains(&path) {
                self.changes.insert(path, Change::Remove);
            }
        }
        Ok(())
    }

    /// What a flat tree's journal tells about an entry; nothing about one of an upper directory.
    fn look(&self, path: &RootPath, entry: &HostEntry) -> Result<Looked, RootfsError> {
        self.flat.map_or_else(|| Ok(Looked::default()), |flat| flat.journal.look(path, entry))
    }

    /// What a flat tree's journal has in place of what the disk has.
    fn recorded(&self, entry: &HostEntry, mut xattrs: BTreeMap<Vec<u8>, Vec<u8>>, looked: Looked) -> Metadata {
        let mut metadata = entry.metadata.clone();
        if self.flat.is_none() {
            return Metadata { xattrs, ..metadata };
        }
        metadata.owner = Owner::default();
        xattrs.retain(|name, _| name.starts_with(b"user."));
        if let Some(recorded) = looked.recorded {
            metadata.owner = recorded.owner;
            metadata.kind = recorded.device.unwrap_or(metadata.kind);
            if !matches!(metadata.kind, Kind::Symlink { .. }) {
                metadata.mode = recorded.mode;
            }
            xattrs.extend(recorded.xattrs);
        }
        Metadata { xattrs, ..metadata }
    }

    /// For a directory, answers whether the layers below show through in it.
    fn visit(&mut self, path: &RootPath, entry: HostEntry, shows_through: bool) -> Result<Option<bool>, RootfsError> {
        let left_out = self.leave_out.contains(path);
        let looked = self.look(path, &entry)?;
        let (content, origin) = (self.flat.and_then(|flat| flat.content(&looked)), looked.origin.clone());
        // What the layers have at this very path.
        let origin = origin.filter(|origin| shows_through && origin.path == *path);
        if !entry.metadata.is_directory() && origin.as_ref().is_some_and(|origin| origin.is_untouched) {
            return Ok(None);
        }
        let found = self.below.lookup(path).filter(|_| shows_through);
        let was = found.as_ref().map(|found| found.to_metadata());
        let whiteout = Kind::CharacterDevice { major: 0, minor: 0 };
        let xattrs = self.upper.xattrs(path, &entry.metadata.kind)?;
        let metadata = self.recorded(&entry, xattrs, looked);
        if metadata.kind == whiteout || metadata.kind == Kind::Socket {
            if was.is_some() && !left_out {
                self.changes.insert(path.clone(), Change::Remove);
            }
            return Ok(None);
        }
        refuse_redirects(path, &metadata.xattrs)?;
        // In a flat tree, another directory than the one that was unpacked hides what that one had.
        let marked = match self.flat {
            Some(_) => metadata.is_directory() && origin.as_ref().is_none_or(|origin| origin.is_opaque),
            None => is_opaque(&metadata.xattrs),
        };
        let identity = (entry.device, entry.inode);
        let metadata = self.as_in_image(metadata, was.as_ref());
        let mut changed = !was.as_ref().is_some_and(|was| is_same(&metadata, was));
        let has_bytes_of_below = content.is_some() && origin.is_some();
        let content = content.unwrap_or_else(|| self.content(path));
        if !changed && metadata.is_file() && !left_out && !has_bytes_of_below {
            changed = !self.has_same_content(path, &content)?;
        }
        if metadata.is_directory() {
            // overlayfs marks new directories too, where there is nothing to hide.
            let hides = marked && was.as_ref().is_some_and(|was| was.is_directory());
            let change = put(metadata, None, hides);
            if (changed || hides) && !left_out {
                self.changes.insert(path.clone(), change);
            } else {
                self.unchanged_directories.insert(path.clone(), change);
            }
            return Ok(Some(!marked && was.is_some_and(|was| was.is_directory())));
        }
        if left_out {
            return Ok(None);
        }
        if metadata.is_file() && entry.links > 1 {
            let was_file = was.is_some_and(|was| was.is_file());
            let name = LinkedName { metadata, changed, was_file, content };
            self.linked.entry(identity).or_default().insert(path.clone(), name);
        } else if changed {
            let content = metadata.is_file().then_some(content);
            self.changes.insert(path.clone(), put(metadata, content, false));
        }
        Ok(None)
    }

    /// Whether the bytes are those of the file below; `true` where that can't be compared.
    fn has_same_content(&self, path: &RootPath, content: &Content) -> Result<bool, RootfsError> {
        let Some(below) = self.contents else { return Ok(true) };
        let (mut above, mut below) = (content.open()?, below.open_resolved(path)?);
        let failed =
            |source| RootfsError::Storage { action: format!("compare `{path}` with the layers below"), source };
        let (mut one, mut other) = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]);
        loop {
            let read = fill(&mut above, &mut one).map_err(failed)?;
            if read != fill(&mut below, &mut other).map_err(failed)? || one[..read] != other[..read] {
                return Ok(false);
            }
            if read < COMPARED_BYTES {
                return Ok(true);
            }
        }
    }

    fn finish(mut self) -> ChangeSet {
        for names in mem::take(&mut self.linked).into_values() {
            if !names.values().any(|name| name.changed) {
                continue;
            }
            // One file has one owner. With a single id, the name that was copied up as it was knows it best.
            let best = names.values().min_by_key(|name| (name.changed, !name.was_file));
            let owner = best.map_or(Owner::default(), |name| name.metadata.owner);
            // A link needs its file in the same layer, so all names count once one does.
            let mut first: Option<RootPath> = None;
            for (path, LinkedName { metadata, content, .. }) in names {
                let metadata = Metadata { owner, ..metadata };
                let content = first.is_none().then_some(content);
                let hard_link = first.clone();
                first.get_or_insert_with(|| path.clone());
                self.changes.insert(path, Change::Put { metadata, content, hard_link, opaque: false });
            }
        }
        let changed: Vec<RootPath> = self.changes.keys().cloned().collect();
        for path in changed {
            let mut next = path.parent();
            while let Some(parent) = next {
                match self.unchanged_directories.remove(&parent) {
                    Some(directory) => self.changes.insert(parent.clone(), directory),
                    // Of a parent that is included already, so are its parents.
                    None => break,
                };
                next = parent.parent();
            }
        }
        ChangeSet { changes: self.changes }
    }

    /// What the image has of an entry, given what it had there.
    fn as_in_image(&self, mut metadata: Metadata, was: Option<&Metadata>) -> Metadata {
        let owner = match self.owners {
            OwnerSource::Real => metadata.owner,
            OwnerSource::SingleId => was
                .filter(|was| mem::discriminant(&was.kind) == mem::discriminant(&metadata.kind))
                .map_or(Owner::default(), |was| was.owner),
        };
        metadata.xattrs.retain(|name, _| is_image_xattr(name));
        Metadata { owner, ..metadata }
    }

    fn content(&self, path: &RootPath) -> Content {
        Content::Tree { tree: self.tree.clone(), path: path.clone() }
    }
}

/// How much of two files is compared at a time.
const COMPARED_BYTES: usize = 64 << 10;

/// Reads until the buffer is full or the file ends.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn put(metadata: Metadata, content: Option<Content>, opaque: bool) -> Change {
    Change::Put { metadata, content, hard_link: None, opaque }
}

/// Whether an entry is what was there before, as far as metadata tells.
fn is_same(now: &Metadata, was: &Metadata) -> bool {
    let images = |metadata: &Metadata| {
        let xattrs = metadata.xattrs.iter().filter(|(name, _)| is_image_xattr(name));
        xattrs.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
    };
    now.kind == was.kind
        && now.owner == was.owner
        // Symlinks have no mode; archives hold all sorts of numbers there.
        && (now.mode == was.mode || matches!(now.kind, Kind::Symlink { .. }))
        && (now.mtime == was.mtime || now.is_directory())
        && images(now) == images(was)
}

fn refuse_redirects(path: &RootPath, xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), RootfsError> {
    let elsewhere = |name: &&Vec<u8>| {
        let ours = name.strip_prefix(b"user.overlay.").or_else(|| name.strip_prefix(b"trusted.overlay."));
        ours.is_some_and(|name| matches!(name, b"redirect" | b"metacopy"))
    };
    match xattrs.keys().find(elsewhere) {
        Some(_) => Err(RootfsError::Unsupported {
            path: path.clone(),
            why: "was moved or copied up by reference: mount the overlay without redirect_dir and metacopy",
        }),
        None => Ok(()),
    }
}
