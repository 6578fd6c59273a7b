//! The event loop: one thread waits for all tasks of a command, and answers their calls.
//!
//! A task stops where the filter says so, before the call is made. Most calls are carried out here and never reach the
//! kernel; opening, exec and a few more have their paths exchanged, are made by the task itself, under its own Landlock
//! domain, and get their registers back when they end.

use std::collections::{HashMap, VecDeque};

use rustix::{io::Errno, process::Pid};

use super::{
    affinity::Affinity,
    bindings::Bindings,
    bounded::Bounded,
    calls::{self, Handler, Outcome},
    directories::Directories,
    filter::Stopped,
    footing::Footing,
    handlers::{self, socket::Sender},
    locks::Locks,
    memory,
    privileged::Watched,
    protected::Protected,
    registers::{AUDIT_ARCH, RED_ZONE_BYTES, Registers},
    terminals::{MULTIPLEXER, Terminals},
    tracee::{After, SLOT_BYTES, Task},
    views::Views,
};
use crate::{
    Emulator, Exit, Journal, Note,
    elf::Program,
    sys::trace::{self, Resume, Waited},
};

/// As many notes are enough.
const NOTES_LIMIT: usize = 8;

/// How many ended processes are remembered.
const ENDED_LIMIT: usize = 256;

/// The translator of one command.
pub struct Tracer {
    /// What the command sees where.
    pub bindings: Bindings,
    /// Where its tasks stand.
    pub footing: Footing,
    /// What is true of files but not on the disk.
    pub journal: Journal,
    /// The name of the machine that the command sees.
    pub hostname: String,
    /// The names that programs gave to sockets, by those that the kernel knows.
    pub socket_names: HashMap<Vec<u8>, Vec<u8>>,
    /// Copies of files of /proc.
    pub views: Views,
    /// Pseudo-terminals.
    pub terminals: Terminals,
    /// What runs programs for other processors.
    pub emulators: Vec<(Emulator, Program)>,
    /// Whether a task may ask to be translated no more.
    pub without_checks: bool,
    /// For the user.
    pub notes: Vec<Note>,
    /// Who processes were that have ended, the last ones: what they sent may still be waiting.
    pub ended: VecDeque<(Pid, Sender)>,
    /// Every task but the one that is being answered.
    pub tasks: HashMap<Pid, Task>,
    /// The one that is being answered.
    pub current: Option<Pid>,
    /// Its process.
    pub current_process: Option<Pid>,
    /// What the machine forbids in shared directories.
    pub protected: Protected,
    /// Files that lose privileges when they are written to, by inode.
    pub watched: HashMap<u64, Watched>,
    /// What tasks have locked that the kernel must not lock for them.
    pub locks: Locks,
    /// Directories that hold no more than so much.
    pub bounded: Vec<Bounded>,
    /// Directories that paths led to.
    pub directories: Directories,
    /// On which processors it runs, and its tasks.
    pub affinity: Affinity,
    handlers: Vec<Option<Handler>>,
    /// Tasks that stopped before the event that announces them.
    unannounced: HashMap<Pid, i32>,
    /// What was waited for while something else was meant.
    queue: VecDeque<Waited>,
}

