//! Digests of files of the context, kept between builds: a file that did not change is not read again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use cofferdam_digest::Digest;
use cofferdam_image::Store;
use cofferdam_rootfs::Fingerprint;

/// The file in the store's cache directory.
const FILE: &str = "file-hashes";

/// Changes with the form of a record.
const MAGIC: &[u8; 8] = b"cfdmfh2\n";

/// Bytes of a record: fingerprint, digest, and whether the file is plain.
const RECORD_BYTES: usize = Fingerprint::BYTES + 32 + 1;

/// More are not kept: 80 MB, some ten times the largest repositories. The oldest then go all at once.
const RECORDS_LIMIT: usize = 1_000_000;

/// A file that changed less than this before it was looked at may change again without a new time: file systems count time
/// in ticks, and a page that is mapped and dirty gets no new time until it was written back, which takes 35 s by default.
const SETTLED_NS: i128 = 60_000_000_000;

/// What is kept of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHash {
    /// Of its content.
    pub digest: Digest,
    /// Whether it has no extended attributes that belong into images; a new one would change the fingerprint.
    pub is_plain: bool,
}

/// Digests by fingerprint.
pub struct FileHashes {
    store: Store,
    state: Mutex<State>,
    now_ns: i128,
}

#[derive(Default)]
struct State {
    /// What earlier builds knew; read when it is first asked for.
    known: Option<HashMap<Fingerprint, FileHash>>,
    /// What this build found out.
    new: HashMap<Fingerprint, FileHash>,
}

impl FileHashes {
    /// The digests that a store keeps; `now_ns` is the start of the build, in nanoseconds since 1970.
    pub fn new(store: Store, now_ns: i128) -> Self {
        Self { store, state: Mutex::default(), now_ns }
    }

    /// What is kept of the file with this fingerprint.
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<FileHash> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.known.get_or_insert_with(|| read(&self.store));
        known.get(fingerprint).copied().or_else(|| state.new.get(fingerprint).copied())
    }

    /// Keeps a digest, unless the file changed so recently that its times may not tell the next change.
    pub fn put(&self, fingerprint: Fingerprint, file: FileHash) {
        if fingerprint.changed_ns() + SETTLED_NS < self.now_ns {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).new.insert(fingerprint, file);
        }
    }

    /// Writes what is new. A cache that can't be written is no reason to fail.
    pub fn save(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.new.is_empty() {
            return;
        }
        // Another builder may have written meanwhile.
        let mut all = read(&self.store);
        if all.len() + state.new.len() > RECORDS_LIMIT {
            all.clear();
        }
        all.extend(state.new.iter().map(|(fingerprint, file)| (*fingerprint, *file)));
        let mut bytes = Vec::with_capacity(MAGIC.len() + all.len() * RECORD_BYTES + 32);
        bytes.extend_from_slice(MAGIC);
        for (fingerprint, file) in &all {
            bytes.extend_from_slice(fingerprint.as_bytes());
            bytes.extend_from_slice(file.digest.as_bytes());
            bytes.push(u8::from(file.is_plain));
        }
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        let _ = self.store.write_atomically(&self.store.cache_directory().join(FILE), &bytes);
    }
}

/// The records of a file that is whole; nothing otherwise.
fn read(store: &Store) -> HashMap<Fingerprint, FileHash> {
    let limit = (MAGIC.len() + RECORDS_LIMIT * 2 * RECORD_BYTES + 32) as u64;
    let path = store.cache_directory().join(FILE);
    let bytes = cofferdam_rootfs::read_named_file(&path, limit).ok().flatten().unwrap_or_default();
    let Some((records, checksum)) = bytes.split_last_chunk::<32>() else { return HashMap::new() };
    let (Some(body), true) = (records.strip_prefix(MAGIC), Digest::of(records).as_bytes() == checksum) else {
        return HashMap::new();
    };
    let pair = |record: &[u8]| {
        let (fingerprint, rest) = record.split_first_chunk::<{ Fingerprint::BYTES }>()?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let file = FileHash { digest: Digest::from_bytes(*digest), is_plain: rest == [1] };
        Some((Fingerprint::from_bytes(*fingerprint), file))
    };
    body.chunks_exact(RECORD_BYTES).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests damage files of the store")]

    use super::*;

    /// A file whose ctime is `changed_ns`.
    fn fingerprint(changed_ns: i128) -> Fingerprint {
        let mut bytes = [7; Fingerprint::BYTES];
        bytes[..16].copy_from_slice(&changed_ns.to_le_bytes());
        Fingerprint::from_bytes(bytes)
    }

    fn file(content: &[u8]) -> FileHash {
        FileHash { digest: Digest::of(content), is_plain: content.len().is_multiple_of(2) }
    }

    const NOW: i128 = 1_000_000_000_000;

    #[test]
    fn digests_are_kept_for_the_next_build_but_not_of_files_that_just_changed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (settled, fresh) = (fingerprint(NOW - 61_000_000_000), fingerprint(NOW - 59_000_000_000));
        let first = FileHashes::new(store.clone(), NOW);
        first.put(settled, file(b"settled"));
        first.put(fresh, file(b"fresh"));
        first.save();
        let second = FileHashes::new(store, NOW);
        assert_eq!(second.get(&settled), Some(file(b"settled")));
        assert_eq!(second.get(&fresh), None);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let settled = fingerprint(0);
        let first = FileHashes::new(store.clone(), NOW);
        first.put(settled, file(b"x"));
        first.save();
        let file = store.cache_directory().join(FILE);
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(FileHashes::new(store.clone(), NOW).get(&settled), None, "byte {at}");
        }
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(FileHashes::new(store, NOW).get(&settled), None);
    }
}
