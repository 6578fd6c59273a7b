//! Entries in the order of an archive become an index with one entry for each path.
//!
//! Rules: the later entry of a path wins, with everything that its kind implies; a whiteout concerns only the layers below
//! (OCI image specification, layer.md: "Files that are present in the same layer as a whiteout file can only be hidden by
//! whiteout files in subsequent layers"), so beside an entry of the same path it makes that directory opaque.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use cofferdam_rootfs::{IndexEntry, Kind, LayerIndex, Metadata, Owner, RootPath, Timestamp};

use crate::LayerError;

/// What the name of a file costs in memory that hard links name, beyond its bytes, roughly.
const LINK_TARGET_BYTES: u64 = 64;

/// An index in the making.
pub(crate) struct Assembly {
    index: LayerIndex,
    link_targets: BTreeSet<RootPath>,
    max_entries: u64,
    entries: u64,
    max_index_bytes: u64,
    link_target_bytes: u64,
}

/// The paths whose entries an operation set, in the order in which they are to be told.
pub(crate) type Touched = Vec<RootPath>;

impl Assembly {
    pub(crate) fn new(max_entries: u64, max_index_bytes: u64) -> Self {
        let (index, link_targets) = (LayerIndex::default(), BTreeSet::new());
        Self { index, link_targets, max_entries, entries: 0, max_index_bytes, link_target_bytes: 0 }
    }

    /// The entry at a path that an operation touched.
    pub(crate) fn get(&self, path: &RootPath) -> Option<IndexEntry> {
        self.index.entries.get(path)
    }

    /// Counts an entry of the archive, whatever becomes of it.
    pub(crate) fn count(&mut self) -> Result<(), LayerError> {
        self.entries += 1;
        if self.entries > self.max_entries {
            return Err(LayerError::Limit { what: "entries", limit: self.max_entries });
        }
        Ok(())
    }

    /// An entry that is no hard link.
    pub(crate) fn put(&mut self, path: RootPath, metadata: Metadata) -> Result<Touched, LayerError> {
        self.insert(path, metadata, None)
    }

    /// Another name of a file (or device, fifo, symlink) of the same layer.
    pub(crate) fn hard_link(&mut self, path: RootPath, target: RootPath) -> Result<Touched, LayerError> {
        let (metadata, target) = match self.index.entries.get(&target) {
            Some(IndexEntry::Present { metadata, hard_link, .. }) if !metadata.is_directory() && target != path => {
                (metadata, hard_link.unwrap_or(target))
            }
            _ => return Err(LayerError::HardLinkTarget { path, target }),
        };
        if target == path {
            // A link to itself by way of another name of it: there is nothing to change.
            return Ok(Touched::new());
        }
        if self.link_targets.insert(target.clone()) {
            self.link_target_bytes += target.len() as u64 + LINK_TARGET_BYTES;
        }
        self.insert(path, metadata, Some(target))
    }

    /// Nothing of the layers below shows through this directory.
    pub(crate) fn opaque(&mut self, path: RootPath) -> Result<Touched, LayerError> {
        let mut touched = self.enter(&path)?;
        match self.index.entries.get(&path) {
            Some(IndexEntry::Present { metadata, .. }) if !metadata.is_directory() => return Err(beneath(&path)),
            Some(IndexEntry::Present { metadata, .. }) => self.set(&path, opaque_directory(metadata))?,
            Some(IndexEntry::Whiteout) | None => self.set(&path, implied_directory())?,
        }
        touched.push(path);
        Ok(touched)
    }

    /// The layers below have nothing at this path any more.
    pub(crate) fn whiteout(&mut self, path: RootPath) -> Result<Touched, LayerError> {
        let mut touched = self.enter(&path)?;
        let has_contents = self.first_beneath(&path).is_some();
        match self.index.entries.get(&path) {
            Some(IndexEntry::Present { metadata, .. }) if metadata.is_directory() => {
                self.set(&path, opaque_directory(metadata))?;
            }
            Some(_) => return Ok(touched),
            None if has_contents => self.set(&path, implied_directory())?,
            None => self.set(&path, IndexEntry::Whiteout)?,
        }
        touched.push(path);
        Ok(touched)
    }

