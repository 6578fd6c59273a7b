//! Extended attributes: a user's own are real, the system's are recorded.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::XattrFlags,
    io::Errno,
};

use super::{attributes, find_node, open_descriptor};
use crate::acl::{self, AccessList};
use crate::journal::Seen;
use crate::translate::{
    access,
    calls::Outcome,
    identity::{Identity, capability},
    memory,
    registers::Registers,
    resolve::{Start, own_path},
    tracee::Task,
    tracer::Tracer,
};

/// XATTR_NAME_MAX with the NUL, XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h.
const NAME_LIMIT_BYTES: usize = 256;
const VALUE_LIMIT_BYTES: usize = 64 << 10;

/// How the file is named by the first argument.
#[derive(Clone, Copy)]
pub enum Which {
    /// By a path.
    Path {
        /// Whether a symlink at its end is followed.
        follow: bool,
    },
    /// By a descriptor.
    Descriptor,
}

fn file(tracer: &Tracer, task: &Task, registers: &Registers, which: Which) -> Result<(OwnedFd, Seen), Errno> {
    match which {
        Which::Path { follow } => find_node(tracer, task, Start::Here, registers.argument(0), 0, follow),
        Which::Descriptor => tracer.journal.in_tree(open_descriptor(task, registers.argument(0) as i32)?),
    }
}

fn name(task: &Task, address: u64) -> Result<Vec<u8>, Errno> {
    match memory::read_string(task.id, address, NAME_LIMIT_BYTES) {
        Err(Errno::NAMETOOLONG) => Err(Errno::RANGE),
        Ok(name) if name.is_empty() => Err(Errno::RANGE),
        name => name,
    }
}

/// Where an attribute is kept.
enum Kept {
    /// On the disk.
    Disk,
    /// In the journal.
    Journal,
    /// In the journal, as long as the command runs, and in part in the mode.
    AccessList,
}

/// Where, if the task may know of it at all; `wanted` is what it is about to do (fs/xattr.c, xattr_permission).
fn kept(who: &Identity, name: &[u8], seen: &Seen, wanted: u32) -> Result<Kept, Errno> {
    if name.starts_with(b"user.") {
        // xattr(7), "Extended user attributes".
        return if seen.is_file() || seen.is_directory() { Ok(Kept::Disk) } else { Err(Errno::PERM) };
    }
    if name.starts_with(b"security.") || name.starts_with(b"trusted.") {
        return Ok(Kept::Journal);
    }
    // acl(5): whatever has a mode of its own.
    if [acl::ACCESS, acl::DEFAULT].contains(&name) && !seen.is_symlink() {
        return Ok(Kept::AccessList);
    }
    if !name.starts_with(b"system.") {
        access::check(who, seen, wanted)?;
    }
    Err(Errno::OPNOTSUPP)
}

/// Whether it may be changed.
fn check_change(who: &Identity, name: &[u8], seen: &Seen) -> Result<(), Errno> {
    if name.starts_with(b"user.") {
        // Everybody may write in a sticky directory.
        if seen.is_directory() && seen.mode & libc::S_ISVTX != 0 {
            access::check_owner(who, seen)?;
        }
        return access::check(who, seen, access::WRITE);
    }
    // As in a container: security.capability needs CAP_SETFCAP, the rest CAP_SYS_ADMIN, which nobody has.
    if name == b"security.capability" && who.can(capability::SETFCAP) { Ok(()) } else { Err(Errno::PERM) }
}

/// setxattr(2) and its kin.
pub fn set(tracer: &mut Tracer, task: &Task, registers: &Registers, which: Which) -> Result<Outcome, Errno> {
    let name = name(task, registers.argument(1))?;
    let size = registers.argument(3) as usize;
    if size > VALUE_LIMIT_BYTES {
        return Err(Errno::TOOBIG);
    }
    let mut value = vec![0; size];
    memory::read(task.id, registers.argument(2), &mut value)?;
    let flags = XattrFlags::from_bits(registers.argument(4) as u32).ok_or(Errno::INVAL)?;
    let (file, seen) = file(tracer, task, registers, which)?;
    let kept = kept(&task.identity, &name, &seen, access::WRITE)?;
    if let Kept::AccessList = kept {
        set_list(tracer, task, &file, &seen, name, AccessList::parse(&value)?)?;
        return Ok(Outcome::Return(0));
    }
    check_change(&task.identity, &name, &seen)?;
    tracer.journal.touch(&seen);
    match kept {
        Kept::AccessList => {}
        Kept::Disk => rustix::fs::setxattr(own_path(&file), &*name, &value, flags)?,
        Kept::Journal => {
            let known = tracer.journal.get(&seen).is_some_and(|recorded| recorded.xattrs.contains_key(&name));
            if known && flags.contains(XattrFlags::CREATE) {
                return Err(Errno::EXIST);
            }
            if !known && flags.contains(XattrFlags::REPLACE) {
                return Err(Errno::NODATA);
            }
            tracer.journal.change(&seen, |recorded| {
                recorded.xattrs.insert(name, value);
            });
        }
    }
    Ok(Outcome::Return(0))
}

