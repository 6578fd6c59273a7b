//! Ctrl-C and SIGTERM: the running command is stopped, everything is put away, and the exit code says which signal it was.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cofferdam_engine::Cancel;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::exit::Exit;

/// Whether the build was interrupted, and how to stop what it runs.
pub struct Interruption {
    cancel: Option<Cancel>,
    signal: Arc<AtomicUsize>,
}

/// Starts to listen. The first signal stops the build; a second one ends the program at once.
pub fn catch() -> Interruption {
    let signal = Arc::new(AtomicUsize::new(0));
    let cancel = Cancel::new().ok();
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        let (seen, cancel) = (signal.clone(), cancel.clone());
        std::thread::spawn(move || {
            for number in signals.forever() {
                if seen.swap(usize::try_from(number).unwrap_or_default(), Ordering::SeqCst) != 0 {
                    let _ = signal_hook::low_level::emulate_default_handler(number);
                }
                eprintln!("stopping (once more to stop at once)");
                if let Some(cancel) = &cancel {
                    cancel.cancel();
                }
            }
        });
    }
    Interruption { cancel, signal }
}

impl Interruption {
    /// The handle that the build's commands listen to.
    pub fn cancel(&self) -> Option<Cancel> {
        self.cancel.clone()
    }

    /// The exit code of an interrupted build: 128 and the signal's number, as shells have it.
    pub fn exit(&self) -> Option<Exit> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            number => {
                eprintln!("error: interrupted; nothing was pushed under a tag");
                Some(Exit::Command(u8::try_from(128 + number).unwrap_or(u8::MAX)))
            }
        }
    }
}
