//! Hashing while bytes go by: one pass serves the copy and the digest.

use std::io::{self, Read, Write};

use sha2::Digest as _;

use crate::Digest;

/// A SHA-256 computation in progress.
#[derive(Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds bytes with their length before them, so that two lists of parts never give the same bytes to hash.
    pub fn update_framed(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

/// A reader that hashes what is read through it.
pub struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> HashingReader<R> {
    /// Hashes everything that is read from `inner` from now on.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// The digest and the number of the bytes read so far.
    pub fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.bytes)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// A writer that hashes what is written through it.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Hashes everything that is written to `inner` from now on.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// The inner writer; what is written to it directly is not hashed.
    pub fn inner_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    /// How many bytes were written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The inner writer, the digest, and the number of the bytes written.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.bytes)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Content that is not what its descriptor says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Other bytes.
    #[error("the content's digest is {actual}, expected {expected}")]
    Digest {
        /// What the descriptor says.
        expected: Digest,
        /// What was read.
        actual: Digest,
    },
    /// Too few or too many bytes.
    #[error("the content has {} {actual} bytes, expected {expected}", if .actual > .expected { "at least" } else { "only" })]
    Size {
        /// What the descriptor says, in bytes.
        expected: u64,
        /// What was read, in bytes; reading stops at the first byte too many.
        actual: u64,
    },
}

/// A reader that ends with an error (`InvalidData` around a [`VerifyError`]) unless exactly the described bytes were read.
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<Sha256>,
    bytes: u64,
    digest: Digest,
    size_bytes: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Expects `size_bytes` bytes with this digest.
    pub fn new(inner: R, digest: Digest, size_bytes: u64) -> Self {
        Self { inner, hasher: Some(Sha256::new()), bytes: 0, digest, size_bytes }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let invalid = |error: VerifyError| Err(io::Error::new(io::ErrorKind::InvalidData, error));
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        if self.bytes > self.size_bytes || (count == 0 && self.bytes < self.size_bytes) {
            return invalid(VerifyError::Size { expected: self.size_bytes, actual: self.bytes });
        }
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
            return Ok(count);
        }
        match self.hasher.take().map(Sha256::finish) {
            Some(actual) if actual != self.digest => invalid(VerifyError::Digest { expected: self.digest, actual }),
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], digest: Digest, size_bytes: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        VerifyingReader::new(bytes, digest, size_bytes).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn passes_the_right_bytes_and_refuses_short_long_and_other_ones() {
        let digest = Digest::of(b"right");
        assert_eq!(read(b"right", digest, 5).unwrap(), b"right");
        for (bytes, size) in [(&b"righ"[..], 5), (b"rightt", 5), (b"wrong", 5), (b"right", 4), (b"right", 6)] {
            assert_eq!(read(bytes, digest, size).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn framing_keeps_lists_apart() {
        let hash = |parts: &[&[u8]]| {
            let mut hasher = Sha256::new();
            parts.iter().for_each(|part| hasher.update_framed(part));
            hasher.finish()
        };
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    }
}
