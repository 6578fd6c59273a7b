//! A tree that hashes the files that are read through it, so that a copied file is read once for the layer and the key.
//! Times of a checkout are held back here too.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_digest::{Digest, Sha256};
use cofferdam_rootfs::{Fingerprint, Metadata, RootPath, RootfsError, Timestamp, Tree};

use crate::{file_hashes::FileHashes, stop::Stop};

/// The digests of files that were read from their first byte to their last.
pub type Digests = Arc<Mutex<HashMap<RootPath, Digest>>>;

/// A tree around another one.
pub struct HashedTree {
    inner: Arc<dyn Tree>,
    digests: Digests,
    time: Option<Timestamp>,
    stop: Stop,
    kept: Option<Arc<FileHashes>>,
    /// What files were when they were opened for a layer.
    begun: Mutex<HashMap<RootPath, Fingerprint>>,
}

impl HashedTree {
    /// Hashes what is read of `inner`; reading ends with an error when the build is stopped.
    pub fn new(inner: Arc<dyn Tree>, stop: Stop) -> Self {
        Self { inner, digests: Digests::default(), time: None, stop, kept: None, begun: Mutex::default() }
    }

    /// Every entry has this time: when a file was checked out says nothing of the source, so it is in no key, and must not
    /// change the image.
    #[must_use]
    pub fn timed(self, time: Option<Timestamp>) -> Self {
        Self { time, ..self }
    }

    /// Digests are looked up in `kept`, and left there for the next build.
    #[must_use]
    pub fn keeping(self, kept: Arc<FileHashes>) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// The digest of a file's content: known if the file was read before, computed otherwise.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn digest(&self, path: &RootPath) -> Result<Digest, RootfsError> {
        let known = |digests: &Digests| digests.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if let Some(digest) = known(&self.digests) {
            return Ok(digest);
        }
        let before = match &self.kept {
            Some(_) => self.inner.fingerprint(path)?,
            None => None,
        };
        if let (Some(kept), Some(fingerprint)) = (&self.kept, &before)
            && let Some(digest) = kept.get(fingerprint)
        {
            self.digests.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), digest);
            return Ok(digest);
        }
        let mut hashing = cofferdam_digest::HashingWriter::new(io::sink());
        let mut file = Stoppable { inner: self.inner.open(path)?, stop: self.stop.clone() };
        copy(&mut file, &mut hashing)
            .map_err(|source| RootfsError::Storage { action: format!("read `{path}`"), source })?;
        let (_, digest, _) = hashing.finish();
        self.keep(path, before, digest)?;
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), digest);
        Ok(digest)
    }
}

impl HashedTree {
    /// Leaves a digest for the next build, if the file did not change while it was read.
    fn keep(&self, path: &RootPath, before: Option<Fingerprint>, digest: Digest) -> Result<(), RootfsError> {
        if let (Some(kept), Some(before)) = (&self.kept, before)
            && self.inner.fingerprint(path)? == Some(before)
        {
            kept.put(before, digest);
        }
        Ok(())
    }

    /// Leaves the digests of the files that were read for a layer.
    ///
    /// # Errors
    /// The tree can't be read.
    pub fn keep_read(&self) -> Result<(), RootfsError> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, before) in begun {
            let digest = self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(&path).copied();
            if let Some(digest) = digest
                && self.inner.fingerprint(&path)? == Some(before)
            {
                kept.put(before, digest);
            }
        }
        Ok(())
    }
}

impl Tree for HashedTree {
    fn metadata(&self, path: &RootPath, follow: bool) -> Result<Option<Metadata>, RootfsError> {
        let metadata = self.inner.metadata(path, follow)?;
        Ok(metadata.map(|metadata| Metadata { mtime: self.time.unwrap_or(metadata.mtime), ..metadata }))
    }

    fn resolve(&self, path: &RootPath) -> Result<Option<RootPath>, RootfsError> {
        self.inner.resolve(path)
    }

    fn read_directory(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        self.inner.read_directory(path)
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn Read + Send>, RootfsError> {
        let Some(resolved) = self.inner.resolve(path)? else {
            return self.inner.open(path);
        };
        if self.kept.is_some()
            && let Some(fingerprint) = self.inner.fingerprint(&resolved)?
        {
            self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(resolved.clone(), fingerprint);
        }
        let inner = self.inner.open(&resolved)?;
        Ok(Box::new(HashedFile {
            inner: Stoppable { inner, stop: self.stop.clone() },
            path: resolved,
            hasher: Some(Sha256::new()),
            digests: self.digests.clone(),
        }))
    }

    fn identity(&self, path: &RootPath) -> Result<Option<u64>, RootfsError> {
        self.inner.identity(path)
    }

    fn changed_ns(&self, path: &RootPath) -> Result<Option<i128>, RootfsError> {
        self.inner.changed_ns(path)
    }
}

/// A reader that ends with an error when the build is stopped.
struct Stoppable {
    inner: Box<dyn Read + Send>,
    stop: Stop,
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        self.inner.read(buffer)
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
    inner: Stoppable,
    path: RootPath,
    hasher: Option<Sha256>,
    digests: Digests,
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
            let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
            digests.insert(self.path.clone(), hasher.finish());
        }
        Ok(count)
    }
}
