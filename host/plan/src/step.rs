//! What a handler is told of a step, and what it answers: the shapes of `wit/instruction` on the host's side.

use cofferdam_digest::Digest;
use cofferdam_dockerfile::{Diagnostic, Span};
use serde::{Deserialize, Serialize};

/// One named value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyValue {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A `--name` or `--name=value` before the arguments, variables expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFlag {
    /// Without the dashes.
    pub name: String,
    /// What follows `=`.
    pub value: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// A here-document of the instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepHeredoc {
    /// The word after `<<`, without quotes.
    pub name: String,
    /// The lines, stripped and expanded as the instruction's syntax asks.
    pub content: String,
    /// Whether the delimiter was unquoted.
    pub expand: bool,
}

/// What stands after the flags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arguments {
    /// As written, continuation lines joined, nothing expanded.
    pub text: String,
    /// The elements of the JSON form, or the words (expanded if the keyword's syntax is `words`).
    pub words: Vec<String>,
    /// The pairs, if the keyword's syntax is `pairs`.
    pub pairs: Vec<KeyValue>,
    /// Whether the arguments were a JSON array.
    pub json: bool,
}

/// The stage's state before the step, limited to what the handler sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// ENV, in the order of the image's configuration.
    pub environment: Vec<KeyValue>,
    /// Build arguments in scope.
    pub build_arguments: Vec<KeyValue>,
    /// Absolute.
    pub working_directory: String,
    /// As USER spells it.
    pub user: String,
    /// For the shell form of commands.
    pub shell: Vec<String>,
    /// `os/architecture[/variant]`.
    pub platform: String,
}

/// One instruction, after word expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// In upper case.
    pub keyword: String,
    /// In the order of the text.
    pub flags: Vec<StepFlag>,
    /// What stands after the flags.
    pub arguments: Arguments,
    /// In the order of the text.
    pub heredocs: Vec<StepHeredoc>,
    /// Limited to what the handler sees.
    pub state: State,
    /// The whole instruction.
    pub span: Span,
}

/// A tree that a step reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreeSource {
    /// The build context.
    Context,
    /// A stage, an image or a named context, as `--from` spells it.
    Named(String),
}

/// What of a tree a step reads. Patterns are bytes: names need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeRead {
    /// The tree.
    pub source: TreeSource,
    /// Patterns of the COPY kind; what they match and everything beneath it is read. `/` is the whole tree.
    pub patterns: Vec<Vec<u8>>,
    /// Patterns of the ignore kind, relative to each match, of what is not read.
    pub exclude: Vec<String>,
}

impl TreeRead {
    /// All of a tree that is not the context.
    pub fn whole(name: &str) -> Self {
        Self { source: TreeSource::Named(name.to_owned()), patterns: vec![b"/".to_vec()], exclude: Vec::new() }
    }

    /// Whether everything of the tree is read.
    pub fn is_whole(&self) -> bool {
        let is_root =
            |pattern: &Vec<u8>| pattern.iter().all(|byte| matches!(byte, b'/' | b'.')) && !has_parent(pattern);
        self.exclude.is_empty() && self.patterns.iter().any(is_root)
    }
}

fn has_parent(pattern: &[u8]) -> bool {
    pattern.split(|byte| *byte == b'/').any(|component| component.len() > 1)
}

/// Something that `apply` will look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    /// Entries of a tree.
    Tree(TreeRead),
    /// An entry of the stage's root file system and, for a file, its content.
    RootfsPath(Vec<u8>),
    /// The whole root file system.
    WholeRootfs,
    /// A file behind a URL.
    Url(String),
    /// A git repository, as `URL#REFERENCE:DIRECTORY`.
    Git(String),
}

/// A command of the image's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCommand {
    /// The program and its arguments; with the shell in front if `shell_form`.
    pub arguments: Vec<String>,
    /// Whether it was written in the shell form.
    pub shell_form: bool,
}

/// A health check; durations in nanoseconds, 0 means not set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Healthcheck {
    /// `NONE`; or `CMD` or `CMD-SHELL` and the command.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval_ns: u64,
    /// Of one check.
    pub timeout_ns: u64,
    /// In which failures do not count.
    pub start_period_ns: u64,
    /// Between two checks of the start period.
    pub start_interval_ns: u64,
    /// Failures before the container is unhealthy.
    pub retries: u32,
}

/// One change of the image's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// ENV.
    Environment(KeyValue),
    /// LABEL.
    Label(KeyValue),
    /// EXPOSE, as `port/protocol`.
    Expose(String),
    /// VOLUME.
    Volume(String),
    /// USER.
    User(String),
    /// WORKDIR, absolute.
    WorkingDirectory(String),
    /// CMD.
    Command(ImageCommand),
    /// ENTRYPOINT.
    Entrypoint(ImageCommand),
    /// STOPSIGNAL.
    StopSignal(String),
    /// SHELL.
    Shell(Vec<String>),
    /// HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// ONBUILD, the trigger's text.
    OnBuild(String),
    /// MAINTAINER.
    Author(String),
}

/// What a step will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Changes the configuration only; the handler's `apply` is not called.
    Configuration,
    /// Changes the root file system.
    RootFileSystem,
}

/// What a handler knows of a step before anything has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What `apply` will look at.
    pub reads: Vec<Read>,
    /// In the order in which they apply.
    pub changes: Vec<ConfigChange>,
    /// What the step will do.
    pub effect: Effect,
}

/// How the text after a keyword's flags is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Syntax {
    /// A JSON array, or words with quotes removed and variables expanded: COPY, EXPOSE.
    Words,
    /// The whole text as one word, quotes removed and variables expanded: WORKDIR, USER.
    Word,
    /// `KEY=VALUE` pairs, expanded: ENV, LABEL.
    Pairs,
    /// A JSON array, or a text for a shell, not expanded: RUN, CMD.
    Command,
    /// A text, not taken apart and not expanded: ONBUILD, MAINTAINER.
    Text,
}

/// A field of [`State`] that a handler may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateField {
    /// [`State::environment`].
    Environment,
    /// [`State::build_arguments`].
    BuildArguments,
    /// [`State::working_directory`].
    WorkingDirectory,
    /// [`State::user`].
    User,
    /// [`State::shell`].
    Shell,
    /// [`State::platform`].
    Platform,
}

/// What the planner must know of the handler of a keyword.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerFacts {
    /// The plugin's name.
    pub plugin: String,
    /// Of the component's bytes; part of every cache key.
    pub digest: Digest,
    /// How the arguments are taken apart.
    pub syntax: Syntax,
    /// Which state the handler sees.
    pub sees: Vec<StateField>,
}

/// The handlers, as the planner uses them. Implemented by the plugin host; pure from the planner's side.
pub trait Handlers {
    /// The handler of a keyword (upper case), if some plugin claims it.
    fn facts(&self, keyword: &str) -> Option<HandlerFacts>;

    /// All claimed keywords, sorted: for "did you mean".
    fn keywords(&self) -> Vec<String>;

    /// Static findings.
    fn check(&self, step: &Step) -> Vec<Diagnostic>;

    /// What the step reads and changes.
    ///
    /// # Errors
    /// Findings that stop the build: the plugin's own, or one about the plugin if it trapped or timed out.
    fn plan(&self, step: &Step) -> Result<Planned, Vec<Diagnostic>>;
}
