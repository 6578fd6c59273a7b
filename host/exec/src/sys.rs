//! The system calls that have no safe wrapper, each behind a safe function: the only unsafe code of the crate.
//!
//! Everything here but the constants is called from processes with one thread (the stage process, or `main` before any
//! thread exists), which is what makes `fork` sound in a program that allocates.

#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::process::Pid;

#[cfg(target_arch = "x86_64")]
pub mod trace;

/// Which side of a [`fork`] this is.
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the child's id.
    Parent(Pid),
}

/// Whether this process has exactly one thread.
pub fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Duplicates the process.
///
/// # Errors
/// There is more than one thread (a lock may be held by one that does not exist in the child), or the system refuses.
pub fn fork() -> io::Result<Fork> {
    if !is_single_threaded() {
        return Err(io::Error::other("more than one thread is running"));
    }
    // SAFETY: the check above shows that no other thread exists, so the child's copy of memory is consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(pid).expect("fork returns a positive id"))),
    }
}

/// Ends this process without running destructors or exit handlers, which belong to the process that was forked.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Replaces the program. Returns only on failure.
pub fn execve(program: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: the three pointers are NUL-terminated strings and null-terminated arrays of such, alive over the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// What to do with the descriptors that are not wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Close them now. Only at the start of a process, when nothing owns a descriptor yet.
    Now,
    /// Close them at the next exec.
    OnExec,
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32, how: Close) -> io::Result<()> {
    let flags = if how == Close::OnExec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: numbers only. With `Now` the caller promises that no descriptor from `first` on has an owner.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) } == 0 {
        return Ok(());
    }
    // Kernels before 5.9, or a filter that does not know the call.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd: &RawFd| fd >= first as RawFd)
        .collect();
    for fd in open {
        // SAFETY: as above; a number that is closed already gives EBADF, which is harmless.
        unsafe {
            match how {
                Close::Now => libc::close(fd),
                Close::OnExec => libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC),
            };
        }
    }
    Ok(())
}

/// Keeps what is open on `file` open under another number, through every exec. Nobody may own that number.
pub fn keep_open_as(file: &OwnedFd, number: RawFd) -> Result<(), rustix::io::Errno> {
    // SAFETY: the caller promises that the number has no owner, and this process is about to become another program.
    match unsafe { libc::dup2(file.as_raw_fd(), number) } {
        -1 => Err(rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)),
        _ => Ok(()),
    }
}

/// Takes descriptor 0 out of the hands of the standard library: what the launcher put there is the control socket.
pub fn take_stdin() -> OwnedFd {
    // SAFETY: called once, at the start of the stage process, which never reads standard input as such. The number is
    // moved away, and /dev/null takes its place.
    unsafe {
        let moved = libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3);
        assert!(moved >= 3, "standard input is open");
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if null > 0 {
            libc::dup2(null, 0);
            libc::close(null);
        }
        OwnedFd::from_raw_fd(moved)
    }
}

/// Gives every signal its default effect and blocks none, as a program expects to find them.
pub fn reset_signals() {
    // SAFETY: no handler of ours exists in this process; the set is initialised by `sigemptyset` before its use.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// Mount attributes of mount_setattr(2).
pub const ATTR_READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// No setuid programs.
pub const ATTR_NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// No device nodes.
pub const ATTR_NO_DEV: u64 = libc::MOUNT_ATTR_NODEV;
/// No programs.
pub const ATTR_NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Sets `attributes` on the mount that `mount` stands for, and on all below it if `recursive`. Needs Linux 5.12.
pub fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated string, and `attr` is alive and as long as its size says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &attr as *const libc::mount_attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One instruction of a classic BPF program.
pub type Instruction = libc::sock_filter;

/// Puts a system call filter on this process and all its descendants. Needs CAP_SYS_ADMIN or no_new_privs.
pub fn install_filter(program: &mut [Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::other("the filter is too long"))?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: `program` points at `len` instructions that are alive over the call.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program as *const libc::sock_fprog)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel has system call filters.
pub fn has_seccomp() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the pointer is to a `u32`, which is what SECCOMP_GET_ACTION_AVAIL reads.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &action as *const u32) == 0 }
}

/// The version of Landlock that the kernel offers; 0 for none.
pub fn landlock_abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes a null pointer and the size 0, and returns the version.
    let version = unsafe {
        let nothing = ptr::null::<libc::c_void>();
        libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, LANDLOCK_CREATE_RULESET_VERSION)
    };
    u32::try_from(version).unwrap_or(0)
}

/// Leaves the session keyring of the builder for a new, empty one.
pub fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Turns the loopback interface of a new network namespace on.
pub fn bring_loopback_up() -> io::Result<()> {
    // SAFETY: `request` is a zeroed structure of the kernel's layout whose name is NUL-terminated; the socket is owned.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Leaves the user (and mount) namespace for a new one. The process must have one thread.
pub fn unshare(flags: rustix::thread::UnshareFlags) -> io::Result<()> {
    // SAFETY: descriptor tables are not unshared here, which is what can break the ownership of descriptors.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}
