//! `--single-snapshot`: one layer of everything that a build adds to its base image.

use std::sync::Arc;

use cofferdam_digest::Digest;
use cofferdam_plan::{Base, StageNumber, key};
use cofferdam_rootfs::{LayerStack, MergedIndex, squash};

use crate::{
    error::{BuildError, StepError},
    events::{Ending, Kind},
    layers::StageLayer,
    stage::{Stages, state},
    step,
};

/// How many of the target's layers are those of its base, which is never changed.
///
/// # Errors
/// A stage failed.
pub fn base_layers(stages: &Stages<'_>, stage: StageNumber) -> Result<usize, BuildError> {
    match stages.builder.plan.stages.get(&stage).map(|stage| &stage.base) {
        Some(Base::Stage(below)) => base_layers(stages, *below),
        _ => Ok(stages.result(stage)?.base_layers),
    }
}

/// The layers of a target as one; `None` if it adds none.
///
/// # Errors
/// A stage failed, a layer can't be had, or the new one can't be written.
pub fn make(stages: &Stages<'_>, target: StageNumber) -> Result<Option<Arc<StageLayer>>, BuildError> {
    let layers = stages.result(target)?.layers.clone();
    let (base, own) = layers.split_at(base_layers(stages, target)?);
    if own.is_empty() {
        return Ok(None);
    }
    let work = stages.builder.talk.begin(Kind::Step, format!("one layer of {}", own.len()));
    let made = squashed(stages, base, own, &work);
    match made {
        Ok(layer) => {
            work.end(Ending::Done);
            (stages.builder.on_layer)(target, &layer);
            Ok(Some(layer))
        }
        Err(error) => {
            work.end(Ending::Failed(crate::chain(&error)));
            Err(BuildError::SingleLayer(error))
        }
    }
}

fn squashed(
    stages: &Stages<'_>,
    base: &[Arc<StageLayer>],
    own: &[Arc<StageLayer>],
    work: &crate::work::Work,
) -> Result<Arc<StageLayer>, StepError> {
    let recipe = recipe(base, own);
    let below = || -> Result<MergedIndex, StepError> {
        let indexes = base.iter().map(|layer| layer.index()).collect::<Result<Vec<_>, _>>()?;
        Ok(MergedIndex::new(indexes))
    };
    let changes = || {
        let stack = own.iter().map(StageLayer::for_stack).collect::<Result<Vec<_>, _>>()?;
        squash(&Arc::new(LayerStack::new(stack)), below)
    };
    step::derived_layer(stages, &recipe, changes, work)
}

/// What the layer is made of.
fn recipe(base: &[Arc<StageLayer>], own: &[Arc<StageLayer>]) -> Digest {
    let mut hasher = key::KeyHasher::new("single-layer");
    hasher.digest(&state(base)).digest(&state(own));
    hasher.finish()
}
