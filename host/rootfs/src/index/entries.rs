//! The entries of a layer as a sorted map that takes some twenty bytes for each.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    ops::Bound,
};

use super::{
    block::{Block, Cursor},
    record,
};
use crate::{IndexEntry, RootPath};

/// Records in a block: a search in it looks at half of them.
const BLOCK_RECORDS: usize = 64;

/// A sorted map from paths to entries. A layer may have a million of them, of which each would cost hundreds of bytes as a
/// value of its own, so they lie in blocks, encoded; what is asked for is decoded.
#[derive(Clone, Default)]
pub struct IndexEntries {
    /// By a path that is the first one's or lies before it, and after the block before.
    blocks: BTreeMap<RootPath, Block>,
    /// The path of the last record: what comes after it, as mostly in an archive, needs no search.
    last: Option<RootPath>,
    len: usize,
    size_bytes: usize,
}

/// Bytes that are no block of entries, or not one that comes after those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a damaged block of an index")]
pub struct InvalidBlock;

impl IndexEntries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that they take, roughly.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The entry at a path.
    pub fn get(&self, path: &RootPath) -> Option<IndexEntry> {
        let (_, block) = self.block_of(path)?;
        record::decode(block.get(&block.find(path))?)
    }

    /// Whether there is an entry at a path.
    pub fn contains(&self, path: &RootPath) -> bool {
        self.block_of(path).is_some_and(|(_, block)| block.get(&block.find(path)).is_some())
    }

    /// Puts an entry at a path, in the place of what was there.
    pub fn insert(&mut self, path: &RootPath, entry: &IndexEntry) {
        let mut encoded = Vec::new();
        record::encode(entry, &mut encoded);
        let is_last = self.last.as_ref().is_some_and(|last| last < path);
        let fits = |block: &Block| !is_last || block.len() < BLOCK_RECORDS;
        let key = self.block_of(path).filter(|(_, block)| fits(block)).map(|(key, _)| key.clone());
        if is_last || self.last.is_none() {
            self.last = Some(path.clone());
        }
        let Some(key) = key else {
            if is_last && let Some(mut full) = self.blocks.last_entry() {
                full.get_mut().close();
            }
            if is_last || self.is_empty() {
                self.blocks.insert(path.clone(), Block::default());
            } else if let Some((_, first)) = self.blocks.pop_first() {
                // Before all others.
                self.blocks.insert(path.clone(), first);
            }
            return self.put(&path.clone(), path, &encoded);
        };
        self.put(&key, path, &encoded);
    }

    /// Removes the entry at a path; none is fine.
    pub fn remove(&mut self, path: &RootPath) {
        let Some(key) = self.block_of(path).map(|(key, _)| key.clone()) else { return };
        let Some(block) = self.blocks.get_mut(&key) else { return };
        let before = (block.len(), block.as_bytes().len());
        block.remove(&block.find(path));
        self.len -= before.0 - block.len();
        self.size_bytes = self.size_bytes + block.as_bytes().len() - before.1;
        if block.len() == 0 {
            self.blocks.remove(&key);
        }
        if self.last.as_ref() == Some(path) {
            let last = self.iter_rev().next().map(|(path, _)| path);
            self.last = last;
        }
    }

    /// All entries, sorted so that a directory is directly followed by what it contains.
    pub fn iter(&self) -> Iter<'_> {
        Iter { blocks: self.blocks.range(..), cursor: None }
    }

    /// All entries, the last one first.
    pub fn iter_rev(&self) -> impl Iterator<Item = (RootPath, IndexEntry)> {
        self.blocks.values().rev().flat_map(|block| {
            let mut entries = Vec::with_capacity(block.len());
            let mut cursor = block.cursor();
            entries.extend(std::iter::from_fn(|| decoded(&mut cursor)));
            entries.into_iter().rev()
        })
    }

    /// All entries from a path on.
    pub fn range(&self, from: Bound<&RootPath>) -> Iter<'_> {
        let (path, after) = match from {
            Bound::Unbounded => return self.iter(),
            Bound::Included(path) => (path, false),
            Bound::Excluded(path) => (path, true),
        };
        let Some((key, block)) = self.block_of(path) else { return self.iter() };
        let cursor = block.cursor_at(&block.find(path), path, after);
        Iter { blocks: self.blocks.range((Bound::Excluded(key), Bound::Unbounded)), cursor: Some(cursor) }
    }

    /// The bytes to keep, block by block, for [`IndexEntries::push_block`].
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.blocks.values().map(Block::as_bytes)
    }

    /// Takes a block of [`IndexEntries::blocks`] back.
    ///
    /// # Errors
    /// The bytes are not one, or do not come after those that are there.
    pub fn push_block(&mut self, bytes: Vec<u8>) -> Result<(), InvalidBlock> {
        let (mut first, mut last) = (None, Vec::new());
        let check = |path: &[u8], entry: &[u8]| {
            if first.is_none() {
                first = RootPath::from_normalised(path);
            }
            last.clear();
            last.extend_from_slice(path);
            RootPath::is_normalised(path) && record::decode(entry).is_some()
        };
        let block = Block::from_bytes(bytes, check).ok_or(InvalidBlock)?;
        let (Some(first), Some(last)) = (first, RootPath::from_normalised(&last)) else { return Err(InvalidBlock) };
        if block.len() > BLOCK_RECORDS || self.last.as_ref().is_some_and(|last| *last >= first) {
            return Err(InvalidBlock);
        }
        self.len += block.len();
        self.size_bytes += block.as_bytes().len();
        self.blocks.insert(first, block);
        self.last = Some(last);
        Ok(())
    }

    /// The block that has the path if any has.
    fn block_of(&self, path: &RootPath) -> Option<(&RootPath, &Block)> {
        self.blocks.range(..=path).next_back()
    }

    fn put(&mut self, key: &RootPath, path: &RootPath, encoded: &[u8]) {
        let Some(block) = self.blocks.get_mut(key) else { return };
        let before = (block.len(), block.as_bytes().len());
        block.put(&block.find(path), path, encoded);
        self.len += block.len() - before.0;
        let half = if block.len() > BLOCK_RECORDS { block.split() } else { None };
        self.size_bytes = self.size_bytes + block.as_bytes().len() - before.1;
        if let Some((first, half)) = half
            && let Some(first) = RootPath::from_normalised(&first)
        {
            self.size_bytes += half.as_bytes().len();
            self.blocks.insert(first, half);
        }
    }
}

