//! Other programs read what we write, and we read what they write. GNU tar and Python's tarfile are judges and authors.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run other programs on files of their own"
)]

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use cofferdam_layer::{Compression, IndexOnly, LayerError, ReadLimits, read_layer, tar::Writer};
use cofferdam_rootfs::{IndexEntry, Kind, LayerIndex};
use common::*;

fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    assert!(stderr.is_empty(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn python(script: &str, file: &Path) -> String {
    run(Command::new("python3").args(["-c", script]).arg(file))
}

#[test]
fn gnu_tar_lists_what_we_write() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("layer.tar");
    fs::write(&file, write(&everything(), Compression::None).1).unwrap();
    // GNU tar knows no hdrcharset and says so, rightly, but reads the name behind it.
    let quiet = ["--warning=no-unknown-keyword", "--numeric-owner", "--full-time", "--quoting-style=escape"];
    let listing = run(Command::new("tar").arg("tvf").arg(&file).args(quiet));
    for line in [
        "drwxr-xr-x 0/0               0 2020-09-13 12:26:40 ./",
        "drwxr-xr-x 0/0               0 1969-12-31 00:00:00 ancient/",
        "lrw-r--r-- 0/0               0 2020-09-13 12:26:40 bin -> usr/bin",
        "brw-r--r-- 0/0             7,0 2020-09-13 12:26:40 dev/loop0",
        "crw-r--r-- 0/0             1,3 2020-09-13 12:26:40 dev/null",
        "prw-r--r-- 0/0               0 2020-09-13 12:26:40 fifo",
        "-rw-r--r-- 0/0               2 2020-09-13 12:26:40 grüße",
        "-rw-r--r-- 0/0          800000 2020-09-13 12:26:40 large",
        "hrw-r--r-- 0/0               0 2020-09-13 12:26:40 link link to large",
        "---------- 0/0               0 1970-01-01 00:00:42 .wh.old",
        "drwxr-xr-x 0/0               0 2020-09-13 12:26:40 opaque/",
        "---------- 0/0               0 1970-01-01 00:00:42 opaque/.wh..wh..opq",
        "-rw-r--r-- 3000000000/2097152 0 2020-09-13 12:26:40 owned",
        "-rwsr-sr-x 0/0                4 2020-09-13 12:26:40 su",
        "drwxrwxrwt 0/0                0 2020-09-13 12:26:40 tmp/",
        &format!("-rw-r--r-- 0/0 26 2020-09-13 12:26:40 deep/{}/{}", "d".repeat(120), "e".repeat(30)),
        &format!("-rw-r--r-- 0/0 15 2020-09-13 12:26:40 deep/{}/{}", "d".repeat(120), "f".repeat(120)),
        "-rw-r--r-- 0/0 9 2020-09-13 12:26:40 raw\\377\\376",
        &format!("lrw-r--r-- 0/0 0 2020-09-13 12:26:40 raw-{} -> grüße", "\\376".repeat(150)),
    ] {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(listing.lines().any(|listed| words(listed) == words(line)), "{line}\n{listing}");
    }
    assert_eq!(listing.lines().count(), everything().changes.len() + 1, "the opaque marker comes on top");
}

#[test]
fn gnu_tar_unpacks_what_we_write() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("layer.tar.gz");
    let set = changes([
        ("d", common::directory()),
        ("d/grüße", common::file(b"text")),
        ("d/link", hard_link("d/grüße", 4)),
        ("s", common::symlink("d/link")),
    ]);
    fs::write(&file, write(&set, Compression::default()).1).unwrap();
    run(Command::new("tar").arg("xzf").arg(&file).arg("-C").arg(directory.path()).arg("--no-same-owner"));
    assert_eq!(fs::read(directory.path().join("s")).unwrap(), b"text");
}

#[test]
fn python_reads_what_we_write() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("layer.tar");
    let (_, blob) = write(&everything(), Compression::None);
    fs::write(&file, blob).unwrap();
    let script = r#"
import hashlib, os, sys, tarfile
for m in tarfile.open(sys.argv[1], errorlevel=2):
    name = os.fsencode(m.name).decode("ascii", "backslashreplace")
    link = os.fsencode(m.linkname).decode("ascii", "backslashreplace")
    size = len(tarfile.open(sys.argv[1]).extractfile(m).read()) if m.isreg() else 0
    xattrs = sorted(k for k in m.pax_headers if "xattr" in k)
    print(m.type.decode(), oct(m.mode), m.uid, m.gid, int(m.mtime), size, m.devmajor, m.devminor, name, link, *xattrs)
