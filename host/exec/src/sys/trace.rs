//! ptrace, the memory of traced processes, and what else the translator needs of the system without a safe wrapper.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::{io::Errno, process::Pid};

/// The general registers of a stopped task.
pub type RawRegisters = libc::user_regs_struct;

/// How a stopped task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Until the next event.
    Continue,
    /// Until the next event, the end of a system call being one.
    ToExit,
    /// Stays stopped, as job control wants it, until a signal wakes it.
    Listen,
}

/// What a task that is waited for reports, raw as waitpid(2) has it.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    /// Which task.
    pub task: Pid,
    /// Its status.
    pub status: i32,
}

/// Makes this process the tracer of `task`, which is told of forks, clones, execs and filtered calls, and dies with the
/// tracer.
pub fn seize(task: Pid) -> Result<(), Errno> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_EXITKILL;
    // SAFETY: numbers only; a task that is gone gives ESRCH.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, raw(task), 0_usize, options as usize) }).map(drop)
}

/// Lets a stopped task go on, with a signal if `signal` is not 0.
pub fn resume(task: Pid, how: Resume, signal: i32) -> Result<(), Errno> {
    let request = match how {
        Resume::Continue => libc::PTRACE_CONT,
        Resume::ToExit => libc::PTRACE_SYSCALL,
        Resume::Listen => libc::PTRACE_LISTEN,
    };
    // SAFETY: numbers only.
    check(unsafe { libc::ptrace(request, raw(task), 0_usize, signal as usize) }).map(drop)
}

/// Makes a task stop at once when it goes on, with the signal of the stop that its process is in, or else with SIGTRAP.
pub fn interrupt(task: Pid) -> Result<(), Errno> {
    // SAFETY: numbers only.
    check(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, raw(task), 0_usize, 0_usize) }).map(drop)
}

/// Reads the registers of a stopped task.
pub fn registers(task: Pid) -> Result<RawRegisters, Errno> {
    let mut registers = std::mem::MaybeUninit::<RawRegisters>::zeroed();
    let mut vector = libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size_of::<RawRegisters>() };
    // SAFETY: the kernel writes at most `iov_len` bytes to `registers`, which is alive and all zeroes (a valid value) before.
    unsafe {
        check(libc::ptrace(
            libc::PTRACE_GETREGSET,
            raw(task),
            libc::NT_PRSTATUS as usize,
            ptr::from_mut(&mut vector) as usize,
        ))?;
        Ok(registers.assume_init())
    }
}

/// Writes the registers of a stopped task.
pub fn set_registers(task: Pid, registers: &RawRegisters) -> Result<(), Errno> {
    let mut vector =
        libc::iovec { iov_base: ptr::from_ref(registers).cast_mut().cast(), iov_len: size_of::<RawRegisters>() };
    // SAFETY: the kernel only reads `iov_len` bytes from `registers`, which is alive over the call.
    let result = unsafe {
        libc::ptrace(libc::PTRACE_SETREGSET, raw(task), libc::NT_PRSTATUS as usize, ptr::from_mut(&mut vector) as usize)
    };
    check(result).map(drop)
}

/// The number that belongs to an event: a new task, or the old number of a task that called exec.
pub fn event_message(task: Pid) -> Result<u64, Errno> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one `unsigned long` to `message`.
    check(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, raw(task), 0_usize, ptr::from_mut(&mut message) as usize) })?;
    Ok(message)
}

/// Whose call a filter has answered with the signal SIGSYS that a task is stopped before (`AUDIT_ARCH_*` of linux/audit.h);
/// `None` if the signal has another cause.
pub fn architecture_of_trapped_call(task: Pid) -> Result<Option<u32>, Errno> {
    const SYS_SECCOMP: libc::c_int = 1;
    /// Words of `siginfo_t`: the code, and behind the address and the number of the call its architecture.
    const CODE: usize = 2;
    const ARCHITECTURE: usize = 7;
    let mut information = [0_i32; size_of::<libc::siginfo_t>() / size_of::<i32>()];
    // SAFETY: the kernel writes one `siginfo_t` to `information`, which is as large.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, raw(task), 0_usize, information.as_mut_ptr() as usize) })?;
    Ok((information[CODE] == SYS_SECCOMP).then_some(information[ARCHITECTURE] as u32))
}

