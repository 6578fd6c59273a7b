//! Making entries beneath a directory, and setting what they have.

use std::{fs::File, os::fd::AsRawFd};

use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::ConfinedDir;
use crate::{Kind, Owner, RootPath, RootfsError, Timestamp};

impl ConfinedDir {
    /// Makes a regular file, of mode 0600 less the umask, and opens it for writing. Never opens one that exists.
    ///
    /// # Errors
    /// Something is there, or the parent isn't a directory, or the machine failed.
    pub fn create_file(&self, path: &RootPath) -> Result<File, RootfsError> {
        self.try_create_file(path)?.ok_or_else(|| self.failed("create", path, Errno::EXIST))
    }

    /// As [`ConfinedDir::create_file`]; `None` if something is there.
    ///
    /// # Errors
    /// The parent isn't a directory, or the machine failed.
    pub(crate) fn try_create_file(&self, path: &RootPath) -> Result<Option<File>, RootfsError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let made = self.parent(path).and_then(|(parent, name)| rustix::fs::openat(&parent, name, flags, mode));
        match made {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(self.failed("create", path, errno)),
        }
    }

    /// Makes a directory, of mode 0700 whatever the umask says.
    ///
    /// # Errors
    /// Something is there, or the parent isn't a directory, or the machine failed.
    pub fn create_directory(&self, path: &RootPath) -> Result<(), RootfsError> {
        let mode = Mode::from_raw_mode(0o700);
        let made = self.parent(path).and_then(|(parent, name)| rustix::fs::mkdirat(&parent, name, mode));
        made.map_err(|errno| self.failed("create the directory", path, errno))?;
        // Not only the umask: a setgid directory hands its bit down.
        self.set_mode(path, 0o700)
    }

    /// Makes a symlink; `target` is stored as it is.
    ///
    /// # Errors
    /// Something is there, or the parent isn't a directory, or the machine failed.
    pub fn create_symlink(&self, path: &RootPath, target: &[u8]) -> Result<(), RootfsError> {
        let made = self.parent(path).and_then(|(parent, name)| rustix::fs::symlinkat(target, &parent, name));
        made.map_err(|errno| self.failed("create the symlink", path, errno))
    }

    /// Makes another name for an entry beneath. A symlink at `existing` is linked itself, not what it points to.
    ///
    /// # Errors
    /// `existing` is nothing or a directory, something is at `path`, or the machine failed.
    pub fn create_hard_link(&self, existing: &RootPath, path: &RootPath) -> Result<(), RootfsError> {
        let from = self.parent(existing).map_err(|errno| self.failed("open", existing, errno))?;
        let to = self.parent(path).map_err(|errno| self.failed("open", path, errno))?;
        let made = rustix::fs::linkat(&from.0, from.1, &to.0, to.1, AtFlags::empty());
        made.map_err(|errno| match errno {
            Errno::NOENT => RootfsError::NotFound(existing.clone()),
            errno => self.failed("create the hard link", path, errno),
        })
    }

    /// Moves an entry here from the same path beneath another directory of the same file system, in place of what is here.
    ///
    /// # Errors
    /// It is not there, a parent isn't a directory, or the machine failed.
    pub fn take(&self, path: &RootPath, from: &Self) -> Result<(), RootfsError> {
        let old = from.parent(path).map_err(|errno| from.failed("move", path, errno))?;
        let new = self.parent(path).map_err(|errno| self.failed("move something to", path, errno))?;
        let moved = rustix::fs::renameat(&old.0, old.1, &new.0, new.1);
        moved.map_err(|errno| from.failed("move", path, errno))
    }

    /// As [`ConfinedDir::take`], but not if something is here; answers whether it was moved.
    ///
    /// # Errors
    /// As [`ConfinedDir::take`].
    pub(crate) fn try_take(&self, path: &RootPath, from: &Self) -> Result<bool, RootfsError> {
        let old = from.parent(path).map_err(|errno| from.failed("move", path, errno))?;
        let new = self.parent(path).map_err(|errno| self.failed("move something to", path, errno))?;
        match rustix::fs::renameat_with(&old.0, old.1, &new.0, new.1, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            // Or the file system does not know the flag (rename(2)): then it is looked for.
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => Ok(false),
            Err(errno) => Err(from.failed("move", path, errno)),
        }
    }

    /// Makes a fifo or a device; the mode is 0600 less the umask.
    ///
    /// # Errors
    /// Something is there, this process may not make devices, or the machine failed. Other kinds: `InvalidInput`.
    pub fn create_node(&self, path: &RootPath, kind: &Kind) -> Result<(), RootfsError> {
        let (node, device) = match *kind {
            Kind::Fifo => (FileType::Fifo, 0),
            Kind::CharacterDevice { major, minor } => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
            Kind::BlockDevice { major, minor } => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
            _ => return Err(self.storage("create the node", path, std::io::ErrorKind::InvalidInput.into())),
        };
        let made = self
            .parent(path)
            .and_then(|(parent, name)| rustix::fs::mknodat(&parent, name, node, Mode::from_raw_mode(0o600), device));
        made.map_err(|errno| self.failed("create the node", path, errno))
    }

    /// Gives an entry to an owner, in the numbers of this process' user namespace. Clears setuid bits and capabilities, as
    /// chown(2) does: set those afterwards.
    ///
    /// # Errors
    /// This process may not, or the namespace has no such number.
    pub fn set_owner(&self, path: &RootPath, owner: Owner) -> Result<(), RootfsError> {
        let set = raw_owner(owner).and_then(|(uid, gid)| match path.is_root() {
            true => rustix::fs::fchown(&self.dir, Some(uid), Some(gid)),
            false => self.parent(path).and_then(|(parent, name)| {
                rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            }),
        });
        let verb = format!("give to {}:{} the file", owner.uid, owner.gid);
        set.map_err(|errno| self.failed(&verb, path, errno))
    }

    /// Sets the permission bits, setuid, setgid and sticky. Symlinks have none: nothing happens.
    ///
    /// # Errors
    /// This process may not, or the machine failed.
    pub fn set_mode(&self, path: &RootPath, mode: u32) -> Result<(), RootfsError> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        let set = self.open_fd(path, OFlags::PATH, Mode::empty()).and_then(|fd| {
            if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Symlink {
                return Ok(());
            }
            // fchmod refuses O_PATH descriptors; the link of /proc leads to what the descriptor holds and nowhere else.
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            match rustix::fs::chmodat(CWD, link, mode, AtFlags::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
                    rustix::fs::fchmod(self.open_fd(path, flags, Mode::empty())?, mode)
                }
                set => set,
            }
        });
        set.map_err(|errno| self.failed("set the mode of", path, errno))
    }

    /// Sets the time of the last change, and that of the last access to the same.
    ///
    /// # Errors
    /// This process may not, or the machine failed.
    pub fn set_mtime(&self, path: &RootPath, mtime: Timestamp) -> Result<(), RootfsError> {
        let times = both_times(mtime);
        let set = match path.is_root() {
            true => rustix::fs::futimens(&self.dir, &times),
            false => self
                .parent(path)
                .and_then(|(parent, name)| rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)),
        };
        set.map_err(|errno| self.failed("set the time of", path, errno))
    }

    /// Gives a file that [`ConfinedDir::create_file`] made all that it has, in the order in which nothing undoes what came
    /// before (chown clears capabilities and setuid bits). Extended attributes that can't be set are left out.
    pub(crate) fn dress_file<'x>(
        &self,
        path: &RootPath,
        file: &File,
        owner: Option<Owner>,
        xattrs: impl Iterator<Item = (&'x [u8], &'x [u8])>,
        mode: u32,
        mtime: Timestamp,
    ) -> Result<(), RootfsError> {
        if let Some(owner) = owner {
            let verb = format!("give to {}:{} the file", owner.uid, owner.gid);
            let given = raw_owner(owner).and_then(|(uid, gid)| {
                // Most belong to root already, and asking is cheaper than writing the inode once more.
                let stat = rustix::fs::fstat(file)?;
                match (stat.st_uid, stat.st_gid) == (uid.as_raw(), gid.as_raw()) {
                    true => Ok(()),
                    false => rustix::fs::fchown(file, Some(uid), Some(gid)),
                }
            });
            given.map_err(|errno| self.failed(&verb, path, errno))?;
        }
        for (name, value) in xattrs {
            match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {}
                Err(errno) => return Err(self.failed("set an extended attribute of", path, errno)),
            }
        }
        let dressed = rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))
            .and_then(|()| rustix::fs::futimens(file, &both_times(mtime)));
        dressed.map_err(|errno| self.failed("set the mode and time of", path, errno))
    }
}

/// The numbers as the kernel takes them. All bits set would mean "leave it".
fn raw_owner(owner: Owner) -> rustix::io::Result<(Uid, Gid)> {
    match owner.uid == u32::MAX || owner.gid == u32::MAX {
        true => Err(Errno::INVAL),
        false => Ok((Uid::from_raw(owner.uid), Gid::from_raw(owner.gid))),
    }
}

fn both_times(time: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
