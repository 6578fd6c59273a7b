//! Opening: the task does it itself, with the path exchanged.

use std::os::unix::ffi::OsStrExt;

use rustix::{
    fd::AsFd,
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{Newborn, check_writable, find, in_tree};
use crate::journal::Seen;
use crate::translate::{
    access,
    calls::Outcome,
    footing::Aim,
    memory,
    registers::Registers,
    resolve::{Found, Purpose, Scope, Start, own_path},
    tracee::{After, Task},
    tracer::Tracer,
};

/// Where in the scratch memory of a task a second path goes.
const SECOND_PATH: u64 = memory::PATH_LIMIT_BYTES as u64;

/// open(2), creat(2).
pub fn open(
    tracer: &mut Tracer,
    task: &mut Task,
    registers: &mut Registers,
    flags: u64,
    mode: u64,
) -> Result<Outcome, Errno> {
    let original = registers.clone();
    let path = registers.argument(0);
    registers.set_number(libc::SYS_openat);
    for (index, value) in [libc::AT_FDCWD as u64, path, flags, mode].into_iter().enumerate() {
        registers.set_argument(index, value);
    }
    let outcome = openat(tracer, task, registers)?;
    Ok(as_if_called_by(original, outcome))
}

/// openat(2).
pub fn openat(tracer: &mut Tracer, task: &mut Task, registers: &mut Registers) -> Result<Outcome, Errno> {
    open_within(tracer, task, registers, Scope::default())
}

/// Version 0 of `struct open_how`: flags, mode and RESOLVE_*.
const HOW_BYTES: usize = 24;

/// As much as a later version may have.
const HOW_LIMIT_BYTES: usize = 4096;

/// Every O_* that the kernel knows (fcntl(2), VALID_OPEN_FLAGS).
const KNOWN_FLAGS: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | 0o100_000 // O_LARGEFILE, which is 0 for C
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_PATH
    | libc::O_TMPFILE;

/// openat2(2), which becomes openat(2).
pub fn openat2(tracer: &mut Tracer, task: &mut Task, registers: &mut Registers) -> Result<Outcome, Errno> {
    let size = registers.argument(3) as usize;
    if size < HOW_BYTES {
        return Err(Errno::INVAL);
    }
    if size > HOW_LIMIT_BYTES {
        return Err(Errno::TOOBIG);
    }
    let mut how = vec![0; size];
    memory::read(task.id, registers.argument(2), &mut how)?;
    if how[HOW_BYTES..].iter().any(|&byte| byte != 0) {
        return Err(Errno::TOOBIG);
    }
    let word = |at: usize| u64::from_ne_bytes(how[at..at + 8].try_into().expect("eight bytes"));
    let (flags, mode, resolve) = (word(0), word(8), word(16));
    check_how(flags, mode, resolve)?;
    if resolve & libc::RESOLVE_CACHED != 0 {
        // Nothing is known without asking, which the kernel may always say.
        return Err(Errno::AGAIN);
    }
    let has = |flag: u64| resolve & flag != 0;
    let scope = Scope {
        beneath: has(libc::RESOLVE_BENEATH),
        in_root: has(libc::RESOLVE_IN_ROOT),
        one_device: has(libc::RESOLVE_NO_XDEV),
        no_symlinks: has(libc::RESOLVE_NO_SYMLINKS),
        no_magic_links: has(libc::RESOLVE_NO_MAGICLINKS),
    };
    let original = registers.clone();
    registers.set_number(libc::SYS_openat);
    registers.set_argument(2, flags);
    registers.set_argument(3, mode);
    let outcome = open_within(tracer, task, registers, scope)?;
    Ok(as_if_called_by(original, outcome))
}

/// The call became another one: what is put back is the first.
fn as_if_called_by(original: Registers, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Rewritten(after) => Outcome::Rewritten(Box::new(After { original, ..*after })),
        outcome => outcome,
    }
}

