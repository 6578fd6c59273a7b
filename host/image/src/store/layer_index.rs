//! Layer indexes on disk: compact, checked, and fast to load.
//!
//! A base of 6,000 entries is loaded by every build, a warm one included, so the format is binary: paths share the prefix of the
//! one before, numbers are variable-length (LEB128), and nothing is named. A version in the first line and a checksum over
//! the rest: whatever does not fit is as good as no index, it is made anew from the blob.

use std::collections::BTreeMap;

use cofferdam_digest::Digest;
use cofferdam_rootfs::{IndexEntry, Kind, LayerIndex, Metadata, Owner, RootPath, Timestamp};

use super::{Store, read_small};
use crate::StoreError;

const MAGIC: &[u8] = b"cofferdam layer index 1\n";

/// The largest index that is loaded: about 5 million entries.
const LIMIT_BYTES: u64 = 256 << 20;

const WHITEOUT: u8 = 0;
const FILE: u8 = 1;
const DIRECTORY: u8 = 2;
const SYMLINK: u8 = 3;
const CHARACTER_DEVICE: u8 = 4;
const BLOCK_DEVICE: u8 = 5;
const FIFO: u8 = 6;
const SOCKET: u8 = 7;
const KIND_MASK: u8 = 0x0f;
const HAS_XATTRS: u8 = 0x10;
const HAS_HARD_LINK: u8 = 0x20;
const IS_OPAQUE: u8 = 0x40;

impl Store {
    /// Stores the index of a layer.
    ///
    /// # Errors
    /// The machine refused.
    pub fn put_layer_index(&self, diff_id: &Digest, index: &LayerIndex) -> Result<(), StoreError> {
        self.write_atomically(&self.root.join("indexes").join(diff_id.hex()), &encode(index))
    }

    /// The index of a layer; `None` if there is none, or it is damaged or of another version.
    ///
    /// # Errors
    /// The machine refused.
    pub fn layer_index(&self, diff_id: &Digest) -> Result<Option<LayerIndex>, StoreError> {
        let bytes = read_small(&self.root.join("indexes").join(diff_id.hex()), LIMIT_BYTES)?;
        Ok(bytes.and_then(|bytes| decode(&bytes)))
    }
}

fn encode(index: &LayerIndex) -> Vec<u8> {
    let mut body = Vec::with_capacity(index.entries.len() * 40);
    put_number(&mut body, index.entries.len() as u64);
    let mut before: &[u8] = &[];
    for (path, entry) in &index.entries {
        let shared = before.iter().zip(path.as_bytes()).take_while(|(left, right)| left == right).count();
        put_number(&mut body, shared as u64);
        put_bytes(&mut body, &path.as_bytes()[shared..]);
        before = path.as_bytes();
        match entry {
            IndexEntry::Whiteout => body.push(WHITEOUT),
            IndexEntry::Present { metadata, hard_link, opaque } => {
                put_present(&mut body, metadata, hard_link.as_ref(), *opaque)
            }
        }
    }
    put_number(&mut body, index.contents.len() as u64);
    for (path, content) in &index.contents {
        put_bytes(&mut body, path.as_bytes());
        put_bytes(&mut body, content);
    }
    [MAGIC, Digest::of(&body).as_bytes(), &body].concat()
}

fn put_present(body: &mut Vec<u8>, metadata: &Metadata, hard_link: Option<&RootPath>, opaque: bool) {
    let kind = match metadata.kind {
        Kind::File { .. } => FILE,
        Kind::Directory => DIRECTORY,
        Kind::Symlink { .. } => SYMLINK,
        Kind::CharacterDevice { .. } => CHARACTER_DEVICE,
        Kind::BlockDevice { .. } => BLOCK_DEVICE,
        Kind::Fifo => FIFO,
        Kind::Socket => SOCKET,
    };
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    body.push(
        kind | flag(!metadata.xattrs.is_empty(), HAS_XATTRS)
            | flag(hard_link.is_some(), HAS_HARD_LINK)
            | flag(opaque, IS_OPAQUE),
    );
    put_number(body, metadata.mode.into());
    put_number(body, metadata.owner.uid.into());
    put_number(body, metadata.owner.gid.into());
    // Zigzag, so that moments before 1970 are short too.
    put_number(body, ((metadata.mtime.seconds << 1) ^ (metadata.mtime.seconds >> 63)).cast_unsigned());
    put_number(body, metadata.mtime.nanoseconds.into());
    match &metadata.kind {
        Kind::File { size } => put_number(body, *size),
        Kind::Symlink { target } => put_bytes(body, target),
        Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            put_number(body, (*major).into());
            put_number(body, (*minor).into());
        }
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    if !metadata.xattrs.is_empty() {
        put_number(body, metadata.xattrs.len() as u64);
        for (name, value) in &metadata.xattrs {
            put_bytes(body, name);
            put_bytes(body, value);
        }
    }
    if let Some(path) = hard_link {
        put_bytes(body, path.as_bytes());
    }
}

fn put_number(body: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        body.push(number as u8 | 0x80);
        number >>= 7;
    }
    body.push(number as u8);
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    put_number(body, bytes.len() as u64);
    body.extend_from_slice(bytes);
}

