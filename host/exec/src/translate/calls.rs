//! The table: which call is carried out by which handler, and which is refused.
//!
//! A handler reads the arguments, and either does the whole call itself (and says what it gives), or changes paths into
//! those of this machine and lets the kernel go on, or has nothing to change.

use rustix::io::Errno;

use super::{
    bounded::{self, Written},
    filter::{Answer, Stopped},
    handlers::{attributes, directory, door, exec, identity, look, misc, names, open, socket, socket::Place, xattr},
    locks,
    registers::Registers,
    resolve::Start,
    tracee::{After, Task},
    tracer::Tracer,
};

/// The highest number that is known (Linux 6.12, mseal); calls beyond answer ENOSYS.
pub const HIGHEST: i64 = 462;

/// What becomes of a call.
pub enum Outcome {
    /// It was carried out: this is its result.
    Return(i64),
    /// The kernel carries it out as it is.
    Native,
    /// The kernel carries it out with changed registers, which are put back at its end.
    Rewritten(Box<After>),
}

/// Carries out one call.
pub type Handler = fn(&mut Tracer, &mut Task, &mut Registers) -> Result<Outcome, Errno>;

const HERE: u64 = libc::AT_FDCWD as u32 as u64;
const ADDRESS: Place = Place::Arguments(1, 2);
/// What creat(2) opens with.
const CREATED: u64 = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64;
const NO_FOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;

fn here() -> Start {
    Start::Here
}

fn at(argument: u64) -> Start {
    Start::from_argument(argument)
}

