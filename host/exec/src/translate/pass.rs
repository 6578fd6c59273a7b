//! Passing an open file of the tracer to a task, as a descriptor: what the task's own Landlock domain would not let it open.
//!
//! There is no call for that, so the task is made to receive it from a socket that exists for a moment (unix(7),
//! SCM_RIGHTS). The socket has a name that the kernel chose, in no file system.

use rustix::{
    fd::{AsFd, OwnedFd},
    io::{Errno, IoSlice},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    },
};

use super::{memory, registers::Registers, tracee::Task, tracer::Tracer};

/// `struct sockaddr_un` of unix(7), rounded up; the family comes first.
const ADDRESS_BYTES: usize = 112;
const FAMILY_BYTES: usize = 2;

/// The pieces of memory that receiving needs, by offset: one byte of text, `struct iovec`, a control message with one
/// descriptor (cmsg(3)), `struct msghdr`.
const VECTOR: u64 = 16;
const CONTROL: u64 = 32;
const CONTROL_BYTES: usize = 24;
const CONTROL_DATA: usize = 16;
const MESSAGE: u64 = 64;
const MESSAGE_BYTES: usize = 56;

impl Tracer {
    /// Gives a task that is stopped at the entry of a call the lowest free descriptor, on `file`. It is at the end of that
    /// call afterwards, which has become another one; its registers are those of the last call.
    ///
    /// # Errors
    /// EMFILE and what else socket(2) and recvmsg(2) may answer, or ESRCH when the task is gone.
    pub fn pass(
        &mut self,
        task: &Task,
        registers: &Registers,
        file: &OwnedFd,
        close_on_exec: bool,
    ) -> Result<i32, Errno> {
        let mut making = registers.clone();
        making.set_number(libc::SYS_socket);
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        for (index, value) in [libc::AF_UNIX, kind, 0].into_iter().enumerate() {
            making.set_argument(index, value as u64);
        }
        making.write(task.id)?;
        let socket = self.run_to_end_of_call(task.id, true)?;
        if socket < 0 {
            return Err(Errno::from_raw_os_error(-socket as i32));
        }
        self.pass_by(task, registers, file, close_on_exec, socket as u64)
    }

    /// As [`Tracer::pass`], to a task that is at the end of a call already.
    ///
    /// # Errors
    /// As [`Tracer::pass`].
    pub fn pass_at_end(
        &mut self,
        task: &Task,
        registers: &Registers,
        file: &OwnedFd,
        close_on_exec: bool,
    ) -> Result<i32, Errno> {
        let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u64;
        let socket = self.call_in(task, registers, libc::SYS_socket, [libc::AF_UNIX as u64, kind, 0])?;
        self.pass_by(task, registers, file, close_on_exec, socket as u64)
    }

    /// Passes a file by a socket of the task, whose number becomes the file's.
    fn pass_by(
        &mut self,
        task: &Task,
        registers: &Registers,
        file: &OwnedFd,
        close_on_exec: bool,
        socket: u64,
    ) -> Result<i32, Errno> {
        let passed = self.pass_through(task, registers, file, close_on_exec, socket);
        if passed.is_err() {
            self.call_in(task, registers, libc::SYS_close, [socket, 0, 0])?;
        }
        passed.map(|()| socket as i32)
    }

    fn pass_through(
        &mut self,
        task: &Task,
        registers: &Registers,
        file: &OwnedFd,
        close_on_exec: bool,
        socket: u64,
    ) -> Result<(), Errno> {
        let family = self.lend(task, registers, 0, &(libc::AF_UNIX as u16).to_ne_bytes())?;
        self.call_in(task, registers, libc::SYS_bind, [socket, family, FAMILY_BYTES as u64])?;
        let address = self.lend(task, registers, 0, &[0; ADDRESS_BYTES])?;
        let length = self.lend(task, registers, ADDRESS_BYTES as u64, &(ADDRESS_BYTES as u32).to_ne_bytes())?;
        self.call_in(task, registers, libc::SYS_getsockname, [socket, address, length])?;
        let (mut told, mut bytes) = ([0; 4], [0; ADDRESS_BYTES]);
        memory::read(task.id, length, &mut told)?;
        memory::read(task.id, address, &mut bytes)?;
        // A family, a NUL, and a name.
        let name = bytes.get(FAMILY_BYTES + 1..u32::from_ne_bytes(told) as usize).ok_or(Errno::INVAL)?;
        send(name, file)?;

        let text = self.lend(task, registers, 0, &[0; 8])?;
        let vector = self.lend(task, registers, VECTOR, &[text, 1].map(u64::to_ne_bytes).concat())?;
        let control = self.lend(task, registers, CONTROL, &[0; CONTROL_BYTES])?;
        let message = [0, 0, vector, 1, control, CONTROL_BYTES as u64, 0].map(u64::to_ne_bytes).concat();
        debug_assert_eq!(message.len(), MESSAGE_BYTES);
        let message = self.lend(task, registers, MESSAGE, &message)?;
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
        self.call_in(task, registers, libc::SYS_recvmsg, [socket, message, flags as u64])?;
        let mut number = [0; 4];
        memory::read(task.id, control + CONTROL_DATA as u64, &mut number)?;
        let received = u64::from(u32::from_ne_bytes(number));
        let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
        self.call_in(task, registers, libc::SYS_dup3, [received, socket, flags as u64])?;
        self.call_in(task, registers, libc::SYS_close, [received, 0, 0])?;
        Ok(())
    }

    /// Lets a task that is at the end of a call make another one.
    ///
    /// # Errors
    /// As [`Tracer::inject`].
    pub fn call_in(
        &mut self,
        task: &Task,
        registers: &Registers,
        number: i64,
        [first, second, third]: [u64; 3],
    ) -> Result<i64, Errno> {
        self.inject(task.id, registers, registers.call_instruction(), number, [first, second, third, 0, 0, 0])
    }
}

/// Sends a descriptor to the socket with a name in no file system.
fn send(name: &[u8], file: &OwnedFd) -> Result<(), Errno> {
    let address = SocketAddrUnix::new_abstract_name(name)?;
    let from = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let files = [file.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    rustix::net::sendmsg_addr(&from, &address, &[IoSlice::new(b"x")], &mut control, SendFlags::DONTWAIT).map(drop)
}
