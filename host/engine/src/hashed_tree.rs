//! A tree that hashes the files that are read through it, so that a copied file is read once for the layer and the key.
//! Times of a checkout are held back here too.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_digest::{Digest, Sha256};
use cofferdam_plan::step::TreeRead;
use cofferdam_rootfs::{Fingerprint, IsPlain, Metadata, OpenFile, RootPath, RootfsError, Timestamp, Tree, TreeEntry};

use crate::{
    file_hashes::{FileHash, FileHashes},
    stop::{Stop, Stoppable},
    trees::TreeHash,
};

/// Files that were read from their first byte to their last.
type ReadFiles = Arc<Mutex<HashMap<RootPath, ReadFile>>>;

#[derive(Clone, Copy)]
struct ReadFile {
    digest: Digest,
    /// What it was when it was opened.
    fingerprint: Option<Fingerprint>,
}

/// A tree around another one.
pub struct HashedTree {
    inner: Arc<dyn Tree>,
    read: ReadFiles,
    time: Option<Timestamp>,
    /// What the entries do not say and the image may show; part of every hash.
    version: Option<String>,
    revision: Option<String>,
    /// Whether nobody but this build can change it.
    is_ours: bool,
    stop: Stop,
    kept: Option<Arc<FileHashes>>,
    /// What was found when a read was first hashed.
    hashes: Mutex<Vec<(TreeRead, TreeHash)>>,
}

impl HashedTree {
    /// Hashes what is read of `inner`; reading ends with an error when the build is stopped.
    pub fn new(inner: Arc<dyn Tree>, stop: Stop) -> Self {
        Self {
            inner,
            read: ReadFiles::default(),
            time: None,
            version: None,
            revision: None,
            is_ours: false,
            stop,
            kept: None,
            hashes: Mutex::default(),
        }
    }

    /// Every entry has this time: when a file was checked out says nothing of the source, so it is in no key, and must not
    /// change the image.
    #[must_use]
    pub fn timed(self, time: Option<Timestamp>) -> Self {
        Self { time, ..self }
    }

    /// Nobody but this build can change it, so nothing of it is asked twice.
    #[must_use]
    pub fn ours(self) -> Self {
        Self { is_ours: true, ..self }
    }

    /// It was fetched: what is not among its entries is part of every hash all the same.
    #[must_use]
    pub fn fetched(self, version: String, revision: Option<String>) -> Self {
        Self { version: Some(version), revision, is_ours: true, ..self }
    }

    /// What the entries do not say and the image may show.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Digests are looked up in `kept`, and left there for the next build.
    #[must_use]
    pub fn keeping(self, kept: Arc<FileHashes>) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// The digest of the content of a file that was just looked at: known if it was read before, computed otherwise.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn digest(&self, path: &RootPath, entry: &TreeEntry) -> Result<Digest, RootfsError> {
        let is_plain = entry.metadata.xattrs.is_empty();
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if let Some(known) = known {
            // Only now is it sure that it did not change while it was read.
            if known.fingerprint == entry.fingerprint {
                self.keep(known, is_plain);
            }
            return Ok(known.digest);
        }
        if let Some(known) = self.known(entry.fingerprint.as_ref()) {
            return Ok(known.digest);
        }
        let OpenFile { reader, fingerprint, .. } = self.inner.open_entry(path)?;
        let mut hashing = cofferdam_digest::HashingWriter::new(io::sink());
        copy(&mut Stoppable::new(reader, &self.stop), &mut hashing)
            .map_err(|source| RootfsError::Storage { action: format!("read `{path}`"), source })?;
        let (_, digest, _) = hashing.finish();
        let read = ReadFile { digest, fingerprint };
        if fingerprint.is_some() && self.inner.entry(path)?.is_some_and(|now| now.fingerprint == fingerprint) {
            self.keep(read, is_plain);
        }
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), read);
        Ok(digest)
    }

    /// The hash of a read as it was first found by this build; `find` finds it.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn first_hash<E>(&self, read: &TreeRead, find: impl FnOnce() -> Result<TreeHash, E>) -> Result<TreeHash, E> {
        // Held meanwhile: two stages that ask for the same walk through a tree once.
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hash)) = hashes.iter().find(|(known, _)| known == read) {
            return Ok(*hash);
        }
        let hash = find()?;
        hashes.push((read.clone(), hash));
        Ok(hash)
    }

    fn known(&self, fingerprint: Option<&Fingerprint>) -> Option<FileHash> {
        self.kept.as_ref()?.get(fingerprint?)
    }

    /// Leaves a digest for the next build.
    fn keep(&self, read: ReadFile, is_plain: bool) {
        if let (Some(kept), Some(fingerprint)) = (&self.kept, read.fingerprint) {
            kept.put(fingerprint, FileHash { digest: read.digest, is_plain });
        }
    }

    fn timed_metadata(&self, metadata: Metadata) -> Metadata {
        Metadata { mtime: self.time.unwrap_or(metadata.mtime), ..metadata }
    }
}

