//! An opened context.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_rootfs::{ConfinedDir, DirectoryTree, Filter, Owner, Tree};

use crate::ContextError;

/// Which entries of a context exist for the build: the meaning of the ignore file, which somebody else reads.
#[derive(Clone)]
pub struct Visibility {
    /// Whether a path is there; the second argument tells whether it is a directory.
    pub visible: Filter,
    /// Whether something beneath an excluded directory may be visible; `false` spares looking.
    pub may_hold_visible: Filter,
}

/// A directory of this machine, opened. Nothing outside it can be reached, wherever its symlinks point.
pub struct Context {
    directory: PathBuf,
    root: Arc<ConfinedDir>,
}

impl Context {
    /// Opens a directory.
    ///
    /// # Errors
    /// It does not exist, is no directory, or can't be read.
    pub fn open(directory: &Path) -> Result<Self, ContextError> {
        let real = fs::canonicalize(directory).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ContextError::NoContext(directory.to_path_buf()),
            io::ErrorKind::NotADirectory => ContextError::NotADirectory(directory.to_path_buf()),
            _ => ContextError::Read { path: directory.to_path_buf(), source },
        })?;
        if !real.is_dir() {
            return Err(ContextError::NotADirectory(directory.to_path_buf()));
        }
        let root = ConfinedDir::open(&real)
            .map_err(|source| ContextError::InContext { name: directory.display().to_string(), source })?;
        Ok(Self { directory: real, root: Arc::new(root) })
    }

    /// The directory, absolute and without symlinks.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory as a handle.
    pub fn root(&self) -> &Arc<ConfinedDir> {
        &self.root
    }

    /// What COPY and ADD see. Everything belongs to root: who owns a checkout is an accident of the machine, and must not
    /// show in the image (Dockerfile reference, COPY, "--chown": files are created with UID and GID 0).
    pub fn tree(&self, visibility: Option<Visibility>) -> Arc<dyn Tree> {
        let whole = self.whole_tree();
        match visibility {
            Some(visibility) => Arc::new(whole.filtered(visibility.visible).pruned(visibility.may_hold_visible)),
            None => Arc::new(whole),
        }
    }

    pub(crate) fn whole_tree(&self) -> DirectoryTree {
        DirectoryTree::new(Arc::clone(&self.root)).owned_by(Owner { uid: 0, gid: 0 })
    }
}
