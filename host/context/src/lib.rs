//! Build contexts as read-only trees, the Dockerfile in them, and what their git checkout says.
//!
//! - [`ContextSource`] is what the user wrote, [`Context`] the opened directory; its [`Context::tree`] hides what the ignore
//!   file excludes.
//! - [`DockerfileLocation`] and [`Context::read_dockerfile`] find the Dockerfile and the ignore file that belongs to it.
//! - [`NamedContext`] is one `--build-context`.
//! - [`git_facts`] reads commit, branch and tags, for tagging policies and for the epoch.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "owner of the contexts: reads what the user named"
)]

mod archive;
mod context;
mod dockerfile;
mod error;
mod fetched_file;
mod filling;
mod git;
mod named;
mod object;
mod remote;
mod source;
mod ssh;

pub use archive::ArchiveSource;
pub use context::{Context, Visibility};
pub use dockerfile::{DockerfileLocation, DockerfileText, IgnoreText};
pub use error::ContextError;
pub use fetched_file::FetchedFile;
pub use git::{FetchedGit, GitFacts, GitOptions, GitSource, fetch_git, git_facts};
pub use named::{NamedContext, NamedSource};
pub use object::{Bucket, CloudAccess, ObjectSource};
pub use remote::{Basic, Download, FetchError, FetchLimits, Remote, RemoteOptions, Requested, Validators, download};
pub use source::ContextSource;
pub use ssh::{SshAccess, SshAgent};