/// What openat2(2) refuses that openat(2) overlooks (fs/open.c, build_open_flags).
fn check_how(flags: u64, mode: u64, resolve: u64) -> Result<(), Errno> {
    let known = libc::RESOLVE_NO_XDEV
        | libc::RESOLVE_NO_MAGICLINKS
        | libc::RESOLVE_NO_SYMLINKS
        | libc::RESOLVE_BENEATH
        | libc::RESOLVE_IN_ROOT
        | libc::RESOLVE_CACHED;
    let scoped = libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT;
    if flags & !(KNOWN_FLAGS as u64) != 0 || resolve & !known != 0 || resolve & scoped == scoped {
        return Err(Errno::INVAL);
    }
    let flags = flags as i32;
    let temporary = flags & libc::O_TMPFILE & !libc::O_DIRECTORY != 0;
    let allowed = if flags & libc::O_CREAT != 0 || temporary { 0o7777 } else { 0 };
    let of_path = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_PATH | libc::O_CLOEXEC;
    let odd = temporary && flags & libc::O_DIRECTORY == 0 || flags & libc::O_PATH != 0 && flags & !of_path != 0;
    if mode & !allowed != 0 || odd { Err(Errno::INVAL) } else { Ok(()) }
}

/// Opens as openat(2), within limits.
fn open_within(
    tracer: &mut Tracer,
    task: &mut Task,
    registers: &mut Registers,
    scope: Scope,
) -> Result<Outcome, Errno> {
    let original = registers.clone();
    let start = Start::from_argument(registers.argument(0));
    let (flags, mode) = (registers.argument(2), registers.argument(3));
    let flags = flags as i32;
    check_flags(flags)?;
    let exclusive = flags & (libc::O_CREAT | libc::O_EXCL | libc::O_PATH) == libc::O_CREAT | libc::O_EXCL;
    let follow = flags & libc::O_NOFOLLOW == 0 && !exclusive;
    let path = memory::read_path(task.id, registers.argument(1))?;
    let creates = flags & (libc::O_CREAT | libc::O_PATH) == libc::O_CREAT;
    let purpose = if creates { Purpose::Create } else { Purpose::Look };
    let mut found = tracer.resolve_for(task, start, &path, follow, purpose, scope)?;
    let flags_now = check(tracer, task, &found, flags, mode as u32)?;
    if flags & libc::O_PATH == 0
        && let Some(opened) = tracer.open_terminal(task, &original, &found, flags)?
    {
        return Ok(opened);
    }
    prepare(tracer, task, &mut found, flags)?;
    let copy =
        if flags & (libc::O_PATH | libc::O_ACCMODE) == libc::O_RDONLY { tracer.view(task, &found)? } else { None };
    if let Some(copy) = &copy {
        found.magic = Some(copy.as_os_str().as_bytes().to_vec());
    }
    let mut changed = rewrite_directory_of(tracer, task, registers, &found)?;
    if flags_now != flags {
        registers.set_argument(2, flags_now as u64);
        changed = true;
    }
    let mut after = After::restore(&original);
    after.remove = copy;
    if flags & (libc::O_TMPFILE | libc::O_PATH) == libc::O_TMPFILE
        && let Some((_, directory)) = &found.node
    {
        // A file without a name is the kernel's to make; what it can't have is recorded when it is there.
        let newborn = Newborn::new(tracer, task, directory, mode as u32, false);
        changed = true;
        registers.set_argument(3, newborn.mode_on_disk(false).as_raw_mode().into());
        after.born = Some(newborn);
    }
    Ok(if changed { Outcome::Rewritten(after) } else { Outcome::Native })
}

/// What the kernel refuses before it looks at the path (fs/open.c, build_open_flags).
fn check_flags(flags: i32) -> Result<(), Errno> {
    let has = |flag: i32| flags & flag == flag;
    if has(libc::O_PATH) {
        return Ok(());
    }
    let temporary = has(libc::O_TMPFILE);
    let readable_only = flags & libc::O_ACCMODE == libc::O_RDONLY;
    if temporary && (has(libc::O_CREAT) || readable_only) || !temporary && has(libc::O_CREAT | libc::O_DIRECTORY) {
        return Err(Errno::INVAL);
    }
    Ok(())
}

