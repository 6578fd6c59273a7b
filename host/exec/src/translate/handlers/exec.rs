//! execve(2): what is started, and with which arguments. [`crate::translate::exec`] does the rest once the kernel has.

use std::os::unix::{ffi::OsStrExt, fs::FileExt};

use rustix::{fd::AsFd, io::Errno};

use super::{find_node, look::check_executable, open::reopen};
use crate::{
    Emulator,
    elf::{self, HEADER_BYTES},
    translate::{
        calls::Outcome,
        exec::{PendingExec, ToMap},
        memory::{self, PATH_LIMIT_BYTES},
        registers::{RED_ZONE_BYTES, Registers},
        resolve::{Found, Start},
        tracee::{After, Running, SLOT_BYTES, Task},
        tracer::Tracer,
    },
};

/// As many scripts as may run each other (fs/exec.c).
const SCRIPT_LIMIT: usize = 5;

/// How much of a file is looked at for `#!` (BINPRM_BUF_SIZE).
const SCRIPT_LINE_BYTES: usize = 256;

/// More arguments than the kernel takes.
const ARGUMENT_LIMIT: usize = 1 << 20;

/// execve(2).
pub fn execve(tracer: &mut Tracer, task: &mut Task, registers: &mut Registers) -> Result<Outcome, Errno> {
    let path = memory::read_path(task.id, registers.argument(0))?;
    let after = After::restore(registers);
    start(tracer, task, registers, Start::Here, &path, true)?;
    Ok(Outcome::Rewritten(after))
}

/// execveat(2), which becomes execve(2).
pub fn execveat(tracer: &mut Tracer, task: &mut Task, registers: &mut Registers) -> Result<Outcome, Errno> {
    let flags = registers.argument(4);
    let mut path = memory::read_path(task.id, registers.argument(1))?;
    let mut from = Start::from_argument(registers.argument(0));
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW as u64 == 0;
    if path.is_empty() && flags & libc::AT_EMPTY_PATH as u64 != 0 {
        let Start::Descriptor(number) = from else { return Err(Errno::ACCESS) };
        // Checks the descriptor.
        find_node(tracer, task, from, registers.argument(1), flags, true)?;
        path = format!("/proc/self/fd/{number}").into_bytes();
        from = Start::Here;
    }
    let after = After::restore(registers);
    registers.set_number(libc::SYS_execve);
    registers.set_argument(1, after.original.argument(2));
    registers.set_argument(2, after.original.argument(3));
    start(tracer, task, registers, from, &path, follow)?;
    Ok(Outcome::Rewritten(after))
}

fn start(
    tracer: &mut Tracer,
    task: &mut Task,
    registers: &mut Registers,
    from: Start,
    name: &[u8],
    follow: bool,
) -> Result<(), Errno> {
    let mut path = name.to_vec();
    // What stands in for the first argument.
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut depth = 0;
    let (found, header, file) = loop {
        let start = if depth == 0 { from } else { Start::Here };
        let found = tracer.resolve(task, start, &path, follow || depth > 0)?;
        let (header, file) = open(tracer, task, &found)?;
        let Some(line) = script_line(&header)? else { break (found, header, file) };
        depth += 1;
        if depth > SCRIPT_LIMIT {
            return Err(Errno::LOOP);
        }
        let mut replaced = vec![line.interpreter.clone()];
        replaced.extend(line.argument);
        replaced.push(path);
        replaced.extend(words.into_iter().skip(1));
        words = replaced;
        path = line.interpreter;
    };
    let emulator = tracer.emulators.iter().find(|(emulator, _)| emulator.runs(&header)).cloned();
    if let Some(processor) = elf::other_processor(&header).filter(|_| emulator.is_none()) {
        tracer.note_other_processor(&found.path, processor);
    }
    let (_, seen) = found.existing()?;
    let program_file = seen.key();
    let owner = (
        (seen.mode & libc::S_ISUID != 0).then_some(seen.uid),
        (seen.mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP).then_some(seen.gid),
    );
    let (started, entry, relocatable, to_map) = match emulator {
        Some((emulator, program)) => {
            // The emulator opens what it is to run as any program opens a file, from where the task is.
            words = emulated(task, registers, &emulator, &path, words)?;
            let place = emulator.program.as_os_str().as_bytes().to_vec();
            let started = tracer.footing.outside(place).directory_of((libc::AT_FDCWD as u64, Vec::new()));
            (started, program.entry, program.relocatable, None)
        }
        None => of_this_processor(tracer, task, &found, &header, &file)?,
    };
    if !words.is_empty() {
        let arguments = with_words(tracer, task, registers, &words)?;
        registers.set_argument(1, arguments);
    }
    let (directory, path) = started;
    let address = tracer.lend_path(task, registers, 0, &path)?;
    if directory == libc::AT_FDCWD as u64 {
        registers.set_argument(0, address);
    } else {
        let (arguments, environment) = (registers.argument(1), registers.argument(2));
        registers.set_number(libc::SYS_execveat);
        for (index, value) in [directory, address, arguments, environment, 0].into_iter().enumerate() {
            registers.set_argument(index, value);
        }
    }
    task.exec = Some(Box::new(PendingExec {
        entry,
        relocatable,
        to_map,
        name: name.to_vec(),
        program: Running { path: found.path, file: program_file },
        owner: if depth == 0 { owner } else { (None, None) },
    }));
    Ok(())
}

