//! A layer made with blocks of an earlier one is the layer made without, whatever changed and whatever is damaged.

mod common;

use std::io;

use cofferdam_layer::{BlobBytes, BlockIndex, Compression, EarlierBlocks, WrittenLayer, pack_layer, write_layer_again};
use cofferdam_rootfs::ChangeSet;
use common::*;
use proptest::{collection, prelude::*};

const GZIP: Compression = Compression::Gzip { level: 6 };

/// A blob in memory.
struct Memory(Vec<u8>);

impl BlobBytes for Memory {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = self.0.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn write_again(set: &ChangeSet, earlier: EarlierBlocks) -> (WrittenLayer, BlockIndex, Vec<u8>) {
    write_layer_again(set, &options(GZIP), earlier, Vec::new(), &mut |_| ()).unwrap()
}

/// What the store would keep: the bytes of index and blob.
fn kept(set: &ChangeSet) -> (Vec<u8>, Vec<u8>) {
    let (_, index, blob) = write_again(set, EarlierBlocks::default());
    (index.encode(), blob)
}

fn earlier(index: &[u8], blob: Vec<u8>) -> EarlierBlocks {
    EarlierBlocks::new(BlockIndex::decode(index).unwrap(), Box::new(Memory(blob)))
}

/// Text or noise, other bytes for each seed.
fn content(seed: u64, len: usize, is_noise: bool) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| if is_noise { next() } else { b"etaoin shrdlu\n"[usize::from(next() % 14)] }).collect()
}

fn set_of(files: &[(u16, u64, usize, bool)]) -> ChangeSet {
    let files = files
        .iter()
        .map(|(name, seed, len, is_noise)| (path(&format!("f{name:05}")), file(&content(*seed, *len, *is_noise))));
    ChangeSet { changes: files.collect() }
}

/// Name, seed, length, whether it is noise.
fn files() -> impl Strategy<Value = Vec<(u16, u64, usize, bool)>> {
    let len = prop_oneof![8 => 0usize..40_000, 1 => 250_000usize..700_000];
    collection::vec((any::<u16>(), 0u64..1000, len, any::<bool>()), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn edits_inserts_and_deletes_give_the_layer_that_is_made_without_reuse(
        before in files(),
        edits in collection::vec((any::<prop::sample::Index>(), 0u8..3, files()), 0..4),
    ) {
        let mut after = before.clone();
        for (index, what, new) in edits {
            let at = index.index(after.len());
            match what {
                0 if after.len() > 1 => drop(after.remove(at)),
                1 => after.insert(at, new[0]),
                _ => after[at] = (after[at].0, new[0].1, new[0].2, new[0].3),
            }
        }
        let (index, blob) = kept(&set_of(&before));
        let set = set_of(&after);
        let (plain, plain_blob) = write(&set, GZIP);
        let (again, again_index, again_blob) = write_again(&set, earlier(&index, blob));
        prop_assert!(again_blob == plain_blob, "another blob");
        prop_assert_eq!(again, plain);
        // The index is that of the new blob: it serves the next time.
        prop_assert!(again_index.encode() == kept(&set).0, "another index");
    }

    #[test]
    fn an_archive_that_is_compressed_later_has_the_same_blocks(files in files()) {
        let set = set_of(&files);
        let (_, archive) = write(&set, Compression::None);
        prop_assert!(pack_layer(&archive[..], GZIP, Vec::new()).unwrap().1 == write(&set, GZIP).1, "another blob");
    }

    #[test]
    fn a_damaged_or_shortened_blob_does_no_harm(
        before in files(),
        flips in collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..50),
        cut in any::<prop::sample::Index>(),
    ) {
        let set = set_of(&before);
        let (index, whole) = kept(&set);
        let mut blob = whole.clone();
        for (at, bit) in flips {
            let at = at.index(blob.len());
            blob[at] ^= 1 << bit;
        }
        prop_assert!(write_again(&set, earlier(&index, blob.clone())).2 == whole, "another blob");
        blob.truncate(cut.index(whole.len()));
        prop_assert!(write_again(&set, earlier(&index, blob)).2 == whole, "another blob");
    }

    #[test]
    fn a_damaged_index_does_no_harm(
        before in files(),
        flips in collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..20),
    ) {
        let set = set_of(&before);
        let (mut index, blob) = kept(&set);
        for (at, bit) in flips {
            if !index.is_empty() {
                let at = at.index(index.len());
                index[at] ^= 1 << bit;
            }
        }
        if let Some(damaged) = BlockIndex::decode(&index) {
            let earlier = EarlierBlocks::new(damaged, Box::new(Memory(blob.clone())));
            prop_assert!(write_again(&set, earlier).2 == blob, "another blob");
        }
    }
}

/// Many small files; one of them may be longer.
fn tree(longer: Option<usize>) -> ChangeSet {
    let files: Vec<_> = (0..1500u16).map(|n| (n, u64::from(n), 3000, false)).collect();
    let mut set = set_of(&files);
    if let Some(n) = longer {
        set.changes.insert(path(&format!("f{n:05}")), file(&content(n as u64, 9000, false)));
    }
    set
}

/// Counts the blocks that are read.
struct Counting(std::sync::Arc<std::sync::atomic::AtomicUsize>, Memory);

impl BlobBytes for Counting {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.1.read_exact_at(buffer, offset)
    }
}

#[test]
fn all_but_the_blocks_about_an_edit_are_used_again() {
    let (index, blob) = kept(&tree(None));
    let total = BlockIndex::decode(&index).unwrap().len();
    assert!((25..45).contains(&total), "{total} blocks of 5.4 MB");
    for edited in [3, 500, 750, 1490] {
        let count = std::sync::Arc::default();
        let blob = Counting(std::sync::Arc::clone(&count), Memory(blob.clone()));
        let earlier = EarlierBlocks::new(BlockIndex::decode(&index).unwrap(), Box::new(blob));
        write_again(&tree(Some(edited)), earlier);
        let used = count.load(std::sync::atomic::Ordering::Relaxed);
        assert!(used + 5 >= total, "{used} of {total} with file {edited} edited");
    }
}

#[test]
fn what_cannot_be_an_index_is_none() {
    let index = kept(&tree(None)).0;
    assert!(BlockIndex::decode(&index).is_some());
    assert!(BlockIndex::decode(&[]).is_some_and(|index| index.is_empty()));
    assert_eq!(BlockIndex::decode(&index[1..]), None);
    assert_eq!(BlockIndex::decode(&[0; 76]), None, "a block of no bytes");
    assert_eq!(BlockIndex::decode(&[0xff; 76]), None, "a block of 4 GiB");
}

#[test]
fn other_levels_share_no_blocks() {
    let (index, blob) = kept(&tree(None));
    let other = options(Compression::Gzip { level: 1 });
    let plain = write_layer_again(&tree(None), &other, EarlierBlocks::default(), Vec::new(), &mut |_| ()).unwrap().2;
    let again = write_layer_again(&tree(None), &other, earlier(&index, blob), Vec::new(), &mut |_| ()).unwrap().2;
    assert_eq!(again, plain);
}
