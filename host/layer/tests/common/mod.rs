//! Change sets for the tests.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test uses some of it; tests may use the file system")]

use std::{collections::BTreeMap, io::Read};

use cofferdam_layer::{
    Compression, IndexOnly, LayerError, LayerSink, ReadLayer, ReadLimits, SinkError, WriteOptions, WrittenLayer,
    read_layer, write_layer,
};
use cofferdam_rootfs::{Change, ChangeSet, Content, IndexEntry, Kind, Metadata, Owner, RootPath, Timestamp};

/// Everything in the tests is older than this.
pub const BUILD_START: Timestamp = Timestamp { seconds: 2_000_000_000, nanoseconds: 0 };

pub fn path(text: &str) -> RootPath {
    RootPath::new(text).unwrap()
}

pub fn metadata(kind: Kind) -> Metadata {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let mtime = Timestamp { seconds: 1_600_000_000, nanoseconds: 0 };
    Metadata { kind, mode, owner: Owner::default(), mtime, xattrs: BTreeMap::new() }
}

pub fn put(metadata: Metadata) -> Change {
    Change::Put { metadata, content: None, hard_link: None, opaque: false }
}

pub fn directory() -> Change {
    put(metadata(Kind::Directory))
}

pub fn symlink(target: &str) -> Change {
    put(metadata(Kind::Symlink { target: target.into() }))
}

pub fn file(bytes: &[u8]) -> Change {
    file_with(metadata(Kind::File { size: bytes.len() as u64 }), bytes)
}

pub fn file_with(metadata: Metadata, bytes: &[u8]) -> Change {
    Change::Put { metadata, content: Some(Content::Bytes(bytes.into())), hard_link: None, opaque: false }
}

pub fn hard_link(target: &str, size: u64) -> Change {
    let metadata = metadata(Kind::File { size });
    Change::Put { metadata, content: None, hard_link: Some(path(target)), opaque: false }
}

pub fn opaque_directory() -> Change {
    Change::Put { metadata: metadata(Kind::Directory), content: None, hard_link: None, opaque: true }
}

pub fn changes<const N: usize>(list: [(&str, Change); N]) -> ChangeSet {
    ChangeSet { changes: list.into_iter().map(|(name, change)| (path(name), change)).collect() }
}

pub fn options(compression: Compression) -> WriteOptions {
    let epoch = Timestamp { seconds: 42, nanoseconds: 0 };
    WriteOptions { compression, epoch, clamp_after: BUILD_START, timestamps_real: false }
}

pub fn write(changes: &ChangeSet, compression: Compression) -> (WrittenLayer, Vec<u8>) {
    write_layer(changes, &options(compression), Vec::new()).unwrap()
}

pub fn read(blob: &[u8]) -> Result<ReadLayer, LayerError> {
    read_layer(blob, None, &ReadLimits::default(), &mut IndexOnly)
}

/// Everything that a layer can hold, with names of every sort.
pub fn everything() -> ChangeSet {
    let mut xattrs = metadata(Kind::File { size: 3 });
    xattrs.xattrs.insert(b"security.capability".to_vec(), b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec());
    xattrs.xattrs.insert(b"user.note".to_vec(), b"a=b\nc".to_vec());
    let mut setuid = metadata(Kind::File { size: 4 });
    setuid.mode = 0o6755;
    let mut owned = metadata(Kind::File { size: 0 });
    owned.owner = Owner { uid: 3_000_000_000, gid: 2_097_152 };
    let mut ancient = metadata(Kind::Directory);
    ancient.mtime.seconds = -86_400;
    let mut sticky = metadata(Kind::Directory);
    sticky.mode = 0o1777;
    let long = format!("deep/{}/{}", "d".repeat(120), "e".repeat(30));
    let longer = format!("deep/{}/{}", "d".repeat(120), "f".repeat(120));
    let mut set = changes([
        ("", directory()),
        ("ancient", put(ancient)),
        ("bin", symlink("usr/bin")),
        ("deep", directory()),
        (&format!("deep/{}", "d".repeat(120)), directory()),
        (&long, file(b"split into prefix and name")),
        (&longer, file(b"in a PAX header")),
        ("dev", directory()),
        ("dev/loop0", put(metadata(Kind::BlockDevice { major: 7, minor: 0 }))),
        ("dev/null", put(metadata(Kind::CharacterDevice { major: 1, minor: 3 }))),
        ("empty", file(b"")),
        ("etc", directory()),
        ("etc/group", file(b"root:x:0:\n")),
        ("etc/passwd", file(b"root:x:0:0::/:/bin/sh\n")),
        ("far", symlink(&"up/".repeat(60))),
        ("fifo", put(metadata(Kind::Fifo))),
        ("grüße", file("ä".as_bytes())),
        ("large", file(&b"0123456789abcdef".repeat(50_000))),
        ("link", hard_link("large", 800_000)),
        ("old", Change::Remove),
        ("opaque", opaque_directory()),
        ("opaque/new", file(b"new")),
        ("owned", file_with(owned, b"")),
        ("su", file_with(setuid, b"#!su")),
        ("tmp", put(sticky)),
        ("xattrs", file_with(xattrs, b"cap")),
    ]);
    set.changes.insert(RootPath::new(b"raw\xff\xfe").unwrap(), file(b"not UTF-8"));
    let raw = [b"raw-".as_slice(), &[0xfe; 150]].concat();
    set.changes.insert(RootPath::new(raw).unwrap(), symlink("grüße"));
    set
}

/// Remembers what it was told, with content.
#[derive(Default)]
pub struct Recorder(pub Vec<(RootPath, IndexEntry, Option<Vec<u8>>)>);

impl LayerSink for Recorder {
    fn entry(&mut self, path: &RootPath, entry: &IndexEntry, content: Option<&mut dyn Read>) -> Result<(), SinkError> {
        let mut bytes = None;
        if let Some(content) = content {
            content.read_to_end(bytes.insert(Vec::new()))?;
        }
        self.0.push((path.clone(), entry.clone(), bytes));
        Ok(())
    }
}

/// Gives a header block the checksum that belongs to it.
pub fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// One raw entry of an archive with a ustar header and a right checksum, its content padded.
pub fn raw(name: &str, typeflag: u8, link: &str, content: &[u8]) -> Vec<u8> {
    raw_with(name, typeflag, link, content, |_| {})
}

/// The same, after `change` had its way with the header.
pub fn raw_with(name: &str, typeflag: u8, link: &str, content: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = typeflag;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    seal(&mut block);
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// A PAX record.
pub fn record(key: &str, value: &str) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (1..).find(|digits| (body + digits).to_string().len() == *digits).unwrap() + body;
    format!("{length} {key}={value}\n").into_bytes()
}

/// A local extended header with these records.
pub fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let content: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    raw("PaxHeaders/entry", b'x', "", &content)
}

/// The entries and the end mark.
pub fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [&entries.concat()[..], &[0; 1024]].concat()
}