/// What is started for a program of this processor: how the task gets there, where it begins, whether it can be put anywhere,
/// and the program if that is its loader.
type Started = ((u64, Vec<u8>), u64, bool, Option<ToMap>);

fn of_this_processor(
    tracer: &mut Tracer,
    task: &mut Task,
    found: &Found,
    header: &[u8],
    file: &std::fs::File,
) -> Result<Started, Errno> {
    let program = elf::parse(header)?;
    let itself = to_run(tracer, found)?;
    let Some((offset, length)) = program.interpreter else {
        return Ok((itself, program.entry, program.relocatable, None));
    };
    let loader = loader_path(file, offset, length)?;
    let loader = tracer.resolve(task, Start::Here, &loader, true)?;
    let (header, _) = open(tracer, task, &loader)?;
    let parsed = elf::parse(&header).map_err(|_| Errno::LIBBAD)?;
    if parsed.interpreter.is_some() {
        return Err(Errno::LIBBAD);
    }
    if tracer.footing.finds(&loader) {
        if let (Some(lazy), Some((file, seen))) = (tracer.journal.lazy(), &loader.node) {
            lazy.bring(file.as_fd(), seen)?;
        }
        return Ok((itself, program.entry, program.relocatable, None));
    }
    let started = to_run(tracer, &loader)?;
    Ok((started, parsed.entry, parsed.relocatable, Some(ToMap { place: itself, program })))
}

