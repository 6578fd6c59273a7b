//! The mounts that a command asks for beside those that every command gets.

use std::{
    fs,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
    mount::MountAttrFlags,
};

use super::{
    init::Pending,
    mount::{attach, clone_of, new_filesystem, open_directory},
    overlay::{Writable, mount_overlay},
    place::{Kind, locate, open_at},
};
use crate::{
    Mount, MountSource, RunRequest,
    sys::{ATTR_NO_DEV, ATTR_READ_ONLY, set_mount_attributes},
    wire::Failure,
};

const CONFINED: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Makes them, detached, in the order of the request.
pub fn prepare(request: &RunRequest, private: &Path) -> Result<Vec<Pending>, Failure> {
    let mut files = None;
    let mut pending = Vec::new();
    for (number, Mount { target, source }) in request.mounts.iter().enumerate() {
        let failed = |error: io::Error| Failure::setup(format!("make the mount for `{target}`"), error);
        let (mount, kind) = match source {
            MountSource::Path { path, read_only } => path_mount(path, *read_only).map_err(failed)?,
            MountSource::Layers { lower, path, read_only } => {
                let directory = private.join(format!("layers-{number}"));
                layers_mount(&directory, lower, path, *read_only).map_err(failed)?
            }
            MountSource::Memory { size_bytes } => {
                (memory_mount(*size_bytes).map_err(|error| failed(error.into()))?, Kind::Directory)
            }
            MountSource::File { contents, mode, uid, gid } => {
                let directory = match &files {
                    Some(directory) => directory,
                    None => files.insert(files_directory(private).map_err(failed)?),
                };
                let file = directory.join(number.to_string());
                write_file(&file, contents, *mode, (*uid, *gid)).map_err(failed)?;
                (clone_of(CWD, &file, false).map_err(|error| failed(error.into()))?, Kind::File)
            }
        };
        pending.push(Pending { mount, target: target.clone(), kind, optional: false });
    }
    Ok(pending)
}

fn path_mount(path: &Path, read_only: bool) -> io::Result<(OwnedFd, Kind)> {
    let is_directory = fs::metadata(path)?.is_dir();
    let mount = clone_of(CWD, path, true)?;
    restrict(&mount, read_only)?;
    Ok((mount, if is_directory { Kind::Directory } else { Kind::File }))
}

/// A device node that the command makes there must stay data, as everywhere.
pub fn restrict(mount: &OwnedFd, read_only: bool) -> io::Result<()> {
    let attributes = ATTR_NO_DEV | if read_only { ATTR_READ_ONLY } else { 0 };
    set_mount_attributes(mount.as_fd(), attributes, true)
}

/// An overlay of its own, so that what is written there is nowhere else.
fn layers_mount(directory: &Path, lower: &[PathBuf], path: &str, read_only: bool) -> io::Result<(OwnedFd, Kind)> {
    let beneath = |name: &str| -> io::Result<PathBuf> {
        let path = directory.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    };
    let merged = beneath("merged")?;
    let mut named = std::collections::BTreeSet::new();
    let distinct = lower.iter().filter(|path| named.insert(*path));
    let mut lower = distinct.map(open_directory).collect::<Result<Vec<_>, Errno>>()?;
    if read_only {
        // Overlayfs wants two where nothing is writable.
        lower.push(open_directory(&beneath("empty")?)?);
        mount_overlay(&merged, &lower, None)?;
    } else {
        let (upper, work) = (open_directory(&beneath("upper")?)?, open_directory(&beneath("work")?)?);
        mount_overlay(&merged, &lower, Some(Writable { upper: upper.as_fd(), work: work.as_fd() }))?;
    }
    let root = open_directory(&merged)?;
    let place = locate(root.as_fd(), path)?;
    if !place.exists() {
        return Err(Errno::NOENT.into());
    }
    let found = open_at(root.as_fd(), &place.path(place.components.len()), OFlags::PATH | OFlags::NOFOLLOW)?;
    let mount = clone_of(&found, "", false)?;
    restrict(&mount, read_only)?;
    Ok((mount, if place.file_type == Some(FileType::Directory) { Kind::Directory } else { Kind::File }))
}

fn memory_mount(size_bytes: Option<u64>) -> Result<OwnedFd, Errno> {
    let size = size_bytes.map(|size| size.to_string());
    let mut options = vec![("mode", Some("1777"))];
    options.extend(size.as_deref().map(|size| ("size", Some(size))));
    new_filesystem("tmpfs", &options, CONFINED)
}

/// A directory in memory for the files of one command, secrets for the most part; it goes with the mounts of this process.
fn files_directory(private: &Path) -> io::Result<PathBuf> {
    let directory = private.join("files");
    fs::create_dir(&directory)?;
    let mode = ("mode", Some("700"));
    // Swap is a disk too; Linux before 6.4 can't keep a file system out of it.
    let mount = new_filesystem("tmpfs", &[mode, ("noswap", None)], CONFINED)
        .or_else(|_| new_filesystem("tmpfs", &[mode], CONFINED))?;
    attach(mount, open_directory(&directory)?)?;
    Ok(directory)
}

/// A new file that nobody else can open before it has its mode and owner.
pub fn write_file(path: &Path, contents: &[u8], mode: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(contents)?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
}
