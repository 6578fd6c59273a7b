//! A directory of this machine as a tree.

use std::{io::Read, sync::Arc};

use crate::{
    ConfinedDir, Fingerprint, HostEntry, Kind, Metadata, Owner, RootPath, RootfsError, Tree,
    resolve::{Node, Resolved, resolve},
};

/// Decides which paths of a tree are there at all: `true` is visible. The second argument tells whether the path is a
/// directory.
pub type Filter = Arc<dyn Fn(&RootPath, bool) -> bool + Send + Sync>;

/// A directory of this machine as a [`Tree`] of its own: symlinks, absolute ones too, resolve inside it.
pub struct DirectoryTree {
    root: Arc<ConfinedDir>,
    visible: Option<Filter>,
    may_hold_visible: Option<Filter>,
    owner: Option<Owner>,
}

impl DirectoryTree {
    /// The directory as it is.
    pub fn new(root: Arc<ConfinedDir>) -> Self {
        Self { root, visible: None, may_hold_visible: None, owner: None }
    }

    /// The same, but only what `visible` lets through, each path by itself: what is excluded does not exist here. An
    /// excluded directory that holds something visible does exist, since that must be reached.
    #[must_use]
    pub fn filtered(self, visible: Filter) -> Self {
        Self { visible: Some(visible), ..self }
    }

    /// Spares the search for visible entries in excluded directories: where `may_hold_visible` answers `false` for one,
    /// nothing beneath it is visible.
    #[must_use]
    pub fn pruned(self, may_hold_visible: Filter) -> Self {
        Self { may_hold_visible: Some(may_hold_visible), ..self }
    }

    /// The same, but everything belongs to `owner`: for contexts, whose owners are an accident of the checkout.
    #[must_use]
    pub fn owned_by(self, owner: Owner) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// The directory.
    pub fn root(&self) -> &Arc<ConfinedDir> {
        &self.root
    }

    fn resolved(&self, path: &RootPath, follow: bool) -> Result<Resolved, RootfsError> {
        // Nearly every path has no symlink; then one look at its end is enough.
        if let Some(HostEntry { metadata, .. }) = self.root.entry(path)?
            && !(follow && matches!(metadata.kind, Kind::Symlink { .. }))
        {
            let is_directory = metadata.is_directory();
            return Ok(Resolved { path: path.clone(), exists: true, is_directory, blocked_by: None });
        }
        resolve(path, follow, |path| {
            Ok(match self.root.entry(path)?.map(|entry| entry.metadata.kind) {
                None => Node::Missing,
                Some(Kind::Directory) => Node::Directory,
                // An excluded symlink is not there, so it leads nowhere.
                Some(Kind::Symlink { .. }) if !self.lets_through(path, false) => Node::Missing,
                Some(Kind::Symlink { target }) => Node::Symlink(target),
                Some(_) => Node::Other,
            })
        })
    }

    fn lets_through(&self, path: &RootPath, is_directory: bool) -> bool {
        path.is_root() || self.visible.as_ref().is_none_or(|visible| visible(path, is_directory))
    }

    /// Whether a path that exists is visible; for a directory, by itself or because of something beneath.
    fn is_visible(&self, path: &RootPath, is_directory: bool) -> Result<bool, RootfsError> {
        if self.lets_through(path, is_directory) {
            return Ok(true);
        }
        let mut directories = if is_directory { vec![path.clone()] } else { Vec::new() };
        while let Some(directory) = directories.pop() {
            if self.may_hold_visible.as_ref().is_some_and(|may| !may(&directory, true)) {
                continue;
            }
            // What may not be read can hold nothing to copy, and nobody asked for it.
            let Ok(names) = self.root.read_directory(&directory) else { continue };
            for name in names {
                let child = directory.child(&name)?;
                let Some(entry) = self.root.entry(&child)? else { continue };
                let is_directory = entry.metadata.is_directory();
                if self.lets_through(&child, is_directory) {
                    return Ok(true);
                }
                if is_directory {
                    directories.push(child);
                }
            }
        }
        Ok(false)
    }

    fn existing(&self, path: &RootPath) -> Result<RootPath, RootfsError> {
        self.resolve(path)?.ok_or_else(|| RootfsError::NotFound(path.clone()))
    }
}

impl Tree for DirectoryTree {
    fn metadata(&self, path: &RootPath, follow: bool) -> Result<Option<Metadata>, RootfsError> {
        let found = self.resolved(path, follow)?;
        if !found.exists || !self.is_visible(&found.path, found.is_directory)? {
            return Ok(None);
        }
        let metadata = self.root.metadata(&found.path)?;
        Ok(metadata.map(|metadata| Metadata { owner: self.owner.unwrap_or(metadata.owner), ..metadata }))
    }

    fn resolve(&self, path: &RootPath) -> Result<Option<RootPath>, RootfsError> {
        let found = self.resolved(path, true)?;
        let visible = found.exists && self.is_visible(&found.path, found.is_directory)?;
        Ok(visible.then_some(found.path))
    }

    fn read_directory(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        let real = self.existing(path)?;
        let mut names = self.root.read_directory(&real)?;
        if self.visible.is_some() {
            let mut visible = Vec::with_capacity(names.len());
            for name in names {
                let child = real.child(&name)?;
                if let Some(entry) = self.root.entry(&child)?
                    && self.is_visible(&child, entry.metadata.is_directory())?
                {
                    visible.push(name);
                }
            }
            names = visible;
        }
        Ok(names)
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn Read + Send>, RootfsError> {
        Ok(Box::new(self.root.open_file(&self.existing(path)?)?))
    }

    fn identity(&self, path: &RootPath) -> Result<Option<u64>, RootfsError> {
        let entry = self.root.entry(&self.existing(path)?)?;
        let device = self.root.entry(&RootPath::root())?.map(|root| root.device);
        // On another file system (a mount beneath), the same number would be another file.
        let linked = entry.filter(|entry| entry.metadata.is_file() && entry.links > 1 && Some(entry.device) == device);
        Ok(linked.map(|entry| entry.inode))
    }

    fn changed_ns(&self, path: &RootPath) -> Result<Option<i128>, RootfsError> {
        Ok(self.root.entry(path)?.map(|entry| entry.fingerprint().changed_ns()))
    }

    fn fingerprint(&self, path: &RootPath) -> Result<Option<Fingerprint>, RootfsError> {
        // tmpfs gives no new time to pages that are written through a mapping.
        if self.root.is_on_tmpfs()? {
            return Ok(None);
        }
        let entry = self.root.entry(&self.existing(path)?)?;
        Ok(entry.filter(|entry| entry.metadata.is_file()).map(|entry| entry.fingerprint()))
    }
}

#[cfg(test)]
mod tests;
