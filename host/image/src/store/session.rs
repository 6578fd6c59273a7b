//! What a builder keeps in `tmp/`, and the removal of what killed ones left there.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use crate::StoreError;

/// The temporary directory of one opened store: `tmp/NAME/`, with `tmp/NAME.lock` locked for as long as it is in use.
pub(super) struct Session {
    directory: PathBuf,
    lock_path: PathBuf,
    counter: AtomicU64,
    /// When it began, by the clock of the file system.
    pub(super) begun: SystemTime,
    /// Nothing is made in the directory any more.
    closed: AtomicBool,
    _lock: File,
}

/// How often, and after which waits, the directory is removed again where somebody was still making files in it.
const REMOVALS: u32 = 50;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(10);

impl Session {
    /// Makes a directory for this builder, and removes those whose builder is gone. If no other builder is at work, `alone`
    /// is called, and none begins before it ends.
    pub(super) fn begin(tmp: &Path, alone: impl FnOnce(&Self) -> Result<(), StoreError>) -> Result<Self, StoreError> {
        // Held while locks are made and looked at, so that nobody takes a lock that its owner is about to take.
        let gate = lock_gate(tmp)?;
        let (abandoned, are_all) = abandoned(tmp)?;
        let session = Self::create(tmp)?;
        if are_all {
            alone(&session)?;
        }
        drop(gate);
        for (directory, lock_path, lock) in abandoned {
            // What belongs to subordinate ids can be removed only inside the user namespace: the next builder that enters
            // one does it.
            if remove_tree(&directory).is_ok() {
                drop(fs::remove_file(lock_path));
            }
            drop(lock);
        }
        Ok(session)
    }

    fn create(tmp: &Path) -> Result<Self, StoreError> {
        let mut number = 0_u32;
        loop {
            // The process id only helps people who look: in containers it is 1 for everybody.
            let directory = tmp.join(format!("{}-{number}", std::process::id()));
            let lock_path = directory.with_extension("lock");
            number += 1;
            if lock_path.exists() {
                continue;
            }
            // Before the directory: one without a lock would belong to nobody, if this process ended between the two.
            let lock = lock_file(&lock_path)?;
            lock.lock().map_err(StoreError::io("lock", &lock_path))?;
            match fs::DirBuilder::new().mode(0o700).create(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    drop(fs::remove_file(&lock_path));
                    continue;
                }
                Err(error) => {
                    drop(fs::remove_file(&lock_path));
                    return Err(StoreError::io("create", &directory)(error));
                }
                Ok(()) => {}
            }
            let begun = lock.metadata().and_then(|lock| lock.modified()).map_err(StoreError::io("open", &lock_path))?;
            return Ok(Self {
                directory,
                lock_path,
                counter: AtomicU64::new(0),
                begun,
                closed: AtomicBool::new(false),
                _lock: lock,
            });
        }
    }

    /// Nobody begins until this is dropped.
    pub(super) fn lock_gate(&self) -> Result<File, StoreError> {
        self.directory.parent().map_or_else(|| lock_gate(&self.directory), lock_gate)
    }

    /// Whether a lock file is this session's.
    pub(super) fn is_own(&self, lock_path: &Path) -> bool {
        self.lock_path == lock_path
    }

    /// A name in the directory that nobody else uses.
    pub(super) fn fresh_path(&self, purpose: &str) -> PathBuf {
        self.directory.join(format!("{purpose}-{}", self.counter.fetch_add(1, Ordering::Relaxed)))
    }

    /// A new file, readable and writable.
    pub(super) fn create_file(&self, purpose: &str) -> Result<(File, PathBuf), StoreError> {
        let path = self.fresh_path(purpose);
        self.expect_open(&path)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        Ok((file.map_err(StoreError::io("create", &path))?, path))
    }
}

impl Session {
    /// Removes the directory and its lock file. Other threads of a build that was stopped may still be making files there:
    /// they get errors from now on, and what they made meanwhile goes too.
    pub(super) fn remove(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for _ in 0..REMOVALS {
            if remove_tree(&self.directory).is_ok() {
                drop(fs::remove_file(&self.lock_path));
                return;
            }
            thread::sleep(BETWEEN_REMOVALS);
        }
    }

