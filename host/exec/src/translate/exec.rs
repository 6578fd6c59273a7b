//! After execve(2): a program that names a loader was started as that loader alone, since the kernel would look for it
//! outside of the image. The program itself is mapped here, by calls that the task makes, and the auxiliary vector is
//! changed to say what the kernel would have said (getauxval(3)). The loader cannot tell the difference.

use std::rc::Rc;

use rustix::{io::Errno, process::Pid};

use super::{
    memory,
    registers::{CALL_WORDS, CALLER, RED_ZONE_BYTES, Registers},
    tracee::{Running, SLOT_BYTES, SLOTS, Space},
    tracer::Tracer,
};
use crate::{
    elf::{self, Program},
    sys::trace::{self, Resume},
};

const PAGE_BYTES: u64 = 4096;

/// More words than an auxiliary vector has.
const VECTOR_LIMIT: usize = 128;

/// An exec that the kernel was asked for.
pub struct PendingExec {
    /// Where the file begins that the kernel starts, before the bias.
    pub entry: u64,
    /// Whether that file can be put anywhere.
    pub relocatable: bool,
    /// The program, if what the kernel starts is its loader.
    pub to_map: Option<ToMap>,
    /// As it was called.
    pub name: Vec<u8>,
    /// What runs then.
    pub program: Running,
    /// Who its setuid and setgid bits make of the task.
    pub owner: (Option<u32>, Option<u32>),
}

/// A program to be mapped.
pub struct ToMap {
    /// How the task gets to it: a directory, and a path from there.
    pub place: (u64, Vec<u8>),
    /// Its header.
    pub program: Program,
}

/// What the kernel put on the stack behind the environment.
struct Vector {
    address: u64,
    entries: Vec<(u64, u64)>,
}

impl Vector {
    fn read(task: Pid, stack: u64) -> Result<Self, Errno> {
        let arguments = memory::read_u64(task, stack)?;
        let environment = arguments
            .checked_add(2)
            .and_then(|count| count.checked_mul(8))
            .and_then(|bytes| stack.checked_add(bytes))
            .ok_or(Errno::FAULT)?;
        let variables = memory::read_pointers(task, environment, 1 << 22)?.len() as u64;
        let address = environment + (variables + 1) * 8;
        let mut words = Vec::new();
        memory::read_words(task, address, |word| {
            words.push(word);
            let is_key = words.len() % 2 == 1;
            words.len() / 2 == VECTOR_LIMIT || (!is_key && words[words.len() - 2] == libc::AT_NULL)
        })?;
        let entries: Vec<(u64, u64)> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        if entries.last().is_none_or(|(key, _)| *key != libc::AT_NULL) {
            return Err(Errno::FAULT);
        }
        Ok(Self { address, entries })
    }

    fn set(&mut self, key: u64, value: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|(known, _)| *known == key) {
            entry.1 = value;
        }
    }

    fn write(&self, task: Pid) -> Result<(), Errno> {
        let words = self.entries.iter().flat_map(|(key, value)| [key, value]);
        let bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        memory::write(task, self.address, &bytes)
    }
}

impl Tracer {
    /// A task has a new program. `id` is the number of its process from now on.
    ///
    /// # Errors
    /// ESRCH: it is gone.
    pub fn executed(&mut self, id: Pid) -> Result<(), Errno> {
        let before = Pid::from_raw(trace::event_message(id)? as i32).unwrap_or(id);
        if before != id
            && let Some(mut task) = self.tasks.remove(&before)
        {
            task.id = id;
            task.process = id;
            self.affinity.gone(before);
            self.affinity.born(id);
            self.tasks.insert(id, task);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return trace::resume(id, Resume::Continue, 0) };
        task.after = None;
        task.passthrough = None;
        task.space.borrow_mut().release(before);
        task.space = Rc::default();
        let Some(pending) = task.exec.take() else { return trace::resume(id, Resume::Continue, 0) };
        task.program = Rc::new(std::cell::RefCell::new(pending.program.clone()));
        let careful = task.identity.exec(pending.owner);
        match self.finish_exec(id, &pending, careful) {
            Ok(()) => trace::resume(id, Resume::Continue, 0),
            Err(Errno::SRCH) => Err(Errno::SRCH),
            // Beyond the point of no return the kernel does the same (execve(2), NOTES).
            Err(_) => {
                trace::kill(id, None, libc::SIGKILL)?;
                trace::resume(id, Resume::Continue, 0)
            }
        }
    }

