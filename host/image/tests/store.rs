//! The store with several builders at it, with the remains of killed ones, and where it can't be written.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test starts other builders and makes files")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use cofferdam_digest::Digest;
use cofferdam_image::{Compression, Descriptor, Family, LayerBlob, MediaType, Store, StoreError, Unpacking};

/// What the test program does when it was started by one of its own tests, as another builder.
const ROLE: &str = "COFFERDAM_TEST_ROLE";
const PLACE: &str = "COFFERDAM_TEST_PLACE";

fn builder(role: &str, store: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "another_builder", "--nocapture"]).env(ROLE, role).env(PLACE, store);
    command
}

/// Not a test by itself: the process that other tests start.
#[test]
fn another_builder() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let store = Store::open(Path::new(&std::env::var(PLACE).unwrap())).unwrap();
    match &*role {
        "dies" => {
            let directory = store.temp_dir("upper").unwrap();
            fs::create_dir(directory.path().join("closed")).unwrap();
            fs::write(directory.path().join("closed/file"), "x").unwrap();
            fs::set_permissions(directory.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
            let mut writer = store.blob_writer().unwrap();
            writer.write_all(&[0; 1 << 20]).unwrap();
            let Unpacking::Started(_guard) = store.begin_unpack("overlay", &Digest::of(b"layer"), &|| ()).unwrap()
            else {
                panic!()
            };
            println!("\nready");
            // Waits to be killed; ends by itself if the test did.
            drop(std::io::stdin().read(&mut [0]));
        }
        "writes" => {
            for number in 0..50_u32 {
                let mut writer = store.blob_writer().unwrap();
                writer.write_all(&number.to_le_bytes().repeat(10_000)).unwrap();
                let blob = writer.commit(None).unwrap();
                let image = Descriptor::new(MediaType::Manifest(Family::Oci), blob.digest, blob.size);
                store.record_image(&image, &[format!("{}:{number}", std::process::id())]).unwrap();
            }
        }
        role => panic!("{role}"),
    }
}

fn sessions(store: &Path) -> usize {
    fs::read_dir(store.join("tmp")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
}

#[test]
fn what_a_killed_builder_left_is_removed_and_what_a_living_one_has_is_not() {
    let place = tempfile::tempdir().unwrap();
    let living = Store::open(place.path()).unwrap();
    let kept = living.temp_dir("kept").unwrap();
    let mut child = builder("dies", place.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    assert_eq!(sessions(place.path()), 2);
    assert!(living.unpacked("overlay", &Digest::of(b"layer")).unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();

    let next = Store::open(place.path()).unwrap();
    assert_eq!(sessions(place.path()), 2, "the living one's and the next one's");
    assert!(kept.path().is_dir());
    assert_eq!(fs::read_dir(place.path().join("blobs/sha256")).unwrap().count(), 0);
    // The lock of the dead one is free.
    let Unpacking::Started(guard) = next.begin_unpack("overlay", &Digest::of(b"layer"), &|| ()).unwrap() else {
        panic!()
    };
    drop((guard, next, kept, living));
    assert_eq!(sessions(place.path()), 0, "builders that end leave nothing");
}

#[test]
fn processes_that_write_the_same_at_once_all_succeed() {
    let place = tempfile::tempdir().unwrap();
    let children: Vec<_> =
        (0..4).map(|_| builder("writes", place.path()).stdout(Stdio::null()).spawn().unwrap()).collect();
    let ids: Vec<u32> = children.iter().map(std::process::Child::id).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = Store::open(place.path()).unwrap();
    assert_eq!(fs::read_dir(place.path().join("blobs/sha256")).unwrap().count(), 50);
    let images = store.images().unwrap();
    assert_eq!(images.len(), 200, "no entry was lost");
    for id in ids {
        let image = store.find_image(&format!("{id}:49")).unwrap().unwrap();
        assert_eq!(image.digest, Digest::of(&49_u32.to_le_bytes().repeat(10_000)));
    }
}

#[test]
fn a_layer_is_unpacked_once_however_many_want_it() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let (unpacked, barrier, layer) = (AtomicUsize::new(0), Barrier::new(8), Digest::of(b"layer"));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let directory = match store.begin_unpack("overlay", &layer, &|| ()).unwrap() {
                    Unpacking::Ready(directory) => directory,
                    Unpacking::Started(guard) => {
                        unpacked.fetch_add(1, Ordering::Relaxed);
                        fs::write(guard.directory().join("file"), "x").unwrap();
                        guard.commit().unwrap()
                    }
                };
                assert!(directory.join("file").is_file());
            });
        }
    });
    assert_eq!(unpacked.load(Ordering::Relaxed), 1);
    assert!(store.unpacked("flat", &layer).unwrap().is_none(), "another form is another directory");
    assert!(matches!(store.unpacked("../x", &layer), Err(StoreError::Form(_))));
}