impl Tracer {
    /// Without any task.
    pub fn new(
        bindings: Bindings,
        bounded: Vec<Bounded>,
        footing: Footing,
        mut journal: Journal,
        hostname: String,
        views: Views,
    ) -> Self {
        let stopped = Stopped { footing, writing: !bounded.is_empty() };
        let multiplexer = bindings.at(MULTIPLEXER.as_bytes()).map(|number| bindings.get(number));
        let terminals = Terminals::new(multiplexer, &mut journal);
        Self {
            terminals,
            emulators: Vec::new(),
            without_checks: false,
            notes: Vec::new(),
            ended: VecDeque::new(),
            bindings,
            footing,
            journal,
            hostname,
            views,
            socket_names: HashMap::new(),
            tasks: HashMap::new(),
            current: None,
            current_process: None,
            protected: Protected::of_machine(),
            watched: HashMap::new(),
            locks: Locks::default(),
            bounded,
            directories: Directories::default(),
            affinity: Affinity::new(),
            handlers: calls::table(stopped),
            unannounced: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Follows `first`, which was seized, and all that come of it, until it ends; ends the others.
    ///
    /// # Errors
    /// Waiting is impossible, which nothing explains.
    pub fn run(&mut self, first: Task) -> Result<Exit, Errno> {
        let main = first.id;
        self.affinity.born(main);
        self.tasks.insert(main, first);
        let mut exit = None;
        loop {
            let waited = match self.queue.pop_front().map_or_else(trace::wait_any, Ok) {
                Ok(waited) => waited,
                Err(Errno::CHILD) => return exit.ok_or(Errno::CHILD),
                Err(error) => return Err(error),
            };
            let Waited { task, status } = waited;
            let ended = if libc::WIFEXITED(status) {
                Some(Exit::Code(libc::WEXITSTATUS(status)))
            } else if libc::WIFSIGNALED(status) {
                Some(Exit::Signal(libc::WTERMSIG(status)))
            } else {
                None
            };
            if ended.is_some() {
                self.affinity.gone(task);
                self.unannounced.remove(&task);
                if let Some(gone) = self.tasks.remove(&task) {
                    self.remember(&gone);
                    self.forget_released(&gone);
                    gone.space.borrow_mut().release(task);
                }
                if task == main {
                    exit = ended;
                    self.kill_all();
                }
            } else if exit.is_some() {
                // Born while the others were killed.
                let _ = trace::kill(task, None, libc::SIGKILL);
                let _ = trace::resume(task, Resume::Continue, 0);
            } else if self.tasks.contains_key(&task) {
                self.affinity.stopped();
                self.stopped(task, status);
            } else {
                self.unannounced.insert(task, status);
            }
        }
    }

    fn kill_all(&self) {
        for task in self.tasks.keys().chain(self.unannounced.keys()) {
            let _ = trace::kill(*task, None, libc::SIGKILL);
        }
    }

    /// Answers a stop. A task that is gone meanwhile answers ESRCH, and its end is told later.
    fn stopped(&mut self, task: Pid, status: i32) {
        let signal = libc::WSTOPSIG(status);
        let _ = match status >> 16 {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => self.announce(task),
            libc::PTRACE_EVENT_EXEC => self.executed(task),
            libc::PTRACE_EVENT_SECCOMP => self.call(task),
            libc::PTRACE_EVENT_STOP => match signal {
                signal if is_stop(signal) => trace::resume(task, Resume::Listen, 0),
                _ => trace::resume(task, Resume::Continue, 0),
            },
            0 if signal == libc::SIGTRAP | 0x80 => self.call_ended(task),
            0 if signal == libc::SIGSYS => self.trapped(task),
            0 => trace::resume(task, Resume::Continue, signal),
            _ => trace::resume(task, Resume::Continue, 0),
        };
    }

    /// A call of another processor's programs does not exist; a signal of the task's own filters is its own.
    fn trapped(&mut self, id: Pid) -> Result<(), Errno> {
        match trace::architecture_of_trapped_call(id)? {
            Some(architecture) if architecture != AUDIT_ARCH => {
                let program = self.tasks.get(&id).map(|task| task.program.borrow().path.clone()).unwrap_or_default();
                self.note_other_processor(&program, "32-bit x86 in part (`int 0x80`)".into());
                let mut registers = Registers::read(id)?;
                registers.set_result(-i64::from(libc::ENOSYS));
                registers.write(id)?;
                trace::resume(id, Resume::Continue, 0)
            }
            _ => trace::resume(id, Resume::Continue, libc::SIGSYS),
        }
    }

    /// Tells the user, once for each of the first such programs.
    pub fn note_other_processor(&mut self, program: &[u8], processor: String) {
        let note = Note::OtherProcessor { program: String::from_utf8_lossy(program).into_owned(), processor };
        if self.notes.len() < NOTES_LIMIT && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn remember(&mut self, gone: &Task) {
        if gone.id == gone.process {
            if self.ended.len() == ENDED_LIMIT {
                self.ended.pop_front();
            }
            self.ended.push_back((gone.id, Sender::of(&gone.identity)));
        }
    }

    fn announce(&mut self, parent: Pid) -> Result<(), Errno> {
        let child = Pid::from_raw(trace::event_message(parent)? as i32).ok_or(Errno::SRCH)?;
        let registers = Registers::read(parent)?;
        let flags = match registers.number() {
            libc::SYS_clone => registers.argument(0),
            libc::SYS_vfork => libc::CLONE_VM as u64,
            _ => 0,
        };
        if let Some(task) = self.tasks.get(&parent) {
            let born = task.child(child, flags);
            self.affinity.born(child);
            self.tasks.insert(child, born);
        }
        if let Some(status) = self.unannounced.remove(&child) {
            self.stopped(child, status);
        }
        trace::resume(parent, Resume::Continue, 0)
    }

    fn call(&mut self, id: Pid) -> Result<(), Errno> {
        let mut registers = Registers::read(id)?;
        if !self.watched.is_empty() {
            self.settle_watched();
        }
        let Some(mut task) = self.tasks.remove(&id) else { return Ok(()) };
        (self.current, self.current_process) = (Some(id), Some(task.process));
        // Whatever a handler makes of them: a call changes none but that of its result.
        let before = registers.clone();
        let outcome = match task.passthrough.take() {
            Some(after) => Ok(Outcome::Rewritten(after)),
            None if task.is_unchecked && !calls::is_for_the_tracer(registers.number()) => Ok(Outcome::Native),
            None => {
                let handler = usize::try_from(registers.number()).ok().and_then(|number| *self.handlers.get(number)?);
                match handler {
                    Some(handler) => handler(self, &mut task, &mut registers),
                    None => Ok(Outcome::Native),
                }
            }
        };
        (self.current, self.current_process) = (None, None);
        let how = match outcome {
            Ok(Outcome::Native) => Ok(Resume::Continue),
            Ok(Outcome::Rewritten(after)) => {
                task.after = Some(after);
                registers.write(id).map(|()| Resume::ToExit)
            }
            Ok(Outcome::Return(result)) => answer(id, before, result),
            Err(error) => answer(id, before, -i64::from(error.raw_os_error())),
        };
        self.tasks.insert(id, task);
        trace::resume(id, how?, 0)
    }

    fn call_ended(&mut self, id: Pid) -> Result<(), Errno> {
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(()) };
        let Some(after) = task.after.take() else {
            return trace::resume(id, Resume::Continue, 0);
        };
        let After { original, close, back, born, remove, told } = *after;
        task.exec = None;
        if let Some(path) = remove {
            let _ = std::fs::remove_file(path);
        }
        let mut registers = Registers::read(id)?;
        for index in 0..6 {
            registers.set_argument(index, original.argument(index));
        }
        registers.set_number(original.number());
        if let (Some(newborn), Ok(descriptor)) = (born, i32::try_from(registers.result()))
            && descriptor >= 0
            && let Ok(file) = handlers::descriptor(task, descriptor)
        {
            let _ = newborn.record(self, &file);
        }
        if let Some(told) = told
            && registers.result() >= 0
            && let Some(task) = self.tasks.get(&id)
        {
            let _ = told.correct(self, task, &mut registers);
        }
        let gadget = registers.call_instruction();
        if let Some(directory) = back {
            self.inject(id, &registers, gadget, libc::SYS_fchdir, [directory as u64, 0, 0, 0, 0, 0])?;
        }
        for descriptor in [close, back].into_iter().flatten() {
            self.inject(id, &registers, gadget, libc::SYS_close, [descriptor as u64, 0, 0, 0, 0, 0])?;
        }
        registers.write(id)?;
        trace::resume(id, Resume::Continue, 0)
    }

    /// Lets a task that is stopped at the end of a call make another one, and answers what that gave. The registers are not
    /// put back.
    ///
    /// # Errors
    /// The call's own, or ESRCH when the task is gone.
    pub fn inject(
        &mut self,
        id: Pid,
        registers: &Registers,
        gadget: u64,
        number: i64,
        arguments: [u64; 6],
    ) -> Result<i64, Errno> {
        let mut call = registers.clone();
        call.prepare_call(gadget, number, arguments);
        call.write(id)?;
        // Nothing but the end of the task may come between.
        let mask = trace::exchange_signal_mask(id, u64::MAX)?;
        let result = self.run_to_end_of_call(id, false);
        if result.is_ok() {
            trace::exchange_signal_mask(id, mask)?;
        }
        let result = result?;
        if (-4095..0).contains(&result) { Err(Errno::from_raw_os_error(-result as i32)) } else { Ok(result) }
    }

    /// Lets a task go on to the end of the call that it is in (`begun`), or of the next.
    ///
    /// # Errors
    /// ESRCH when the task is gone.
    pub fn run_to_end_of_call(&mut self, id: Pid, mut begun: bool) -> Result<i64, Errno> {
        self.run_to_stop(id, Resume::ToExit, |event, signal| {
            let is_call = event == 0 && signal == libc::SIGTRAP | 0x80;
            is_call && std::mem::replace(&mut begun, true)
        })?;
        Ok(Registers::read(id)?.result())
    }

    /// Lets a task go on to the next call that the filter stops, which is not answered but by letting the task go on.
    ///
    /// # Errors
    /// ESRCH when the task is gone.
    pub fn run_to_filtered_call(&mut self, id: Pid) -> Result<(), Errno> {
        self.run_to_stop(id, Resume::Continue, |event, _| event == libc::PTRACE_EVENT_SECCOMP)
    }

    /// Lets a task go on to a stop that is meant, by its event and signal.
    fn run_to_stop(&mut self, id: Pid, how: Resume, mut is_meant: impl FnMut(i32, i32) -> bool) -> Result<(), Errno> {
        let (mut held_back, mut delivered, mut is_stopped) = (Vec::new(), 0, false);
        loop {
            trace::resume(id, how, std::mem::take(&mut delivered))?;
            let waited = trace::wait_for(id)?;
            let status = waited.status;
            if !libc::WIFSTOPPED(status) {
                self.queue.push_back(waited);
                return Err(Errno::SRCH);
            }
            let (event, signal) = (status >> 16, libc::WSTOPSIG(status));
            if is_meant(event, signal) {
                break;
            }
            match (event, signal) {
                (0, signal) if signal == libc::SIGTRAP | 0x80 => {}
                // No mask holds SIGSTOP back. Sent again afterwards it would take away a SIGCONT that came since (signal(7)),
                // so it comes at once: the process is stopped, and this task goes on until the call is done.
                (0, libc::SIGSTOP) => delivered = libc::SIGSTOP,
                (0, signal) => held_back.push(signal),
                (libc::PTRACE_EVENT_STOP, signal) => is_stopped |= is_stop(signal),
                _ => {}
            }
        }
        if is_stopped {
            trace::interrupt(id)?;
        }
        let current = self.current_process.filter(|_| self.current == Some(id));
        let process = current.or_else(|| Some(self.tasks.get(&id)?.process)).unwrap_or(id);
        for signal in held_back {
            let _ = trace::kill(process, Some(id), signal);
        }
        Ok(())
    }

    /// Puts bytes into the memory of a task for the time of its call, and answers where.
    ///
    /// # Errors
    /// EFAULT, or ENAMETOOLONG when they are too many.
    pub fn lend(&self, task: &Task, registers: &Registers, offset: u64, bytes: &[u8]) -> Result<u64, Errno> {
        if offset + bytes.len() as u64 > SLOT_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        let slot = task.space.borrow_mut().slot(task.id);
        // Before the first exec the stack is our own program's; beyond the slots it is what is left.
        let address = match slot {
            Some(slot) => slot + offset,
            None => (registers.stack() - RED_ZONE_BYTES - SLOT_BYTES + offset) & !15,
        };
        memory::write(task.id, address, bytes)?;
        Ok(address)
    }

    /// As [`Tracer::lend`], a path with its NUL.
    ///
    /// # Errors
    /// As [`Tracer::lend`].
    pub fn lend_path(&self, task: &Task, registers: &Registers, offset: u64, path: &[u8]) -> Result<u64, Errno> {
        if path.len() >= memory::PATH_LIMIT_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        let mut bytes = path.to_vec();
        bytes.push(0);
        self.lend(task, registers, offset, &bytes)
    }
}

/// Whether a signal stops a process that does not catch it.
fn is_stop(signal: i32) -> bool {
    matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
}

/// Prepares a task to go on as if its call had been made.
fn answer(id: Pid, mut registers: Registers, result: i64) -> Result<Resume, Errno> {
    registers.set_number(-1);
    registers.set_result(result);
    registers.write(id)?;
    Ok(Resume::Continue)
}

impl After {
    /// Nothing but putting the registers back.
    pub fn restore(original: &Registers) -> Box<Self> {
        Box::new(Self { original: original.clone(), close: None, back: None, born: None, remove: None, told: None })
    }
}
