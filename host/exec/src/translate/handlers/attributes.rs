//! Owners, modes and times.

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Mode, Timespec, Timestamps},
    io::Errno,
};

use super::find_node;
use crate::translate::{
    access,
    calls::Outcome,
    identity::capability,
    memory,
    privileged::Loss,
    registers::Registers,
    resolve::{Start, own_path},
    tracee::Task,
    tracer::Tracer,
};
use crate::{
    Recorded, acl,
    journal::{Seen, mode_on_disk},
};

/// chmod(2), fchmodat(2), fchmodat2(2).
pub fn chmod(
    tracer: &mut Tracer,
    task: &Task,
    start: Start,
    path: u64,
    mode: u64,
    flags: u64,
) -> Result<Outcome, Errno> {
    let (file, seen) = find_to_change(tracer, task, start, path, flags)?;
    change_mode(tracer, task, &file, &seen, mode as u32)
}

/// What a path names whose owner or mode is to change; `flags` are those that fchmodat2(2) and fchownat(2) know.
fn find_to_change(tracer: &Tracer, task: &Task, start: Start, path: u64, flags: u64) -> Result<(OwnedFd, Seen), Errno> {
    if flags & !((libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) as u64) != 0 {
        return Err(Errno::INVAL);
    }
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW as u64 == 0;
    find_node(tracer, task, start, path, flags, follow)
}

/// fchmod(2).
pub fn fchmod(tracer: &mut Tracer, task: &Task, number: u64, mode: u64) -> Result<Outcome, Errno> {
    let (file, seen) = open_file(tracer, task, number)?;
    change_mode(tracer, task, &file, &seen, mode as u32)
}

/// A descriptor that is not only for a path.
fn open_file(tracer: &Tracer, task: &Task, number: u64) -> Result<(OwnedFd, Seen), Errno> {
    tracer.journal.in_tree(super::open_descriptor(task, number as i32)?)
}

/// Changes the mode of what was found, if the task may.
///
/// # Errors
/// As chmod(2).
pub fn change_mode(tracer: &mut Tracer, task: &Task, file: &OwnedFd, seen: &Seen, mode: u32) -> Result<Outcome, Errno> {
    if seen.is_symlink() {
        return Err(Errno::OPNOTSUPP);
    }
    access::check_owner(&task.identity, seen)?;
    let mut mode = mode & 0o7777;
    if !task.identity.is_in_group(seen.gid) && !task.identity.can(capability::FSETID) {
        mode &= !libc::S_ISGID;
    }
    if !tracer.journal.change_bound(seen, |recorded| recorded.mode = mode) && is_of_tree(tracer, seen) {
        tracer.end_watch(Some(seen.inode));
        rustix::fs::chmod(own_path(file), Mode::from_raw_mode(mode_on_disk(mode, seen.is_directory())))?;
        tracer.journal.change(seen, |recorded| {
            recorded.mode = mode;
            if let Some(mut list) = seen.acl.clone() {
                list.set_mode(mode);
                recorded.xattrs.insert(acl::ACCESS.to_vec(), list.to_bytes());
            }
        });
    }
    Ok(Outcome::Return(0))
}

/// Whether a file is on the file system of the tree: what the command has besides belongs to the machine, or to nobody.
fn is_of_tree(tracer: &Tracer, seen: &Seen) -> bool {
    tracer.journal.is_on(seen)
}

/// chown(2), lchown(2), fchownat(2).
pub fn chown(
    tracer: &mut Tracer,
    task: &Task,
    start: Start,
    path: u64,
    uid: u64,
    gid: u64,
    flags: u64,
) -> Result<Outcome, Errno> {
    let (file, seen) = find_to_change(tracer, task, start, path, flags)?;
    change_owner(tracer, task, &file, &seen, uid as u32, gid as u32)
}

