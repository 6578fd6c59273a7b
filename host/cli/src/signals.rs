//! Ctrl-C and SIGTERM: the running command is stopped, everything is put away, and the exit code says which signal it was.
#![allow(clippy::disallowed_methods, reason = "a build that hangs in a connection is left without waiting for it")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use cofferdam_engine::Stop;
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    explain,
    progress::{Outcome, View},
};

/// How long an interrupted build may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the summary of a build that is left may take.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Whether the build was interrupted, and how to stop it.
pub struct Interruption {
    stop: Stop,
    signal: Arc<AtomicUsize>,
}

/// Signals that are noted from now on, although nobody acts on them yet.
pub struct Listening(Option<Signals>);

/// Begins to note signals. It starts no thread, so it comes before what a process of one thread only can do.
pub fn listen() -> Listening {
    let mut listened = vec![SIGINT, SIGTERM, SIGCONT];
    // `nohup` starts a program with the signal ignored, and means it.
    if !is_ignored(SIGHUP) {
        listened.push(SIGHUP);
    }
    Listening(Signals::new(listened).ok())
}

impl Listening {
    /// Acts on signals, those that came before too. The first one stops the build; a second one, or patience running out,
    /// ends the program at once.
    pub fn act(self, view: Arc<dyn View>) -> Interruption {
        let signal = Arc::new(AtomicUsize::new(0));
        let stop = Stop::new();
        if let Some(mut signals) = self.0 {
            let (seen, stop) = (signal.clone(), stop.clone());
            thread::spawn(move || {
                for number in signals.forever() {
                    if number == SIGCONT {
                        view.resume();
                        continue;
                    }
                    let again = seen.swap(usize::try_from(number).unwrap_or_default(), Ordering::SeqCst) != 0;
                    if again {
                        leave(&stop, &view, number);
                    }
                    view.say("stopping");
                    stop.stop();
                    let (stop, view) = (stop.clone(), view.clone());
                    thread::spawn(move || {
                        thread::sleep(PATIENCE);
                        leave(&stop, &view, number);
                    });
                }
            });
        }
        Interruption { stop, signal }
    }
}

/// Whether this process was started with a signal ignored (proc_pid_status(5), `SigIgn`: bit 0 is signal 1).
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Ends the program, with nothing left behind.
fn leave(stop: &Stop, view: &Arc<dyn View>, signal: i32) -> ! {
    stop.clean_up();
    // The last words, unless somebody is stuck in a write to a terminal or pipe that takes nothing.
    let (ended, end) = mpsc::channel();
    let last = view.clone();
    thread::spawn(move || {
        last.finish(Outcome::Interrupted);
        let _ = ended.send(());
    });
    if end.recv_timeout(LAST_WORDS).is_err() {
        view.leave();
    }
    explain::interrupted(usize::try_from(signal).unwrap_or_default());
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
