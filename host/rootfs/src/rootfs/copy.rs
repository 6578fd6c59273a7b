//! Copying from any tree into a stage, without moving a byte of content.

use std::{collections::HashMap, sync::Arc};

use super::{RootFs, put::expect_node};
use crate::{
    Content, Kind, Metadata, ModeChange, Owner, RootPath, RootfsError, Tree, TreeEntry, is_image_xattr, pending::LinkId,
};

/// How [`RootFs::copy_tree`] copies.
#[derive(Clone, Default)]
pub struct CopyOptions<'e> {
    /// Owner of everything copied and of directories made on the way; without it 0:0.
    pub owner: Option<Owner>,
    /// Change of mode; without it the source's own bits. Symlinks have no mode, and directories that are made on the way
    /// get 0755.
    pub mode: Option<ModeChange>,
    /// Whether the source's owners are kept; `owner`, if given, wins.
    pub keep_owner: bool,
    /// What is left out, by the path relative to the source: `true` is left out. Each path is decided by itself, so
    /// something beneath an excluded directory can be copied.
    pub exclude: Option<&'e dyn Fn(&RootPath) -> bool>,
}

/// What [`RootFs::copy_tree`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Entries, directories included.
    pub entries: u64,
    /// Bytes of content; of hard links, once.
    pub bytes: u64,
}

impl RootFs {
    /// Copies from a tree; files' bytes are read when the layer is written.
    ///
    /// `source`, symlinks followed: a directory's *content* goes into `destination`, which becomes a directory; anything
    /// else becomes `destination` itself. Symlinks beneath are copied as symlinks. Missing parents, and a `destination`
    /// that is made for a directory's content, get mode 0755.
    ///
    /// `destination` is resolved in the root, its last component too. A directory there keeps its metadata; directories
    /// beneath it that exist take the source's. Beneath `destination`, whatever is not a directory is replaced, symlinks
    /// included: nothing is ever written through one. Hard links between copied files stay hard links, sockets are left
    /// out. (Docker's rules, except that an entry may be replaced by one of another kind.)
    ///
    /// # Errors
    /// `source` does not exist; `destination` runs through a file, or is a directory where a file is copied, or a file
    /// where a directory is; either tree can't be read.
    pub fn copy_tree(
        &mut self,
        from: &Arc<dyn Tree>,
        source: &RootPath,
        destination: &RootPath,
        options: &CopyOptions<'_>,
    ) -> Result<Copied, RootfsError> {
        let missing = || RootfsError::NotFound(source.clone());
        let source = from.resolve(source)?.ok_or_else(missing)?;
        let entry = from.entry(&source)?.ok_or_else(missing)?;
        let place = self.walk(destination, true)?;
        if let Some(blocking) = place.blocked_by {
            return Err(RootfsError::NotADirectory(blocking));
        }
        let owner = options.owner.unwrap_or_default();
        self.make_parents(&place.path, owner)?;
        let mut copier =
            Copier { rootfs: self, from, options, links: HashMap::new(), copied: Copied::default(), open: Vec::new() };
        if entry.metadata.is_directory() {
            if place.exists && !place.is_directory {
                return Err(RootfsError::NotADirectory(place.path));
            }
            if !place.exists {
                let attributes = super::Attributes { mode: 0o755, owner, mtime: None };
                let made = copier.rootfs.metadata_of(Kind::Directory, &attributes);
                copier.rootfs.put_directory_at(place.path.clone(), made);
                copier.copied.entries += 1;
            }
            copier.copy_content(source, place.path)?;
        } else {
            if place.is_directory {
                return Err(RootfsError::IsADirectory(place.path));
            }
            copier.copy_entry(&source, place.path, entry)?;
        }
        Ok(copier.copied)
    }

    /// As [`RootFs::copy_tree`], but a source that is no directory goes into the directory `destination` under its own name.
    /// Whatever has that name there is replaced, a symlink too. Answers also where the copy is.
    ///
    /// # Errors
    /// As for [`RootFs::copy_tree`]; a directory has the name, or `destination` is none.
    pub fn copy_into(
        &mut self,
        from: &Arc<dyn Tree>,
        source: &RootPath,
        destination: &RootPath,
        options: &CopyOptions<'_>,
    ) -> Result<(Copied, RootPath), RootfsError> {
        let missing = || RootfsError::NotFound(source.clone());
        let real = from.resolve(source)?.ok_or_else(missing)?;
        let entry = from.entry(&real)?.ok_or_else(missing)?;
        let name = match source.file_name() {
            Some(name) if !entry.metadata.is_directory() => name,
            _ => {
                let copied = self.copy_tree(from, source, destination, options)?;
                return Ok((copied, self.walk(destination, true)?.path));
            }
        };
        let directory = self.walk(destination, true)?;
        if let Some(blocking) = directory.blocked_by {
            return Err(RootfsError::NotADirectory(blocking));
        }
        let place = directory.path.child(name)?;
        self.make_parents(&place, options.owner.unwrap_or_default())?;
        if self.is_directory(&place) {
            return Err(RootfsError::IsADirectory(place));
        }
        let mut copier =
            Copier { rootfs: self, from, options, links: HashMap::new(), copied: Copied::default(), open: Vec::new() };
        copier.copy_entry(&real, place.clone(), entry)?;
        Ok((copier.copied, place))
    }
}

