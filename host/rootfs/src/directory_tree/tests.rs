use std::{
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;

fn path(text: &str) -> RootPath {
    RootPath::new(text).unwrap()
}

fn tree(real: &Path) -> DirectoryTree {
    DirectoryTree::new(Arc::new(ConfinedDir::open(real).unwrap()))
}

fn text(tree: &DirectoryTree, name: &str) -> Result<String, RootfsError> {
    let mut text = String::new();
    tree.open(&path(name))?.read_to_string(&mut text).unwrap();
    Ok(text)
}

#[test]
fn symlinks_resolve_in_the_tree_as_chroot_would() {
    let real = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(real.path().join("etc/sub")).unwrap();
    std::fs::write(real.path().join("etc/passwd"), "ours").unwrap();
    symlink("/etc/passwd", real.path().join("absolute")).unwrap();
    symlink("../../../../etc/passwd", real.path().join("etc/sub/climbs")).unwrap();
    symlink("/etc", real.path().join("directory")).unwrap();
    symlink("loop", real.path().join("loop")).unwrap();
    symlink("nowhere", real.path().join("dangling")).unwrap();
    let tree = tree(real.path());
    for name in ["absolute", "etc/sub/climbs", "directory/sub/climbs", "directory/passwd"] {
        assert_eq!(text(&tree, name).unwrap(), "ours", "{name}");
        assert_eq!(tree.resolve(&path(name)).unwrap().unwrap(), path("etc/passwd"), "{name}");
    }
    assert_eq!(tree.read_directory(&path("directory")).unwrap(), [b"passwd".to_vec(), b"sub".to_vec()]);
    assert!(matches!(tree.metadata(&path("absolute"), false).unwrap().unwrap().kind, Kind::Symlink { .. }));
    assert!(tree.metadata(&path("absolute"), true).unwrap().unwrap().is_file());
    assert!(matches!(tree.metadata(&path("loop"), true), Err(RootfsError::SymlinkLoop(_))));
    assert_eq!(tree.metadata(&path("dangling"), true).unwrap(), None);
    assert_eq!(tree.metadata(&path("etc/passwd/beneath"), true).unwrap(), None);
    assert!(matches!(tree.open(&path("missing")).err(), Some(RootfsError::NotFound(_))));
    assert!(matches!(tree.open(&path("etc")).err(), Some(RootfsError::IsADirectory(_))));
}

#[test]
fn what_is_filtered_out_does_not_exist_but_leads_to_what_is_let_through() {
    let real = tempfile::tempdir().unwrap();
    for directory in ["drop/deep", "gone/deep", "keep"] {
        std::fs::create_dir_all(real.path().join(directory)).unwrap();
        std::fs::write(real.path().join(directory).join("file"), "x").unwrap();
    }
    std::fs::write(real.path().join("drop/other"), "x").unwrap();
    symlink("gone/deep/file", real.path().join("link")).unwrap();
    // As `drop`, `gone`, `!drop/deep/file` in a .dockerignore.
    let visible: Filter = Arc::new(|path, _| {
        let text = path.to_string();
        text == "/drop/deep/file" || !(text.starts_with("/drop") || text.starts_with("/gone"))
    });
    let tree = tree(real.path()).filtered(visible);
    assert_eq!(tree.read_directory(&RootPath::root()).unwrap(), [&b"drop"[..], b"keep", b"link"]);
    assert_eq!(tree.read_directory(&path("drop")).unwrap(), [b"deep"]);
    assert_eq!(text(&tree, "drop/deep/file").unwrap(), "x");
    for name in ["drop/other", "gone", "gone/deep/file"] {
        assert_eq!(tree.metadata(&path(name), false).unwrap(), None, "{name}");
        assert!(matches!(tree.open(&path(name)).err(), Some(RootfsError::NotFound(_))), "{name}");
    }
    // The symlink is there; what it points to is not.
    assert!(tree.metadata(&path("link"), false).unwrap().is_some());
    assert_eq!(tree.metadata(&path("link"), true).unwrap(), None);
}

#[test]
fn pruned_directories_are_not_searched() {
    let real = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(real.path().join("gone/deep")).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let visible: Filter = Arc::new(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    });
    let tree = tree(real.path()).filtered(visible).pruned(Arc::new(|path, _| !path.starts_with(&self::path("gone"))));
    assert!(tree.read_directory(&RootPath::root()).unwrap().is_empty());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn owners_of_the_checkout_do_not_count() {
    let real = tempfile::tempdir().unwrap();
    std::fs::write(real.path().join("file"), "x").unwrap();
    let tree = tree(real.path()).owned_by(Owner { uid: 11, gid: 12 });
    assert_eq!(tree.metadata(&path("file"), true).unwrap().unwrap().owner, Owner { uid: 11, gid: 12 });
}

#[test]
fn hard_links_share_an_identity() {
    let real = tempfile::tempdir().unwrap();
    std::fs::write(real.path().join("one"), "x").unwrap();
    std::fs::write(real.path().join("alone"), "x").unwrap();
    std::fs::hard_link(real.path().join("one"), real.path().join("two")).unwrap();
    let tree = tree(real.path());
    let identity = |name| tree.identity(&path(name)).unwrap();
    assert!(identity("one").is_some());
    assert_eq!(identity("one"), identity("two"));
    assert_eq!(identity("alone"), None);
}
