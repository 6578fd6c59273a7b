//! Files that give privileges lose them when somebody writes to them (inode(7); capabilities(7), "File capabilities").
//!
//! Writing is the kernel's alone. It takes the setuid bit of the disk away on the way: a bit that nobody else sees, set when
//! such a file is opened for writing, tells whether anything was written.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{fs::Mode, io::Errno};

use super::{
    identity::{Identity, capability},
    resolve::own_path,
    tracer::Tracer,
};
use crate::journal::{Seen, mode_on_disk};

/// What a file loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Of S_ISUID and S_ISGID.
    pub bits: u32,
    /// `security.capability`.
    pub capabilities: bool,
}

impl Loss {
    /// What a change of the owner costs (fs/attr.c, setattr_should_drop_sgid).
    pub fn by_chown(who: &Identity, seen: &Seen) -> Self {
        let mut bits = seen.mode & libc::S_ISUID;
        let trusted = who.is_in_group(seen.gid) || who.can(capability::FSETID);
        if seen.mode & libc::S_IXGRP != 0 || !trusted {
            bits |= seen.mode & libc::S_ISGID;
        }
        Self { bits, capabilities: true }
    }

    /// What writing and truncating cost.
    fn by_writing(who: &Identity, seen: &Seen, has_capabilities: bool) -> Self {
        let bits = if who.can(capability::FSETID) { 0 } else { Self::by_chown(who, seen).bits };
        Self { bits, capabilities: has_capabilities }
    }
}

/// A file that may lose something.
pub struct Watched {
    file: OwnedFd,
    loss: Loss,
}

impl Tracer {
    /// A regular file is being opened for writing, or truncated (`now`).
    ///
    /// # Errors
    /// As chmod(2).
    pub fn will_be_written(&mut self, who: &Identity, file: &OwnedFd, seen: &Seen, now: bool) -> Result<(), Errno> {
        let Some(recorded) = self.journal.get(seen) else { return Ok(()) };
        let loss = Loss::by_writing(who, seen, recorded.xattrs.contains_key(CAPABILITY));
        if loss == Loss::default() {
            return Ok(());
        }
        if now {
            self.lose(seen, loss);
            return Ok(());
        }
        let mark = mode_on_disk(seen.mode, false) | libc::S_ISUID;
        rustix::fs::chmod(own_path(file), Mode::from_raw_mode(mark))?;
        let file = rustix::io::fcntl_dupfd_cloexec(file, 0)?;
        self.watched.insert(seen.inode, Watched { file, loss });
        Ok(())
    }

    fn lose(&mut self, seen: &Seen, loss: Loss) {
        self.journal.change(seen, |recorded| {
            recorded.mode &= !loss.bits;
            if loss.capabilities {
                recorded.xattrs.remove(CAPABILITY);
            }
        });
    }

    /// Looks at what was written meanwhile.
    pub fn settle_watched(&mut self) {
        let watched = std::mem::take(&mut self.watched);
        for (inode, Watched { file, loss }) in watched {
            let Ok(seen) = self.journal.look(file.as_fd()) else { continue };
            if u32::from(seen.raw.stx_mode) & libc::S_ISUID != 0 {
                self.watched.insert(inode, Watched { file, loss });
            } else {
                self.lose(&seen, loss);
            }
        }
    }

    /// Ends the watch on a file whose mode on the disk is about to be set, or (`None`) on all.
    pub fn end_watch(&mut self, inode: Option<u64>) {
        self.settle_watched();
        self.watched.retain(|watched, Watched { file, .. }| {
            if inode.is_some_and(|inode| inode != *watched) {
                return true;
            }
            if let Ok(seen) = self.journal.look(file.as_fd()) {
                let mode = mode_on_disk(seen.mode, false);
                let _ = rustix::fs::chmod(own_path(file), Mode::from_raw_mode(mode));
            }
            false
        });
    }
}

const CAPABILITY: &[u8] = b"security.capability";
