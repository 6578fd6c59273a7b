//! Archives that no honest program makes are refused by name, and cost little.

mod common;

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use cofferdam_layer::{
    Compression, IndexOnly, LayerError, LayerSink, ReadLimits, SinkError, compression::Encoder, read_layer,
};
use cofferdam_rootfs::{IndexEntry, RootPath};
use common::*;

fn refused(archive: &[u8]) -> String {
    match read(archive) {
        Ok(layer) => panic!("accepted: {:?}", layer.index.entries),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn refuses(entries: &[Vec<u8>], says: &str) {
    let message = refused(&archive(entries));
    assert!(message.contains(says), "{message}");
}

#[test]
fn names_that_climb_out_are_refused_and_all_others_stay_inside() {
    for name in ["../etc/passwd", "a/../../b", "/../x", "./../x", "a/b/../../../c", ".."] {
        refuses(&[raw(name, b'0', "", b"")], "climbs out of the root by `..`");
        refuses(&[raw("f", b'0', "", b""), raw("l", b'1', name, b"")], "climbs out of the root by `..`");
        refuses(&[pax(&[("path", name)]), raw("x", b'0', "", b"")], "climbs out of the root by `..`");
    }
    let inside = [raw("/etc/passwd", b'0', "", b"p"), raw(".//a/./b/../c", b'0', "", b""), raw("./", b'5', "", b"")];
    let index = read(&archive(&inside)).unwrap().index;
    assert_eq!(
        index.entries.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        [path(""), path("a/c"), path("etc/passwd")]
    );
    assert_eq!(index.contents[&path("etc/passwd")], b"p");
}

#[test]
fn a_whiteout_can_not_name_a_directory_itself() {
    for name in [".wh.", "d/.wh..", "d/.wh..."] {
        refuses(&[raw(name, b'0', "", b"")], "whiteout without the name");
    }
    refuses(&[raw(".wh.d/file", b'0', "", b"")], "beneath a name that stands for a removal");
}

#[test]
fn nothing_may_lie_beneath_a_file_or_a_link_of_the_same_layer() {
    for over in [raw("etc", b'2', "/outside", b""), raw("etc", b'0', "", b""), raw("etc", b'6', "", b"")] {
        for beneath in ["etc/passwd", "etc/.wh.passwd", "etc/.wh..wh..opq", "etc/a/b/c"] {
            refuses(&[over.clone(), raw(beneath, b'0', "", b"")], "lies beneath something");
        }
    }
}

#[test]
fn hard_links_name_earlier_files_of_the_same_layer_only() {
    for target in ["nowhere", "/etc/shadow", "later", "l", "dir", ".wh.gone", "gone"] {
        let entries = [
            raw("dir", b'5', "", b""),
            raw(".wh.gone", b'0', "", b""),
            raw("l", b'1', target, b""),
            raw("later", b'0', "", b""),
        ];
        refuses(&entries, "is a hard link to a path that this layer doesn't have");
    }
    refuses(&[raw("l", b'1', "", b"")], "is a link to nothing");
    let replaced = [raw("f", b'0', "", b"1"), raw("l", b'1', "f", b""), raw("f", b'0', "", b"2")];
    refuses(&replaced, "hard links name it");
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut bytes = archive(&[raw("file", b'0', "", b"content")]);
    bytes[0] = b'g';
    assert!(refused(&bytes).contains("checksum"));
    assert!(refused(&[b'x'; 2048]).contains("checksum"), "no archive at all");
}

#[test]
fn an_archive_that_ends_early_is_refused_and_one_without_end_mark_is_not() {
    let bytes = archive(&[raw("one", b'0', "", &[1; 700]), raw("two", b'0', "", b"2")]);
    let first = 512 + 1024;
    for len in [1, 511, 513, 600, 1300, first + 1, first + 513] {
        assert!(matches!(read(&bytes[..len]), Err(LayerError::Truncated { .. })), "{len} bytes");
    }
    for len in [0, first, first + 1024, first + 1536] {
        assert!(read(&bytes[..len]).is_ok(), "{len} bytes");
    }
    assert!(refused(&pax(&[("path", "a")])).contains("has no entry after it"));
    let hole = [raw("one", b'0', "", b""), vec![0; 512], raw("two", b'0', "", b"")].concat();
    assert!(refused(&hole).contains("block of zeros between entries"));
}

#[test]
fn what_follows_the_end_of_the_archive_counts_for_the_diff_id_only() {
    let plain = archive(&[raw("one", b'0', "", b"")]);
    let longer = [&plain[..], &raw("smuggled", b'0', "", b"")].concat();
    let (short, long) = (read(&plain).unwrap(), read(&longer).unwrap());
    assert_eq!(short.index, long.index);
    assert_ne!(short.diff_id, long.diff_id);
    assert_eq!(long.diff_id, cofferdam_digest::Digest::of(&longer));
}

#[test]
fn headers_that_can_be_understood_in_two_ways_are_refused() {
    let file = || raw("short", b'0', "", b"");
    let long = |flag, name: &str| raw("././@LongLink", flag, "", format!("{name}\0").as_bytes());
    refuses(&[pax(&[("path", "a")]), long(b'L', "b"), file()], "differ");
    refuses(&[long(b'L', "b"), pax(&[("path", "a")]), file()], "differ");
    let link = raw("l", b'2', "x", b"");
    refuses(&[pax(&[("linkpath", "a")]), long(b'K', "b"), link], "differ");
    refuses(&[pax(&[("path", "a")]), pax(&[("path", "b")]), file()], "two extended headers");
    refuses(&[long(b'L', "a"), long(b'L', "b"), file()], "two extended headers");
    refuses(&[pax(&[("size", "0"), ("size", "512")]), file()], "twice");
    refuses(&[raw("dir/", b'0', "", b"")], "name of a directory");
    for flag in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let entries = [raw("t", b'0', "", b""), raw("x", flag, "t", &file())];
        refuses(&entries, "has content although");
        let entries = [raw("t", b'0', "", b""), pax(&[("size", "512")]), raw("x", flag, "t", b""), file()];
        refuses(&entries, "has content although");
    }
    refuses(&[raw("g", b'g', "", &record("size", "512")), file()], "global extended header");
    refuses(&[raw("g", b'g', "", &record("path", "x")), file()], "global extended header");
    let same = [pax(&[("path", "long")]), long(b'L', "long"), file()];
    assert!(read(&archive(&same)).unwrap().index.entries.contains(&path("long")));
}

#[test]
fn the_size_of_an_extended_header_wins_over_that_of_the_header() {
    // The attack on readers that took the header's 0: the content is an archive of its own.
    let inner = raw("smuggled", b'0', "", b"");
    let mut outer = raw("carrier", b'0', "", b"");
    outer.extend_from_slice(&inner);
    let entries = [pax(&[("size", "512")]), outer, raw("next", b'0', "", b"")];
    let index = read(&archive(&entries)).unwrap().index;
    assert_eq!(index.entries.iter().map(|(path, _)| path).collect::<Vec<_>>(), [path("carrier"), path("next")]);
    // And a size for the header of a long name is not the size of the entry.
    let name = raw("././@LongLink", b'L', "", b"named\0");
    let entries = [pax(&[("size", "512")]), name, raw("x", b'0', "", b""), inner, raw("next", b'0', "", b"")];
    let index = read(&archive(&entries)).unwrap().index;
    assert_eq!(index.entries.iter().map(|(path, _)| path).collect::<Vec<_>>(), [path("named"), path("next")]);
}

#[test]
fn numbers_that_overflow_are_refused() {
    let size =
        |field: &'static [u8; 12]| raw_with("f", b'0', "", b"", move |block| block[124..136].copy_from_slice(field));
    refuses(&[size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\x00")], "not a number");
    refuses(&[size(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff")], "not a number");
    refuses(&[size(b"-0000000001\0")], "not a number");
    refuses(&[size(b"0000000001x\0")], "not a number");
    refuses(&[size(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")], "in the middle of an entry");
    refuses(&[pax(&[("uid", "4294967296")]), raw("f", b'0', "", b"")], "32 bits");
    let uid = raw_with("f", b'0', "", b"", |block| block[108..116].copy_from_slice(b"\x80\0\0\x01\0\0\0\0"));
    refuses(&[uid], "32 bits");
}

#[test]
fn kinds_that_images_do_not_have_are_refused_by_name() {
    refuses(&[raw("holes", b'S', "", b"")], "`holes` is stored as a sparse file");
    refuses(&[pax(&[("GNU.sparse.major", "1")]), raw("holes", b'0', "", b"")], "sparse");
    refuses(&[raw("volume", b'V', "", b"")], "`volume` belongs to a GNU multi-volume");
    refuses(&[raw("what", b'Z', "", b"")], "`what` is of a kind");
    refuses(&[raw("", b'0', "", b"")], "has no name");
    refuses(&[raw("./", b'2', "x", b"")], "replaces the root");
}

#[test]
fn each_limit_has_its_own_error() {
    let limited = |archive: &[u8], change: fn(&mut ReadLimits)| {
        let mut limits = ReadLimits::default();
        change(&mut limits);
        match read_layer(archive, None, &limits, &mut IndexOnly) {
            Err(LayerError::Limit { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    let three = archive(&[raw("a", b'0', "", &[0; 600]), raw("b", b'0', "", b""), raw("c", b'0', "", b"")]);
    assert_eq!(limited(&three, |limits| limits.entries = 2), "entries");
    assert_eq!(limited(&three, |limits| limits.uncompressed_bytes = 1000), "uncompressed bytes");
    assert_eq!(limited(&three, |limits| limits.index_bytes = 20), "bytes of names and attributes");
    let long = archive(&[pax(&[("path", &"p/".repeat(60))]), raw("x", b'5', "", b"")]);
    assert_eq!(limited(&long, |limits| limits.path_bytes = 100), "bytes in a name");
    assert_eq!(limited(&long, |limits| limits.pax_bytes = 100), "bytes in one extended header");
    let xattr = archive(&[pax(&[("SCHILY.xattr.user.x", &"v".repeat(100))]), raw("x", b'5', "", b"")]);
    assert_eq!(limited(&xattr, |limits| limits.xattr_bytes = 100), "bytes in the extended attributes of one entry");
    let link = archive(&[pax(&[("linkpath", &"p/".repeat(60))]), raw("x", b'2', "", b"")]);
    assert_eq!(limited(&link, |limits| limits.path_bytes = 100), "bytes in the target of a link");
    let gnu = archive(&[raw("L", b'L', "", &[b'n'; 200]), raw("x", b'0', "", b"")]);
    assert_eq!(limited(&gnu, |limits| limits.path_bytes = 100), "bytes in a GNU long name");
    assert!(matches!(
        read(&archive(&[pax(&[("path", &"n/".repeat(3000))]), raw("x", b'5', "", b"")])),
        Err(LayerError::Limit { .. })
    ));
    refuses(&[pax(&[("path", &"n".repeat(256))]), raw("x", b'0', "", b"")], "too long");
}

#[test]
fn a_bomb_ends_at_the_limit_without_being_unpacked() {
    let mut encoder = Encoder::new(Vec::new(), Compression::Zstd { level: 3 }).unwrap();
    encoder
        .write_all(&raw_with("zeros", b'0', "", b"", |block| {
            block[124..136].copy_from_slice(b"77777777777\0");
        }))
        .unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..512 {
        encoder.write_all(&zeros).unwrap();
    }
    let blob = encoder.finish().unwrap();
    assert!(blob.len() < 100_000);
    let limits = ReadLimits { suspicious_bytes: 64 << 20, ..ReadLimits::default() };
    let read = |limits| read_layer(&blob[..], None, &limits, &mut IndexOnly).unwrap_err();
    let error = read(limits.clone());
    assert!(matches!(error, LayerError::Limit { limit, .. } if limit == 64 << 20), "{error}");
    // As much is fine where it was not made of nothing: what is wrong with it then is its end.
    let error = read(ReadLimits { suspicious_ratio: 1 << 20, ..limits });
    assert!(matches!(error, LayerError::Truncated { .. }), "{error}");
}

#[test]
fn a_million_entries_meet_the_limit_quickly() {
    struct Endless(Vec<u8>, usize);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(buffer.len())
        }
    }
    let limits = ReadLimits { entries: 1_000_000, ..ReadLimits::default() };
    let begin = Instant::now();
    let error = read_layer(Endless(raw("a/b/c", b'0', "", b""), 0), None, &limits, &mut IndexOnly).unwrap_err();
    assert!(matches!(error, LayerError::Limit { what: "entries", limit: 1_000_000 }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn directories_that_replace_and_are_replaced_cost_no_more_than_they_hold() {
    // A file over a directory removes what is beneath it: the work is bounded by what was put there.
    let mut entries = Vec::new();
    for round in 0..200 {
        for name in 0..20 {
            entries.push(raw(&format!("d/{round}-{name}"), b'0', "", b""));
        }
        entries.push(raw("d", b'0', "", b""));
        entries.push(raw("d", b'5', "", b""));
    }
    let index = read(&archive(&entries)).unwrap().index;
    assert_eq!(index.entries.len(), 1);
    assert!(matches!(index.entries.get(&path("d")), Some(IndexEntry::Present { opaque: true, .. })));
}

#[test]
fn a_failure_of_the_blob_is_reported_as_such_though_the_receiver_saw_it_first() {
    let (_, blob) = write(&everything(), Compression::Gzip { level: 6 });
    let error =
        read_layer(&blob[..blob.len() * 2 / 3], None, &ReadLimits::default(), &mut Recorder::default()).unwrap_err();
    assert!(matches!(error, LayerError::Read(_)), "{error:?}");
    struct Refuses;
    impl LayerSink for Refuses {
        fn entry(&mut self, _: &RootPath, _: &IndexEntry, _: Option<&mut dyn Read>) -> Result<(), SinkError> {
            Err("the disk is full".into())
        }
    }
    let error = read_layer(&blob[..], None, &ReadLimits::default(), &mut Refuses).unwrap_err();
    assert!(matches!(error, LayerError::Sink { path: at, .. } if at.is_root()));
}
