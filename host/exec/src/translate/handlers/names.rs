//! Making, removing and renaming: carried out here, in directories that are held open.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, Dev, FileType, Mode, OFlags, RenameFlags},
    io::Errno,
};
use std::{collections::HashSet, os::unix::ffi::OsStrExt};

use super::{Newborn, check_writable, find_node, without_slashes};
use crate::translate::{
    access,
    bindings::is_beneath,
    calls::Outcome,
    identity::capability,
    memory,
    resolve::{Found, Start, own_path},
    tracee::Task,
    tracer::Tracer,
};
use crate::{DeviceNode, journal::Seen, lazy::FileKey};

/// Checks that something may be made where nothing is, and answers what it will belong to.
fn newborn(tracer: &Tracer, task: &Task, found: &Found, mode: u32, directory: bool) -> Result<Newborn, Errno> {
    if found.node.is_some() {
        return Err(Errno::EXIST);
    }
    if found.slash && !directory {
        return Err(Errno::NOENT);
    }
    let (parent, _) = found.named().map_err(|_| Errno::EXIST)?;
    let above = tracer.journal.look(parent.as_fd())?;
    check_writable(tracer, found)?;
    access::check(&task.identity, &above, access::WRITE | access::EXECUTE)?;
    Ok(Newborn::new(tracer, task, &above, mode, directory))
}

/// mkdir(2), mkdirat(2).
pub fn mkdir(tracer: &mut Tracer, task: &Task, start: Start, path: u64, mode: u64) -> Result<Outcome, Errno> {
    let path = without_slashes(memory::read_path(task.id, path)?);
    let found = tracer.resolve(task, start, &path, false)?;
    let newborn = newborn(tracer, task, &found, mode as u32 & 0o1777, true)?;
    let (parent, name) = found.named()?;
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    rustix::fs::fchmod(&made, newborn.mode_on_disk(true))?;
    newborn.record(tracer, &made)?;
    Ok(Outcome::Return(0))
}

/// Follows a path whose last name is to be made: what has that name is looked at itself.
fn find_new(tracer: &Tracer, task: &Task, start: Start, path: u64) -> Result<Found, Errno> {
    let path = memory::read_path(task.id, path)?;
    let slash = path.ends_with(b"/");
    Ok(Found { slash, ..tracer.resolve(task, start, &without_slashes(path), false)? })
}

/// mknod(2), mknodat(2).
pub fn mknod(
    tracer: &mut Tracer,
    task: &Task,
    start: Start,
    path: u64,
    mode: u64,
    device: u64,
) -> Result<Outcome, Errno> {
    let mode = mode as u32;
    let kind = match mode & libc::S_IFMT {
        0 | libc::S_IFREG => FileType::RegularFile,
        libc::S_IFIFO => FileType::Fifo,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharacterDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFDIR => return Err(Errno::PERM),
        _ => return Err(Errno::INVAL),
    };
    let found = find_new(tracer, task, start, path)?;
    let mut newborn = newborn(tracer, task, &found, mode, false)?;
    let device_kind = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    if device_kind {
        if !task.identity.can(capability::MKNOD) {
            return Err(Errno::PERM);
        }
        let device = device as Dev;
        newborn = newborn.with_device(DeviceNode {
            block: kind == FileType::BlockDevice,
            major: libc::major(device),
            minor: libc::minor(device),
        });
    }
    let (parent, name) = found.named()?;
    let on_disk = if device_kind { FileType::RegularFile } else { kind };
    rustix::fs::mknodat(parent, name, on_disk, newborn.mode_on_disk(false), 0)?;
    let made = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    // The builder's own mask was in the way.
    rustix::fs::chmod(own_path(&made), newborn.mode_on_disk(false))?;
    newborn.record(tracer, &made)?;
    Ok(Outcome::Return(0))
}

/// symlink(2), symlinkat(2).
pub fn symlink(tracer: &mut Tracer, task: &Task, target: u64, start: Start, path: u64) -> Result<Outcome, Errno> {
    let target = memory::read_path(task.id, target)?;
    if target.is_empty() {
        return Err(Errno::NOENT);
    }
    let found = find_new(tracer, task, start, path)?;
    let newborn = newborn(tracer, task, &found, 0o777, false)?;
    let (parent, name) = found.named()?;
    rustix::fs::symlinkat(std::ffi::OsStr::from_bytes(&target), parent, name)?;
    let made = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    newborn.record(tracer, &made)?;
    Ok(Outcome::Return(0))
}

