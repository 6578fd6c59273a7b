//! JSON in and out: bounded when read, canonical when written.

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::ImageError;

/// The largest manifest, index or configuration that is read: 4 MiB, the size that every registry accepts for a manifest
/// (OCI distribution specification, "Pushing Manifests").
pub const DOCUMENT_LIMIT_BYTES: u64 = 4 << 20;

/// Parses one document. `what` names it in errors.
pub fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ImageError> {
    if bytes.len() as u64 > DOCUMENT_LIMIT_BYTES {
        return Err(ImageError::TooLarge { what: what.to_owned(), limit: DOCUMENT_LIMIT_BYTES });
    }
    serde_json::from_slice(bytes).map_err(|source| ImageError::Json { what: what.to_owned(), source })
}

/// Writes one document: fields in the order of the structure, maps sorted, no spaces. The same value gives the same bytes.
///
/// Only called with this crate's own structures, whose maps all have string keys: writing them cannot fail.
pub fn canonical<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_else(|error| unreachable!("a document of plain structures: {error}"))
}

/// Reads `null` like an absent field: Docker writes `"Env": null` for an empty list.
pub fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
