//! The layer cache: which layer a step gave the last time.
//!
//! [`LayerCache`] is what the engine asks; [`LocalCache`] keeps its records in the store's `cache/`; a
//! [`CacheDocument`] holds those of a cache that is kept elsewhere, which the engine fetches and sends. Nothing here assumes that
//! an answer is near, complete, or honest.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the local cache's records are files in the content store"
)]

mod document;
mod entry;
mod local;

pub use document::{CacheDocument, DOCUMENT_LIMIT_BYTES, InvalidDocument};
pub use entry::{CacheEntry, CachedLayer};
pub use local::LocalCache;

use cofferdam_digest::Digest;

/// Where layers of earlier builds are looked up. Shared by the threads of a build.
///
/// A step has two keys: the *definition* key, known before anything runs, and the *content* key, known once its sources
/// are. A cache knows nothing of the difference: the engine looks up both, and stores the entry under both.
///
/// A cache can only make a build faster. It fails by answering [`Lookup::Unusable`], which the engine reports and then
/// takes for a miss.
pub trait LayerCache: Send + Sync {
    /// A name for messages: `local`, or a registry's repository.
    fn name(&self) -> &str;

    /// What is known under a key.
    fn lookup(&self, key: &Digest) -> Lookup;

    /// Remembers the outcome of a step under its keys. What was there before is replaced.
    ///
    /// # Errors
    /// The record can't be written; the build goes on.
    fn store(&self, keys: &[Digest], entry: &CacheEntry) -> Result<(), CacheError>;
}

/// What a cache answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The step's outcome. Its layer was there when the cache looked.
    Hit(CacheEntry),
    /// Nothing is known.
    Miss,
    /// Something is there that can't be used, or the cache can't be asked; worth a warning.
    Unusable(CacheError),
}

/// A cache could not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// A record that is not what was written. It was not used, and the next build of the step replaces it.
    #[error("the cache record `{place}` {why}; the step is built again")]
    Broken {
        /// Where the record is.
        place: String,
        /// The finding.
        why: String,
    },
    /// The place where the records are can't be read or written.
    #[error("the {cache} cache can't be used: {why}")]
    Unavailable {
        /// The cache's name.
        cache: String,
        /// The machine's or the server's answer.
        why: String,
    },
}
