//! Unix sockets that have names in the file system.

use rustix::{fd::AsFd, io::Errno};

use super::check_writable;
use crate::translate::{
    access,
    calls::Outcome,
    footing::Aim,
    memory,
    registers::Registers,
    resolve::Start,
    tracee::{After, Task},
    tracer::Tracer,
};

/// `sun_path` of unix(7), in bytes.
const NAME_BYTES: usize = 108;
const FAMILY_BYTES: usize = 2;

/// Where in the scratch memory of a task an address goes: behind the paths that are opened on the way.
const ADDRESS: u64 = memory::PATH_LIMIT_BYTES as u64;

/// Where a call has its address.
#[derive(Clone, Copy)]
pub enum Place {
    /// In two arguments: where it is, and how long.
    Arguments(usize, usize),
    /// In the `struct msghdr` of the second argument.
    Message,
}

/// Size of `struct msghdr` (sendmsg(2)); address and length are its first members.
const MESSAGE_BYTES: usize = 56;

/// sendmmsg(2): for datagrams to names in the file system it does not exist, upon which programs send one by one.
pub fn sendmmsg(task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    const ENTRY_BYTES: u64 = 64;
    for number in 0..registers.argument(2).min(1024) {
        let (place, length) = message_address(task, registers.argument(1) + number * ENTRY_BYTES)?;
        if named(task, place, length)?.is_some() {
            return Err(Errno::NOSYS);
        }
    }
    Ok(Outcome::Native)
}

fn message_address(task: &Task, message: u64) -> Result<(u64, usize), Errno> {
    let (place, length) = (memory::read_u64(task.id, message)?, memory::read_u64(task.id, message + 8)?);
    Ok((place, length as u32 as usize))
}

/// An address that is a name in the file system, with its family.
fn named(task: &Task, place: u64, length: usize) -> Result<Option<Vec<u8>>, Errno> {
    if place == 0 || length <= FAMILY_BYTES || length > FAMILY_BYTES + NAME_BYTES {
        return Ok(None);
    }
    let mut address = vec![0; length];
    memory::read(task.id, place, &mut address)?;
    let family = u16::from_ne_bytes([address[0], address[1]]);
    // Names that begin with a NUL are in no file system.
    Ok((i32::from(family) == libc::AF_UNIX && address[FAMILY_BYTES] != 0).then_some(address))
}

/// getsockname(2), getpeername(2), accept(2), accept4(2): the name is the one that was bound.
pub fn with_name(tracer: &Tracer, task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    if tracer.socket_names.is_empty() || registers.argument(1) == 0 || registers.argument(2) == 0 {
        return Ok(Outcome::Native);
    }
    let mut room = [0; 4];
    memory::read(task.id, registers.argument(2), &mut room)?;
    let room_for_name = usize::try_from(i32::from_ne_bytes(room)).ok();
    Ok(Outcome::Rewritten(Box::new(After { room_for_name, ..*After::restore(registers) })))
}

impl Tracer {
    /// Puts the name that a program gave a socket in place of the machine's, as far as there is room.
    ///
    /// # Errors
    /// EFAULT.
    pub fn name_socket(&self, task: &Task, registers: &Registers, room: usize) -> Result<(), Errno> {
        let (place, length) = (registers.argument(1), registers.argument(2));
        let mut told = [0; 4];
        memory::read(task.id, length, &mut told)?;
        let told = u32::from_ne_bytes(told) as usize;
        if told > room {
            // Cut off: no more than that it has a name can be said.
            return Ok(());
        }
        let Some(address) = named(task, place, told)? else { return Ok(()) };
        let name = &address[FAMILY_BYTES..];
        let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())];
        let Some(given) = self.socket_names.get(name) else { return Ok(()) };
        let mut changed = address[..FAMILY_BYTES].to_vec();
        changed.extend_from_slice(given);
        changed.push(0);
        let fits = changed.len().min(room);
        memory::write(task.id, place, &changed[..fits])?;
        memory::write(task.id, length, &(changed.len() as u32).to_ne_bytes())
    }
}

/// bind(2), connect(2), sendto(2) and sendmsg(2).
///
/// The path on this machine may be longer than an address holds: then the task gets the directory as a descriptor, and the
/// address leads through it.
pub fn with_address(
    tracer: &mut Tracer,
    task: &mut Task,
    registers: &mut Registers,
    place: Place,
    bind: bool,
) -> Result<Outcome, Errno> {
    let (at, length) = match place {
        Place::Arguments(at, length) => (registers.argument(at), registers.argument(length) as usize),
        Place::Message => message_address(task, registers.argument(1))?,
    };
    let Some(address) = named(task, at, length)? else { return Ok(Outcome::Native) };
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
    let (mut outside, through_door) = match tracer.aim(&found) {
        Aim::AsIs => return Ok(Outcome::Native),
        Aim::Path(path) => (path, false),
        Aim::Door(_, path) => ([b"/", path.as_slice()].concat(), true),
    };
    let mut close = None;
    let mut above = None;
    if through_door || outside.len() >= NAME_BYTES {
        let slash = outside.iter().rposition(|&byte| byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let last = outside[slash + 1..].to_vec();
        let directory = outside[..slash.max(1)].to_vec();
        outside = if through_door {
            above = Some(directory);
            last
        } else {
            // This very call becomes the opening of the directory; afterwards it is made again.
            let opened = tracer.open_for(task, registers, &directory)?;
            close = Some(opened);
            [format!("/proc/self/fd/{opened}/").as_bytes(), &last].concat()
        };
        if outside.len() >= NAME_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
    }
    let mut changed = address[..FAMILY_BYTES].to_vec();
    changed.extend_from_slice(&outside);
    changed.push(0);
    if bind {
        tracer.socket_names.insert(outside, name);
    }
    let lent = tracer.lend(task, registers, ADDRESS, &changed)?;
    match place {
        Place::Arguments(at, length) => {
            registers.set_argument(at, lent);
            registers.set_argument(length, changed.len() as u64);
        }
        Place::Message => {
            let mut message = [0; MESSAGE_BYTES];
            memory::read(task.id, registers.argument(1), &mut message)?;
            message[..8].copy_from_slice(&lent.to_ne_bytes());
            message[8..12].copy_from_slice(&(changed.len() as u32).to_ne_bytes());
            let message = tracer.lend(task, registers, ADDRESS + 2 * NAME_BYTES as u64, &message)?;
            registers.set_argument(1, message);
        }
    }
    if let Some(above) = above {
        tracer.call_from(task, registers, &above, &original)?;
        return Ok(Outcome::Native);
    }
    if close.is_some() {
        tracer.call_again(task, registers, Box::new(After { close, ..*After::restore(&original) }))?;
        return Ok(Outcome::Native);
    }
    Ok(Outcome::Rewritten(Box::new(After { close, ..*After::restore(&original) })))
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
