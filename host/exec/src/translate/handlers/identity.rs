//! Who a task is, says it is, or wants to be.

use rustix::io::Errno;

use crate::translate::{
    calls::Outcome,
    identity::{FourIds, capability},
    memory,
    registers::Registers,
    tracee::Task,
    tracer::Tracer,
};

/// NGROUPS_MAX.
const GROUPS_LIMIT: u64 = 65536;

/// `_LINUX_CAPABILITY_VERSION_3` and the older ones of linux/capability.h.
const VERSIONS: [u32; 3] = [0x1998_0330, 0x2007_1026, 0x2008_0522];

/// getresuid(2), getresgid(2).
pub fn get_three(task: &Task, registers: &Registers, ids: FourIds) -> Result<Outcome, Errno> {
    for (index, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        memory::write(task.id, registers.argument(index), &id.to_ne_bytes())?;
    }
    Ok(Outcome::Return(0))
}

/// getgroups(2).
pub fn getgroups(task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let (size, groups) = (registers.argument(0) as i32, &task.identity.groups);
    if size < 0 || size != 0 && (size as usize) < groups.len() {
        return Err(Errno::INVAL);
    }
    if size != 0 {
        let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        memory::write(task.id, registers.argument(1), &bytes)?;
    }
    Ok(Outcome::Return(groups.len() as i64))
}

/// setgroups(2).
pub fn setgroups(task: &mut Task, registers: &Registers) -> Result<Outcome, Errno> {
    if !task.identity.can(capability::SETGID) {
        return Err(Errno::PERM);
    }
    let size = registers.argument(0);
    if size > GROUPS_LIMIT {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; size as usize * 4];
    memory::read(task.id, registers.argument(1), &mut bytes)?;
    let group = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    task.identity.groups = bytes.chunks_exact(4).map(group).collect();
    Ok(Outcome::Return(0))
}

/// The calls that change user ids.
pub fn change_user(
    task: &mut Task,
    change: impl FnOnce(&mut FourIds, bool) -> Result<(), Errno>,
) -> Result<Outcome, Errno> {
    task.identity.change_user(change)?;
    Ok(Outcome::Return(0))
}

/// The calls that change group ids.
pub fn change_group(
    task: &mut Task,
    change: impl FnOnce(&mut FourIds, bool) -> Result<(), Errno>,
) -> Result<Outcome, Errno> {
    task.identity.change_group(change)?;
    Ok(Outcome::Return(0))
}

/// setfsuid(2).
pub fn setfsuid(task: &mut Task, registers: &Registers) -> Result<Outcome, Errno> {
    let privileged = task.identity.can(capability::SETUID);
    let old = task.identity.user.set_file(registers.argument(0) as u32, privileged);
    task.identity.follow_file_user(old);
    Ok(Outcome::Return(old.into()))
}

/// setfsgid(2).
pub fn setfsgid(task: &mut Task, registers: &Registers) -> Result<Outcome, Errno> {
    let privileged = task.identity.can(capability::SETGID);
    Ok(Outcome::Return(task.identity.group.set_file(registers.argument(0) as u32, privileged).into()))
}

/// Reads a `cap_user_header_t`: how many words each set has, and whose sets are meant. An unknown version is answered with
/// the right one (capget(2)).
fn header(task: &Task, registers: &Registers) -> Result<(usize, i32), Errno> {
    let mut bytes = [0; 8];
    memory::read(task.id, registers.argument(0), &mut bytes)?;
    let version = u32::from_ne_bytes(bytes[..4].try_into().expect("four bytes"));
    let process = i32::from_ne_bytes(bytes[4..].try_into().expect("four bytes"));
    if !VERSIONS.contains(&version) {
        memory::write(task.id, registers.argument(0), &VERSIONS[2].to_ne_bytes())?;
        return Err(Errno::INVAL);
    }
    if process < 0 {
        return Err(Errno::INVAL);
    }
    Ok((if version == VERSIONS[0] { 1 } else { 2 }, process))
}

/// capget(2).
pub fn capget(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let (words, process) = match header(task, registers) {
        Err(Errno::INVAL) if registers.argument(1) == 0 => return Ok(Outcome::Return(0)),
        header => header?,
    };
    let own = process == 0 || [task.id, task.process].iter().any(|id| id.as_raw_nonzero().get() == process);
    let sets = if own {
        task.identity.capabilities
    } else {
        let other = rustix::process::Pid::from_raw(process).and_then(|process| tracer.tasks.get(&process));
        other.ok_or(Errno::SRCH)?.identity.capabilities
    };
    if registers.argument(1) == 0 {
        return Ok(Outcome::Return(0));
    }
    let mut bytes = Vec::new();
    for word in 0..words {
        for set in [sets.effective, sets.permitted, sets.inheritable] {
            bytes.extend_from_slice(&((set >> (32 * word)) as u32).to_ne_bytes());
        }
    }
    memory::write(task.id, registers.argument(1), &bytes)?;
    Ok(Outcome::Return(0))
}

