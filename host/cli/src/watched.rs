//! Work of the engine that is no build: shown while it goes on, ended by a signal.

use std::sync::Arc;

use cofferdam_engine::{BuildError, Observer, Stop};

use crate::{
    environment::Environment,
    exit::Exit,
    explain,
    progress::{self, Outcome, Places},
    signals,
};

/// Does the work, shown as `mode` says; what went wrong was told when this answers how to end.
pub fn run<T>(
    mode: &str,
    environment: &Environment,
    work: impl FnOnce(&Arc<dyn Observer>, &Stop) -> Result<T, BuildError>,
) -> Result<T, Exit> {
    let places = Places { workspace: None, directories: Vec::new() };
    let view = mode.parse();
    let view = view.and_then(|mode| progress::view(mode, progress::Verbosity::Normal, environment, places));
    let view = view.map_err(|message| explain::usage(&message))?;
    let interruption = signals::listen().act(view.clone());
    let observer: Arc<dyn Observer> = view.clone();
    let done = work(&observer, interruption.stop());
    interruption.stop().clean_up();
    let interrupted = interruption.signal();
    view.finish(match (&done, interrupted) {
        (Ok(_), _) => Outcome::Done,
        (Err(_), None) => Outcome::Failed,
        (Err(_), Some(_)) => Outcome::Interrupted,
    });
    match (done, interrupted) {
        (Ok(done), _) => Ok(done),
        (Err(_), Some(signal)) => Err(explain::interrupted(signal)),
        (Err(error), None) => Err(explain::build_error(&error)),
    }
}
