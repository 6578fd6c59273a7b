//! A cache that is a tag of an OCI layout directory: on a disk that several machines see, or that a CI system keeps.

use std::{io::Read, path::PathBuf, sync::Arc};

use cofferdam_cache::CacheDocument;
use cofferdam_image::{Descriptor, Document, Family, LayerBlob, LayoutSelector, Manifest, OciLayout, SharedLayout};
use cofferdam_registry::Repository;
use tokio::task::JoinHandle;

use super::place::{CachePlace, FoundCache, Means, found_in, found_in_index, manifest_of};
use crate::{
    chain,
    download::Download,
    layers::{BlobOrigin, LayerFailure, StageLayer},
};

/// A tag of a directory.
pub struct LayoutPlace {
    directory: PathBuf,
    tag: String,
    means: Means,
}

impl LayoutPlace {
    /// Nothing is read or made yet.
    pub fn new(directory: PathBuf, tag: String, means: Means) -> Self {
        Self { directory, tag, means }
    }
}

impl CachePlace for LayoutPlace {
    fn name(&self) -> String {
        format!("{}:{}", self.shelf(), self.tag)
    }

    fn shelf(&self) -> String {
        format!("oci:{}", self.directory.display())
    }

    fn read(&self) -> Result<Option<FoundCache>, String> {
        if !OciLayout::is_at(&self.directory) {
            return Ok(None);
        }
        let layout = OciLayout::open(&self.directory).map_err(|error| chain(&error))?;
        let Ok(descriptor) = layout.resolve(&LayoutSelector::Tag(self.tag.clone())) else { return Ok(None) };
        match document(&layout, descriptor)? {
            Document::Manifest(manifest) => found(&layout, &manifest).map(Some),
            Document::Index(index) => {
                found_in_index(&index, &self.means.platforms, |chosen| match document(&layout, chosen)? {
                    Document::Manifest(manifest) => found(&layout, &manifest),
                    Document::Index(_) => Err("it is an index of indexes".to_owned()),
                })
                .map(Some)
            }
        }
    }

    fn origin(&self, download: Arc<Download>) -> Arc<dyn BlobOrigin> {
        Arc::new(DirectoryOrigin { directory: self.directory.clone(), download })
    }

    fn send(&self, layer: Arc<StageLayer>) -> JoinHandle<Result<(), String>> {
        let (directory, store) = (self.directory.clone(), self.means.files.store.clone());
        self.means.runtime.spawn_blocking(move || {
            let layout = SharedLayout::create(&directory).map_err(|error| chain(&error))?;
            let blob = layer.blob();
            if layout.has_blob(&blob.digest, blob.size) {
                return Ok(());
            }
            layer.fetch().map_err(|error| chain(&error))?;
            let from = store.open_blob(&blob.digest).map_err(|error| chain(&error))?;
            layout.put_blob(&blob.descriptor(Family::Oci), from).map_err(|error| chain(&error))
        })
    }

    fn write(&self, document: &CacheDocument) -> Result<(), String> {
        let write = || {
            let layout = SharedLayout::create(&self.directory)?;
            let locked = layout.lock()?;
            let mut document = document.clone();
            // Whoever wrote the tag before may have removed one meanwhile.
            let missing: Vec<_> =
                document.layers().into_iter().filter(|layer| !layout.has_blob(&layer.digest, layer.size)).collect();
            document.retain_layers(|layer| !missing.contains(layer));
            let (manifest, bytes) = manifest_of(&document);
            let json = manifest.to_json();
            locked.set_tag(&self.tag, (&manifest.descriptor(), &json), (&manifest.config, &bytes))
        };
        write().map_err(|error: cofferdam_image::StoreError| chain(&error))
    }
}

fn document(layout: &OciLayout, descriptor: &Descriptor) -> Result<Document, String> {
    let bytes = layout.read_document(descriptor).map_err(|error| chain(&error))?;
    Document::parse(&bytes, Some(&descriptor.media_type)).map_err(|error| error.to_string())
}

fn found(layout: &OciLayout, manifest: &Manifest) -> Result<FoundCache, String> {
    found_in(manifest, |config| layout.read_document(config).map_err(|error| chain(&error)))
}

/// Layers that are in a layout.
struct DirectoryOrigin {
    directory: PathBuf,
    download: Arc<Download>,
}

impl BlobOrigin for DirectoryOrigin {
    fn open(&self, blob: &LayerBlob) -> Result<Box<dyn Read + Send>, LayerFailure> {
        let from = OciLayout::open(&self.directory)?.open_blob(&blob.descriptor(Family::Oci))?;
        Ok(Box::new(self.download.watch(blob, from)))
    }

    fn repository(&self) -> Option<&Repository> {
        None
    }
}
