//! A directory of this machine, as a handle that reaches nothing above it.

mod make;
mod remove;
mod xattr;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use cap_std::fs::Dir;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use crate::{Fingerprint, Kind, Metadata, Owner, RootPath, RootfsError, Timestamp};

pub use xattr::is_image_xattr;
pub(crate) use xattr::is_opaque;

/// A directory of this machine and everything beneath it. No operation follows a symlink, not even one that points
/// beneath: whoever needs them followed resolves them in a root of their own choice, as [`DirectoryTree`] does, and comes
/// back with a path that has none. So a symlink that is swapped in between leads nowhere.
///
/// [`DirectoryTree`]: crate::DirectoryTree
pub struct ConfinedDir {
    dir: Dir,
    /// For messages only.
    shown: PathBuf,
    /// Set once openat2 was refused: by an old kernel (ENOSYS) or by a seccomp profile (EPERM as well).
    walks: AtomicBool,
}

/// What lstat(2) tells.
#[derive(Debug, Clone)]
pub struct HostEntry {
    /// Without extended attributes.
    pub metadata: Metadata,
    /// The device that holds it.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Names that it has.
    pub links: u64,
    /// When content or metadata last changed; no program can set it.
    pub ctime: Timestamp,
}

impl HostEntry {
    /// What changes whenever the content does.
    pub fn fingerprint(&self) -> Fingerprint {
        let nanoseconds = |at: &Timestamp| i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanoseconds);
        let (mtime, ctime) = (nanoseconds(&self.metadata.mtime), nanoseconds(&self.ctime));
        Fingerprint::new(self.device, self.inode, self.metadata.size_bytes(), mtime, ctime)
    }
}

impl ConfinedDir {
    /// Opens a directory by its path on this machine: the one place where such a path becomes a handle. Symlinks in
    /// `path` are followed, since the user named it.
    ///
    /// # Errors
    /// It does not exist, is not a directory or can't be read.
    pub fn open(path: &Path) -> Result<Self, RootfsError> {
        let fd = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let fd = fd.map_err(|errno| RootfsError::Storage {
            action: format!("open the directory `{}`", path.display()),
            source: errno.into(),
        })?;
        Ok(Self::from_fd(fd, path.to_owned()))
    }

    /// Takes an open directory; `shown` is how messages call it.
    pub fn from_fd(fd: OwnedFd, shown: PathBuf) -> Self {
        Self { dir: Dir::from_std_file(File::from(fd)), shown, walks: AtomicBool::new(false) }
    }

    /// How messages call it: its path on this machine when it was opened.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// Whether it lies on a file system in memory.
    ///
    /// # Errors
    /// It can't be asked.
    pub fn is_on_tmpfs(&self) -> Result<bool, RootfsError> {
        // linux/magic.h, TMPFS_MAGIC.
        const TMPFS: u64 = 0x0102_1994;
        match rustix::fs::fstatfs(self.dir.as_fd()) {
            Ok(found) => Ok(found.f_type as u64 == TMPFS),
            Err(errno) => Err(self.failed("look at", &RootPath::root(), errno)),
        }
    }

    /// A directory beneath, as a handle of its own.
    ///
    /// # Errors
    /// It does not exist or is not a directory.
    pub fn open_directory(&self, path: &RootPath) -> Result<Self, RootfsError> {
        let fd =
            self.open_fd(path, OFlags::DIRECTORY, Mode::empty()).map_err(|errno| self.failed("open", path, errno))?;
        Ok(Self { dir: Dir::from_std_file(File::from(fd)), shown: self.shown_path(path), walks: self.walks() })
    }

    /// What is at a path, without its extended attributes; `None` if nothing is.
    ///
    /// # Errors
    /// It can't be read.
    pub fn entry(&self, path: &RootPath) -> Result<Option<HostEntry>, RootfsError> {
        match self.try_entry(path) {
            Ok(entry) => Ok(Some(entry)),
            // LOOP: a parent is a symlink. Nothing is followed, so nothing is there.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.failed("look at", path, errno)),
        }
    }

