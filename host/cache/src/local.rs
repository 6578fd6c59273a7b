//! The cache in the content store.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use cofferdam_digest::{Digest, Sha256};
use cofferdam_image::Store;

use crate::{CacheEntry, CacheError, LayerCache, Lookup};

/// A record is a few hundred bytes, most of them the history text.
const RECORD_LIMIT_BYTES: u64 = 1 << 20;

/// The first line of a record; another version is another line, and a miss for this one.
const VERSION: &str = "cofferdam cache record 1";

/// Records in the store's `cache/`: one small file for each key, `HH/HEX`.
///
/// A record is three lines: the version, a checksum over the key and the rest, and the entry as JSON. The checksum finds
/// accidents; who can write into the store can forge layers as well.
pub struct LocalCache {
    store: Store,
}

impl LocalCache {
    /// The cache of this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    fn path(&self, key: &Digest) -> PathBuf {
        let hex = key.hex();
        self.store.cache_directory().join(&hex[..2]).join(hex)
    }

    /// The entry of a record, which the file's name says the key of; `None` if it is of a later version. Whether the layer is there is another
    /// question, and nothing counts as used.
    ///
    /// # Errors
    /// There is no record, or it is damaged, or in another key's place.
    pub fn read_record(path: &Path) -> Result<Option<CacheEntry>, CacheError> {
        let broken = |why: &str| CacheError::Broken { place: path.display().to_string(), why: why.to_owned() };
        let key = path.file_name().and_then(|name| format!("sha256:{}", name.to_str()?).parse().ok());
        let file = fs::File::open(path).map_err(|error| broken(&format!("can't be read: {error}")))?;
        parse(path, &key.ok_or_else(|| broken("has no key's name"))?, file)
    }

    fn read(&self, key: &Digest) -> Result<Option<CacheEntry>, CacheError> {
        let path = self.path(key);
        let opened = self.store.open_own_file(&path).map_err(|error| self.unavailable(error))?;
        let Some(file) = opened else { return Ok(None) };
        let Some(entry) = parse(&path, key, file)? else { return Ok(None) };
        match &entry.layer {
            // Removed to save space: an ordinary miss.
            Some(layer) if !self.store.has_blob(&layer.digest, None) => Ok(None),
            Some(layer) if !self.store.has_blob(&layer.digest, Some(layer.size)) => Err(CacheError::Broken {
                place: path.display().to_string(),
                why: format!("names the blob {}, which is damaged", layer.digest),
            }),
            _ => Ok(Some(entry)),
        }
    }

    fn unavailable(&self, error: impl std::fmt::Display) -> CacheError {
        CacheError::Unavailable { cache: self.name().to_owned(), why: error.to_string() }
    }
}

impl LayerCache for LocalCache {
    fn name(&self) -> &str {
        "local"
    }

    fn lookup(&self, key: &Digest) -> Lookup {
        match self.read(key) {
            Ok(Some(entry)) => Lookup::Hit(entry),
            Ok(None) => Lookup::Miss,
            Err(error) => Lookup::Unusable(error),
        }
    }

    fn store(&self, keys: &[Digest], entry: &CacheEntry) -> Result<(), CacheError> {
        let json = serde_json::to_string(entry).map_err(|error| self.unavailable(error))?;
        for key in keys {
            let path = self.path(key);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|error| self.unavailable(error))?;
            }
            let record = format!("{VERSION}\n{}\n{json}", checksum(key, &json));
            self.store.write_atomically(&path, record.as_bytes()).map_err(|error| self.unavailable(error))?;
        }
        Ok(())
    }
}

/// Reads a record; `None` if it is of a later version.
fn parse(path: &Path, key: &Digest, file: fs::File) -> Result<Option<CacheEntry>, CacheError> {
    let broken = |why: &str| CacheError::Broken { place: path.display().to_string(), why: why.to_owned() };
    let mut text = String::new();
    file.take(RECORD_LIMIT_BYTES).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => broken("is damaged"),
        _ => broken(&format!("can't be read: {error}")),
    })?;
    let mut lines = text.splitn(3, '\n');
    let (version, checksum, json) = (lines.next(), lines.next(), lines.next());
    let number = version.and_then(|version| version.strip_prefix("cofferdam cache record ")?.parse::<u32>().ok());
    if number.is_some_and(|number| number != 1) {
        return Ok(None);
    }
    let (Some(VERSION), Some(checksum), Some(json)) = (version, checksum, json) else {
        return Err(broken("is damaged"));
    };
    if checksum != self::checksum(key, json).to_string() {
        return Err(broken("is damaged"));
    }
    serde_json::from_str(json).map(Some).map_err(|error| broken(&format!("can't be read: {error}")))
}

