//! /proc, /sys and /dev of a command, as container engines make them (OCI runtime-spec, config-linux.md, "Default
//! Filesystems" and "Default Devices"; masked and read-only paths as Docker's default specification has them).

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    io::Errno,
    mount::MountAttrFlags,
};

use super::{
    mount::{attach, clone_of, new_filesystem},
    place::open_at,
};
use crate::{
    sys::{ATTR_NO_DEV, ATTR_NO_EXEC, ATTR_NO_SUID, ATTR_READ_ONLY, set_mount_attributes},
    wire::Failure,
};

/// Tell too much of the machine, or of its hardware.
const MASKED: [&str; 13] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/kernel/security",
];

/// Switches of the machine.
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const QUIET: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A /proc of the process namespace of the caller.
pub fn new_proc() -> Result<OwnedFd, Failure> {
    new_filesystem("proc", &[], QUIET).map_err(|error| Failure::Setup {
        step: "mount a fresh /proc".into(),
        errno: error.raw_os_error(),
        hint: (error == Errno::PERM).then(|| {
            "where a container covers parts of its own /proc, the kernel allows no new one; run it with an uncovered \
             /proc (procMount: Unmasked)"
                .into()
        }),
    })
}

/// A read-only /sys: a fresh one where that is allowed (root of the network namespace), else the machine's.
pub fn new_sys() -> Result<Option<OwnedFd>, Failure> {
    if let Ok(sys) = new_filesystem("sysfs", &[], QUIET | MountAttrFlags::MOUNT_ATTR_RDONLY) {
        return Ok(Some(sys));
    }
    let Ok(sys) = clone_of(CWD, "/sys", true) else { return Ok(None) };
    set_mount_attributes(sys.as_fd(), ATTR_READ_ONLY | ATTR_NO_SUID | ATTR_NO_DEV | ATTR_NO_EXEC, true)
        .map_err(|error| Failure::setup("make /sys read-only", error))?;
    Ok(Some(sys))
}

/// Shows the control groups of the command's own namespace, if /sys is fresh and the machine has the unified hierarchy;
/// programs ask there how much memory they have.
pub fn attach_cgroups(root: BorrowedFd<'_>) {
    let Ok(target) = open_at(root, Path::new("sys/fs/cgroup"), OFlags::PATH | OFlags::DIRECTORY) else { return };
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
        && let Ok(cgroups) = new_filesystem("cgroup2", &[], QUIET | MountAttrFlags::MOUNT_ATTR_RDONLY)
    {
        let _ = attach(cgroups, target);
    }
}

/// A /dev without anything in it.
pub fn new_dev() -> Result<OwnedFd, Failure> {
    let options = [("mode", Some("755")), ("size", Some("65536k"))];
    // The devices in it are mounts of their own; what the command makes beside them is not to be opened.
    new_filesystem("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
        .map_err(|error| Failure::setup("mount a tmpfs for /dev", error))
}

/// Fills /dev: the machine's harmless devices, terminals and shared memory of its own.
pub fn fill_dev(root: BorrowedFd<'_>) -> Result<(), Failure> {
    let failed = |name: &'static str| move |error: Errno| Failure::setup(format!("make /dev/{name}"), error);
    let dev = open_at(root, Path::new("dev"), OFlags::PATH | OFlags::DIRECTORY).map_err(failed(""))?;
    for name in DEVICES {
        // Made by nobody but the machine: a node of our own could not be opened in a user namespace.
        let Ok(device) = clone_of(CWD, format!("/dev/{name}"), false) else { continue };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&dev, name, flags, Mode::from_raw_mode(0o666)).map_err(failed(name))?;
        attach_at(device, dev.as_fd(), name).map_err(failed(name))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).map_err(failed(name))?;
    }
    let no_programs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // Group 5 is `tty` everywhere; where only one id exists, so does only one group.
    let terminals = |group: Option<&str>| {
        let mut options = vec![("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620"))];
        options.extend(group.map(|group| ("gid", Some(group))));
        new_filesystem("devpts", &options, no_programs)
    };
    let shared_memory = [("mode", Some("1777")), ("size", Some("65536k"))];
    let below = [
        ("pts", terminals(Some("5")).or_else(|_| terminals(None))),
        ("shm", new_filesystem("tmpfs", &shared_memory, QUIET)),
        ("mqueue", new_filesystem("mqueue", &[], QUIET)),
    ];
    for (name, mount) in below {
        // A kernel without one of them still runs commands.
        let Ok(mount) = mount else { continue };
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).map_err(failed(name))?;
        attach_at(mount, dev.as_fd(), name).map_err(failed(name))?;
    }
    Ok(())
}

fn attach_at(mount: OwnedFd, directory: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    attach(mount, open_at(directory, Path::new(name), OFlags::PATH | OFlags::NOFOLLOW)?)
}

/// Covers the paths of /proc and /sys that are not for the command.
pub fn cover(root: BorrowedFd<'_>) -> Result<(), Failure> {
    let failed =
        |verb: &'static str, path: &'static str| move |error: Errno| Failure::setup(format!("{verb} /{path}"), error);
    let null = clone_of(CWD, "/dev/null", false).map_err(failed("open", "dev/null"))?;
    for path in MASKED {
        let Ok(target) = open_at(root, Path::new(path), OFlags::PATH | OFlags::NOFOLLOW) else { continue };
        let stat = rustix::fs::fstat(&target).map_err(failed("mask", path))?;
        let mask = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let options = [("size", Some("0")), ("nr_inodes", Some("1")), ("mode", Some("755"))];
            new_filesystem("tmpfs", &options, QUIET | MountAttrFlags::MOUNT_ATTR_RDONLY)
        } else {
            clone_of(&null, "", false)
        };
        mask.and_then(|mask| attach(mask, &target)).map_err(failed("mask", path))?;
    }
    for path in READ_ONLY {
        let Ok(target) = open_at(root, Path::new(path), OFlags::PATH | OFlags::NOFOLLOW) else { continue };
        let mount = clone_of(&target, "", true).map_err(failed("protect", path))?;
        let attributes = ATTR_READ_ONLY | ATTR_NO_SUID | ATTR_NO_DEV | ATTR_NO_EXEC;
        set_mount_attributes(mount.as_fd(), attributes, true)
            .map_err(|error| Failure::setup(format!("protect /{path}"), error))?;
        attach(mount, &target).map_err(failed("protect", path))?;
    }
    Ok(())
}
