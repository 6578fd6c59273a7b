//! Mounting overlayfs.

use std::{
    ffi::CString,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

/// The writable part of an overlay.
pub struct Writable<'a> {
    /// Takes the changes.
    pub upper: BorrowedFd<'a>,
    /// Overlayfs's own directory, on the same file system.
    pub work: BorrowedFd<'a>,
}

/// Mounts `lower` (top first, at least one; at least two without a writable part) at `target`, an absolute path.
///
/// The directories are named by their descriptors, relative to /proc/self/fd: this has no trouble with the characters of
/// their paths, fits 500 of them into the one page that mount(2) takes, and shows no path of the store in
/// /proc/self/mountinfo. `nodev` keeps a device node that the command makes from being opened, also where root is
/// allowed to make one. Marks are `user.overlay.*` everywhere, so that the upper directory means the same whoever made it.
pub fn mount_overlay(target: &Path, lower: &[OwnedFd], writable: Option<Writable<'_>>) -> Result<(), Errno> {
    let numbers: Vec<String> = lower.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut options = format!("userxattr,index=off,lowerdir={}", numbers.join(":"));
    let mut flags = MountFlags::NODEV;
    let Some(writable) = writable else {
        flags |= MountFlags::RDONLY;
        return mount_here(target, flags, options);
    };
    options.push_str(&format!(",upperdir={},workdir={}", writable.upper.as_raw_fd(), writable.work.as_raw_fd()));
    // Without syncs: a layer whose build was cut short by a crash is not used. Linux before 5.10 does not know the option.
    match mount_here(target, flags, format!("{options},volatile")) {
        Err(Errno::INVAL) => mount_here(target, flags, options),
        result => result,
    }
}

fn mount_here(target: &Path, flags: MountFlags, options: String) -> Result<(), Errno> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::process::chdir("/proc/self/fd")?;
    let result = mount("overlay", target, "overlay", flags, options.as_c_str());
    rustix::process::chdir("/")?;
    result
}

/// Takes the overlay at `target` off again.
pub fn unmount_overlay(target: &Path) -> Result<(), Errno> {
    unmount(target, UnmountFlags::empty())
}
