//! Files that were made to do harm, or are merely broken: a warning each, and the rest of the document.

use super::*;

/// The warnings of a tree with one broken file and one that is right.
fn warnings(path: &str, content: &[u8]) -> Vec<String> {
    let mut tree = MemoryTree::default();
    tree.add(path.as_bytes(), file(0o755, content.to_vec()))
        .add_file(b"/x/node_modules/right/package.json", br#"{"name":"right","version":"1"}"#);
    let (document, warnings) = scan(&tree);
    let found: Vec<String> = packages(&document).iter().filter_map(purl).collect();
    assert!(found.contains(&"pkg:npm/right@1".to_owned()), "{path}: {found:?}");
    warnings.into_iter().map(|warning| warning.message).collect()
}

#[test]
fn a_broken_file_is_named_and_the_rest_is_read() {
    let sqlite = [&b"SQLite format 3\0"[..], &[0x10, 0, 1, 1, 0, 64, 32, 32], &[0; 76]].concat();
    let page = [&sqlite[..], &[13, 0, 0, 0, 1, 0, 108, 0, 0x01, 0x80], &[0xff; 4096]].concat();
    let mut hash = vec![0; 1024];
    hash[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
    hash[20..24].copy_from_slice(&512_u32.to_le_bytes());
    hash[512 + 25] = 13;
    hash[512 + 20] = 2;
    let slots =
        [&b"RpmP\0\0\0\0\x01\0\0\0\x01\0\0\0"[..], &[0; 16], b"Slot\x01\0\0\0\xff\xff\xff\xff\x01\0\0\0", &[0; 4096]]
            .concat();
    let go = program(".go.buildinfo", b"\xff Go buildinf:\x08\x02 cut short");
    let rust = program(".dep-v0", b"not zlib");
    let deep = [b"{\"a\":".repeat(100_000), b"1".to_vec()].concat();
    for (path, content, reason) in [
        ("/var/lib/dpkg/status", &b"\x7fELF nothing of the kind"[..], "not a database of packages"),
        ("/lib/apk/db/installed", b"\xff\xfe\0", "not a database of packages"),
        ("/var/lib/rpm/rpmdb.sqlite", b"nothing", "not an SQLite database"),
        ("/var/lib/rpm/rpmdb.sqlite", &sqlite, "malformed SQLite database"),
        ("/var/lib/rpm/rpmdb.sqlite", &page, "malformed SQLite database"),
        ("/var/lib/rpm/Packages.db", b"RpmPxxxx", "not a database of RPM"),
        ("/var/lib/rpm/Packages.db", &slots, "malformed database of RPM"),
        ("/var/lib/rpm/Packages", b"none", "not a hash table of Berkeley DB"),
        ("/var/lib/rpm/Packages", &hash, "malformed hash table of Berkeley DB"),
        ("/usr/bin/app", &go, "Go build information is malformed"),
        ("/usr/bin/app", &rust, "list of Rust crates is malformed"),
        ("/x/node_modules/a/package.json", b"{", "not JSON (byte 1)"),
        ("/x/node_modules/a/package.json", &deep, "not JSON"),
        ("/x/a.dist-info/METADATA", b"Name: a\n", "no name and version"),
        ("/x/Cargo.lock", b"[[package", "not TOML"),
    ] {
        let found = warnings(path, content);
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(found[0].contains(path) && found[0].contains(reason), "{path}: {found:?}");
    }
}

#[test]
fn trees_that_go_in_circles_end() {
    // An interior page that is its own child, of a database of one page.
    let schema = [&b"SQLite format 3\0"[..], &[0x02, 0, 1, 1, 0, 64, 32, 32], &[0; 76]].concat();
    let circle =
        [&schema[..], &[5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 120, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 1, 0]].concat();
    let circle = [circle, vec![0; 512]].concat();
    assert_eq!(warnings("/var/lib/rpm/rpmdb.sqlite", &circle).len(), 1);
    // Overflow pages that follow themselves without an end.
    let mut hash = vec![0; 1024];
    hash[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
    hash[20..24].copy_from_slice(&512_u32.to_le_bytes());
    let page = &mut hash[512..];
    (page[25], page[20]) = (13, 2);
    page[26..30].copy_from_slice(&[0xf0, 1, 0xe0, 1]);
    page[0x1f0..0x1f5].copy_from_slice(&[1, 1, 0, 0, 0]);
    page[0x1e0..0x1ec].copy_from_slice(&[3, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0, 0]);
    assert_eq!(warnings("/var/lib/rpm/Packages", &hash).len(), 1);
}

#[test]
fn a_bomb_of_compressed_crates_is_not_held() {
    use std::io::Write;
    let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        bomb.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let found = warnings("/usr/bin/app", &program(".dep-v0", &bomb.finish().unwrap()));
    assert!(found[0].contains("too long"), "{found:?}");
}

#[test]
fn warnings_are_few_and_the_rest_is_counted() {
    let mut tree = MemoryTree::default();
    for number in 0..50 {
        tree.add_file(format!("/n/node_modules/p{number}/package.json").as_bytes(), b"{");
    }
    let (_, warnings) = scan(&tree);
    assert_eq!(warnings.len(), 21);
    assert!(warnings[20].message.contains("30 more files"), "{}", warnings[20].message);
}

#[test]
fn texts_that_are_too_long_and_packages_that_are_too_many_are_left_out() {
    let mut tree = MemoryTree::default();
    let long = "x".repeat(2000);
    let status = format!("Package: {long}\nVersion: 1\n\nPackage: a\nVersion: 1\nHomepage: https://{long}\n");
    tree.add_file(b"/var/lib/dpkg/status", status.as_bytes());
    let (document, warnings) = scan(&tree);
    assert!(warnings[0].message.contains("too long to be one"), "{warnings:?}");
    assert_eq!(member(&document, "pkg:deb/debian/a@1", "homepage"), "");
    let many: String = (0..49_000).map(|number| format!("Package: p{number}\nVersion: 1\n\n")).collect();
    tree.add_file(b"/var/lib/dpkg/status", many.as_bytes());
    let (document, warnings) = scan(&tree);
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].code, "TooManyPackages");
    let (count, bytes) = (packages(&document).len(), document.to_text().len());
    assert!((15_000..49_000).contains(&count) && bytes < 24 << 20, "{count} packages in {bytes} bytes");
}

#[test]
fn links_out_of_the_image_lead_nowhere_and_circles_end() {
    let mut tree = MemoryTree::default();
    tree.add_symlink(b"/var/lib/dpkg/status", b"/../../../../etc/passwd")
        .add_symlink(b"/lib/apk/db/installed", b"installed")
        .add_symlink(b"/a/up", b"..")
        .add_file(b"/a/node_modules/b/package.json", br#"{"name":"b","version":"1"}"#);
    assert_eq!(purls(&tree), ["pkg:npm/b@1"]);
}

#[test]
fn the_same_image_has_the_same_document() {
    let mut tree = MemoryTree::default();
    for name in ["b", "a"] {
        let text = format!(r#"{{"name":"{name}","version":"1","license":"MIT"}}"#);
        tree.add_file(format!("/1/node_modules/{name}/package.json").as_bytes(), text.as_bytes());
        tree.add_file(format!("/0/node_modules/{name}/package.json").as_bytes(), text.as_bytes());
    }
    let content = || Spdx::scan(&subject(), &tree).unwrap().documents.remove(0).content;
    assert_eq!(content(), content());
    let (document, _) = scan(&tree);
    let places = "found in /0/node_modules/a/package.json, /1/node_modules/a/package.json";
    assert_eq!(member(&document, "pkg:npm/a@1", "sourceInfo"), places);
    let created = document.get("creationInfo").and_then(|info| info.get("created"));
    assert_eq!(created.and_then(Value::as_str), Some("2026-11-30T23:59:59Z"));
}

#[test]
fn options_that_nobody_knows_are_refused() {
    let option = cofferdam_plugin_sdk::diagnostics::KeyValue { key: "x".to_owned(), value: "y".to_owned() };
    let asked = Subject { options: vec![option], ..subject() };
    assert!(Spdx::scan(&asked, &MemoryTree::default()).is_err());
}
