//! Handlers of Dockerfile instructions.

use std::marker::PhantomData;

pub use crate::bindings::instruction::cofferdam::{
    fs::execution::{Command, Exit, Network},
    instruction::steps::{
        Arguments, ConfigChange, Effect, Error, Flag, Healthcheck, Heredoc, ImageCommand, Planned, Read, State, Step,
        TreeRead, TreeSource,
    },
};
use crate::{
    bindings::instruction::{
        cofferdam::fs::{execution, root, trees},
        exports::cofferdam::instruction::handler::Guest,
    },
    diagnostics::{self, Diagnostic, Severity},
    fs::{self, Executor, RootFs, Tree},
};

/// Carries out one or more instructions.
pub trait InstructionHandler: 'static {
    /// Static findings, all of them. Nothing has been fetched yet.
    fn check(step: &Step) -> Vec<Diagnostic>;

    /// What the step reads and changes: the same answer for the same step, always.
    ///
    /// # Errors
    /// The step can't be carried out as it is written.
    fn plan(step: &Step) -> Result<Planned, Error>;

    /// Carries the step out, and answers warnings. `trees` has one tree for each [`Read::Tree`], [`Read::Url`] and
    /// [`Read::Git`] that `plan` declared, in their order. Not called for steps whose effect is [`Effect::Configuration`].
    ///
    /// # Errors
    /// The step failed.
    fn apply(
        step: &Step,
        rootfs: &dyn RootFs,
        trees: &[&dyn Tree],
        executor: Option<&dyn Executor>,
    ) -> Result<Vec<Diagnostic>, Error>;
}

/// Exports a type that implements [`InstructionHandler`] as this component's handler.
#[macro_export]
macro_rules! export_instruction {
    ($handler:ty) => {
        #[cfg(target_arch = "wasm32")]
        mod exported {
            type Exported = $crate::instruction::Adapter<$handler>;
            $crate::bindings::instruction::export_handler!(Exported with_types_in $crate::bindings::instruction);
        }
    };
}

/// Puts an [`InstructionHandler`] behind the generated trait; [`export_instruction!`] uses it.
pub struct Adapter<T>(PhantomData<T>);

impl<T: InstructionHandler> Guest for Adapter<T> {
    fn check(step: Step) -> Vec<Diagnostic> {
        T::check(&step)
    }

    fn plan(step: Step) -> Result<Planned, Error> {
        T::plan(&step)
    }

    fn apply(
        step: Step,
        rootfs: &root::Rootfs,
        trees: Vec<trees::Tree>,
        executor: Option<&execution::Executor>,
    ) -> Result<Vec<Diagnostic>, Error> {
        let trees: Vec<&dyn Tree> = trees.iter().map(|tree| tree as &dyn Tree).collect();
        T::apply(&step, rootfs, &trees, executor.map(|executor| executor as &dyn Executor))
    }
}

impl Planned {
    /// Changes of the configuration, nothing read, `apply` not called.
    pub fn configuration(changes: Vec<ConfigChange>) -> Self {
        Self { reads: Vec::new(), changes, effect: Effect::Configuration }
    }
}

/// `plan`'s and `apply`'s answer to what `check` found: the first finding that stops the build, if there is one.
///
/// # Errors
/// That finding; as [`Error::Unsupported`] if its code begins with `Unsupported`.
pub fn refuse(findings: Vec<Diagnostic>) -> Result<(), Error> {
    match findings.into_iter().find(|finding| finding.severity == Severity::Error) {
        Some(finding) if finding.code.starts_with("Unsupported") => Err(Error::Unsupported(finding)),
        Some(finding) => Err(Error::Invalid(finding)),
        None => Ok(()),
    }
}

impl From<Diagnostic> for Error {
    fn from(finding: Diagnostic) -> Self {
        Self::Invalid(finding)
    }
}

impl From<execution::Error> for Error {
    fn from(error: execution::Error) -> Self {
        match error {
            execution::Error::Denied(denial) => Self::Denied(denial),
            execution::Error::Invalid(finding) => Self::Invalid(finding),
            execution::Error::Unsupported(finding) => Self::Unsupported(finding),
        }
    }
}

impl From<fs::Error> for Error {
    fn from(error: fs::Error) -> Self {
        let about = |code: &str, path: &[u8], what: &str| {
            Self::Invalid(diagnostics::error(code, format!("`{}` {what}", String::from_utf8_lossy(path))))
        };
        match error {
            fs::Error::Denied(denial) => Self::Denied(denial),
            fs::Error::Invalid(finding) => Self::Invalid(finding),
            fs::Error::Unsupported(finding) => Self::Unsupported(finding),
            fs::Error::NotFound(path) => about("NotFound", &path, "does not exist"),
            fs::Error::NotADirectory(path) => about("NotADirectory", &path, "is not a directory"),
            fs::Error::IsADirectory(path) => about("IsADirectory", &path, "is a directory"),
            fs::Error::Exists(path) => about("AlreadyExists", &path, "exists already"),
            fs::Error::SymlinkLoop(path) => about("SymlinkLoop", &path, "has too many symbolic links on its way"),
            fs::Error::TooLarge(limit) => {
                Self::Invalid(diagnostics::error("TooLarge", format!("more than the limit of {limit}")))
            }
            fs::Error::Storage(message) => Self::Invalid(diagnostics::error("StorageFailed", message)),
        }
    }
}
