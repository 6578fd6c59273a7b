//! The working directory, the root and the mask of a task.

use rustix::{fd::AsFd, io::Errno};

use super::{descriptor, find, open::rewrite};
use crate::translate::{
    access,
    bindings::is_beneath,
    calls::Outcome,
    footing::Aim,
    identity::capability,
    memory,
    registers::Registers,
    resolve::Start,
    tracee::{After, Task},
    tracer::Tracer,
};

/// chdir(2): the kernel keeps the working directory.
pub fn chdir(tracer: &mut Tracer, task: &mut Task, registers: &mut Registers) -> Result<Outcome, Errno> {
    let found = find(tracer, task, Start::Here, registers.argument(0), true)?;
    let (_, seen) = found.existing()?;
    if !seen.is_directory() {
        return Err(Errno::NOTDIR);
    }
    access::check(&task.identity, seen, access::EXECUTE)?;
    task.place.borrow_mut().here = None;
    if let Aim::Door(_, path) = tracer.aim(&found) {
        // Out of the real root lead descriptors alone.
        let original = registers.clone();
        let directory = tracer.open_for(task, registers, &[b"/", path.as_slice()].concat())?;
        registers.set_number(libc::SYS_fchdir);
        registers.set_argument(0, directory as u64);
        let after = After { close: Some(directory), ..*After::restore(&original) };
        tracer.call_again(task, registers, Box::new(after))?;
        return Ok(Outcome::Native);
    }
    rewrite(tracer, task, registers, 0, &found)
}

/// fchdir(2).
pub fn fchdir(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let file = descriptor(task, registers.argument(0) as i32)?;
    let seen = tracer.journal.look(file.as_fd())?;
    if !seen.is_directory() {
        return Err(Errno::NOTDIR);
    }
    access::check(&task.identity, &seen, access::EXECUTE)?;
    task.place.borrow_mut().here = None;
    Ok(Outcome::Native)
}

/// getcwd(2).
pub fn getcwd(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let link = format!("/proc/{}/cwd", task.id.as_raw_nonzero());
    let here = rustix::fs::stat(&*link)?;
    if here.st_nlink == 0 {
        return Err(Errno::NOENT);
    }
    let path = tracer.directory_of(task, Start::Here)?;
    let root = task.place.borrow().root.clone();
    let mut path = match path.strip_prefix(root.as_slice()) {
        _ if root == b"/" => path,
        Some(rest) if is_beneath(&path, &root) => [b"/", rest.strip_prefix(b"/").unwrap_or(rest)].concat(),
        // getcwd(2): outside of the root.
        _ => [b"(unreachable)".as_slice(), &path].concat(),
    };
    path.push(0);
    if path.len() as u64 > registers.argument(1) {
        return Err(Errno::RANGE);
    }
    memory::write(task.id, registers.argument(0), &path)?;
    Ok(Outcome::Return(path.len() as i64))
}

/// chroot(2).
pub fn chroot(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let found = find(tracer, task, Start::Here, registers.argument(0), true)?;
    let (_, seen) = found.existing()?;
    if !seen.is_directory() {
        return Err(Errno::NOTDIR);
    }
    access::check(&task.identity, seen, access::EXECUTE)?;
    if !task.identity.can(capability::SYS_CHROOT) {
        return Err(Errno::PERM);
    }
    task.place.borrow_mut().root = found.path;
    Ok(Outcome::Return(0))
}

/// umask(2): the kernel's is kept too, for what the task makes itself.
pub fn umask(task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    task.place.borrow_mut().mask = registers.argument(0) as u32 & 0o777;
    Ok(Outcome::Native)
}
