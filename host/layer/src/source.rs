//! The uncompressed bytes of a layer that is read: decoded, hashed, counted and bounded.

use std::io::{self, Read};

use cofferdam_digest::{Digest, Sha256};

use crate::{
    LayerError, ReadLimits,
    compression::{BUFFER_BYTES, Decoder, Format},
};

/// What is counted where the compression is suspiciously good.
const SUSPICIOUS: &str = "uncompressed bytes, hundreds for each compressed one";

pub(crate) struct Source<R: Read> {
    decoder: Decoder<R>,
    hasher: Sha256,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    decoded_bytes: u64,
    max_bytes: u64,
    suspicious_bytes: u64,
    suspicious_ratio: u64,
}

impl<R: Read> Source<R> {
    pub(crate) fn new(blob: R, limits: &ReadLimits) -> Result<Self, LayerError> {
        Ok(Self::decoding(Decoder::new(blob)?, limits))
    }

    /// Of bytes that are not compressed, whatever they look like: an archive may begin with any name.
    pub(crate) fn of_archive(archive: R, limits: &ReadLimits) -> Self {
        Self::decoding(Decoder::plain(archive), limits)
    }

    fn decoding(decoder: Decoder<R>, limits: &ReadLimits) -> Self {
        Self {
            decoder,
            hasher: Sha256::new(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            decoded_bytes: 0,
            max_bytes: limits.uncompressed_bytes,
            suspicious_bytes: limits.suspicious_bytes,
            suspicious_ratio: limits.suspicious_ratio,
        }
    }

    /// How many uncompressed bytes were consumed.
    pub(crate) fn offset(&self) -> u64 {
        self.decoded_bytes - (self.end - self.start) as u64
    }

    /// Bytes that are there to be consumed; none only at the end.
    pub(crate) fn fill(&mut self) -> Result<&[u8], LayerError> {
        if self.start == self.end {
            let count = loop {
                match self.decoder.read(&mut self.buffer) {
                    Ok(count) => break count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(LayerError::Read(error)),
                }
            };
            (self.start, self.end) = (0, count);
            self.hasher.update(&self.buffer[..count]);
            self.decoded_bytes += count as u64;
            if self.decoded_bytes > self.max_bytes {
                return Err(LayerError::Limit { what: "uncompressed bytes", limit: self.max_bytes });
            }
            let compressed = self.decoder.compressed_bytes().max(1);
            if self.decoded_bytes > self.suspicious_bytes && self.decoded_bytes / compressed > self.suspicious_ratio {
                return Err(LayerError::Limit { what: SUSPICIOUS, limit: self.suspicious_bytes });
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Marks bytes that [`Source::fill`] gave as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Fills `out`, unless the archive ends before; says how much was filled.
    pub(crate) fn read_full(&mut self, out: &mut [u8]) -> Result<usize, LayerError> {
        let mut filled = 0;
        while filled < out.len() {
            let bytes = self.fill()?;
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len().min(out.len() - filled);
            out[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.consume(count);
            filled += count;
        }
        Ok(filled)
    }

    /// Passes over `count` bytes.
    pub(crate) fn skip(&mut self, mut count: u64) -> Result<(), LayerError> {
        while count > 0 {
            let available = self.fill()?.len();
            if available == 0 {
                return Err(self.truncated());
            }
            let step = (available as u64).min(count);
            self.consume(step as usize);
            count -= step;
        }
        Ok(())
    }

    /// Passes over everything that is left.
    pub(crate) fn drain(&mut self) -> Result<(), LayerError> {
        loop {
            let available = self.fill()?.len();
            if available == 0 {
                return Ok(());
            }
            self.consume(available);
        }
    }

    pub(crate) fn truncated(&self) -> LayerError {
        LayerError::Truncated { offset_bytes: self.offset() }
    }

    /// The digest and the number of all uncompressed bytes, the number of the blob's bytes, and its format.
    pub(crate) fn finish(self) -> (Digest, u64, u64, Format) {
        let (size, format) = (self.decoder.compressed_bytes(), self.decoder.format());
        (self.hasher.finish(), self.decoded_bytes, size, format)
    }
}