impl Tree for HashedTree {
    fn metadata(&self, path: &RootPath, follow: bool) -> Result<Option<Metadata>, RootfsError> {
        let metadata = self.inner.metadata(path, follow)?;
        Ok(metadata.map(|metadata| self.timed_metadata(metadata)))
    }

    fn resolve(&self, path: &RootPath) -> Result<Option<RootPath>, RootfsError> {
        self.inner.resolve(path)
    }

    fn read_directory(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        self.inner.read_directory(path)
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn Read + Send>, RootfsError> {
        Ok(self.open_entry(path)?.reader)
    }

    fn revision(&self) -> Option<String> {
        self.revision.clone()
    }

    fn identity(&self, path: &RootPath) -> Result<Option<u64>, RootfsError> {
        self.inner.identity(path)
    }

    fn entry(&self, path: &RootPath) -> Result<Option<TreeEntry>, RootfsError> {
        let entry = self.inner.entry(path)?;
        Ok(entry.map(|entry| TreeEntry {
            metadata: self.timed_metadata(entry.metadata),
            changed_ns: entry.changed_ns.filter(|_| !self.is_ours),
            ..entry
        }))
    }

    fn entries(&self, path: &RootPath, is_plain: IsPlain<'_>) -> Result<Vec<(Vec<u8>, TreeEntry)>, RootfsError> {
        let mut entries = self.inner.entries(path, &|fingerprint| {
            is_plain(fingerprint) || self.known(Some(fingerprint)).is_some_and(|known| known.is_plain)
        })?;
        for (_, entry) in &mut entries {
            entry.metadata.mtime = self.time.unwrap_or(entry.metadata.mtime);
            entry.changed_ns = entry.changed_ns.filter(|_| !self.is_ours);
        }
        Ok(entries)
    }

    fn open_entry(&self, path: &RootPath) -> Result<OpenFile, RootfsError> {
        let OpenFile { reader, path, fingerprint } = self.inner.open_entry(path)?;
        let inner = Stoppable::new(reader, &self.stop);
        if self.known(fingerprint.as_ref()).is_some() {
            return Ok(OpenFile { reader: Box::new(inner), path, fingerprint });
        }
        let reader =
            HashedFile { inner, path: path.clone(), fingerprint, hasher: Some(Sha256::new()), read: self.read.clone() };
        Ok(OpenFile { reader: Box::new(reader), path, fingerprint })
    }
}

/// Large pieces: the hash is fast, and each read is a system call.
fn copy(from: &mut impl Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

struct HashedFile {
    inner: Stoppable<Box<dyn Read + Send>>,
    path: RootPath,
    fingerprint: Option<Fingerprint>,
    hasher: Option<Sha256>,
    read: ReadFiles,
}

impl Read for HashedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let read = ReadFile { digest: hasher.finish(), fingerprint: self.fingerprint };
            self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(self.path.clone(), read);
        }
        Ok(count)
    }
}
