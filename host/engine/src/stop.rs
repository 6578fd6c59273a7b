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
    /// The handle that this one belongs to.
    whole: Option<Stop>,
    /// Those that belong to this one.
    attempts: Mutex<Vec<Stop>>,
    /// Removes what must not stay behind if the build can't end by itself.
    clean_up: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Stop {
    /// A handle of a build that goes on.
    pub fn new() -> Self {
        Self::of(None)
    }

    fn of(whole: Option<Self>) -> Self {
        Self(Arc::new(Inner {
            stopped: AtomicBool::new(false),
            // Without a descriptor for it, commands are not stopped at once, but with everything else.
            cancel: Cancel::new().ok(),
            whole,
            attempts: Mutex::default(),
            clean_up: Mutex::new(None),
        }))
    }

    /// A handle for one attempt at what this one is for: it is stopped with this one, and can be stopped alone.
    pub(crate) fn attempt(&self) -> Self {
        let attempt = Self::of(Some(self.clone()));
        let mut attempts = self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.clear();
        attempts.push(attempt.clone());
        drop(attempts);
        if self.is_stopped() {
            attempt.stop();
        }
        attempt
    }

    /// Asks the build to end: running commands are killed, nothing new begins.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        if let Some(cancel) = &self.0.cancel {
            cancel.cancel();
        }
        let attempts = self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        attempts.iter().for_each(Self::stop);
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
        if let Some(whole) = &self.0.whole {
            return whole.on_clean_up(clean_up);
        }
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
