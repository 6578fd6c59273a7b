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
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::exit::Exit;

/// How long an interrupted build may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(3);

const INTERRUPTED: &str = "error: interrupted; no tag was moved to an incomplete image";

/// Whether the build was interrupted, and how to stop it.
pub struct Interruption {
    stop: Stop,
    signal: Arc<AtomicUsize>,
}

/// Starts to listen. The first signal stops the build; a second one, or patience running out, ends the program at once.
pub fn catch() -> Interruption {
    let signal = Arc::new(AtomicUsize::new(0));
    let stop = Stop::new();
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        let (seen, stop) = (signal.clone(), stop.clone());
        thread::spawn(move || {
            for number in signals.forever() {
                let again = seen.swap(usize::try_from(number).unwrap_or_default(), Ordering::SeqCst) != 0;
                if again {
                    leave(&stop, number);
                }
                eprintln!("stopping");
                stop.stop();
                let stop = stop.clone();
                thread::spawn(move || {
                    thread::sleep(PATIENCE);
                    leave(&stop, number);
                });
            }
        });
    }
    Interruption { stop, signal }
}

/// Ends the program, with nothing left behind.
fn leave(stop: &Stop, signal: i32) -> ! {
    stop.clean_up();
    eprintln!("{INTERRUPTED}");
    std::process::exit(128 + signal)
}

impl Interruption {
    /// The handle that the build listens to.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The exit code of an interrupted build: 128 and the signal's number, as shells have it.
    pub fn exit(&self) -> Option<Exit> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            number => {
                eprintln!("{INTERRUPTED}");
                Some(Exit::Command(u8::try_from(128 + number).unwrap_or(u8::MAX)))
            }
        }
    }
}
