use std::collections::BTreeMap;

use super::*;

fn path(text: &str) -> RootPath {
    RootPath::new(text).unwrap()
}

/// One layer from lines: `d path`, `o path` (opaque directory), `f path`, `l path target` (symlink), `h path target`
/// (hard link), `w path` (whiteout). The mode of directories and the size of files is the layer's number.
fn layer(number: u32, lines: &str) -> Arc<LayerIndex> {
    let mut index = LayerIndex::default();
    for line in lines.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (kind, name, target) = (words.next().unwrap(), words.next().unwrap(), words.next());
        let entry_kind = match kind {
            "d" | "o" => Kind::Directory,
            "l" => Kind::Symlink { target: target.unwrap().into() },
            _ => Kind::File { size: number.into() },
        };
        let entry = match kind {
            "w" => IndexEntry::Whiteout,
            _ => IndexEntry::Present {
                metadata: Metadata { kind: entry_kind, mode: number, ..implicit_directory() },
                hard_link: (kind == "h").then(|| path(target.unwrap())),
                opaque: kind == "o",
            },
        };
        index.entries.insert(&path(name), &entry);
    }
    Arc::new(index)
}

fn stack(layers: &[&str]) -> MergedIndex {
    MergedIndex::new(layers.iter().enumerate().map(|(number, lines)| layer(number as u32, lines)).collect())
}

/// Everything as `path:layer`, directories that no layer mentions with `?`.
fn listing(index: &MergedIndex) -> String {
    let mut lines = Vec::new();
    index.for_each(|path, found| {
        assert_eq!(index.lookup(path).as_ref(), Some(found));
        lines.push(format!("{path}:{}{}", found.layer, if found.metadata.is_none() { "?" } else { "" }));
    });
    lines.join(" ")
}

#[test]
fn layers_merge() {
    for (layers, expected) in [
        (&["d a; f a/x; f b", "f a/y; f b"][..], "/a:0 /a/x:0 /a/y:1 /b:1"),
        // Whiteouts, of files, of directories, of nothing.
        (&["d a; f a/x; f b", "w b; w c"], "/a:0 /a/x:0"),
        (&["d a; d a/d; f a/d/x; f b", "w a", "f a/d/y"], "/a:2? /a/d:2? /a/d/y:2 /b:0"),
        // Opaque directories, in the layer that has them and above.
        (&["d a; f a/x", "o a; f a/y", "f a/z"], "/a:1 /a/y:1 /a/z:2"),
        // A whiteout and something beneath it in one layer.
        (&["d a; f a/x", "w a; f a/y"], "/a:1? /a/y:1"),
        // A file where a directory was, a directory where a file was.
        (&["d a; f a/x", "f a"], "/a:1"),
        (&["d a; f a/x", "f a", "d a; f a/y"], "/a:2 /a/y:2"),
        (&["d a; f a/x", "f a", "f a/y"], "/a:2? /a/y:2"),
        (&["f a", "d a", "w a/x"], "/a:1"),
        // The attributes of a directory come from the topmost layer that mentions it.
        (&["d a; f a/x", "d a", "f a/y"], "/a:1 /a/x:0 /a/y:2"),
        // A whiteout beneath makes no directory.
        (&["f b", "w a/x"], "/b:0"),
        // Names that only begin alike.
        (&["d a; f a-b; f a.b; f a/b", "w a"], "/a-b:0 /a.b:0"),
        (&[], ""),
    ] {
        assert_eq!(listing(&stack(layers)), expected, "{layers:?}");
    }
}

#[test]
fn a_single_look_up_agrees_without_any_walk_before() {
    let layers = ["d a; d a/b; f a/b/x; f a/b/y", "o a/b; f a/b/z", "w a/b/z"];
    for (name, layer) in [("a/b/x", None), ("a/b/y", None), ("a/b/z", None), ("a/b", Some(1)), ("a", Some(0))] {
        assert_eq!(stack(&layers).lookup(&path(name)).map(|found| found.layer), layer, "{name}");
    }
    let index = stack(&["f a"]);
    assert_eq!(index.lookup(&path("a/b/c")), None);
    assert!(index.lookup(&RootPath::root()).unwrap().is_directory());
    assert!(stack(&[]).lookup(&RootPath::root()).unwrap().is_directory());
}

#[test]
fn children_are_sorted_and_do_not_contain_what_is_deeper() {
    let index = stack(&["d a; d a/b; f a/b/c; f a/b/d; f a/a", "f a/b-c; f a/c/deep"]);
    assert_eq!(index.children(&path("a")), [&b"a"[..], b"b", b"b-c", b"c"]);
    assert_eq!(index.children(&path("a/a")), Vec::<Vec<u8>>::new());
    assert_eq!(index.children(&RootPath::root()), [b"a"]);
}

#[test]
fn symlinks_resolve_across_layers() {
    let index = stack(&["l lib usr/lib; d usr; d usr/lib; f usr/lib/libc", "l etc /usr; l usr/back ../../lib"]);
    assert_eq!(index.resolve(&path("etc/back/libc")).unwrap(), Some(path("usr/lib/libc")));
    assert_eq!(index.resolve(&path("lib/none")).unwrap(), None);
}

