//! Locks of flock(2) by descriptors that are open on a layer's file: other builds have the same file, and whoever opens the file
//! for writing has another one. So the tracer takes them for the task, on the stub.
//!
//! Such a lock belongs to an open file, which several tasks may have under several numbers, and which nothing names. So it is
//! marked: with a lock for reading of one byte, far beyond every file, which is in nobody's way and which the kernel shows with each
//! descriptor of the open file that took it (proc_pid_fdinfo(5)). With the last of them the mark is gone, and so is the lock.

use std::{collections::HashSet, os::fd::OwnedFd};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{
    calls::Outcome,
    handlers::descriptor,
    registers::Registers,
    resolve::own_path,
    tracee::{After, Task},
    tracer::Tracer,
};

/// Where marks begin: files end long before.
const FIRST_MARK: u64 = 1 << 62;

/// `struct flock` of fcntl(2) as x86-64 has it: kind and origin, then offset and length at these places.
const LOCK_BYTES: usize = 32;
const LOCK_OFFSET: usize = 8;
const LOCK_LENGTH: usize = 16;

/// Those that the tracer holds.
#[derive(Default)]
pub struct Locks {
    held: Vec<Held>,
    marks: u64,
}

struct Held {
    mark: u64,
    /// Open on the stub.
    stub: OwnedFd,
}

impl Locks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Wanted {
    operation: i32,
    wait: bool,
}

impl Wanted {
    fn from_argument(argument: u64) -> Result<Self, Errno> {
        let operation = argument as i32 & !libc::LOCK_NB;
        if ![libc::LOCK_SH, libc::LOCK_EX, libc::LOCK_UN].contains(&operation) {
            return Err(Errno::INVAL);
        }
        Ok(Self { operation, wait: argument as i32 & libc::LOCK_NB == 0 })
    }

    /// Without waiting.
    fn now(self) -> FlockOperation {
        match self.operation {
            libc::LOCK_SH => FlockOperation::NonBlockingLockShared,
            libc::LOCK_EX => FlockOperation::NonBlockingLockExclusive,
            _ => FlockOperation::NonBlockingUnlock,
        }
    }
}

