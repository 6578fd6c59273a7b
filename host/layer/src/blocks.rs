//! Compressed blocks of an earlier layer, to be used again where the next one has the same bytes.
//!
//! Deflate dominates the cost of a layer, and what a step writes is mostly what it wrote before. So a layer comes with a
//! list of its compressed blocks, named by what went into each, and whoever writes the next one may hand it in with the
//! bytes of the blob. A layer made that way is the same, byte for byte, as one made without.

use std::io;

use cofferdam_digest::{Digest, Sha256};

/// More are not kept: 20 MB, for about 40 GB of compressible content.
const BLOCKS_LIMIT: usize = 1 << 18;

/// Bytes of an encoded block: key, offset, length, digest.
const RECORD_BYTES: usize = 32 + 8 + 4 + 32;

/// A compressed block is never much longer than the longest block (256 KiB), in bytes.
const LENGTH_LIMIT_BYTES: u32 = 512 * 1024;

/// One compressed block of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    /// Of what the compressed bytes depend on: [`key`].
    key: Digest,
    /// Where they are in the blob, in bytes.
    offset: u64,
    /// How many they are.
    length: u32,
    /// Of these bytes.
    digest: Digest,
}

/// The compressed blocks of one blob. Stored ones, which cost nothing to make, are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIndex {
    /// In the order of the blob while it is made, else sorted by key.
    blocks: Vec<Block>,
}

impl BlockIndex {
    /// How many blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// 76 bytes for each block; neither a version nor a checksum is in it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.blocks.len() * RECORD_BYTES);
        for block in &self.blocks {
            bytes.extend_from_slice(block.key.as_bytes());
            bytes.extend_from_slice(&block.offset.to_le_bytes());
            bytes.extend_from_slice(&block.length.to_le_bytes());
            bytes.extend_from_slice(block.digest.as_bytes());
        }
        bytes
    }

    /// `None` if these can't be the bytes of an index.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
        if !rest.is_empty() || records.len() > BLOCKS_LIMIT {
            return None;
        }
        let digest = |bytes: &[u8]| Some(Digest::from_bytes(bytes.try_into().ok()?));
        let blocks = records.iter().map(|record| {
            let length = u32::from_le_bytes(record[40..44].try_into().ok()?);
            (1..=LENGTH_LIMIT_BYTES).contains(&length).then_some(())?;
            let offset = u64::from_le_bytes(record[32..40].try_into().ok()?);
            Some(Block { key: digest(&record[..32])?, offset, length, digest: digest(&record[44..])? })
        });
        let mut blocks = blocks.collect::<Option<Vec<_>>>()?;
        blocks.sort_unstable_by_key(|block| block.key);
        Some(Self { blocks })
    }

    pub(crate) fn push(&mut self, key: Digest, offset: u64, compressed: &[u8], digest: Digest) {
        if let (true, Ok(length)) = (self.blocks.len() < BLOCKS_LIMIT, u32::try_from(compressed.len())) {
            self.blocks.push(Block { key, offset, length, digest });
        }
    }

    fn find(&self, key: &Digest) -> Option<&Block> {
        let found = self.blocks.binary_search_by_key(key, |block| block.key).ok()?;
        self.blocks.get(found)
    }
}

/// What a compressed block depends on, and nothing else: level, dictionary, the bytes, and the compressor, which another
/// version may do better.
pub(crate) fn key(level: u32, dictionary: &[u8], block: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update_framed(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.update_framed(&level.to_le_bytes());
    hasher.update_framed(dictionary);
    hasher.update_framed(block);
    hasher.finish()
}

/// The bytes of a blob, at any place.
pub trait BlobBytes: Send + Sync {
    /// Fills the buffer from this offset, in bytes.
    ///
    /// # Errors
    /// The blob is shorter, or can't be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// The blocks of an earlier layer, or of none.
#[derive(Default)]
pub struct EarlierBlocks {
    index: BlockIndex,
    blob: Option<Box<dyn BlobBytes>>,
}

impl EarlierBlocks {
    /// What [`BlockIndex::decode`] gave for a blob, and the blob. The index is trusted to have belonged to a layer that was
    /// written here; the blob is not trusted to be whole.
    pub fn new(index: BlockIndex, blob: Box<dyn BlobBytes>) -> Self {
        Self { index, blob: Some(blob) }
    }

    /// Puts the compressed bytes of a block in `output`, or leaves it empty; gives the digest of these bytes.
    pub(crate) fn copy(&self, key: &Digest, output: &mut Vec<u8>) -> Option<Digest> {
        output.clear();
        let block = self.index.find(key)?;
        output.resize(block.length as usize, 0);
        let read = self.blob.as_ref()?.read_exact_at(output, block.offset);
        // Damage of any kind is no more than a block that has to be compressed.
        if read.is_err() || Digest::of(output) != block.digest {
            output.clear();
            return None;
        }
        Some(block.digest)
    }
}
