//! Unix sockets that have names in the file system.

use rustix::{fd::AsFd, io::Errno};

use super::check_writable;
use crate::translate::{
    access,
    calls::Outcome,
    memory,
    registers::Registers,
    resolve::Start,
    tracee::{After, Task},
    tracer::Tracer,
};

/// `sun_path` of unix(7), in bytes.
const NAME_BYTES: usize = 108;
const FAMILY_BYTES: usize = 2;

/// bind(2) and connect(2).
///
/// The path on this machine may be longer than an address holds: then the task gets the directory as a descriptor, and the
/// address leads through it.
pub fn with_address(
    tracer: &mut Tracer,
    task: &mut Task,
    registers: &mut Registers,
    bind: bool,
) -> Result<Outcome, Errno> {
    let length = registers.argument(2) as usize;
    if length <= FAMILY_BYTES || length > FAMILY_BYTES + NAME_BYTES {
        return Ok(Outcome::Native);
    }
    let mut address = vec![0; length];
    memory::read(task.id, registers.argument(1), &mut address)?;
    let family = u16::from_ne_bytes([address[0], address[1]]);
    // Names that begin with a NUL are in no file system.
    if i32::from(family) != libc::AF_UNIX || address[FAMILY_BYTES] == 0 {
        return Ok(Outcome::Native);
    }
    let name = &address[FAMILY_BYTES..];
    let name = name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())].to_vec();
    let found = tracer.resolve(task, Start::Here, &name, !bind)?;
    if bind {
        if found.node.is_some() {
            return Err(Errno::ADDRINUSE);
        }
        check_writable(tracer, &found)?;
        let (parent, _) = found.named()?;
        let above = tracer.journal.look(parent.as_fd())?;
        access::check(&task.identity, &above, access::WRITE | access::EXECUTE)?;
        // The kernel makes the name, and the time of the directory's change counts.
        tracer.journal.complete(parent.as_fd())?;
    } else {
        let (_, seen) = found.existing()?;
        access::check(&task.identity, seen, access::WRITE)?;
    }
    let original = registers.clone();
    let mut outside = tracer.bindings.outside(&found.path);
    let mut close = None;
    if outside.len() >= NAME_BYTES {
        let slash = outside.iter().rposition(|&byte| byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let directory = tracer.lend_path(task, registers, 0, &outside[..slash])?;
        // This very call becomes the opening of the directory; afterwards it is made again.
        let mut opening = registers.clone();
        opening.set_number(libc::SYS_openat);
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        for (index, value) in [libc::AT_FDCWD as u64, directory, flags as u64, 0].into_iter().enumerate() {
            opening.set_argument(index, value);
        }
        opening.write(task.id)?;
        let opened = tracer.run_to_end_of_call(task.id, true)?;
        if opened < 0 {
            registers.set_result(opened);
            return Err(Errno::from_raw_os_error(-opened as i32));
        }
        close = Some(opened as i32);
        let name = outside[slash + 1..].to_vec();
        outside = format!("/proc/self/fd/{opened}/").into_bytes();
        outside.extend_from_slice(&name);
        if outside.len() >= NAME_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
    }
    let mut changed = address[..FAMILY_BYTES].to_vec();
    changed.extend_from_slice(&outside);
    changed.push(0);
    let place = tracer.lend(task, registers, 0, &changed)?;
    let number = registers.number();
    registers.set_argument(1, place);
    registers.set_argument(2, changed.len() as u64);
    if close.is_some() {
        // The task is at the end of the opening: it goes back to its instruction, which the filter stops again.
        let arguments = std::array::from_fn(|index| registers.argument(index));
        let gadget = registers.call_instruction();
        registers.prepare_call(gadget, number, arguments);
        task.passthrough = Some(Box::new(After { original, close, born: None }));
        registers.write(task.id)?;
        return Ok(Outcome::Native);
    }
    Ok(Outcome::Rewritten(Box::new(After { original, close, born: None })))
}

/// getsockopt(2): who is at the other end belongs to the command, so it is who the command thinks it is.
pub fn getsockopt(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let asked = (registers.argument(1) as i32, registers.argument(2) as i32);
    if asked != (libc::SOL_SOCKET, libc::SO_PEERCRED) {
        return Ok(Outcome::Native);
    }
    // The builder's own ids would show; the peer can't be asked for without the descriptor, so the caller stands for it.
    let _ = tracer;
    let mut length = [0; 4];
    memory::read(task.id, registers.argument(4), &mut length)?;
    let mut bytes = Vec::new();
    for id in [task.process.as_raw_nonzero().get() as u32, task.identity.user.effective, task.identity.group.effective]
    {
        bytes.extend_from_slice(&id.to_ne_bytes());
    }
    bytes.truncate(u32::from_ne_bytes(length) as usize);
    memory::write(task.id, registers.argument(3), &bytes)?;
    memory::write(task.id, registers.argument(4), &(bytes.len() as u32).to_ne_bytes())?;
    Ok(Outcome::Return(0))
}
