//! The file system of the stage being built.

mod copy;
mod put;
mod take;

use std::{borrow::Cow, collections::BTreeSet, io::Read, sync::Arc};

use crate::{
    Kind, Layer, LayerContents, LayerIndex, LayerStack, Metadata, Owner, RootPath, RootfsError, SpoolFactory,
    Timestamp, Tree,
    merged::Found,
    pending::{Pending, PendingChange, PendingEntry, Verdict},
    resolve::{Node, Resolved, resolve},
    stack::expect_file,
};

pub use copy::{Copied, CopyOptions};
pub use put::FileWriter;

/// The file system of a stage: the layers that are there, and the changes of the current step on top. Everything resolves
/// in the root as chroot would; nothing outside can be named.
///
/// Nothing is written to this machine but what goes into the spool. A clone is a snapshot.
#[derive(Clone)]
pub struct RootFs {
    below: Arc<LayerStack>,
    pending: Pending,
    spools: Arc<dyn SpoolFactory>,
    now: Timestamp,
}

/// What a new entry gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, setuid, setgid, sticky; other bits are ignored.
    pub mode: u32,
    /// As the image has it.
    pub owner: Owner,
    /// Without it, the `now` of the root file system.
    pub mtime: Option<Timestamp>,
}

/// An entry, in the changes or below.
enum Here<'r> {
    Pending(&'r PendingEntry),
    Below(Found),
}

impl RootFs {
    /// A stage on layers, the base first; none for `FROM scratch`.
    ///
    /// `now` is the mtime of everything that the step makes without saying otherwise, and of parents whose content changed:
    /// the start of the build or later, so that the layer's writer sets it to the epoch with all other mtimes that late.
    pub fn new(layers: Vec<Layer>, spools: Arc<dyn SpoolFactory>, now: Timestamp) -> Self {
        Self { below: Arc::new(LayerStack::new(layers)), pending: Pending::default(), spools, now }
    }

    /// The layers below the changes of the current step.
    pub fn below(&self) -> &Arc<LayerStack> {
        &self.below
    }

    /// Forgets the layers below: what the step makes stands on its own.
    pub fn stand_alone(&mut self) {
        self.below = Arc::new(LayerStack::new(Vec::new()));
    }

    /// Puts the layer of a finished step on the stack: call it after [`RootFs::take_changes`].
    pub fn push_layer(&mut self, index: Arc<LayerIndex>, contents: Arc<dyn LayerContents>) {
        self.below = Arc::new(self.below.with(Layer { index, contents }));
    }

    /// Whether the current step changed anything.
    pub fn is_changed(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Forgets the changes of the current step.
    pub fn discard_changes(&mut self) {
        self.pending = Pending::default();
    }

    /// The entry at a path; the last component is followed only if `follow`. `None` if there is nothing.
    ///
    /// # Errors
    /// Symlinks loop.
    pub fn stat(&self, path: &RootPath, follow: bool) -> Result<Option<Metadata>, RootfsError> {
        let found = self.walk(path, follow)?;
        Ok(self.here(&found.path).filter(|_| found.exists).map(|here| here.metadata().into_owned()))
    }

    /// The content of a file of at most `limit` bytes.
    ///
    /// # Errors
    /// It does not exist, is no regular file, is larger, or can't be read.
    pub fn read_file(&self, path: &RootPath, limit: u64) -> Result<Vec<u8>, RootfsError> {
        let too_large = || RootfsError::TooLarge { what: format!("the size of `{path}` in bytes"), limit };
        let size = self.stat(path, true)?.ok_or_else(|| RootfsError::NotFound(path.clone()))?.size_bytes();
        if size > limit {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let read = self.open(path)?.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|source| RootfsError::Storage { action: format!("read `{path}` of the image"), source })?;
        match bytes.len() as u64 > limit {
            true => Err(too_large()),
            false => Ok(bytes),
        }
    }

    fn walk(&self, path: &RootPath, follow: bool) -> Result<Resolved, RootfsError> {
        resolve(path, follow, |path| {
            Ok(match self.here(path) {
                None => Node::Missing,
                Some(Here::Below(found)) => crate::merged::node(Some(&found)),
                Some(Here::Pending(entry)) => match &entry.metadata.kind {
                    Kind::Directory => Node::Directory,
                    Kind::Symlink { target } => Node::Symlink(target.clone()),
                    _ => Node::Other,
                },
            })
        })
    }

    /// What is at a path whose parents hold no symlink.
    fn here(&self, path: &RootPath) -> Option<Here<'_>> {
        match self.pending.verdict(path) {
            Verdict::Put(entry) => Some(Here::Pending(entry)),
            Verdict::Nothing => None,
            Verdict::Below => self.below.index().lookup(path).map(Here::Below),
        }
    }

    fn is_directory(&self, path: &RootPath) -> bool {
        self.here(path).is_some_and(|here| here.metadata().is_directory())
    }

    fn existing(&self, path: &RootPath) -> Result<RootPath, RootfsError> {
        Tree::resolve(self, path)?.ok_or_else(|| RootfsError::NotFound(path.clone()))
    }
}

impl Here<'_> {
    fn metadata(&self) -> Cow<'_, Metadata> {
        match self {
            Self::Pending(entry) => Cow::Borrowed(&entry.metadata),
            Self::Below(found) => match &found.metadata {
                Some(metadata) => Cow::Borrowed(metadata),
                None => Cow::Owned(found.to_metadata()),
            },
        }
    }
}

impl Tree for RootFs {
    fn metadata(&self, path: &RootPath, follow: bool) -> Result<Option<Metadata>, RootfsError> {
        self.stat(path, follow)
    }

    fn resolve(&self, path: &RootPath) -> Result<Option<RootPath>, RootfsError> {
        let found = self.walk(path, true)?;
        Ok(found.exists.then_some(found.path))
    }

    fn read_directory(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        let real = self.existing(path)?;
        if !self.is_directory(&real) {
            return Err(RootfsError::NotADirectory(real));
        }
        let shows_through = match self.pending.verdict(&real) {
            Verdict::Put(entry) => !entry.opaque && self.pending.shows_through(&real),
            Verdict::Nothing => false,
            Verdict::Below => true,
        };
        let mut names = BTreeSet::new();
        if shows_through {
            names.extend(self.below.index().children(&real));
        }
        for (name, change) in self.pending.children(&real) {
            match change {
                PendingChange::Put(_) => names.insert(name),
                PendingChange::Remove => names.remove(&name),
            };
        }
        Ok(names.into_iter().collect())
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn Read + Send>, RootfsError> {
        let real = self.existing(path)?;
        match self.here(&real) {
            Some(Here::Below(_)) => self.below.open_resolved(&real),
            Some(Here::Pending(PendingEntry { content: Some(content), .. })) => content.open(),
            Some(here) => {
                expect_file(&real, &here.metadata().kind)?;
                Ok(Box::new(std::io::empty()))
            }
            None => Err(RootfsError::NotFound(real)),
        }
    }

    fn identity(&self, path: &RootPath) -> Result<Option<u64>, RootfsError> {
        let real = self.existing(path)?;
        Ok(match self.here(&real) {
            // Apart from the numbers of the stack below, which count from 0.
            Some(Here::Pending(entry)) => entry.link.map(|link| u64::MAX - link.0),
            Some(Here::Below(_)) => self.below.index().identity(&real),
            None => None,
        })
    }
}

#[cfg(test)]
mod tests;
