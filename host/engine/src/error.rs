//! Why a build failed.

use std::{path::PathBuf, sync::Arc};

use cofferdam_context::FetchError;
use cofferdam_dockerfile::{Diagnostic, Span};
use cofferdam_exec::{Exit, Note};
use cofferdam_image::{ImageError, StoreError};
use cofferdam_registry::{ReferenceError, RegistryError};
use cofferdam_rootfs::RootfsError;

use crate::{images::ImageFailure, layers::LayerFailure, trees::HashError};

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is wrong: all findings.
    #[error("{file} has errors")]
    Dockerfile {
        /// Its name, for people.
        file: String,
        /// Its text.
        text: String,
        /// In the order of the text.
        diagnostics: Vec<Diagnostic>,
    },
    /// A step failed.
    #[error("step `{title}` failed")]
    Step {
        /// The instruction.
        title: String,
        /// The Dockerfile's name, for people.
        file: String,
        /// Its text.
        text: String,
        /// Where it stands.
        span: Span,
        /// Why.
        #[source]
        source: StepError,
    },
    /// The scanner that is to describe the image.
    #[error(transparent)]
    Scanner(#[from] cofferdam_plugin_host::ScanError),
    /// A scanner can't say what the image is made of.
    #[error("the image for {platform} can't be described")]
    Sbom {
        /// Which of the images.
        platform: String,
        /// Why.
        #[source]
        source: cofferdam_plugin_host::ScanError,
    },
    /// The one layer of the image can't be made.
    #[error("the layers can't be made one")]
    SingleLayer(#[source] StepError),
    /// `--ignore-path`.
    #[error("`{0}` can't be ignored: it is no path, or it is everything")]
    IgnoredPath(String),
    /// A manifest can't be given the digest of another one.
    #[error("`{0}` names a digest, which nothing can be pushed under; leave out `@sha256:…`")]
    DigestAsName(String),
    /// The epoch that the Dockerfile declares is none.
    #[error("`ARG SOURCE_DATE_EPOCH={0}` is not a number of seconds since 1970")]
    Epoch(String),
    /// An image that was written to a file can't be pushed.
    #[error("`{}` can't be pushed: {reason}", path.display())]
    ImageFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file about registries can't be used.
    #[error("`{}` can't be used: {reason}", path.display())]
    RegistryFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An index can't be made of images in registries.
    #[error(transparent)]
    Index(#[from] crate::create_index::IndexError),
    /// A command is for a processor that this machine does not have, and nothing here stands in for that.
    #[error("`{instruction}` runs programs for {platform}, which this machine can't: {reason}")]
    Foreign {
        /// The instruction.
        instruction: String,
        /// What its base image is for.
        platform: cofferdam_plan::Platform,
        /// What is missing.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// An index in an index.
    #[error("{0} is an index in an index, which no registry client expects")]
    NestedIndex(cofferdam_digest::Digest),
    /// An image was to be pushed under the digest of another one.
    #[error(
        "`{destination}` names another image: the digest of this one is {found}; write its name without the digest, or with a tag"
    )]
    OtherDigest {
        /// As it was asked for.
        destination: String,
        /// The image's.
        found: cofferdam_digest::Digest,
    },
    /// Logging in failed.
    #[error("logging in to `{host}` failed")]
    Login {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// The context can't be used.
    #[error(transparent)]
    Context(#[from] cofferdam_context::ContextError),
    /// The context and the Dockerfile both.
    #[error(
        "standard input can't be the context and the Dockerfile; give one of them as a path, or put the Dockerfile into the archive"
    )]
    StandardInputTwice,
    /// What a step names can't be fetched.
    #[error(transparent)]
    Fetch(#[from] Arc<FetchError>),
    /// A named context can't be used.
    #[error("named context `{name}`: {reason}")]
    NamedContext {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer can't be had.
    #[error(transparent)]
    Layer(#[from] LayerFailure),
    /// A tree can't be read.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// An image's documents are wrong.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An image can't be had.
    #[error("image `{name}`")]
    Source {
        /// As the user wrote it.
        name: String,
        /// The Dockerfile's name, for people.
        file: String,
        /// Its text.
        text: String,
        /// Where the image is named.
        span: Option<Span>,
        /// Why.
        #[source]
        source: ImageFailure,
    },
    /// An image that was named by itself can't be had.
    #[error("image `{name}`")]
    BaseImage {
        /// As the user wrote it.
        name: String,
        /// Why.
        #[source]
        source: ImageFailure,
    },
    /// A name that no registry could have.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A push failed. No tag was moved.
    #[error("pushing to `{destination}` failed")]
    Push {
        /// Where to.
        destination: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// A file with certificates can't be read.
    #[error("can't read the certificate file {}", path.display())]
    Certificate {
        /// As the user wrote it.
        path: PathBuf,
        /// The machine's answer.
        #[source]
        source: std::io::Error,
    },
    /// A credential helper that was asked by name fails.
    #[error(transparent)]
    Credential(cofferdam_plugin_host::CredentialError),
    /// A credential helper that does not exist was asked for.
    #[error("there is no credential helper `{name}`: there are {}", .known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))]
    CredentialHelper {
        /// As it was written.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A plugin can't be used, or is not allowed what it wants.
    #[error("{} can't be loaded", if .0.len() == 1 { "a plugin" } else { "several plugins" })]
    Plugins(Vec<cofferdam_plugin_host::PluginError>),
    /// The operator's policy can't be read.
    #[error(transparent)]
    Policy(#[from] cofferdam_plugin_host::PolicyError),
    /// A tagging policy refused.
    #[error("tagging policy `{policy}` refuses: {reason}")]
    Refused {
        /// Its name.
        policy: String,
        /// In its own words.
        reason: String,
        /// What to do about it, in its own words.
        help: Option<String>,
    },
    /// A tagging policy failed.
    #[error("tagging policy `{policy}`: {reason}")]
    TagPolicy {
        /// Its name.
        policy: String,
        /// Why.
        reason: String,
    },
    /// The operator's policy does not allow a push.
    #[error("the operator's policy does not allow to push to `{0}`")]
    PushForbidden(String),
    /// An output file can't be written.
    #[error("can't write `{}`", path.display())]
    Output {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A secret or an SSH agent that the command line names can't be had.
    #[error("`{flag}`: `{id}` can't be read from `{}`", path.display())]
    Handout {
        /// `--secret` or `--ssh`.
        flag: &'static str,
        /// Its name.
        id: String,
        /// The file or socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// RUN can't be carried out on this machine.
    #[error("{instruction} needs an executor, and none works here")]
    NoExecutor {
        /// The first instruction that needs it.
        instruction: String,
        /// What was tried and why it does not work.
        findings: Vec<cofferdam_exec::Finding>,
    },
    /// `--executor` names one that does not exist or does not work here.
    #[error("executor `{name}` can't be used: {reason}")]
    Executor {
        /// As given.
        name: String,
        /// Why.
        reason: String,
    },
    /// The runtime for network connections can't be started.
    #[error("can't start the threads for network connections")]
    Runtime(#[source] std::io::Error),
    /// Somebody stopped it.
    #[error("the build was stopped")]
    Stopped,
    /// Another stage of the same build failed; its own error was reported.
    #[error("stage `{stage}` failed")]
    Stage {
        /// Its name.
        stage: String,
        /// Why.
        #[source]
        source: std::sync::Arc<BuildError>,
    },
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A native command ended with anything but code 0.
    #[error("the command ended with {exit}")]
    Command {
        /// How.
        exit: Exit,
        /// What the user should know.
        notes: Vec<Note>,
        /// Whether the disk was full, which the command may have said in its own words or not.
        disk_is_full: bool,
    },
    /// The handler says that the input is wrong, or that it can't do it.
    #[error("{}", .0.message)]
    Finding(Diagnostic),
    /// The handler asked for what it was not granted, or did not declare.
    #[error("{plugin} was denied `{capability}`: {message}")]
    Denied {
        /// The plugin.
        plugin: String,
        /// The capability.
        capability: String,
        /// What was attempted.
        message: String,
    },
    /// What it names can't be fetched.
    #[error(transparent)]
    Fetch(Arc<FetchError>),
    /// The handler itself failed.
    #[error("{0}")]
    Plugin(String),
    /// The command could not be started.
    #[error(transparent)]
    Exec(#[from] cofferdam_exec::ExecError),
    /// A layer can't be had.
    #[error(transparent)]
    Layer(#[from] LayerFailure),
    /// The step's own layer can't be written.
    #[error("the layer can't be written")]
    Write(#[source] cofferdam_layer::LayerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A tree can't be read.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// What the step reads can't be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// What the step needs failed.
    #[error("what it needs failed")]
    Input(#[source] Box<BuildError>),
}

impl BuildError {
    /// The exit of the native command that made the build fail, if one did.
    pub fn command_exit(&self) -> Option<Exit> {
        match self {
            Self::Step { source: StepError::Command { exit, .. }, .. } => Some(*exit),
            Self::Step { source: StepError::Exec(error), .. } => Some(Exit::Code(error.exit_code())),
            Self::Step { source: StepError::Input(inner), .. } => inner.command_exit(),
            Self::Stage { source, .. } => source.command_exit(),
            _ => None,
        }
    }
}
