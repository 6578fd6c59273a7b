//! The compressed blocks of the layer that a recipe led to before, so that a step whose files changed a little compresses
//! a little.

use std::{io, os::unix::fs::FileExt};

use cofferdam_digest::Digest;
use cofferdam_image::{Store, StoredBlocks};
use cofferdam_layer::{BlobBytes, BlockIndex, EarlierBlocks};

/// Layers of fewer blocks (about 1 MB) are compressed in the time that files take to be opened.
const MIN_BLOCKS: usize = 8;

/// What the last layer of this recipe offers; nothing if it is gone, or anything is wrong with it.
pub fn find(store: &Store, recipe: &Digest) -> EarlierBlocks {
    let found = || {
        let stored = store.block_index(recipe).ok()??;
        let index = BlockIndex::decode(&stored.index)?;
        Some(EarlierBlocks::new(index, Box::new(Blob(store.open_blob(&stored.blob).ok()?))))
    };
    found().unwrap_or_default()
}

/// Keeps the blocks of a layer for the next one. A store that can't keep them is no reason to fail.
pub fn keep(store: &Store, recipe: &Digest, blob: Digest, index: &BlockIndex) {
    if index.len() >= MIN_BLOCKS {
        let _ = store.put_block_index(recipe, &StoredBlocks { blob, index: index.encode() });
    }
}

/// A blob of the store.
struct Blob<F>(F);

impl<F: FileExt + Send + Sync> BlobBytes for Blob<F> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.0, buffer, offset)
    }
}
