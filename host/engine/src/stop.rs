//! Stopping a build from outside: Ctrl-C, SIGTERM, an operator's time limit.

use std::{
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use cofferdam_exec::Cancel;

/// A handle that stops a build. Clones are the same handle.
#[derive(Clone)]
pub struct Stop(Arc<Inner>);

struct Inner {
    stopped: AtomicBool,
    cancel: Option<Cancel>,
    /// Removes what must not stay behind if the build can't end by itself.
    clean_up: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Stop {
    /// A handle of a build that goes on.
    pub fn new() -> Self {
        // Without a descriptor for it, commands are not stopped at once, but with everything else.
        let cancel = Cancel::new().ok();
        Self(Arc::new(Inner { stopped: AtomicBool::new(false), cancel, clean_up: Mutex::new(None) }))
    }

    /// Asks the build to end: running commands are killed, nothing new begins.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        if let Some(cancel) = &self.0.cancel {
            cancel.cancel();
        }
    }

    /// Whether [`Stop::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// Removes what must not stay behind, for a program that ends without waiting for the build (it may hang in a
    /// connection that nobody answers).
    pub fn clean_up(&self) {
        let clean_up = self.0.clean_up.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(clean_up) = clean_up {
            clean_up();
        }
    }

    /// An error for readers, if the build was stopped.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.is_stopped() {
            // Not `Interrupted`: that kind means "try again".
            true => Err(io::Error::other("the build was stopped")),
            false => Ok(()),
        }
    }

    pub(crate) fn cancel(&self) -> Option<Cancel> {
        self.0.cancel.clone()
    }

    pub(crate) fn on_clean_up(&self, clean_up: impl FnOnce() + Send + 'static) {
        *self.0.clean_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(clean_up));
    }
}

/// A reader that ends with an error when the build is stopped.
pub(crate) struct Stoppable<R> {
    inner: R,
    stop: Stop,
}

impl<R> Stoppable<R> {
    pub(crate) fn new(inner: R, stop: &Stop) -> Self {
        Self { inner, stop: stop.clone() }
    }
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        self.inner.read(buffer)
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}