/// The first arguments of an emulator: its own name, the one by which the program was called, the path of the program, and
/// what a script put behind that. Of a script's words the first is the name of its interpreter.
fn emulated(
    task: &Task,
    registers: &Registers,
    emulator: &Emulator,
    path: &[u8],
    words: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, Errno> {
    let mut words = words.into_iter();
    let called = match words.next() {
        Some(interpreter) => interpreter,
        None => match memory::read_pointers(task.id, registers.argument(1), ARGUMENT_LIMIT)?.first() {
            Some(&first) => memory::read_path(task.id, first)?,
            None => path.to_vec(),
        },
    };
    let own = emulator.program.file_name().unwrap_or_default().as_bytes().to_vec();
    Ok([own, b"-0".to_vec(), called, path.to_vec()].into_iter().chain(words).collect())
}

/// How the task gets to something that is to be run: a directory, and a path from there. A file of the layers is run where
/// it is, unless its mode there forbids that.
fn to_run(tracer: &Tracer, found: &Found) -> Result<(u64, Vec<u8>), Errno> {
    let here = libc::AT_FDCWD as u64;
    if let (Some(lazy), Some((file, seen))) = (tracer.journal.lazy(), &found.node)
        && let Some(content) = lazy.content(seen)
        && lazy.stub_of(file.as_fd())?.is_none()
    {
        if lazy.is_executable_below(seen) {
            return Ok(tracer.footing.outside(content).directory_of((here, Vec::new())));
        }
        lazy.fill(file.as_fd(), seen)?;
    }
    Ok(tracer.aim(found).directory_of((here, found.path.clone())))
}

/// Opens something that is to be run, and reads its beginning.
fn open(tracer: &Tracer, task: &Task, found: &Found) -> Result<(Vec<u8>, std::fs::File), Errno> {
    let (node, seen) = found.existing()?;
    check_executable(&task.identity, seen)?;
    let file = match tracer.journal.lazy().and_then(|lazy| lazy.content(seen)) {
        Some(content) => std::fs::File::open(std::ffi::OsStr::from_bytes(&content)).map_err(|_| Errno::IO)?,
        None => reopen(node)?,
    };
    let mut header = vec![0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match file.read_at(&mut header[filled..], filled as u64).map_err(|_| Errno::IO)? {
            0 => break,
            count => filled += count,
        }
    }
    header.truncate(filled);
    Ok((header, file))
}

fn loader_path(file: &std::fs::File, offset: u64, length: u64) -> Result<Vec<u8>, Errno> {
    if length < 2 || length > PATH_LIMIT_BYTES as u64 {
        return Err(Errno::NOEXEC);
    }
    let mut path = vec![0; length as usize];
    file.read_exact_at(&mut path, offset).map_err(|_| Errno::NOEXEC)?;
    let end = path.iter().position(|&byte| byte == 0).ok_or(Errno::NOEXEC)?;
    path.truncate(end);
    Ok(path)
}

struct ScriptLine {
    interpreter: Vec<u8>,
    argument: Option<Vec<u8>>,
}

/// The first line of a script, as fs/binfmt_script.c reads it: one argument, whatever is in it.
fn script_line(header: &[u8]) -> Result<Option<ScriptLine>, Errno> {
    let Some(rest) = header.strip_prefix(b"#!") else { return Ok(None) };
    let shown = &rest[..rest.len().min(SCRIPT_LINE_BYTES - 2)];
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = shown.iter().position(|&byte| byte == b'\n' || byte == 0);
    let line = match end {
        Some(end) => &shown[..end],
        None => {
            // Cut off: only the argument may be.
            let text = &shown[shown.iter().position(|byte| !blank(byte)).unwrap_or(0)..];
            if rest.len() > shown.len() && !text.iter().any(blank) {
                return Err(Errno::NOEXEC);
            }
            shown
        }
    };
    let start = line.iter().position(|byte| !blank(byte)).ok_or(Errno::NOEXEC)?;
    let end = line.iter().rposition(|byte| !blank(byte)).ok_or(Errno::NOEXEC)? + 1;
    let line = &line[start..end];
    let (interpreter, rest) = line.split_at(line.iter().position(blank).unwrap_or(line.len()));
    let argument = &rest[rest.iter().position(|byte| !blank(byte)).unwrap_or(rest.len())..];
    Ok(Some(ScriptLine {
        interpreter: interpreter.to_vec(),
        argument: (!argument.is_empty()).then(|| argument.to_vec()),
    }))
}

/// Makes a vector of arguments whose first one is replaced by `words`, in the memory of the task.
fn with_words(tracer: &Tracer, task: &Task, registers: &Registers, words: &[Vec<u8>]) -> Result<u64, Errno> {
    let old = match registers.argument(1) {
        0 => Vec::new(),
        address => memory::read_pointers(task.id, address, ARGUMENT_LIMIT)?,
    };
    let mut strings = Vec::new();
    let mut offsets = Vec::new();
    for word in words {
        offsets.push(strings.len() as u64);
        strings.extend_from_slice(word);
        strings.push(0);
    }
    let beyond_path = PATH_LIMIT_BYTES as u64;
    let place = tracer.lend(task, registers, beyond_path, &strings).map_err(|_| Errno::TOOBIG)?;
    let pointers = offsets.iter().map(|offset| place + offset).chain(old.iter().skip(1).copied()).chain([0]);
    let bytes: Vec<u8> = pointers.flat_map(u64::to_ne_bytes).collect();
    let offset = (beyond_path + strings.len() as u64).next_multiple_of(16);
    if offset + bytes.len() as u64 <= SLOT_BYTES {
        return tracer.lend(task, registers, offset, &bytes);
    }
    // Many arguments were put together on a large stack.
    let place = (registers.stack() - RED_ZONE_BYTES - SLOT_BYTES - bytes.len() as u64) & !15;
    memory::write(task.id, place, &bytes)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Option<(String, Option<String>)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        script_line(header.as_bytes()).unwrap().map(|line| (text(line.interpreter), line.argument.map(text)))
    }

    #[test]
    fn script_lines_are_read_as_the_kernel_reads_them() {
        let expected =
            |interpreter: &str, argument: Option<&str>| Some((interpreter.to_owned(), argument.map(str::to_owned)));
        assert_eq!(read("#!/bin/sh\necho"), expected("/bin/sh", None));
        assert_eq!(read("#! \t/bin/sh -e  x \t\n"), expected("/bin/sh", Some("-e  x")));
        assert_eq!(read("#!/bin/sh"), expected("/bin/sh", None));
        assert_eq!(read("\x7fELF"), None);
        assert!(script_line(b"#! \n").is_err());
        assert!(script_line(format!("#!/{}\n", "x".repeat(300)).as_bytes()).is_err());
        let long = format!("#!/bin/sh {}\n", "x".repeat(300));
        assert_eq!(read(&long).unwrap().1.unwrap().len(), 254 - 8);
    }
}
