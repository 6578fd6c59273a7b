//! A fetched file as a tree.

use std::{fs::File, io::Read, path::PathBuf};

use cofferdam_rootfs::{Kind, Metadata, Owner, RootPath, RootfsError, Timestamp, Tree};

/// What the file is called in its tree.
const NAME: &[u8] = b"content";

/// The tree with the one file `content`, of mode 0600, owned by root.
pub struct FetchedFile {
    path: PathBuf,
    size: u64,
    mtime: Timestamp,
}

impl FetchedFile {
    /// From a file of this machine that nobody changes.
    pub fn new(path: PathBuf, size: u64, mtime: Timestamp) -> Self {
        Self { path, size, mtime }
    }

    fn is_file(path: &RootPath) -> bool {
        path.as_bytes() == NAME
    }

    fn described(&self, kind: Kind, mode: u32) -> Metadata {
        Metadata { kind, mode, owner: Owner { uid: 0, gid: 0 }, mtime: self.mtime, xattrs: Default::default() }
    }
}

impl Tree for FetchedFile {
    fn metadata(&self, path: &RootPath, _follow: bool) -> Result<Option<Metadata>, RootfsError> {
        Ok(match path {
            path if path.is_root() => Some(self.described(Kind::Directory, 0o755)),
            // As BuildKit makes it (Dockerfile reference, "ADD": permissions of 600).
            path if Self::is_file(path) => Some(self.described(Kind::File { size: self.size }, 0o600)),
            _ => None,
        })
    }

    fn resolve(&self, path: &RootPath) -> Result<Option<RootPath>, RootfsError> {
        Ok((path.is_root() || Self::is_file(path)).then(|| path.clone()))
    }

    fn read_directory(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        match path {
            path if path.is_root() => Ok(vec![NAME.to_vec()]),
            path if Self::is_file(path) => Err(RootfsError::NotADirectory(path.clone())),
            path => Err(RootfsError::NotFound(path.clone())),
        }
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn Read + Send>, RootfsError> {
        if !Self::is_file(path) {
            return Err(RootfsError::NotFound(path.clone()));
        }
        let opened = File::open(&self.path);
        let opened =
            opened.map_err(|source| RootfsError::Storage { action: "open what was fetched".to_owned(), source });
        Ok(Box::new(opened?))
    }

    fn identity(&self, _path: &RootPath) -> Result<Option<u64>, RootfsError> {
        Ok(None)
    }
}
