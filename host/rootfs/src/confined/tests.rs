use std::{
    io::{Read, Write},
    os::unix::{ffi::OsStrExt, fs::symlink},
    time::Duration,
};

use super::*;

fn path(text: impl AsRef<[u8]>) -> RootPath {
    RootPath::new(text).unwrap()
}

/// A temporary directory with `inside/` (the confined one) and `outside/secret`; once with openat2, once without.
fn each_way(test: impl Fn(&Path, &ConfinedDir)) {
    for walks in [false, true] {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir(temporary.path().join("inside")).unwrap();
        std::fs::create_dir(temporary.path().join("outside")).unwrap();
        std::fs::write(temporary.path().join("outside/secret"), "secret").unwrap();
        let confined = ConfinedDir::open(&temporary.path().join("inside")).unwrap();
        confined.walks.store(walks, Ordering::Relaxed);
        test(temporary.path(), &confined);
        assert_eq!(std::fs::read_to_string(temporary.path().join("outside/secret")).unwrap(), "secret");
        assert_eq!(std::fs::read_dir(temporary.path().join("outside")).unwrap().count(), 1);
    }
}

#[test]
fn nothing_reaches_outside_through_symlinks() {
    each_way(|real, confined| {
        symlink("../outside", real.join("inside/relative")).unwrap();
        symlink(real.join("outside"), real.join("inside/absolute")).unwrap();
        symlink("../outside/secret", real.join("inside/file")).unwrap();
        symlink(".", real.join("inside/itself")).unwrap();
        confined.create_file(&path("plain")).unwrap();
        for link in ["relative", "absolute", "itself"] {
            let beneath = path(format!("{link}/secret"));
            assert!(confined.entry(&beneath).unwrap().is_none(), "{link}");
            assert!(confined.open_file(&beneath).is_err(), "{link}");
            assert!(confined.read_directory(&path(link)).is_err(), "{link}");
            assert!(confined.open_directory(&path(link)).is_err(), "{link}");
            let fresh = path(format!("{link}/fresh"));
            assert!(confined.create_file(&fresh).is_err(), "{link}");
            assert!(confined.create_directory(&fresh).is_err(), "{link}");
            assert!(confined.create_symlink(&fresh, b"x").is_err(), "{link}");
            assert!(confined.create_node(&fresh, &Kind::Fifo).is_err(), "{link}");
            assert!(confined.create_hard_link(&path("plain"), &fresh).is_err(), "{link}");
            assert!(confined.create_hard_link(&beneath, &path("stolen")).is_err(), "{link}");
            confined.remove_all(&beneath).unwrap();
        }
        assert!(matches!(confined.open_file(&path("file")), Err(RootfsError::NotAFile(_))));
        assert!(confined.set_xattr(&path("file"), &Kind::File { size: 0 }, b"user.a", b"b").is_err());
        // What is set on a symlink stays on the symlink, what is removed is the symlink.
        confined.set_mode(&path("file"), 0o777).unwrap();
        confined.set_mtime(&path("file"), Timestamp { seconds: 7, nanoseconds: 0 }).unwrap();
        confined.remove_all(&path("relative")).unwrap();
        confined.remove_all(&RootPath::root()).unwrap();
        assert!(confined.read_directory(&RootPath::root()).unwrap().is_empty());
        let secret = std::fs::metadata(real.join("outside/secret")).unwrap();
        assert!(secret.modified().unwrap().elapsed().unwrap() < Duration::from_secs(3600));
        assert_ne!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777, 0o777);
    });
}

#[test]
fn a_directory_swapped_for_a_symlink_leads_nowhere() {
    each_way(|real, confined| {
        confined.create_directory(&path("dir")).unwrap();
        confined.create_file(&path("dir/secret")).unwrap();
        assert!(confined.open_file(&path("dir/secret")).is_ok());
        std::fs::rename(real.join("inside/dir"), real.join("inside/away")).unwrap();
        symlink("../outside", real.join("inside/dir")).unwrap();
        assert!(confined.open_file(&path("dir/secret")).is_err());
        assert!(confined.create_file(&path("dir/new")).is_err());
    });
}

