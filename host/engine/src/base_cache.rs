//! Base images in a directory, fetched ahead (Kaniko's `--cache-dir` and warmer): one OCI layout for each, called by the digest of its
//! manifest. What is there is believed only after its digest was compared.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use cofferdam_digest::Digest;
use cofferdam_image::{Descriptor, LayerBlob, LayoutSelector, Manifest, OciLayout, StoreError};
use cofferdam_registry::Repository;

use crate::{
    chain,
    layers::{BlobOrigin, LayerFailure},
    registry_origin::RegistryOrigin,
    request::BaseImageCache,
    work::Talk,
};

/// An image that was fetched ahead.
pub struct CachedImage {
    layout: OciLayout,
    manifest: Descriptor,
}

impl BaseImageCache {
    /// The image with this digest, unless it is too old.
    pub fn find(&self, digest: &Digest) -> Option<CachedImage> {
        let directory = self.directory_of(digest);
        if !OciLayout::is_at(&directory) {
            return None;
        }
        let layout = OciLayout::open(&directory).ok()?;
        let age = layout.written().map(|written| SystemTime::now().duration_since(written).unwrap_or_default());
        if self.ttl.is_some_and(|ttl| age.is_none_or(|age| age >= ttl)) {
            return None;
        }
        let manifest = layout.resolve(&LayoutSelector::Digest(*digest)).ok()?.clone();
        Some(CachedImage { layout, manifest })
    }
}

impl CachedImage {
    /// Its manifest, verified; `None` if it is damaged.
    pub fn manifest(&self) -> Option<Vec<u8>> {
        self.layout.read_document(&self.manifest).ok()
    }

    /// Whether a layer is there, by its size.
    pub fn has(&self, blob: &LayerBlob) -> bool {
        self.layout.has_blob(&blob.digest, blob.size)
    }

    /// A configuration, verified; `None` if it is damaged.
    pub fn config(&self, config: &Descriptor) -> Option<Vec<u8>> {
        self.layout.read_document(config).ok()
    }
}

/// Layers of an image that was fetched ahead; what is missing or damaged there comes from the registry.
pub struct CachedOrigin {
    /// Where they should be.
    pub image: CachedImage,
    /// Of the image.
    pub manifest: Manifest,
    /// Where they are in any case.
    pub registry: RegistryOrigin,
    /// Who watches.
    pub talk: Talk,
    /// Whether something was damaged: told once.
    pub told: AtomicBool,
}

impl CachedOrigin {
    /// A layer, if its bytes are right: they are read to their end before, because what is unpacked half can't be taken back.
    fn verified(&self, blob: &LayerBlob) -> Result<Box<dyn Read + Send>, StoreError> {
        let descriptor = self.manifest.layers.iter().find(|layer| layer.digest == blob.digest);
        let descriptor = descriptor.cloned().unwrap_or_else(|| blob.descriptor(self.manifest.family()));
        let mut whole = self.image.layout.open_blob(&descriptor)?;
        io::copy(&mut whole, &mut io::sink()).map_err(|source| StoreError::Damaged {
            digest: blob.digest,
            path: self.image.layout.directory().to_path_buf(),
            removed: false,
            source: Some(source),
        })?;
        Ok(Box::new(self.image.layout.open_blob(&descriptor)?))
    }
}

impl BlobOrigin for CachedOrigin {
    fn open(&self, blob: &LayerBlob) -> Result<Box<dyn Read + Send>, LayerFailure> {
        match self.verified(blob) {
            Ok(layer) => Ok(layer),
            Err(why) => {
                if !self.told.swap(true, Ordering::SeqCst) {
                    let directory = self.image.layout.directory().display();
                    let why = chain(&why);
                    self.talk.warn(format!("the cached base image `{directory}` is not used: {why}"));
                }
                self.registry.open(blob)
            }
        }
    }

    fn repository(&self) -> Option<&Repository> {
        self.registry.repository()
    }
}

/// The origin of an image's layers.
pub fn origin(
    image: Option<CachedImage>,
    manifest: &Manifest,
    registry: RegistryOrigin,
    talk: &Talk,
) -> Arc<dyn BlobOrigin> {
    match image {
        None => Arc::new(registry),
        Some(image) => Arc::new(CachedOrigin {
            image,
            manifest: manifest.clone(),
            registry,
            talk: talk.clone(),
            told: AtomicBool::new(false),
        }),
    }
}