#[test]
fn a_builder_that_was_stopped_while_it_unpacked_keeps_others_waiting_for_a_while_only() {
    let place = tempfile::tempdir().unwrap();
    let (stopped, other) = (Store::open(place.path()).unwrap(), Store::open(place.path()).unwrap());
    let layer = Digest::of(b"layer");
    let begin = |store: &Store| match store.begin_unpack("overlay", &layer, &|| ()).unwrap() {
        Unpacking::Started(guard) => guard,
        Unpacking::Ready(_) => panic!("nobody has finished"),
    };
    let first = begin(&stopped);
    fs::write(first.directory().join("file"), "x").unwrap();
    let second = begin(&other);
    fs::write(second.directory().join("file"), "x").unwrap();
    let directory = second.commit().unwrap();
    // It goes on, and finds that it was overtaken.
    assert_eq!(first.commit().unwrap(), directory);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn an_abandoned_unpacking_leaves_nothing_and_an_upper_directory_is_adopted() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let layer = Digest::of(b"layer");
    let Unpacking::Started(guard) = store.begin_unpack("overlay", &layer, &|| ()).unwrap() else { panic!() };
    let abandoned = guard.directory().to_path_buf();
    drop(guard);
    assert!(!abandoned.exists() && store.unpacked("overlay", &layer).unwrap().is_none());

    let upper = store.temp_dir("upper").unwrap();
    fs::create_dir(upper.path().join("diff")).unwrap();
    fs::write(upper.path().join("diff/file"), "first").unwrap();
    fs::set_permissions(upper.path().join("diff"), fs::Permissions::from_mode(0o555)).unwrap();
    let adopted = store.adopt_unpacked("overlay", &layer, &upper.path().join("diff")).unwrap();
    assert_eq!(store.unpacked("overlay", &layer).unwrap(), Some(adopted.clone()));
    assert_eq!(fs::metadata(&adopted).unwrap().permissions().mode() & 0o7777, 0o555);

    fs::create_dir(upper.path().join("late")).unwrap();
    assert_eq!(store.adopt_unpacked("overlay", &layer, &upper.path().join("late")).unwrap(), adopted);
    assert_eq!(fs::read_to_string(adopted.join("file")).unwrap(), "first");
}

#[test]
fn a_blob_has_the_announced_digest_or_is_not_stored() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let right = Digest::of(b"content");
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"other").unwrap();
    assert!(matches!(writer.commit(Some(&right)), Err(StoreError::Mismatch { .. })));
    assert!(!store.has_blob(&right, None));
    assert!(matches!(store.open_blob(&right), Err(StoreError::Missing { .. })));

    for _ in 0..2 {
        let mut writer = store.raw_blob_writer().unwrap();
        writer.write_all(b"content").unwrap();
        assert_eq!(writer.commit(right).unwrap().size, 7);
    }
    let temporary: Vec<_> = fs::read_dir(place.path().join("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(fs::read_dir(&temporary[0]).unwrap().count(), 0);
    store.remove_blob(&right).unwrap();
    store.remove_blob(&right).unwrap();
    assert!(!store.has_blob(&right, None));
}

#[test]
fn a_damaged_blob_is_found_when_it_is_read_and_replaced_when_it_is_short() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let document = store.put_document(MediaType::Config(Family::Oci), b"{\"a\":1}").unwrap();
    fs::write(store.blob_path(&document.digest), b"{\"a\":2}").unwrap();
    let error = store.read_document(&document).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(&document.digest.hex()));

    assert!(!store.has_blob(&document.digest, None), "the next build must not meet it again");

    for damage in [&b""[..], b"{\"a\":2}", &[0; 7]] {
        fs::write(store.blob_path(&document.digest), damage).unwrap();
        assert_eq!(store.has_blob(&document.digest, Some(document.size)), damage.len() == 7);
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"{\"a\":1}").unwrap();
        writer.commit(Some(&document.digest)).unwrap();
        assert_eq!(store.read_document(&document).unwrap(), b"{\"a\":1}");

        fs::write(store.blob_path(&document.digest), damage).unwrap();
        store.put_document(MediaType::Config(Family::Oci), b"{\"a\":1}").unwrap();
        assert_eq!(store.read_document(&document).unwrap(), b"{\"a\":1}");
        assert!(!store.remove_if_damaged(&document.digest));
        fs::write(store.blob_path(&document.digest), damage).unwrap();
        assert!(store.remove_if_damaged(&document.digest) && !store.has_blob(&document.digest, None));
    }
}

