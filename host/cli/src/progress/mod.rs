//! How a build is shown while it runs, and what is said when it is over. All of it goes to standard error: standard output is
//! for data.
//!
//! Events come from the engine. The [`board`] holds what they add up to; [`tty`] draws it (a [`frame`] at a time, on a
//! [`screen`]), [`log`] writes lines in the form of [`plain`] logs or in [`sections`] of [`gitlab`] and [`github`], [`json`]
//! passes the events on. All end with the [`summary`]. Strangers' text goes through [`text`].

mod board;
mod frame;
mod github;
mod gitlab;
mod json;
mod lines;
mod log;
mod mode;
mod plain;
mod problem;
mod screen;
mod sections;
mod summary;
mod terminal;
mod text;
mod tty;
pub mod units;

use std::{
    io,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use cofferdam_engine::Observer;

use crate::environment::Environment;

pub use github::Places;
pub use mode::{Mode, Wanted};
pub use problem::Problem;
pub use text::clean_line;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing but errors, and warnings about the build itself.
    Quiet,
    /// Steps, output of commands, transfers, a summary.
    Normal,
}

/// How a build ended, or is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The image is there.
    Done,
    /// Something failed.
    Failed,
    /// Somebody stopped it.
    Interrupted,
}

/// Shows a build.
pub trait View: Observer {
    /// Says something about the whole build.
    fn say(&self, text: &str);

    /// The build is over: nothing moves any more, and what is left to say is said.
    fn finish(&self, outcome: Outcome);

    /// Marks a place in the Dockerfile for a system that shows it there. The finding itself is told elsewhere.
    fn problem(&self, _: &Problem) {}

    /// The program ends at once: what is drawn is removed.
    fn leave(&self) {}

    /// The program was stopped and goes on; others have used the terminal meanwhile.
    fn resume(&self) {}
}

/// The view that is wanted, on standard error. Starts no thread.
///
/// # Errors
/// It needs a terminal, and there is none.
pub fn view(
    wanted: Wanted,
    verbosity: Verbosity,
    environment: &Environment,
    places: Places,
) -> Result<Arc<dyn View>, String> {
    // Flushed after every event: a chatty command's lines reach a log in pieces, not one by one.
    let out = || io::BufWriter::new(io::stderr());
    let quiet = || log::LogView::new(out(), plain::Plain::default(), Verbosity::Quiet);
    let mode = wanted.decide(environment)?;
    if verbosity == Verbosity::Quiet && mode != Mode::Json {
        return Ok(Arc::new(quiet()));
    }
    Ok(match mode {
        Mode::Tty { colours } => Arc::new(tty::TtyView::new(terminal::StandardError, colours)),
        Mode::Json => Arc::new(json::JsonView::new(io::stderr())),
        Mode::Quiet => Arc::new(quiet()),
        Mode::Plain => Arc::new(log::LogView::new(out(), plain::Plain::default(), verbosity)),
        Mode::GitLab => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let marks = gitlab::GitLab::new(format!("cofferdam_{}_{}", since.as_secs(), std::process::id()));
            Arc::new(log::LogView::new(out(), sections::Sections::new(marks), verbosity))
        }
        Mode::GitHub => {
            let marks = github::GitHub::new(places);
            Arc::new(log::LogView::new(out(), sections::Sections::new(marks), verbosity))
        }
    })
}
