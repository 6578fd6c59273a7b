//! What the order and repetition of entries mean.

mod common;

use cofferdam_layer::{IndexOnly, ReadLimits, read_layer};
use cofferdam_rootfs::{IndexEntry, Kind, LayerIndex};
use common::*;

fn index(entries: &[Vec<u8>]) -> LayerIndex {
    read(&archive(entries)).unwrap().index
}

fn opaque(index: &LayerIndex, name: &str) -> bool {
    match index.entries.get(&path(name)).unwrap() {
        IndexEntry::Present { metadata, opaque, .. } => {
            assert!(metadata.is_directory());
            opaque
        }
        IndexEntry::Whiteout => panic!("a whiteout"),
    }
}

fn dir(name: &str) -> Vec<u8> {
    raw(name, b'5', "", b"")
}

fn file(name: &str) -> Vec<u8> {
    raw(name, b'0', "", b"")
}

#[test]
fn whiteouts_and_opaque_markers_become_what_they_mean() {
    let index = index(&[dir("a"), file("a/.wh..wh..opq"), file("a/b"), file(".wh.gone"), file("x/.wh.y")]);
    assert!(opaque(&index, "a"));
    assert_eq!(index.entries.get(&path("gone")).unwrap(), IndexEntry::Whiteout);
    assert_eq!(index.entries.get(&path("x/y")).unwrap(), IndexEntry::Whiteout);
    assert!(!index.entries.contains(&path("x")), "parents that the layer doesn't mention stay absent");
}

#[test]
fn the_opaque_marker_may_come_before_its_directory_or_without_it() {
    for entries in [
        vec![file("a/.wh..wh..opq"), dir("a")],
        vec![file("a/b"), file("a/.wh..wh..opq")],
        vec![file("a/.wh..wh..opq")],
        vec![dir("a"), file("a/.wh..wh..opq"), dir("a")],
    ] {
        assert!(opaque(&index(&entries), "a"));
    }
}

#[test]
fn a_whiteout_beside_an_entry_of_the_same_path_concerns_the_layers_below_only() {
    for entries in [
        vec![file(".wh.d"), dir("d")],
        vec![dir("d"), file(".wh.d")],
        vec![file(".wh.d"), file("d/f")],
        vec![file("d/f"), file(".wh.d")],
    ] {
        assert!(opaque(&index(&entries), "d"));
    }
    for entries in [vec![file(".wh.f"), file("f")], vec![file("f"), file(".wh.f")]] {
        assert!(
            matches!(index(&entries).entries.get(&path("f")).unwrap(), IndexEntry::Present { metadata, .. } if metadata.is_file())
        );
    }
}

#[test]
fn the_later_entry_of_a_path_wins() {
    let merged = index(&[dir("d"), file("d/f"), raw_with("d", b'5', "", b"", |block| block[104] = b'7')]);
    assert!(merged.entries.contains(&path("d/f")), "a directory over a directory keeps what it has");
    assert!(!opaque(&merged, "d"));
    let replaced = index(&[dir("d"), file("d/f"), raw("d", b'2', "x", b"")]);
    assert_eq!(replaced.entries.len(), 1, "anything else over a directory removes what it had");
    assert!(opaque(&index(&[file("d"), dir("d")]), "d"), "a file hides the directory of the layers below");
    let passwd = [raw("etc/passwd", b'0', "", b"old"), raw("etc/passwd", b'0', "", b"new")];
    assert_eq!(index(&passwd).contents[&path("etc/passwd")], b"new");
    assert!(index(&[passwd[0].clone(), raw("etc/passwd", b'2', "x", b"")]).contents.is_empty());
    assert!(index(&[passwd[0].clone(), raw("etc", b'2', "x", b"")]).contents.is_empty());
}

#[test]
fn hard_links_carry_the_metadata_of_the_file_and_name_it_directly() {
    let set = raw_with("f", b'0', "", b"four", |block| block[100..108].copy_from_slice(b"0004755\0"));
    let index = index(&[set, raw("l", b'1', "./f", b""), raw("m", b'1', "/l", b"")]);
    for name in ["l", "m"] {
        let IndexEntry::Present { metadata, hard_link, .. } = index.entries.get(&path(name)).unwrap() else { panic!() };
        assert_eq!((metadata.mode, &metadata.kind), (0o4755, &Kind::File { size: 4 }));
        assert_eq!(hard_link, Some(path("f")));
    }
}

#[test]
fn bookkeeping_of_aufs_is_ignored() {
    let index = index(&[dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs"), file("d/.wh..wh.orph")]);
    assert!(index.entries.is_empty());
}

#[test]
fn global_headers_give_owners_and_times_and_comments_are_passed_over() {
    let global = raw("g", b'g', "", &[record("comment", "0123abcd"), record("uid", "7")].concat());
    let index = index(&[global, file("a"), pax(&[("uid", "8"), ("mtime", "1.25")]), file("b")]);
    let owner = |name: &str| match index.entries.get(&path(name)).unwrap() {
        IndexEntry::Present { metadata, .. } => (metadata.owner.uid, metadata.mtime.nanoseconds),
        IndexEntry::Whiteout => panic!(),
    };
    assert_eq!((owner("a"), owner("b")), ((7, 0), (8, 250_000_000)));
}

#[test]
fn old_archives_mark_directories_by_a_slash() {
    assert!(!opaque(&index(&[raw("old/", 0, "", b"")]), "old"));
}

#[test]
fn a_receiver_is_told_what_stands_at_each_path() {
    let mut recorder = Recorder::default();
    let entries = [
        file(".wh.d"),
        raw("d/f", b'0', "", b"1"),
        raw("e/f", b'0', "", b"2"),
        file("e/.wh..wh..opq"),
        raw("e/l", b'1', "e/f", b""),
    ];
    read_layer(&archive(&entries)[..], None, &ReadLimits::default(), &mut recorder).unwrap();
    let told: Vec<_> = recorder
        .0
        .iter()
        .map(|(path, entry, content)| {
            let what = match entry {
                IndexEntry::Whiteout => "whiteout".to_owned(),
                IndexEntry::Present { opaque: true, .. } => "opaque".to_owned(),
                IndexEntry::Present { hard_link: Some(target), .. } => target.to_string(),
                IndexEntry::Present { .. } => String::from_utf8(content.clone().unwrap()).unwrap(),
            };
            (path.to_string(), what)
        })
        .collect();
    let expected =
        [("/d", "whiteout"), ("/d", "opaque"), ("/d/f", "1"), ("/e/f", "2"), ("/e", "opaque"), ("/e/l", "/e/f")];
    assert_eq!(told, expected.map(|(path, what)| (path.to_owned(), what.to_owned())));
}

#[test]
fn content_that_a_receiver_leaves_is_passed_over() {
    let entries = [raw("a", b'0', "", &[7; 5000]), raw("b", b'0', "", &[8; 512])];
    let layer = read_layer(&archive(&entries)[..], None, &ReadLimits::default(), &mut IndexOnly).unwrap();
    assert_eq!(layer.index.entries.len(), 2);
}
