//! What is said about the finished images, beside them in their index: how they were built, and what they are made of.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use cofferdam_digest::Digest;
use cofferdam_image::{AttestationManifest, Statement, Store, created, slsa};
use cofferdam_plan::{Target, key::KeyHasher};
use cofferdam_plugin_host::{BillOfMaterials, Scanned, Subject};
use cofferdam_rootfs::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    assemble::Assembled,
    builder::Builder,
    error::BuildError,
    events::{Ending, Kind},
    naming::Facts,
    provenance::provenance,
    request::{BuildRequest, SbomRequest},
    stage::stack,
};

/// The statements about each image, in the images' order.
///
/// # Errors
/// A scanner fails, or a layer that it looks into can't be had.
pub fn attest(
    request: &BuildRequest,
    builder: &Builder,
    facts: &Facts,
    images: &[Assembled],
) -> Result<Vec<AttestationManifest>, BuildError> {
    let asked = &request.destination.attestations;
    let about = |(image, target): (&Assembled, &Target)| {
        let descriptor = image.manifest.descriptor();
        let mut statements = Vec::new();
        if let Some(sbom) = &asked.sbom {
            let documents = described(builder, image, sbom, facts.epoch)?;
            statements.extend(
                documents
                    .iter()
                    .map(|document| Statement::new(&descriptor.digest, &document.predicate_type, &document.content)),
            );
        }
        if let Some(wanted) = &asked.provenance {
            let predicate = provenance(request, builder, facts, target, wanted)?;
            statements.push(Statement::new(&descriptor.digest, slsa::PREDICATE_TYPE, &predicate));
        }
        Ok(AttestationManifest::new(&descriptor, statements, asked.as_artifacts))
    };
    images.iter().zip(&builder.plan.targets).map(about).collect()
}

/// What an image is made of: as an earlier build with the same scanner found it, or as the scanner finds it now.
fn described(
    builder: &Builder,
    image: &Assembled,
    asked: &SbomRequest,
    epoch: i64,
) -> Result<Vec<BillOfMaterials>, BuildError> {
    let platform = image.platform.to_string();
    let subject = Subject {
        digest: image.manifest.descriptor().digest,
        platform: platform.clone(),
        date: Timestamp { seconds: epoch, nanoseconds: 0 },
        options: asked.options.clone(),
    };
    let failed = |source| BuildError::Sbom { platform: platform.clone(), source };
    let scanner = builder.plugins.scanner(&asked.scanner).map_err(failed)?;
    let work =
        builder.talk.begin(Kind::Scan, format!("describing the image for {platform} by {}", scanner.manifest.name));
    let path = kept_path(builder, &subject, &scanner.digest);
    if let Some(documents) = kept(builder, &path) {
        work.end(Ending::Cached);
        return Ok(documents);
    }
    let scan = || -> Result<Scanned, BuildError> {
        let rootfs = stack(&image.layers)?;
        builder.plugins.scan(&asked.scanner, &subject, rootfs).map_err(failed)
    };
    match scan() {
        Ok(Scanned { documents, warnings }) => {
            warnings.iter().for_each(|warning| builder.talk.warn(warning.message.clone()));
            // One with warnings is made again, so that they are heard again.
            if warnings.is_empty() {
                keep(builder, &path, &documents);
            }
            work.end(Ending::Done);
            Ok(documents)
        }
        Err(error) => {
            work.end(Ending::Failed(crate::chain(&error)));
            Err(error)
        }
    }
}

/// A document as it is kept, behind the digest of all documents of its file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kept {
    predicate_type: String,
    content: Map<String, Value>,
}

/// Where documents are kept that follow from an image and a scanner alone.
fn kept_path(builder: &Builder, subject: &Subject, scanner: &Digest) -> PathBuf {
    let mut hasher = KeyHasher::new("sbom");
    hasher.digest(scanner).digest(&subject.digest).part(&subject.platform).part(created(subject.date.seconds));
    hasher.list(subject.options.iter().map(|option| format!("{}={}", option.key, option.value)));
    builder.files.store.cache_directory().join(format!("sbom-{}.json", hasher.finish().hex()))
}

fn kept(builder: &Builder, path: &Path) -> Option<Vec<BillOfMaterials>> {
    let kept = builder.use_cache.then(|| read_kept(&builder.files.store, path))??;
    let document = |kept: Kept| BillOfMaterials { predicate_type: kept.predicate_type, content: kept.content };
    Some(kept.into_iter().map(document).collect())
}

/// The documents of a file, if it is whole.
pub fn read_kept(store: &Store, path: &Path) -> Option<Vec<Kept>> {
    let mut bytes = Vec::new();
    store.open_own_file(path).ok()??.read_to_end(&mut bytes).ok()?;
    let (sum, text) = bytes.split_at_checked(Digest::of(b"").hex().len())?;
    (Digest::of(text).hex().as_bytes() == sum).then(|| serde_json::from_slice(text).ok())?
}

/// Without it the next build looks again: no reason to fail.
fn keep(builder: &Builder, path: &Path, documents: &[BillOfMaterials]) {
    let keep = |document: &BillOfMaterials| Kept {
        predicate_type: document.predicate_type.clone(),
        content: document.content.clone(),
    };
    if let Ok(text) = serde_json::to_vec(&documents.iter().map(keep).collect::<Vec<_>>()) {
        let _ = builder.files.store.write_atomically(path, &[Digest::of(&text).hex().into_bytes(), text].concat());
    }
}