/// Every call that the tracer is asked about.
static HANDLED: &[(i64, Handler)] = &[
    // Opening.
    (libc::SYS_open, |t, k, r| open::open(t, k, r, r.argument(1), r.argument(2))),
    (libc::SYS_creat, |t, k, r| open::open(t, k, r, CREATED, r.argument(1))),
    (libc::SYS_openat, |t, k, r| open::openat(t, k, r)),
    (libc::SYS_openat2, |t, k, r| open::openat2(t, k, r)),
    (libc::SYS_truncate, |t, k, r| open::truncate(t, k, r)),
    (libc::SYS_statfs, |t, k, r| misc::with_path(t, k, r, 0)),
    (libc::SYS_inotify_add_watch, |t, k, r| misc::inotify_add_watch(t, k, r)),
    // Looking.
    (libc::SYS_stat, |t, k, r| look::stat(t, k, here(), r.argument(0), r.argument(1), 0)),
    (libc::SYS_lstat, |t, k, r| look::stat(t, k, here(), r.argument(0), r.argument(1), NO_FOLLOW)),
    (libc::SYS_newfstatat, |t, k, r| look::stat(t, k, at(r.argument(0)), r.argument(1), r.argument(2), r.argument(3))),
    (libc::SYS_fstat, |t, k, r| look::fstat(t, k, r.argument(0), r.argument(1))),
    (libc::SYS_statx, |t, k, r| look::statx(t, k, r)),
    (libc::SYS_access, |t, k, r| look::access(t, k, here(), r.argument(0), r.argument(1), 0)),
    (libc::SYS_faccessat, |t, k, r| look::access(t, k, at(r.argument(0)), r.argument(1), r.argument(2), 0)),
    (libc::SYS_faccessat2, |t, k, r| {
        look::access(t, k, at(r.argument(0)), r.argument(1), r.argument(2), r.argument(3))
    }),
    (libc::SYS_readlink, |t, k, r| look::readlink(t, k, here(), r.argument(0), r.argument(1), r.argument(2))),
    (libc::SYS_readlinkat, |t, k, r| {
        look::readlink(t, k, at(r.argument(0)), r.argument(1), r.argument(2), r.argument(3))
    }),
    // Names.
    (libc::SYS_mkdir, |t, k, r| names::mkdir(t, k, here(), r.argument(0), r.argument(1))),
    (libc::SYS_mkdirat, |t, k, r| names::mkdir(t, k, at(r.argument(0)), r.argument(1), r.argument(2))),
    (libc::SYS_mknod, |t, k, r| names::mknod(t, k, here(), r.argument(0), r.argument(1), r.argument(2))),
    (libc::SYS_mknodat, |t, k, r| names::mknod(t, k, at(r.argument(0)), r.argument(1), r.argument(2), r.argument(3))),
    (libc::SYS_rmdir, |t, k, r| names::unlink(t, k, here(), r.argument(0), libc::AT_REMOVEDIR as u64)),
    (libc::SYS_unlink, |t, k, r| names::unlink(t, k, here(), r.argument(0), 0)),
    (libc::SYS_unlinkat, |t, k, r| names::unlink(t, k, at(r.argument(0)), r.argument(1), r.argument(2))),
    (libc::SYS_rename, |t, k, r| names::rename(t, k, [HERE, r.argument(0), HERE, r.argument(1)], 0)),
    (libc::SYS_renameat, |t, k, r| {
        names::rename(t, k, [r.argument(0), r.argument(1), r.argument(2), r.argument(3)], 0)
    }),
    (libc::SYS_renameat2, |t, k, r| {
        names::rename(t, k, [r.argument(0), r.argument(1), r.argument(2), r.argument(3)], r.argument(4))
    }),
    (libc::SYS_link, |t, k, r| names::link(t, k, [HERE, r.argument(0), HERE, r.argument(1)], 0)),
    (libc::SYS_linkat, |t, k, r| {
        names::link(t, k, [r.argument(0), r.argument(1), r.argument(2), r.argument(3)], r.argument(4))
    }),
    (libc::SYS_symlink, |t, k, r| names::symlink(t, k, r.argument(0), here(), r.argument(1))),
    (libc::SYS_symlinkat, |t, k, r| names::symlink(t, k, r.argument(0), at(r.argument(1)), r.argument(2))),
    // Attributes.
    (libc::SYS_chmod, |t, k, r| attributes::chmod(t, k, here(), r.argument(0), r.argument(1), 0)),
    (libc::SYS_fchmodat, |t, k, r| attributes::chmod(t, k, at(r.argument(0)), r.argument(1), r.argument(2), 0)),
    (libc::SYS_fchmodat2, |t, k, r| {
        attributes::chmod(t, k, at(r.argument(0)), r.argument(1), r.argument(2), r.argument(3))
    }),
    (libc::SYS_fchmod, |t, k, r| attributes::fchmod(t, k, r.argument(0), r.argument(1))),
    (libc::SYS_chown, |t, k, r| attributes::chown(t, k, here(), r.argument(0), r.argument(1), r.argument(2), 0)),
    (libc::SYS_lchown, |t, k, r| {
        attributes::chown(t, k, here(), r.argument(0), r.argument(1), r.argument(2), NO_FOLLOW)
    }),
    (libc::SYS_fchownat, |t, k, r| {
        attributes::chown(t, k, at(r.argument(0)), r.argument(1), r.argument(2), r.argument(3), r.argument(4))
    }),
    (libc::SYS_fchown, |t, k, r| attributes::fchown(t, k, r.argument(0), r.argument(1), r.argument(2))),
    (libc::SYS_utime, |t, k, r| attributes::utime(t, k, r)),
    (libc::SYS_utimes, |t, k, r| attributes::utimes(t, k, here(), r.argument(0), r.argument(1))),
    (libc::SYS_futimesat, |t, k, r| attributes::utimes(t, k, at(r.argument(0)), r.argument(1), r.argument(2))),
    (libc::SYS_utimensat, |t, k, r| attributes::utimensat(t, k, r)),
    (libc::SYS_setxattr, |t, k, r| xattr::set(t, k, r, xattr::Which::Path { follow: true })),
    (libc::SYS_lsetxattr, |t, k, r| xattr::set(t, k, r, xattr::Which::Path { follow: false })),
    (libc::SYS_fsetxattr, |t, k, r| xattr::set(t, k, r, xattr::Which::Descriptor)),
    (libc::SYS_getxattr, |t, k, r| xattr::get(t, k, r, xattr::Which::Path { follow: true })),
    (libc::SYS_lgetxattr, |t, k, r| xattr::get(t, k, r, xattr::Which::Path { follow: false })),
    (libc::SYS_fgetxattr, |t, k, r| xattr::get(t, k, r, xattr::Which::Descriptor)),
    (libc::SYS_listxattr, |t, k, r| xattr::list(t, k, r, xattr::Which::Path { follow: true })),
    (libc::SYS_llistxattr, |t, k, r| xattr::list(t, k, r, xattr::Which::Path { follow: false })),
    (libc::SYS_flistxattr, |t, k, r| xattr::list(t, k, r, xattr::Which::Descriptor)),
    (libc::SYS_removexattr, |t, k, r| xattr::remove(t, k, r, xattr::Which::Path { follow: true })),
    (libc::SYS_lremovexattr, |t, k, r| xattr::remove(t, k, r, xattr::Which::Path { follow: false })),
    (libc::SYS_fremovexattr, |t, k, r| xattr::remove(t, k, r, xattr::Which::Descriptor)),
    // Directories.
    (libc::SYS_chdir, |t, k, r| directory::chdir(t, k, r)),
    (libc::SYS_fchdir, |t, k, r| directory::fchdir(t, k, r)),
    (libc::SYS_getcwd, |t, k, r| directory::getcwd(t, k, r)),
    (libc::SYS_chroot, |t, k, r| directory::chroot(t, k, r)),
    (libc::SYS_umask, |_, k, r| directory::umask(k, r)),
    // Programs.
    (libc::SYS_execve, |t, k, r| exec::execve(t, k, r)),
    (libc::SYS_execveat, |t, k, r| exec::execveat(t, k, r)),
    // Unix sockets.
    (libc::SYS_bind, |t, k, r| socket::with_address(t, k, r, ADDRESS, true)),
    (libc::SYS_connect, |t, k, r| socket::with_address(t, k, r, ADDRESS, false)),
    (libc::SYS_sendto, |t, k, r| socket::with_address(t, k, r, Place::Arguments(4, 5), false)),
    (libc::SYS_sendmsg, |t, k, r| socket::sendmsg(t, k, r)),
    (libc::SYS_sendmmsg, |t, k, r| socket::sendmmsg(t, k, r)),
    (libc::SYS_getsockname, |t, k, r| socket::with_name(t, k, r, [1, 2])),
    (libc::SYS_getpeername, |t, k, r| socket::with_name(t, k, r, [1, 2])),
    (libc::SYS_accept, |t, k, r| socket::with_name(t, k, r, [1, 2])),
    (libc::SYS_accept4, |t, k, r| socket::with_name(t, k, r, [1, 2])),
    (libc::SYS_recvfrom, |t, k, r| socket::with_name(t, k, r, [4, 5])),
    (libc::SYS_recvmsg, |_, k, r| socket::recvmsg(k, r)),
    (libc::SYS_recvmmsg, |_, k, r| socket::recvmmsg(k, r)),
    (libc::SYS_getsockopt, |_, _, r| Ok(socket::getsockopt(r))),
    // Identity.
    (libc::SYS_getuid, |_, k, _| Ok(Outcome::Return(k.identity.user.real.into()))),
    (libc::SYS_geteuid, |_, k, _| Ok(Outcome::Return(k.identity.user.effective.into()))),
    (libc::SYS_getgid, |_, k, _| Ok(Outcome::Return(k.identity.group.real.into()))),
    (libc::SYS_getegid, |_, k, _| Ok(Outcome::Return(k.identity.group.effective.into()))),
    (libc::SYS_getresuid, |_, k, r| identity::get_three(k, r, k.identity.user)),
    (libc::SYS_getresgid, |_, k, r| identity::get_three(k, r, k.identity.group)),
    (libc::SYS_getgroups, |_, k, r| identity::getgroups(k, r)),
    (libc::SYS_setgroups, |_, k, r| identity::setgroups(k, r)),
    (libc::SYS_setuid, |_, k, r| identity::change_user(k, |ids, may| ids.set(r.argument(0) as u32, may))),
    (libc::SYS_setgid, |_, k, r| identity::change_group(k, |ids, may| ids.set(r.argument(0) as u32, may))),
    (libc::SYS_setreuid, |_, k, r| {
        identity::change_user(k, |ids, may| ids.set_two(r.argument(0) as u32, r.argument(1) as u32, may))
    }),
    (libc::SYS_setregid, |_, k, r| {
        identity::change_group(k, |ids, may| ids.set_two(r.argument(0) as u32, r.argument(1) as u32, may))
    }),
    (libc::SYS_setresuid, |_, k, r| {
        let wanted = [0, 1, 2].map(|index| r.argument(index) as u32);
        identity::change_user(k, |ids, may| ids.set_three(wanted, may))
    }),
    (libc::SYS_setresgid, |_, k, r| {
        let wanted = [0, 1, 2].map(|index| r.argument(index) as u32);
        identity::change_group(k, |ids, may| ids.set_three(wanted, may))
    }),
    (libc::SYS_setfsuid, |_, k, r| identity::setfsuid(k, r)),
    (libc::SYS_setfsgid, |_, k, r| identity::setfsgid(k, r)),
    (libc::SYS_capget, |t, k, r| identity::capget(t, k, r)),
    (libc::SYS_capset, |_, k, r| identity::capset(k, r)),
    (libc::SYS_prctl, |t, k, r| identity::prctl(t, k, r)),
    // Others.
    (libc::SYS_uname, |t, k, r| misc::uname(t, k, r)),
    (libc::SYS_kill, |t, k, r| misc::kill(t, k, r)),
    (libc::SYS_tkill, |t, _, r| misc::signal_to(t, r.argument(0))),
    (libc::SYS_tgkill, |t, _, r| misc::signal_to(t, r.argument(0))),
    (libc::SYS_rt_sigqueueinfo, |t, _, r| misc::signal_to(t, r.argument(0))),
    (libc::SYS_rt_tgsigqueueinfo, |t, _, r| misc::signal_to(t, r.argument(0))),
    (libc::SYS_pidfd_open, |t, _, r| misc::signal_to(t, r.argument(0))),
    (libc::SYS_prlimit64, |t, _, r| misc::of_process(t, r.argument(0))),
    (libc::SYS_flock, |t, k, r| locks::flock(t, k, r)),
    (libc::SYS_sched_getaffinity, |t, k, r| misc::sched_getaffinity(t, k, r)),
    (libc::SYS_sched_setaffinity, |t, _, r| misc::sched_setaffinity(t, r)),
    (libc::SYS_process_vm_readv, |t, _, r| misc::of_process(t, r.argument(0))),
    (libc::SYS_process_vm_writev, |t, _, r| misc::of_process(t, r.argument(0))),
];

