//! Directories that commands keep between builds: the caches of package managers and compilers.
//!
//! A cache has slots: `0` is the one that everybody shares, further ones are made where commands want it for themselves at
//! the same time. A slot's lock is held while a command uses it; the kernel lets go of it with the last descriptor, however a
//! builder ends.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use cofferdam_digest::Digest;
use rustix::{
    fs::{CWD, FlockOperation, RenameFlags},
    io::Errno,
};

use super::{Store, usage::touch};
use crate::StoreError;

/// How a command has a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSharing {
    /// Together with others.
    Shared,
    /// Alone; others wait.
    Locked,
    /// Alone; others get another slot.
    Private,
}

/// A cache that a command has, until this is dropped.
#[derive(Debug)]
pub struct CacheMount {
    slot: PathBuf,
    _lock: File,
}

impl CacheMount {
    /// The directory that the command sees.
    pub fn directory(&self) -> PathBuf {
        self.slot.join("data")
    }

    /// A file beside it, for what the disk can't say of it.
    pub fn journal(&self) -> PathBuf {
        self.slot.join("journal")
    }
}

impl Store {
    /// Takes a slot of a cache; `None` if others have it and it has to be waited for. `form` is how files are on the disk.
    /// A slot that is new is filled by `fill`, in a directory that takes its place when that is done.
    ///
    /// # Errors
    /// The store can't be written, or `fill` failed.
    pub fn cache_mount<E: From<StoreError>>(
        &self,
        form: &str,
        key: &Digest,
        sharing: CacheSharing,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Option<CacheMount>, E> {
        let cache = self.root.join("cache-mounts").join(form).join(key.hex());
        let operation = match sharing {
            CacheSharing::Shared => FlockOperation::NonBlockingLockShared,
            CacheSharing::Locked | CacheSharing::Private => FlockOperation::NonBlockingLockExclusive,
        };
        for number in 0_u32.. {
            let slot = cache.join(number.to_string());
            let failed = |error| StoreError::io("make the cache", &slot)(error);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&slot).map_err(failed)?;
            let lock = lock_file(&slot.join("lock")).map_err(failed)?;
            match rustix::fs::flock(&lock, operation) {
                Ok(()) => {
                    touch(&lock);
                    let mount = CacheMount { slot, _lock: lock };
                    self.fill_slot(&mount, fill)?;
                    return Ok(Some(mount));
                }
                Err(Errno::WOULDBLOCK) if sharing == CacheSharing::Private => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(failed(errno.into()).into()),
            }
        }
        Ok(None)
    }

    fn fill_slot<E: From<StoreError>>(
        &self,
        mount: &CacheMount,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let directory = mount.directory();
        if directory.is_dir() {
            return Ok(());
        }
        let temporary = self.temp_dir("cache")?;
        let fresh = temporary.path().join("data");
        let failed = |error| StoreError::io("make the cache", &directory)(error);
        fs::create_dir(&fresh).map_err(failed)?;
        fill(&fresh)?;
        // Those who share a slot may fill it at the same time: the first one's stays.
        match rustix::fs::renameat_with(CWD, &fresh, CWD, &directory, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(()),
            Err(errno) => Err(failed(errno.into()).into()),
        }
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_shared_waited_for_or_private() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let take = |id: &str, sharing| {
            let fill = |at: &Path| {
                fs::write(at.join("base"), "").unwrap();
                Ok::<_, StoreError>(())
            };
            store.cache_mount("plain", &Digest::of(id.as_bytes()), sharing, fill).unwrap()
        };
        let one = take("a", CacheSharing::Shared).unwrap();
        fs::remove_file(one.directory().join("base")).unwrap();
        fs::write(one.directory().join("kept"), "").unwrap();
        let two = take("a", CacheSharing::Shared).unwrap();
        assert_eq!(one.directory(), two.directory());
        assert!(!two.directory().join("base").exists(), "filled once");
        assert!(take("a", CacheSharing::Locked).is_none(), "to be waited for");
        let own = take("a", CacheSharing::Private).unwrap();
        assert!(own.directory() != one.directory() && own.directory().join("base").exists());
        let other = take("b", CacheSharing::Locked).unwrap();
        assert!(take("b", CacheSharing::Shared).is_none());
        drop((one, two, other));
        assert!(take("a", CacheSharing::Locked).unwrap().directory().join("kept").exists());
    }
}