/// link(2), linkat(2).
pub fn link(tracer: &mut Tracer, task: &Task, arguments: [u64; 4], flags: u64) -> Result<Outcome, Errno> {
    let [from, old, to, new] = arguments;
    if flags & !((libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) as u64) != 0 {
        return Err(Errno::INVAL);
    }
    let follow = flags & libc::AT_SYMLINK_FOLLOW as u64 != 0;
    let (file, seen) = find_node(tracer, task, Start::from_argument(from), old, flags, follow)?;
    let found = find_new(tracer, task, Start::from_argument(to), new)?;
    if found.node.is_some() || found.name.is_none() {
        return Err(Errno::EXIST);
    }
    if found.slash {
        return Err(Errno::NOENT);
    }
    check_writable(tracer, &found)?;
    if !is_on_mount_of(tracer, &file, &found)? {
        return Err(Errno::XDEV);
    }
    check_link_source(tracer, task, &seen)?;
    newborn(tracer, task, &found, 0, false)?;
    if seen.is_directory() {
        return Err(Errno::PERM);
    }
    let (parent, name) = found.named()?;
    // A file of the layers that gets another name is one of its own.
    tracer.journal.touch(&seen);
    rustix::fs::linkat(rustix::fs::CWD, own_path(&file), parent, name, AtFlags::SYMLINK_FOLLOW)?;
    if seen.links == 0 {
        tracer.journal.regain_name(&seen);
    }
    Ok(Outcome::Return(0))
}

/// Whether a file is where a name is to be made for it, in the eyes of who believes that bindings are mounts.
fn is_on_mount_of(tracer: &Tracer, file: &OwnedFd, found: &Found) -> Result<bool, Errno> {
    let path = rustix::fs::readlink(own_path(file), Vec::new())?.into_bytes();
    let inside = tracer.bindings.inside(&path);
    Ok(inside.is_some_and(|inside| tracer.bindings.holding(&inside) == tracer.bindings.holding(&found.path)))
}

/// Names for other users' files are made for harmless ones only (proc(5), /proc/sys/fs/protected_hardlinks).
fn check_link_source(tracer: &Tracer, task: &Task, seen: &Seen) -> Result<(), Errno> {
    if !tracer.protected.hardlinks {
        return Ok(());
    }
    let privileged_group = libc::S_ISGID | libc::S_IXGRP;
    let harmless = seen.is_file()
        && seen.mode & libc::S_ISUID == 0
        && seen.mode & privileged_group != privileged_group
        && access::check(&task.identity, seen, access::READ | access::WRITE).is_ok();
    if harmless { Ok(()) } else { access::check_owner(&task.identity, seen) }
}

/// unlink(2), rmdir(2), unlinkat(2).
pub fn unlink(tracer: &mut Tracer, task: &Task, start: Start, path: u64, flags: u64) -> Result<Outcome, Errno> {
    if flags & !(libc::AT_REMOVEDIR as u64) != 0 {
        return Err(Errno::INVAL);
    }
    let directory = flags & libc::AT_REMOVEDIR as u64 != 0;
    let string = memory::read_path(task.id, path)?;
    let slash = string.ends_with(b"/");
    let found = tracer.resolve(task, start, &without_slashes(string), false)?;
    if !directory && found.name.is_none() {
        return Err(Errno::ISDIR);
    }
    let (_, seen) = found.existing()?;
    if slash && !directory {
        return Err(if seen.is_directory() { Errno::ISDIR } else { Errno::NOTDIR });
    }
    let (parent, name) = found.named()?;
    let above = tracer.journal.look(parent.as_fd())?;
    check_writable(tracer, &found)?;
    access::check_removal(&task.identity, &above, seen)?;
    if tracer.bindings.is_busy(&found.path) {
        return Err(Errno::BUSY);
    }
    if directory && let Some((file, _)) = &found.node {
        // What waits to be made is in the way too.
        tracer.journal.complete(file.as_fd())?;
    }
    let how = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(parent, name, how)?;
    if directory {
        tracer.directories.removed(&found.path);
    } else if seen.is_symlink() {
        tracer.directories.link_changed();
    }
    lost_name(tracer, task, &found);
    Ok(Outcome::Return(0))
}