/// truncate(2), which old kernels have no right of Landlock for.
pub fn truncate(tracer: &mut Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let length = u64::try_from(registers.argument(1) as i64).map_err(|_| Errno::INVAL)?;
    let mut found = find(tracer, task, Start::Here, registers.argument(0), true)?;
    let (_, seen) = found.existing()?;
    if seen.is_directory() {
        return Err(Errno::ISDIR);
    }
    if !seen.is_file() {
        return Err(Errno::INVAL);
    }
    check_writable(tracer, &found)?;
    access::check(&task.identity, seen, access::WRITE)?;
    if let Some((file, seen)) = &found.node {
        check_not_running(tracer, task, seen)?;
        tracer.will_be_written(&task.identity, file, seen, true)?;
    }
    fill(tracer, &mut found)?;
    let (file, _) = in_tree(tracer, found)?;
    let file = rustix::fs::open(own_path(&file), OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    rustix::fs::ftruncate(&file, length)?;
    Ok(Outcome::Return(0))
}

/// Sees to it that what is opened is there: the names of a directory, and the bytes of a file that may be written to. A file
/// that is only read is read where its layer was unpacked.
fn prepare(tracer: &Tracer, task: &Task, found: &mut Found, flags: i32) -> Result<(), Errno> {
    let (Some(lazy), Some((file, seen))) = (tracer.journal.lazy(), &found.node) else { return Ok(()) };
    if seen.is_directory() {
        // A descriptor for the path alone can be opened again.
        return lazy.complete(file.as_fd());
    }
    if !seen.is_file() || flags & libc::O_PATH != 0 {
        return Ok(());
    }
    // Who opens with O_CREAT means to write, or to lock.
    if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & (libc::O_TRUNC | libc::O_CREAT) != 0 {
        fill(tracer, found)?;
    } else {
        tracer.let_go_of_moved(task);
        if let Some(content) = lazy.open_content(file.as_fd(), seen, &found.path) {
            found.magic = Some(content);
        }
    }
    Ok(())
}

/// Brings the bytes of a file into the tree, because they may be written to.
fn fill(tracer: &Tracer, found: &mut Found) -> Result<(), Errno> {
    let (Some(lazy), Some((file, seen))) = (tracer.journal.lazy(), &found.node) else { return Ok(()) };
    // Through a descriptor of the task, which is open on the layer's file.
    let Some(stub) = lazy.stub_of(file.as_fd())? else { return lazy.fill(file.as_fd(), seen) };
    lazy.fill(stub.as_fd(), seen)?;
    found.magic = Some(rustix::fs::readlink(own_path(&stub), Vec::new())?.into_bytes());
    Ok(())
}

/// Exchanges the first two arguments, a directory and a path from there, for what leads to the same on this machine; answers
/// whether that was necessary.
fn rewrite_directory_of(tracer: &Tracer, task: &Task, registers: &mut Registers, found: &Found) -> Result<bool, Errno> {
    let aim = tracer.exchange(found);
    if let Aim::AsIs = aim {
        return Ok(false);
    }
    let (directory, path) = aim.directory_of((0, Vec::new()));
    let address = tracer.lend_path(task, registers, 0, &path)?;
    registers.set_argument(0, directory);
    registers.set_argument(1, address);
    Ok(true)
}

/// Exchanges the path argument with this index, of a call that takes a path alone.
pub fn rewrite(
    tracer: &mut Tracer,
    task: &mut Task,
    registers: &mut Registers,
    index: usize,
    found: &Found,
) -> Result<Outcome, Errno> {
    let original = registers.clone();
    let path = match tracer.exchange(found) {
        Aim::AsIs => return Ok(Outcome::Native),
        Aim::Path(path) => path,
        Aim::Door(_, path) => {
            let name = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            let above = [b"/", &path[..name]].concat();
            // With a slash at its end the path is a directory's.
            let name = if name == path.len() { b"." } else { &path[name..] };
            let address = tracer.lend_path(task, registers, SECOND_PATH, name)?;
            registers.set_argument(index, address);
            tracer.call_from(task, registers, &above, &original)?;
            return Ok(Outcome::Native);
        }
    };
    let address = tracer.lend_path(task, registers, 0, &path)?;
    registers.set_argument(index, address);
    Ok(Outcome::Rewritten(After::restore(&original)))
}

/// Checks what the kernel can't, and makes a new file that is not to be what it would make of it. Answers the flags to open
/// with.
fn check(tracer: &mut Tracer, task: &Task, found: &Found, flags: i32, mode: u32) -> Result<i32, Errno> {
    let wants_write = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
    if flags & libc::O_PATH != 0 {
        return Ok(flags);
    }
    let temporary = flags & libc::O_TMPFILE == libc::O_TMPFILE;
    if found.slash && found.name.is_some() && flags & libc::O_CREAT != 0 {
        return Err(Errno::ISDIR);
    }
    if let Some((file, seen)) = &found.node {
        if found.slash && !seen.is_directory() {
            return Err(Errno::NOTDIR);
        }
        if flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL {
            return Err(Errno::EXIST);
        }
        if flags & libc::O_DIRECTORY != 0 && !seen.is_directory() && !seen.is_symlink() {
            return Err(Errno::NOTDIR);
        }
        if seen.is_directory() && !temporary && (wants_write || flags & libc::O_CREAT != 0) {
            return Err(Errno::ISDIR);
        }
        if flags & libc::O_CREAT != 0
            && let Some(parent) = &found.parent
        {
            let above = tracer.journal.look(parent.as_fd())?;
            tracer.protected.may_create_over(&task.identity, &above, seen)?;
        }
        if wants_write {
            check_writable(tracer, found)?;
        }
        // A device node that the command made is data, as everywhere.
        if tracer.journal.get(seen).is_some_and(|recorded| recorded.device.is_some()) {
            return Err(Errno::ACCESS);
        }
        if found.magic.is_some() {
            return Ok(flags);
        }
        if temporary {
            access::check(&task.identity, seen, access::WRITE | access::EXECUTE)?;
            return Ok(flags);
        }
        let mut wanted = match flags & libc::O_ACCMODE {
            libc::O_RDONLY => access::READ,
            libc::O_WRONLY => access::WRITE,
            _ => access::READ | access::WRITE,
        };
        if flags & libc::O_TRUNC != 0 {
            wanted |= access::WRITE;
        }
        if !seen.is_symlink() {
            access::check(&task.identity, seen, wanted)?;
        }
        if flags & libc::O_NOATIME != 0 {
            access::check_owner(&task.identity, seen)?;
        }
        if wants_write && seen.is_file() {
            check_not_running(tracer, task, seen)?;
            tracer.will_be_written(&task.identity, file, seen, flags & libc::O_TRUNC != 0)?;
        }
        return Ok(flags);
    }
    if flags & libc::O_CREAT == 0 {
        return Err(Errno::NOENT);
    }
    check_writable(tracer, found)?;
    let (parent, name) = found.named()?;
    let directory = tracer.journal.look(parent.as_fd())?;
    access::check(&task.identity, &directory, access::WRITE | access::EXECUTE)?;
    if directory.links == 0 {
        return Err(Errno::NOENT);
    }
    let newborn = Newborn::new(tracer, task, &directory, mode, false);
    if newborn.is_plain() && !tracer.journal.has_waiting(&directory) {
        return Ok(flags);
    }
    let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, how, Mode::from_raw_mode(0o600)) {
        Ok(file) => {
            rustix::fs::fchmod(&file, newborn.mode_on_disk(false))?;
            newborn.record(tracer, &file)?;
            if wants_write {
                let seen = tracer.journal.look(file.as_fd())?;
                tracer.will_be_written(&task.identity, &file, &seen, false)?;
            }
            Ok(flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC))
        }
        // Somebody was faster.
        Err(Errno::EXIST) if flags & libc::O_EXCL == 0 => Ok(flags),
        Err(error) => Err(error),
    }
}

/// Nobody writes to a program while it runs (execve(2), ETXTBSY). The kernel knows of those alone that it started itself, and
/// where their layers are.
fn check_not_running(tracer: &Tracer, task: &Task, seen: &Seen) -> Result<(), Errno> {
    let key = seen.key();
    // Or is about to.
    let starts = |task: &Task| task.exec.as_ref().is_some_and(|pending| pending.program.file == key);
    let runs = tracer.tasks.values().chain([task]).any(|task| task.program.borrow().file == key || starts(task));
    if runs { Err(Errno::TXTBSY) } else { Ok(()) }
}

/// Opens a file that was found, for reading it here.
pub fn reopen(file: &rustix::fd::OwnedFd) -> Result<std::fs::File, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(own_path(file), flags, Mode::empty()).map(std::fs::File::from)
}
