//! The records of a cache that is kept elsewhere, as one document.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::{CacheEntry, CachedLayer};

/// Another form is another number, and a document of it is not used.
const VERSION: u32 = 1;

/// A document is not longer, in bytes: registries refuse larger ones, and readers too.
pub const DOCUMENT_LIMIT_BYTES: u64 = 4 << 20;

/// A manifest with more layers would be too large for many registries, at some 200 bytes each.
const LAYERS_LIMIT: usize = 2_000;

/// What a cache knows: the outcome of a step under each of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheDocument {
    records: BTreeMap<Digest, Record>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    entry: CacheEntry,
    /// When a build last made or used it, in seconds since 1970.
    used: i64,
}

#[derive(Serialize, Deserialize)]
struct Shape {
    version: u32,
    records: BTreeMap<Digest, Record>,
}

/// A document is none, or of another version.
#[derive(Debug, thiserror::Error)]
#[error("the cache's document {0}")]
pub struct InvalidDocument(String);

impl CacheDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// It is no document of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let unreadable = |error: serde_json::Error| InvalidDocument(format!("can't be read: {error}"));
        match serde_json::from_slice(bytes).map_err(unreadable)? {
            Versioned { version: VERSION } => {}
            Versioned { version } => return Err(InvalidDocument(format!("has version {version}, not {VERSION}"))),
        }
        let Shape { records, .. } = serde_json::from_slice(bytes).map_err(unreadable)?;
        Ok(Self { records })
    }

    /// The same document always gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let shape = Shape { version: VERSION, records: self.records.clone() };
        // Maps with keys that are strings, and nothing that can fail.
        serde_json::to_vec(&shape).unwrap_or_default()
    }

    /// What is known under a key.
    pub fn find(&self, key: &Digest) -> Option<CacheEntry> {
        Some(self.records.get(key)?.entry.clone())
    }

    /// When the outcome of a key was last used, in seconds since 1970.
    pub fn used(&self, key: &Digest) -> Option<i64> {
        Some(self.records.get(key)?.used)
    }

    /// Keeps an outcome; what was there is replaced.
    pub fn put(&mut self, key: Digest, entry: CacheEntry, used: i64) {
        self.records.insert(key, Record { entry, used });
    }

    /// Takes over what another document has and this one has not.
    pub fn merge(&mut self, other: Self) {
        for (key, record) in other.records {
            self.records.entry(key).or_insert(record);
        }
    }

    /// Takes everything as used at a moment, in seconds since 1970: for a document that has no times.
    pub fn use_all(&mut self, used: i64) {
        self.records.values_mut().for_each(|record| record.used = used);
    }

    /// Forgets what was not used since a moment, in seconds since 1970.
    pub fn forget_before(&mut self, moment: i64) {
        self.records.retain(|_, record| record.used >= moment);
    }

    /// Forgets outcomes with layers that are not wanted, and says whether there were any.
    pub fn retain_layers(&mut self, is_wanted: impl Fn(&CachedLayer) -> bool) -> bool {
        let before = self.records.len();
        self.records.retain(|_, record| record.entry.layer.is_none_or(|layer| is_wanted(&layer)));
        self.records.len() != before
    }

    /// Names other blobs for layers, by the digests of those that are named now.
    pub fn replace_layers(&mut self, others: &BTreeMap<Digest, CachedLayer>) {
        for record in self.records.values_mut() {
            if let Some(layer) = &mut record.entry.layer
                && let Some(other) = others.get(&layer.digest)
            {
                *layer = *other;
            }
        }
    }

    /// Whether everything that another document knows is known here too, and was used at a moment or later.
    pub fn has_all_of(&self, other: &Self, since: i64) -> bool {
        let is_here = |(key, record): (&Digest, &Record)| {
            self.records.get(key).is_some_and(|own| own.entry.is_like(&record.entry) && own.used >= since)
        };
        other.records.iter().all(is_here)
    }

    /// Forgets what was not used for the longest time until the document, and the manifest with its layers, are not too
    /// large.
    pub fn fit(&mut self) {
        while self.to_json().len() as u64 > DOCUMENT_LIMIT_BYTES || self.layers().len() > LAYERS_LIMIT {
            let mut times: Vec<i64> = self.records.values().map(|record| record.used).collect();
            times.sort_unstable();
            // A quarter at a time, and at least the oldest.
            let Some(&bound) = times.get(times.len() / 4) else { return };
            self.records.retain(|_, record| record.used > bound);
        }
    }

    /// Each layer once, in the order of their digests.
    pub fn layers(&self) -> Vec<CachedLayer> {
        let mut seen = BTreeSet::new();
        let mut layers: Vec<CachedLayer> = self
            .records
            .values()
            .filter_map(|record| record.entry.layer)
            .filter(|layer| seen.insert(layer.digest))
            .collect();
        layers.sort_by_key(|layer| layer.digest);
        layers
    }
}

