//! What a step did to a root file system: the input of its layer.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
    sync::Arc,
};

use crate::{IndexEntry, LayerIndex, Metadata, RootPath, RootfsError, Tree};

/// Where the bytes of a new or changed file come from.
#[derive(Clone)]
pub enum Content {
    /// A few bytes, held in memory.
    Bytes(Arc<[u8]>),
    /// A file of a tree, read when the layer is written: bytes that are copied are not copied twice.
    Tree {
        /// The tree; for what RUN wrote, the upper directory.
        tree: Arc<dyn Tree>,
        /// Resolved: no component is a symlink.
        path: RootPath,
    },
    /// A range of a spool file that holds what a plugin wrote.
    Spool {
        /// The spool.
        spool: Arc<dyn Spool>,
        /// First byte.
        offset: u64,
        /// Bytes.
        size: u64,
    },
}

/// A file of the builder's own that holds bytes which came out of a plugin.
pub trait Spool: Send + Sync {
    /// Opens a range.
    ///
    /// # Errors
    /// The machine failed.
    fn open(&self, offset: u64, size: u64) -> Result<Box<dyn Read + Send>, RootfsError>;
}

/// One changed path.
#[derive(Clone)]
pub enum Change {
    /// The entry is new, or replaced, or has other metadata.
    Put {
        /// Its metadata. The size of a regular file is that of `content`.
        metadata: Metadata,
        /// The bytes of a regular file; `None` for every other kind and for hard links.
        content: Option<Content>,
        /// For a hard link: another path of the same change set, which sorts before this one and has the content.
        hard_link: Option<RootPath>,
        /// For a directory: it replaces what was there, nothing of below shows through.
        opaque: bool,
    },
    /// Nothing is here any more, although the state before the step has something.
    Remove,
}

/// What a step did, sorted by path. Parents of changed entries are included as [`Change::Put`] of directories, as every
/// builder's layers have them.
#[derive(Clone, Default)]
pub struct ChangeSet {
    /// Sorted.
    pub changes: BTreeMap<RootPath, Change>,
}

impl ChangeSet {
    /// Whether the step changed nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The index that the layer of these changes has, without kept contents.
    pub fn index(&self) -> LayerIndex {
        let entries = self.changes.iter().map(|(path, change)| {
            let entry = match change {
                Change::Put { metadata, hard_link, opaque, .. } => {
                    IndexEntry::Present { metadata: metadata.clone(), hard_link: hard_link.clone(), opaque: *opaque }
                }
                Change::Remove => IndexEntry::Whiteout,
            };
            (path.clone(), entry)
        });
        LayerIndex { entries: entries.collect(), contents: BTreeMap::new() }
    }
}

impl Content {
    /// Opens the bytes.
    ///
    /// # Errors
    /// The source can't be read.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, RootfsError> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            Self::Tree { tree, path } => tree.open(path),
            Self::Spool { spool, offset, size } => spool.open(*offset, *size),
        }
    }
}