struct Copier<'c> {
    rootfs: &'c mut RootFs,
    from: &'c Arc<dyn Tree>,
    options: &'c CopyOptions<'c>,
    links: HashMap<u64, LinkId>,
    copied: Copied,
    /// The directories on the way to where the walk is: a list instead of calls, since a tree can be very deep.
    open: Vec<OpenDirectory>,
}

struct OpenDirectory {
    source: RootPath,
    destination: RootPath,
    /// From the source's root.
    relative: RootPath,
    /// What is still to be copied.
    entries: std::vec::IntoIter<(Vec<u8>, TreeEntry)>,
    /// Excluded, so it is only made for the sake of something in it that is not.
    unmade: Option<Metadata>,
}

impl Copier<'_> {
    fn copy_content(&mut self, source: RootPath, destination: RootPath) -> Result<(), RootfsError> {
        self.enter(source, destination, RootPath::root(), None)?;
        while let Some(directory) = self.open.last_mut() {
            let Some((name, entry)) = directory.entries.next() else {
                self.open.pop();
                continue;
            };
            let (source, destination) = (directory.source.child(&name)?, directory.destination.child(&name)?);
            let relative = directory.relative.child(&name)?;
            let excluded = self.options.exclude.is_some_and(|exclude| exclude(&relative));
            if entry.metadata.is_directory() {
                let metadata = self.changed(entry.metadata);
                if excluded {
                    self.enter(source, destination, relative, Some(metadata))?;
                } else {
                    self.make_excluded_parents();
                    self.rootfs.put_directory_at(destination.clone(), metadata);
                    self.copied.entries += 1;
                    self.enter(source, destination, relative, None)?;
                }
            } else if !excluded {
                self.make_excluded_parents();
                self.copy_entry(&source, destination, entry)?;
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        source: RootPath,
        destination: RootPath,
        relative: RootPath,
        unmade: Option<Metadata>,
    ) -> Result<(), RootfsError> {
        let entries = self.from.entries(&source, &|_| false)?.into_iter();
        self.open.push(OpenDirectory { source, destination, relative, entries, unmade });
        Ok(())
    }

    fn make_excluded_parents(&mut self) {
        for directory in &mut self.open {
            if let Some(metadata) = directory.unmade.take()
                && !self.rootfs.is_directory(&directory.destination)
            {
                self.rootfs.put_directory_at(directory.destination.clone(), metadata);
                self.copied.entries += 1;
            }
        }
    }

    fn copy_entry(&mut self, source: &RootPath, destination: RootPath, entry: TreeEntry) -> Result<(), RootfsError> {
        let TreeEntry { metadata, identity, .. } = entry;
        let metadata = self.changed(metadata);
        let (content, link) = match &metadata.kind {
            Kind::Socket => return Ok(()),
            Kind::File { size } => {
                let content = Content::Tree { tree: self.from.clone(), path: source.clone() };
                let seen = identity.and_then(|identity| self.links.get(&identity).copied());
                if seen.is_none() {
                    self.copied.bytes += size;
                }
                let link = seen.or_else(|| {
                    let link = self.rootfs.pending.new_link();
                    identity.map(|identity| *self.links.entry(identity).or_insert(link))
                });
                (Some(content), link)
            }
            Kind::Symlink { .. } => (None, None),
            kind => {
                expect_node(source, kind)?;
                (None, None)
            }
        };
        self.rootfs.put_at(destination, metadata, content, link);
        self.copied.entries += 1;
        Ok(())
    }

    /// What the copy of an entry has.
    fn changed(&self, mut metadata: Metadata) -> Metadata {
        let kept = if self.options.keep_owner { metadata.owner } else { Owner::default() };
        metadata.owner = self.options.owner.unwrap_or(kept);
        if let Some(change) = &self.options.mode
            && !matches!(metadata.kind, Kind::Symlink { .. })
        {
            metadata.mode = change.apply(metadata.mode, metadata.is_directory());
        }
        metadata.xattrs.retain(|name, _| is_image_xattr(name));
        metadata
    }
}
