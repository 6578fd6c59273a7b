//! Stopping a command from another thread.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::event::EventfdFlags;

/// A handle that stops the commands which were started with a clone of it, now or later.
#[derive(Clone)]
pub struct Cancel(Arc<OwnedFd>);

impl Cancel {
    /// A handle on which nobody has called [`Cancel::cancel`].
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(event)))
    }

    /// Kills the commands of this handle; [`crate::Executor::run`] returns [`crate::ExecError::Cancelled`].
    pub fn cancel(&self) {
        // A full counter is as readable as any other.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl AsFd for Cancel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cancel")
    }
}