/// The key is part of it, so that a record in another key's place is found out.
fn checksum(key: &Digest, json: &str) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update_framed(VERSION.as_bytes());
    hasher.update_framed(key.as_bytes());
    hasher.update_framed(json.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use cofferdam_image::Compression;

    use super::*;
    use crate::CachedLayer;

    struct Fixture {
        _place: tempfile::TempDir,
        store: Store,
        cache: LocalCache,
        keys: [Digest; 2],
        entry: CacheEntry,
    }

    fn fixture() -> Fixture {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"a layer").unwrap();
        let blob = writer.commit(None).unwrap();
        let layer = CachedLayer {
            diff_id: Digest::of(b"tar"),
            digest: blob.digest,
            size: blob.size,
            compression: Compression::Gzip,
        };
        let entry =
            CacheEntry { layer: Some(layer), created_by: "RUN echo \"a\\nb\" # ü".to_owned(), warnings: Vec::new() };
        let cache = LocalCache::new(store.clone());
        Fixture { _place: place, store, cache, keys: [Digest::of(b"definition"), Digest::of(b"content")], entry }
    }

    #[test]
    fn an_entry_is_found_under_both_keys_and_under_no_other() {
        let Fixture { cache, keys, entry, .. } = &fixture();
        assert_eq!(cache.lookup(&keys[0]), Lookup::Miss);
        cache.store(keys, entry).unwrap();
        assert_eq!(cache.lookup(&keys[0]), Lookup::Hit(entry.clone()));
        assert_eq!(cache.lookup(&keys[1]), Lookup::Hit(entry.clone()));
        assert_eq!(cache.lookup(&Digest::of(b"other")), Lookup::Miss);
        let nothing = CacheEntry { layer: None, created_by: String::new(), warnings: Vec::new() };
        cache.store(&keys[..1], &nothing).unwrap();
        assert_eq!(cache.lookup(&keys[0]), Lookup::Hit(nothing));
    }

    #[test]
    fn a_record_that_changed_in_any_byte_is_not_used() {
        let Fixture { cache, keys, entry, .. } = &fixture();
        cache.store(keys, entry).unwrap();
        let path = cache.path(&keys[0]);
        let record = fs::read(&path).unwrap();
        for position in 0..record.len() {
            let mut damaged = record.clone();
            damaged[position] ^= 0x04;
            fs::write(&path, damaged).unwrap();
            assert!(!matches!(cache.lookup(&keys[0]), Lookup::Hit(_)), "byte {position}");
            fs::write(&path, &record[..position]).unwrap();
            assert!(matches!(cache.lookup(&keys[0]), Lookup::Unusable(CacheError::Broken { .. })), "cut at {position}");
        }
        fs::copy(cache.path(&keys[1]), &path).unwrap();
        assert!(matches!(cache.lookup(&keys[0]), Lookup::Unusable(_)), "another key's record");
    }

    #[test]
    fn a_missing_blob_is_a_miss_and_a_short_one_a_warning() {
        let Fixture { cache, keys, entry, store, .. } = &fixture();
        cache.store(keys, entry).unwrap();
        let digest = entry.layer.unwrap().digest;
        fs::write(store.blob_path(&digest), "").unwrap();
        assert!(matches!(cache.lookup(&keys[0]), Lookup::Unusable(CacheError::Broken { .. })));
        store.remove_blob(&digest).unwrap();
        assert_eq!(cache.lookup(&keys[0]), Lookup::Miss);
    }

    #[test]
    fn a_record_of_a_later_version_is_a_miss() {
        let Fixture { cache, keys, entry, .. } = &fixture();
        cache.store(keys, entry).unwrap();
        fs::write(cache.path(&keys[0]), "cofferdam cache record 2\nwhatever").unwrap();
        assert_eq!(cache.lookup(&keys[0]), Lookup::Miss);
    }
}
