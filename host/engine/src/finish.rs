//! The end of a build: images assembled from what the stages made, named, written and pushed.

use std::collections::BTreeMap;

use cofferdam_image::Family;
use cofferdam_plan::Target;

use crate::{
    annotations::{Annotation, AnnotationLevel},
    assemble::{Assembled, assemble},
    attest::attest,
    build::Built,
    builder::Builder,
    caches::inline_cache,
    error::BuildError,
    image_set::ImageSet,
    naming::{self, Decided, Facts, NamedRepository},
    publish::Publisher,
    request::{BuildRequest, Destination},
    stage::Stages,
    write_out::{self, Finished},
};

/// Runs the stages of all targets, and brings their images where the request wants them.
///
/// `created` is when the images say that they were made, in seconds since 1970.
///
/// # Errors
/// A stage failed, a policy refuses, or what is wanted can't be written or pushed.
pub fn finish(
    request: &BuildRequest,
    builder: &Builder,
    facts: &Facts,
    decided: &Decided,
    publisher: Option<&Publisher>,
    created: i64,
) -> Result<Built, BuildError> {
    let destination = &request.destination;
    let set = images(request, builder, facts, decided, created)?;
    let root = set.root().descriptor;
    let names = names(destination, builder, facts, decided, publisher, &root.digest)?;
    let tagged: Vec<String> =
        names.iter().flat_map(|named| named.references().map(|name| name.familiar()).collect::<Vec<_>>()).collect();
    let repositories = || names.iter().map(|named| named.repository.familiar());
    if !destination.push || !destination.outputs.is_empty() {
        let canonical = repositories().map(|name| format!("{name}@{}", root.digest));
        let canonical = canonical.filter(|_| destination.canonical_names);
        set.keep(&builder.files.store, &tagged.iter().cloned().chain(canonical).collect::<Vec<_>>())?;
    }
    write_out::write_all(builder, &Finished { root: &root, names: &tagged, set: &set }, &destination.outputs)?;
    // Last, as everybody sees it: what fails before moves no tag.
    if let Some(publisher) = publisher {
        publisher.finish(&set, &names, destination.ignore_immutable_tags, &builder.stop)?;
    }
    if let Some(file) = &destination.digest_file {
        let written = cofferdam_image::export::write_file(file, root.digest.to_string().as_bytes());
        written.map_err(|error| BuildError::Output { path: file.clone(), source: error.into() })?;
    }
    let layers: Vec<_> = set.layers().cloned().collect();
    builder.remote_cache.save(&layers);
    Ok(Built {
        digest: root.digest,
        config_digest: match set.images() {
            [only] => Some(only.manifest.config.digest),
            _ => None,
        },
        root,
        names: if destination.by_digest { repositories().collect() } else { tagged },
        pushed: publisher.is_some(),
        written: !destination.outputs.is_empty(),
    })
}

/// Runs all stages that the images need, those of different platforms side by side.
fn images(
    request: &BuildRequest,
    builder: &Builder,
    facts: &Facts,
    decided: &Decided,
    created: i64,
) -> Result<ImageSet, BuildError> {
    let destination = &request.destination;
    let stages = Stages::new(builder);
    let targets = &builder.plan.targets;
    std::thread::scope(|scope| {
        for target in targets {
            // What became of it is asked for below.
            scope.spawn(|| drop(stages.result(target.stage)));
        }
        for number in &builder.plan.further {
            scope.spawn(|| drop(stages.result(*number)));
        }
    });
    for number in &builder.plan.further {
        stages.result(*number)?;
    }
    let family = if destination.docker_media_types { Family::Docker } else { Family::Oci };
    // The user's own words count before a policy's.
    let labels = joined(&decided.labels, &request.labels);
    let of_policies = decided.annotations.iter().map(|(key, value)| Annotation {
        level: AnnotationLevel::Manifest,
        platform: None,
        key: key.clone(),
        value: value.clone(),
    });
    let annotations: Vec<Annotation> = of_policies.chain(destination.annotations.iter().cloned()).collect();
    let assemble = |target: &Target| {
        let cache = if request.caches.inline { inline_cache(&stages, target.stage)? } else { None };
        assemble(&stages, target, &labels, &annotations, created, family, cache)
    };
    let mut images = targets.iter().map(assemble).collect::<Result<Vec<Assembled>, _>>()?;
    if destination.attestations.is_any() {
        let attestations = attest(request, builder, facts, &images)?;
        return Ok(ImageSet::indexed(images, attestations, family, &annotations));
    }
    match images.pop() {
        Some(only) if images.is_empty() => Ok(ImageSet::Single(Box::new(only))),
        last => {
            images.extend(last);
            Ok(ImageSet::indexed(images, Vec::new(), family, &annotations))
        }
    }
}

/// The names, asked for again with the digest, before anything that names it is sent.
fn names(
    destination: &Destination,
    builder: &Builder,
    facts: &Facts,
    decided: &Decided,
    publisher: Option<&Publisher>,
    digest: &cofferdam_digest::Digest,
) -> Result<Vec<NamedRepository>, BuildError> {
    let before = &decided.repositories;
    if destination.references.is_empty() || destination.by_digest {
        return Ok(before.clone());
    }
    let after = naming::tag_facts(facts, Some(digest));
    let published = |repository: &_| match publisher {
        Some(publisher) => publisher.published(before, repository),
        None => Ok(Vec::new()),
    };
    let plugins = &builder.plugins;
    let decided = naming::decide(plugins, &destination.policies, &destination.references, &after, &published)?;
    let mut names = decided.repositories;
    names.retain(|decided| before.iter().any(|before| before.repository == decided.repository));
    Ok(names)
}

/// Two maps, of which the second one counts.
fn joined(under: &BTreeMap<String, String>, over: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    under.iter().chain(over).map(|(key, value)| (key.clone(), value.clone())).collect()
}