/// Sets or removes a list (fs/posix_acl.c, set_posix_acl and posix_acl_update_mode).
fn set_list(
    tracer: &mut Tracer,
    task: &Task,
    file: &OwnedFd,
    seen: &Seen,
    name: Vec<u8>,
    list: Option<AccessList>,
) -> Result<(), Errno> {
    let is_default = name == acl::DEFAULT;
    if is_default && !seen.is_directory() {
        return if list.is_some() { Err(Errno::ACCESS) } else { Ok(()) };
    }
    access::check_owner(&task.identity, seen)?;
    list.as_ref().map_or(Ok(()), AccessList::check)?;
    if let (false, Some(list)) = (is_default, &list) {
        let mode = seen.mode & 0o7000 | list.mode();
        attributes::change_mode(tracer, task, file, seen, mode)?;
    }
    let seen = tracer.journal.look(file.as_fd())?;
    tracer.journal.change(&seen, |recorded| {
        match list.filter(|list| is_default || !list.is_mode()) {
            Some(list) => recorded.xattrs.insert(name, list.to_bytes()),
            None => recorded.xattrs.remove(&name),
        };
    });
    Ok(())
}

/// getxattr(2) and its kin.
pub fn get(tracer: &mut Tracer, task: &Task, registers: &Registers, which: Which) -> Result<Outcome, Errno> {
    let name = name(task, registers.argument(1))?;
    let (file, seen) = file(tracer, task, registers, which)?;
    let value = match kept(&task.identity, &name, &seen, access::READ) {
        Err(Errno::PERM) => return Err(Errno::NODATA),
        Err(error) => return Err(error),
        Ok(Kept::Disk) => {
            access::check(&task.identity, &seen, access::READ)?;
            let mut value = vec![0; VALUE_LIMIT_BYTES];
            let length = rustix::fs::getxattr(own_path(&file), &*name, &mut value)?;
            value.truncate(length);
            value
        }
        Ok(Kept::Journal | Kept::AccessList) => {
            let recorded = tracer.journal.get(&seen).and_then(|recorded| recorded.xattrs.get(&name));
            recorded.cloned().ok_or(Errno::NODATA)?
        }
    };
    give(task, &value, registers.argument(2), registers.argument(3))
}

/// listxattr(2) and its kin.
pub fn list(tracer: &mut Tracer, task: &Task, registers: &Registers, which: Which) -> Result<Outcome, Errno> {
    let (file, seen) = file(tracer, task, registers, which)?;
    let mut names = Vec::new();
    if seen.is_file() || seen.is_directory() {
        let mut on_disk = vec![0; VALUE_LIMIT_BYTES];
        let length = rustix::fs::listxattr(own_path(&file), &mut on_disk)?;
        for name in on_disk[..length].split(|&byte| byte == 0).filter(|name| name.starts_with(b"user.")) {
            names.extend_from_slice(name);
            names.push(0);
        }
    }
    let recorded = tracer.journal.get(&seen).map(|recorded| recorded.xattrs.keys());
    for name in recorded.into_iter().flatten() {
        names.extend_from_slice(name);
        names.push(0);
    }
    give(task, &names, registers.argument(1), registers.argument(2))
}

/// removexattr(2) and its kin.
pub fn remove(tracer: &mut Tracer, task: &Task, registers: &Registers, which: Which) -> Result<Outcome, Errno> {
    let name = name(task, registers.argument(1))?;
    let (file, seen) = file(tracer, task, registers, which)?;
    let kept = kept(&task.identity, &name, &seen, access::WRITE)?;
    if let Kept::AccessList = kept {
        set_list(tracer, task, &file, &seen, name, None)?;
        return Ok(Outcome::Return(0));
    }
    check_change(&task.identity, &name, &seen)?;
    tracer.journal.touch(&seen);
    match kept {
        Kept::AccessList => {}
        Kept::Disk => rustix::fs::removexattr(own_path(&file), &*name)?,
        Kept::Journal => {
            let known = tracer.journal.get(&seen).is_some_and(|recorded| recorded.xattrs.contains_key(&name));
            if !known {
                return Err(Errno::NODATA);
            }
            tracer.journal.change(&seen, |recorded| {
                recorded.xattrs.remove(&name);
            });
        }
    }
    Ok(Outcome::Return(0))
}

/// Hands bytes over; a size of 0 asks how many there are.
fn give(task: &Task, bytes: &[u8], into: u64, size: u64) -> Result<Outcome, Errno> {
    if size != 0 {
        if bytes.len() as u64 > size {
            return Err(Errno::RANGE);
        }
        memory::write(task.id, into, bytes)?;
    }
    Ok(Outcome::Return(bytes.len() as i64))
}