    fn expect_open(&self, path: &Path) -> Result<(), StoreError> {
        match self.closed.load(Ordering::SeqCst) {
            true => Err(StoreError::io("create", path)(io::Error::other("the build was stopped"))),
            false => Ok(()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A directory that is removed when the handle is dropped, whatever modes its entries have by then.
pub struct TempDir {
    path: PathBuf,
    _session: Arc<Session>,
}

impl TempDir {
    pub(super) fn new(session: Arc<Session>, purpose: &str) -> Result<Self, StoreError> {
        let path = session.fresh_path(purpose);
        session.expect_open(&path)?;
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(StoreError::io("create", &path))?;
        Ok(Self { path, _session: session })
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(remove_tree(&self.path));
    }
}

/// Moves a directory to another parent. The kernel wants write permission on the directory itself then, because `..`
/// changes: one of mode 0555 gets it for the moment.
pub(super) fn move_directory(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let permissions = fs::symlink_metadata(from)?.permissions();
            let directory = rustix::fs::openat(CWD, from, DIRECTORY | OFlags::PATH, Mode::empty())?;
            make_accessible(directory.as_fd())?;
            let renamed = fs::rename(from, to);
            fs::set_permissions(if renamed.is_ok() { to } else { from }, permissions)?;
            renamed
        }
        renamed => renamed,
    }
}

/// Makes the names in a directory survive a power failure.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(StoreError::io("sync", path))
}

/// Held while locks of sessions are made and looked at.
fn lock_gate(tmp: &Path) -> Result<File, StoreError> {
    let path = tmp.join("gate");
    let gate = lock_file(&path)?;
    gate.lock().map_err(StoreError::io("lock", &path))?;
    Ok(gate)
}

/// Opens a file to lock it, and makes it if there is none. What stands there instead and can't be locked, or would be
/// waited for, is none of the store's and gives way.
pub(super) fn lock_file(path: &Path) -> Result<File, StoreError> {
    let flags = LOCK | OFlags::CREATE;
    let open = || rustix::fs::open(path, flags, Mode::from_raw_mode(0o666));
    let opened = match open() {
        Err(Errno::ISDIR | Errno::LOOP | Errno::NXIO | Errno::NODEV) => {
            remove_tree(path).map_err(StoreError::io("remove", path))?;
            open()
        }
        opened => opened,
    };
    opened.map(File::from).map_err(|errno| StoreError::io("create", path)(errno.into()))
}

/// How lock files are opened: a pipe would be waited for, a link leads away.
pub(super) const LOCK: OFlags = OFlags::WRONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A session whose owner is gone: directory, lock file, and the lock, now ours.
type Abandoned = (PathBuf, PathBuf, File);

/// The sessions whose owner is gone, and whether those are all.
fn abandoned(tmp: &Path) -> Result<(Vec<Abandoned>, bool), StoreError> {
    let (mut found, mut all) = (Vec::new(), true);
    for entry in fs::read_dir(tmp).map_err(StoreError::io("list", tmp))? {
        let lock_path = entry.map_err(StoreError::io("list", tmp))?.path();
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(lock) = rustix::fs::open(&lock_path, LOCK, Mode::empty()).map(File::from) else { continue };
        match lock.try_lock() {
            Ok(()) => found.push((lock_path.with_extension(""), lock_path, lock)),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => all = false,
        }
    }
    Ok((found, all))
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How deep removal descends before it moves a directory to the top: one descriptor is open for each level.
const DEPTH_LIMIT: usize = 64;

/// Removes a directory with everything in it: whatever the modes, however deep, never through a symlink. What can't be
/// removed stays, the rest goes. Nothing at `path` is fine.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = match rustix::fs::openat(CWD, parent, DIRECTORY | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let name = CString::new(name.as_bytes())?;
    let mut remover =
        Remover { top: parent.as_fd(), prefix: name.clone(), moved: 0, waiting: vec![name], failure: None };
    while let Some(name) = remover.waiting.pop() {
        remover.remove(remover.top, &name, 0);
    }
    remover.failure.map_or(Ok(()), |errno| Err(errno.into()))
}

struct Remover<'a> {
    top: BorrowedFd<'a>,
    prefix: CString,
    moved: u32,
    waiting: Vec<CString>,
    failure: Option<Errno>,
}

impl Remover<'_> {
    fn remove(&mut self, parent: BorrowedFd<'_>, name: &CString, depth: usize) {
        let removed = match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            // Linux says EISDIR for directories, POSIX EPERM.
            Err(Errno::ISDIR | Errno::PERM) => self.remove_directory(parent, name, depth),
            other => other,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                self.failure.get_or_insert(errno);
            }
        }
    }

    fn remove_directory(&mut self, parent: BorrowedFd<'_>, name: &CString, depth: usize) -> Result<(), Errno> {
        // Bits that forbid listing and removing go first; failure shows in what follows.
        let handle = rustix::fs::openat(parent, name, DIRECTORY | OFlags::PATH, Mode::empty())?;
        if rustix::fs::fstat(&handle)?.st_mode & 0o700 != 0o700 {
            let _ = make_accessible(handle.as_fd());
        }
        if depth >= DEPTH_LIMIT {
            let mut moved = self.prefix.as_bytes().to_vec();
            moved.extend_from_slice(format!(".deep-{}", self.moved).as_bytes());
            self.moved += 1;
            let moved = CString::new(moved).map_err(|_| Errno::INVAL)?;
            rustix::fs::renameat(parent, name, self.top, &moved)?;
            self.waiting.push(moved);
            return Ok(());
        }
        let directory: OwnedFd = rustix::fs::openat(parent, name, DIRECTORY | OFlags::RDONLY, Mode::empty())?;
        drop(handle);
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                let name = entry.file_name().to_owned();
                match entry.file_type() {
                    FileType::Directory => match self.remove_directory(directory.as_fd(), &name, depth + 1) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(errno) => drop(self.failure.get_or_insert(errno)),
                    },
                    _ => self.remove(directory.as_fd(), &name, depth + 1),
                }
            }
        }
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
    }
}

/// Gives the owner all rights to the directory behind an `O_PATH` descriptor. Through `/proc`, because fchmod(2) refuses such
/// descriptors and a path could have become a symlink.
fn make_accessible(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    rustix::fs::chmodat(CWD, &*link, Mode::RWXU, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn removes_odd_modes_deep_trees_and_links_but_not_what_they_point_to() {
        let place = tempfile::tempdir().unwrap();
        let kept = place.path().join("kept");
        fs::write(&kept, "x").unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("closed/inner")).unwrap();
        fs::write(tree.join("closed/inner/file"), "x").unwrap();
        symlink(&kept, tree.join("closed/link")).unwrap();
        symlink(place.path(), tree.join("closed/directory-link")).unwrap();
        let mut deep = tree.clone();
        for _ in 0..400 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        fs::set_permissions(tree.join("closed/inner"), fs::Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&tree).unwrap();
        let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_directory_that_forbids_writing_moves_and_keeps_its_mode() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("a/x"), place.path().join("b"));
        fs::create_dir_all(&from).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o555)).unwrap();
        move_directory(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o555);
    }
}
