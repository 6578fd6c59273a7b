//! What can go wrong with a context.

use std::{io, path::PathBuf};

use cofferdam_rootfs::RootfsError;

use crate::FetchError;

/// A context, or something in it, can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A kind of context that exists elsewhere.
    #[error("{kind} contexts (`{text}`) are not supported yet; use a directory")]
    Unsupported {
        /// The kind, for a person.
        kind: &'static str,
        /// What was written; a password in a URL is hidden.
        text: String,
    },
    /// A text that names no context.
    #[error("`{text}` is not {expected}")]
    Invalid {
        /// What was written.
        text: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// There is no such directory.
    #[error("the context `{}` does not exist; give the path of a directory", .0.display())]
    NoContext(PathBuf),
    /// A file stands where the directory should be.
    #[error("the context `{}` is not a directory; give the directory that holds the Dockerfile, and the Dockerfile itself with `-f`", .0.display())]
    NotADirectory(PathBuf),
    /// No Dockerfile.
    #[error("no Dockerfile at `{}`; name it with `-f`", .tried.join("` or `"))]
    NoDockerfile {
        /// Where it was looked for.
        tried: Vec<String>,
    },
    /// The Dockerfile is a symbolic link out of the context.
    #[error("`{path}` is a symbolic link to `{target}`, which is not in the context; name that file with `-f`")]
    DockerfileElsewhere {
        /// The link.
        path: String,
        /// Where it points, as stored.
        target: String,
    },
    /// A file that the builder reads whole is too large.
    #[error("`{name}` is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        name: String,
        /// In bytes.
        limit: u64,
    },
    /// The machine refused.
    #[error("can't read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The context's tree refused.
    #[error("can't read `{name}` in the context")]
    InContext {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: RootfsError,
    },
    /// It can't be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The git repository is broken, or of a kind that is not read.
    #[error("the git repository of `{}` can't be read: {why}", .directory.display())]
    Git {
        /// The context.
        directory: PathBuf,
        /// The finding.
        why: String,
    },
}
