//! The mounts that a command asks for, as bindings.

use std::{
    fs,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::PermissionsExt,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps},
    io::Errno,
};

use super::{
    bindings::Bindings,
    bounded::Bounded,
    domain::Reach,
    start::{binding, place, target},
};
use crate::{
    Journal, Mount, MountSource, Recorded,
    journal::mode_on_disk,
    stage::place::{Kind, complete, open_at},
    wire::{Failure, Start},
};

/// Where the machine keeps files in memory (shm_overview(7)).
const SHARED_MEMORY: &str = "/dev/shm";

/// The names of directories with secrets there; the process id follows.
const SECRETS_PREFIX: &str = "cofferdam-secrets-";

/// What was made for the mounts of one command.
pub struct Mounts {
    tree: OwnedFd,
    points: Vec<Point>,
    /// Those of them that hold no more than so much, and that the kernel does not know.
    pub bounded: Vec<Bounded>,
    secrets: Option<SecretsDirectory>,
}

/// A mount point that the image does not have.
struct Point {
    /// In the tree.
    path: PathBuf,
    /// The directory above, as it was before and after the point was made.
    times: [Times; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Times(i64, i64);

impl Mounts {
    /// Binds them all.
    pub fn bind(
        start: &Start,
        bindings: &mut Bindings,
        reach: &mut Reach,
        journal: &mut Journal,
    ) -> Result<Self, Failure> {
        let failed = |error: Errno| Failure::setup("open the root", error);
        let tree = rustix::io::fcntl_dupfd_cloexec(&bindings.tree().file, 0).map_err(failed)?;
        let mut mounts = Self { tree, points: Vec::new(), bounded: Vec::new(), secrets: None };
        for (number, mount) in start.request.mounts.iter().enumerate() {
            let failed =
                |error: io::Error| Failure::setup(format!("mount something at `{}` of the image", mount.target), error);
            let (source, read_only) = mounts.source(number, mount, start, journal).map_err(failed)?;
            let kind = if source.is_dir() { Kind::Directory } else { Kind::File };
            let at = mounts.point(bindings, journal, &mount.target, kind).map_err(failed)?;
            bindings.add(binding(&at, &source, read_only)?);
            let list = if read_only { &mut reach.runnable } else { &mut reach.writable };
            list.push(source);
        }
        Ok(mounts)
    }

    /// What is to be seen, as a path of this machine, and whether it may be read only.
    fn source(
        &mut self,
        number: usize,
        mount: &Mount,
        start: &Start,
        journal: &mut Journal,
    ) -> io::Result<(PathBuf, bool)> {
        let private = start.private.as_path();
        match &mount.source {
            MountSource::Path { path, read_only: true } => {
                Ok((start.namespaces.read_only(path, &private.join(format!("mount-{number}")))?, true))
            }
            MountSource::Path { path, read_only } => Ok((path.clone(), *read_only)),
            // The caller of an executor for flat trees has no such thing to give.
            MountSource::Layers { .. } => Err(Errno::NOTSUP.into()),
            MountSource::Memory { size_bytes } => {
                let directory = private.join(format!("memory-{number}"));
                fs::create_dir(&directory)?;
                fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777))?;
                if start.namespaces.keep_in_memory(&directory, *size_bytes)? {
                    journal.keep_beside(&journal.look_at(&directory)?);
                } else if let Some(limit_bytes) = *size_bytes {
                    let source = fs::canonicalize(&directory)?.into_os_string().into_vec();
                    self.bounded.push(Bounded::new(source, limit_bytes));
                }
                Ok((directory, false))
            }
            MountSource::File { contents, mode, uid, gid } => {
                // What is executed is no secret, and memory is often mounted so that nothing in it can be.
                let path = match &self.secrets {
                    _ if mode & 0o111 != 0 => private.join(format!("script-{number}")),
                    Some(directory) => directory.path.join(number.to_string()),
                    None => self.secrets.insert(SecretsDirectory::new(private)?).path.join(number.to_string()),
                };
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let mut file = fs::File::from(rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?);
                file.write_all(contents)?;
                file.set_permissions(fs::Permissions::from_mode(mode_on_disk(*mode, false)))?;
                let seen = journal.look(file.as_fd())?;
                let (uid, gid) = (*uid, *gid);
                let recorded = Recorded { uid, gid, mode: mode & 0o7777, device: None, xattrs: Default::default() };
                journal.set_bound(&seen, recorded);
                Ok((path, false))
            }
        }
    }

