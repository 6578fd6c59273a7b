//! Layers that are in a repository of a registry.

use std::{io::Read, sync::Arc};

use cofferdam_image::LayerBlob;
use cofferdam_registry::{Client, Repository};
use tokio::runtime::Handle;

use crate::{
    download::Download,
    layers::{BlobOrigin, LayerFailure},
};

/// Fetches layers from a repository, and tells of it.
pub struct RegistryOrigin {
    /// For the registry.
    pub client: Client,
    /// Of the runtime that the client needs.
    pub runtime: Handle,
    /// Where the layers are.
    pub repository: Repository,
    /// Who watches.
    pub download: Arc<Download>,
}

impl BlobOrigin for RegistryOrigin {
    fn open(&self, blob: &LayerBlob) -> Result<Box<dyn Read + Send>, LayerFailure> {
        let stream = self.runtime.block_on(self.client.open_blob(&self.repository, blob.digest, blob.size))?;
        let _inside = self.runtime.enter();
        Ok(Box::new(self.download.watch(blob, stream.into_reader())))
    }

    fn repository(&self) -> Option<&Repository> {
        Some(&self.repository)
    }
}
