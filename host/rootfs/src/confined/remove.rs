//! Removing what is beneath a directory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Stat},
    io::Errno,
};

use super::{ConfinedDir, names_in};
use crate::{RootPath, RootfsError};

impl ConfinedDir {
    /// Removes an entry and everything beneath it, of any depth; nothing happens if there is none. For the root: what is
    /// in it. Directories that are locked against their owner are opened up.
    ///
    /// # Errors
    /// Something can't be removed: it belongs to another user, or the machine failed.
    pub fn remove_all(&self, path: &RootPath) -> Result<(), RootfsError> {
        let removed = match path.is_root() {
            true => open_directory(&self.dir, b".").and_then(|(fd, _)| empty(fd)),
            false => match self.parent(path) {
                Ok((parent, name)) => remove(parent.as_fd(), name),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(errno) => Err(errno),
            },
        };
        removed.map_err(|errno| self.storage("remove", path, errno.into()))
    }
}

/// A directory on the way down, with what is left to remove in it.
struct Level {
    stat: Stat,
    names: Vec<Vec<u8>>,
}

fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // unlink(2): EISDIR on Linux, EPERM by POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let (fd, _) = open_directory(parent, name)?;
    empty(fd)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Holds one descriptor, however deep the tree is (a RUN can make trees that are deeper than any path is long, and than
/// this process may hold descriptors). The way up is `..`, taken only if it leads to where the walk came from.
fn empty(root: OwnedFd) -> rustix::io::Result<()> {
    let mut here = root;
    let mut levels = vec![Level { stat: rustix::fs::fstat(&here)?, names: list(&here)? }];
    let mut names_above: Vec<Vec<u8>> = Vec::new();
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.names.pop() {
            match rustix::fs::unlinkat(&here, &name[..], AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
            let (below, stat) = open_directory(&here, &name)?;
            levels.push(Level { stat, names: list(&below)? });
            names_above.push(name);
            here = below;
            continue;
        }
        levels.pop();
        let (Some(above), Some(name)) = (levels.last(), names_above.pop()) else {
            return Ok(());
        };
        let (fd, stat) = open_directory(&here, b"..")?;
        if (stat.st_dev, stat.st_ino) != (above.stat.st_dev, above.stat.st_ino) {
            // Someone moved it away while we were in it.
            return Err(Errno::AGAIN);
        }
        here = fd;
        rustix::fs::unlinkat(&here, &name[..], AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Opens a directory that is about to be emptied: one that is locked against its owner is opened up.
fn open_directory(at: impl AsFd, name: &[u8]) -> rustix::io::Result<(OwnedFd, Stat)> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let owner_all = Mode::from_raw_mode(0o700);
    let fd = match rustix::fs::openat(&at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let locked = rustix::fs::openat(&at, name, flags | OFlags::PATH, Mode::empty())?;
            // fchmod refuses O_PATH descriptors; the link of /proc leads to what the descriptor holds and nowhere else.
            let link = format!("/proc/self/fd/{}", locked.as_raw_fd());
            rustix::fs::chmodat(CWD, link, owner_all, AtFlags::empty())?;
            rustix::fs::openat(&at, name, flags, Mode::empty())?
        }
        result => result?,
    };
    let stat = rustix::fs::fstat(&fd)?;
    if Mode::from_raw_mode(stat.st_mode) & owner_all != owner_all {
        // Where that is refused, so is the removal: its error is the better one.
        let _ = rustix::fs::fchmod(&fd, owner_all);
    }
    Ok((fd, stat))
}

fn list(directory: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, ".", flags, Mode::empty()).and_then(names_in)
}
