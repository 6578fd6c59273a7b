//! Third-party components are compiled once: the code is kept in a directory that only this user can touch.

use std::{
    fs,
    hash::{Hash, Hasher},
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use cofferdam_digest::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use crate::native::{self, OwnCode};

/// How the names of files begin that are being written.
const PARTIAL: &str = ".partial-";

/// What was not written to for so long, nobody finishes.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// A private directory of compiled components.
#[derive(Debug)]
pub(crate) struct CompileCache {
    directory: PathBuf,
}

/// A directory that is not private.
#[derive(Debug, thiserror::Error)]
pub enum CompileCacheError {
    /// It can't be made or looked at.
    #[error("can't use `{0}` for compiled plugins")]
    Storage(PathBuf, #[source] std::io::Error),
    /// Others could put code there, which would then run in this process.
    #[error("`{0}` is not safe for compiled plugins: it must be a directory of this user with mode 0700")]
    NotPrivate(PathBuf),
}

impl CompileCache {
    /// Makes the directory (mode 0700) or checks the one that is there.
    ///
    /// # Errors
    /// It can't be made, belongs to another user, is a symlink, or is open to others.
    pub(crate) fn open(directory: &Path) -> Result<Self, CompileCacheError> {
        let storage = |error| CompileCacheError::Storage(directory.to_owned(), error);
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(storage(error)),
            _ => {}
        }
        let metadata = fs::symlink_metadata(directory).map_err(storage)?;
        if !metadata.is_dir() || !is_private(&metadata) {
            return Err(CompileCacheError::NotPrivate(directory.to_owned()));
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// The compiled component, if it is there and whole.
    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let path = self.path(engine, digest);
        let metadata = fs::symlink_metadata(&path).ok()?;
        if !metadata.is_file() || !is_private(&metadata) {
            return None;
        }
        let bytes = fs::read(path).ok()?;
        let (checksum, code) = bytes.split_at_checked(32)?;
        // A torn write would otherwise be run.
        (Digest::of(code).as_bytes() == checksum).then_some(())?;
        native::load(engine, OwnCode::from_private_cache(code)).ok()
    }

    /// Keeps a compiled component. A failure only costs the next run its time.
    pub(crate) fn store(&self, engine: &Engine, digest: &Digest, component: &Component) {
        self.remove_abandoned();
        let write = || -> Option<()> {
            let code = component.serialize().ok()?;
            let mut file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(&self.directory).ok()?;
            file.write_all(Digest::of(&code).as_bytes()).ok()?;
            file.write_all(&code).ok()?;
            file.persist(self.path(engine, digest)).ok()?;
            Some(())
        };
        write();
    }

    /// Removes what killed builders were writing. Nobody takes minutes for it.
    fn remove_abandoned(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|file| file.modified()).map(|written| written.elapsed());
            let old = age.is_ok_and(|age| age.is_ok_and(|age| age > ABANDONED_AFTER));
            if old && entry.file_name().as_encoded_bytes().starts_with(PARTIAL.as_bytes()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, engine: &Engine, digest: &Digest) -> PathBuf {
        let mut hasher = HashSha256(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.directory.join(format!("{}-{}.cwasm", digest.hex(), &hasher.0.finish().hex()[..16]))
    }
}

/// Nobody but this user (or root) could have written it.
fn is_private(metadata: &fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
}

struct HashSha256(Sha256);

impl Hasher for HashSha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the digest is taken from the inner hasher")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        CompileCache::open(&directory).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(CompileCache::open(&directory), Err(CompileCacheError::NotPrivate(_))));
        let link = parent.path().join("link");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        assert!(matches!(CompileCache::open(&link), Err(CompileCacheError::NotPrivate(_))));
    }
}