"#;
    let listing = python(script, &file);
    for line in [
        "5 0o755 0 0 1600000000 0 0 0 . ",
        "5 0o755 0 0 -86400 0 0 0 ancient ",
        "3 0o644 0 0 1600000000 0 1 3 dev/null ",
        "4 0o644 0 0 1600000000 0 7 0 dev/loop0 ",
        "6 0o644 0 0 1600000000 0 0 0 fifo ",
        "1 0o644 0 0 1600000000 0 0 0 link large",
        "0 0o644 0 0 1600000000 800000 0 0 large ",
        "0 0o6755 0 0 1600000000 4 0 0 su ",
        "0 0o644 3000000000 2097152 1600000000 0 0 0 owned ",
        "0 0o644 0 0 1600000000 2 0 0 gr\\xc3\\xbc\\xc3\\x9fe ",
        "0 0o644 0 0 1600000000 9 0 0 raw\\xff\\xfe ",
        &format!("2 0o644 0 0 1600000000 0 0 0 raw-{} gr\\xc3\\xbc\\xc3\\x9fe", "\\xfe".repeat(150)),
        &format!("2 0o644 0 0 1600000000 0 0 0 far {}", "up/".repeat(60)),
        "0 0o644 0 0 1600000000 3 0 0 xattrs  SCHILY.xattr.security.capability SCHILY.xattr.user.note",
    ] {
        assert!(listing.lines().any(|listed| listed == line), "{line}\n{listing}");
    }
}

#[test]
fn python_reads_a_file_of_more_than_8_gib_that_we_announce() {
    // Only the headers: the content of 9 GiB would take too long.
    let mut archive = Vec::new();
    let error = Writer::new(&mut archive).append_file("large", 0o644, 9 << 30, 0, &b"short"[..]).unwrap_err();
    assert!(matches!(error, LayerError::SourceSize { .. }));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large.tar");
    fs::write(&file, archive).unwrap();
    let script = "import sys, tarfile; print(tarfile.open(sys.argv[1]).firstmember.size)";
    assert_eq!(python(script, &file).trim(), (9u64 << 30).to_string());
}

/// A tree with names of each length class, links, modes and times.
fn tree(root: &Path, long_names: bool) {
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:\n").unwrap();
    fs::write(root.join("large"), vec![7; 100_001]).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::hard_link(root.join("large"), root.join("zlink")).unwrap();
    symlink("/etc/passwd", root.join("symlink")).unwrap();
    fs::set_permissions(root.join("large"), fs::Permissions::from_mode(0o4711)).unwrap();
    if long_names {
        let deep = root.join("d".repeat(90)).join("e".repeat(50));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("f".repeat(30)), "deep").unwrap();
        fs::write(root.join("grüße"), "ä").unwrap();
    }
}

fn check(index: &LayerIndex, root: &Path, long_names: bool) {
    let kind = |name: &str| match index.entries.get(&path(name)) {
        Some(IndexEntry::Present { metadata, hard_link, .. }) => {
            (metadata.kind.clone(), metadata.mode, hard_link.clone())
        }
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(kind("").0, Kind::Directory);
    assert_eq!(kind("empty"), (Kind::File { size: 0 }, 0o644, None));
    assert_eq!(kind("large"), (Kind::File { size: 100_001 }, 0o4711, None));
    assert_eq!(kind("zlink"), (Kind::File { size: 100_001 }, 0o4711, Some(path("large"))));
    assert_eq!(kind("symlink").0, Kind::Symlink { target: b"/etc/passwd".to_vec() });
    assert_eq!(index.contents[&path("etc/passwd")], fs::read(root.join("etc/passwd")).unwrap());
    if long_names {
        let deep = format!("{}/{}/{}", "d".repeat(90), "e".repeat(50), "f".repeat(30));
        assert_eq!(kind(&deep).0, Kind::File { size: 4 });
        assert_eq!(kind("grüße").0, Kind::File { size: 2 });
    }
}

#[test]
fn archives_of_gnu_tar_in_every_format_are_read() {
    for (format, long_names) in [("gnu", true), ("oldgnu", true), ("pax", true), ("ustar", true), ("v7", false)] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        tree(&root, long_names);
        for (compress, name) in [("", "a.tar"), ("--gzip", "a.tar.gz")] {
            let file = directory.path().join(name);
            let mut tar = Command::new("tar");
            tar.args(["--create", "--sort=name", "--format", format, "--file"]).arg(&file);
            tar.args((!compress.is_empty()).then_some(compress)).arg("-C").arg(&root).arg(".");
            run(&mut tar);
            check(&read(&fs::read(&file).unwrap()).unwrap().index, &root, long_names);
        }
    }
}

