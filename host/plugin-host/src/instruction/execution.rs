//! `cofferdam:fs/execution`: native commands.

use std::fmt;

use cofferdam_dockerfile::Diagnostic;
use cofferdam_plan::step::KeyValue;
use cofferdam_plugin_pack::Capability;
use cofferdam_rootfs::{Owner, RootPath};
use wasmtime::component::Resource;

use super::handles::{ExecutorHandle, finding};
use crate::{
    CallError, RunNetwork,
    bindings::instruction::cofferdam::{
        fs::execution::{self as wit, Host, HostExecutor},
        types::diagnostics::Denial,
    },
    call::CallState,
    coverage::Place,
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

/// What a command gets beside the root file system, for the time that it runs.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandMount {
    /// Absolute, resolved in the root. Only a secret that is a variable has none.
    pub target: Option<String>,
    /// What is there.
    pub source: CommandMountSource,
}

/// What a [`CommandMount`] shows.
#[derive(Clone, PartialEq, Eq)]
pub enum CommandMountSource {
    /// A part of a tree; what is written there is forgotten.
    Bind {
        /// Which part.
        part: TreePart,
        /// Whether the command may write there.
        writable: bool,
    },
    /// A directory that stays.
    Cache {
        /// Caches with the same id, base, owner and mode are the same.
        id: String,
        /// What happens when several commands want it.
        sharing: Sharing,
        /// What is in it at first.
        base: Option<TreePart>,
        /// Of the directory itself.
        owner: Option<Owner>,
        /// Of the directory itself.
        mode: Option<u32>,
        /// Whether the command may not write there.
        read_only: bool,
    },
    /// An empty directory in memory.
    Memory {
        /// How much fits in.
        size_bytes: Option<u64>,
    },
    /// A file, owned by root.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// A secret of the build: a file where there is a target, and a variable where there is a name for it.
    Secret {
        /// Its name.
        id: String,
        /// Whether its absence is an error.
        required: bool,
        /// The variable.
        environment: Option<String>,
        /// Of the file.
        owner: Owner,
        /// Of the file.
        mode: u32,
    },
    /// The socket of an SSH agent.
    Ssh {
        /// Its name.
        id: String,
        /// Whether its absence is an error.
        required: bool,
        /// Of the socket.
        owner: Owner,
        /// Of the socket.
        mode: u32,
    },
}

/// A part of a tree that the step declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePart {
    /// Which of the trees that the caller of `apply` gave.
    pub tree: usize,
    /// A file or directory, covered by the read.
    pub source: RootPath,
}

/// What happens when commands want the same cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// They have it together.
    Shared,
    /// They have it one after the other.
    Locked,
    /// Each has one of its own.
    Private,
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
    fn run(&mut self, command: Command, mounts: Vec<CommandMount>) -> Result<Exit, RunCommandError>;
}

impl Host for CallState {}

impl HostExecutor for CallState {
    fn run(
        &mut self,
        executor: Resource<ExecutorHandle>,
        command: wit::Command,
    ) -> wasmtime::Result<Result<wit::Exit, wit::Error>> {
        self.run_with_mounts(executor, command, Vec::new())
    }

