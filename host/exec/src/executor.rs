//! The one interface of all executors.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ExecError, RunRequest};

/// A way to run the native commands of RUN.
///
/// The engine asks for [`Executor::form`] before it makes the root, and reads the changes from where
/// [`RunOutcome::changes`] says. Nothing of a command outlives [`Executor::run`]: neither process nor mount.
pub trait Executor: Send + Sync {
    /// Which strategy this is.
    fn tier(&self) -> Tier;

    /// The form in which it needs the root.
    fn form(&self) -> RootForm;

    /// Which owners a command can give to files and take on itself, for real.
    fn ids(&self) -> Ids;

    /// What keeps a command from the builder, beside the namespaces or the translator.
    fn isolation(&self) -> Isolation;

    /// Runs one command to its end; blocks. May be called from several threads at once.
    ///
    /// # Errors
    /// The command could not be started, or was stopped. A command that ran and failed is no error but an
    /// [`Exit`].
    fn run(&self, request: &RunRequest, output: &mut dyn OutputSink) -> Result<RunOutcome, ExecError>;
}

/// The strategies, from strongest to weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tier {
    /// Root with CAP_SYS_ADMIN, with all ids: namespaces and overlayfs.
    NativeRoot,
    /// The same inside a user namespace of the builder's own.
    Userns,
    /// Root of a container with the usual capabilities: chroot, and a translator for the mounts.
    Chroot,
    /// Nothing at all: the translator.
    Emulated,
}

impl Tier {
    /// The name in options and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NativeRoot => "native-root",
            Self::Userns => "userns",
            Self::Chroot => "chroot",
            Self::Emulated => "emulated",
        }
    }

    /// The one that an option names; `native` is short for `native-root`.
    pub fn named(name: &str) -> Option<Self> {
        let tiers = [Self::NativeRoot, Self::Userns, Self::Chroot, Self::Emulated];
        tiers.into_iter().find(|tier| tier.name() == name || (*tier == Self::NativeRoot && name == "native"))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The form of a root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootForm {
    /// [`crate::Root::Overlay`].
    Overlay,
    /// [`crate::Root::Flat`].
    Flat,
}

/// The user and group ids that exist for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Every one.
    All,
    /// Those below `end`, for the most part.
    Range {
        /// One more than the highest.
        end: u32,
    },
    /// 0 alone: chown and setuid to another fail.
    Single,
}

/// What stands between a command and the builder beside the namespaces (or the translator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// How much of Landlock there is.
    pub landlock: Landlock,
    /// Whether system calls are filtered.
    pub seccomp: bool,
}

/// How much of Landlock the kernel offers for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// Signals and abstract unix sockets stop at the command's domain too (ABI 6, Linux 6.12).
    Scoped,
    /// ptrace stops at it (ABI 2 to 5). Abstract unix sockets of the builder's network stay in reach.
    Ptrace,
    /// There is none, or ABI 1, which can't allow a rename between directories.
    Missing,
}

/// One of the two streams of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes what a command prints while it runs, in pieces of at most 64 KiB.
pub trait OutputSink {
    /// Bytes as they came, cut anywhere.
    fn output(&mut self, stream: Stream, bytes: &[u8]);
}

impl<F: FnMut(Stream, &[u8])> OutputSink for F {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self(stream, bytes);
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// Whether it ended with the code 0.
    pub const fn success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}{}", signal_name(*signal)),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => " (SIGHUP)",
        libc::SIGINT => " (SIGINT)",
        libc::SIGQUIT => " (SIGQUIT)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGKILL => " (SIGKILL: killed, often for lack of memory)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGPIPE => " (SIGPIPE)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGSYS => " (SIGSYS)",
        _ => "",
    }
}

/// What a command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// How it ended.
    pub exit: Exit,
    /// Where its changes are.
    pub changes: Changes,
    /// What the user should know, mostly when the command failed.
    pub notes: Vec<Note>,
}

/// Where the changes of a command are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// In the upper directory.
    Upper {
        /// Relative paths that were made as mount points and are no change of the command's. Files and directories
        /// that are still empty are to be left out, and a whiteout that they replaced is to be kept.
        leave_out: Vec<Vec<u8>>,
    },
    /// In the flat tree and its journal, which say all that there is to say.
    Tree,
}

/// Something to tell the user about a command that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// The command failed where only one id exists.
    SingleId,
    /// The file could not be provided, because the image has something else than a file there.
    NotAFile {
        /// The path in the image.
        target: String,
    },
    /// A program was to be started, or made a call, that is for another processor than the translator knows.
    OtherProcessor {
        /// The path in the image.
        program: String,
        /// The processor.
        processor: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SingleId => formatter.write_str(
                "only user and group id 0 exist here: if the command changes owners or becomes another user, it needs \
                 subordinate ids (lines for this user in /etc/subuid and /etc/subgid, and the package with newuidmap)",
            ),
            Self::NotAFile { target } => {
                write!(formatter, "`{target}` of the image is not a regular file, so the machine's was not put there")
            }
            Self::OtherProcessor { program, processor } => write!(
                formatter,
                "`{program}` is for {processor}, and where nothing can be mounted RUN starts only programs for x86-64: take \
                 one for that, or run the builder where it can make namespaces (`doctor` tells what that needs)"
            ),
        }
    }
}
