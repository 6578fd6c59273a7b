//! What can go wrong behind the door.

use crate::{RootPath, path::InvalidPath};

/// An operation on a tree or a root file system failed.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// There is nothing at this path.
    #[error("`{0}` does not exist")]
    NotFound(RootPath),
    /// A component that should be a directory is something else.
    #[error("`{0}` is not a directory")]
    NotADirectory(RootPath),
    /// A directory stands where a file is needed.
    #[error("`{0}` is a directory")]
    IsADirectory(RootPath),
    /// Not a regular file: a device, a fifo, a socket.
    #[error("`{0}` is not a regular file")]
    NotAFile(RootPath),
    /// More than 40 symlinks on the way (as the kernel counts, path_resolution(7)).
    #[error("`{0}` has too many levels of symbolic links")]
    SymlinkLoop(RootPath),
    /// The path itself is wrong.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// A bound was exceeded.
    #[error("{what} is more than the limit of {limit}")]
    TooLarge {
        /// What was counted.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// The entry is of a kind that this operation has no use for.
    #[error("`{path}` {why}")]
    Unsupported {
        /// Which entry.
        path: RootPath,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The machine failed.
    #[error("can't {action}")]
    Storage {
        /// What was attempted, with the path on this machine.
        action: String,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
}
