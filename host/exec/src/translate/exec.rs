//! After execve(2): a program that names a loader was started as that loader alone, since the kernel would look for it
//! outside of the image. The program itself is mapped here, by calls that the task makes, and the auxiliary vector is
//! changed to say what the kernel would have said (getauxval(3)). The loader cannot tell the difference.

use std::rc::Rc;

use rustix::{io::Errno, process::Pid};

use super::{
    elf::{self, Program},
    memory,
    registers::{Registers, SYSCALL_INSTRUCTION},
    tracee::{Running, SLOT_BYTES, SLOTS, Space},
    tracer::Tracer,
};
use crate::sys::trace::{self, Resume};

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
        let mut entries = Vec::new();
        while entries.len() < VECTOR_LIMIT {
            let mut pair = [0; 16];
            memory::read(task, address + entries.len() as u64 * 16, &mut pair)?;
            let word = |at: usize| u64::from_ne_bytes(pair[at..at + 8].try_into().expect("eight bytes"));
            let entry = (word(0), word(8));
            entries.push(entry);
            if entry.0 == libc::AT_NULL {
                return Ok(Self { address, entries });
            }
        }
        Err(Errno::FAULT)
    }

    fn get(&self, key: u64) -> Option<u64> {
        self.entries.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
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

    fn finish_exec(&mut self, id: Pid, pending: &PendingExec, careful: bool) -> Result<(), Errno> {
        self.run_to_end_of_call(id, true)?;
        let registers = Registers::read(id)?;
        let mut vector = Vector::read(id, registers.stack())?;
        let gadget = self.gadget(id, &vector, registers.instruction())?;
        let size = SLOTS as u64 * SLOT_BYTES + PAGE_BYTES;
        let writable = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
        let mapping = [0, size, writable, private, u64::MAX, 0];
        let scratch = self.inject(id, &registers, gadget, libc::SYS_mmap, mapping)? as u64;

        // The first page keeps what the program may look at for ever: the name by which it was called.
        let mut name = pending.name.clone();
        name.push(0);
        memory::write(id, scratch, &name)?;
        vector.set(libc::AT_EXECFN, scratch);
        let slots = scratch + PAGE_BYTES;

        if let Some(ToMap { place: (directory, path), program }) = &pending.to_map {
            let mut path = path.clone();
            path.push(0);
            memory::write(id, slots, &path)?;
            let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
            let opening = [*directory, slots, flags, 0, 0, 0];
            let file = self.inject(id, &registers, gadget, libc::SYS_openat, opening)? as u64;
            let bias = self.map(id, &registers, gadget, program, file)?;
            self.inject(id, &registers, gadget, libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
            vector.set(libc::AT_PHDR, program.headers_address.wrapping_add(bias));
            vector.set(libc::AT_PHENT, elf::HEADER_ENTRY_BYTES);
            vector.set(libc::AT_PHNUM, program.headers);
            vector.set(libc::AT_ENTRY, program.entry.wrapping_add(bias));
            let loader = if pending.relocatable { registers.instruction().wrapping_sub(pending.entry) } else { 0 };
            vector.set(libc::AT_BASE, loader);
            let mut short: Vec<u8> = pending.name.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
            short.truncate(15);
            short.push(0);
            memory::write(id, slots, &short)?;
            let naming = [libc::PR_SET_NAME as u64, slots, 0, 0, 0, 0];
            self.inject(id, &registers, gadget, libc::SYS_prctl, naming)?;
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            *task.space.borrow_mut() = Space { base: Some(slots), ..Space::default() };
            let (user, group) = (task.identity.user, task.identity.group);
            vector.set(libc::AT_UID, user.real.into());
            vector.set(libc::AT_EUID, user.effective.into());
            vector.set(libc::AT_GID, group.real.into());
            vector.set(libc::AT_EGID, group.effective.into());
            vector.set(libc::AT_SECURE, careful.into());
        }
        vector.write(id)?;
        registers.write(id)
    }

    /// Maps a program as fs/binfmt_elf.c would, and answers by how much its addresses are moved.
    fn map(&mut self, id: Pid, registers: &Registers, gadget: u64, program: &Program, file: u64) -> Result<u64, Errno> {
        let page = |address: u64| address & !(PAGE_BYTES - 1);
        let first = page(program.segments.first().ok_or(Errno::NOEXEC)?.address);
        let end = program.segments.iter().map(|segment| segment.address + segment.memory_bytes).max().unwrap_or(0);
        let span = (end - first).next_multiple_of(PAGE_BYTES);
        let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let bias = if program.relocatable {
            let largest = program.segments.iter().map(|segment| segment.alignment).max().unwrap_or(PAGE_BYTES);
            let alignment = if largest.is_power_of_two() { largest.clamp(PAGE_BYTES, 1 << 30) } else { PAGE_BYTES };
            let room = span + alignment - PAGE_BYTES;
            let mapping = [0, room, 0, anonymous, u64::MAX, 0];
            let base = self.inject(id, registers, gadget, libc::SYS_mmap, mapping)? as u64;
            base.next_multiple_of(alignment).wrapping_sub(first)
        } else {
            let mapping = [first, span, 0, anonymous | libc::MAP_FIXED_NOREPLACE as u64, u64::MAX, 0];
            self.inject(id, registers, gadget, libc::SYS_mmap, mapping)?;
            0
        };
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
                let mapping = [page(start), length, protection, fixed, file, page(segment.offset)];
                self.inject(id, registers, gadget, libc::SYS_mmap, mapping)?;
            }
            let mut zero_from = if segment.file_bytes > 0 { file_end } else { page(start) };
            if memory_end > zero_from && segment.file_bytes > 0 {
                let page_end = zero_from.next_multiple_of(PAGE_BYTES);
                // The kernel too leaves a page alone that can't be written.
                if protection & libc::PROT_WRITE as u64 != 0 {
                    memory::write(id, zero_from, &vec![0; (page_end.min(memory_end) - zero_from) as usize])?;
                }
                zero_from = page_end;
            }
            if memory_end > zero_from {
                let length = memory_end - zero_from;
                let mapping = [zero_from, length, protection, anonymous | libc::MAP_FIXED as u64, u64::MAX, 0];
                self.inject(id, registers, gadget, libc::SYS_mmap, mapping)?;
            }
        }
        Ok(bias)
    }

    /// An instruction that makes a system call, in memory that nobody can have changed yet.
    fn gadget(&mut self, id: Pid, vector: &Vector, entry: u64) -> Result<u64, Errno> {
        let vdso = vector.get(libc::AT_SYSINFO_EHDR).filter(|&address| address != 0);
        if let (Some(vdso), Some(offset)) = (vdso, self.gadget_offset) {
            return Ok(vdso + offset);
        }
        let (start, pages) = match vdso {
            Some(vdso) => (vdso, 4),
            None => (entry & !(PAGE_BYTES - 1), 64),
        };
        let mut bytes = vec![0; PAGE_BYTES as usize];
        for number in 0..pages {
            let address = start + number * PAGE_BYTES;
            memory::read(id, address, &mut bytes)?;
            let found = bytes.windows(SYSCALL_INSTRUCTION.len()).position(|bytes| bytes == SYSCALL_INSTRUCTION);
            if let Some(at) = found {
                let address = address + at as u64;
                if let Some(vdso) = vdso {
                    self.gadget_offset = Some(address - vdso);
                }
                return Ok(address);
            }
        }
        Err(Errno::NOEXEC)
    }
}
