//! Which blob is which layer: compressed digest to DiffID, and back.

use cofferdam_digest::Digest;
use serde::{Deserialize, Serialize};

use super::{Store, read_small};
use crate::{Compression, Descriptor, Family, MediaType, StoreError};

/// A record is a few hundred bytes.
const RECORD_LIMIT_BYTES: u64 = 4096;

/// A blob that holds a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBlob {
    /// Of the uncompressed tar stream.
    pub diff_id: Digest,
    /// Of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Of the blob.
    pub compression: Compression,
}

impl LayerBlob {
    /// The descriptor for a manifest of this family.
    pub fn descriptor(&self, family: Family) -> Descriptor {
        Descriptor::new(MediaType::Layer(family, self.compression), self.digest, self.size)
    }
}

impl Store {
    /// Remembers which layer a blob holds. The caller computed the DiffID from the blob's bytes, all of them.
    ///
    /// # Errors
    /// The machine refused.
    pub fn put_layer_blob(&self, layer: &LayerBlob) -> Result<(), StoreError> {
        let record = crate::json::canonical(layer);
        let blobs = self.root.join("layer-blobs").join(layer.diff_id.hex());
        std::fs::create_dir_all(&blobs).map_err(StoreError::io("create", &blobs))?;
        self.write_atomically(&blobs.join(layer.digest.hex()), &record)?;
        self.write_atomically(&self.root.join("diff-ids").join(layer.digest.hex()), &record)
    }

    /// What is known of a layer's blob; `None` if nothing is, whether or not the blob is there.
    ///
    /// # Errors
    /// The machine refused.
    pub fn layer_blob(&self, blob: &Digest) -> Result<Option<LayerBlob>, StoreError> {
        let record = read_small(&self.root.join("diff-ids").join(blob.hex()), RECORD_LIMIT_BYTES)?;
        Ok(record.and_then(|record| parse(&record)).filter(|layer| layer.digest == *blob))
    }

    /// The blobs that hold a layer and are in the store, sorted by digest.
    ///
    /// # Errors
    /// The machine refused.
    pub fn blobs_of_layer(&self, diff_id: &Digest) -> Result<Vec<LayerBlob>, StoreError> {
        let directory = self.root.join("layer-blobs").join(diff_id.hex());
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StoreError::io("list", &directory))?,
        };
        let mut blobs = Vec::new();
        for entry in entries {
            let path = entry.map_err(StoreError::io("list", &directory))?.path();
            let layer = read_small(&path, RECORD_LIMIT_BYTES)?.and_then(|record| parse(&record));
            blobs.extend(
                layer.filter(|layer| layer.diff_id == *diff_id && self.has_blob(&layer.digest, Some(layer.size))),
            );
        }
        blobs.sort_by_key(|layer| layer.digest);
        Ok(blobs)
    }
}

/// A record that a power failure cut short is as good as none.
fn parse(record: &[u8]) -> Option<LayerBlob> {
    serde_json::from_slice(record).ok()
}
