//! Writing blobs.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use cofferdam_digest::{Digest, HashingWriter};

use super::Store;
use crate::StoreError;

/// What a writer of small pieces collects before the kernel is called, in bytes.
const BUFFER_BYTES: usize = 128 << 10;

/// A stored blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// Of the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
}

/// A blob that is being written and hashed. Dropped without [`BlobWriter::commit`], it leaves nothing.
pub struct BlobWriter {
    inner: HashingWriter<RawBlobWriter>,
}

/// A blob that is being written by somebody who hashes the bytes anyway. Dropped without
/// [`RawBlobWriter::commit`], it leaves nothing.
pub struct RawBlobWriter {
    store: Store,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
    bytes: u64,
}

impl Store {
    /// Starts a blob whose digest is computed while it is written.
    ///
    /// # Errors
    /// The machine refused.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        Ok(BlobWriter { inner: HashingWriter::new(self.raw_blob_writer()?) })
    }

    /// Starts a blob whose digest the caller computes.
    ///
    /// # Errors
    /// The machine refused.
    pub fn raw_blob_writer(&self) -> Result<RawBlobWriter, StoreError> {
        let (file, temporary) = self.session.create_file("blob")?;
        let file = Some(BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(RawBlobWriter { store: self.clone(), temporary, file, bytes: 0 })
    }
}

impl BlobWriter {
    /// Puts the blob into its place.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if another digest was expected; or the machine refused.
    pub fn commit(self, expected: Option<&Digest>) -> Result<BlobInfo, StoreError> {
        let (raw, digest, _) = self.inner.finish();
        match expected {
            Some(expected) if *expected != digest => Err(StoreError::Mismatch { expected: *expected, actual: digest }),
            _ => raw.commit(digest),
        }
    }
}

impl RawBlobWriter {
    /// Puts the blob into its place under a digest that the caller computed from the very bytes that were written.
    ///
    /// # Errors
    /// The machine refused.
    pub fn commit(mut self, digest: Digest) -> Result<BlobInfo, StoreError> {
        let info = BlobInfo { digest, size: self.bytes };
        let path = self.store.blob_path(&digest);
        if let Some(mut file) = self.file.take() {
            file.flush().map_err(StoreError::io("write", &path))?;
        }
        // Also over one that is there: it may be what a power failure left.
        self.store.put_in_place(&self.temporary, &path).map_err(StoreError::io("write", &path))?;
        Ok(info)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.inner.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Write for RawBlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let count = file.write(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Drop for RawBlobWriter {
    fn drop(&mut self) {
        // Nothing is there after a commit that moved it.
        drop(fs::remove_file(&self.temporary));
    }
}