/// Those that write, where a command has a directory with a bound ([`super::bounded`]).
static WRITING: &[(i64, Handler)] = &[
    (libc::SYS_write, |t, k, r| bounded::write(t, k, r, 0, Written::Bytes(2), None)),
    (libc::SYS_pwrite64, |t, k, r| bounded::write(t, k, r, 0, Written::Bytes(2), Some(3))),
    (libc::SYS_writev, |t, k, r| bounded::write(t, k, r, 0, Written::Parts(1, 2), None)),
    (libc::SYS_pwritev, |t, k, r| bounded::write(t, k, r, 0, Written::Parts(1, 2), Some(3))),
    (libc::SYS_pwritev2, |t, k, r| bounded::write(t, k, r, 0, Written::Parts(1, 2), Some(3))),
    (libc::SYS_sendfile, |t, k, r| bounded::write(t, k, r, 0, Written::Bytes(3), None)),
    (libc::SYS_splice, |t, k, r| bounded::write(t, k, r, 2, Written::Bytes(4), None)),
    (libc::SYS_copy_file_range, |t, k, r| bounded::write(t, k, r, 2, Written::Bytes(4), None)),
    (libc::SYS_fallocate, |t, k, r| bounded::write(t, k, r, 0, Written::All(3), Some(2))),
];