#[test]
fn names_of_one_file_share_an_identity() {
    let index = stack(&["f a; h b a; h c a; f d", "f c"]);
    let identity = |name| index.identity(&path(name));
    assert!(identity("a").is_some());
    assert_eq!(identity("a"), identity("b"));
    assert_eq!((identity("c"), identity("d")), (None, None));
}

#[test]
fn kept_contents_come_from_the_layer_that_has_the_file() {
    let mut below = LayerIndex::clone(&layer(0, "f etc/passwd"));
    below.contents.insert(path("etc/passwd"), b"below".to_vec());
    let index = MergedIndex::new(vec![Arc::new(below.clone())]);
    assert_eq!(index.kept_content(&path("etc/passwd")), Some(&b"below"[..]));
    let index = MergedIndex::new(vec![Arc::new(below), layer(1, "f etc/passwd")]);
    assert_eq!(index.kept_content(&path("etc/passwd")), None);
}

#[test]
fn a_look_up_in_a_large_image_is_cheap() {
    let mut large = LayerIndex::default();
    for number in 0..100_000 {
        let entry = IndexEntry::Present { metadata: implicit_directory(), hard_link: None, opaque: false };
        large.entries.insert(&path(&format!("usr/share/d{}/e{}/f{number}", number % 50, number % 400)), &entry);
    }
    let layers: Vec<_> = (0..10).map(|_| Arc::new(large.clone())).collect();
    let index = MergedIndex::new(layers);
    let start = std::time::Instant::now();
    for number in 0..2_000 {
        assert!(index.lookup(&path(&format!("usr/share/d{}/e{}/f{number}", number % 50, number % 400))).is_some());
    }
    // Milliseconds in fact; a merge of all layers for each look-up would take minutes.
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
}

/// The specification word for word, layer after layer onto one flat map: what a path's metadata comes from, `None` for
/// directories that only came to be as parents.
fn apply(flat: &mut BTreeMap<RootPath, (Option<usize>, bool)>, number: usize, layer: &LayerIndex) {
    for (path, entry) in &layer.entries {
        let opaque = matches!(entry, IndexEntry::Present { opaque: true, .. });
        match entry {
            IndexEntry::Whiteout => flat.retain(|below, _| !below.starts_with(&path)),
            _ if opaque => flat.retain(|below, _| *below == path || !below.starts_with(&path)),
            IndexEntry::Present { .. } => {}
        }
    }
    for (path, entry) in &layer.entries {
        let IndexEntry::Present { metadata, .. } = entry else { continue };
        let mut parents: Vec<RootPath> = std::iter::successors(path.parent(), RootPath::parent).collect();
        parents.retain(|parent| !parent.is_root());
        for parent in parents {
            let known = flat.entry(parent).or_insert((None, true));
            if !known.1 {
                *known = (None, true);
            }
        }
        if !metadata.is_directory() || flat.get(&path).is_some_and(|below| !below.1) {
            flat.retain(|below, _| !below.starts_with(&path));
        }
        flat.insert(path, (Some(number), metadata.is_directory()));
    }
}

#[test]
fn look_ups_agree_with_applying_layer_after_layer() {
    let mut below = crate::random::numbers();
    for round in 0..3000 {
        let mut layers = Vec::new();
        let mut flat = BTreeMap::new();
        for number in 0..below(5) as usize {
            let mut index = LayerIndex::default();
            for _ in 0..below(8) {
                let names: Vec<&str> = (0..=below(3)).map(|_| ["a", "b", "a-"][below(3) as usize]).collect();
                let place = path(&names.join("/"));
                let (kind, opaque) = match below(6) {
                    0 => (None, false),
                    1 | 2 => (Some(Kind::File { size: 0 }), false),
                    number => (Some(Kind::Directory), number == 3),
                };
                // A layer has nothing beneath its own files.
                let is_file = |entry: &IndexEntry| matches!(entry, IndexEntry::Present { metadata, .. } if !metadata.is_directory());
                let clashes = index.entries.iter().any(|(other, entry)| {
                    let beneath = other.starts_with(&place) && kind == Some(Kind::File { size: 0 });
                    beneath || (place.starts_with(&other) && is_file(&entry))
                });
                if !clashes {
                    let entry = kind.map_or(IndexEntry::Whiteout, |kind| IndexEntry::Present {
                        metadata: Metadata { kind, ..implicit_directory() },
                        hard_link: None,
                        opaque,
                    });
                    index.entries.insert(&place, &entry);
                }
            }
            apply(&mut flat, number, &index);
            layers.push(Arc::new(index));
        }
        let index = MergedIndex::new(layers.clone());
        let mut found = BTreeMap::new();
        index.for_each(|path, entry| {
            found.insert(path.clone(), (entry.metadata.as_ref().map(|_| entry.layer), entry.is_directory()));
        });
        assert_eq!(found, flat, "round {round}: {layers:?}");
        let fresh = MergedIndex::new(layers);
        for name in ["a", "b", "a-", "a/a", "a/b/a-", "b/b/b", "a-/a"] {
            assert_eq!(fresh.lookup(&path(name)).is_some(), flat.contains_key(&path(name)), "round {round}: {name}");
        }
    }
}
