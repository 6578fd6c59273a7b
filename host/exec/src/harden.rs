//! Protecting the builder itself.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Makes this process's memory, environment and descriptors unreadable for other processes of the same user, and lets it
/// leave no core file. To be called after [`crate::enter_user_namespace`], which needs /proc/self to belong to the user.
///
/// # Errors
/// The system refuses, which it has no reason to.
pub fn harden_process() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Only the soft limit, so that a command which wants a core file can have one.
    let maximum = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?;
    Ok(())
}