/// Those that would show or close the door that tasks with a real root have ([`super::footing`]).
static ABOUT_THE_DOOR: &[(i64, Handler)] = &[
    (libc::SYS_close_range, |t, _, r| door::close_range(t, r)),
    (libc::SYS_getdents, |t, k, r| door::list(t, k, r, door::Entries::Old)),
    (libc::SYS_getdents64, |t, k, r| door::list(t, k, r, door::Entries::New)),
];

/// What no command may do, and what would go round the translator.
static REFUSED: &[(i64, i32)] = &[
    (libc::SYS_io_uring_setup, libc::ENOSYS),
    (libc::SYS_io_uring_enter, libc::ENOSYS),
    (libc::SYS_io_uring_register, libc::ENOSYS),
    // Its flags can't be seen from a filter; C libraries take clone instead.
    (libc::SYS_clone3, libc::ENOSYS),
    (libc::SYS_name_to_handle_at, libc::EOPNOTSUPP),
    (libc::SYS_open_by_handle_at, libc::EPERM),
    (libc::SYS_ptrace, libc::EPERM),
    (libc::SYS_process_madvise, libc::EPERM),
    (libc::SYS_pidfd_getfd, libc::EPERM),
    (libc::SYS_kcmp, libc::EPERM),
    (libc::SYS_mount, libc::EPERM),
    (libc::SYS_umount2, libc::EPERM),
    (libc::SYS_pivot_root, libc::EPERM),
    (libc::SYS_setns, libc::EPERM),
    (libc::SYS_fsopen, libc::EPERM),
    (libc::SYS_fsconfig, libc::EPERM),
    (libc::SYS_fsmount, libc::EPERM),
    (libc::SYS_fspick, libc::EPERM),
    (libc::SYS_open_tree, libc::EPERM),
    (libc::SYS_move_mount, libc::EPERM),
    (libc::SYS_mount_setattr, libc::EPERM),
    (457, libc::ENOSYS), // statmount
    (458, libc::ENOSYS), // listmount
    (libc::SYS_uselib, libc::ENOSYS),
    (libc::SYS_acct, libc::EPERM),
    (libc::SYS_swapon, libc::EPERM),
    (libc::SYS_swapoff, libc::EPERM),
    (libc::SYS_quotactl, libc::EPERM),
    (libc::SYS_quotactl_fd, libc::EPERM),
    (libc::SYS_reboot, libc::EPERM),
    (libc::SYS_sethostname, libc::EPERM),
    (libc::SYS_setdomainname, libc::EPERM),
    (libc::SYS_kexec_load, libc::EPERM),
    (libc::SYS_kexec_file_load, libc::EPERM),
    (libc::SYS_init_module, libc::EPERM),
    (libc::SYS_finit_module, libc::EPERM),
    (libc::SYS_delete_module, libc::EPERM),
    (libc::SYS_bpf, libc::EPERM),
    (libc::SYS_perf_event_open, libc::EPERM),
    (libc::SYS_userfaultfd, libc::EPERM),
    (libc::SYS_fanotify_init, libc::EPERM),
    (libc::SYS_fanotify_mark, libc::EPERM),
    (libc::SYS_add_key, libc::EPERM),
    (libc::SYS_request_key, libc::EPERM),
    (libc::SYS_keyctl, libc::EPERM),
    (libc::SYS_syslog, libc::EPERM),
    (libc::SYS_iopl, libc::EPERM),
    (libc::SYS_ioperm, libc::EPERM),
    (libc::SYS_lookup_dcookie, libc::EPERM),
];

