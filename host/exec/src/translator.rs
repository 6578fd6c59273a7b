//! The executor of the tiers `emulated` and `chroot`, and of `userns` where there is a single id: one translator process for
//! each command.

use crate::{
    Changes, ExecError, Executor, Ids, Isolation, Launcher, NamespaceExecutor, OutputSink, Root, RootForm, RunOutcome,
    RunRequest, Tier,
    namespace::{PrivateDirectory, check},
    stage::Namespaces,
    wire::Start,
};

/// Runs commands on flat trees whose owners, modes and devices are recorded.
#[derive(Debug)]
pub struct TranslatorExecutor {
    tier: Tier,
    namespaces: Namespaces,
    real_root: bool,
    /// Starts stage processes and listens to them.
    starter: NamespaceExecutor,
    without_checks: bool,
}

/// The option of prctl(2) by which a command asks to be translated no more; unknown to the kernel.
#[doc(hidden)]
pub const NO_MORE_CHECKS: i32 = 0x6366_0001;

impl TranslatorExecutor {
    /// For this process as it is now, where nothing can be mounted.
    pub fn new(launcher: Launcher) -> Self {
        Self {
            tier: Tier::Emulated,
            namespaces: Namespaces::Shared,
            real_root: false,
            starter: NamespaceExecutor::new(launcher),
            without_checks: false,
        }
    }

    /// The same, for a process that may make a tree the root of another one.
    pub fn with_chroot(launcher: Launcher) -> Self {
        Self { tier: Tier::Chroot, real_root: true, ..Self::new(launcher) }
    }

    /// The same, with namespaces for each command in which the user of this process is the only one.
    pub fn with_namespaces(launcher: Launcher) -> Self {
        Self { tier: Tier::Userns, namespaces: Namespaces::OwnWithOneId, real_root: true, ..Self::new(launcher) }
    }

    /// For the tests of what holds when the translator is deceived: a command that asks for it with [`NO_MORE_CHECKS`] makes
    /// its calls itself from then on, with the paths of this machine, and only the domain and the filter are left.
    #[doc(hidden)]
    #[must_use]
    pub fn without_checks(self) -> Self {
        Self { without_checks: true, ..self }
    }
}

impl Executor for TranslatorExecutor {
    fn tier(&self) -> Tier {
        self.tier
    }

    fn form(&self) -> RootForm {
        RootForm::Flat
    }

    fn ids(&self) -> Ids {
        Ids::All
    }

    fn isolation(&self) -> Isolation {
        self.starter.isolation()
    }

    fn run(&self, request: &RunRequest, output: &mut dyn OutputSink) -> Result<RunOutcome, ExecError> {
        let Root::Flat { .. } = &request.root else {
            return Err(ExecError::Form { wanted: RootForm::Flat });
        };
        check(request)?;
        let private = PrivateDirectory::new(&request.scratch_directory)?;
        let start = Start {
            request: request.clone(),
            private: private.path.clone(),
            namespaces: self.namespaces,
            real_root: self.real_root,
            builder: std::process::id(),
            without_checks: self.without_checks,
        };
        let outcome = self.starter.start(&start)?.listen(request, output)?;
        Ok(RunOutcome { changes: Changes::Tree, ..outcome })
    }
}