#[test]
fn archives_of_python_in_every_format_are_read() {
    for (format, long_names) in [("GNU_FORMAT", true), ("PAX_FORMAT", true), ("USTAR_FORMAT", true)] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        tree(&root, long_names);
        let file = directory.path().join("a.tar");
        let script = format!(
            "import os, sys, tarfile\nt = tarfile.open(sys.argv[1], 'w', format=tarfile.{format})\n\
             os.chdir(os.path.join(os.path.dirname(sys.argv[1]), 'root'))\nt.add('.', filter=lambda m: m)\nt.close()"
        );
        python(&script, &file);
        check(&read(&fs::read(&file).unwrap()).unwrap().index, &root, long_names);
    }
}

#[test]
fn numbers_beyond_octal_are_read_from_gnu_and_pax_headers() {
    let script = r#"
import io, sys, tarfile
for n, format in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
    t = tarfile.open(sys.argv[1] + str(n), "w", format=format)
    m = tarfile.TarInfo("owned")
    m.uid, m.gid, m.mtime = 4000000000, 3000000, -5
    t.addfile(m)
    t.close()
"#;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.tar");
    python(script, &file);
    for number in ["0", "1"] {
        let bytes = fs::read(format!("{}{number}", file.display())).unwrap();
        let index = read(&bytes).unwrap().index;
        let IndexEntry::Present { metadata, .. } = index.entries.get(&path("owned")).unwrap() else { panic!() };
        assert_eq!((metadata.owner.uid, metadata.owner.gid), (4_000_000_000, 3_000_000));
        assert_eq!(metadata.mtime.seconds, -5);
    }
}

#[test]
fn sparse_archives_of_gnu_tar_are_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let sparse = directory.path().join("holes");
    fs::File::create(&sparse).unwrap().set_len(1 << 24).unwrap();
    for options in [
        &["--format=gnu"][..],
        &["--format=pax"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
    ] {
        let file = directory.path().join("a.tar");
        run(Command::new("tar")
            .args(["--create", "--sparse"])
            .args(options)
            .arg("--file")
            .arg(&file)
            .args(["-C"])
            .arg(directory.path())
            .arg("holes"));
        let error = read(&fs::read(&file).unwrap()).unwrap_err().to_string();
        assert!(error.contains("sparse") && error.contains("without `--sparse`"), "{error}");
    }
}

#[test]
fn extended_attributes_of_gnu_tar_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("file");
    fs::write(&name, "x").unwrap();
    let set = Command::new("python3")
        .args(["-c", "import os, sys; os.setxattr(sys.argv[1], 'user.note', b'a=b\\n\\0c')"])
        .arg(&name)
        .output()
        .unwrap();
    if !set.status.success() {
        eprintln!("skipped: this file system has no user attributes");
        return;
    }
    let file = directory.path().join("a.tar");
    run(Command::new("tar")
        .args(["--create", "--xattrs", "--file"])
        .arg(&file)
        .arg("-C")
        .arg(directory.path())
        .arg("file"));
    let index = read(&fs::read(&file).unwrap()).unwrap().index;
    let IndexEntry::Present { metadata, .. } = index.entries.get(&path("file")).unwrap() else { panic!() };
    assert_eq!(metadata.xattrs[&b"user.note"[..]], b"a=b\n\0c");
}

#[test]
fn the_tar_crate_agrees_with_us_on_what_we_write() {
    let (written, blob) = write(&everything(), Compression::None);
    let mut archive = ::tar::Archive::new(&blob[..]);
    let mut names = 0;
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let name = entry.path_bytes().into_owned();
        let Ok(at) = cofferdam_rootfs::RootPath::new(&name) else { panic!() };
        if at.file_name().is_some_and(|last| last.starts_with(b".wh.")) {
            continue;
        }
        names += 1;
        let IndexEntry::Present { metadata, hard_link, .. } = written.index.entries.get(&at).unwrap() else {
            panic!("{at}")
        };
        if hard_link.is_none() {
            assert_eq!(entry.size(), metadata.size_bytes(), "{at}");
        }
    }
    assert_eq!(names, written.index.entries.len() - 1, "all but the whiteout");
}

#[test]
fn concatenated_gzip_members_are_one_layer() {
    let (_, plain) = write(&everything(), Compression::None);
    let mut blob = Vec::new();
    for part in plain.chunks(100_000) {
        use std::io::Write;
        let mut encoder =
            cofferdam_layer::compression::Encoder::new(&mut blob, Compression::Gzip { level: 1 }).unwrap();
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap();
    }
    let layer =
        read_layer(&blob[..], Some(cofferdam_digest::Digest::of(&plain)), &ReadLimits::default(), &mut IndexOnly);
    assert_eq!(layer.unwrap().index.entries.len(), everything().changes.len());
}
