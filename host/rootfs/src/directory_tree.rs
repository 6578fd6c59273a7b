//! A directory of this machine as a tree.

use std::{
    io::Read,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{
    ConfinedDir, HostEntry, Kind, Metadata, OpenFile, Owner, RootPath, RootfsError, Tree, TreeEntry,
    resolve::{Node, Resolved, resolve},
    tree::IsPlain,
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
    /// Device of the root, and whether fingerprints can be trusted there; found out once.
    device: OnceLock<Device>,
    /// The directory in which the last file was opened: mostly the next one is there, too.
    last: Mutex<Option<(RootPath, Arc<ConfinedDir>)>>,
}

/// What matters of the file system that holds a tree.
#[derive(Debug, Clone, Copy)]
struct Device {
    number: u64,
    /// tmpfs gives no new time to pages that are written through a mapping.
    has_fingerprints: bool,
}

impl DirectoryTree {
    /// The directory as it is.
    pub fn new(root: Arc<ConfinedDir>) -> Self {
        Self {
            root,
            visible: None,
            may_hold_visible: None,
            owner: None,
            device: OnceLock::new(),
            last: Mutex::default(),
        }
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

    /// The same, but everything belongs to `owner`, and nothing has the extended attributes that users set: for contexts, where
    /// both are an accident of the checkout. File capabilities stay, as in BuildKit.
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

    fn device(&self) -> Result<Device, RootfsError> {
        if let Some(device) = self.device.get() {
            return Ok(*device);
        }
        let number = self.root.entry(&RootPath::root())?.map_or(0, |root| root.device);
        let device = Device { number, has_fingerprints: !self.root.is_on_tmpfs()? };
        Ok(*self.device.get_or_init(|| device))
    }

    fn tree_entry(&self, entry: HostEntry, device: Device) -> TreeEntry {
        let fingerprint = entry.fingerprint();
        let is_file = entry.metadata.is_file();
        // On another file system (a mount beneath), the same number would be another file.
        let linked = is_file && entry.links > 1 && entry.device == device.number;
        TreeEntry {
            identity: linked.then_some(entry.inode),
            changed_ns: Some(fingerprint.changed_ns()),
            fingerprint: (is_file && device.has_fingerprints).then_some(fingerprint),
            metadata: Metadata { owner: self.owner.unwrap_or(entry.metadata.owner), ..entry.metadata },
        }
    }

    /// The directory at a path without symlinks.
    fn directory(&self, path: &RootPath) -> Result<Arc<ConfinedDir>, RootfsError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, directory)) = &*last
            && known == path
        {
            return Ok(directory.clone());
        }
        let directory = Arc::new(self.root.open_directory(path)?);
        *last = Some((path.clone(), directory.clone()));
        Ok(directory)
    }

    /// Opens a file whose path turns out to have no symlink, as nearly all; `None` for all others, whatever they are.
    fn open_direct(&self, path: &RootPath) -> Option<(std::fs::File, HostEntry)> {
        let (parent, name) = (path.parent()?, RootPath::new(path.file_name()?).ok()?);
        self.directory(&parent).ok()?.open_entry(&name).ok()
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
        Ok(self.open_entry(path)?.reader)
    }

    fn identity(&self, path: &RootPath) -> Result<Option<u64>, RootfsError> {
        let device = self.device()?;
        let entry = self.root.entry(&self.existing(path)?)?;
        Ok(entry.and_then(|entry| self.tree_entry(entry, device).identity))
    }

    fn entry(&self, path: &RootPath) -> Result<Option<TreeEntry>, RootfsError> {
        let device = self.device()?;
        let Some(mut entry) = self.root.entry(path)? else { return Ok(None) };
        if !self.is_visible(path, entry.metadata.is_directory())? {
            return Ok(None);
        }
        entry.metadata.xattrs = self.root.image_xattrs(path, &entry.metadata.kind)?;
        if self.owner.is_some() {
            entry.metadata.xattrs.retain(|name, _| !name.starts_with(b"user."));
        }
        Ok(Some(self.tree_entry(entry, device)))
    }

    fn entries(&self, path: &RootPath, is_plain: IsPlain<'_>) -> Result<Vec<(Vec<u8>, TreeEntry)>, RootfsError> {
        let device = self.device()?;
        let real = self.existing(path)?;
        let found = self.root.entries(&real, &|entry| {
            device.has_fingerprints && entry.metadata.is_file() && is_plain(&entry.fingerprint())
        })?;
        let mut entries = Vec::with_capacity(found.len());
        for (name, entry) in found {
            if self.visible.is_none() || self.is_visible(&real.child(&name)?, entry.metadata.is_directory())? {
                entries.push((name, self.tree_entry(entry, device)));
            }
        }
        Ok(entries)
    }

    fn open_entry(&self, path: &RootPath) -> Result<OpenFile, RootfsError> {
        let device = self.device()?;
        let (file, entry, path) = match self.open_direct(path) {
            Some((file, entry)) if self.is_visible(path, false)? => (file, entry, path.clone()),
            _ => {
                let real = self.existing(path)?;
                let (file, entry) = self.root.open_entry(&real)?;
                (file, entry, real)
            }
        };
        let fingerprint = device.has_fingerprints.then(|| entry.fingerprint());
        Ok(OpenFile { reader: Box::new(file), path, fingerprint })
    }
}

#[cfg(test)]
mod tests;
