//! Fakes for tests on the developer's machine: steps, trees, root file systems, executors, sources of credentials.
//!
//! They keep the promises of `wit/fs` as far as a handler can tell: in-root resolution of the last symlink, replaced
//! entries, files that exist only once they are finished. They do not check reads: the host does that.

mod facts;
mod memory;
mod steps;

use std::{cell::RefCell, collections::BTreeMap};

pub use facts::{COMMIT, FactsBuilder, MOMENT, requested};
pub use memory::{Entry, MemoryRoot, MemoryTree};
pub use steps::{StepBuilder, step};

use crate::{
    credentials::{Credential, CredentialHelper, Request, SourceError, Sources, Web},
    fs::{Command, ExecutionError, Executor, Exit, Mount},
    web,
};

/// An executor that remembers commands and ends them all in the same way.
pub struct FakeExecutor {
    exit: Exit,
    commands: RefCell<Vec<Command>>,
    mounts: RefCell<Vec<Mount>>,
}

impl FakeExecutor {
    /// Ends every command with this.
    pub fn ending(exit: Exit) -> Self {
        Self { exit, commands: RefCell::default(), mounts: RefCell::default() }
    }

    /// The commands so far.
    pub fn commands(&self) -> Vec<Command> {
        self.commands.borrow().clone()
    }

    /// The mounts of all of them.
    pub fn mounts(&self) -> Vec<Mount> {
        self.mounts.borrow().clone()
    }
}

impl Executor for FakeExecutor {
    fn run(&self, command: &Command) -> Result<Exit, ExecutionError> {
        self.run_with_mounts(command, &[])
    }

    fn run_with_mounts(&self, command: &Command, mounts: &[Mount]) -> Result<Exit, ExecutionError> {
        self.commands.borrow_mut().push(command.clone());
        self.mounts.borrow_mut().extend_from_slice(mounts);
        Ok(self.exit)
    }
}

/// Sources of credentials from memory.
#[derive(Default)]
pub struct MemorySources {
    /// Content by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Values by name.
    pub variables: BTreeMap<String, String>,
}

impl MemorySources {
    /// With these variables and no file.
    pub fn of(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
        Self { variables, ..Self::default() }
    }
}

/// A request of a push to a repository of a host, at [`MOMENT`].
pub fn push_to(host: &str) -> Request {
    let actions = vec!["pull".to_owned(), "push".to_owned()];
    Request { host: host.to_owned(), repository: Some("team/app".to_owned()), actions, now: MOMENT }
}

/// The user name and the password that a helper without servers answers for a host, with a space between.
///
/// # Panics
/// The helper fails, or answers something else.
pub fn basic_of<H: CredentialHelper>(host: &str, sources: &dyn Sources) -> Option<String> {
    match H::get(&push_to(host), sources, &Servers::default()).expect("an answer")?.credential {
        Credential::Basic(basic) => Some(format!("{} {}", basic.username, basic.password)),
        _ => panic!("not a user name and a password"),
    }
}

/// Servers: by `METHOD URL`, without the query, what they answer. Others are not there.
#[derive(Default)]
pub struct Servers {
    answers: BTreeMap<String, web::Answer>,
    asked: RefCell<Vec<web::Request>>,
}

impl Servers {
    /// Adds what one request is answered.
    pub fn answering(mut self, request: &str, status: u16, body: &str) -> Self {
        let body = body.as_bytes().to_vec();
        self.answers.insert(request.to_owned(), web::Answer { status, headers: Vec::new(), body });
        self
    }

    /// Adds a header to every answer so far.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let header = web::Header { name: name.to_owned(), value: value.to_owned() };
        self.answers.values_mut().for_each(|answer| answer.headers.push(header.clone()));
        self
    }

    /// What was asked.
    pub fn asked(&self) -> Vec<web::Request> {
        self.asked.borrow().clone()
    }
}

impl Web for Servers {
    fn send(&self, request: &web::Request) -> Result<web::Answer, web::Error> {
        self.asked.borrow_mut().push(request.clone());
        let method = match request.method {
            web::Method::Get => "GET",
            web::Method::Post => "POST",
            web::Method::Put => "PUT",
        };
        let line = format!("{method} {}", request.url.split('?').next().unwrap_or_default());
        self.answers.get(&line).cloned().ok_or_else(|| web::Error::Failed(format!("{line}: nobody there")))
    }
}

impl Sources for MemorySources {
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.files.get(name).cloned())
    }

    fn variable(&self, name: &str) -> Result<Option<String>, SourceError> {
        Ok(self.variables.get(name).cloned())
    }
}
