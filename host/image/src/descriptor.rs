//! Pointers to content.

use std::{collections::BTreeMap, io::Read};

use cofferdam_digest::{Digest, VerifyingReader};
use serde::{Deserialize, Serialize};

use crate::{MediaType, Platform};

/// A pointer to content: type, digest and size (OCI image specification, descriptor.md).
///
/// `urls` and `data` are not kept: content comes from the place where the descriptor was found, and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: MediaType,
    /// Of the content's bytes.
    pub digest: Digest,
    /// Bytes of the content.
    pub size: u64,
    /// Free-form, sorted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "crate::json::null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: where the image runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor without annotations or platform.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, annotations: BTreeMap::new(), platform: None, artifact_type: None }
    }

    /// The descriptor of these bytes.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// A reader that ends with an error unless `inner` gives exactly the described bytes.
    pub fn verify<R: Read>(&self, inner: R) -> VerifyingReader<R> {
        VerifyingReader::new(inner, self.digest, self.size)
    }
}
