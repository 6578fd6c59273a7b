//! The calls, by what they are about.

pub mod attributes;
pub mod directory;
pub mod door;
pub mod exec;
pub mod identity;
pub mod look;
pub mod misc;
pub mod names;
pub mod open;
pub mod socket;
pub mod xattr;

use std::collections::BTreeMap;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{
    DeviceNode, Recorded,
    acl::{self, AccessList},
    journal::{Seen, mode_on_disk},
};

use super::{
    memory,
    resolve::{Found, Start},
    tracee::Task,
    tracer::Tracer,
};

/// Reads a path argument and follows it.
pub fn find(tracer: &Tracer, task: &Task, start: Start, address: u64, follow: bool) -> Result<Found, Errno> {
    let path = memory::read_path(task.id, address)?;
    tracer.resolve(task, start, &path, follow)
}

/// Reads a path argument where AT_EMPTY_PATH lets an empty one name the descriptor itself: `None` is that.
fn path_or_descriptor(task: &Task, address: u64, flags: u64) -> Result<Option<Vec<u8>>, Errno> {
    let empty_allowed = flags & libc::AT_EMPTY_PATH as u64 != 0;
    // Newer kernels take a null pointer for an empty path then.
    if empty_allowed && address == 0 {
        return Ok(None);
    }
    let path = memory::read_path(task.id, address)?;
    Ok(Some(path).filter(|path| !path.is_empty() || !empty_allowed))
}

/// What a path argument names, or an empty one with AT_EMPTY_PATH.
pub fn find_node(
    tracer: &Tracer,
    task: &Task,
    start: Start,
    address: u64,
    flags: u64,
    follow: bool,
) -> Result<(OwnedFd, Seen), Errno> {
    match path_or_descriptor(task, address, flags)? {
        Some(path) => in_tree(tracer, tracer.resolve(task, start, &path, follow)?),
        None => tracer.journal.in_tree(match start {
            Start::Here => open_for_path(&format!("/proc/{}/cwd", task.id.as_raw_nonzero()))?,
            Start::Descriptor(number) => descriptor(task, number)?,
        }),
    }
}

/// As [`find_node`], for those who only look.
pub fn look_at(
    tracer: &Tracer,
    task: &Task,
    start: Start,
    address: u64,
    flags: u64,
    follow: bool,
) -> Result<Seen, Errno> {
    match (path_or_descriptor(task, address, flags)?, start) {
        (None, Start::Descriptor(number)) => look_at_descriptor(tracer, task, number),
        (None, Start::Here) => Ok(tracer.journal.look_through(&format!("/proc/{}/cwd", task.id.as_raw_nonzero()))?.0),
        (Some(path), _) => {
            let found = tracer.resolve(task, start, &path, follow)?;
            found.existing()?;
            found.node.map(|(_, seen)| seen).ok_or(Errno::NOENT)
        }
    }
}

/// Looks at what a descriptor of the task stands for.
pub fn look_at_descriptor(tracer: &Tracer, task: &Task, number: i32) -> Result<Seen, Errno> {
    match tracer.journal.look_through(&format!("/proc/{}/fd/{number}", task.id.as_raw_nonzero())) {
        Err(Errno::NOENT) => Err(Errno::BADF),
        looked => Ok(looked?.0),
    }
}

/// What was found, as the tree has it: a link of /proc may lead to a layer's own file, of which nothing may change.
pub fn in_tree(tracer: &Tracer, found: Found) -> Result<(OwnedFd, Seen), Errno> {
    found.existing()?;
    let (file, seen) = found.node.ok_or(Errno::NOENT)?;
    if found.magic.is_some() { tracer.journal.in_tree(file) } else { Ok((file, seen)) }
}

/// Opens what a descriptor of the task stands for, for its path only.
pub fn descriptor(task: &Task, number: i32) -> Result<OwnedFd, Errno> {
    match open_for_path(&format!("/proc/{}/fd/{number}", task.id.as_raw_nonzero())) {
        Err(Errno::NOENT) => Err(Errno::BADF),
        file => file,
    }
}

/// As [`descriptor`], of one that was opened for more than its path.
pub fn open_descriptor(task: &Task, number: i32) -> Result<OwnedFd, Errno> {
    open_for_path(&link_of_open(task, number)?)
}

/// The link of /proc by which a descriptor is reached that was opened for more than its path.
pub fn link_of_open(task: &Task, number: i32) -> Result<String, Errno> {
    let link = format!("/proc/{}/fd/{number}", task.id.as_raw_nonzero());
    // The link's own mode says how the file was opened (proc(5)).
    match rustix::fs::lstat(&*link) {
        Ok(stat) if stat.st_mode & 0o700 == 0 => Err(Errno::BADF),
        Err(Errno::NOENT) => Err(Errno::BADF),
        Err(error) => Err(error),
        Ok(_) => Ok(link),
    }
}

fn open_for_path(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// A path without the slashes at its end.
pub fn without_slashes(mut path: Vec<u8>) -> Vec<u8> {
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    path
}

/// Refuses changes beneath a read-only binding.
pub fn check_writable(tracer: &Tracer, found: &Found) -> Result<(), Errno> {
    if tracer.bindings.get(tracer.bindings.holding(&found.path)).read_only { Err(Errno::ROFS) } else { Ok(()) }
}

/// What something new in a directory gets: its owner and mode, and whether that is what the disk says anyway.
pub struct Newborn {
    recorded: Recorded,
    plain: bool,
}

impl Newborn {
    /// `mode` before the mask; the group follows a setgid directory (inode(7)), and a list of the directory stands for the
    /// mask (acl(5), "Object creation and default ACLs").
    pub fn new(tracer: &Tracer, task: &Task, parent: &Seen, mode: u32, directory: bool) -> Self {
        let mut xattrs = BTreeMap::new();
        let default = tracer.journal.get(parent).and_then(|recorded| recorded.xattrs.get(acl::DEFAULT));
        let mut mode = mode & 0o7777;
        match default.and_then(|value| AccessList::parse(value).ok()?) {
            Some(list) => {
                let own = list.for_new(mode);
                mode = mode & 0o7000 | own.mode();
                if !own.is_mode() {
                    xattrs.insert(acl::ACCESS.to_vec(), own.to_bytes());
                }
                if directory {
                    xattrs.insert(acl::DEFAULT.to_vec(), list.to_bytes());
                }
            }
            None => mode &= !task.place.borrow().mask,
        }
        let inherits = parent.mode & libc::S_ISGID != 0;
        let gid = if inherits { parent.gid } else { task.identity.group.file };
        if inherits && directory {
            mode |= libc::S_ISGID;
        }
        let uid = task.identity.user.file;
        let plain = uid == 0 && gid == 0 && mode_on_disk(mode, directory) == mode && default.is_none();
        let recorded = Recorded { uid, gid, mode, device: None, xattrs };
        Self { recorded, plain }
    }

    /// Whether the kernel's own result is right.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The mode to make it with.
    pub fn mode_on_disk(&self, directory: bool) -> Mode {
        Mode::from_raw_mode(mode_on_disk(self.recorded.mode, directory))
    }

    /// As a device.
    pub fn with_device(mut self, device: DeviceNode) -> Self {
        self.recorded.device = Some(device);
        self.plain = false;
        self
    }

    /// Records what was made.
    pub fn record(self, tracer: &mut Tracer, file: &OwnedFd) -> Result<(), Errno> {
        let seen = tracer.journal.look(file.as_fd())?;
        tracer.journal.is_born(&seen);
        if !self.plain {
            tracer.journal.set(&seen, self.recorded);
        }
        Ok(())
    }
}
