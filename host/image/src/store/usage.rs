//! Which things are in use, so that room can be made beside running builders.
//!
//! The mtime of a file is when it was last used: whoever looks for something that is older than its session touches it. What was used
//! since the oldest living session began is not removed, so a builder keeps what it has seen, however long it runs. Touching
//! and removing exclude each other by a lock (`tmp/use`), which is held for a system call or two. The mtime of a directory is
//! the layer's own: the lock file beside it stands for it.

use std::{
    fs::{self, File, TryLockError},
    os::fd::AsFd,
    path::Path,
    time::SystemTime,
};

use rustix::{
    fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT},
    io::Errno,
};

use super::{
    Store,
    items::{list, remove_file},
    session::{LOCK, lock_file},
};
use crate::StoreError;

/// The access time stays, the modification time is now.
const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

/// The builders that are at work beside this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbours {
    /// How many there are.
    pub count: usize,
    /// What was used before, and not since, is in nobody's use.
    pub unused_since: SystemTime,
}

impl Store {
    /// Notes that a file is used, and says whether it still is there. `modified` is its mtime.
    pub(super) fn mark_used(&self, path: &Path, modified: Option<SystemTime>) -> bool {
        if !self.is_user || modified.is_some_and(|modified| modified >= self.session.begun) {
            return true;
        }
        // A lock that can't be had is no reason to do without what is there.
        let lock = lock_file(&self.usage_lock_path()).ok();
        let _held = lock.as_ref().map(File::lock_shared);
        match rustix::fs::utimensat(CWD, path, &NOW, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => true,
            Err(errno) => errno != Errno::NOENT,
        }
    }

    /// Whether something was used at a moment or since. Whoever asks holds the lock of [`Store::lock_usage`], or the one that
    /// users of the thing take.
    pub(super) fn was_used_since(path: &Path, moment: SystemTime) -> bool {
        fs::symlink_metadata(path).and_then(|file| file.modified()).is_ok_and(|modified| modified >= moment)
    }

    /// Nobody begins to use anything until this is dropped.
    pub(super) fn lock_usage(&self) -> Result<File, StoreError> {
        let path = self.usage_lock_path();
        let lock = lock_file(&path)?;
        lock.lock().map_err(StoreError::io("lock", path))?;
        Ok(lock)
    }

    fn usage_lock_path(&self) -> std::path::PathBuf {
        self.root.join("tmp/use")
    }

    /// Who else is at work. What this session itself uses counts as used.
    ///
    /// # Errors
    /// The machine refused.
    pub fn neighbours(&self) -> Result<Neighbours, StoreError> {
        let _gate = self.session.lock_gate()?;
        self.look_around()
    }

    /// Removes lock files of what is gone, if nobody else is at work, and nobody begins meanwhile: beside others one of them could lock
    /// a file that has no name any more.
    ///
    /// # Errors
    /// The machine refused.
    pub fn remove_stale_locks(&self) -> Result<(), StoreError> {
        let _gate = self.session.lock_gate()?;
        if self.look_around()?.count > 0 {
            return Ok(());
        }
        for form in list(&self.root.join("unpacked"))? {
            let locks = list(&form)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "lock"));
            for lock in locks.filter(|lock| fs::symlink_metadata(lock.with_extension("")).is_err()) {
                remove_file(&lock).map_err(StoreError::io("remove", &lock))?;
            }
        }
        for slot in self.cache_mount_slots()? {
            if ["data", "journal"].iter().all(|part| fs::symlink_metadata(slot.join(part)).is_err()) {
                let lock = slot.join("lock");
                remove_file(&lock).map_err(StoreError::io("remove", &lock))?;
                // The cache's directory, too, with its last slot.
                let _ = fs::remove_dir(&slot);
                let _ = slot.parent().map(fs::remove_dir);
            }
        }
        Ok(())
    }

    /// As [`Store::neighbours`], for who has the gate.
    fn look_around(&self) -> Result<Neighbours, StoreError> {
        let tmp = self.root.join("tmp");
        let mut neighbours = Neighbours { count: 0, unused_since: self.session.begun };
        for entry in fs::read_dir(&tmp).map_err(StoreError::io("list", &tmp))? {
            let path = entry.map_err(StoreError::io("list", &tmp))?.path();
            if path.extension().is_none_or(|extension| extension != "lock") || self.session.is_own(&path) {
                continue;
            }
            let Ok(lock) = rustix::fs::open(&path, LOCK, rustix::fs::Mode::empty()).map(File::from) else { continue };
            if let Err(TryLockError::WouldBlock) = lock.try_lock() {
                neighbours.count += 1;
                let begun = lock.metadata().and_then(|lock| lock.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                neighbours.unused_since = neighbours.unused_since.min(begun);
            }
        }
        Ok(neighbours)
    }
}

/// Notes that what a lock file stands for is used. The caller holds the lock.
pub(super) fn touch(lock: &impl AsFd) {
    // Where that is not possible it may be removed early, and is made again.
    let _ = rustix::fs::futimens(lock, &NOW);
}
