//! What the machine keeps from everybody in directories that many write to (proc(5), /proc/sys/fs/protected_*). The kernel
//! checks it with ids of its own, which are the same for all files here.

use rustix::io::Errno;

use super::identity::Identity;
use crate::journal::Seen;

/// The machine's switches.
pub struct Protected {
    /// Other users' symlinks are not followed in shared directories.
    pub symlinks: bool,
    /// Other users' files get no further names, unless they are harmless.
    pub hardlinks: bool,
    /// 0, 1: in directories where everybody may write, 2: and where a group may; likewise the next.
    fifos: u8,
    regular: u8,
}

const SHARED: u32 = libc::S_ISVTX | libc::S_IWOTH;

impl Protected {
    /// As the machine has them; where it does not say, distributions' usual ones.
    pub fn of_machine() -> Self {
        let switch = |name: &str, usual: u8| {
            let text = std::fs::read_to_string(format!("/proc/sys/fs/protected_{name}"));
            text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(usual)
        };
        Self {
            symlinks: switch("symlinks", 1) != 0,
            hardlinks: switch("hardlinks", 1) != 0,
            fifos: switch("fifos", 1),
            regular: switch("regular", 2),
        }
    }

    /// Checks that a symlink at the end of a path may be followed.
    ///
    /// # Errors
    /// EACCES.
    pub fn may_follow(&self, who: &Identity, directory: &Seen, link: &Seen) -> Result<(), Errno> {
        let own = [who.user.file, directory.uid].contains(&link.uid);
        if self.symlinks && !own && directory.mode & SHARED == SHARED { Err(Errno::ACCESS) } else { Ok(()) }
    }

    /// Checks that something that exists may be opened with O_CREAT (fs/namei.c, may_create_in_sticky).
    ///
    /// # Errors
    /// EACCES.
    pub fn may_create_over(&self, who: &Identity, directory: &Seen, existing: &Seen) -> Result<(), Errno> {
        let level = match existing.kind() {
            libc::S_IFREG => self.regular,
            libc::S_IFIFO => self.fifos,
            _ => 1,
        };
        if level == 0 || directory.mode & libc::S_ISVTX == 0 || [directory.uid, who.user.file].contains(&existing.uid) {
            return Ok(());
        }
        let by_group = directory.mode & libc::S_IWGRP != 0 && level > 1;
        if directory.mode & libc::S_IWOTH != 0 || by_group { Err(Errno::ACCESS) } else { Ok(()) }
    }
}
