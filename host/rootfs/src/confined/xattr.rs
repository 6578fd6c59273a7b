//! Extended attributes on descriptors.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use rustix::{
    fs::{Mode, OFlags, XattrFlags},
    io::Errno,
};

use super::ConfinedDir;
use crate::{Kind, RootPath, RootfsError};

/// The kernel's bound on the list of names and on one value, in bytes (XATTR_LIST_MAX, XATTR_SIZE_MAX; linux/limits.h).
const XATTR_MAX: usize = 1 << 16;

/// Whether an extended attribute belongs into images: what users set, and file capabilities. Never what overlayfs keeps
/// for itself (an image that could bring `user.overlay.redirect` along would redirect look-ups on this machine), and never
/// this machine's security labels.
pub fn is_image_xattr(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Whether overlayfs marked a directory as opaque: in the form of `userxattr` mounts or of privileged ones.
pub(crate) fn is_opaque(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
    [&b"user.overlay.opaque"[..], b"trusted.overlay.opaque"]
        .iter()
        .any(|name| xattrs.get(*name).is_some_and(|value| value == b"y"))
}

impl ConfinedDir {
    /// All extended attributes of a regular file or directory that this process may see. Other kinds of entries hold none
    /// that belong into images (xattr(7): `user.*` is for those two only). What can't be opened for reading has none.
    ///
    /// # Errors
    /// The machine failed.
    pub fn xattrs(&self, path: &RootPath, kind: &Kind) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, RootfsError> {
        let fd = match self.open_for_attributes(path, kind) {
            Ok(Some(fd)) => fd,
            Ok(None) | Err(Errno::ACCESS | Errno::PERM) => return Ok(BTreeMap::new()),
            Err(errno) => return Err(self.failed("open", path, errno)),
        };
        read_all(&fd).map_err(|errno| self.failed("read the extended attributes of", path, errno))
    }

    /// Sets an extended attribute of a regular file or directory. Answers whether it could be set: file systems without
    /// such attributes, and attributes that this process may not set, are no error.
    ///
    /// # Errors
    /// The machine failed.
    pub fn set_xattr(&self, path: &RootPath, kind: &Kind, name: &[u8], value: &[u8]) -> Result<bool, RootfsError> {
        let set = self.open_for_attributes(path, kind).and_then(|fd| match fd {
            Some(fd) => rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()).map(|()| true),
            None => Ok(false),
        });
        match set {
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => Ok(false),
            set => set.map_err(|errno| self.failed("set an extended attribute of", path, errno)),
        }
    }

    /// A descriptor on which attributes can be read and set (unlike an O_PATH one).
    fn open_for_attributes(&self, path: &RootPath, kind: &Kind) -> rustix::io::Result<Option<OwnedFd>> {
        let flags = match kind {
            Kind::Directory => OFlags::DIRECTORY,
            Kind::File { .. } => OFlags::NONBLOCK | OFlags::NOCTTY,
            _ => return Ok(None),
        };
        self.open_fd(path, flags, Mode::empty()).map(Some)
    }
}

fn read_all(fd: &OwnedFd) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    // Nearly every entry has none or a few: the stack is enough.
    let mut few = [0_u8; 512];
    let mut many = Vec::new();
    let names = match rustix::fs::flistxattr(fd, &mut few) {
        Ok(length) => &few[..length],
        Err(Errno::RANGE) => {
            many.resize(XATTR_MAX, 0);
            let length = rustix::fs::flistxattr(fd, &mut many[..])?;
            &many[..length]
        }
        Err(Errno::NOTSUP | Errno::NOSYS) => &[],
        Err(errno) => return Err(errno),
    };
    let mut xattrs = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; rustix::fs::fgetxattr_query(fd, name).unwrap_or(XATTR_MAX)];
        match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            // Gone, or not for this process (`trusted.*`).
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => continue,
            Err(errno) => return Err(errno),
        }
        xattrs.insert(name.to_vec(), value);
    }
    Ok(xattrs)
}