/// flock(2).
pub fn flock(tracer: &mut Tracer, task: &mut Task, registers: &mut Registers) -> Result<Outcome, Errno> {
    let number = registers.argument(0) as i32;
    let link = format!("/proc/{}/fd/{number}", task.id.as_raw_nonzero());
    if !tracer.journal.look_through(&link).is_ok_and(|(_, is_of_layer)| is_of_layer) {
        // Maybe the stub of those who have let go of it.
        tracer.forget_released(task);
        return Ok(Outcome::Native);
    }
    let wanted = Wanted::from_argument(registers.argument(1))?;
    let mark = marks_of(&format!("/proc/{}/fdinfo/{number}", task.id.as_raw_nonzero())).next();
    if wanted.operation == libc::LOCK_UN {
        tracer.locks.held.retain(|held| Some(held.mark) != mark);
        return Ok(Outcome::Return(0));
    }
    let (file, _) = tracer.journal.in_tree(descriptor(task, number)?)?;
    let mark = mark.unwrap_or_else(|| {
        tracer.locks.marks += 1;
        FIRST_MARK + tracer.locks.marks
    });
    let original = registers.clone();
    tracer.set_mark(task, registers, mark)?;
    let stub = match tracer.locks.held.iter().position(|held| held.mark == mark) {
        Some(position) => tracer.locks.held.swap_remove(position).stub,
        None => rustix::fs::open(own_path(&file), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
    };
    let mut locked = rustix::fs::flock(&stub, wanted.now());
    if locked == Err(Errno::WOULDBLOCK) {
        tracer.forget_released(task);
        locked = rustix::fs::flock(&stub, wanted.now());
    }
    let outcome = match locked {
        Ok(()) => Ok(Outcome::Return(0)),
        Err(Errno::WOULDBLOCK) if wanted.wait => tracer.wait_for_lock(task, registers, &original, &stub),
        Err(error) => Err(error),
    };
    // A lock that is not had yet was another kind of lock before, maybe.
    tracer.locks.held.push(Held { mark, stub });
    outcome
}

impl Tracer {
    /// Makes the call that a task has begun into the setting of a mark; the task is at its end then.
    fn set_mark(&mut self, task: &Task, registers: &Registers, mark: u64) -> Result<(), Errno> {
        let mut lock = [0; LOCK_BYTES];
        lock[..2].copy_from_slice(&(libc::F_RDLCK as i16).to_ne_bytes());
        lock[LOCK_OFFSET..LOCK_OFFSET + 8].copy_from_slice(&mark.to_ne_bytes());
        lock[LOCK_LENGTH..LOCK_LENGTH + 8].copy_from_slice(&1_u64.to_ne_bytes());
        let mut marking = registers.clone();
        marking.set_number(libc::SYS_fcntl);
        marking.set_argument(1, libc::F_OFD_SETLK as u64);
        marking.set_argument(2, self.lend(task, registers, 0, &lock)?);
        marking.write(task.id)?;
        match self.run_to_end_of_call(task.id, true)? {
            result if result < 0 => Err(Errno::from_raw_os_error(-result as i32)),
            _ => Ok(()),
        }
    }

    /// Lets a task wait for a lock of the tracer's, by a descriptor that it has meanwhile.
    fn wait_for_lock(
        &mut self,
        task: &mut Task,
        registers: &mut Registers,
        original: &Registers,
        stub: &OwnedFd,
    ) -> Result<Outcome, Errno> {
        let lent = self.pass_at_end(task, registers, stub, true)?;
        registers.set_argument(0, lent as u64);
        let after = After { close: Some(lent), ..*After::restore(original) };
        self.call_again(task, registers, Box::new(after))?;
        Ok(Outcome::Native)
    }

    /// Lets go of locks whose open files nobody has any more.
    pub fn forget_released(&mut self, current: &Task) {
        if self.locks.is_empty() {
            return;
        }
        let mut marks = HashSet::new();
        for task in self.tasks.keys().chain([&current.id]) {
            let directory = format!("/proc/{}/fdinfo", task.as_raw_nonzero());
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                if let Some(path) = entry.path().to_str() {
                    marks.extend(marks_of(path));
                }
            }
        }
        self.locks.held.retain(|held| marks.contains(&held.mark));
    }
}

/// The marks that a file of proc_pid_fdinfo(5) shows.
fn marks_of(path: &str) -> impl Iterator<Item = u64> + use<> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(mark_of).collect::<Vec<_>>().into_iter()
}

/// The mark in a line like `lock: 1: OFDLCK ADVISORY READ -1 00:1a:123 FIRST LAST`.
fn mark_of(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.strip_prefix("lock:")?.split_ascii_whitespace().collect();
    let [_, "OFDLCK", .., first, last] = words.as_slice() else { return None };
    let first: u64 = first.parse().ok()?;
    (last.parse() == Ok(first) && first > FIRST_MARK).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_from_other_locks() {
        let mark = FIRST_MARK + 7;
        assert_eq!(mark_of(&format!("lock:\t1: OFDLCK ADVISORY  READ  -1 fe:00:17 {mark} {mark}")), Some(mark));
        assert_eq!(mark_of("lock:\t1: OFDLCK ADVISORY  READ  -1 fe:00:17 0 EOF"), None);
        assert_eq!(mark_of("lock:\t1: FLOCK  ADVISORY  WRITE 12 fe:00:17 0 EOF"), None);
        assert_eq!(mark_of(&format!("lock:\t1: OFDLCK ADVISORY  READ  -1 fe:00:17 5 {mark}")), None);
        assert_eq!(mark_of("pos:\t0"), None);
    }
}
