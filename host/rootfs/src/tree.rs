//! Anything that COPY can read.

use std::io::{self, Read};

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

    /// Opens a regular file as [`Tree::open`] does, so many bytes behind its beginning; behind its end there is nothing to read.
    ///
    /// # Errors
    /// As [`Tree::open`].
    fn open_at(&self, path: &RootPath, offset_bytes: u64) -> Result<Box<dyn Read + Send>, RootfsError> {
        let mut file = self.open(path)?;
        let skipped = io::copy(&mut file.by_ref().take(offset_bytes), &mut io::sink());
        skipped.map_err(|source| RootfsError::Storage { action: format!("read `{path}`"), source })?;
        Ok(file)
    }

    /// Two regular files with the same identity are hard links of each other; `None` where that is not known.
    ///
    /// # Errors
    /// The tree can't be read.
    fn identity(&self, path: &RootPath) -> Result<Option<u64>, RootfsError>;

    /// The commit that the tree is, its whole id in hexadecimal; `None` for anything but a git repository that was fetched.
    fn revision(&self) -> Option<String> {
        None
    }

    /// All that one look at a path without symlinks tells; `None` if there is nothing.
    ///
    /// # Errors
    /// The tree can't be read.
    fn entry(&self, path: &RootPath) -> Result<Option<TreeEntry>, RootfsError> {
        let Some(metadata) = self.metadata(path, false)? else { return Ok(None) };
        let identity = if metadata.is_file() { self.identity(path)? } else { None };
        Ok(Some(TreeEntry { metadata, identity, changed_ns: None, fingerprint: None }))
    }

    /// A directory's entries with their names, sorted by bytes, each looked at once. `is_plain` tells of a file by its
    /// fingerprint that it is known to have no extended attributes: none are asked for then.
    ///
    /// # Errors
    /// It is not a directory or can't be read.
    fn entries(&self, path: &RootPath, _is_plain: IsPlain<'_>) -> Result<Vec<(Vec<u8>, TreeEntry)>, RootfsError> {
        let names = self.read_directory(path)?;
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            if let Some(entry) = self.entry(&path.child(&name)?)? {
                entries.push((name, entry));
            }
        }
        Ok(entries)
    }

    /// Opens a regular file as [`Tree::open`] does, and tells what was opened.
    ///
    /// # Errors
    /// It is not a regular file or can't be read.
    fn open_entry(&self, path: &RootPath) -> Result<OpenFile, RootfsError> {
        let real = self.resolve(path)?.ok_or_else(|| RootfsError::NotFound(path.clone()))?;
        Ok(OpenFile { reader: self.open(&real)?, path: real, fingerprint: None })
    }
}

/// Answers whether the file with this fingerprint is known to have no extended attributes.
pub type IsPlain<'a> = &'a dyn Fn(&Fingerprint) -> bool;

/// What one look at an entry of a tree tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// As [`Tree::metadata`] tells it.
    pub metadata: Metadata,
    /// As [`Tree::identity`] tells it.
    pub identity: Option<u64>,
    /// When it last changed, in nanoseconds since 1970; `None` where it can't change.
    pub changed_ns: Option<i128>,
    /// What changes whenever the content of a regular file does; `None` where that can't be told without reading.
    pub fingerprint: Option<Fingerprint>,
}

/// A regular file of a tree, open for reading.
pub struct OpenFile {
    /// Its content.
    pub reader: Box<dyn Read + Send>,
    /// Where it really is.
    pub path: RootPath,
    /// What it was when it was opened, where that can be told.
    pub fingerprint: Option<Fingerprint>,
}

/// Device, inode, size, mtime and ctime of a file of this machine. An edit that sets size and mtime back changes the ctime,
/// which no program can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; Self::BYTES]);

impl Fingerprint {
    /// Its size in bytes.
    pub const BYTES: usize = 56;

    /// From what stat(2) tells; times in nanoseconds since 1970.
    pub(crate) fn new(device: u64, inode: u64, size: u64, mtime_ns: i128, ctime_ns: i128) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&ctime_ns.to_le_bytes());
        bytes[16..32].copy_from_slice(&mtime_ns.to_le_bytes());
        bytes[32..40].copy_from_slice(&device.to_le_bytes());
        bytes[40..48].copy_from_slice(&inode.to_le_bytes());
        bytes[48..].copy_from_slice(&size.to_le_bytes());
        Self(bytes)
    }

    /// From bytes that [`Fingerprint::as_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// When content or metadata last changed, in nanoseconds since 1970.
    pub fn changed_ns(&self) -> i128 {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        i128::from_le_bytes(bytes)
    }
}