    /// What is at a path, with the extended attributes that belong into images; `None` if nothing is.
    ///
    /// # Errors
    /// It can't be read.
    pub fn metadata(&self, path: &RootPath) -> Result<Option<Metadata>, RootfsError> {
        let Some(HostEntry { mut metadata, .. }) = self.entry(path)? else {
            return Ok(None);
        };
        metadata.xattrs = self.image_xattrs(path, &metadata.kind)?;
        Ok(Some(metadata))
    }

    /// The extended attributes that belong into images, of an entry of this kind.
    pub(crate) fn image_xattrs(&self, path: &RootPath, kind: &Kind) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, RootfsError> {
        let mut xattrs = self.xattrs(path, kind)?;
        xattrs.retain(|name, _| is_image_xattr(name));
        Ok(xattrs)
    }

    /// The names in a directory, sorted by bytes.
    ///
    /// # Errors
    /// It is not a directory or can't be read.
    pub fn read_directory(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        let names = self.open_fd(path, OFlags::DIRECTORY, Mode::empty()).and_then(names_in);
        names.map_err(|errno| self.failed("read the directory", path, errno))
    }

    /// A directory's entries with their names, sorted by bytes, each looked at once; with the extended attributes that
    /// belong into images, but for those of files that `is_plain` says to have none.
    ///
    /// # Errors
    /// It is not a directory or can't be read.
    pub fn entries(
        &self,
        path: &RootPath,
        is_plain: &dyn Fn(&HostEntry) -> bool,
    ) -> Result<Vec<(Vec<u8>, HostEntry)>, RootfsError> {
        let directory = self.open_directory(path)?;
        let names = directory.read_directory(&RootPath::root())?;
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let child = || path.child(&name);
            let mut entry = match entry_in(directory.dir.as_fd(), &name) {
                Ok(entry) => entry,
                // Gone since the names were read.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(self.failed("look at", &child()?, errno)),
            };
            let has_attributes = matches!(entry.metadata.kind, Kind::Directory | Kind::File { .. });
            if has_attributes && !is_plain(&entry) {
                entry.metadata.xattrs = directory.image_xattrs(&RootPath::new(&name)?, &entry.metadata.kind)?;
            }
            entries.push((name, entry));
        }
        Ok(entries)
    }

    /// Opens a regular file for reading. Never blocks on a fifo and never opens a device.
    ///
    /// # Errors
    /// It is not a regular file or can't be read.
    pub fn open_file(&self, path: &RootPath) -> Result<File, RootfsError> {
        Ok(self.open_entry(path)?.0)
    }

    /// The same, with what was opened.
    ///
    /// # Errors
    /// It is not a regular file or can't be read.
    pub fn open_entry(&self, path: &RootPath) -> Result<(File, HostEntry), RootfsError> {
        // Opening a device can have effects of its own (a tape rewinds), so it is looked at first. NONBLOCK and the
        // second look cover an entry that is replaced in between.
        let before = self.entry(path)?.ok_or_else(|| RootfsError::NotFound(path.clone()))?;
        self.expect_file(path, &before.metadata.kind)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open_fd(path, flags, Mode::empty()).map_err(|errno| self.failed("open", path, errno))?;
        let after = rustix::fs::fstat(&fd).map_err(|errno| self.failed("look at", path, errno))?;
        let after = entry_of(&after, Vec::new());
        self.expect_file(path, &after.metadata.kind)?;
        Ok((File::from(fd), after))
    }

    fn expect_file(&self, path: &RootPath, kind: &Kind) -> Result<(), RootfsError> {
        match kind {
            Kind::File { .. } => Ok(()),
            Kind::Directory => Err(RootfsError::IsADirectory(path.clone())),
            _ => Err(RootfsError::NotAFile(path.clone())),
        }
    }

    fn try_entry(&self, path: &RootPath) -> rustix::io::Result<HostEntry> {
        if path.is_root() {
            return Ok(entry_of(&rustix::fs::fstat(&self.dir)?, Vec::new()));
        }
        let (parent, name) = self.parent(path)?;
        entry_in(parent.as_fd(), name)
    }

    /// The directory that holds an entry, and the entry's name there. Root has none: INVAL.
    fn parent<'p>(&self, path: &'p RootPath) -> rustix::io::Result<(Parent<'_>, &'p [u8])> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        match path.parent().filter(|parent| !parent.is_root()) {
            None => Ok((Parent::Root(self.dir.as_fd()), name)),
            Some(parent) => {
                let fd = self.open_fd(&parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
                Ok((Parent::Beneath(fd), name))
            }
        }
    }

    /// Opens beneath without following any symlink.
    fn open_fd(&self, path: &RootPath, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let whole: &[u8] = if path.is_root() { b"." } else { path };
        if !self.walks.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.dir, whole, flags, mode, resolve) {
                Err(Errno::NOSYS | Errno::PERM) => self.walks.store(true, Ordering::Relaxed),
                // 4096 bytes are a path here and one too many for the kernel.
                Err(Errno::NAMETOOLONG) => {}
                result => return result,
            }
        }
        let mut here: Option<OwnedFd> = None;
        let mut components = path.components().peekable();
        while let Some(name) = components.next() {
            let at = here.as_ref().map_or_else(|| self.dir.as_fd(), AsFd::as_fd);
            let next = match components.peek() {
                Some(_) => {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    rustix::fs::openat(at, name, flags, Mode::empty())?
                }
                None => rustix::fs::openat(at, name, flags, mode)?,
            };
            here = Some(next);
        }
        match here {
            Some(fd) => Ok(fd),
            None => rustix::fs::openat(&self.dir, ".", flags, mode),
        }
    }

    fn walks(&self) -> AtomicBool {
        AtomicBool::new(self.walks.load(Ordering::Relaxed))
    }

    fn shown_path(&self, path: &RootPath) -> PathBuf {
        self.shown.join(OsStr::from_bytes(path))
    }

    /// Errors that tell about the tree keep the path inside it; all others are the machine's and name the real one.
    fn failed(&self, verb: &str, path: &RootPath, errno: Errno) -> RootfsError {
        match errno {
            Errno::NOENT => RootfsError::NotFound(path.clone()),
            // LOOP: a symlink stands where a directory or a file is needed.
            Errno::NOTDIR | Errno::LOOP => RootfsError::NotADirectory(path.clone()),
            Errno::ISDIR => RootfsError::IsADirectory(path.clone()),
            errno => self.storage(verb, path, errno.into()),
        }
    }

    fn storage(&self, verb: &str, path: &RootPath, source: io::Error) -> RootfsError {
        RootfsError::Storage { action: format!("{verb} `{}`", self.shown_path(path).display()), source }
    }
}

