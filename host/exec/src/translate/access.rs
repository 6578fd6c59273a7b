//! What the kernel would allow to a task of this identity (path_resolution(7), credentials(7)).

use rustix::io::Errno;

use super::identity::{Identity, capability};
use crate::journal::Seen;

/// Read.
pub const READ: u32 = 4;
/// Write.
pub const WRITE: u32 = 2;
/// Execute, or search a directory.
pub const EXECUTE: u32 = 1;

/// Checks access with the ids for files.
///
/// # Errors
/// EACCES.
pub fn check(who: &Identity, seen: &Seen, wanted: u32) -> Result<(), Errno> {
    // A list counts only where the group's bits, which are its mask, allow something (fs/namei.c, acl_permission_check).
    let list = seen.acl.as_ref().filter(|_| seen.mode & libc::S_IRWXG != 0);
    let allowed = match list {
        _ if who.user.file == seen.uid => seen.mode >> 6 & wanted == wanted,
        Some(list) => list.allows(who.user.file, |group| who.is_in_group(group), seen.gid, wanted),
        None if who.is_in_group(seen.gid) => seen.mode >> 3 & wanted == wanted,
        None => seen.mode & wanted == wanted,
    };
    if allowed {
        return Ok(());
    }
    if who.can(capability::DAC_OVERRIDE) {
        // Even root needs one execute bit to run a file.
        if seen.is_directory() || wanted & EXECUTE == 0 || seen.mode & 0o111 != 0 {
            return Ok(());
        }
    }
    if who.can(capability::DAC_READ_SEARCH) && wanted & WRITE == 0 && (seen.is_directory() || wanted == READ) {
        return Ok(());
    }
    Err(Errno::ACCESS)
}

/// Whether nothing could be forbidden to it: then the walk need not look at each directory.
pub fn is_unbounded(who: &Identity) -> bool {
    who.can(capability::DAC_OVERRIDE)
}

/// Checks that it may change what only the owner may.
///
/// # Errors
/// EPERM.
pub fn check_owner(who: &Identity, seen: &Seen) -> Result<(), Errno> {
    if who.user.file == seen.uid || who.can(capability::FOWNER) { Ok(()) } else { Err(Errno::PERM) }
}

/// Checks that a name may be taken out of a directory.
///
/// # Errors
/// EACCES, or EPERM for another user's file in a sticky directory.
pub fn check_removal(who: &Identity, directory: &Seen, file: &Seen) -> Result<(), Errno> {
    check(who, directory, WRITE | EXECUTE)?;
    let sticky = directory.mode & libc::S_ISVTX != 0;
    if sticky && ![file.uid, directory.uid].contains(&who.user.file) && !who.can(capability::FOWNER) {
        return Err(Errno::PERM);
    }
    Ok(())
}
