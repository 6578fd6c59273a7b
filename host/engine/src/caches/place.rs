//! Where a layer cache is kept.

use std::{path::PathBuf, sync::Arc};

use cofferdam_cache::{CacheDocument, CachedLayer};
use cofferdam_context::Remote;
use cofferdam_image::{Descriptor, Family, Index, LayerBlob, Manifest, MediaType, Platform};
use cofferdam_plugin_host::PluginHost;
use cofferdam_registry::{Client, Repository};
use tokio::{runtime::Handle, task::JoinHandle};

use super::{bucket::BucketPlace, inline, layout::LayoutPlace, registry::RegistryPlace};
use crate::{
    download::Download,
    layers::{BlobOrigin, LayerFiles, StageLayer},
    request::CacheLocation,
    work::Talk,
};

/// Of the configuration of a cache's manifest.
const DOCUMENT_TYPE: &str = "application/vnd.cofferdam.cache.v1+json";

/// A place for one cache: its document, and the layers that the document names. Whatever goes wrong here is told in words, and fails no
/// build.
pub trait CachePlace: Send + Sync {
    /// A name for people; no two places have the same.
    fn name(&self) -> String;

    /// What the layers are in. Places that answer the same have them together.
    fn shelf(&self) -> String;

    /// What is there; none if nothing was written yet.
    ///
    /// # Errors
    /// It can't be reached, or is no cache, in words.
    fn read(&self) -> Result<Option<FoundCache>, String>;

    /// Where its layers come from.
    fn origin(&self, download: Arc<Download>) -> Arc<dyn BlobOrigin>;

    /// Whether layers of the image need not be sent, once the image was pushed.
    fn mounts_from_the_image(&self) -> bool {
        false
    }

    /// Begins to bring a layer there. What is there already is not sent.
    fn send(&self, layer: Arc<StageLayer>) -> JoinHandle<Result<(), String>>;

    /// Puts a document in the place of the one before. Its layers are there.
    ///
    /// # Errors
    /// It can't be written, in words.
    fn write(&self, document: &CacheDocument) -> Result<(), String>;
}

/// A cache that was read.
pub struct FoundCache {
    /// Its records.
    pub document: CacheDocument,
    /// Whether it is an image's own: it has no sightings and no times.
    pub is_inline: bool,
}

/// What is needed to reach places and to tell of it.
#[derive(Clone)]
pub struct Means {
    /// For registries.
    pub client: Client,
    /// Of the runtime that the client needs.
    pub runtime: Handle,
    /// Where blobs are.
    pub files: Arc<LayerFiles>,
    /// Who watches.
    pub talk: Talk,
    /// What relative paths are relative to.
    pub working_directory: PathBuf,
    /// Of the images, where a cache is in an index.
    pub platforms: Vec<Platform>,
    /// Where the image goes: its layers need not be sent twice.
    pub mount_from: Vec<Repository>,
    /// For the operator's policy.
    pub plugins: Arc<PluginHost>,
    /// For buckets.
    pub remote: Remote,
}

impl Means {
    /// The place of a location.
    pub fn place(&self, location: &CacheLocation) -> Arc<dyn CachePlace> {
        match location {
            CacheLocation::Registry(reference) => Arc::new(RegistryPlace::new(reference.clone(), self.clone())),
            CacheLocation::Layout { directory, tag } => {
                let directory = self.working_directory.join(directory);
                Arc::new(LayoutPlace::new(directory, tag.clone(), self.clone()))
            }
            CacheLocation::Bucket(cache) => Arc::new(BucketPlace::new(cache.clone(), self.clone())),
        }
    }
}

/// A cache as a manifest: the document's bytes are its configuration, the layers are its layers, so that they live as long as
/// the tag.
pub fn manifest_of(document: &CacheDocument) -> (Manifest, Vec<u8>) {
    let bytes = document.to_json();
    let config = Descriptor::of(MediaType::Other(DOCUMENT_TYPE.to_owned()), &bytes);
    let layers = document.layers().into_iter().map(|layer| LayerBlob::from(layer).descriptor(Family::Oci));
    (Manifest::new(Family::Oci, config, layers.collect()), bytes)
}

/// The cache that a manifest is or has; `fetch` reads its configuration, verified.
///
/// # Errors
/// It is or has none, in words.
pub fn found_in(
    manifest: &Manifest,
    fetch: impl FnOnce(&Descriptor) -> Result<Vec<u8>, String>,
) -> Result<FoundCache, String> {
    let config = &manifest.config;
    let is_inline = match &config.media_type {
        MediaType::Config(_) => true,
        MediaType::Other(name) if name == DOCUMENT_TYPE => false,
        other => return Err(format!("it has a configuration of type `{other}`, and is no cache of ours")),
    };
    let bytes = fetch(config)?;
    if is_inline {
        return Ok(FoundCache { document: inline::read(manifest, &bytes)?, is_inline });
    }
    let mut document = CacheDocument::parse(&bytes).map_err(|error| error.to_string())?;
    let is_described = |layer: &CachedLayer| {
        let descriptor = LayerBlob::from(*layer).descriptor(Family::Oci);
        manifest.layers.contains(&descriptor)
    };
    if document.retain_layers(is_described) {
        return Err("it names a layer otherwise than its manifest does".to_owned());
    }
    Ok(FoundCache { document, is_inline })
}

/// The caches of an index's images for some platforms, as one; `read` reads that of an image.
///
/// # Errors
/// None of the images is for such a platform and has a cache, in words.
pub fn found_in_index(
    index: &Index,
    platforms: &[Platform],
    read: impl Fn(&Descriptor) -> Result<FoundCache, String>,
) -> Result<FoundCache, String> {
    let (mut joined, mut failure) = (None::<FoundCache>, None);
    for platform in platforms {
        match index.select(platform).map_err(|error| error.to_string()).and_then(&read) {
            Ok(found) => match &mut joined {
                Some(joined) => {
                    joined.document.merge(found.document);
                    joined.is_inline |= found.is_inline;
                }
                None => joined = Some(found),
            },
            Err(why) => drop(failure.get_or_insert(why)),
        }
    }
    joined.ok_or_else(|| failure.unwrap_or_else(|| "it is an index without images".to_owned()))
}