/// fchown(2).
pub fn fchown(tracer: &mut Tracer, task: &Task, number: u64, uid: u64, gid: u64) -> Result<Outcome, Errno> {
    let (file, seen) = open_file(tracer, task, number)?;
    change_owner(tracer, task, &file, &seen, uid as u32, gid as u32)
}

fn change_owner(
    tracer: &mut Tracer,
    task: &Task,
    file: &OwnedFd,
    seen: &Seen,
    uid: u32,
    gid: u32,
) -> Result<Outcome, Errno> {
    let who = &task.identity;
    if !who.can(capability::CHOWN) {
        let own = who.user.file == seen.uid;
        let user_stays = uid == u32::MAX || uid == seen.uid;
        let group_allowed = gid == u32::MAX || gid == seen.gid || who.is_in_group(gid);
        if !(own && user_stays && group_allowed) && (uid != u32::MAX || gid != u32::MAX) {
            return Err(Errno::PERM);
        }
    }
    let change = |recorded: &mut Recorded| {
        if uid != u32::MAX {
            recorded.uid = uid;
        }
        if gid != u32::MAX {
            recorded.gid = gid;
        }
    };
    if tracer.journal.change_bound(seen, change) || !is_of_tree(tracer, seen) {
        return Ok(Outcome::Return(0));
    }
    tracer.end_watch(Some(seen.inode));
    let special = !seen.is_directory() && !seen.is_symlink();
    let loss = Loss::by_chown(&task.identity, seen);
    if special && loss.bits != 0 {
        // Taking the bits away is a change of the mode, for which more is needed (fs/attr.c, notify_change).
        access::check_owner(&task.identity, seen)?;
    }
    tracer.journal.change(seen, |recorded| {
        change(recorded);
        if special {
            recorded.mode &= !loss.bits;
            recorded.xattrs.remove(b"security.capability".as_slice());
        }
    });
    // For those who look at the time of the change, the journal's own change is one.
    if !seen.is_symlink() {
        let mode = mode_on_disk(seen.mode, seen.is_directory());
        let _ = rustix::fs::chmod(own_path(file), Mode::from_raw_mode(mode));
    }
    Ok(Outcome::Return(0))
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW };

/// utime(2): two seconds.
pub fn utime(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let times = match registers.argument(1) {
        0 => None,
        address => {
            let [access, modification] = words(task, address)?;
            Some([access, modification].map(|seconds| Timespec { tv_sec: seconds, tv_nsec: 0 }))
        }
    };
    set_times(tracer, task, Start::Here, registers.argument(0), 0, times)
}

/// utimes(2) and futimesat(2): two pairs of seconds and microseconds.
pub fn utimes(tracer: &Tracer, task: &Task, start: Start, path: u64, times: u64) -> Result<Outcome, Errno> {
    let times = match times {
        0 => None,
        address => {
            let [a, b, c, d] = words(task, address)?;
            if [b, d].iter().any(|microseconds| !(0..1_000_000).contains(microseconds)) {
                return Err(Errno::INVAL);
            }
            Some([(a, b), (c, d)].map(|(tv_sec, microseconds)| Timespec { tv_sec, tv_nsec: microseconds * 1000 }))
        }
    };
    match start {
        Start::Descriptor(number) if path == 0 => set_times_of_descriptor(tracer, task, number as u64, times),
        _ if path == 0 => Ok(Outcome::Native),
        _ => set_times(tracer, task, start, path, 0, times),
    }
}

/// utimensat(2).
pub fn utimensat(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let times = match registers.argument(2) {
        0 => None,
        address => {
            let [a, b, c, d] = words(task, address)?;
            let valid = |nanoseconds: i64| {
                (0..1_000_000_000).contains(&nanoseconds)
                    || nanoseconds == libc::UTIME_NOW
                    || nanoseconds == libc::UTIME_OMIT
            };
            if !valid(b) || !valid(d) {
                return Err(Errno::INVAL);
            }
            Some([(a, b), (c, d)].map(|(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec }))
        }
    };
    if registers.argument(1) == 0 {
        return set_times_of_descriptor(tracer, task, registers.argument(0), times);
    }
    let start = Start::from_argument(registers.argument(0));
    set_times(tracer, task, start, registers.argument(1), registers.argument(3), times)
}