/// Replaces the signal mask of a stopped task, and returns the old one.
pub fn exchange_signal_mask(task: Pid, mask: u64) -> Result<u64, Errno> {
    const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
    const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
    let mut old = 0_u64;
    // SAFETY: both requests transfer the 8 bytes that their address argument says, to and from live variables.
    unsafe {
        check(libc::ptrace(PTRACE_GETSIGMASK, raw(task), 8_usize, ptr::from_mut(&mut old) as usize))?;
        check(libc::ptrace(PTRACE_SETSIGMASK, raw(task), 8_usize, ptr::from_ref(&mask) as usize))?;
    }
    Ok(old)
}

/// Waits for any traced task or child.
pub fn wait_any() -> Result<Waited, Errno> {
    wait(-1)
}

/// Waits for one traced task.
pub fn wait_for(task: Pid) -> Result<Waited, Errno> {
    wait(raw(task))
}

fn wait(which: libc::pid_t) -> Result<Waited, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one `int` to `status`.
        match check(unsafe { libc::waitpid(which, &mut status, libc::__WALL) }.into()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(task) => {
                let task = Pid::from_raw(task as i32).ok_or(Errno::CHILD)?;
                return Ok(Waited { task, status });
            }
        }
    }
}

/// Copies memory out of a traced process; returns how many bytes there were.
pub fn read_memory(task: Pid, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
    // SAFETY: the kernel writes at most `into.len()` bytes to `into`; the remote address belongs to the other process and is
    // checked by the kernel there.
    check(unsafe { libc::process_vm_readv(raw(task), &local, 1, &remote, 1, 0) } as i64).map(|count| count as usize)
}

/// Copies memory into a traced process; returns how many bytes it took.
pub fn write_memory(task: Pid, address: u64, from: &[u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: from.len() };
    // SAFETY: the kernel only reads `from`; the remote address is checked in the other process.
    check(unsafe { libc::process_vm_writev(raw(task), &local, 1, &remote, 1, 0) } as i64).map(|count| count as usize)
}

/// Writes words to the memory of a stopped task, also where it can't write itself: what is private becomes a copy.
pub fn poke(task: Pid, address: u64, words: &[u64]) -> Result<(), Errno> {
    for (at, word) in (address..).step_by(8).zip(words) {
        // SAFETY: the address belongs to the other process and is checked by the kernel there; the word is a value.
        check(unsafe { libc::ptrace(libc::PTRACE_POKEDATA, raw(task), at as usize, *word as usize) })?;
    }
    Ok(())
}

/// Promises the kernel that this process and its descendants never gain privileges by exec.
pub fn set_no_new_privileges() -> Result<(), Errno> {
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// Makes orphaned descendants children of this process.
pub fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.into()).map(drop)
}

/// Sends a signal to a whole process, or only to one of its threads.
pub fn kill(process: Pid, thread: Option<Pid>, signal: i32) -> Result<(), Errno> {
    // SAFETY: numbers only.
    let result = unsafe {
        match thread {
            Some(thread) => libc::syscall(libc::SYS_tgkill, raw(process), raw(thread), signal),
            None => libc::kill(raw(process), signal).into(),
        }
    };
    check(result).map(drop)
}

/// The number of the terminal to which this is the first end (ioctl_tty(2), TIOCGPTN).
pub fn terminal_number(master: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the kernel writes one `unsigned int` to `number`.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &mut number) }.into())?;
    Ok(number)
}

/// The other end of a terminal, open for its path only: nobody is on it because of that (ioctl_tty(2), TIOCGPTPEER).
pub fn terminal_of(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: numbers only; the descriptor that comes back belongs to nobody else.
    unsafe {
        let file = check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags).into())?;
        Ok(OwnedFd::from_raw_fd(file as i32))
    }
}

fn raw(task: Pid) -> libc::pid_t {
    task.as_raw_nonzero().get()
}

fn check(result: libc::c_long) -> Result<i64, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