    fn run_with_mounts(
        &mut self,
        executor: Resource<ExecutorHandle>,
        command: wit::Command,
        mounts: Vec<wit::Mount>,
    ) -> wasmtime::Result<Result<wit::Exit, wit::Error>> {
        self.in_host(|state| {
            let command = match Command::of(command) {
                Ok(command) => command,
                Err(message) => return Ok(Err(wit::Error::Invalid(finding("InvalidCommand", message)))),
            };
            let handle = state.table.get_mut(&executor)?;
            let mounts = mounts.into_iter().map(|mount| handle.mount(mount)).collect::<Result<Vec<_>, _>>();
            let mounts = match mounts {
                Ok(mounts) => mounts,
                Err(error) => return Ok(Err(error)),
            };
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
            for mount in &mounts {
                if let Some((kind, id)) = mount.secret() {
                    state.witness.record(&Capability::Secrets.to_string(), || format!("{kind} {id}"));
                }
            }
            let handle = state.table.get_mut(&executor)?;
            match handle.runner.run(command, mounts) {
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

impl CommandMount {
    /// For the audit log: what it takes from the build's secrets.
    fn secret(&self) -> Option<(&'static str, &str)> {
        match &self.source {
            CommandMountSource::Secret { id, .. } => Some(("secret", id)),
            CommandMountSource::Ssh { id, .. } => Some(("ssh", id)),
            _ => None,
        }
    }
}

impl ExecutorHandle {
    fn mount(&self, mount: wit::Mount) -> Result<CommandMount, wit::Error> {
        let invalid = |message: String| wit::Error::Invalid(finding("InvalidMount", message));
        let absolute = |path: Vec<u8>| match String::from_utf8(path) {
            Ok(path) if path.starts_with('/') && !path.contains('\0') => Ok(path),
            Ok(path) => Err(invalid(format!("the target `{path}` of a mount is not an absolute path"))),
            Err(_) => Err(invalid("the target of a mount is not UTF-8".to_owned())),
        };
        let secret = || match self.secrets {
            true => Ok(()),
            false => {
                let message = "its manifest doesn't want it".to_owned();
                Err(wit::Error::Denied(Denial { capability: Capability::Secrets.to_string(), message }))
            }
        };
        let owner = super::convert::owner;
        Ok(match mount {
            wit::Mount::Bind(wit::Bind { target, part, writable }) => CommandMount {
                target: Some(absolute(target)?),
                source: CommandMountSource::Bind { part: self.part(part)?, writable },
            },
            wit::Mount::Cache(wit::CacheMount { target, cache }) => CommandMount {
                target: Some(absolute(target)?),
                source: CommandMountSource::Cache {
                    id: cache.id,
                    sharing: match cache.sharing {
                        wit::Sharing::Shared => Sharing::Shared,
                        wit::Sharing::Locked => Sharing::Locked,
                        wit::Sharing::Private => Sharing::Private,
                    },
                    base: cache.base.map(|part| self.part(part)).transpose()?,
                    owner: cache.owner.map(owner),
                    mode: cache.mode.map(|mode| mode & 0o7777),
                    read_only: cache.read_only,
                },
            },
            wit::Mount::Memory(wit::MemoryMount { target, size }) => CommandMount {
                target: Some(absolute(target)?),
                source: CommandMountSource::Memory { size_bytes: size },
            },
            wit::Mount::File(wit::FileMount { target, content, mode }) => CommandMount {
                target: Some(absolute(target)?),
                source: CommandMountSource::File { content, mode: mode & 0o7777 },
            },
            wit::Mount::Secret(of) => {
                secret()?;
                if of.environment.as_ref().is_some_and(|name| name.is_empty() || name.contains(['=', '\0'])) {
                    return Err(invalid("a variable needs a name without `=`".to_owned()));
                }
                let (environment, owner, mode) = (of.environment, owner(of.owner), of.mode & 0o7777);
                CommandMount {
                    target: of.target.map(absolute).transpose()?,
                    source: CommandMountSource::Secret { id: of.id, required: of.required, environment, owner, mode },
                }
            }
            wit::Mount::Ssh(of) => {
                secret()?;
                let (owner, mode) = (owner(of.owner), of.mode & 0o7777);
                CommandMount {
                    target: Some(absolute(of.target)?),
                    source: CommandMountSource::Ssh { id: of.id, required: of.required, owner, mode },
                }
            }
        })
    }

    /// A part of a tree, if the step declared it.
    fn part(&self, part: wit::TreePart) -> Result<TreePart, wit::Error> {
        let invalid = |message: String| wit::Error::Invalid(finding("InvalidMount", message));
        let source = RootPath::new(&part.source).map_err(|error| invalid(error.to_string()))?;
        let tree = usize::try_from(part.tree).ok();
        let Some((tree, coverage)) = tree.and_then(|tree| Some((tree, self.parts.get(tree)?))) else {
            return Err(invalid(format!("the step has no tree {}", part.tree)));
        };
        if coverage.leaves_something_out() {
            return Err(invalid("a read that leaves something out can't be mounted".to_owned()));
        }
        match coverage.classify(&source) {
            Place::Covered(_) => Ok(TreePart { tree, source }),
            Place::Above | Place::Outside => {
                let message = format!("mounting `{source}`; `plan` declared {}", coverage.describe());
                Err(wit::Error::Denied(Denial { capability: Capability::Exec.to_string(), message }))
            }
        }
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
