//! Anything that COPY can read.

use std::io::Read;

use crate::{Metadata, RootPath, RootfsError};

/// A read-only tree: the context, a stage, an image, a named context. Paths resolve inside the tree's root, absolute
/// symlinks included; nothing outside can be named.
pub trait Tree: Send + Sync {
    /// The entry at a path. Symlinks in parents are resolved in the root, the last component only if `follow`.
    /// `None` if there is nothing.
    ///
    /// # Errors
    /// The tree can't be read, or symlinks loop.
    fn metadata(&self, path: &RootPath, follow: bool) -> Result<Option<Metadata>, RootfsError>;

    /// The real path of an entry after resolving every symlink in the root; `None` if there is nothing.
    ///
    /// # Errors
    /// The tree can't be read, or symlinks loop.
    fn resolve(&self, path: &RootPath) -> Result<Option<RootPath>, RootfsError>;

    /// The names in a directory, sorted by bytes.
    ///
    /// # Errors
    /// It is not a directory or can't be read.
    fn read_directory(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError>;

    /// Opens a regular file, symlinks resolved in the root. Never blocks on a fifo or opens a device.
    ///
    /// # Errors
    /// It is not a regular file or can't be read.
    fn open(&self, path: &RootPath) -> Result<Box<dyn Read + Send>, RootfsError>;

    /// Two regular files with the same identity are hard links of each other; `None` where that is not known.
    ///
    /// # Errors
    /// The tree can't be read.
    fn identity(&self, path: &RootPath) -> Result<Option<u64>, RootfsError>;
}