/// Entries one after the other.
pub struct Iter<'e> {
    blocks: btree_map::Range<'e, RootPath, Block>,
    cursor: Option<Cursor<'e>>,
}

impl Iterator for Iter<'_> {
    type Item = (RootPath, IndexEntry);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.cursor.as_mut().and_then(decoded) {
                return Some(found);
            }
            self.cursor = Some(self.blocks.next()?.1.cursor());
        }
    }
}

fn decoded(cursor: &mut Cursor<'_>) -> Option<(RootPath, IndexEntry)> {
    let (path, entry) = cursor.next()?;
    Some((RootPath::from_normalised(path)?, record::decode(entry)?))
}

impl<'e> IntoIterator for &'e IndexEntries {
    type Item = (RootPath, IndexEntry);
    type IntoIter = Iter<'e>;

    fn into_iter(self) -> Iter<'e> {
        self.iter()
    }
}

impl FromIterator<(RootPath, IndexEntry)> for IndexEntries {
    fn from_iter<I: IntoIterator<Item = (RootPath, IndexEntry)>>(entries: I) -> Self {
        let mut map = Self::default();
        entries.into_iter().for_each(|(path, entry)| map.insert(&path, &entry));
        map
    }
}

impl PartialEq for IndexEntries {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for IndexEntries {}

impl fmt::Debug for IndexEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

#[cfg(test)]
mod tests;