/// capset(2).
pub fn capset(task: &mut Task, registers: &Registers) -> Result<Outcome, Errno> {
    let (words, process) = header(task, registers)?;
    if process != 0 && process != task.id.as_raw_nonzero().get() && process != task.process.as_raw_nonzero().get() {
        return Err(Errno::PERM);
    }
    let mut bytes = vec![0; words * 12];
    memory::read(task.id, registers.argument(1), &mut bytes)?;
    let mut wanted = [0_u64; 3];
    for (index, word) in bytes.chunks_exact(4).enumerate() {
        let word = u64::from(u32::from_ne_bytes(word.try_into().expect("four bytes")));
        wanted[index % 3] |= word << (32 * (index / 3));
    }
    let [effective, permitted, inheritable] = wanted;
    let sets = &mut task.identity.capabilities;
    let setpcap = sets.effective & 1 << capability::SETPCAP != 0;
    let within = |set: u64, limit: u64| set & !limit == 0;
    let inheritable_limit = if setpcap { u64::MAX } else { sets.inheritable | sets.permitted };
    if !within(permitted, sets.permitted)
        || !within(effective, permitted)
        || !within(inheritable, inheritable_limit)
        || !within(inheritable, sets.inheritable | sets.bounding)
    {
        return Err(Errno::PERM);
    }
    (sets.effective, sets.permitted, sets.inheritable) = (effective, permitted, inheritable);
    Ok(Outcome::Return(0))
}

/// prctl(2), what of it is about privileges.
pub fn prctl(tracer: &Tracer, task: &mut Task, registers: &Registers) -> Result<Outcome, Errno> {
    const LAST_CAPABILITY: u64 = 40;
    let argument = registers.argument(1);
    let who = &mut task.identity;
    let result = match registers.argument(0) as i32 {
        libc::PR_CAPBSET_READ if argument > LAST_CAPABILITY => return Err(Errno::INVAL),
        libc::PR_CAPBSET_READ => i64::from(who.capabilities.bounding & 1 << argument != 0),
        libc::PR_CAPBSET_DROP if argument > LAST_CAPABILITY => return Err(Errno::INVAL),
        libc::PR_CAPBSET_DROP if !who.can(capability::SETPCAP) => return Err(Errno::PERM),
        libc::PR_CAPBSET_DROP => {
            who.capabilities.bounding &= !(1 << argument);
            0
        }
        libc::PR_SET_KEEPCAPS if argument > 1 => return Err(Errno::INVAL),
        libc::PR_SET_KEEPCAPS => {
            who.keep_capabilities = argument == 1;
            0
        }
        libc::PR_GET_KEEPCAPS => who.keep_capabilities.into(),
        libc::PR_GET_SECUREBITS => 0,
        libc::PR_SET_SECUREBITS if argument == 0 => 0,
        libc::PR_SET_SECUREBITS => return Err(Errno::PERM),
        libc::PR_CAP_AMBIENT => match argument as i32 {
            libc::PR_CAP_AMBIENT_IS_SET | libc::PR_CAP_AMBIENT_CLEAR_ALL | libc::PR_CAP_AMBIENT_LOWER => 0,
            _ => return Err(Errno::PERM),
        },
        libc::PR_SET_NO_NEW_PRIVS if argument == 1 => {
            who.no_new_privileges = true;
            0
        }
        libc::PR_SET_NO_NEW_PRIVS => return Err(Errno::INVAL),
        libc::PR_GET_NO_NEW_PRIVS => who.no_new_privileges.into(),
        // Real, it would hide the task from its tracer.
        libc::PR_SET_DUMPABLE if argument > 1 => return Err(Errno::INVAL),
        libc::PR_SET_DUMPABLE => {
            who.dumpable = argument;
            0
        }
        libc::PR_GET_DUMPABLE => who.dumpable as i64,
        // Another program's name for this one; and ptrace is forbidden anyway.
        libc::PR_SET_PTRACER => 0,
        crate::translator::NO_MORE_CHECKS if tracer.without_checks => {
            task.is_unchecked = true;
            0
        }
        _ => return Ok(Outcome::Native),
    };
    Ok(Outcome::Return(result))
}
