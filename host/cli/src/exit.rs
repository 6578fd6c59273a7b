//! Exit codes.

use std::process::ExitCode;

/// How the program ends. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: everything was done.
    Success,
    /// 1: the build, the push or another task failed.
    Failed,
    /// 2: the command line is wrong.
    Usage,
    /// The code with which a RUN's command ended, 1 to 255; 128 and the signal's number where a signal ended it.
    Command(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::from(0),
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::Command(code) => Self::from(code.max(1)),
        }
    }
}
