//! What can go wrong with plugins.

use std::{fmt, path::PathBuf};

use cofferdam_dockerfile::Diagnostic;
use cofferdam_plan::step::Planned;
use cofferdam_plugin_pack::SectionError;
use cofferdam_rootfs::RootfsError;

pub use crate::{compile_cache::CompileCacheError, imports::InterfaceError};

/// A plugin that can't be loaded. The message names the plugin and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// A plugin directory or a file in it can't be read.
    #[error("can't read `{path}`")]
    Storage {
        /// Of this machine.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Larger than any plugin.
    #[error("plugin `{path}` has more than {limit} bytes")]
    TooLarge {
        /// Of this machine.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// No manifest, or a wrong one.
    #[error("plugin {plugin}: {source}")]
    Manifest {
        /// Its file, in backticks.
        plugin: String,
        /// What is wrong.
        source: SectionError,
    },
    /// Its imports or exports are not those of its kind.
    #[error("plugin `{plugin}` {source}")]
    Interface {
        /// Its name.
        plugin: String,
        /// What is wrong.
        source: InterfaceError,
    },
    /// Two plugins with the same name.
    #[error("two plugins are named `{name}`: {first} and {second}")]
    NameTaken {
        /// The name.
        name: String,
        /// Where the first came from.
        first: String,
        /// Where the second came from.
        second: String,
    },
    /// Two plugins that the user added claim the same keyword.
    #[error("the plugins `{first}` and `{second}` both claim {keyword}: leave one of them out")]
    KeywordTaken {
        /// The keyword.
        keyword: String,
        /// One plugin.
        first: String,
        /// The other.
        second: String,
    },
    /// It wants more than it was granted.
    #[error("plugin `{plugin}` wants `{capability}`, which {why}")]
    Denied {
        /// Its name.
        plugin: String,
        /// As the policy spells it, or the claim.
        capability: String,
        /// Who didn't grant it, and the exact line that would.
        why: String,
    },
    /// Its digest is not the pinned one, or it must be pinned and isn't.
    #[error("plugin `{plugin}` {why}")]
    Pin {
        /// Its name.
        plugin: String,
        /// What is wrong and the line that would mend it.
        why: String,
    },
    /// The directory for compiled plugins.
    #[error(transparent)]
    Cache(#[from] CompileCacheError),
    /// The engine can't work on this machine. The text is wasmtime's.
    #[error("can't run plugins on this machine: {0}")]
    Engine(String),
}

/// How a plugin failed by its own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It ran into an instruction that ends it: a panic, a division by zero, a stack that is too deep.
    Trap,
    /// It took longer than its deadline.
    Timeout,
    /// It needed more memory than its limit.
    Memory,
    /// It can't be compiled or instantiated, or its answer breaks the interface's rules.
    Protocol,
}

/// A plugin's failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plugin `{plugin}` {kind}: {message}")]
pub struct Fault {
    /// Its name.
    pub plugin: String,
    /// How.
    pub kind: FaultKind,
    /// What is known, with the end of what it printed.
    pub message: String,
}

/// Why a call came to nothing, apart from what the plugin itself answers.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin's own doing.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The policy takes from one of cofferdam's own plugins what it needs.
    #[error("{0}")]
    Withheld(String),
    /// The build was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The machine failed behind a handle that the plugin used.
    #[error(transparent)]
    Storage(#[from] RootfsError),
    /// The executor failed, not the command.
    #[error("the command could not be run")]
    Executor(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a step was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A capability that was not granted, or a read that `plan` did not declare.
    #[error("the plugin `{plugin}` was denied `{capability}`: {message}")]
    Denied {
        /// Its name.
        plugin: String,
        /// As the policy spells it.
        capability: String,
        /// What was attempted.
        message: String,
    },
    /// The step can't be right.
    #[error("{}", .0.message)]
    Invalid(Diagnostic),
    /// The step may be right, but the plugin or this machine can't do it.
    #[error("{}", .0.message)]
    Unsupported(Diagnostic),
    /// A native command ended with anything but code 0.
    #[error("the command {0}")]
    CommandFailed(crate::Exit),
    /// Everything else.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "crashed",
            Self::Timeout => "took too long",
            Self::Memory => "ran out of memory",
            Self::Protocol => "misbehaved",
        })
    }
}

/// What `plan` gives: the plugin's answer or the findings that stop the build.
pub(crate) type PlanResult = Result<Planned, Vec<Diagnostic>>;
