//! What a build would do: the plan, for people. Base images are looked up, and nothing of them is fetched; nothing is run.

use std::sync::Arc;

use cofferdam_plan::PlannedStage;

use crate::{
    error::BuildError, events::Observer, executors::Surroundings, prepare::prepare, request::BuildRequest, stop::Stop,
};

/// A stage that would be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryStage {
    /// Its name, or `stage-N`.
    pub name: String,
    /// Its FROM, and then its instructions, with their variables expanded where progress shows them so.
    pub steps: Vec<String>,
    /// Whether it makes the image.
    pub is_target: bool,
}

/// The stages that the target needs, in the order of the Dockerfile.
///
/// # Errors
/// As for a build, before anything of it has run.
pub fn dry_run(
    request: &BuildRequest,
    surroundings: &Surroundings,
    observer: &Arc<dyn Observer>,
    stop: &Stop,
) -> Result<Vec<DryStage>, BuildError> {
    let prepared = prepare(request, surroundings, observer, stop)?;
    let plan = &prepared.plan;
    let mut stages: Vec<&PlannedStage> = plan.stages.values().collect();
    stages.sort_by_key(|stage| (stage.section, stage.earlier_actions));
    let stages = stages.into_iter().map(|stage| {
        let steps = stage.steps.iter().map(|step| step.title.clone());
        DryStage {
            name: stage.label(),
            steps: std::iter::once(stage.title.clone()).chain(steps).collect(),
            is_target: plan.targets.iter().any(|target| target.stage == stage.number),
        }
    });
    Ok(stages.collect())
}
