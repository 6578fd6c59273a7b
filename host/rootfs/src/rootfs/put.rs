//! The operations that make, replace and remove single entries.

use std::sync::Arc;

use super::{Attributes, Here, RootFs};
use crate::{
    Content, Kind, Metadata, Owner, RootPath, RootfsError, SpoolFactory, SpoolWriter, is_image_xattr,
    pending::PendingEntry,
};

/// Contents up to this many bytes are kept in memory: most of what plugins write, and together never much.
const HELD_BYTES: usize = 64 << 10;

/// Content for a file that is being made. Dropped without [`RootFs::finish_file`], it leaves no file.
pub struct FileWriter {
    path: RootPath,
    attributes: Attributes,
    held: Vec<u8>,
    spooled: Option<Box<dyn SpoolWriter>>,
    spools: Arc<dyn SpoolFactory>,
    size_bytes: u64,
}

impl FileWriter {
    /// Appends.
    ///
    /// # Errors
    /// The spool failed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RootfsError> {
        self.size_bytes += bytes.len() as u64;
        if self.spooled.is_none() && self.held.len() + bytes.len() <= HELD_BYTES {
            self.held.extend_from_slice(bytes);
            return Ok(());
        }
        let spool = match &mut self.spooled {
            Some(spool) => spool,
            none => {
                let mut spool = self.spools.create()?;
                spool.append(&std::mem::take(&mut self.held))?;
                none.insert(spool)
            }
        };
        spool.append(bytes)
    }

    /// Bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl RootFs {
    /// Makes a directory and its missing parents, all with these attributes. What exists keeps its own.
    ///
    /// # Errors
    /// Something else than a directory is in the way.
    pub fn create_directories(&mut self, path: &RootPath, attributes: &Attributes) -> Result<(), RootfsError> {
        let found = self.walk(path, true)?;
        if let Some(blocking) = found.blocked_by {
            return Err(RootfsError::NotADirectory(blocking));
        }
        self.make_directories(&found.path, &self.metadata_of(Kind::Directory, attributes))
    }

    /// Makes or replaces the entry at `path` by a directory. A directory that exists keeps its content and takes the
    /// attributes; a symlink is replaced, wherever it points.
    ///
    /// # Errors
    /// A parent is not a directory.
    pub fn put_directory(&mut self, path: &RootPath, attributes: &Attributes) -> Result<(), RootfsError> {
        let place = if path.is_root() { path.clone() } else { self.place(path)? };
        let metadata = self.metadata_of(Kind::Directory, attributes);
        self.put_directory_at(place, metadata);
        Ok(())
    }

    /// Begins a regular file; [`RootFs::finish_file`] makes or replaces the entry.
    ///
    /// # Errors
    /// A parent is not a directory.
    pub fn put_file(&self, path: &RootPath, attributes: &Attributes) -> Result<FileWriter, RootfsError> {
        self.find_place(path)?;
        Ok(FileWriter {
            path: path.clone(),
            attributes: *attributes,
            held: Vec::new(),
            spooled: None,
            spools: self.spools.clone(),
            size_bytes: 0,
        })
    }

    /// Ends a file: now it is there, and missing parents are, of mode 0755 and owner 0:0.
    ///
    /// # Errors
    /// A parent is not a directory, or the spool failed.
    pub fn finish_file(&mut self, writer: FileWriter) -> Result<(), RootfsError> {
        let FileWriter { path, attributes, held, spooled, size_bytes, .. } = writer;
        let content = match spooled {
            Some(spool) => spool.finish()?,
            None => Content::Bytes(held.into()),
        };
        let place = self.place(&path)?;
        let metadata = self.metadata_of(Kind::File { size: size_bytes }, &attributes);
        self.put_at(place, metadata, Some(content), None);
        Ok(())
    }

    /// Makes or replaces a symlink. Its mode is 0777, as the kernel has it.
    ///
    /// # Errors
    /// A parent is not a directory, or no symlink can have this target.
    pub fn put_symlink(&mut self, path: &RootPath, target: &[u8], attributes: &Attributes) -> Result<(), RootfsError> {
        if target.is_empty() {
            return Err(RootfsError::Unsupported { path: path.clone(), why: "would be a symlink without a target" });
        }
        // For its checks: no NUL, not too long.
        RootPath::new(target)?;
        let place = self.place(path)?;
        let metadata = self.metadata_of(Kind::Symlink { target: target.to_vec() }, attributes);
        self.put_at(place, Metadata { mode: 0o777, ..metadata }, None, None);
        Ok(())
    }

    /// Makes or replaces an entry by a hard link. Symlinks in the parents of `target` are resolved, the last one is not.
    /// Of a file that the layers below have, the step's layer gets a copy: a hard link can't reach into another layer.
    ///
    /// # Errors
    /// A parent is not a directory; `target` does not exist, or is a directory.
    pub fn put_hard_link(&mut self, path: &RootPath, target: &RootPath) -> Result<(), RootfsError> {
        let real = self.find_place(target)?;
        let metadata = self.here(&real).ok_or_else(|| RootfsError::NotFound(target.clone()))?.metadata().into_owned();
        if metadata.is_directory() {
            return Err(RootfsError::IsADirectory(target.clone()));
        }
        let place = self.find_place(path)?;
        if place == real {
            return Ok(());
        }
        let place = self.place(path)?;
        if !metadata.is_file() {
            // Layers have hard links between files only; another entry of the same kind is no different.
            self.put_at(place, metadata, None, None);
            return Ok(());
        }
        let fresh = self.pending.new_link();
        let Some(entry) = self.bring_up(&real) else {
            return Err(RootfsError::NotFound(target.clone()));
        };
        let link = *entry.link.get_or_insert(fresh);
        let content = entry.content.clone();
        self.put_at(place, metadata, content, Some(link));
        Ok(())
    }

    /// Makes or replaces a fifo or a device.
    ///
    /// # Errors
    /// A parent is not a directory, or `kind` is something else.
    pub fn put_node(&mut self, path: &RootPath, kind: Kind, attributes: &Attributes) -> Result<(), RootfsError> {
        expect_node(path, &kind)?;
        let place = self.place(path)?;
        let metadata = self.metadata_of(kind, attributes);
        self.put_at(place, metadata, None, None);
        Ok(())
    }

    /// Sets an extended attribute of a regular file or directory; of all its names, if it has several. What the layers
    /// below have is taken into the step's layer. The last component is not followed.
    ///
    /// # Errors
    /// Nothing is there, or the attribute is not one that images hold: `user.*` and `security.capability`.
    pub fn set_xattr(&mut self, path: &RootPath, name: &[u8], value: &[u8]) -> Result<(), RootfsError> {
        let unsupported = |why| Err(RootfsError::Unsupported { path: path.clone(), why });
        if !is_image_xattr(name) || name.contains(&0) || name.len() > 255 {
            return unsupported("can't have that extended attribute: images hold `user.*` and `security.capability`");
        }
        if value.len() > 1 << 16 {
            return Err(RootfsError::TooLarge { what: "an extended attribute's size in bytes".into(), limit: 1 << 16 });
        }
        let real = if path.is_root() { path.clone() } else { self.find_place(path)? };
        let kind = self.here(&real).map(|here| here.metadata().kind.clone());
        match kind {
            None => return Err(RootfsError::NotFound(path.clone())),
            Some(Kind::File { .. } | Kind::Directory) => {}
            Some(_) => return unsupported("is neither a file nor a directory, so it can't have extended attributes"),
        }
        let Some(entry) = self.bring_up(&real) else {
            return Err(RootfsError::NotFound(path.clone()));
        };
        entry.metadata.xattrs.insert(name.to_vec(), value.to_vec());
        if let Some(link) = entry.link {
            for name_of_it in self.pending.linked(link) {
                name_of_it.metadata.xattrs.insert(name.to_vec(), value.to_vec());
            }
        }
        Ok(())
    }

    /// Removes an entry and everything beneath it. A symlink is removed itself.
    ///
    /// # Errors
    /// Nothing is there, or it is the root.
    pub fn remove(&mut self, path: &RootPath) -> Result<(), RootfsError> {
        let real = self.find_place(path)?;
        if self.here(&real).is_none() {
            return Err(RootfsError::NotFound(path.clone()));
        }
        let hides = self.below_has(&real);
        self.pending.remove(&real, hides);
        Ok(())
    }

    /// Where an entry goes: symlinks in its parents are resolved, the last component stays.
    fn find_place(&self, path: &RootPath) -> Result<RootPath, RootfsError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(RootfsError::IsADirectory(path.clone()));
        };
        let found = self.walk(&parent, true)?;
        if let Some(blocking) = found.blocked_by {
            return Err(RootfsError::NotADirectory(blocking));
        }
        if found.exists && !found.is_directory {
            return Err(RootfsError::NotADirectory(parent));
        }
        Ok(found.path.child(name)?)
    }

    /// The same, with the missing parents made.
    fn place(&mut self, path: &RootPath) -> Result<RootPath, RootfsError> {
        let place = self.find_place(path)?;
        self.make_parents(&place, Owner::default())?;
        Ok(place)
    }

    /// Makes the missing parents of a path without symlinks: mode 0755.
    pub(super) fn make_parents(&mut self, place: &RootPath, owner: Owner) -> Result<(), RootfsError> {
        let attributes = Attributes { mode: 0o755, owner, mtime: None };
        match place.parent() {
            Some(parent) => self.make_directories(&parent, &self.metadata_of(Kind::Directory, &attributes)),
            None => Ok(()),
        }
    }

    pub(super) fn make_directories(&mut self, place: &RootPath, metadata: &Metadata) -> Result<(), RootfsError> {
        let mut missing = Vec::new();
        let mut next = Some(place.clone());
        while let Some(path) = next {
            match self.here(&path) {
                Some(here) if here.metadata().is_directory() => break,
                Some(_) => return Err(RootfsError::NotADirectory(path)),
                None => next = path.parent(),
            }
            missing.push(path);
        }
        for path in missing.into_iter().rev() {
            self.put_directory_at(path, metadata.clone());
        }
        Ok(())
    }

    /// Makes a directory at a place whose parents are there, or gives the one there other metadata; extended attributes
    /// that it has and `metadata` does not name stay.
    pub(super) fn put_directory_at(&mut self, place: RootPath, mut metadata: Metadata) {
        let (opaque, replaces) = match self.here(&place) {
            Some(here) if here.metadata().is_directory() => {
                for (name, value) in &here.metadata().xattrs {
                    metadata.xattrs.entry(name.clone()).or_insert_with(|| value.clone());
                }
                (matches!(here, Here::Pending(PendingEntry { opaque: true, .. })), false)
            }
            _ => (false, true),
        };
        // What was in a directory below must not show through in what is made now; in anything else there is nothing.
        let opaque = opaque || (replaces && self.below_has_directory(&place));
        self.pending.put(place, PendingEntry { metadata, content: None, link: None, opaque });
    }

    /// Puts what is not a directory at a place whose parents are there.
    pub(super) fn put_at(
        &mut self,
        place: RootPath,
        metadata: Metadata,
        content: Option<Content>,
        link: Option<crate::pending::LinkId>,
    ) {
        self.pending.put(place, PendingEntry { metadata, content, link, opaque: false });
    }

    pub(super) fn metadata_of(&self, kind: Kind, attributes: &Attributes) -> Metadata {
        Metadata {
            kind,
            mode: attributes.mode & 0o7777,
            owner: attributes.owner,
            mtime: attributes.mtime.unwrap_or(self.now),
            xattrs: Default::default(),
        }
    }

    /// Whether the layers have something at a path that no change of a parent hides.
    pub(super) fn below_has(&self, path: &RootPath) -> bool {
        self.pending.shows_through(path) && self.below.index().lookup(path).is_some()
    }

    fn below_has_directory(&self, path: &RootPath) -> bool {
        let below = || self.below.index().lookup(path);
        self.pending.shows_through(path) && below().is_some_and(|found| found.to_metadata().is_directory())
    }

    /// The entry at a path as one of this step; what the layers have is taken over.
    fn bring_up(&mut self, path: &RootPath) -> Option<&mut PendingEntry> {
        if let Here::Below(found) = self.here(path)? {
            let metadata = found.to_metadata();
            let content = metadata.is_file().then(|| Content::Tree { tree: self.below.clone(), path: path.clone() });
            self.pending.put(path.clone(), PendingEntry { metadata, content, link: None, opaque: false });
        }
        self.pending.get_mut(path)
    }
}

/// Refuses what is neither a fifo nor a device, and overlayfs' own kind of device.
pub(super) fn expect_node(path: &RootPath, kind: &Kind) -> Result<(), RootfsError> {
    let why = match kind {
        Kind::CharacterDevice { major: 0, minor: 0 } => {
            "would be a character device 0:0, which overlayfs takes for a removed entry"
        }
        Kind::Fifo | Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } => return Ok(()),
        _ => "is neither a fifo nor a device",
    };
    Err(RootfsError::Unsupported { path: path.clone(), why })
}
