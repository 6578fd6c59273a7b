//! Any change set comes back; no blob makes the reader panic.

mod common;

use std::collections::BTreeMap;

use cofferdam_layer::{
    Compression, IndexOnly, PackedLayer, ReadLimits, WriteOptions, pack_layer, read_archive, read_layer, write_layer,
};
use cofferdam_rootfs::{Change, ChangeSet, Content, Kind, Metadata, Owner, RootPath};
use common::*;
use proptest::{collection, prelude::*};

const ALL: [Compression; 3] = [Compression::Gzip { level: 6 }, Compression::Zstd { level: 3 }, Compression::None];

/// What a generated change is to be, unless the set has something else there already.
#[derive(Debug, Clone)]
struct Wish {
    path: RootPath,
    metadata: Metadata,
    opaque: bool,
    removal: bool,
    /// To be a hard link, if a file sorts before it.
    link: bool,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        1 => "[a-zäöü€ =\\n]{1,40}".prop_map(String::into_bytes),
        1 => "x{90,255}".prop_map(String::into_bytes),
        1 => collection::vec(1u8.., 1..20),
    ]
    .prop_filter("an ordinary name", |name| {
        !name.contains(&b'/') && name.len() <= 255 && name != b"." && name != b".." && !name.starts_with(b".wh.")
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => (0u64..3000).prop_map(|size| Kind::File { size }),
        3 => Just(Kind::Directory),
        1 => collection::vec(1u8.., 1..150).prop_map(|target| Kind::Symlink { target }),
        1 => (0u32..1 << 21, 0u32..1 << 21).prop_map(|(major, minor)| Kind::CharacterDevice { major, minor }),
        1 => (0u32..1 << 21, 0u32..1 << 21).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        1 => Just(Kind::Fifo),
    ]
}

fn xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let name = "(user|trusted|security)\\.[a-z]{1,4}".prop_map(String::into_bytes);
    collection::btree_map(name, collection::vec(any::<u8>(), 0..20), 0..3)
}

prop_compose! {
    fn wish()(
        names in collection::vec(name(), 1..4),
        kind in kind(),
        mode in 0u32..0o10000,
        (uid, gid) in any::<(u32, u32)>(),
        seconds in any::<i32>(),
        xattrs in xattrs(),
        opaque in any::<bool>(),
        removal in prop::bool::weighted(0.1),
        link in prop::bool::weighted(0.3),
    ) -> Wish {
        let metadata = Metadata { mode, owner: Owner { uid, gid }, xattrs, ..metadata(kind) };
        let mut wish = Wish { path: RootPath::new(names.join(&b'/')).unwrap(), metadata, opaque, removal, link };
        wish.metadata.mtime.seconds = i64::from(seconds);
        wish
    }
}

/// The wishes that don't contradict earlier ones.
fn change_set(wishes: Vec<Wish>) -> ChangeSet {
    let is_directory = |change: &Change| matches!(change, Change::Put { metadata, .. } if metadata.is_directory());
    let mut set = ChangeSet::default();
    for Wish { path, metadata, opaque, removal, link } in wishes {
        let directory = metadata.is_directory() && !removal;
        let contradicts = set.changes.iter().any(|(other, change)| {
            path.starts_with(other) && !is_directory(change) || other.starts_with(&path) && !directory
        });
        if contradicts || set.changes.contains_key(&path) {
            continue;
        }
        let linked = set.changes.range(..&path).rev().find_map(|(target, change)| match change {
            Change::Put { metadata, hard_link: None, .. } if !metadata.is_directory() => {
                Some((target.clone(), metadata.clone()))
            }
            _ => None,
        });
        let change = match linked {
            _ if removal => Change::Remove,
            Some((target, metadata)) if link && !directory => {
                Change::Put { metadata, content: None, hard_link: Some(target), opaque: false }
            }
            _ if metadata.is_file() => {
                let bytes: Vec<u8> = (0..metadata.size_bytes()).map(|at| (at * at) as u8).collect();
                Change::Put { metadata, content: Some(Content::Bytes(bytes.into())), hard_link: None, opaque: false }
            }
            _ => Change::Put { opaque: opaque && directory, metadata, content: None, hard_link: None },
        };
        set.changes.insert(path, change);
    }
    set
}

