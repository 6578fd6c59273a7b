//! `cofferdam:fs/execution`: native commands.

use std::fmt;

use cofferdam_dockerfile::Diagnostic;
use cofferdam_plan::step::KeyValue;
use cofferdam_plugin_pack::Capability;
use wasmtime::component::Resource;

use super::handles::{ExecutorHandle, finding};
use crate::{
    CallError, RunNetwork,
    bindings::instruction::cofferdam::{
        fs::execution::{self as wit, Host, HostExecutor},
        types::diagnostics::Denial,
    },
    call::CallState,
};

/// What a command may reach over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// What the executor gives by default.
    Default,
    /// Nothing.
    None,
    /// The builder's own.
    Host,
}

/// A command in the stage's root file system.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments; a program without `/` is looked up in the environment's PATH, in the root.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<KeyValue>,
    /// Absolute; made if missing.
    pub working_directory: String,
    /// As USER spells it; empty is root.
    pub user: String,
    /// Never more than the policy allows.
    pub network: Network,
    /// Fed to standard input, which is closed otherwise.
    pub input: Option<Vec<u8>>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, 0 to 255.
    Code(i32),
    /// By a signal's number.
    Signal(i32),
}

/// Why a command was not run.
#[derive(Debug, thiserror::Error)]
pub enum RunCommandError {
    /// The command can't be right: an unknown user, a program that isn't there.
    #[error("{}", .0.message)]
    Invalid(Diagnostic),
    /// Nothing on this machine can run it.
    #[error("{}", .0.message)]
    Unsupported(Diagnostic),
    /// The build was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The executor itself failed. The step ends, whatever the plugin would say to it.
    #[error("the command could not be run")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Runs commands in the root file system that the same step changes.
pub trait RunCommand: Send {
    /// Runs to the end. Output goes to the build's progress, changes to the step's layer.
    ///
    /// # Errors
    /// Any [`RunCommandError`].
    fn run(&mut self, command: Command) -> Result<Exit, RunCommandError>;
}

impl Host for CallState {}

impl HostExecutor for CallState {
    fn run(
        &mut self,
        executor: Resource<ExecutorHandle>,
        command: wit::Command,
    ) -> wasmtime::Result<Result<wit::Exit, wit::Error>> {
        self.in_host(|state| {
            let command = match Command::of(command) {
                Ok(command) => command,
                Err(message) => return Ok(Err(wit::Error::Invalid(finding("InvalidCommand", message)))),
            };
            let handle = state.table.get_mut(&executor)?;
            let wanted = match command.network {
                Network::None => RunNetwork::None,
                Network::Default => RunNetwork::Default,
                Network::Host => RunNetwork::Host,
            };
            let command = match (wanted, handle.network) {
                (wanted, most) if wanted <= most => command,
                // Who doesn't ask gets what there is.
                (RunNetwork::Default, RunNetwork::None) => Command { network: Network::None, ..command },
                _ => {
                    let message = "the policy forbids it: `network = \"host\"` under [run] would allow it".to_owned();
                    let capability = "network".to_owned();
                    return Ok(Err(wit::Error::Denied(Denial { capability, message })));
                }
            };
            state.witness.record(&Capability::Exec.to_string(), || format!("{:?}", command.arguments));
            let handle = state.table.get_mut(&executor)?;
            match handle.runner.run(command) {
                Ok(Exit::Code(code)) => Ok(Ok(wit::Exit::Code(code))),
                Ok(Exit::Signal(signal)) => Ok(Ok(wit::Exit::Signal(signal))),
                Err(RunCommandError::Invalid(why)) => Ok(Err(wit::Error::Invalid(super::convert::to_wit(why)))),
                Err(RunCommandError::Unsupported(why)) => Ok(Err(wit::Error::Unsupported(super::convert::to_wit(why)))),
                Err(RunCommandError::Interrupted) => Err(state.fail(CallError::Interrupted)),
                Err(RunCommandError::Failed(source)) => Err(state.fail(CallError::Executor(source))),
            }
        })
    }

    fn drop(&mut self, executor: Resource<ExecutorHandle>) -> wasmtime::Result<()> {
        self.table.delete(executor)?;
        Ok(())
    }
}

impl Command {
    fn of(command: wit::Command) -> Result<Self, String> {
        let wit::Command { arguments, environment, working_directory, user, network, input } = command;
        let nul = |text: &String| text.contains('\0');
        if arguments.is_empty() {
            return Err("a command needs a program".to_owned());
        }
        let pairs = || environment.iter().flat_map(|pair| [&pair.key, &pair.value]);
        if arguments.iter().any(nul) || nul(&working_directory) || nul(&user) || pairs().any(nul) {
            return Err("a command can't have a NUL character".to_owned());
        }
        if environment.iter().any(|pair| pair.key.is_empty() || pair.key.contains('=')) {
            return Err("a variable needs a name without `=`".to_owned());
        }
        if !working_directory.starts_with('/') {
            return Err(format!("the working directory `{working_directory}` is not absolute"));
        }
        let environment = environment.into_iter().map(super::convert::key_value).collect();
        let network = match network {
            wit::Network::Default => Network::Default,
            wit::Network::None => Network::None,
            wit::Network::Host => Network::Host,
        };
        Ok(Self { arguments, environment, working_directory, user, network, input })
    }
}

// The environment may hold build arguments that nobody should find in a log.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("arguments", &self.arguments)
            .field("working_directory", &self.working_directory)
            .field("user", &self.user)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}