/// Calls for which Landlock has no rights, or had none at first: no task ever makes one of them itself, the tracer does, on files that it holds.
const FOR_THE_TRACER: &[i64] = &[
    libc::SYS_truncate,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

/// Whether a call is never the task's own.
pub fn is_for_the_tracer(number: i64) -> bool {
    FOR_THE_TRACER.contains(&number)
}

/// The filter's answers, those that are asked for most first.
pub fn answers(stopped: Stopped) -> impl Iterator<Item = (i64, Answer)> {
    let handled = handled(stopped).map(|(number, _)| (*number, Answer::Trace));
    handled.chain(REFUSED.iter().map(|(number, errno)| (*number, Answer::Fail(*errno))))
}

fn handled(Stopped { footing, writing }: Stopped) -> impl Iterator<Item = &'static (i64, Handler)> {
    let door = if footing.door().is_some() { ABOUT_THE_DOOR } else { &[] };
    HANDLED.iter().chain(door).chain(if writing { WRITING } else { &[] })
}

/// The handlers by number.
pub fn table(stopped: Stopped) -> Vec<Option<Handler>> {
    let mut table: Vec<Option<Handler>> = vec![None; HIGHEST as usize + 1];
    for (number, handler) in handled(stopped) {
        table[*number as usize] = Some(*handler);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::footing::Footing, *};

    #[test]
    fn no_call_has_two_answers() {
        let mut seen = BTreeSet::new();
        for (number, _) in answers(Stopped { footing: Footing::Tree { door: 9 }, writing: true }) {
            assert!(seen.insert(number), "{number} is in the tables twice");
            assert!(number <= HIGHEST, "{number} is beyond what is known");
        }
    }
}
