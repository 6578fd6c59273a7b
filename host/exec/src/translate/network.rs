//! A command without network: where the kernel allows it, a network namespace with nothing but a loopback interface, as
//! everywhere else. Pods allow none; there the command has no sockets but unix ones.

use rustix::{
    io::Errno,
    process::{DumpableBehavior, WaitOptions},
    thread::UnshareFlags,
};

use crate::{
    sys::{self, Fork},
    userns::{UsernsKind, enter_user_namespace},
    wire::Failure,
};

/// Moves this process, which has one thread, to a network of its own; answers whether the kernel has one for it.
///
/// # Errors
/// It is neither here nor there: the process has to end.
pub fn leave() -> Result<bool, Failure> {
    let failed = |error: std::io::Error| Failure::setup("make a network namespace", error);
    // A namespace without its ids can't be left again, so somebody else tries first.
    let possible = match sys::fork().map_err(|error| Failure::setup("start a process", error))? {
        Fork::Child => sys::exit_now(if enter().is_ok() { 0 } else { 1 }),
        Fork::Parent(child) => loop {
            match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
                Err(Errno::INTR) | Ok(None) => {}
                ended => break ended.ok().flatten().is_some_and(|(_, status)| status.exit_status() == Some(0)),
            }
        },
    };
    if possible {
        enter().map_err(failed)?;
    }
    Ok(possible)
}

fn enter() -> std::io::Result<()> {
    if sys::unshare(UnshareFlags::NEWNET).is_err() {
        // The files of /proc in which the ids are written belong to root while nobody may look into the process.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        let entered = enter_user_namespace(&UsernsKind::SingleId);
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        entered.map_err(std::io::Error::other)?;
        sys::unshare(UnshareFlags::NEWNET)?;
    }
    sys::bring_loopback_up()
}
