//! Which executor carries out RUN, and how layers are unpacked for it.

use std::{path::Path, sync::Arc};

use cofferdam_exec::{Executor, Finding, Ids, Launcher, RootForm, Tier};
use cofferdam_plan::Plan;
use cofferdam_rootfs::UnpackForm;

use crate::error::BuildError;

/// What was found out about this machine before any thread was started.
pub struct Surroundings {
    /// What works, and why not the rest: all of it where nothing can carry out RUN, else as far as it was tried.
    pub findings: Vec<Finding>,
    /// What carries out RUN; `None` if nothing can.
    pub executor: Option<Arc<dyn Executor>>,
}

impl Surroundings {
    /// Probes the machine, and enters a user namespace if that is what RUN needs here. Must be called before any thread
    /// is started.
    ///
    /// # Errors
    /// The namespace that the probe could enter can't be entered now.
    pub fn prepare(store: &Path, wanted: Option<&str>) -> Result<Self, BuildError> {
        let tier = wanted.and_then(Tier::named);
        let report = cofferdam_exec::probe_for(store, tier);
        let findings = report.findings();
        let executor = report
            .settle(Launcher::default(), tier)
            .map_err(|error| BuildError::Executor { name: Tier::Userns.to_string(), reason: error.to_string() })?;
        // Nobody may look into this process: it will hold credentials.
        let _ = cofferdam_exec::harden_process();
        Ok(Self { findings, executor })
    }

    /// How layers are unpacked.
    pub fn form(&self) -> UnpackForm {
        if self.is_flat() {
            return UnpackForm::Plain;
        }
        match self.executor.as_ref().map(|executor| executor.ids()) {
            Some(Ids::All | Ids::Range { .. }) => UnpackForm::Real,
            Some(Ids::Single) => UnpackForm::SingleId,
            None => UnpackForm::Plain,
        }
    }

    fn is_flat(&self) -> bool {
        self.executor.as_ref().is_some_and(|executor| executor.form() == RootForm::Flat)
    }

    /// The name of the form in the store: what was unpacked with other ids is something else on the disk.
    pub fn form_name(&self) -> String {
        if self.is_flat() {
            return "plain".to_owned();
        }
        match self.executor.as_ref().map(|executor| (executor.tier(), executor.ids())) {
            Some((tier, Ids::Single)) => format!("{tier}-single"),
            Some((tier, _)) => tier.to_string(),
            None => "plain".to_owned(),
        }
    }
}

/// Choosing an executor.
pub struct Executors;

impl Executors {
    /// The executor for a plan; `None` if no step needs one.
    ///
    /// # Errors
    /// A step needs one and none works: said before anything runs.
    pub fn choose(
        surroundings: &Surroundings,
        wanted: Option<&str>,
        plan: &Plan,
    ) -> Result<Option<Arc<dyn Executor>>, BuildError> {
        if let Some(name) = wanted
            && name != "auto"
            && Tier::named(name).is_none()
        {
            let reason = "there are auto, native, userns, chroot and emulated".to_owned();
            return Err(BuildError::Executor { name: name.to_owned(), reason });
        }
        let steps = plan.stages.values().flat_map(|stage| &stage.steps);
        let needs = steps.filter(|step| step.needs_rootfs());
        let Some(first) = needs.min_by_key(|step| step.span) else { return Ok(None) };
        if let Some(executor) = &surroundings.executor {
            return Ok(Some(executor.clone()));
        }
        let findings = surroundings.findings.clone();
        match wanted {
            Some(name) if name != "auto" => Err(BuildError::Executor {
                name: name.to_owned(),
                reason: findings
                    .iter()
                    .find(|finding| finding.name.starts_with(name))
                    .map_or_else(String::new, |finding| format!("{}; {}", finding.why, finding.remedy)),
            }),
            _ => Err(BuildError::NoExecutor { instruction: first.title.clone(), findings }),
        }
    }
}
