//! Writing a layer into a directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    ops::Bound,
    sync::Arc,
};

use crate::{
    Change, ChangeSet, ConfinedDir, HostEntry, Kind, MergedIndex, Metadata, RootPath, RootfsError, is_image_xattr,
    merged::implicit_directory,
};

/// As whom a layer is unpacked, and so what of it can be real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnpackForm {
    /// As root, or in a user namespace with a full range of ids: owners, modes, extended attributes and devices are real.
    /// A device that can't be made (in a user namespace none can) is an empty file.
    Real,
    /// In a user namespace with a single id: as `Real`, but everything belongs to that id, and devices are empty files.
    SingleId,
    /// As an ordinary user, for reading files only: no owners, no devices (empty files), no whiteouts, no setuid bits;
    /// everything can be read and written by its owner.
    Plain,
}

/// Unpacks one layer into a directory, empty at the start, that serves as a lower directory of an overlay mount with
/// `userxattr` (whiteouts are character devices 0:0, opaque directories have `user.overlay.opaque`), or for reading files.
///
/// Nothing that an archive says reaches outside the directory: no symlink is followed on the way to an entry. A layer that
/// puts an entry beneath a symlink, or beneath a file, of its own is refused: where the entry would end up depends on the
/// layers below, which a layer is unpacked without. The umask does not matter.
pub struct Unpacker {
    target: Arc<ConfinedDir>,
    form: UnpackForm,
    below: Option<Arc<MergedIndex>>,
    /// Every directory made here; `None` for those that no entry has described. Their attributes are set at the end: a
    /// read-only directory could not be filled, and filling it changes its mtime.
    directories: BTreeMap<RootPath, Option<Metadata>>,
    opaque: BTreeSet<RootPath>,
    buffer: Vec<u8>,
}

impl Unpacker {
    /// Starts in a directory: empty for a layer, and otherwise what has the same name gives way, but directories stay.
    pub fn new(target: Arc<ConfinedDir>, form: UnpackForm) -> Self {
        let directories = BTreeMap::from([(RootPath::root(), None)]);
        Self { target, form, below: None, directories, opaque: BTreeSet::new(), buffer: vec![0; 128 << 10] }
    }

    /// Directories that the layer does not describe look as they do in the layers below, instead of 0755, 0:0: overlayfs
    /// takes a directory's attributes from the topmost layer that has it.
    #[must_use]
    pub fn on_top_of(self, below: Arc<MergedIndex>) -> Self {
        Self { below: Some(below), ..self }
    }