    /// The new program does not begin before a few calls were made in its name: by a few instructions that stand at the
    /// beginning of its code meanwhile, one after the other, since each stop costs more than the call.
    fn finish_exec(&mut self, id: Pid, pending: &PendingExec, careful: bool) -> Result<(), Errno> {
        let mut registers = Registers::read(id)?;
        // As execve(2) gives it once it has ended.
        registers.set_result(0);
        let mut vector = Vector::read(id, registers.stack())?;
        let place = page(registers.instruction());
        let mut code = [0; CALLER.len() * 8];
        memory::read(id, place, &mut code)?;
        trace::poke(id, place, &CALLER)?;
        // Nothing but the end of the task may come between.
        let mask = trace::exchange_signal_mask(id, u64::MAX)?;
        let mut calls = Calls::new(id, registers.stack());
        let made = self.make_calls(&registers, place, pending, &mut calls)?;
        let restored: Vec<u64> = code.chunks_exact(8).map(word).collect();
        trace::poke(id, place, &restored)?;
        trace::exchange_signal_mask(id, mask)?;

        // The first page keeps what the program may look at for ever: the name by which it was called.
        let mut name = pending.name.clone();
        name.push(0);
        memory::write(id, made.scratch, &name)?;
        vector.set(libc::AT_EXECFN, made.scratch);
        if let (Some(ToMap { program, .. }), Some(bias)) = (&pending.to_map, made.bias) {
            vector.set(libc::AT_PHDR, program.headers_address.wrapping_add(bias));
            vector.set(libc::AT_PHENT, elf::HEADER_ENTRY_BYTES);
            vector.set(libc::AT_PHNUM, program.headers);
            vector.set(libc::AT_ENTRY, program.entry.wrapping_add(bias));
            let loader = if pending.relocatable { registers.instruction().wrapping_sub(pending.entry) } else { 0 };
            vector.set(libc::AT_BASE, loader);
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            *task.space.borrow_mut() = Space { base: Some(made.scratch + PAGE_BYTES), ..Space::default() };
            let (user, group) = (task.identity.user, task.identity.group);
            vector.set(libc::AT_UID, user.real.into());
            vector.set(libc::AT_EUID, user.effective.into());
            vector.set(libc::AT_GID, group.real.into());
            vector.set(libc::AT_EGID, group.effective.into());
            vector.set(libc::AT_SECURE, careful.into());
        }
        vector.write(id)?;
        // The call at which the list ended is not made.
        registers.set_number(-1);
        registers.write(id)
    }

    /// Has the calls made by which memory is reserved, and the program mapped if there is one.
    fn make_calls(
        &mut self,
        registers: &Registers,
        place: u64,
        pending: &PendingExec,
        calls: &mut Calls,
    ) -> Result<Made, Errno> {
        let id = calls.id;
        let writable = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
        let size = SLOTS as u64 * SLOT_BYTES + PAGE_BYTES;
        let scratch = calls.add(libc::SYS_mmap, [0, size, writable, private, u64::MAX, 0]);
        let Some(ToMap { place: (directory, path), program }) = &pending.to_map else {
            calls.end();
            calls.write()?;
            self.begin_calls(registers, place, calls)?;
            self.run_to_filtered_call(id)?;
            return Ok(Made { scratch: calls.result(scratch)?, bias: None });
        };
        let room = Room::of(program)?;
        let reserved = calls.add(libc::SYS_mmap, room.reservation());
        let path = calls.string(path);
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
        let file = calls.add(libc::SYS_openat, [*directory, path, flags, 0, 0, 0]);
        let mut short: Vec<u8> = pending.name.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
        short.truncate(15);
        let short = calls.string(&short);
        calls.add(libc::SYS_prctl, [libc::PR_SET_NAME as u64, short, 0, 0, 0, 0]);
        calls.write()?;
        self.begin_calls(registers, place, calls)?;
        // The opening is a call that the filter stops, and so is naming: by then it is known what came before.
        self.run_to_filtered_call(id)?;
        self.run_to_filtered_call(id)?;
        let bias = room.bias(calls.result(reserved)?);
        let file = calls.result(file)?;
        let zeroes = calls.map(program, bias, file);
        calls.add(libc::SYS_close, [file, 0, 0, 0, 0, 0]);
        calls.end();
        calls.write()?;
        self.run_to_filtered_call(id)?;
        calls.check()?;
        for (address, count) in zeroes {
            memory::write(id, address, &vec![0; count])?;
        }
        Ok(Made { scratch: calls.result(scratch)?, bias: Some(bias) })
    }