#[test]
fn fifos_and_devices_are_never_opened() {
    each_way(|_, confined| {
        confined.create_node(&path("fifo"), &Kind::Fifo).unwrap();
        assert!(matches!(confined.open_file(&path("fifo")), Err(RootfsError::NotAFile(_))));
        assert!(confined.metadata(&path("fifo")).unwrap().is_some());
        match confined.create_node(&path("null"), &Kind::CharacterDevice { major: 1, minor: 3 }) {
            Ok(()) => assert!(matches!(confined.open_file(&path("null")), Err(RootfsError::NotAFile(_)))),
            Err(error) => println!("skipped: devices ({error}: {:?})", std::error::Error::source(&error)),
        }
    });
}

#[test]
fn names_need_not_be_utf8() {
    each_way(|real, confined| {
        let name = b"caf\xe9".as_slice();
        confined.create_file(&path(name)).unwrap().write_all(b"x").unwrap();
        confined.create_symlink(&path("link"), b"\xff/target").unwrap();
        assert_eq!(confined.read_directory(&RootPath::root()).unwrap(), [name, b"link"]);
        let link = confined.entry(&path("link")).unwrap().unwrap();
        assert_eq!(link.metadata.kind, Kind::Symlink { target: b"\xff/target".to_vec() });
        assert!(real.join("inside").join(OsStr::from_bytes(name)).exists());
        let mut text = String::new();
        confined.open_file(&path(name)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    });
}

#[test]
fn what_is_set_is_read_back() {
    each_way(|_, confined| {
        confined.create_directory(&path("dir")).unwrap();
        confined.create_file(&path("dir/file")).unwrap();
        confined.create_hard_link(&path("dir/file"), &path("dir/again")).unwrap();
        let kept = confined.set_xattr(&path("dir/file"), &Kind::File { size: 0 }, b"user.colour", b"red").unwrap();
        confined.set_mtime(&path("dir/file"), Timestamp { seconds: -5, nanoseconds: 6 }).unwrap();
        confined.set_mode(&path("dir/file"), 0o4051).unwrap();
        confined.set_mode(&path("dir"), 0o1000).unwrap();
        let entry = confined.entry(&path("dir")).unwrap().unwrap();
        assert_eq!(entry.metadata.mode, 0o1000);
        confined.set_mode(&path("dir"), 0o700).unwrap();
        let entry = confined.entry(&path("dir/again")).unwrap().unwrap();
        assert_eq!((entry.metadata.mode, entry.links), (0o4051, 2));
        assert_eq!(entry.metadata.mtime, Timestamp { seconds: -5, nanoseconds: 6 });
        confined.set_mode(&path("dir/file"), 0o600).unwrap();
        let metadata = confined.metadata(&path("dir/file")).unwrap().unwrap();
        match kept {
            true => assert_eq!(metadata.xattrs[&b"user.colour"[..]], b"red"),
            false => println!("skipped: extended attributes (not on this file system)"),
        }
    });
}

#[test]
fn locked_and_very_deep_trees_can_be_removed() {
    each_way(|real, confined| {
        confined.create_directory(&path("locked")).unwrap();
        confined.create_file(&path("locked/file")).unwrap();
        confined.create_directory(&path("locked/below")).unwrap();
        confined.set_mode(&path("locked/below"), 0).unwrap();
        confined.set_mode(&path("locked"), 0).unwrap();
        // Longer than a path may be, deeper than descriptors last.
        let mut here = rustix::fs::open(real.join("inside"), OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..1200 {
            rustix::fs::mkdirat(&here, "deeper", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "deeper", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        confined.remove_all(&path("locked")).unwrap();
        confined.remove_all(&path("deeper")).unwrap();
        confined.remove_all(&path("missing/too")).unwrap();
        assert!(confined.read_directory(&RootPath::root()).unwrap().is_empty());
    });
}

#[test]
fn only_what_belongs_into_images_counts() {
    for (name, counts) in [
        ("user.note", true),
        ("security.capability", true),
        ("user.overlay.opaque", false),
        ("trusted.overlay.opaque", false),
        ("security.selinux", false),
        ("system.posix_acl_access", false),
    ] {
        assert_eq!(is_image_xattr(name.as_bytes()), counts, "{name}");
    }
}