#[test]
fn what_was_unpacked_in_another_boot_is_unpacked_again_but_not_under_a_builder_at_work() {
    let place = tempfile::tempdir().unwrap();
    let layer = Digest::of(b"layer");
    let store = Store::open(place.path()).unwrap();
    let Unpacking::Started(guard) = store.begin_unpack("overlay", &layer, &|| ()).unwrap() else {
        panic!("it was there")
    };
    fs::write(guard.directory().join("file"), "").unwrap();
    guard.commit().unwrap();
    let marker = place.path().join("unpacked/boot");
    if !marker.exists() {
        return; // No /proc.
    }
    let boot = fs::read(&marker).unwrap();
    fs::write(&marker, "00000000-0000-0000-0000-000000000000\n").unwrap();
    let second = Store::open(place.path()).unwrap();
    assert!(second.unpacked("overlay", &layer).unwrap().is_some(), "the first one is at work");
    drop((store, second));
    let store = Store::open(place.path()).unwrap();
    assert_eq!(store.unpacked("overlay", &layer).unwrap(), None);
    assert_eq!(fs::read(&marker).unwrap(), boot);
    drop(store);
    assert!(fs::read_dir(place.path().join("tmp")).unwrap().all(|entry| entry.unwrap().path().is_file()));
}

#[test]
fn a_place_that_cannot_be_written_is_named_with_the_remedy() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let Err(error) = Store::open(&file.join("store")) else { panic!("a store below a file") };
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    // /proc is read-only for root, too.
    let Err(error) = Store::open(Path::new("/proc/sys/store")) else { panic!("a store in /proc") };
    assert!(error.to_string().contains("/proc/sys/store"), "{error}");

    if rustix::process::geteuid().is_root() {
        return;
    }
    let closed = place.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let Err(error) = Store::open(&closed.join("store")) else { panic!("a store in a closed directory") };
    assert!(error.remedy().unwrap().contains("`--store`"), "{error}");
}

#[test]
fn a_full_disk_is_one_error_with_the_remedy() {
    let error = StoreError::Io {
        action: "write",
        path: "/s/blobs/sha256/00".into(),
        source: std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()),
    };
    let text = error.to_string();
    assert!(text.contains("/s/blobs/sha256/00"), "{text}");
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("full") && remedy.contains("--store"), "{remedy}");
}

#[test]
fn nobody_else_reaches_unpacked_layers() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("a/store");
    let store = Store::open(&root).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    fs::set_permissions(root.join("unpacked"), fs::Permissions::from_mode(0o777)).unwrap();
    drop(store);
    Store::open(&root).unwrap();
    assert_eq!(mode(&root.join("unpacked")), 0o700);
}

#[test]
fn a_default_acl_around_the_store_does_not_reach_what_commands_make() {
    let place = tempfile::tempdir().unwrap();
    // Version 2; then tag, permissions, id: the owner, user 33, the group, the mask and others all have rwx (acl(5)).
    let nobody = u32::MAX;
    let entries = [(0x01_u16, nobody), (0x02, 33), (0x04, nobody), (0x10, nobody), (0x20, nobody)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, id) in entries {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&7_u16.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    let name = "system.posix_acl_default";
    if rustix::fs::setxattr(place.path(), name, &acl, rustix::fs::XattrFlags::empty()).is_err() {
        return; // No ACLs on this file system.
    }
    let store = Store::open(&place.path().join("store")).unwrap();
    let temporary = store.temp_dir("run").unwrap();
    let mut buffer = [0; 256];
    let inherited = rustix::fs::getxattr(temporary.path(), name, &mut buffer[..]);
    assert_eq!(inherited, Err(rustix::io::Errno::NODATA));
}

#[test]
fn layers_are_found_by_blob_and_by_diff_id_while_the_blob_is_there() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let blob = |content: &[u8], compression| {
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(content).unwrap();
        let blob = writer.commit(None).unwrap();
        LayerBlob { diff_id: Digest::of(b"tar"), digest: blob.digest, size: blob.size, compression }
    };
    let (gzip, zstd) = (blob(b"gzip", Compression::Gzip), blob(b"zstd", Compression::Zstd));
    store.put_layer_blob(&gzip).unwrap();
    store.put_layer_blob(&zstd).unwrap();
    assert_eq!(store.layer_blob(&gzip.digest).unwrap(), Some(gzip));
    assert_eq!(store.layer_blob(&Digest::of(b"no")).unwrap(), None);
    assert_eq!(store.blobs_of_layer(&gzip.diff_id).unwrap().len(), 2);
    store.remove_blob(&gzip.digest).unwrap();
    assert_eq!(store.blobs_of_layer(&gzip.diff_id).unwrap(), [zstd]);
    fs::write(place.path().join("diff-ids").join(zstd.digest.hex()), "{").unwrap();
    assert_eq!(store.layer_blob(&zstd.digest).unwrap(), None, "a damaged record is none");
}

