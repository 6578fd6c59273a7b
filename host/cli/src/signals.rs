//! Ctrl-C and SIGTERM: the running command is stopped, everything is put away, and the exit code says which signal it was.
#![allow(clippy::disallowed_methods, reason = "a build that hangs in a connection is left without waiting for it")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use cofferdam_engine::Stop;
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{explain, progress::View};

/// How long an interrupted build may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the build was interrupted, and how to stop it.
pub struct Interruption {
    stop: Stop,
    signal: Arc<AtomicUsize>,
}

/// Starts to listen. The first signal stops the build; a second one, or patience running out, ends the program at once.
pub fn catch(view: Arc<dyn View>) -> Interruption {
    let signal = Arc::new(AtomicUsize::new(0));
    let stop = Stop::new();
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCONT]) {
        let (seen, stop) = (signal.clone(), stop.clone());
        thread::spawn(move || {
            for number in signals.forever() {
                if number == SIGCONT {
                    view.resume();
                    continue;
                }
                let again = seen.swap(usize::try_from(number).unwrap_or_default(), Ordering::SeqCst) != 0;
                if again {
                    leave(&stop, &*view, number);
                }
                view.say("stopping");
                stop.stop();
                let (stop, view) = (stop.clone(), view.clone());
                thread::spawn(move || {
                    thread::sleep(PATIENCE);
                    leave(&stop, &*view, number);
                });
            }
        });
    }
    Interruption { stop, signal }
}

/// Ends the program, with nothing left behind.
fn leave(stop: &Stop, view: &dyn View, signal: i32) -> ! {
    stop.clean_up();
    view.leave();
    explain::interrupted(signal as usize);
    std::process::exit(128 + signal)
}

impl Interruption {
    /// The handle that the build listens to.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The number of the signal, if one came.
    pub fn signal(&self) -> Option<usize> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            number => Some(number),
        }
    }
}
