//! A cache that is in the image itself, in the configuration: which layer of the image each step gave.
//!
//! It has definition keys alone, and only of steps whose layers the image has, because the same build must give the same image,
//! whether its steps ran or were found. Times would differ from build to build, and so would sightings, which are of steps that
//! ran: whoever reads it hashes the sources of every step instead.

use cofferdam_cache::{CacheDocument, CacheEntry};
use cofferdam_image::{ImageConfig, LayerBlob, Manifest, MediaType};
use cofferdam_layer::Compression;
use cofferdam_plan::{Base, StageNumber};
use serde::Deserialize;

use crate::{error::BuildError, stage::Stages};

/// What the image of a target says of its layers; told of, if it can't.
///
/// # Errors
/// A stage of the image failed.
pub fn of_image(stages: &Stages<'_>, target: StageNumber) -> Result<Option<serde_json::Value>, BuildError> {
    let builder = stages.builder;
    if builder.single_layer || builder.write.compression != Compression::default() {
        let text = "the image has no cache in it: that takes a layer for each step, with the default compression";
        builder.talk.warn(text.to_owned());
        return Ok(None);
    }
    let mut document = CacheDocument::default();
    let mut next = Some(target);
    while let Some(number) = next {
        next = add_stage(stages, number, &mut document)?;
    }
    Ok(serde_json::from_slice(&document.to_json()).ok())
}

/// Adds the steps of a stage, and answers the stage below.
fn add_stage(
    stages: &Stages<'_>,
    number: StageNumber,
    document: &mut CacheDocument,
) -> Result<Option<StageNumber>, BuildError> {
    let result = stages.result(number)?;
    let stage = &stages.builder.plan.stages[&number];
    let (mut layers, mut keys) = (result.layers[result.base_layers..].iter(), result.keys.iter());
    for (step, made_layer) in stage.steps.iter().zip(&result.made_layer).filter(|(step, _)| step.action.is_some()) {
        let layer = made_layer.then(|| layers.next()).flatten().map(|layer| (*layer.blob()).into());
        let created_by = step.created_by.clone().unwrap_or_default();
        if let Some(key) = keys.next() {
            document.put(key.0, CacheEntry { layer, created_by, warnings: Vec::new() }, 0);
        }
    }
    Ok(match stage.base {
        Base::Stage(below) => Some(below),
        Base::Image(..) | Base::Scratch | Base::Directory(_) => None,
    })
}

/// The cache of an image, with nothing in it that is not the image's own.
///
/// # Errors
/// The image has none, in words.
pub fn read(manifest: &Manifest, config: &[u8]) -> Result<CacheDocument, String> {
    #[derive(Deserialize)]
    struct Carrier {
        #[serde(rename = "cofferdam.cache.v1")]
        cache: Option<serde_json::Value>,
    }
    let none = || "it is an image without a cache in it, and is no cache of ours".to_owned();
    let carrier: Carrier = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    let bytes = serde_json::to_vec(&carrier.cache.ok_or_else(none)?).map_err(|error| error.to_string())?;
    let mut document = CacheDocument::parse(&bytes).map_err(|error| error.to_string())?;
    let diff_ids = ImageConfig::parse(config).map_err(|error| error.to_string())?.rootfs.diff_ids;
    let own: Vec<LayerBlob> = (manifest.layers.iter().zip(diff_ids))
        .filter_map(|(layer, diff_id)| match layer.media_type {
            MediaType::Layer(_, compression) => {
                Some(LayerBlob { diff_id, digest: layer.digest, size: layer.size, compression })
            }
            _ => None,
        })
        .collect();
    if document.retain_layers(|layer| own.contains(&LayerBlob::from(*layer))) {
        return Err("its cache names a layer that the image does not have".to_owned());
    }
    Ok(document)
}