fn decode(bytes: &[u8]) -> Option<LayerIndex> {
    let (checksum, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if Digest::of(body).as_bytes() != checksum {
        return None;
    }
    let mut input = Input(body);
    let count = input.number()?;
    let mut path = Vec::new();
    // Collected from a sorted list, the map is built from the bottom, without searching.
    let mut entries = Vec::with_capacity(usize::try_from(count).ok()?.min(body.len()));
    for _ in 0..count {
        let shared = usize::try_from(input.number()?).ok().filter(|shared| *shared <= path.len())?;
        path.truncate(shared);
        path.extend_from_slice(input.bytes()?);
        entries.push((RootPath::new(&path).ok()?, input.entry()?));
    }
    let mut contents = BTreeMap::new();
    for _ in 0..input.number()? {
        contents.insert(RootPath::new(input.bytes()?).ok()?, input.bytes()?.to_vec());
    }
    input.0.is_empty().then(|| LayerIndex { entries: entries.into_iter().collect(), contents })
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn entry(&mut self) -> Option<IndexEntry> {
        let tag = self.byte()?;
        if tag == WHITEOUT {
            return Some(IndexEntry::Whiteout);
        }
        let mode = self.small()?;
        let owner = Owner { uid: self.small()?, gid: self.small()? };
        let zigzag = self.number()?;
        let seconds = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        let mtime = Timestamp { seconds, nanoseconds: self.small()? };
        let kind = match tag & KIND_MASK {
            FILE => Kind::File { size: self.number()? },
            DIRECTORY => Kind::Directory,
            SYMLINK => Kind::Symlink { target: self.bytes()?.to_vec() },
            CHARACTER_DEVICE => Kind::CharacterDevice { major: self.small()?, minor: self.small()? },
            BLOCK_DEVICE => Kind::BlockDevice { major: self.small()?, minor: self.small()? },
            FIFO => Kind::Fifo,
            SOCKET => Kind::Socket,
            _ => return None,
        };
        let mut xattrs = BTreeMap::new();
        if tag & HAS_XATTRS != 0 {
            for _ in 0..self.number()? {
                xattrs.insert(self.bytes()?.to_vec(), self.bytes()?.to_vec());
            }
        }
        let hard_link = match tag & HAS_HARD_LINK != 0 {
            true => Some(RootPath::new(self.bytes()?).ok()?),
            false => None,
        };
        Some(IndexEntry::Present {
            metadata: Metadata { kind, mode, owner, mtime, xattrs },
            hard_link,
            opaque: tag & IS_OPAQUE != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &[u8]) -> RootPath {
        RootPath::new(text).unwrap()
    }

    fn present(kind: Kind) -> IndexEntry {
        let mtime = Timestamp { seconds: -1, nanoseconds: 999_999_999 };
        let metadata =
            Metadata { kind, mode: 0o4755, owner: Owner { uid: u32::MAX, gid: 0 }, mtime, xattrs: BTreeMap::new() };
        IndexEntry::Present { metadata, hard_link: None, opaque: false }
    }

    fn index() -> LayerIndex {
        let mut index = LayerIndex::default();
        for (name, kind) in [
            (&b"f\xff"[..], Kind::File { size: u64::MAX }),
            (b"d", Kind::Directory),
            (b"d/link", Kind::Symlink { target: b"/x\xfe".to_vec() }),
            (b"d/null", Kind::CharacterDevice { major: 1, minor: 3 }),
            (b"d/disk", Kind::BlockDevice { major: 8, minor: u32::MAX }),
            (b"d/fifo", Kind::Fifo),
            (b"d/socket", Kind::Socket),
        ] {
            index.entries.insert(path(name), present(kind));
        }
        let mut special = present(Kind::File { size: 0 });
        if let IndexEntry::Present { metadata, hard_link, opaque } = &mut special {
            metadata.xattrs.insert(b"security.capability".to_vec(), vec![0; 20]);
            metadata.mtime.seconds = i64::MIN;
            *hard_link = Some(path(b"d/other"));
            *opaque = true;
        }
        index.entries.insert(path(b"special"), special);
        index.entries.insert(path(b"gone"), IndexEntry::Whiteout);
        index.contents.insert(path(b"etc/passwd"), b"root:x:0:0::/root:/bin/sh\n".to_vec());
        index
    }

    #[test]
    fn every_kind_of_entry_survives() {
        assert_eq!(decode(&encode(&index())), Some(index()));
        assert_eq!(decode(&encode(&LayerIndex::default())), Some(LayerIndex::default()));
    }

    #[test]
    fn a_damaged_index_is_none() {
        let bytes = encode(&index());
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {position}");
            assert_eq!(decode(&bytes[..position]), None, "cut at {position}");
        }
    }

    #[test]
    fn nonsense_with_a_right_checksum_is_none_and_asks_for_no_memory() {
        for body in [&[0xff; 9][..], &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], &[1, 5, 0], &[1, 0, 1, b'a', 0x0e], &[0, 0, 7]]
        {
            let bytes = [MAGIC, Digest::of(body).as_bytes(), body].concat();
            assert_eq!(decode(&bytes), None, "{body:?}");
        }
    }

    /// Not a judgement, a number for who changes the format: `cargo test --release -- --ignored --nocapture index_speed`.
    #[test]
    #[ignore = "a measurement"]
    fn index_speed() {
        for count in [6_000_u64, 50_000] {
            let entries = (0..count).map(|n| {
                let name = format!("usr/share/directory-{}/some-file-name-{n}.txt", n / 30);
                (path(name.as_bytes()), present(Kind::File { size: n * 1000 }))
            });
            let index = LayerIndex { entries: entries.collect(), contents: BTreeMap::new() };
            let bytes = encode(&index);
            let start = std::time::Instant::now();
            assert!(decode(&bytes).is_some());
            println!("{count} entries: {} bytes, loaded in {:?}", bytes.len(), start.elapsed());
        }
    }
}