/// rename(2) and its kin.
pub fn rename(tracer: &mut Tracer, task: &Task, arguments: [u64; 4], flags: u64) -> Result<Outcome, Errno> {
    let [from, old, to, new] = arguments;
    let how = RenameFlags::from_bits(flags as u32).ok_or(Errno::INVAL)?;
    // A whiteout would be a device.
    if how.contains(RenameFlags::WHITEOUT) {
        return Err(Errno::INVAL);
    }
    let (old, new) = (memory::read_path(task.id, old)?, memory::read_path(task.id, new)?);
    let (slash_old, slash_new) = (old.ends_with(b"/"), new.ends_with(b"/"));
    let old = tracer.resolve(task, Start::from_argument(from), &without_slashes(old), false)?;
    let new = tracer.resolve(task, Start::from_argument(to), &without_slashes(new), false)?;
    let (old_parent, old_name) = old.named().map_err(|_| Errno::BUSY)?;
    let taken = if how.contains(RenameFlags::NOREPLACE) { Errno::EXIST } else { Errno::BUSY };
    let (new_parent, new_name) = new.named().map_err(|_| taken)?;
    let bindings = [&old, &new].map(|found| tracer.bindings.holding(&found.path));
    if bindings[0] != bindings[1] {
        return Err(Errno::XDEV);
    }
    let (_, seen) = old.existing()?;
    if how.contains(RenameFlags::NOREPLACE) && new.node.is_some() {
        return Err(Errno::EXIST);
    }
    if how.contains(RenameFlags::EXCHANGE) {
        let (_, other) = new.existing()?;
        if slash_new && !other.is_directory() {
            return Err(Errno::NOTDIR);
        }
    }
    if (slash_old || slash_new && !how.contains(RenameFlags::EXCHANGE)) && !seen.is_directory() {
        return Err(Errno::NOTDIR);
    }
    if old.path != new.path && is_beneath(&new.path, &old.path) {
        return Err(Errno::INVAL);
    }
    if old.path != new.path && is_beneath(&old.path, &new.path) {
        return Err(if how.contains(RenameFlags::EXCHANGE) { Errno::INVAL } else { Errno::NOTEMPTY });
    }
    for found in [&old, &new] {
        check_writable(tracer, found)?;
    }
    // Two names of one file stay two names (rename(2)).
    if new.node.as_ref().is_some_and(|(_, other)| (other.device, other.inode) == (seen.device, seen.inode)) {
        return Ok(Outcome::Return(0));
    }
    let above_old = tracer.journal.look(old_parent.as_fd())?;
    access::check_removal(&task.identity, &above_old, seen)?;
    let above = tracer.journal.look(new_parent.as_fd())?;
    let replaced = new.node.as_ref().map(|(_, replaced)| replaced);
    match replaced {
        Some(replaced) => access::check_removal(&task.identity, &above, replaced)?,
        None => access::check(&task.identity, &above, access::WRITE | access::EXECUTE)?,
    }
    if (above_old.device, above_old.inode) != (above.device, above.inode) {
        // The `..` of a directory changes (fs/namei.c, vfs_rename).
        let exchanged = replaced.filter(|_| how.contains(RenameFlags::EXCHANGE));
        for directory in [Some(seen), exchanged].into_iter().flatten().filter(|seen| seen.is_directory()) {
            access::check(&task.identity, directory, access::WRITE)?;
        }
    }
    if [&old, &new].iter().any(|found| tracer.bindings.is_busy(&found.path)) {
        return Err(Errno::BUSY);
    }
    let exchange = how.contains(RenameFlags::EXCHANGE);
    for (found, moves) in [(&old, true), (&new, exchange)] {
        let Some((directory, _)) = found.node.as_ref().filter(|(_, seen)| seen.is_directory()) else { continue };
        if moves {
            tracer.journal.complete_tree(directory.as_fd())?;
        } else {
            tracer.journal.complete(directory.as_fd())?;
        }
    }
    rustix::fs::renameat_with(old_parent, old_name, new_parent, new_name, how)?;
    let concerned = [Some(seen), replaced];
    if concerned.iter().flatten().any(|seen| seen.is_directory()) {
        tracer.directories.renamed();
    } else if concerned.iter().flatten().any(|seen| seen.is_symlink()) {
        tracer.directories.link_changed();
    }
    tracer.moved(task, &old);
    if how.contains(RenameFlags::EXCHANGE) {
        tracer.moved(task, &new);
    } else {
        lost_name(tracer, task, &new);
    }
    Ok(Outcome::Return(0))
}

/// What has no name left is for those who have it open only.
fn lost_name(tracer: &mut Tracer, task: &Task, found: &Found) {
    tracer.moved(task, found);
    let Some((file, seen)) = &found.node else { return };
    if tracer.journal.look(file.as_fd()).is_ok_and(|now| now.links == 0) {
        tracer.journal.lose_name(seen);
    }
}

impl Tracer {
    /// Something is not where it was found any more: who has it open still means it.
    fn moved(&self, task: &Task, found: &Found) {
        let (Some(lazy), Some((file, seen))) = (self.journal.lazy(), &found.node) else { return };
        self.let_go_of_moved(task);
        lazy.moves(file.as_fd(), seen);
    }

    /// Keeps what is held of moved files to those that are open.
    pub fn let_go_of_moved(&self, task: &Task) {
        if let Some(lazy) = self.journal.lazy().filter(|lazy| lazy.holds_many()) {
            lazy.let_go(&self.open_files(task));
        }
    }

    /// Every file that a task of the command has open.
    fn open_files(&self, current: &Task) -> HashSet<FileKey> {
        let mut open = HashSet::new();
        for task in self.tasks.keys().chain([&current.id]) {
            let directory = format!("/proc/{}/fd", task.as_raw_nonzero());
            let Ok(entries) = rustix::fs::open(&*directory, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                .and_then(rustix::fs::Dir::new)
            else {
                continue;
            };
            for entry in entries.flatten() {
                if let Ok(stat) = rustix::fs::stat([directory.as_bytes(), b"/", entry.file_name().to_bytes()].concat())
                {
                    open.insert((libc::major(stat.st_dev), libc::minor(stat.st_dev), stat.st_ino));
                }
            }
        }
        open
    }
}