    fn begin_calls(&self, registers: &Registers, place: u64, calls: &Calls) -> Result<(), Errno> {
        let mut first = registers.clone();
        first.prepare_caller(place, calls.list);
        first.write(calls.id)
    }
}

/// What was made for a new program.
struct Made {
    scratch: u64,
    bias: Option<u64>,
}

/// Calls that a new program is to make before it begins. List and strings are below its stack, where it has nothing yet.
struct Calls {
    id: Pid,
    list: u64,
    words: Vec<u64>,
    strings: Vec<u8>,
    /// How many of the words the task has.
    written: usize,
}

impl Calls {
    /// More than a program needs that has as many segments as [`elf`] takes.
    const LIMIT: usize = 64;

    fn new(id: Pid, stack: u64) -> Self {
        let bytes = (Self::LIMIT * CALL_WORDS * 8 + 2 * memory::PATH_LIMIT_BYTES) as u64;
        let list = (stack - RED_ZONE_BYTES - bytes) & !63;
        Self { id, list, words: Vec::new(), strings: Vec::new(), written: 0 }
    }

    /// Adds a call, and answers which one it is.
    fn add(&mut self, number: i64, arguments: [u64; 6]) -> usize {
        let at = self.words.len() / CALL_WORDS;
        self.words.push(number as u64);
        self.words.extend(arguments);
        self.words.push(NOT_MADE);
        at
    }

    /// A call that the filter stops, and that is never made.
    fn end(&mut self) {
        self.add(libc::SYS_getuid, [0; 6]);
    }

    /// Adds a string with its NUL, and answers where it will be.
    fn string(&mut self, bytes: &[u8]) -> u64 {
        let address = self.list + (Self::LIMIT * CALL_WORDS * 8 + self.strings.len()) as u64;
        self.strings.extend_from_slice(bytes);
        self.strings.push(0);
        address
    }

    /// Adds what maps a program as fs/binfmt_elf.c would, and answers which bytes are to be zeroed afterwards.
    fn map(&mut self, program: &Program, bias: u64, file: u64) -> Vec<(u64, usize)> {
        let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64;
        let mut zeroes = Vec::new();
        for segment in &program.segments {
            let mut protection = 0;
            for (flag, bit) in [(4, libc::PROT_READ), (2, libc::PROT_WRITE), (1, libc::PROT_EXEC)] {
                protection |= if segment.flags & flag != 0 { bit as u64 } else { 0 };
            }
            let start = segment.address.wrapping_add(bias);
            let file_end = start + segment.file_bytes;
            let memory_end = start + segment.memory_bytes;
            if segment.file_bytes > 0 {
                let fixed = (libc::MAP_PRIVATE | libc::MAP_FIXED) as u64;
                let length = file_end - page(start);
                self.add(libc::SYS_mmap, [page(start), length, protection, fixed, file, page(segment.offset)]);
            }
            let mut zero_from = if segment.file_bytes > 0 { file_end } else { page(start) };
            if memory_end > zero_from && segment.file_bytes > 0 {
                let page_end = zero_from.next_multiple_of(PAGE_BYTES);
                // The kernel too leaves a page alone that can't be written.
                if protection & libc::PROT_WRITE as u64 != 0 {
                    zeroes.push((zero_from, (page_end.min(memory_end) - zero_from) as usize));
                }
                zero_from = page_end;
            }
            if memory_end > zero_from {
                self.add(libc::SYS_mmap, [zero_from, memory_end - zero_from, protection, anonymous, u64::MAX, 0]);
            }
        }
        zeroes
    }

