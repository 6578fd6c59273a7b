//! Handlers for programs of other processors, in the command's own user namespace and in no mount that it sees (Linux,
//! admin-guide/binfmt-misc.rst; a user namespace has its own since Linux 6.7).

use std::os::fd::OwnedFd;

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::MountAttrFlags,
};

use super::mount::new_filesystem;
use crate::{Emulator, wire::Failure};

/// Registers them; they last as long as what this answers. To be called where the emulators can be found.
///
/// # Errors
/// The kernel refuses.
pub fn register(emulators: &[Emulator]) -> Result<Option<OwnedFd>, Failure> {
    if emulators.is_empty() {
        return Ok(None);
    }
    let failed = |error: Errno| Failure::Setup {
        step: "have programs for other processors run (binfmt_misc)".into(),
        errno: error.raw_os_error(),
        hint: Some("this takes Linux 6.7 with binfmt_misc; `--executor emulated` does without".into()),
    };
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let handlers = new_filesystem("binfmt_misc", &[], attributes).map_err(failed)?;
    for emulator in emulators {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let register = rustix::fs::openat(&handlers, "register", flags, Mode::empty()).map_err(failed)?;
        match rustix::io::write(&register, &emulator.handler()) {
            // By another command of this builder's, in the same user namespace.
            Ok(_) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(Some(handlers))
}
