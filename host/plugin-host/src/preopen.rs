//! The context as files, for plugins that read it through WASI.
//!
//! A private directory that holds exactly what the declared reads cover, so that a cache key covers what a plugin of this
//! kind can see, too. It is removed when the call ends.

use std::{
    fs,
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt, fs::symlink},
    path::{Path, PathBuf},
};

use cofferdam_rootfs::{Kind, RootPath, RootfsError, Timestamp, Tree};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use tempfile::TempDir;

use crate::{Coverage, coverage::CoveredEntry};

/// Copies what the reads cover into a private directory below `scratch`.
///
/// Content is copied, not linked: a hard link's inode would let the guest see more names of the file, and the tree gives
/// readers, not paths. Owners are not kept, and devices, fifos and sockets are left out: WASI has none.
pub(crate) fn materialise(scratch: &Path, reads: &[(&dyn Tree, &Coverage)]) -> Result<TempDir, RootfsError> {
    let made = tempfile::Builder::new().prefix("context-").tempdir_in(scratch);
    let directory = made.map_err(|source| storage("make a directory", scratch, source))?;
    for (tree, coverage) in reads {
        let mut directories = Vec::new();
        coverage.visit::<RootfsError>(*tree, &mut |entry| {
            let place = below(directory.path(), &entry.path);
            put(*tree, &entry, &place).map_err(|error| error.named(&place))?;
            if entry.metadata().is_directory() {
                directories.push((place, entry.metadata().mtime));
            }
            Ok(())
        })?;
        // Last, since filling a directory changes its time.
        for (place, mtime) in directories.iter().rev() {
            set_time(place, *mtime).map_err(|source| storage("set the time of", place, source))?;
        }
    }
    Ok(directory)
}

fn put(tree: &dyn Tree, entry: &CoveredEntry, place: &Path) -> Result<(), Failure> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    // Two patterns may cover the same entry.
    if fs::symlink_metadata(place).is_ok_and(|there| !there.is_dir()) {
        return Ok(());
    }
    match &entry.metadata().kind {
        Kind::Directory => fs::create_dir_all(place)?,
        Kind::Symlink { target } => symlink(std::ffi::OsStr::from_bytes(target), place)?,
        Kind::File { .. } => {
            let mut from = tree.open(&entry.real)?;
            // Of the permissions only execution means something to a guest.
            let mode = if entry.metadata().mode & 0o111 == 0 { 0o600 } else { 0o700 };
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(place)?;
            copy(&mut from, &mut file)?;
            drop(file);
            set_time(place, entry.metadata().mtime)?;
        }
        Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo | Kind::Socket => {}
    }
    Ok(())
}

fn copy(from: &mut dyn Read, to: &mut fs::File) -> io::Result<()> {
    io::copy(from, to).map(|_| ())
}

/// A path of the tree below a directory of this machine. Its components are plain names, so it can't lead out; the
/// directory is fresh and private, so nothing in it does.
fn below(directory: &Path, path: &RootPath) -> PathBuf {
    let mut place = directory.to_owned();
    place.extend(path.components().map(std::ffi::OsStr::from_bytes));
    place
}

fn set_time(place: &Path, mtime: Timestamp) -> io::Result<()> {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A failure of this machine still without its path, or of the tree.
enum Failure {
    Machine(io::Error),
    Tree(RootfsError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Machine(error)
    }
}

impl From<RootfsError> for Failure {
    fn from(error: RootfsError) -> Self {
        Self::Tree(error)
    }
}

impl Failure {
    fn named(self, place: &Path) -> RootfsError {
        match self {
            Self::Machine(source) => storage("make", place, source),
            Self::Tree(error) => error,
        }
    }
}

fn storage(verb: &str, path: &Path, source: io::Error) -> RootfsError {
    RootfsError::Storage { action: format!("{verb} `{}`", path.display()), source }
}
