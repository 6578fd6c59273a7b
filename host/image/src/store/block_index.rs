//! Which compressed blocks the last layer of a recipe has, for the next layer of the same recipe.

use cofferdam_digest::Digest;

use super::{Store, read_small};
use crate::StoreError;

/// Another form of the blocks is another line.
const MAGIC: &[u8] = b"cofferdam block index 1\n";

/// The largest index that is kept: some 400,000 blocks.
const LIMIT_BYTES: u64 = 32 << 20;

/// The blocks of a blob, as `cofferdam-layer` encodes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlocks {
    /// Of the blob, which may be gone.
    pub blob: Digest,
    /// The encoded index.
    pub index: Vec<u8>,
}

impl Store {
    /// Keeps the blocks of the last layer that a recipe led to, instead of those before.
    ///
    /// # Errors
    /// The machine refused.
    pub fn put_block_index(&self, recipe: &Digest, blocks: &StoredBlocks) -> Result<(), StoreError> {
        let body = [blocks.blob.as_bytes(), &blocks.index[..]].concat();
        let bytes = [MAGIC, Digest::of(&body).as_bytes(), &body].concat();
        self.write_atomically(&self.root.join("block-indexes").join(recipe.hex()), &bytes)
    }

    /// The blocks of the last layer of a recipe; `None` if there are none, or they are damaged or of another version.
    ///
    /// # Errors
    /// The machine refused.
    pub fn block_index(&self, recipe: &Digest) -> Result<Option<StoredBlocks>, StoreError> {
        let bytes = read_small(&self.root.join("block-indexes").join(recipe.hex()), LIMIT_BYTES)?;
        Ok(bytes.and_then(|bytes| {
            let (checksum, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
            let (blob, index) = body.split_first_chunk::<32>()?;
            let blocks = StoredBlocks { blob: Digest::from_bytes(*blob), index: index.to_vec() };
            (Digest::of(body).as_bytes() == checksum).then_some(blocks)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let recipe = Digest::of(b"recipe");
        assert_eq!(store.block_index(&recipe).unwrap(), None);
        let blocks = StoredBlocks { blob: Digest::of(b"blob"), index: vec![7; 152] };
        store.put_block_index(&recipe, &blocks).unwrap();
        assert_eq!(store.block_index(&recipe).unwrap(), Some(blocks));
        let path = directory.path().join("block-indexes").join(recipe.hex());
        let whole = std::fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(store.block_index(&recipe).unwrap(), None, "byte {position}");
            std::fs::write(&path, &whole[..position]).unwrap();
            assert_eq!(store.block_index(&recipe).unwrap(), None, "cut at {position}");
        }
    }
}