fn words<const COUNT: usize>(task: &Task, address: u64) -> Result<[i64; COUNT], Errno> {
    let mut bytes = [[0; 8]; COUNT];
    memory::read(task.id, address, bytes.as_flattened_mut())?;
    Ok(bytes.map(i64::from_ne_bytes))
}

/// futimens(3): the task's own descriptor, whose file is the builder's user's, unless it is open on a file of the layers.
fn set_times_of_descriptor(
    tracer: &Tracer,
    task: &Task,
    number: u64,
    times: Option<[Timespec; 2]>,
) -> Result<Outcome, Errno> {
    let times = times.unwrap_or([NOW, NOW]);
    // The kernel has the error.
    let Ok(link) = super::link_of_open(task, number as i32) else { return Ok(Outcome::Native) };
    let (seen, is_of_layer) = tracer.journal.look_through(&link)?;
    if is_of_tree(tracer, &seen) {
        may_set_times(task, &seen, &times)?;
    }
    tracer.journal.touch(&seen);
    if !is_of_layer {
        return Ok(Outcome::Native);
    }
    let (stub, _) = open_file(tracer, task, number)?;
    let timestamps = Timestamps { last_access: times[0], last_modification: times[1] };
    rustix::fs::utimensat(rustix::fs::CWD, own_path(&stub), &timestamps, AtFlags::empty())?;
    Ok(Outcome::Return(0))
}

/// Whether a task may set times: its own files', and to now those of any file that it may write to.
fn may_set_times(task: &Task, seen: &Seen, times: &[Timespec; 2]) -> Result<(), Errno> {
    let all = |what| times.iter().all(|time| time.tv_nsec == what);
    match access::check_owner(&task.identity, seen) {
        Err(_) if all(libc::UTIME_OMIT) => Ok(()),
        Err(_) if all(libc::UTIME_NOW) => access::check(&task.identity, seen, access::WRITE),
        result => result,
    }
}

fn set_times(
    tracer: &Tracer,
    task: &Task,
    start: Start,
    path: u64,
    flags: u64,
    times: Option<[Timespec; 2]>,
) -> Result<Outcome, Errno> {
    if flags & !((libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) as u64) != 0 {
        return Err(Errno::INVAL);
    }
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW as u64 == 0;
    let string = memory::read_path(task.id, path)?;
    let times = times.unwrap_or([NOW, NOW]);
    let timestamps = Timestamps { last_access: times[0], last_modification: times[1] };
    if times.iter().all(|time| time.tv_nsec == libc::UTIME_OMIT) {
        return Ok(Outcome::Return(0));
    }
    if string.is_empty() && flags & libc::AT_EMPTY_PATH as u64 != 0 {
        let (file, seen) = find_node(tracer, task, start, path, flags, follow)?;
        may_set_times(task, &seen, &times)?;
        tracer.journal.touch(&seen);
        rustix::fs::utimensat(rustix::fs::CWD, own_path(&file), &timestamps, AtFlags::empty())?;
        return Ok(Outcome::Return(0));
    }
    let found = tracer.resolve(task, start, &string, follow)?;
    super::check_writable(tracer, &found)?;
    let (_, seen) = found.existing()?;
    may_set_times(task, seen, &times)?;
    tracer.journal.touch(seen);
    match found.named() {
        // The only way to a symlink itself.
        Ok((parent, name)) if seen.is_symlink() => {
            rustix::fs::utimensat(parent, name, &timestamps, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => {
            let (file, _) = super::in_tree(tracer, found)?;
            rustix::fs::utimensat(rustix::fs::CWD, own_path(&file), &timestamps, AtFlags::empty())?;
        }
    }
    Ok(Outcome::Return(0))
}
