//! Unix sockets that have names in the file system.

use rustix::{fd::AsFd, io::Errno, process::Pid};

use super::check_writable;
use crate::translate::{
    access,
    calls::Outcome,
    footing::Aim,
    identity::Identity,
    memory,
    registers::Registers,
    resolve::Start,
    tracee::{After, SLOT_BYTES, Task},
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

/// Where in the scratch memory a message with other control data is put, and that data: behind addresses.
const MESSAGE_OFFSET: u64 = ADDRESS + 1024;
const CONTROL_OFFSET: u64 = ADDRESS + 2048;

/// sendmsg(2).
pub fn sendmsg(tracer: &mut Tracer, task: &mut Task, registers: &mut Registers) -> Result<Outcome, Errno> {
    let original = registers.clone();
    let message = registers.argument(1);
    let control = with_own_ids(task, message)?;
    let changed = control.is_some();
    if let Some(control) = control {
        let control = tracer.lend(task, registers, CONTROL_OFFSET, &control)?;
        let mut bytes = [0; MESSAGE_BYTES];
        memory::read(task.id, message, &mut bytes)?;
        bytes[CONTROL as usize..][..8].copy_from_slice(&control.to_ne_bytes());
        let message = tracer.lend(task, registers, MESSAGE_OFFSET, &bytes)?;
        registers.set_argument(1, message);
    }
    Ok(match with_address(tracer, task, registers, Place::Message, false)? {
        Outcome::Native if changed && task.passthrough.is_none() => Outcome::Rewritten(After::restore(&original)),
        Outcome::Rewritten(after) => Outcome::Rewritten(Box::new(After { original, ..*after })),
        outcome => {
            if let Some(after) = &mut task.passthrough {
                after.original = original;
            }
            outcome
        }
    })
}

/// The control data of a message in which the task names itself as the sender (unix(7), SCM_CREDENTIALS): with the ids that
/// the kernel has for it. Whoever gets the message is told those that the task has.
///
/// # Errors
/// EPERM: it names somebody else.
fn with_own_ids(task: &Task, message: u64) -> Result<Option<Vec<u8>>, Errno> {
    let Some(mut control) = control_data(task, message)? else { return Ok(None) };
    if control.len() as u64 > SLOT_BYTES - CONTROL_OFFSET {
        return Ok(None);
    }
    let places = credentials_in(&control);
    for &place in &places {
        let word = |at: usize| {
            let bytes = &control[place + at..place + at + 4];
            u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
        };
        let sender = Sender { user: word(4), group: word(8) };
        if word(0) != task.process.as_raw_nonzero().get() as u32 || sender != Sender::of(&task.identity) {
            return Err(Errno::PERM);
        }
        let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        control[place + 4..place + 8].copy_from_slice(&user.to_ne_bytes());
        control[place + 8..place + 12].copy_from_slice(&group.to_ne_bytes());
    }
    Ok((!places.is_empty()).then_some(control))
}

/// The control data of a message, if it has any.
fn control_data(task: &Task, message: u64) -> Result<Option<Vec<u8>>, Errno> {
    let control = memory::read_u64(task.id, message + CONTROL)?;
    let length = memory::read_u64(task.id, message + CONTROL_LENGTH)? as usize;
    if control == 0 || !(CONTROL_HEADER_BYTES..=CONTROL_LIMIT_BYTES).contains(&length) {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    memory::read(task.id, control, &mut bytes)?;
    Ok(Some(bytes))
}

/// Where in control data there are ids of a sender: each a `struct ucred`.
fn credentials_in(control: &[u8]) -> Vec<usize> {
    let (mut places, mut at) = (Vec::new(), 0);
    while let Some(header) = control.get(at..at + CONTROL_HEADER_BYTES) {
        let word = |from: usize| i32::from_ne_bytes(header[from..from + 4].try_into().expect("four bytes"));
        let (length, kind) = (word(0) as u32 as usize, (word(8), word(12)));
        let data = at + CONTROL_HEADER_BYTES;
        let whole = length == CONTROL_HEADER_BYTES + CREDENTIALS_BYTES && control.len() >= data + CREDENTIALS_BYTES;
        if kind == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) && whole {
            places.push(data);
        }
        if length < CONTROL_HEADER_BYTES {
            break;
        }
        at += length.next_multiple_of(size_of::<usize>());
    }
    places
}

/// `struct mmsghdr`: a message, and how much of it was sent or received.
const ENTRY_BYTES: u64 = 64;

/// More messages than the kernel takes in one call (UIO_MAXIOV).
const ENTRIES_LIMIT: u64 = 1024;

/// sendmmsg(2): where a name in the file system comes first, the call sends that one message and says so; those who send more
/// go on with the next.
pub fn sendmmsg(tracer: &mut Tracer, task: &mut Task, registers: &mut Registers) -> Result<Outcome, Errno> {
    let entries = registers.argument(1);
    for number in 0..registers.argument(2).min(ENTRIES_LIMIT) {
        let (place, length) = message_address(task, entries + number * ENTRY_BYTES)?;
        if named(task, place, length)?.is_none() {
            continue;
        }
        let original = registers.clone();
        if number > 0 {
            // As far as the kernel's own work goes.
            registers.set_argument(2, number);
            return Ok(Outcome::Rewritten(After::restore(&original)));
        }
        registers.set_number(libc::SYS_sendmsg);
        registers.set_argument(2, registers.argument(3));
        let told = Some(Told::Sent { entry: entries });
        return Ok(match with_address(tracer, task, registers, Place::Message, false)? {
            Outcome::Rewritten(after) => Outcome::Rewritten(Box::new(After { original, told, ..*after })),
            outcome => {
                // The directory was opened on the way: the call is yet to be made.
                if let Some(after) = &mut task.passthrough {
                    (after.original, after.told) = (original, told);
                }
                outcome
            }
        });
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

/// What a call tells of sockets and their owners, to be put right at its end.
pub enum Told {
    /// An address, in an argument each: where it is, where its length is, and how much room there was.
    Address {
        /// Where.
        place: u64,
        /// Where the length is.
        length: u64,
        /// Bytes.
        room: usize,
    },
    /// A message: where it is, and how much room for the name there was.
    Message {
        /// Where.
        message: u64,
        /// Bytes.
        room: usize,
    },
    /// Several, as far as they came.
    Messages {
        /// Where the first is, and the room for the name in each.
        entries: u64,
        /// Bytes.
        rooms: Vec<usize>,
    },
    /// One message of several was sent.
    Sent {
        /// Where.
        entry: u64,
    },
    /// Who is at the other end: a `struct ucred` (unix(7), SO_PEERCRED).
    Peer {
        /// Where.
        place: u64,
        /// Where the length is.
        length: u64,
    },
}

/// Who a process is for those who get messages from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    user: u32,
    group: u32,
}

impl Sender {
    /// Of a task.
    pub fn of(who: &Identity) -> Self {
        Self { user: who.user.effective, group: who.group.effective }
    }
}

/// getsockname(2), getpeername(2), accept(2), accept4(2), recvfrom(2): the name is the one that was bound.
pub fn with_name(
    tracer: &Tracer,
    task: &Task,
    registers: &Registers,
    [place, length]: [usize; 2],
) -> Result<Outcome, Errno> {
    let (place, length) = (registers.argument(place), registers.argument(length));
    if tracer.socket_names.is_empty() || place == 0 || length == 0 {
        return Ok(Outcome::Native);
    }
    let Some(room) = room(task, length)? else { return Ok(Outcome::Native) };
    Ok(told(registers, Told::Address { place, length, room }))
}

/// recvmsg(2): likewise, and who the sender is, where that is told.
pub fn recvmsg(task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let message = registers.argument(1);
    match room_in_message(task, message)? {
        Some(room) => Ok(told(registers, Told::Message { message, room })),
        None => Ok(Outcome::Native),
    }
}

/// recvmmsg(2).
pub fn recvmmsg(task: &Task, registers: &Registers) -> Result<Outcome, Errno> {
    let entries = registers.argument(1);
    let rooms = (0..registers.argument(2).min(ENTRIES_LIMIT)).map(|number| {
        let room = room_in_message(task, entries + number * ENTRY_BYTES)?;
        Ok(room.unwrap_or(0))
    });
    Ok(told(registers, Told::Messages { entries, rooms: rooms.collect::<Result<_, Errno>>()? }))
}

fn told(registers: &Registers, told: Told) -> Outcome {
    Outcome::Rewritten(Box::new(After { told: Some(told), ..*After::restore(registers) }))
}

fn room(task: &Task, length: u64) -> Result<Option<usize>, Errno> {
    let mut room = [0; 4];
    memory::read(task.id, length, &mut room)?;
    Ok(usize::try_from(i32::from_ne_bytes(room)).ok())
}

/// How much room for a name a message has; `None` if neither that nor anything about the sender can be told.
fn room_in_message(task: &Task, message: u64) -> Result<Option<usize>, Errno> {
    let (place, length) = message_address(task, message)?;
    let control = memory::read_u64(task.id, message + CONTROL)?;
    Ok((place != 0 || control != 0).then_some(if place == 0 { 0 } else { length }))
}

/// Members of `struct msghdr` behind the name: in bytes from its beginning.
const NAME_LENGTH: u64 = 8;
const CONTROL: u64 = 32;
const CONTROL_LENGTH: u64 = 40;

/// `struct cmsghdr` (cmsg(3)) has a length, a level and a type.
const CONTROL_HEADER_BYTES: usize = 16;

/// `struct ucred`: process, user, group.
const CREDENTIALS_BYTES: usize = 12;

/// More control data than the kernel ever gives.
const CONTROL_LIMIT_BYTES: usize = 1 << 16;

impl Told {
    /// Puts right what the kernel told at the end of a call that succeeded.
    ///
    /// # Errors
    /// EFAULT.
    pub fn correct(self, tracer: &Tracer, task: &Task, registers: &mut Registers) -> Result<(), Errno> {
        match self {
            Self::Address { place, length, room } => tracer.name_socket(task, place, length, room),
            Self::Message { message, room } => tracer.correct_message(task, message, room),
            Self::Messages { entries, rooms } => {
                for (number, room) in (0..).zip(rooms).take(registers.result() as usize) {
                    tracer.correct_message(task, entries + number * ENTRY_BYTES, room)?;
                }
                Ok(())
            }
            Self::Sent { entry } => {
                let sent = registers.result() as u32;
                registers.set_result(1);
                memory::write(task.id, entry + MESSAGE_BYTES as u64, &sent.to_ne_bytes())
            }
            Self::Peer { place, length } => {
                let told = room(task, length)?.unwrap_or(0);
                let mut credentials = [0; CREDENTIALS_BYTES];
                let told = &mut credentials[..told.min(CREDENTIALS_BYTES)];
                memory::read(task.id, place, told)?;
                let told = told.len();
                tracer.correct_credentials(task, &mut credentials);
                memory::write(task.id, place, &credentials[..told])
            }
        }
    }
}

impl Tracer {
    /// Puts the name that a program gave a socket in place of the machine's, as far as there is room.
    fn name_socket(&self, task: &Task, place: u64, length: u64, room: usize) -> Result<(), Errno> {
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

    fn correct_message(&self, task: &Task, message: u64, room: usize) -> Result<(), Errno> {
        let place = memory::read_u64(task.id, message)?;
        if room > 0 && place != 0 && !self.socket_names.is_empty() {
            self.name_socket(task, place, message + NAME_LENGTH, room)?;
        }
        let Some(control) = control_data(task, message)? else { return Ok(()) };
        let start = memory::read_u64(task.id, message + CONTROL)?;
        for place in credentials_in(&control) {
            let mut credentials = [0; CREDENTIALS_BYTES];
            credentials.copy_from_slice(&control[place..place + CREDENTIALS_BYTES]);
            self.correct_credentials(task, &mut credentials);
            memory::write(task.id, start + place as u64, &credentials)?;
        }
        Ok(())
    }

    /// Replaces the ids of a `struct ucred` by those that the process has for the command: as it is now, or was when it
    /// ended.
    fn correct_credentials(&self, task: &Task, credentials: &mut [u8]) {
        let (process, ids) = credentials.split_at_mut(4);
        let process = Pid::from_raw(i32::from_ne_bytes(process.try_into().expect("four bytes")));
        // Of a socket without another end.
        let Some(process) = process else { return };
        let sender = if process == task.process {
            Some(Sender::of(&task.identity))
        } else {
            let known = self.tasks.get(&process).map(|task| Sender::of(&task.identity));
            known.or_else(|| Some(self.ended.iter().rfind(|(ended, _)| *ended == process)?.1))
        };
        let Sender { user, group } = sender.unwrap_or(NOBODY);
        ids[..4].copy_from_slice(&user.to_ne_bytes());
        ids[4..].copy_from_slice(&group.to_ne_bytes());
    }
}

/// Of a process that nobody remembers.
const NOBODY: Sender = Sender { user: 65534, group: 65534 };

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
    if bind && (close.is_some() || above.is_some()) {
        // Other sockets of that name in other directories, which the kernel has under the same path: this one gets another.
        let before_name = outside.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        while outside.len() + 2 < NAME_BYTES && tracer.socket_names.get(&outside).is_some_and(|given| *given != name) {
            outside.splice(before_name..before_name, *b"./");
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

/// getsockopt(2): who is at the other end is who the command thinks it is.
pub fn getsockopt(registers: &Registers) -> Outcome {
    let asked = (registers.argument(1) as i32, registers.argument(2) as i32);
    if asked != (libc::SOL_SOCKET, libc::SO_PEERCRED) {
        return Outcome::Native;
    }
    told(registers, Told::Peer { place: registers.argument(3), length: registers.argument(4) })
}
