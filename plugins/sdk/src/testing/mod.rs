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
    credentials::{Credential, CredentialHelper, Request, SourceError, Sources},
    fs::{Command, ExecutionError, Executor, Exit, Mount},
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

/// The user name and the password that a helper answers for a host, with a space between.
///
/// # Panics
/// The helper fails, or answers something else.
pub fn basic_of<H: CredentialHelper>(host: &str, sources: &dyn Sources) -> Option<String> {
    let request = Request { host: host.to_owned(), repository: None, actions: vec!["pull".to_owned()] };
    match H::get(&request, sources).expect("an answer")?.credential {
        Credential::Basic(basic) => Some(format!("{} {}", basic.username, basic.password)),
        _ => panic!("not a user name and a password"),
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
