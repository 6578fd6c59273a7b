//! An archive that stands uncompressed in the store becomes the blob that an image has.

use std::io::{Read, Write};

use cofferdam_digest::{Digest, HashingWriter};

use crate::{
    LayerError, ReadLimits,
    compression::{Compression, Encoder},
    cuts::Cuts,
    header::{self, BLOCK_BYTES, Block},
    pax::Records,
    source::Source,
};

/// A layer that was compressed after it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedLayer {
    /// The digest of the archive: the caller compares it with the one that the archive should have.
    pub diff_id: Digest,
    /// The digest of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size_bytes: u64,
}

/// Compresses an archive that [`write_layer`](crate::write_layer) made with [`Compression::None`]. The blob is the one that
/// it would have made with `compression`, byte by byte. Gives `out` back, not flushed.
///
/// # Errors
/// [`LayerError::Read`], [`LayerError::Truncated`], [`LayerError::Malformed`] for what is no archive of ours, and
/// [`LayerError::Write`].
pub fn pack_layer<R: Read, W: Write>(
    archive: R,
    compression: Compression,
    out: W,
) -> Result<(PackedLayer, W), LayerError> {
    let encoder = Encoder::new(HashingWriter::new(out), compression).map_err(LayerError::Write)?;
    // It was bounded when it was written.
    let limits = ReadLimits { uncompressed_bytes: u64::MAX, ..ReadLimits::default() };
    let mut packer = Packer { source: Source::of_archive(archive, &limits), encoder, cuts: Cuts::default() };
    while packer.member()? {}
    let (diff_id, ..) = packer.source.finish();
    let out = packer.encoder.finish().map_err(LayerError::Write)?;
    let (out, digest, size_bytes) = out.finish();
    Ok((PackedLayer { diff_id, digest, size_bytes }, out))
}

struct Packer<R: Read, W: Write> {
    source: Source<R>,
    encoder: Encoder<W>,
    cuts: Cuts,
}

impl<R: Read, W: Write> Packer<R, W> {
    /// Hands on one member, the extended header before it included; `false` after the end of the archive.
    fn member(&mut self) -> Result<bool, LayerError> {
        let mut bytes = self.read(BLOCK_BYTES)?;
        if bytes.iter().all(|byte| *byte == 0) {
            self.write(&bytes)?;
            self.copy(u64::MAX)?;
            return Ok(false);
        }
        let mut block = self.decode(&bytes)?;
        let mut records = Records::default();
        if block.typeflag == b'x' {
            let length = usize::try_from(block.size).unwrap_or(usize::MAX).min(crate::tar::MAX_PAX_BYTES);
            let content = self.read(length.next_multiple_of(BLOCK_BYTES))?;
            records = Records::parse(&content[..length]).map_err(|why| self.malformed(why))?;
            let member = self.read(BLOCK_BYTES)?;
            block = self.decode(&member)?;
            bytes = [bytes, content, member].concat();
        }
        let mut path = records.path.unwrap_or(block.name);
        if block.typeflag == b'5' {
            // What the archive's writer put behind a directory's path; the root's is `./`.
            path.pop();
            if path == b"." {
                path.clear();
            }
        }
        let size = records.size.unwrap_or(block.size);
        if let Some(min_bytes) = self.cuts.before(&path, size) {
            self.encoder.cut(min_bytes).map_err(LayerError::Write)?;
        }
        self.write(&bytes)?;
        let content_bytes = size.checked_next_multiple_of(BLOCK_BYTES as u64);
        let content_bytes = content_bytes.ok_or_else(|| self.malformed("an entry has more than 16 EiB"))?;
        match self.copy(content_bytes)? {
            copied if copied == content_bytes => Ok(true),
            _ => Err(self.source.truncated()),
        }
    }

    fn read(&mut self, length: usize) -> Result<Vec<u8>, LayerError> {
        let mut bytes = vec![0; length];
        match self.source.read_full(&mut bytes)? {
            read if read == length => Ok(bytes),
            _ => Err(self.source.truncated()),
        }
    }

    /// Hands on as many bytes as there are, up to `limit`; says how many.
    fn copy(&mut self, limit: u64) -> Result<u64, LayerError> {
        let mut left = limit;
        while left > 0 {
            let bytes = self.source.fill()?;
            let count = (bytes.len() as u64).min(left) as usize;
            if count == 0 {
                break;
            }
            self.encoder.write_all(&bytes[..count]).map_err(LayerError::Write)?;
            self.source.consume(count);
            left -= count as u64;
        }
        Ok(limit - left)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.encoder.write_all(bytes).map_err(LayerError::Write)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Block, LayerError> {
        let bytes = bytes.try_into().map_err(|_| self.source.truncated())?;
        header::decode(bytes).map_err(|why| self.malformed(why))
    }

    fn malformed(&self, why: &'static str) -> LayerError {
        LayerError::Malformed { offset_bytes: self.source.offset(), why }
    }
}