/// A little of everything, without the large file.
fn small() -> ChangeSet {
    let mut set = everything();
    set.changes.insert(path("large"), file(b"small"));
    set
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_come_back_as_the_same_index(
        wishes in collection::vec(wish(), 0..25),
        compression in prop::sample::select(&ALL[..]),
    ) {
        let set = change_set(wishes);
        let options = WriteOptions { compression, timestamps_real: true, ..WriteOptions::default() };
        let (written, blob) = write_layer(&set, &options, Vec::new()).unwrap();
        prop_assert_eq!(&written.index.entries, &set.index().entries);
        let limits = ReadLimits::default();
        let layer = read_layer(&blob[..], Some(written.diff_id), &limits, &mut IndexOnly).unwrap();
        prop_assert_eq!(layer.index, written.index);
    }

    #[test]
    fn an_archive_that_is_compressed_later_is_the_blob_that_is_compressed_at_once(
        wishes in collection::vec(wish(), 0..25),
        compression in prop::sample::select(&ALL[..]),
    ) {
        let set = change_set(wishes);
        let options = WriteOptions { compression, timestamps_real: true, ..WriteOptions::default() };
        let (at_once, blob) = write_layer(&set, &options, Vec::new()).unwrap();
        let stored = WriteOptions { compression: Compression::None, ..options };
        let (_, archive) = write_layer(&set, &stored, Vec::new()).unwrap();
        let (later, packed) = pack_layer(&archive[..], compression, Vec::new()).unwrap();
        let expected = PackedLayer { diff_id: at_once.diff_id, digest: at_once.digest, size_bytes: at_once.size_bytes };
        prop_assert_eq!(later, expected);
        prop_assert!(packed == blob, "another blob");
    }

    #[test]
    fn a_damaged_archive_is_packed_or_refused_but_never_panics(
        damage in collection::vec((0usize..400_000, any::<u8>()), 1..8),
        cut in prop::option::of(0usize..400_000),
    ) {
        let (_, mut archive) = write(&small(), Compression::None);
        for (at, value) in damage {
            let len = archive.len();
            archive[at % len] = value;
        }
        if let Some(cut) = cut {
            archive.truncate(cut % (archive.len() + 1));
        }
        let _ = pack_layer(&archive[..], Compression::None, Vec::new());
    }

    #[test]
    fn a_blob_with_random_damage_is_read_or_refused_but_never_panics(
        damage in collection::vec((0usize..400_000, any::<u8>()), 1..8),
        cut in prop::option::of(0usize..400_000),
        compression in prop::sample::select(&ALL[..]),
    ) {
        let (_, mut blob) = write(&small(), compression);
        for (at, value) in damage {
            let len = blob.len();
            blob[at % len] = value;
        }
        if let Some(cut) = cut {
            blob.truncate(cut % (blob.len() + 1));
        }
        let _ = read(&blob);
    }

    #[test]
    fn headers_with_random_fields_and_a_right_checksum_never_panic(
        damage in collection::vec((0usize..400_000, any::<u8>()), 1..6),
    ) {
        let (_, mut blob) = write(&small(), Compression::None);
        for (at, value) in damage {
            let len = blob.len();
            blob[at % len] = value;
            // The block that it hit gets the checksum that it would have as a header.
            let block = at % len / 512 * 512;
            seal(&mut blob[block..block + 512]);
        }
        let _ = read(&blob);
    }

    #[test]
    fn no_bytes_at_all_make_the_reader_panic(blob in collection::vec(any::<u8>(), 0..3000)) {
        let _ = read(&blob);
    }
}

#[test]
fn an_archive_may_begin_with_a_name_that_looks_like_a_compression() {
    for name in [&b"\x1f\x8b"[..], b"BZh91AY", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ"] {
        let set = ChangeSet { changes: BTreeMap::from([(RootPath::new(name).unwrap(), file(b"content"))]) };
        let (written, archive) = write(&set, Compression::None);
        let layer = read_archive(&archive[..], Some(written.diff_id), &ReadLimits::default(), &mut IndexOnly).unwrap();
        assert_eq!(layer.index, written.index);
    }
}
