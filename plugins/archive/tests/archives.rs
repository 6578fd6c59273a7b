//! Whole archives: those of the system's tar, and those that nobody's tar would write.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_archive::{Archive, BLOCK_BYTES, Entry, EntryKind, Error, open};

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cofferdam-archive-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tar(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(directory).args(arguments).output().expect("`tar` runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// All entries with the content of files.
fn entries(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let mut archive = open(archive)?.expect("an archive");
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut content = Vec::new();
        archive.read_to_end(&mut content)?;
        entries.push((entry, content));
    }
    Ok(entries)
}

fn sample(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let root = &scratch.0;
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/file"), vec![7; 1000]).unwrap();
    fs::write(root.join("dir/empty"), b"").unwrap();
    fs::hard_link(root.join("dir/file"), root.join("dir/hard")).unwrap();
    std::os::unix::fs::symlink("/absolute/target", root.join("dir/link")).unwrap();
    fs::write(root.join(format!("dir/{}", "n".repeat(200))), b"long").unwrap();
    std::os::unix::fs::symlink("t".repeat(300), root.join("dir/long-link")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("dir/pipe")).status().unwrap().success());
    scratch
}

#[test]
fn every_format_of_gnu_tar_gives_the_same_entries() {
    let scratch = sample("formats");
    let sorted = ["--sort=name", "--owner=u:1234", "--group=g:70000", "--mtime=@1000000000", "--mode=u=rwX,go=rX"];
    for (format, compression) in
        [("gnu", "--gzip"), ("pax", "--zstd"), ("oldgnu", "--xz"), ("gnu", "--bzip2"), ("posix", "--no-auto-compress")]
    {
        let mut arguments = vec!["-c", "-f", "-", "--format", format, compression];
        arguments.extend(sorted);
        arguments.push("dir");
        let found = entries(&tar(&scratch.0, &arguments)).unwrap();
        let shape: Vec<(String, &EntryKind)> =
            found.iter().map(|(entry, _)| (String::from_utf8(entry.name.clone()).unwrap(), &entry.kind)).collect();
        assert_eq!(
            shape,
            [
                ("dir".into(), &EntryKind::Directory),
                ("dir/empty".into(), &EntryKind::File(0)),
                ("dir/file".into(), &EntryKind::File(1000)),
                ("dir/hard".into(), &EntryKind::HardLink(b"dir/file".to_vec())),
                ("dir/link".into(), &EntryKind::Symlink(b"/absolute/target".to_vec())),
                ("dir/long-link".into(), &EntryKind::Symlink(vec![b't'; 300])),
                (format!("dir/{}", "n".repeat(200)), &EntryKind::File(4)),
                ("dir/pipe".into(), &EntryKind::Fifo),
            ],
            "{format} {compression}"
        );
        assert_eq!(found[2].1, vec![7; 1000]);
        assert_eq!(found[6].1, b"long");
        for (entry, _) in &found {
            assert_eq!((entry.uid, entry.gid, entry.mtime), (1234, 70000, (1_000_000_000, 0)));
        }
    }
}

#[test]
fn old_ustar_names_with_a_prefix_are_put_together() {
    let scratch = Scratch::new("prefix");
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    fs::create_dir(scratch.0.join("d".repeat(90))).unwrap();
    fs::write(scratch.0.join(&long), b"x").unwrap();
    let found = entries(&tar(&scratch.0, &["-c", "--format=ustar", &long])).unwrap();
    assert_eq!(found[0].0.name, long.as_bytes());
}

#[test]
fn fractions_and_extended_attributes_come_from_the_extended_header() {
    let records = "21 mtime=5.123456789\n31 SCHILY.xattr.user.k=a value\n";
    let archive = [block("x", b'x', records.len(), ""), padded(records.as_bytes()), block("f", b'0', 0, "")].concat();
    let found = entries(&archive).unwrap();
    assert_eq!(found[0].0.mtime, (5, 123_456_789));
    assert_eq!(found[0].0.xattrs[&b"user.k"[..]], b"a value");
}

#[test]
fn the_size_of_the_extended_header_counts_for_content_and_boundary() {
    // Whoever skips by the plain header would find the hidden one in the content.
    let hidden = block("hidden", b'0', 0, "");
    let records = "12 size=512\n";
    let archive = [
        block("x", b'x', records.len(), ""),
        padded(records.as_bytes()),
        block("outer", b'0', 0, ""),
        hidden.clone(),
        block("after", b'0', 0, ""),
    ]
    .concat();
    let found = entries(&archive).unwrap();
    let names: Vec<&[u8]> = found.iter().map(|(entry, _)| entry.name.as_slice()).collect();
    assert_eq!(names, [&b"outer"[..], b"after"]);
    assert_eq!(found[0].1, hidden);
}

#[test]
fn what_two_readers_could_take_differently_is_refused() {
    let header = |kind| [block("x", kind, 9, ""), padded(b"9 path=a\n")].concat();
    let long = |kind| [block("././@LongLink", kind, 2, ""), padded(b"a\0")].concat();
    let file = block("f", b'0', 0, "");
    for (archive, what) in [
        ([header(b'x'), header(b'x'), file.clone()].concat(), "two extended headers"),
        ([header(b'x'), long(b'L'), file.clone()].concat(), "an extended header and a long name"),
        ([long(b'L'), long(b'L'), file.clone()].concat(), "two long names"),
        ([header(b'g'), file.clone()].concat(), "a path for all entries"),
        (header(b'x'), "an extended header at the end"),
        (block("../x", b'0', 0, ""), "a climbing name"),
        (block("a", b'1', 0, "../../etc/passwd"), "a climbing hard link"),
        (block("a", b'1', 512, "b"), "a hard link with content"),
        (block("a", b'2', 0, ""), "an empty link"),
        (block("a", b'S', 0, ""), "a sparse file"),
        (block("a", b'Z', 0, ""), "an unknown type"),
        (block("a", b'0', 513, ""), "a file that is cut off"),
        ([block("x", b'x', 1 << 30, ""), padded(b"")].concat(), "a huge extended header"),
        ([file.clone(), vec![b'x'; BLOCK_BYTES]].concat(), "garbage behind an entry"),
        ([file, vec![0; 100]].concat(), "a part of a block"),
    ] {
        assert!(entries(&archive).is_err(), "{what}");
    }
}

#[test]
fn devices_keep_their_numbers() {
    let mut device = block("null", b'3', 0, "");
    device[329..337].copy_from_slice(b"0000001\0");
    device[337..345].copy_from_slice(b"0000003\0");
    seal(&mut device);
    assert_eq!(entries(&device).unwrap()[0].0.kind, EntryKind::CharacterDevice(1, 3));
}

#[test]
fn what_is_not_an_archive_is_left_alone() {
    for content in [&b""[..], b"hello", &[0; 2048], b"\x1f\x8b\x08 not really gzip", &b"text ".repeat(500)] {
        assert!(open(content).unwrap().is_none());
    }
}

#[test]
fn a_broken_byte_never_panics() {
    let scratch = sample("broken");
    let archive = tar(&scratch.0, &["-c", "--format=pax", "--sort=name", "dir"]);
    for position in (0..archive.len()).step_by(7) {
        let mut broken = archive.clone();
        broken[position] ^= 0x3c;
        let mut archive = Archive::new(broken.as_slice());
        while let Ok(Some(_)) = archive.next_entry() {}
    }
}

/// A header that a POSIX tar would write.
fn block(name: &str, kind: u8, size: usize, link: &str) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

/// Puts the checksum in.
fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().div_ceil(BLOCK_BYTES) * BLOCK_BYTES, 0);
    content
}