    /// Gives the task what it does not have yet.
    fn write(&mut self) -> Result<(), Errno> {
        if self.words.len() > Self::LIMIT * CALL_WORDS {
            return Err(Errno::NOEXEC);
        }
        let bytes: Vec<u8> = self.words[self.written..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        memory::write(self.id, self.list + self.written as u64 * 8, &bytes)?;
        if self.written == 0 {
            memory::write(self.id, self.list + (Self::LIMIT * CALL_WORDS * 8) as u64, &self.strings)?;
        }
        self.written = self.words.len();
        Ok(())
    }

    /// What a call gave.
    fn result(&self, call: usize) -> Result<u64, Errno> {
        let result = memory::read_u64(self.id, self.list + ((call + 1) * CALL_WORDS - 1) as u64 * 8)? as i64;
        if (-4095..0).contains(&result) { Err(Errno::from_raw_os_error(-result as i32)) } else { Ok(result as u64) }
    }

    /// Looks whether all calls were made, but for the one that ends the list.
    fn check(&self) -> Result<(), Errno> {
        let mut bytes = vec![0; (self.words.len() - CALL_WORDS) * 8];
        memory::read(self.id, self.list, &mut bytes)?;
        let results = bytes.chunks_exact(8).map(word).skip(CALL_WORDS - 1).step_by(CALL_WORDS);
        if results.map(|result| result as i64).any(|result| (-4095..0).contains(&result)) {
            Err(Errno::NOMEM)
        } else {
            Ok(())
        }
    }
}

/// The result of a call before it was made: none that a call gives.
const NOT_MADE: u64 = -4095_i64 as u64;

/// Where the segments of a program are to be.
struct Room {
    first: u64,
    span: u64,
    /// `None` if its addresses are fixed.
    alignment: Option<u64>,
}

impl Room {
    fn of(program: &Program) -> Result<Self, Errno> {
        let first = page(program.segments.first().ok_or(Errno::NOEXEC)?.address);
        let end = program.segments.iter().map(|segment| segment.address + segment.memory_bytes).max().unwrap_or(0);
        let largest = program.segments.iter().map(|segment| segment.alignment).max().unwrap_or(PAGE_BYTES);
        let alignment = if largest.is_power_of_two() { largest.clamp(PAGE_BYTES, 1 << 30) } else { PAGE_BYTES };
        let span = (end - first).next_multiple_of(PAGE_BYTES);
        Ok(Self { first, span, alignment: program.relocatable.then_some(alignment) })
    }

    /// The arguments of the mmap that keeps it free.
    fn reservation(&self) -> [u64; 6] {
        let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        match self.alignment {
            Some(alignment) => [0, self.span + alignment - PAGE_BYTES, 0, anonymous, u64::MAX, 0],
            None => [self.first, self.span, 0, anonymous | libc::MAP_FIXED_NOREPLACE as u64, u64::MAX, 0],
        }
    }

    /// By how much addresses are moved, given where the reservation is.
    fn bias(&self, base: u64) -> u64 {
        self.alignment.map_or(0, |alignment| base.next_multiple_of(alignment).wrapping_sub(self.first))
    }
}

/// The beginning of the page with an address.
fn page(address: u64) -> u64 {
    address & !(PAGE_BYTES - 1)
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_calls_that_lists_wait_for_are_stopped_by_the_filter() {
        let footing = crate::translate::footing::Footing::Machine;
        let stopped = crate::translate::filter::Stopped { footing, writing: false };
        let handled = crate::translate::calls::table(stopped);
        for number in [libc::SYS_openat, libc::SYS_prctl, libc::SYS_getuid] {
            assert!(handled[number as usize].is_some(), "{number}");
        }
    }
}