#[test]
fn names_move_and_nameless_images_do_not_pile_up() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let image = |content: &[u8]| Descriptor::of(MediaType::Manifest(Family::Oci), content);
    store.record_image(&image(b"1"), &["app:1".into(), "app:latest".into(), "app:1".into()]).unwrap();
    store.record_image(&image(b"2"), &["app:2".into(), "app:latest".into()]).unwrap();
    let names: Vec<_> = store.images().unwrap().into_iter().map(|image| image.name.unwrap()).collect();
    assert_eq!(names, ["app:1", "app:2", "app:latest"]);
    assert_eq!(store.find_image("app:latest").unwrap().unwrap(), image(b"2"));
    assert_eq!(store.find_image(&image(b"1").digest.to_string()).unwrap().unwrap(), image(b"1"));
    for number in 0..120_u8 {
        store.record_image(&image(&[number, 0]), &[]).unwrap();
        store.record_image(&image(&[number, 0]), &[]).unwrap();
    }
    assert_eq!(store.images().unwrap().len(), 103);
    assert_eq!(store.find_image(&image(&[0, 0]).digest.to_string()).unwrap(), None);
    fs::write(place.path().join("index.json"), "{").unwrap();
    let error = store.images().unwrap_err();
    assert!(error.to_string().contains("index.json"), "{error}");
    let list = place.path().join("index.json");
    store.record_image(&image(b"1"), &[]).unwrap();
    assert_eq!(
        (store.images().unwrap().len(), store.take_repaired().len()),
        (1, 1),
        "it begins anew, and that is told"
    );
    for damage in ["damaged", "a pipe", "a directory", "a link"] {
        fs::remove_file(&list).unwrap();
        match damage {
            "damaged" => fs::write(&list, "[").unwrap(),
            "a pipe" => rustix::fs::mkfifoat(rustix::fs::CWD, &list, 0o600.into()).unwrap(),
            "a directory" => fs::create_dir_all(list.join("beneath")).unwrap(),
            _ => std::os::unix::fs::symlink("/dev/null", &list).unwrap(),
        }
        let store = Store::open(place.path()).unwrap();
        assert_eq!(store.images().unwrap().len(), 0, "{damage}");
        assert_eq!(store.take_repaired().len(), 1, "{damage}");
    }
}

#[test]
fn references_are_remembered() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let base = Descriptor::of(MediaType::Index(Family::Docker), b"base");
    store.remember_reference("registry/../x:1", &base).unwrap();
    assert_eq!(store.remembered_reference("registry/../x:1").unwrap(), Some(base));
    assert_eq!(store.remembered_reference("registry/../x:2").unwrap(), None);
}

#[test]
fn a_spool_file_has_no_name() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let mut spool = store.spool_file().unwrap();
    spool.write_all(b"x").unwrap();
    let links = std::os::unix::fs::MetadataExt::nlink(&spool.metadata().unwrap());
    assert_eq!(links, 0);
}

/// What is old, and what of it a builder has seen that is at work.
#[test]
fn room_is_made_beside_a_builder_without_taking_what_it_uses() {
    let directory = tempfile::tempdir().unwrap();
    let first = Store::open(directory.path()).unwrap();
    let put = |text: &[u8]| {
        let mut blob = first.blob_writer().unwrap();
        blob.write_all(text).unwrap();
        blob.commit(None).unwrap().digest
    };
    let (seen, unseen) = (put(b"seen"), put(b"unseen"));
    let document = first.put_document(MediaType::Empty, b"{}").unwrap();
    drop(first);
    std::thread::sleep(std::time::Duration::from_millis(50));

    let builder = Store::open(directory.path()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let pruner = Store::open(directory.path()).unwrap().as_inspector();
    assert!(builder.has_blob(&seen, None) && pruner.has_blob(&unseen, None));
    // What is there already is used as well as if it were written.
    builder.put_document(MediaType::Empty, b"{}").unwrap();
    let neighbours = pruner.neighbours().unwrap();
    assert_eq!(neighbours.count, 1);
    let mut left = Vec::new();
    for item in pruner.items().unwrap() {
        if !pruner.remove_item(&item, neighbours.unused_since).unwrap() {
            left.extend(item.blob());
        }
    }
    left.sort();
    let mut expected = [seen, document.digest];
    expected.sort();
    assert_eq!(left, expected);
    assert!(!builder.has_blob(&unseen, None));
    drop(builder);
    assert_eq!(pruner.neighbours().unwrap().count, 0);
}