    /// Keeps the bytes of a file.
    pub(crate) fn keep_content(&mut self, path: RootPath, bytes: Vec<u8>) {
        self.index.contents.insert(path, bytes);
    }

    pub(crate) fn finish(self) -> LayerIndex {
        self.index
    }

    fn insert(
        &mut self,
        path: RootPath,
        metadata: Metadata,
        hard_link: Option<RootPath>,
    ) -> Result<Touched, LayerError> {
        let mut touched = self.enter(&path)?;
        let is_directory = metadata.is_directory();
        if path.is_root() && !is_directory {
            return Err(LayerError::Entry { path: "/".into(), why: "replaces the root by something else" });
        }
        let opaque = match self.index.entries.get(&path) {
            None => false,
            // A whiteout, or something else that hid a directory of the layers below.
            Some(IndexEntry::Whiteout) => is_directory,
            Some(IndexEntry::Present { metadata: old, opaque, .. }) => is_directory && (opaque || !old.is_directory()),
        };
        self.forget(&path)?;
        if !is_directory {
            while let Some(below) = self.first_beneath(&path) {
                self.forget(&below)?;
                self.index.entries.remove(&below);
            }
        }
        self.set(&path, IndexEntry::Present { metadata, hard_link, opaque })?;
        touched.push(path);
        Ok(touched)
    }

    /// Something is about to come at or beneath `path`: all that contain it must be directories.
    fn enter(&mut self, path: &RootPath) -> Result<Touched, LayerError> {
        let mut ancestor = path.parent();
        while let Some(directory) = ancestor {
            match self.index.entries.get(&directory) {
                // Its own ancestors were checked when it came.
                Some(IndexEntry::Present { metadata, .. }) if metadata.is_directory() => break,
                Some(IndexEntry::Present { .. }) => return Err(beneath(path)),
                Some(IndexEntry::Whiteout) => {
                    self.set(&directory, implied_directory())?;
                    return Ok(vec![directory]);
                }
                None => ancestor = directory.parent(),
            }
        }
        Ok(Touched::new())
    }

    /// What was known of a path counts no more.
    fn forget(&mut self, path: &RootPath) -> Result<(), LayerError> {
        if self.link_targets.contains(path) {
            // The other names would keep the old content, which the index can't say.
            let why = "is replaced by a later one although hard links name it";
            return Err(LayerError::Entry { path: path.to_string(), why });
        }
        self.index.contents.remove(path);
        Ok(())
    }

    fn first_beneath(&self, path: &RootPath) -> Option<RootPath> {
        let (next, _) = self.index.entries.range(Bound::Excluded(path)).next()?;
        next.starts_with(path).then_some(next)
    }

    fn set(&mut self, path: &RootPath, entry: IndexEntry) -> Result<(), LayerError> {
        self.index.entries.insert(path, &entry);
        let bytes = self.index.entries.size_bytes() as u64 + self.link_target_bytes;
        if bytes > self.max_index_bytes {
            return Err(LayerError::Limit { what: "bytes of names and attributes", limit: self.max_index_bytes });
        }
        Ok(())
    }
}

/// An opaque directory that the layer has no entry for: what readers create for missing parents.
fn implied_directory() -> IndexEntry {
    let metadata = Metadata {
        kind: Kind::Directory,
        mode: 0o755,
        owner: Owner::default(),
        mtime: Timestamp::default(),
        xattrs: BTreeMap::new(),
    };
    opaque_directory(metadata)
}

fn opaque_directory(metadata: Metadata) -> IndexEntry {
    IndexEntry::Present { metadata, hard_link: None, opaque: true }
}

fn beneath(path: &RootPath) -> LayerError {
    let why = "lies beneath something that the same layer makes a file or a link";
    LayerError::Entry { path: path.to_string(), why }
}
