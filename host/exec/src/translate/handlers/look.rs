//! Looking at files: stat and its kin, access, readlink.

use std::mem::size_of;

use rustix::{fd::AsFd, io::Errno};

use super::{descriptor, look_at, look_at_descriptor};
use crate::{
    journal::Seen,
    translate::{
        access,
        calls::Outcome,
        identity::{Identity, capability},
        memory,
        registers::Registers,
        resolve::Start,
        tracee::Task,
        tracer::Tracer,
    },
};

fn follows(flags: u64) -> bool {
    flags & libc::AT_SYMLINK_NOFOLLOW as u64 == 0
}

/// stat(2), lstat(2), fstatat(2).
pub fn stat(tracer: &Tracer, task: &Task, start: Start, path: u64, into: u64, flags: u64) -> Result<Outcome, Errno> {
    let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    if flags & !(known as u64) != 0 {
        return Err(Errno::INVAL);
    }
    let seen = look_at(tracer, task, start, path, flags, follows(flags))?;
    memory::write(task.id, into, &stat_bytes(&seen))?;
    Ok(Outcome::Return(0))
}

/// fstat(2).
pub fn fstat(tracer: &Tracer, task: &Task, number: u64, into: u64) -> Result<Outcome, Errno> {
    let seen = look_at_descriptor(tracer, task, number as i32)?;
    memory::write(task.id, into, &stat_bytes(&seen))?;
    Ok(Outcome::Return(0))
}

/// statx(2).
pub fn statx(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let flags = registers.argument(2);
    let start = Start::from_argument(registers.argument(0));
    let seen = look_at(tracer, task, start, registers.argument(1), flags, follows(flags))?;
    // struct statx of linux/stat.h.
    let mut bytes = [0_u8; 256];
    let raw = &seen.raw;
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, &raw.stx_mask.to_ne_bytes());
    put(4, &raw.stx_blksize.to_ne_bytes());
    put(8, &u64::to_ne_bytes(raw.stx_attributes.bits()));
    put(16, &seen.links.to_ne_bytes());
    put(20, &seen.uid.to_ne_bytes());
    put(24, &seen.gid.to_ne_bytes());
    put(28, &(seen.mode as u16).to_ne_bytes());
    put(32, &seen.inode.to_ne_bytes());
    put(40, &seen.size.to_ne_bytes());
    put(48, &seen.blocks.to_ne_bytes());
    put(56, &u64::to_ne_bytes(raw.stx_attributes_mask.bits()));
    // Access, birth, change, modification.
    for (offset, time) in [(64, 0), (80, 3), (96, 2), (112, 1)] {
        put(offset, &seen.times[time].tv_sec.to_ne_bytes());
        put(offset + 8, &(seen.times[time].tv_nsec as u32).to_ne_bytes());
    }
    put(128, &seen.node.0.to_ne_bytes());
    put(132, &seen.node.1.to_ne_bytes());
    put(136, &seen.device.0.to_ne_bytes());
    put(140, &seen.device.1.to_ne_bytes());
    memory::write(task.id, registers.argument(4), &bytes)?;
    Ok(Outcome::Return(0))
}

/// `struct stat` of asm/stat.h.
fn stat_bytes(seen: &Seen) -> [u8; size_of::<libc::stat>()] {
    let mut bytes = [0; size_of::<libc::stat>()];
    let mut at = 0;
    let mut put = |value: &[u8]| {
        bytes[at..at + value.len()].copy_from_slice(value);
        at += value.len();
    };
    put(&libc::makedev(seen.device.0, seen.device.1).to_ne_bytes());
    put(&seen.inode.to_ne_bytes());
    put(&u64::from(seen.links).to_ne_bytes());
    put(&seen.mode.to_ne_bytes());
    put(&seen.uid.to_ne_bytes());
    put(&seen.gid.to_ne_bytes());
    put(&[0; 4]);
    put(&libc::makedev(seen.node.0, seen.node.1).to_ne_bytes());
    put(&seen.size.to_ne_bytes());
    put(&u64::from(seen.block_size).to_ne_bytes());
    put(&seen.blocks.to_ne_bytes());
    for time in &seen.times[..3] {
        put(&time.tv_sec.to_ne_bytes());
        put(&time.tv_nsec.to_ne_bytes());
    }
    bytes
}

/// access(2), faccessat(2) and faccessat2(2).
pub fn access(
    tracer: &Tracer,
    task: &mut Task,
    start: Start,
    path: u64,
    mode: u64,
    flags: u64,
) -> Result<Outcome, Errno> {
    if mode & !7 != 0 {
        return Err(Errno::INVAL);
    }
    let effective = flags & libc::AT_EACCESS as u64 != 0;
    let who = if effective { task.identity.clone() } else { real(&task.identity) };
    // The way is walked as the same user.
    let own = std::mem::replace(&mut task.identity, who);
    let answer = look_at(tracer, task, start, path, flags, follows(flags))
        .and_then(|seen| if seen.is_symlink() { Ok(()) } else { access::check(&task.identity, &seen, mode as u32) });
    task.identity = own;
    answer.map(|()| Outcome::Return(0))
}

/// The identity that access(2) asks for: with the real ids.
fn real(who: &Identity) -> Identity {
    let mut real = who.clone();
    real.user.file = who.user.real;
    real.group.file = who.group.real;
    real.capabilities.effective = if who.user.real == 0 { who.capabilities.permitted } else { 0 };
    real
}

/// readlink(2) and readlinkat(2).
pub fn readlink(tracer: &Tracer, task: &Task, start: Start, path: u64, into: u64, size: u64) -> Result<Outcome, Errno> {
    if size as i32 <= 0 {
        return Err(Errno::INVAL);
    }
    let string = memory::read_path(task.id, path)?;
    let target = match (string.is_empty(), start) {
        // Of a descriptor that is open on a link.
        (true, Start::Descriptor(number)) => {
            let file = descriptor(task, number)?;
            if !tracer.journal.look(file.as_fd())?.is_symlink() {
                return Err(Errno::NOENT);
            }
            rustix::fs::readlinkat(&file, "", Vec::new())?.into_bytes()
        }
        _ => {
            let found = tracer.resolve(task, start, &string, false)?;
            match tracer.proc_link(task, &found)? {
                Some(target) => target,
                None => {
                    let (file, seen) = found.existing()?;
                    if !seen.is_symlink() {
                        return Err(Errno::INVAL);
                    }
                    rustix::fs::readlinkat(file, "", Vec::new())?.into_bytes()
                }
            }
        }
    };
    let length = target.len().min(size as i32 as usize);
    memory::write(task.id, into, &target[..length])?;
    Ok(Outcome::Return(length as i64))
}

/// Whether a program may be run.
pub fn check_executable(who: &Identity, seen: &Seen) -> Result<(), Errno> {
    if !seen.is_file() {
        return Err(Errno::ACCESS);
    }
    if who.can(capability::DAC_OVERRIDE) && seen.mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    access::check(who, seen, access::EXECUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_file_are_those_of_the_kernel() {
        let path = std::env::current_exe().unwrap();
        let file = rustix::fs::open(&path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let seen = crate::Journal::default().look(file.as_fd()).unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        let bytes = stat_bytes(&seen);
        let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(
            [word(0), word(8), word(16), word(48)],
            [stat.st_dev, stat.st_ino, stat.st_nlink, stat.st_size as u64]
        );
        assert_eq!(u32::from_ne_bytes(bytes[24..28].try_into().unwrap()), stat.st_mode);
        assert_eq!(word(88), stat.st_mtime as u64);
    }
}
