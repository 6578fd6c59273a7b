//! Where a path leads in a root, as the command would walk it, and the mount points that are missing there.

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps},
    io::Errno,
};

/// As many symlinks as the kernel follows.
const SYMLINK_LIMIT: usize = 40;

/// What a mount needs to be mounted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// A path without symlinks, of which the first part exists.
#[derive(Debug)]
pub struct Place {
    /// Names from the root on.
    pub components: Vec<Vec<u8>>,
    /// How many of them exist.
    pub existing: usize,
    /// What is there, if all exist.
    pub file_type: Option<FileType>,
}

impl Place {
    /// Whether the whole path exists.
    pub fn exists(&self) -> bool {
        self.existing == self.components.len()
    }

    /// Whether it exists as something that can take a mount of this kind.
    pub fn fits(&self, kind: Kind) -> bool {
        match self.file_type {
            Some(FileType::Directory) => kind == Kind::Directory,
            Some(_) => kind == Kind::File,
            None => false,
        }
    }

    /// The path of the first `count` components, relative to the root.
    pub fn path(&self, count: usize) -> PathBuf {
        let path = self.components[..count].join(&b'/');
        if path.is_empty() { ".".into() } else { std::ffi::OsStr::from_bytes(&path).into() }
    }
}

/// Follows `path` in `root` with the rules of chroot: absolute symlinks start at `root` again, `..` stops there.
///
/// # Errors
/// Too many symlinks, or a component that is no directory.
pub fn locate(root: BorrowedFd<'_>, path: &str) -> Result<Place, Errno> {
    let mut ahead: VecDeque<Vec<u8>> = split(path.as_bytes()).collect();
    let mut place = Place { components: Vec::new(), existing: 0, file_type: Some(FileType::Directory) };
    let mut symlinks = 0;
    while let Some(name) = ahead.pop_front() {
        match name.as_slice() {
            b"." => continue,
            b".." => {
                place.components.pop();
                if place.existing >= place.components.len() {
                    place.existing = place.components.len();
                    place.file_type = Some(FileType::Directory);
                }
                continue;
            }
            _ => {}
        }
        let known = place.exists();
        if known && place.file_type != Some(FileType::Directory) {
            return Err(Errno::NOTDIR);
        }
        place.components.push(name);
        if !known {
            continue;
        }
        let entry = match open_at(root, &place.path(place.components.len()), OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => {
                place.file_type = None;
                continue;
            }
            entry => entry?,
        };
        let file_type = FileType::from_raw_mode(rustix::fs::fstat(&entry)?.st_mode);
        if file_type != FileType::Symlink {
            place.existing += 1;
            place.file_type = Some(file_type);
            continue;
        }
        symlinks += 1;
        if symlinks > SYMLINK_LIMIT {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(&entry, "", Vec::new())?.into_bytes();
        place.components.pop();
        if target.starts_with(b"/") {
            place.components.clear();
            place.existing = 0;
        }
        place.file_type = Some(FileType::Directory);
        for name in split(&target).collect::<Vec<_>>().into_iter().rev() {
            ahead.push_front(name);
        }
    }
    Ok(place)
}

fn split(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
}

/// Opens a path of a root that [`locate`] found.
pub fn open_at(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Makes what is missing of a place, and returns the relative paths of what was made. The parent's time is left as it was.
pub fn complete(root: BorrowedFd<'_>, place: &Place, kind: Kind) -> Result<Vec<Vec<u8>>, Errno> {
    let mut made = Vec::new();
    let parent = open_at(root, &place.path(place.existing), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let before = rustix::fs::fstat(&parent)?;
    for count in place.existing + 1..=place.components.len() {
        let parent = open_at(root, &place.path(count - 1), OFlags::PATH | OFlags::DIRECTORY)?;
        let name = std::ffi::OsStr::from_bytes(&place.components[count - 1]);
        if count < place.components.len() || kind == Kind::Directory {
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
        }
        made.push(place.components[..count].join(&b'/'));
    }
    rustix::fs::futimens(&parent, &times_of(&before))?;
    Ok(made)
}

fn times_of(stat: &rustix::fs::Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// A layer with nothing but mount points, put on top of the read-only ones so that the upper directory, and with it the
/// image, never sees them. The directories on the way to them look as the root has them.
pub struct MountPoints<'a> {
    directory: PathBuf,
    seen: BorrowedFd<'a>,
    copied: Vec<PathBuf>,
}

impl<'a> MountPoints<'a> {
    /// An empty layer in the new directory `directory`, over the root that `seen` is open on.
    pub fn new(directory: PathBuf, seen: BorrowedFd<'a>) -> io::Result<Self> {
        std::fs::create_dir(&directory)?;
        // Merged, the layer's root is the root of the image.
        Ok(Self { directory, seen, copied: vec![PathBuf::from(".")] })
    }

    /// Adds a place.
    pub fn add(&mut self, place: &Place, kind: Kind) -> io::Result<()> {
        for count in 1..=place.components.len() {
            let path = self.directory.join(place.path(count));
            if path.symlink_metadata().is_ok() {
                continue;
            }
            if count < place.components.len() || kind == Kind::Directory {
                std::fs::create_dir(&path)?;
                rustix::fs::chmod(&path, Mode::from_raw_mode(0o755))?;
            } else {
                std::fs::File::create_new(&path)?;
            }
            if count <= place.existing {
                self.copied.push(place.path(count));
            }
        }
        Ok(())
    }

    /// Gives the directories that the root has too their looks; last, because adding changes their times.
    pub fn finish(self) -> io::Result<PathBuf> {
        for path in self.copied.iter().rev() {
            let from = open_at(self.seen, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let to = rustix::fs::open(
                self.directory.join(path),
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let stat = rustix::fs::fstat(&from)?;
            let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
            rustix::fs::fchown(&to, Some(uid), Some(gid))?;
            rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
            copy_attributes(from.as_fd(), to.as_fd());
            rustix::fs::futimens(&to, &times_of(&stat))?;
        }
        Ok(self.directory)
    }
}

/// Copies extended attributes (access lists, mostly) as far as that is allowed.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let mut names = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::flistxattr(from, &mut names) else { return };
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        if let Ok(length) = rustix::fs::fgetxattr(from, name, &mut value) {
            let _ = rustix::fs::fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty());
        }
    }
}

/// Whether two descriptors are on the same file system.
pub fn same_file_system(one: impl AsFd, other: impl AsFd) -> Result<bool, Errno> {
    Ok(rustix::fs::statat(one, "", AtFlags::EMPTY_PATH)?.st_dev
        == rustix::fs::statat(other, "", AtFlags::EMPTY_PATH)?.st_dev)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(name: &str) -> (PathBuf, OwnedFd) {
        let path = std::env::temp_dir().join(format!("cofferdam-exec-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("etc")).unwrap();
        let fd = crate::stage::mount::open_directory(&path).unwrap();
        (path, fd)
    }

    #[test]
    fn symlinks_are_followed_in_the_root_and_what_is_missing_is_told() {
        let (path, fd) = root("place");
        symlink("../run/stub/resolv.conf", path.join("etc/resolv.conf")).unwrap();
        symlink("/etc", path.join("link")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        std::fs::write(path.join("etc/hosts"), "").unwrap();

        let place = locate(fd.as_fd(), "/etc/resolv.conf").unwrap();
        assert_eq!((place.path(3), place.existing), ("run/stub/resolv.conf".into(), 0));
        let place = locate(fd.as_fd(), "/../link/./../link/hosts").unwrap();
        assert!(place.exists() && place.fits(Kind::File) && !place.fits(Kind::Directory));
        assert_eq!(place.path(2), PathBuf::from("etc/hosts"));
        let place = locate(fd.as_fd(), "/missing/../etc").unwrap();
        assert!(place.exists() && place.fits(Kind::Directory));
        assert_eq!(locate(fd.as_fd(), "/etc/hosts/below").unwrap_err(), Errno::NOTDIR);
        assert_eq!(locate(fd.as_fd(), "/loop").unwrap_err(), Errno::LOOP);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn completing_a_place_leaves_the_time_of_its_parent_alone() {
        let (path, fd) = root("complete");
        let etc = path.join("etc");
        let old = Timespec { tv_sec: 1000, tv_nsec: 5 };
        let handle = std::fs::File::open(&etc).unwrap();
        rustix::fs::futimens(&handle, &Timestamps { last_access: old, last_modification: old }).unwrap();
        let place = locate(fd.as_fd(), "/etc/a/b").unwrap();
        assert_eq!(complete(fd.as_fd(), &place, Kind::File).unwrap(), [b"etc/a".to_vec(), b"etc/a/b".to_vec()]);
        assert!(etc.join("a/b").is_file());
        assert_eq!(rustix::fs::stat(&etc).unwrap().st_mtime, 1000);
        std::fs::remove_dir_all(path).unwrap();
    }
}
