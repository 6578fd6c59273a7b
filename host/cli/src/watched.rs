//! Work of the engine: shown while it goes on, ended by a signal.

use std::{fmt::Display, path::Path, sync::Arc};

use cofferdam_engine::{BuildError, Observer, Stop};

use crate::{
    environment::Environment,
    exit::Exit,
    explain,
    output::tell,
    progress::{self, Outcome, Places, Verbosity, View},
    say,
    signals::{self, Interruption},
};

/// Work that did not come to its end.
pub enum Failure {
    /// By this signal.
    Interrupted(usize),
    /// By itself.
    Failed(Box<BuildError>),
}

impl Failure {
    /// Tells why, and answers how to end.
    pub fn tell(&self) -> Exit {
        match self {
            Self::Interrupted(signal) => explain::interrupted(*signal),
            Self::Failed(error) => explain::build_error(error),
        }
    }
}

/// What shows it, as `mode` says; a mode that is none was told when this answers how to end.
pub fn view(
    mode: &str,
    verbosity: Verbosity,
    environment: &Environment,
    places: Places,
) -> Result<Arc<dyn View>, Exit> {
    let view = mode.parse().and_then(|mode| progress::view(mode, verbosity, environment, places));
    view.map_err(|message| explain::usage(&message))
}

/// Does the work, shown by a view.
pub fn watch<T>(
    view: &Arc<dyn View>,
    interruption: &Interruption,
    work: impl FnOnce(&Arc<dyn Observer>, &Stop) -> Result<T, BuildError>,
) -> Result<T, Failure> {
    let observer: Arc<dyn Observer> = view.clone();
    let done = work(&observer, interruption.stop());
    // Transfers of a build that failed may still hold on to what is temporary.
    interruption.stop().clean_up();
    let done = done.map_err(|error| match interruption.signal() {
        Some(signal) => Failure::Interrupted(signal),
        None => Failure::Failed(Box::new(error)),
    });
    view.finish(match &done {
        Ok(_) => Outcome::Done,
        Err(Failure::Failed(_)) => Outcome::Failed,
        Err(Failure::Interrupted(_)) => Outcome::Interrupted,
    });
    done
}

/// Does work that is no build, shown as `mode` says; what went wrong was told when this answers how to end.
pub fn run<T>(
    mode: &str,
    environment: &Environment,
    work: impl FnOnce(&Arc<dyn Observer>, &Stop) -> Result<T, BuildError>,
) -> Result<T, Exit> {
    let view = view(mode, Verbosity::Normal, environment, Places { workspace: None, directories: Vec::new() })?;
    watch(&view, &signals::listen().act(view.clone()), work).map_err(|failure| failure.tell())
}

/// The digest of what was pushed is data, and goes to a file too if there is one; the names are talk.
pub fn report_pushed(digest: &impl Display, names: &[String], digest_file: Option<&Path>) -> Exit {
    if let Err(exit) = write_digest(digest, digest_file) {
        return exit;
    }
    let said = say(&format!("{digest}\n"));
    names.iter().for_each(|name| tell(&format!("pushed {name}@{digest}")));
    said
}

/// Writes a digest to a file, if there is one; what went wrong was told when this answers how to end.
pub fn write_digest(digest: &impl Display, file: Option<&Path>) -> Result<(), Exit> {
    let Some(file) = file else { return Ok(()) };
    cofferdam_image::export::write_file(file, digest.to_string().as_bytes())
        .map_err(|error| explain::failed(&cofferdam_engine::chain(&error)))
}
