//! Fetching base images ahead, into a directory that builds use ([`BaseImageCache`]).

use std::{collections::BTreeMap, io::Read, sync::Arc};

use cofferdam_digest::Digest;
use cofferdam_image::{Descriptor, Document, SharedLayout, Store, StoreError};
use cofferdam_plan::{ImageName, Platform};

use crate::{
    base_cache::CachedImage,
    credentials,
    error::BuildError,
    events::{Ending, Kind, Observer},
    executors::Surroundings,
    images::{Image, Images},
    layers::LayerFiles,
    plugins,
    prepare::{prepare, read_limits},
    registry_files,
    request::{BaseImageCache, BuildRequest},
    stop::Stop,
    work::Talk,
};

/// Which images are fetched, and where to.
#[derive(Debug, Clone)]
pub struct WarmRequest {
    /// How registries are reached, for which platform, with which arguments; and the Dockerfile, if `of_dockerfile`.
    pub build: BuildRequest,
    /// Whether the images count that the Dockerfile names.
    pub of_dockerfile: bool,
    /// Images by name.
    pub images: Vec<String>,
    /// Where to, and from which age on what is there is fetched again.
    pub cache: BaseImageCache,
    /// Whether what is there is fetched again.
    pub force: bool,
}

/// An image that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmImage {
    /// As it was asked for.
    pub name: String,
    /// Of the platform's manifest.
    pub digest: Digest,
    /// Whether it was fetched, or was there.
    pub fetched: bool,
}

/// Fetches the images. Blocks; starts threads.
///
/// # Errors
/// One can't be had, or the directory can't be written; those before are there.
pub fn warm(
    request: &WarmRequest,
    surroundings: &Surroundings,
    observer: &Arc<dyn Observer>,
    stop: &Stop,
) -> Result<Vec<WarmImage>, BuildError> {
    let talk = Talk::new(observer.clone());
    let build = &request.build;
    let store = Store::open(&build.store)?;
    let temporary = store.clone();
    stop.on_clean_up(move || temporary.remove_temporary());
    let mut found: BTreeMap<ImageName, Arc<Image>> = BTreeMap::new();
    // Kept while layers are fetched: their connections run on it.
    let prepared = request.of_dockerfile.then(|| prepare(build, surroundings, observer, stop)).transpose()?;
    if let Some(prepared) = &prepared {
        found.extend(prepared.images.iter().map(|(name, image)| (name.clone(), image.clone())));
    }
    let plugins = Arc::new(plugins::load_for(&build.plugins, None, stop)?);
    let runtime = credentials::runtime(2)?;
    let registries = registry_files::resolved(&build.registries)?;
    let client = credentials::client(&registries, &plugins, runtime.handle())?;
    let files = Arc::new(LayerFiles {
        store: store.clone(),
        form: surroundings.form(),
        form_name: surroundings.form_name(),
        limits: read_limits(build.execution.layer_limit_bytes),
        stop: stop.clone(),
    });
    let mirrors = registries.mirrors;
    let images = Images::new(client, runtime.handle().clone(), files, mirrors, &plugins, talk.clone());
    let platform = build.platforms.first().cloned().unwrap_or_else(Platform::current);
    for name in &request.images {
        let name = ImageName { name: name.clone(), platform: platform.clone() };
        let image = images.find(&name).map_err(|source| BuildError::BaseImage { name: name.name.clone(), source })?;
        if let Some(own) = image.other_platform(&name) {
            talk.warn(format!("the image `{}` is for {own}, not for {}", name.name, name.platform));
        }
        found.insert(name, Arc::new(image));
    }
    let mut warmed = Vec::new();
    for (name, image) in found {
        let fresh = request.cache.find(&image.digest).filter(|cached| !request.force && is_whole(cached, &image));
        let fetched = fresh.is_none();
        if fetched {
            let work = talk.begin(Kind::Pull, format!("caching {}", name.name));
            let kept = keep(&request.cache, &store, &image);
            image.end_download(if kept.is_ok() { Ending::Done } else { Ending::Stopped });
            work.end(match &kept {
                Ok(()) => Ending::Done,
                Err(error) => Ending::Failed(crate::chain(error)),
            });
            kept?;
        }
        warmed.push(WarmImage { name: name.name, digest: image.digest, fetched });
    }
    runtime.shutdown_background();
    Ok(warmed)
}

/// Whether nothing of an image is missing; its content is compared when it is used.
fn is_whole(cached: &CachedImage, image: &Image) -> bool {
    cached.manifest().is_some() && image.layers.iter().all(|layer| cached.has(layer.blob()))
}

fn keep(cache: &BaseImageCache, store: &Store, image: &Image) -> Result<(), BuildError> {
    let layout = SharedLayout::create(&cache.directory_of(&image.digest))?;
    let mut manifest = Vec::new();
    let read = store.open_blob(&image.digest)?.read_to_end(&mut manifest);
    read.map_err(|source| StoreError::Io { action: "read", path: store.blob_path(&image.digest), source })?;
    let Document::Manifest(parsed) = Document::parse(&manifest, None)? else {
        return Err(BuildError::NestedIndex(image.digest));
    };
    for (layer, descriptor) in image.layers.iter().zip(&parsed.layers) {
        // What is there may be damaged: its size is all that was looked at.
        if !layout.has_sound_blob(descriptor) {
            layout.remove_blob(&descriptor.digest);
            layout.put_blob(descriptor, layer.open()?)?;
        }
    }
    let config = store.read_document(&parsed.config)?;
    let descriptor = Descriptor::of(parsed.media_type.clone(), &manifest);
    layout.lock()?.set_tag(TAG, (&descriptor, &manifest), (&parsed.config, &config))?;
    Ok(())
}

/// The one image of a layout.
const TAG: &str = "latest";
