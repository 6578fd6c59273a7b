//! A cache that is a tag of a registry's repository: a manifest of its own, or an image that has its cache in it.

use std::sync::Arc;

use bytes::Bytes;
use cofferdam_cache::{CacheDocument, DOCUMENT_LIMIT_BYTES};
use cofferdam_image::{Document, Manifest, MediaType};
use cofferdam_registry::{BlobUpload, ManifestName, Reference, RegistryError};
use tokio::task::JoinHandle;

use super::place::{CachePlace, FoundCache, Means, found_in, found_in_index, manifest_of};
use crate::{
    download::Download,
    layers::{BlobOrigin, StageLayer},
    publish::{StoredBlob, document_upload, put_manifest},
    registry_origin::RegistryOrigin,
};

/// A tag.
pub struct RegistryPlace {
    reference: Reference,
    means: Means,
}

impl RegistryPlace {
    /// Nothing is asked yet.
    pub fn new(reference: Reference, means: Means) -> Self {
        Self { reference, means }
    }

    /// A manifest or an index; none if the tag does not exist.
    fn document(&self, reference: &Reference) -> Result<Option<Document>, String> {
        let found = match self.means.runtime.block_on(self.means.client.resolve(reference)) {
            Ok(found) => found,
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let media_type = MediaType::from(found.media_type.as_str());
        Document::parse(&found.bytes, Some(&media_type)).map(Some).map_err(|error| error.to_string())
    }

    fn found_in(&self, manifest: &Manifest) -> Result<FoundCache, String> {
        found_in(manifest, |config| {
            let repository = self.reference.repository();
            let fetched = self.means.client.fetch_blob(repository, config.digest, config.size, DOCUMENT_LIMIT_BYTES);
            self.means.runtime.block_on(fetched).map(Into::into).map_err(|error| error.to_string())
        })
    }

    fn put(&self, document: &CacheDocument) -> Result<(), RegistryError> {
        let Means { client, runtime, .. } = &self.means;
        let (manifest, bytes) = manifest_of(document);
        let repository = self.reference.repository();
        let upload = document_upload(&manifest.config, Bytes::from(bytes));
        runtime.block_on(client.push_blob(repository, &upload))?;
        let name = self.reference.tag_or_latest().map_or(ManifestName::Digest, ManifestName::Tag);
        let json = Bytes::from(manifest.to_json());
        put_manifest(client, runtime, repository, &name, &manifest.descriptor(), json)
    }
}

impl CachePlace for RegistryPlace {
    fn name(&self) -> String {
        self.reference.familiar()
    }

    fn shelf(&self) -> String {
        self.reference.repository().familiar()
    }

    fn read(&self) -> Result<Option<FoundCache>, String> {
        let host = self.reference.host().to_string();
        if !self.means.plugins.policy().may_pull(&host) {
            return Err(format!("the operator's policy does not allow to pull from `{host}`"));
        }
        match self.document(&self.reference)? {
            None => Ok(None),
            Some(Document::Manifest(manifest)) => self.found_in(&manifest).map(Some),
            Some(Document::Index(index)) => found_in_index(&index, &self.means.platforms, |chosen| {
                match self.document(&self.reference.with_digest(chosen.digest))? {
                    Some(Document::Manifest(manifest)) => self.found_in(&manifest),
                    Some(Document::Index(_)) => Err("it is an index of indexes".to_owned()),
                    None => Err(format!("its manifest {} is not there", chosen.digest)),
                }
            })
            .map(Some),
        }
    }

    fn origin(&self, download: Arc<Download>) -> Arc<dyn BlobOrigin> {
        Arc::new(RegistryOrigin {
            client: self.means.client.clone(),
            runtime: self.means.runtime.clone(),
            repository: self.reference.repository().clone(),
            download,
        })
    }

    fn mounts_from_the_image(&self) -> bool {
        self.means.mount_from.iter().any(|repository| repository.host() == self.reference.host())
    }

    fn send(&self, layer: Arc<StageLayer>) -> JoinHandle<Result<(), String>> {
        let (client, repository) = (self.means.client.clone(), self.reference.repository().clone());
        let upload = BlobUpload {
            digest: layer.blob().digest,
            size_bytes: layer.blob().size,
            mount_from: layer.repository().into_iter().chain(&self.means.mount_from).cloned().collect(),
            source: Arc::new(StoredBlob { layer, store: self.means.files.store.clone() }),
            progress: None,
        };
        let sending = async move { client.push_blob(&repository, &upload).await };
        self.means.runtime.spawn(async move { sending.await.map(drop).map_err(|error| error.to_string()) })
    }

    fn write(&self, document: &CacheDocument) -> Result<(), String> {
        self.put(document).map_err(|error| error.to_string())
    }
}