    /// The mount point, made if it is missing.
    fn point(&mut self, bindings: &Bindings, journal: &Journal, path: &str, kind: Kind) -> io::Result<Vec<u8>> {
        let place = place(bindings, journal, path)?;
        let at = target(&place);
        if bindings.holding(&at) != 0 {
            // In what another mount shows.
            let outside = PathBuf::from(std::ffi::OsStr::from_bytes(&bindings.outside(&at)));
            if !outside.exists() {
                match kind {
                    Kind::Directory => fs::create_dir_all(outside)?,
                    Kind::File => {
                        outside.parent().map_or(Ok(()), fs::create_dir_all)?;
                        fs::write(outside, "")?;
                    }
                }
            }
            return Ok(at);
        }
        if place.exists() {
            return if place.fits(kind) { Ok(at) } else { Err(Errno::NOTDIR.into()) };
        }
        let before = self.times(&place.path(place.existing))?;
        for made in complete(self.tree.as_fd(), &place, kind)? {
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(&made));
            let above = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
            let after = self.times(&above)?;
            self.points
                .push(Point { path, times: [if above == place.path(place.existing) { before } else { after }, after] });
        }
        Ok(at)
    }

    fn times(&self, directory: &Path) -> Result<Times, Errno> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let stat = rustix::fs::fstat(open_at(self.tree.as_fd(), directory, OFlags::PATH | OFlags::DIRECTORY)?)?;
        Ok(Times(stat.st_mtime, stat.st_mtime_nsec as _))
    }

    /// Removes the mount points that are still nothing else, and forgets the secrets.
    pub fn leave(self, journal: &mut Journal) {
        for Point { path, times: [before, after] } in self.points.iter().rev() {
            let above = match path.parent() {
                Some(above) if !above.as_os_str().is_empty() => above,
                _ => Path::new("."),
            };
            let Ok(directory) = open_at(self.tree.as_fd(), above, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
            let Some(name) = path.file_name() else { continue };
            let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let untouched = self.times(above).is_ok_and(|now| now == *after);
            let removed = match stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR => rustix::fs::unlinkat(&directory, name, AtFlags::REMOVEDIR),
                libc::S_IFREG if stat.st_size == 0 => rustix::fs::unlinkat(&directory, name, AtFlags::empty()),
                _ => continue,
            };
            if removed.is_err() {
                continue;
            }
            journal.forget(stat.st_ino);
            if untouched {
                let time = Timespec { tv_sec: before.0, tv_nsec: before.1 };
                let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
                let _ = rustix::fs::futimens(&directory, &Timestamps { last_access: keep, last_modification: time });
            }
        }
    }
}

/// A private directory in memory where there is one, else among what lives as long as the command. Removed when it is
/// dropped; what a killed builder left, and nobody holds, is removed by the next one.
struct SecretsDirectory {
    path: PathBuf,
    _held: Option<OwnedFd>,
}

impl SecretsDirectory {
    fn new(private: &Path) -> io::Result<Self> {
        let memory = Path::new(SHARED_MEMORY);
        if rustix::fs::statfs(memory).is_ok_and(|found| found.f_type == libc::TMPFS_MAGIC) {
            remove_stale(memory);
            let path = memory.join(format!("{SECRETS_PREFIX}{}", std::process::id()));
            if rustix::fs::mkdir(&path, Mode::RWXU).is_ok()
                && let Ok(held) = hold(&path)
            {
                return Ok(Self { path, _held: Some(held) });
            }
        }
        let path = private.join("secrets");
        rustix::fs::mkdir(&path, Mode::RWXU)?;
        Ok(Self { path, _held: None })
    }
}

impl Drop for SecretsDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Takes the lock of a directory, without waiting for it.
fn hold(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    Ok(directory)
}

fn remove_stale(memory: &Path) {
    for entry in fs::read_dir(memory).into_iter().flatten().flatten() {
        // Another user's can't be opened, and is not to be removed.
        if entry.file_name().as_bytes().starts_with(SECRETS_PREFIX.as_bytes()) && hold(&entry.path()).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
