//! A directory of the user's that stays only if it was filled.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::StoreError;

/// A directory that is being filled. Dropped without [`NewDirectory::keep`], it is removed, unless it was there before.
pub struct NewDirectory {
    path: PathBuf,
    is_new: bool,
}

impl NewDirectory {
    /// Makes the directory, and what is missing above it, or takes the one that is there.
    ///
    /// # Errors
    /// It can't be made.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(StoreError::io("create", path))?;
        Ok(Self { path: path.to_path_buf(), is_new })
    }

    /// It is complete.
    pub fn keep(mut self) {
        self.is_new = false;
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if self.is_new {
            // What can't be removed was told by what failed before.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
