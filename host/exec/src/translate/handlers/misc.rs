//! What is about neither files nor ids alone: watches, the machine's name, signals.

use rustix::{fd::AsFd, io::Errno, process::Pid};

use super::{find, open::rewrite};
use crate::{
    sys::trace,
    translate::{access, calls::Outcome, memory, registers::Registers, resolve::Start, tracee::Task, tracer::Tracer},
};

/// A call whose only concern is a path of something that exists.
pub fn with_path(
    tracer: &mut Tracer,
    task: &mut Task,
    registers: &mut Registers,
    index: usize,
) -> Result<Outcome, Errno> {
    let found = find(tracer, task, Start::Here, registers.argument(index), true)?;
    found.existing()?;
    rewrite(tracer, task, registers, index, &found)
}

/// inotify_add_watch(2).
pub fn inotify_add_watch(tracer: &mut Tracer, task: &mut Task, registers: &mut Registers) -> Result<Outcome, Errno> {
    let follow = registers.argument(2) as u32 & libc::IN_DONT_FOLLOW == 0;
    let found = find(tracer, task, Start::Here, registers.argument(1), follow)?;
    let (file, seen) = found.existing()?;
    access::check(&task.identity, seen, access::READ)?;
    if seen.is_directory() {
        // What is made of it later would be told as new.
        tracer.journal.complete(file.as_fd())?;
    }
    rewrite(tracer, task, registers, 1, &found)
}

/// uname(2), with the name that commands see everywhere.
pub fn uname(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    const FIELD_BYTES: usize = 65;
    let names = rustix::system::uname();
    let fields = [
        names.sysname().to_bytes(),
        tracer.hostname.as_bytes(),
        names.release().to_bytes(),
        names.version().to_bytes(),
        names.machine().to_bytes(),
        b"(none)",
    ];
    let mut bytes = [0; FIELD_BYTES * 6];
    for (field, into) in fields.iter().zip(bytes.chunks_exact_mut(FIELD_BYTES)) {
        let length = field.len().min(FIELD_BYTES - 1);
        into[..length].copy_from_slice(&field[..length]);
    }
    memory::write(task.id, registers.argument(0), &bytes)?;
    Ok(Outcome::Return(0))
}

/// kill(2): only what belongs to the command exists for it.
pub fn kill(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let (target, signal) = (registers.argument(0) as i32, registers.argument(1) as i32);
    match target {
        // All that it may signal but itself: not the builder.
        -1 => {
            let mut reached = false;
            for other in tracer.tasks.values() {
                if other.id == other.process && other.process != task.process {
                    reached |= trace::kill(other.process, None, signal).is_ok();
                }
            }
            if reached { Ok(Outcome::Return(0)) } else { Err(Errno::SRCH) }
        }
        // The command is in a session of its own: its groups are its own.
        0 => Ok(Outcome::Native),
        group if group < 0 => {
            let group = Pid::from_raw(group.checked_neg().ok_or(Errno::SRCH)?).ok_or(Errno::SRCH)?;
            let ours = tracer.tasks.keys().chain([&task.id]);
            let known = ours.into_iter().any(|&id| rustix::process::getpgid(Some(id)) == Ok(group));
            if known { Ok(Outcome::Native) } else { Err(Errno::SRCH) }
        }
        process => signal_to(tracer, process as u64),
    }
}

/// sched_getaffinity(2): what is true while the task does not share a processor with the tracer.
pub fn sched_getaffinity(tracer: &mut Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    of_process(tracer, registers.argument(0))?;
    tracer.affinity.spread();
    tracer.run_to_end_of_call(task.id, true).map(Outcome::Return)
}

/// sched_setaffinity(2).
pub fn sched_setaffinity(tracer: &Tracer, registers: &Registers) -> Result<Outcome, Errno> {
    tracer.affinity.give_up();
    of_process(tracer, registers.argument(0))
}

/// A call to a process or thread that has to be the command's.
pub fn signal_to(tracer: &Tracer, id: u64) -> Result<Outcome, Errno> {
    if tracer.knows(id as i32) { Ok(Outcome::Native) } else { Err(Errno::SRCH) }
}

/// The same, where 0 is the caller.
pub fn of_process(tracer: &Tracer, id: u64) -> Result<Outcome, Errno> {
    if id as i32 == 0 { Ok(Outcome::Native) } else { signal_to(tracer, id) }
}
