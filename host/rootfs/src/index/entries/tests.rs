use super::*;
use crate::{Kind, Metadata, merged::implicit_directory};

fn path(text: impl AsRef<[u8]>) -> RootPath {
    RootPath::new(text).unwrap()
}

fn file(size: u64) -> IndexEntry {
    let metadata = Metadata { kind: Kind::File { size }, ..implicit_directory() };
    IndexEntry::Present { metadata, hard_link: None, opaque: false }
}

#[test]
fn it_is_a_sorted_map_whatever_comes_and_goes() {
    let mut below = crate::random::numbers();
    for names in [20, 400, 4000] {
        let (mut entries, mut model) = (IndexEntries::default(), BTreeMap::new());
        for step in 0..6000 {
            let parts: Vec<String> =
                (0..=below(3)).map(|_| ["a", "ab", "a-", "b/"][below(4) as usize].to_owned()).collect();
            let path = path(format!("{}{}", parts.concat(), below(names)));
            match below(5) {
                0 => {
                    entries.remove(&path);
                    model.remove(&path);
                }
                _ => {
                    let entry = if below(4) == 0 { IndexEntry::Whiteout } else { file(below(1 << 40)) };
                    entries.insert(&path, &entry);
                    model.insert(path.clone(), entry);
                }
            }
            assert_eq!(entries.get(&path), model.get(&path).cloned(), "{path}");
            assert_eq!(entries.len(), model.len());
            if step % 50 == 0 {
                let bound = Bound::Excluded(&path);
                let after = model.range((bound, Bound::Unbounded)).map(|(path, entry)| (path.clone(), entry.clone()));
                assert!(entries.range(bound).eq(after), "after {path}");
                let from = model.range(&path..).map(|(path, entry)| (path.clone(), entry.clone()));
                assert!(entries.range(Bound::Included(&path)).eq(from), "from {path}");
            }
        }
        let owned = |(path, entry): (&RootPath, &IndexEntry)| (path.clone(), entry.clone());
        assert!(entries.iter().eq(model.iter().map(owned)));
        assert!(entries.iter_rev().eq(model.iter().rev().map(owned)));
        let mut again = IndexEntries::default();
        entries.blocks().for_each(|block| again.push_block(block.to_vec()).unwrap());
        assert_eq!((again.len(), again.size_bytes()), (entries.len(), entries.size_bytes()));
        assert!(again == entries);
    }
}

#[test]
fn sorted_entries_and_scattered_ones_take_some_twenty_bytes_each() {
    let sorted = (0..100_000).map(|n| (path(format!("usr/share/d{:03}/f{n:07}", n / 1000)), file(n)));
    let scattered = (0..100_000).map(|n| (path(format!("usr/share/d{:03}/f{n:07}", n % 1000)), file(n)));
    for entries in [sorted.collect::<IndexEntries>(), scattered.collect()] {
        assert_eq!(entries.len(), 100_000);
        assert!(entries.size_bytes() < 2_500_000, "{}", entries.size_bytes());
    }
}

#[test]
fn nonsense_is_no_block() {
    let entries: IndexEntries =
        [("a", 1), ("a/b", 2), ("a/c", 3)].map(|(name, size)| (path(name), file(size))).into_iter().collect();
    let block = entries.blocks().next().unwrap().to_vec();
    let mut twice = IndexEntries::default();
    assert_eq!(twice.push_block(block.clone()), Ok(()));
    assert_eq!(twice.push_block(block.clone()), Err(InvalidBlock), "not after what is there");
    for cut in 0..block.len() {
        let part = IndexEntries::default().push_block(block[..cut].to_vec());
        // Between two records a block may end.
        assert!(part.is_err() || IndexEntries::default().push_block(block[cut..].to_vec()).is_err(), "cut at {cut}");
    }
    for nonsense in [&[][..], &[1, 0, 1, 0], &[0, 1, 1, b'a', 0x0e], &[0, 2, 1, b'.', b'.', 0], &[0xff; 12]] {
        assert_eq!(IndexEntries::default().push_block(nonsense.to_vec()), Err(InvalidBlock), "{nonsense:?}");
    }
}
