//! The finished image: configuration, history, manifest.

use std::{collections::BTreeMap, sync::Arc};

use cofferdam_digest::Digest;
use cofferdam_image::{Descriptor, Family, Healthcheck, History, ImageConfig, Manifest, RuntimeConfig, created};
use cofferdam_plan::{Base, Config, Plan, PlannedStage, Platform, Target};

use crate::{
    annotations::{self, Annotation, AnnotationLevel},
    builder::Builder,
    error::BuildError,
    layers::StageLayer,
    single_layer,
    stage::Stages,
};

/// An image ready to be pushed or written.
pub struct Assembled {
    /// What it was asked to be for.
    pub platform: Platform,
    /// Its configuration, as bytes of JSON.
    pub config: Vec<u8>,
    /// Its manifest.
    pub manifest: Manifest,
    /// Of the manifest's descriptor, wherever that stands.
    pub descriptor_annotations: BTreeMap<String, String>,
    /// The base is first.
    pub layers: Vec<Arc<StageLayer>>,
}

impl Assembled {
    /// Of the manifest, with what was said to stand beside its digest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { annotations: self.descriptor_annotations.clone(), ..self.manifest.descriptor() }
    }
}

/// Puts the image of a target together.
///
/// # Errors
/// The target's stage failed.
pub fn assemble(
    stages: &Stages<'_>,
    target: &Target,
    labels: &BTreeMap<String, String>,
    annotations: &[Annotation],
    created_seconds: i64,
    family: Family,
    inline_cache: Option<serde_json::Value>,
) -> Result<Assembled, BuildError> {
    let builder = stages.builder;
    let plan = &builder.plan;
    let result = stages.result(target.stage)?;
    let stage = &plan.stages[&target.stage];
    let moment = created(created_seconds);
    let mut config = base_of(builder, plan, stage)?;
    let base = single_layer::base_layers(stages, target.stage)?;
    let layers = match builder.single_layer {
        false => result.layers.clone(),
        true => result.layers[..base].iter().cloned().chain(single_layer::make(stages, target.stage)?).collect(),
    };
    append_history(stages, stage, &moment, &shown(&result.layers, &layers, base), &mut config)?;
    fill(&mut config, stage.config());
    config.config.labels.extend(labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    config.created = Some(moment);
    config.inline_cache = inline_cache;
    let config = config.to_json();
    let descriptor = Descriptor::of(cofferdam_image::MediaType::Config(family), &config);
    let descriptors = layers.iter().map(|layer| layer.blob().descriptor(family)).collect();
    let mut manifest = Manifest::new(family, descriptor, descriptors);
    let at = |level| annotations::at(annotations, level, Some(&target.platform));
    // Docker's manifests have none (image manifest version 2, schema 2).
    if family == Family::Oci {
        manifest.annotations = at(AnnotationLevel::Manifest);
    }
    let descriptor_annotations = at(AnnotationLevel::ManifestDescriptor);
    Ok(Assembled { platform: target.platform.clone(), config, manifest, descriptor_annotations, layers })
}

/// For each layer of the target's stage, the one that stands in the image for it. Where one layer stands for several, the last
/// of these has it, and the others have none.
fn shown(made: &[Arc<StageLayer>], layers: &[Arc<StageLayer>], base: usize) -> Vec<Option<Digest>> {
    let diff_id = |layer: &Arc<StageLayer>| Some(layer.blob().diff_id);
    if made.len() == layers.len() {
        return layers.iter().map(diff_id).collect();
    }
    let none = std::iter::repeat_n(None, made.len().saturating_sub(layers.len()));
    layers[..base].iter().map(diff_id).chain(none).chain(layers[base..].iter().map(diff_id)).collect()
}

/// The configuration document with which the lowest stage starts: that of the base image, with its history.
fn base_of(builder: &Builder, plan: &Plan, stage: &PlannedStage) -> Result<ImageConfig, BuildError> {
    match &stage.base {
        Base::Stage(number) => base_of(builder, plan, &plan.stages[number]),
        Base::Image(name, _) => Ok(builder.image(name)?.config.clone()),
        Base::Scratch | Base::Directory(_) => Ok(ImageConfig::new(&stage.platform)),
    }
}

/// One entry for each instruction, of the stages below too; layers and entries that made one go together.
fn append_history(
    stages: &Stages<'_>,
    stage: &PlannedStage,
    moment: &str,
    shown: &[Option<Digest>],
    config: &mut ImageConfig,
) -> Result<(), BuildError> {
    let history = |created_by: String| History {
        created: Some(moment.to_owned()),
        created_by: Some(created_by),
        comment: Some("buildkit.dockerfile.v0".to_owned()),
        ..History::default()
    };
    let result = stages.result(stage.number)?;
    match &stage.base {
        Base::Stage(number) => append_history(stages, &stages.builder.plan.stages[number], moment, shown, config)?,
        Base::Directory(name) => {
            for diff_id in shown[..result.base_layers].iter().flatten() {
                config.push_layer(*diff_id, history(format!("FROM {name} # directory")));
            }
        }
        Base::Image(..) | Base::Scratch => {}
    }
    let mut layers = shown[result.base_layers..result.layers.len()].iter();
    for (step, made_layer) in stage.steps.iter().zip(&result.made_layer) {
        let Some(entry) = step.created_by.clone().map(history) else { continue };
        match made_layer.then(|| layers.next()).flatten().copied().flatten() {
            Some(diff_id) => config.push_layer(diff_id, entry),
            None => config.push_empty(entry),
        }
    }
    Ok(())
}

fn fill(image: &mut ImageConfig, config: &Config) {
    let runtime = RuntimeConfig {
        user: config.user.clone(),
        working_dir: config.working_directory.clone(),
        labels: config.labels.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.command.clone(),
        args_escaped: config.command_shell_form,
        shell: config.shell.clone(),
        stop_signal: config.stop_signal.clone(),
        on_build: config.on_build.clone(),
        env: config.environment.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect(),
        healthcheck: config.healthcheck.as_ref().map(|check| Healthcheck {
            test: check.test.clone(),
            interval: check.interval_ns.cast_signed(),
            timeout: check.timeout_ns.cast_signed(),
            start_period: check.start_period_ns.cast_signed(),
            start_interval: check.start_interval_ns.cast_signed(),
            retries: i64::from(check.retries),
        }),
        ..RuntimeConfig::default()
    };
    image.config = runtime;
    for port in &config.exposed_ports {
        image.config.expose(port);
    }
    for volume in &config.volumes {
        image.config.add_volume(volume);
    }
    image.author.clone_from(&config.author);
}