    /// Writes one entry. The same path again replaces it; a directory keeps its content. `content` is read to its end for
    /// regular files that are no hard links, and must have as many bytes as the metadata says.
    ///
    /// # Errors
    /// A parent is not a directory, the hard link's target is not here, the content has another size, or the machine failed.
    pub fn entry(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        hard_link: Option<&RootPath>,
        content: &mut dyn Read,
    ) -> Result<(), RootfsError> {
        if metadata.is_directory() {
            self.make_directory(path, true)?;
            self.directories.insert(path.clone(), Some(metadata.clone()));
            return Ok(());
        }
        if path.is_root() {
            return Err(RootfsError::NotADirectory(path.clone()));
        }
        self.make_parents(path)?;
        if let Some(target) = hard_link {
            if target == path {
                return Err(RootfsError::Unsupported { path: path.clone(), why: "is a hard link to itself" });
            }
            self.make_way(path)?;
            return self.target.create_hard_link(target, path);
        }
        if !metadata.is_file() {
            self.make_way(path)?;
        }
        match &metadata.kind {
            Kind::File { size } => self.write_file(path, metadata, *size, content),
            Kind::Symlink { target } => {
                self.target.create_symlink(path, target)?;
                self.set_owner(path, metadata)?;
                self.target.set_mtime(path, metadata.mtime)
            }
            Kind::Fifo => self.make_node(path, metadata),
            Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } => self.make_device(path, metadata),
            Kind::Socket => {
                Err(RootfsError::Unsupported { path: path.clone(), why: "is a socket, which layers can't hold" })
            }
            Kind::Directory => Ok(()),
        }
    }

    /// As [`Unpacker::entry`] for a regular file, which is moved here from another directory on the same file system, where it was
    /// looked at. `into` is the directory for it here ([`Unpacker::directory`]). Its extended attributes stay what they are.
    ///
    /// # Errors
    /// The file is not there, or the machine failed.
    pub(crate) fn take(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        found: &HostEntry,
        from: &ConfinedDir,
        into: &ConfinedDir,
    ) -> Result<(), RootfsError> {
        let name = RootPath::new(path.file_name().unwrap_or_default())?;
        // Mostly nothing is in the way, so it is not looked for before.
        if !into.try_take(&name, from)? {
            self.make_way(path)?;
            into.take(&name, from)?;
        }
        if self.form == UnpackForm::Real {
            into.set_owner(&name, metadata.owner)?;
        }
        let mode = self.mode(metadata);
        if self.form == UnpackForm::Real || found.metadata.mode != mode {
            into.set_mode(&name, mode)?;
        }
        if found.metadata.mtime != metadata.mtime {
            into.set_mtime(&name, metadata.mtime)?;
        }
        Ok(())
    }

    /// The directory at a path, made if it is missing.
    ///
    /// # Errors
    /// A parent is not a directory, or the machine failed.
    pub(crate) fn directory(&mut self, path: &RootPath) -> Result<ConfinedDir, RootfsError> {
        self.make_directory(path, false)?;
        self.target.open_directory(path)
    }

    /// Hides what the layers below have at a path. What this layer has there stays, whichever came first (layer.md,
    /// "Whiteouts": they apply to the layers below only).
    ///
    /// # Errors
    /// A parent is not a directory, or the machine failed.
    pub fn whiteout(&mut self, path: &RootPath) -> Result<(), RootfsError> {
        if self.form == UnpackForm::Plain || path.is_root() {
            return Ok(());
        }
        self.make_parents(path)?;
        if self.directories.contains_key(path) {
            self.opaque.insert(path.clone());
            return Ok(());
        }
        match self.target.entry(path)? {
            Some(_) => Ok(()),
            None => self.target.create_node(path, &Kind::CharacterDevice { major: 0, minor: 0 }),
        }
    }

    /// Hides what the layers below have in a directory.
    ///
    /// # Errors
    /// It is something else in this layer, or the machine failed.
    pub fn opaque(&mut self, path: &RootPath) -> Result<(), RootfsError> {
        self.make_directory(path, false)?;
        self.opaque.insert(path.clone());
        Ok(())
    }

    /// Writes all changes of a step, for a RUN that comes after other changes of the same step.
    ///
    /// # Errors
    /// As the single entries; or a content can't be read.
    pub fn change_set(&mut self, changes: &ChangeSet) -> Result<(), RootfsError> {
        for (path, change) in &changes.changes {
            match change {
                Change::Remove => self.whiteout(path)?,
                Change::Put { metadata, content, hard_link, opaque } => {
                    let mut content = match content {
                        Some(content) => content.open()?,
                        None => Box::new(io::empty()),
                    };
                    self.entry(path, metadata, hard_link.as_ref(), &mut content)?;
                    if *opaque {
                        self.opaque(path)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sets what directories have, the deepest first.
    ///
    /// # Errors
    /// The machine failed.
    pub fn finish(self) -> Result<(), RootfsError> {
        for (path, described) in self.directories.iter().rev() {
            let opaque = self.opaque.contains(path) && self.form != UnpackForm::Plain;
            if path.is_root() && described.is_none() && !opaque {
                continue;
            }
            let below = || self.below.as_ref()?.lookup(path).map(|found| found.to_metadata());
            let implied = || below().filter(Metadata::is_directory).unwrap_or_else(implicit_directory);
            let metadata = described.clone().unwrap_or_else(implied);
            self.set_owner(path, &metadata)?;
            self.set_xattrs(path, &metadata)?;
            if opaque && !self.target.set_xattr(path, &Kind::Directory, b"user.overlay.opaque", b"y")? {
                return Err(RootfsError::Storage {
                    action: format!("mark `{path}` as opaque in {}", self.target.shown().display()),
                    source: io::ErrorKind::Unsupported.into(),
                });
            }
            self.target.set_mode(path, self.mode(&metadata))?;
            self.target.set_mtime(path, metadata.mtime)?;
        }
        Ok(())
    }

    fn make_parents(&mut self, path: &RootPath) -> Result<(), RootfsError> {
        path.parent().map_or(Ok(()), |parent| self.make_directory(&parent, false))
    }

    /// Makes a directory and its missing parents. Something else at `path` itself gives way if `replace`; in the parents it
    /// never does.
    fn make_directory(&mut self, path: &RootPath, replace: bool) -> Result<(), RootfsError> {
        let mut missing = Vec::new();
        let mut next = Some(path.clone());
        while let Some(path) = next.filter(|path| !self.directories.contains_key(path)) {
            next = path.parent();
            missing.push(path);
        }
        for directory in missing.into_iter().rev() {
            match self.target.entry(&directory)?.map(|entry| entry.metadata.kind) {
                None => {}
                // Only where the target was not empty at the start.
                Some(Kind::Directory) => {
                    self.directories.insert(directory, None);
                    continue;
                }
                Some(Kind::CharacterDevice { major: 0, minor: 0 }) => {
                    self.target.remove_all(&directory)?;
                    self.opaque.insert(directory.clone());
                }
                Some(_) if replace && directory == *path => self.target.remove_all(path)?,
                Some(_) => return Err(RootfsError::NotADirectory(directory)),
            }
            self.target.create_directory(&directory)?;
            self.directories.insert(directory, None);
        }
        Ok(())
    }

    /// Removes what an earlier entry, or a whiteout, left at a path.
    fn make_way(&mut self, path: &RootPath) -> Result<(), RootfsError> {
        if self.directories.contains_key(path) {
            let end = RootPath::after_everything_beneath(path);
            let beneath = (Bound::Included(path), Bound::Excluded(&end));
            let gone: Vec<RootPath> = self.directories.range(beneath).map(|(path, _)| path.clone()).collect();
            for path in gone {
                self.directories.remove(&path);
                self.opaque.remove(&path);
            }
        }
        self.target.remove_all(path)
    }

    fn write_file(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), RootfsError> {
        // Mostly nothing is in the way, so it is not looked for before.
        let mut file = match self.target.try_create_file(path)? {
            Some(file) => file,
            None => {
                self.make_way(path)?;
                self.target.create_file(path)?
            }
        };
        let failed = |source| RootfsError::Storage { action: format!("write `{path}` of a layer"), source };
        let mut written = 0_u64;
        loop {
            let length = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(RootfsError::Storage { action: format!("read `{path}` of a layer"), source });
                }
            };
            written += length as u64;
            if written > size {
                break;
            }
            file.write_all(&self.buffer[..length]).map_err(failed)?;
        }
        if written != size {
            let source =
                io::Error::new(io::ErrorKind::InvalidData, "its content has another size than its header says");
            return Err(failed(source));
        }
        // Not through the path again: a file of mode 0400 could not be opened, and it saves look-ups.
        let owner = (self.form == UnpackForm::Real).then_some(metadata.owner);
        let xattrs = metadata.xattrs.iter().filter(|(name, _)| is_image_xattr(name));
        let xattrs = xattrs.map(|(name, value)| (name.as_slice(), value.as_slice()));
        self.target.dress_file(path, &file, owner, xattrs, self.mode(metadata), metadata.mtime)
    }

    fn make_device(&mut self, path: &RootPath, metadata: &Metadata) -> Result<(), RootfsError> {
        // 0:0 would hide what is below.
        let ordinary = !matches!(metadata.kind, Kind::CharacterDevice { major: 0, minor: 0 });
        if self.form == UnpackForm::Real && ordinary {
            match self.make_node(path, metadata) {
                Err(RootfsError::Storage { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {}
                made => return made,
            }
        }
        self.write_file(path, metadata, 0, &mut io::empty())
    }

    fn make_node(&mut self, path: &RootPath, metadata: &Metadata) -> Result<(), RootfsError> {
        self.target.create_node(path, &metadata.kind)?;
        self.set_owner(path, metadata)?;
        self.target.set_mode(path, self.mode(metadata))?;
        self.target.set_mtime(path, metadata.mtime)
    }

    fn set_owner(&self, path: &RootPath, metadata: &Metadata) -> Result<(), RootfsError> {
        match self.form {
            UnpackForm::Real => self.target.set_owner(path, metadata.owner),
            UnpackForm::SingleId | UnpackForm::Plain => Ok(()),
        }
    }

    /// As far as the file system takes them: the index has them in any case.
    fn set_xattrs(&self, path: &RootPath, metadata: &Metadata) -> Result<(), RootfsError> {
        for (name, value) in metadata.xattrs.iter().filter(|(name, _)| is_image_xattr(name)) {
            self.target.set_xattr(path, &metadata.kind, name, value)?;
        }
        Ok(())
    }

    fn mode(&self, metadata: &Metadata) -> u32 {
        match (self.form, metadata.is_directory()) {
            (UnpackForm::Real | UnpackForm::SingleId, _) => metadata.mode,
            (UnpackForm::Plain, true) => metadata.mode & 0o777 | 0o700,
            (UnpackForm::Plain, false) => metadata.mode & 0o777 | 0o600,
        }
    }
}

#[cfg(test)]
mod tests;
