//! Why a command could not be run.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};

use crate::RootForm;

/// Why a command could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The program could not be started. Container engines end with the code of [`CommandProblem::code`] then.
    #[error("can't run `{program}`: {problem}")]
    Command {
        /// As it was written.
        program: String,
        /// What is wrong with it.
        problem: CommandProblem,
    },
    /// A user or group id that does not exist in the builder's user namespace.
    #[error(
        "can't become {kind} {id}: only the ids {mapped} exist here; give this user subordinate ids that reach it \
         (lines in /etc/subuid and /etc/subgid, and the package with newuidmap)"
    )]
    ForeignId {
        /// What kind of id.
        kind: IdKind,
        /// The number.
        id: u32,
        /// Those that exist.
        mapped: String,
    },
    /// A part of the command's surroundings could not be made.
    #[error("can't {step}: {source}{}", .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Setup {
        /// What was being done, in words that follow "can't".
        step: String,
        /// What the system said.
        source: io::Error,
        /// What may help.
        hint: Option<String>,
    },
    /// The request can't be carried out as it is.
    #[error("invalid request: {0}")]
    Request(String),
    /// The executor needs the root in another form.
    #[error("this executor needs the root in the form {wanted:?}")]
    Form {
        /// What [`crate::Executor::form`] says.
        wanted: RootForm,
    },
    /// [`crate::Cancel::cancel`] was called.
    #[error("the command was stopped")]
    Cancelled,
    /// The time was over.
    #[error("the command did not end within {} seconds and was stopped", .after.as_secs_f64())]
    TimedOut {
        /// How long it had.
        after: Duration,
    },
    /// The process that runs the command could not be started, or talked to.
    #[error("can't start the process that runs the command")]
    Launch(#[source] io::Error),
    /// The process that runs the command ended without a word, as it does when it is killed.
    #[error("the process that runs the command ended ({status}); it may have been killed for lack of memory")]
    Lost {
        /// How, in the words of the standard library.
        status: String,
    },
}

impl ExecError {
    /// The code that container engines end with for this: 126 and 127 for a command that can't be started, else 125.
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Command { problem, .. } => problem.code(),
            _ => 125,
        }
    }
}

/// A user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdKind {
    /// A user.
    User,
    /// A group.
    Group,
}

impl std::fmt::Display for IdKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::User => "user",
            Self::Group => "group",
        })
    }
}

/// Why a program can't be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CommandProblem {
    /// There is none of this name.
    #[error("not found{}", if *.in_path { " in PATH" } else { "" })]
    NotFound {
        /// Whether PATH was searched.
        in_path: bool,
    },
    /// The file is there, what runs it is not.
    #[error("the file exists, but the interpreter that it names (after `#!`, or its dynamic loader) does not")]
    NoInterpreter,
    /// It may not be executed.
    #[error("permission denied (is it a file, with the execute bit set?)")]
    Denied,
    /// It is not a program for this machine.
    #[error("exec format error (built for another processor, or a script without a `#!` line)")]
    Format,
    /// Something else.
    #[error("{}", io::Error::from_raw_os_error(*.errno))]
    Other {
        /// The system's number.
        errno: i32,
    },
}

impl CommandProblem {
    /// 127 if there is no such program, 126 if there is but can't be run, as shells and container engines have it.
    pub const fn code(&self) -> i32 {
        match self {
            Self::NotFound { .. } | Self::NoInterpreter => 127,
            _ => 126,
        }
    }
}