impl AsFd for ConfinedDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl std::fmt::Debug for ConfinedDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConfinedDir").field(&self.shown).finish()
    }
}

fn names_in(fd: OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(fd)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The directory that holds an entry.
enum Parent<'d> {
    Root(BorrowedFd<'d>),
    Beneath(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Beneath(fd) => fd.as_fd(),
        }
    }
}

fn entry_in(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<HostEntry> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => rustix::fs::readlinkat(parent, name, Vec::new())?.into_bytes(),
        _ => Vec::new(),
    };
    Ok(entry_of(&stat, target))
}

// The widths and signs of stat's fields differ between processors.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
fn entry_of(stat: &Stat, target: Vec<u8>) -> HostEntry {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink { target },
        FileType::CharacterDevice => Kind::CharacterDevice { major, minor },
        FileType::BlockDevice => Kind::BlockDevice { major, minor },
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => Kind::File { size: stat.st_size as u64 },
    };
    let metadata = Metadata {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: Owner { uid: stat.st_uid, gid: stat.st_gid },
        mtime: Timestamp { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 },
        xattrs: Default::default(),
    };
    let ctime = Timestamp { seconds: stat.st_ctime as i64, nanoseconds: stat.st_ctime_nsec as u32 };
    HostEntry { metadata, device: stat.st_dev as u64, inode: stat.st_ino as u64, links: stat.st_nlink as u64, ctime }
}

#[cfg(test)]
mod tests;