#[cfg(test)]
mod tests {
    use cofferdam_image::Compression;

    use super::*;

    fn entry(name: &str) -> CacheEntry {
        let layer = CachedLayer {
            diff_id: Digest::of(name.as_bytes()),
            digest: Digest::of(format!("{name} packed").as_bytes()),
            size: 7,
            compression: Compression::Gzip,
        };
        CacheEntry { layer: Some(layer), created_by: format!("RUN \"{name}\""), warnings: Vec::new() }
    }

    fn document() -> CacheDocument {
        let mut document = CacheDocument::default();
        document.put(Digest::of(b"definition"), entry("one"), 5);
        document.put(Digest::of(b"content"), entry("one"), 5);
        document.put(
            Digest::of(b"sighting"),
            CacheEntry { layer: None, created_by: String::new(), warnings: Vec::new() },
            6,
        );
        document
    }

    #[test]
    fn what_is_written_is_read() {
        let document = document();
        let bytes = document.to_json();
        let read = CacheDocument::parse(&bytes).unwrap();
        assert_eq!(read, document);
        assert_eq!(read.to_json(), bytes);
        assert_eq!(read.find(&Digest::of(b"content")), Some(entry("one")));
        assert_eq!(read.find(&Digest::of(b"other")), None);
        assert_eq!(read.layers().len(), 1);
    }

    #[test]
    fn other_documents_are_refused() {
        for text in ["", "{}", "[]", "{\"version\":2,\"records\":{}}", "{\"version\":1,\"records\":{\"x\":{}}}"] {
            assert!(CacheDocument::parse(text.as_bytes()).is_err(), "{text}");
        }
        let error = CacheDocument::parse(b"{\"version\":9}").unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    #[test]
    fn what_is_old_is_forgotten_first() {
        let mut document = document();
        document.forget_before(6);
        assert_eq!(document.layers(), []);
        assert!(document.find(&Digest::of(b"sighting")).is_some());
        let mut large = CacheDocument::default();
        for number in 0..3_000_i64 {
            large.put(Digest::of(&number.to_be_bytes()), entry(&number.to_string()), number);
        }
        large.fit();
        assert!(large.layers().len() <= LAYERS_LIMIT && large.layers().len() > LAYERS_LIMIT / 2);
        assert!(large.find(&Digest::of(&2_999_i64.to_be_bytes())).is_some());
        assert!(large.find(&Digest::of(&0_i64.to_be_bytes())).is_none());
    }

    #[test]
    fn newer_records_win_over_those_that_were_there() {
        let mut newer = CacheDocument::default();
        newer.put(Digest::of(b"content"), entry("two"), 9);
        newer.merge(document());
        assert_eq!(newer.find(&Digest::of(b"content")), Some(entry("two")));
        assert_eq!(newer.find(&Digest::of(b"definition")), Some(entry("one")));
        assert!(newer.retain_layers(|layer| *layer == entry("two").layer.unwrap()));
        assert!(!newer.retain_layers(|_| true));
        assert_eq!(newer.find(&Digest::of(b"definition")), None);
        assert!(newer.find(&Digest::of(b"sighting")).is_some());
    }
}
