//! The outcome of a step.

use cofferdam_digest::Digest;
use cofferdam_image::{Compression, LayerBlob};
use serde::{Deserialize, Serialize};

/// What is remembered of a step that changed the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheEntry {
    /// The layer; `None` if the step changed nothing and made none.
    pub layer: Option<CachedLayer>,
    /// The history entry's text.
    pub created_by: String,
    /// What the handler said about the step, to be said again; only the store's own entries have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl CacheEntry {
    /// Whether it is the same outcome, in whichever blob the layer is.
    pub fn is_like(&self, other: &Self) -> bool {
        let diff_id = |entry: &Self| entry.layer.map(|layer| layer.diff_id);
        diff_id(self) == diff_id(other) && self.created_by == other.created_by
    }
}

/// A layer, and the blob that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachedLayer {
    /// Of the uncompressed tar stream.
    pub diff_id: Digest,
    /// Of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Of the blob.
    pub compression: Compression,
}

impl From<LayerBlob> for CachedLayer {
    fn from(blob: LayerBlob) -> Self {
        Self { diff_id: blob.diff_id, digest: blob.digest, size: blob.size, compression: blob.compression }
    }
}

impl From<CachedLayer> for LayerBlob {
    fn from(layer: CachedLayer) -> Self {
        Self { diff_id: layer.diff_id, digest: layer.digest, size: layer.size, compression: layer.compression }
    }
}
