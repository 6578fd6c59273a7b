//! What is written comes back, and is the same bytes every time.

mod common;

use std::{io::Read, sync::Arc};

use cofferdam_digest::Digest;
use cofferdam_layer::{Compression, IndexOnly, LayerError, ReadLimits, WriteOptions, read_layer, write_layer};
use cofferdam_rootfs::{Change, ChangeSet, Content, IndexEntry, Kind, RootfsError, Spool, Timestamp};
use common::*;

const ALL: [Compression; 5] = [
    Compression::Gzip { level: 6 },
    Compression::Gzip { level: 0 },
    Compression::Zstd { level: 3 },
    Compression::Zstd { level: 99 },
    Compression::None,
];

#[test]
fn every_kind_of_entry_comes_back_from_every_compression() {
    let set = everything();
    for compression in ALL {
        let (written, blob) = write(&set, compression);
        assert_eq!(written.digest, Digest::of(&blob));
        assert_eq!(written.size_bytes, blob.len() as u64);
        let mut recorder = Recorder::default();
        let layer = read_layer(&blob[..], Some(written.diff_id), &ReadLimits::default(), &mut recorder).unwrap();
        assert_eq!(layer.index, written.index);
        assert_eq!(layer.format, compression.format());
        assert_eq!((layer.diff_id, layer.size_bytes), (written.diff_id, written.size_bytes));
        assert_eq!(layer.uncompressed_size_bytes, written.uncompressed_size_bytes);
        let content = |name: &str| recorder.0.iter().find(|(at, ..)| *at == path(name)).unwrap().2.clone().unwrap();
        assert_eq!(content("large"), b"0123456789abcdef".repeat(50_000));
        assert_eq!(content("etc/passwd"), b"root:x:0:0::/:/bin/sh\n");
    }
}

#[test]
fn the_index_is_that_of_the_changes_and_keeps_the_owners_files() {
    let set = everything();
    let (written, _) = write(&set, Compression::None);
    let mut expected = set.index();
    // Hard links have the metadata of their file; all else is as it was.
    expected.contents.insert(path("etc/passwd"), b"root:x:0:0::/:/bin/sh\n".to_vec());
    expected.contents.insert(path("etc/group"), b"root:x:0:\n".to_vec());
    assert_eq!(written.index, expected);
}

#[test]
fn the_same_changes_give_the_same_bytes_whatever_the_order_of_insertion() {
    let set = everything();
    let mut reversed = ChangeSet::default();
    for (path, change) in set.changes.iter().rev() {
        reversed.changes.insert(path.clone(), change.clone());
    }
    for compression in ALL {
        assert_eq!(write(&set, compression).1, write(&reversed, compression).1);
    }
}

#[test]
fn the_format_of_layers_has_not_changed() {
    // Another DiffID here means another digest for every image that anyone builds again: say so in the changelog.
    let (written, _) = write(&everything(), Compression::Gzip { level: 6 });
    assert_eq!(written.diff_id.to_string(), "sha256:bd1dee97ffb7b9c3faf5c62ec6fef90b81266d6636ad584e5ff7ad72880b85f2");
    // This one also changes when zlib-rs finds other matches.
    assert_eq!(written.digest.to_string(), "sha256:56e037184457358465bcfd1c642d85f9f7e5ec0ec25c7b018a1b8ecf52951066");
}

#[test]
fn times_after_the_start_of_the_build_become_the_epoch_and_are_whole_seconds() {
    let time = |seconds, nanoseconds| {
        let mut change = file(b"");
        if let Change::Put { metadata, .. } = &mut change {
            metadata.mtime = Timestamp { seconds, nanoseconds };
        }
        change
    };
    let set = changes([
        ("before", time(99, 500)),
        ("coarse", time(99, 995_000_000)),
        ("same", time(100, 1)),
        ("after", time(150, 0)),
        ("negative", time(-2, 999_999_999)),
    ]);
    let zero = Timestamp::default();
    let options = WriteOptions {
        compression: Compression::None,
        epoch: Timestamp { seconds: 7, nanoseconds: 9 },
        clamp_after: Timestamp { seconds: 100, nanoseconds: 0 },
        timestamps_real: false,
    };
    let times = |options: &WriteOptions| {
        let (written, blob) = write_layer(&set, options, Vec::new()).unwrap();
        assert_eq!(read(&blob).unwrap().index, written.index);
        ["before", "coarse", "same", "after", "negative"].map(|name| {
            match written.index.entries.get(&path(name)).unwrap() {
                IndexEntry::Present { metadata, .. } => {
                    assert_eq!(metadata.mtime.nanoseconds, 0);
                    metadata.mtime.seconds
                }
                IndexEntry::Whiteout => unreachable!(),
            }
        })
    };
    assert_eq!(times(&options), [99, 7, 7, 7, -2]);
    assert_eq!(times(&WriteOptions { timestamps_real: true, ..options }), [99, 99, 100, 150, -2]);
    assert_eq!(times(&WriteOptions { epoch: zero, clamp_after: zero, ..options }), [0, 0, 0, 0, -2]);
}

#[test]
fn sockets_are_left_out_and_named() {
    let set = changes([("a", put(metadata(Kind::Socket))), ("b", hard_link("a", 0)), ("c", file(b"c"))]);
    let (written, blob) = write(&set, Compression::None);
    assert_eq!(written.skipped_sockets, [path("a"), path("b")]);
    assert_eq!(read(&blob).unwrap().index.entries.iter().map(|(path, _)| path).collect::<Vec<_>>(), [path("c")]);
}

#[test]
fn a_kept_file_that_is_another_name_of_a_file_is_kept_too() {
    let set = changes([("a", file(b"root:x:0:0")), ("etc", directory()), ("etc/passwd", hard_link("a", 10))]);
    assert_eq!(write(&set, Compression::None).0.index.contents[&path("etc/passwd")], b"root:x:0:0");
}

#[test]
fn attributes_of_overlayfs_never_reach_an_image() {
    let mut attributes = metadata(Kind::Directory);
    attributes.xattrs.insert(b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec());
    attributes.xattrs.insert(b"user.overlay.opaque".to_vec(), b"y".to_vec());
    attributes.xattrs.insert(b"user.mine".to_vec(), b"1".to_vec());
    let (written, blob) = write(&changes([("d", put(attributes))]), Compression::None);
    assert!(!blob.windows(8).any(|window| window == b".overlay"));
    assert_eq!(read(&blob).unwrap().index, written.index);
}

#[test]
fn contradictory_changes_are_refused_by_name() {
    let opaque_file = match file(b"") {
        Change::Put { metadata, content, .. } => Change::Put { metadata, content, hard_link: None, opaque: true },
        other => other,
    };
    for (set, names) in [
        (changes([("a", file(b"")), ("a/b", file(b""))]), "`/a/b`"),
        (changes([("a", Change::Remove), ("a/b", file(b""))]), "`/a/b`"),
        (changes([("a", symlink("b")), ("a/b", directory())]), "`/a/b`"),
        (changes([("a", hard_link("z", 0)), ("z", file(b""))]), "`/a`"),
        (changes([("b", hard_link("a", 0))]), "`/b`"),
        (changes([("a", directory()), ("b", hard_link("a", 0))]), "`/b`"),
        (changes([("f", put(metadata(Kind::File { size: 0 })))]), "`/f`"),
        (changes([("f", file_with(metadata(Kind::Fifo), b""))]), "`/f`"),
        (changes([("f", opaque_file)]), "`/f`"),
        (changes([("", file(b""))]), "`/`"),
        (changes([("", Change::Remove)]), "`/`"),
    ] {
        let error = write_layer(&set, &WriteOptions::default(), Vec::new()).map(drop).unwrap_err();
        assert!(matches!(error, LayerError::Inconsistent { .. }), "{error}");
        assert!(error.to_string().contains(names), "{error}");
    }
}

#[test]
fn names_that_stand_for_removals_are_refused_by_name() {
    for name in [".wh.a", "dir/.wh.b", "dir/.wh..wh..opq", "dir/.wh.x/y"] {
        let error = write_layer(&changes([(name, file(b""))]), &WriteOptions::default(), Vec::new()).map(drop);
        assert!(matches!(&error, Err(LayerError::ReservedName(found)) if *found == path(name)), "{name}");
    }
}

#[test]
fn a_source_whose_size_is_not_what_was_announced_is_an_error() {
    struct Short;
    impl Spool for Short {
        fn open(&self, _: u64, size: u64) -> Result<Box<dyn Read + Send>, RootfsError> {
            Ok(Box::new(std::io::repeat(7).take(size - 1)))
        }
    }
    let content = Some(Content::Spool { spool: Arc::new(Short), offset: 0, size: 1 << 20 });
    let change =
        Change::Put { metadata: metadata(Kind::File { size: 1 << 20 }), content, hard_link: None, opaque: false };
    let error = write_layer(&changes([("srv/data", change)]), &WriteOptions::default(), Vec::new()).map(drop);
    let LayerError::SourceSize { path, announced_bytes, found_bytes } = error.unwrap_err() else { panic!() };
    assert_eq!((&path[..], announced_bytes, found_bytes), ("/srv/data", 1 << 20, (1 << 20) - 1));
}

#[test]
fn a_mismatch_of_the_diff_id_is_an_error() {
    let (written, blob) = write(&everything(), Compression::default());
    let other = Digest::of(b"other");
    let error = read_layer(&blob[..], Some(other), &ReadLimits::default(), &mut IndexOnly).unwrap_err();
    assert!(matches!(error, LayerError::DiffId { expected, actual } if expected == other && actual == written.diff_id));
}
