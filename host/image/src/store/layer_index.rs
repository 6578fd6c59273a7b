//! Layer indexes on disk: compact, checked, and fast to load.
//!
//! A base of 6,000 entries is loaded by every build, a warm one included, and some have a million: the file has the very blocks
//! that [`IndexEntries`] keeps in memory, and neither writing nor reading it holds more of it than one. A version in the
//! first line and a checksum at the end: whatever does not fit is as good as no index, it is made anew from the blob.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, BufWriter, Read, Write},
    path::PathBuf,
};

use cofferdam_digest::{Digest, HashingReader, HashingWriter};
use cofferdam_rootfs::{IndexEntries, LayerIndex, RootPath};

use super::Store;
use crate::StoreError;

const MAGIC: &[u8] = b"cofferdam layer index 2\n";

const CHECKSUM_BYTES: u64 = 32;

/// The largest index that is loaded: about 10 million entries.
const LIMIT_BYTES: u64 = 256 << 20;

impl Store {
    /// Where the index of a layer is, or would be.
    pub fn layer_index_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("indexes").join(diff_id.hex())
    }

    /// Stores the index of a layer.
    ///
    /// # Errors
    /// The machine refused.
    pub fn put_layer_index(&self, diff_id: &Digest, index: &LayerIndex) -> Result<(), StoreError> {
        let path = self.layer_index_path(diff_id);
        self.replace_file(&path, false, |file| {
            let mut out = BufWriter::new(file);
            encode(index, &mut out)?;
            out.flush()
        })
    }

    /// The index of a layer; `None` if there is none, or it is damaged or of another version.
    ///
    /// # Errors
    /// The machine refused.
    pub fn layer_index(&self, diff_id: &Digest) -> Result<Option<LayerIndex>, StoreError> {
        let path = self.layer_index_path(diff_id);
        let Some(file) = self.open_own_file(&path)? else { return Ok(None) };
        let size_bytes = file.metadata().map_err(StoreError::io("read", &path))?.len();
        if size_bytes > LIMIT_BYTES {
            return Ok(None);
        }
        match decode(BufReader::with_capacity(64 << 10, file), size_bytes) {
            Ok(index) => Ok(Some(index)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(StoreError::io("read", path)(error)),
        }
    }
}

fn encode(index: &LayerIndex, out: &mut impl Write) -> io::Result<()> {
    out.write_all(MAGIC)?;
    let mut body = HashingWriter::new(&mut *out);
    let blocks = index.entries.blocks();
    put_number(&mut body, blocks.len())?;
    blocks.into_iter().try_for_each(|block| put_bytes(&mut body, block))?;
    put_number(&mut body, index.contents.len())?;
    for (path, content) in &index.contents {
        put_bytes(&mut body, path.as_bytes())?;
        put_bytes(&mut body, content)?;
    }
    let (_, checksum, _) = body.finish();
    out.write_all(checksum.as_bytes())
}

fn put_number(out: &mut impl Write, number: usize) -> io::Result<()> {
    out.write_all(&(number as u64).to_le_bytes())
}

fn put_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    put_number(out, bytes.len())?;
    out.write_all(bytes)
}

fn decode(mut file: impl Read, size_bytes: u64) -> io::Result<LayerIndex> {
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    let body_bytes = size_bytes.checked_sub(MAGIC.len() as u64 + CHECKSUM_BYTES).filter(|_| magic == MAGIC);
    let mut body = Body { from: HashingReader::new(&mut file), remaining: body_bytes.ok_or_else(damaged)? };
    let mut entries = IndexEntries::default();
    for _ in 0..body.number()? {
        entries.push_block(body.bytes()?).map_err(|_| damaged())?;
    }
    let mut contents = BTreeMap::new();
    for _ in 0..body.number()? {
        contents.insert(RootPath::new(body.bytes()?).map_err(|_| damaged())?, body.bytes()?);
    }
    let whole = body.remaining == 0;
    let (actual, ..) = body.from.finish();
    let mut checksum = [0; CHECKSUM_BYTES as usize];
    file.read_exact(&mut checksum)?;
    if whole && actual.as_bytes() == &checksum { Ok(LayerIndex { entries, contents }) } else { Err(damaged()) }
}

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

struct Body<R> {
    from: HashingReader<R>,
    remaining: u64,
}

impl<R: Read> Body<R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.remaining = self.remaining.checked_sub(8).ok_or_else(damaged)?;
        self.from.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()?;
        self.remaining = self.remaining.checked_sub(length).ok_or_else(damaged)?;
        // No more than the file has.
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use cofferdam_rootfs::{IndexEntry, Kind, Metadata, Owner, Timestamp};

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
            index.entries.insert(&path(name), &present(kind));
        }
        let mut special = present(Kind::File { size: 0 });
        if let IndexEntry::Present { metadata, hard_link, opaque } = &mut special {
            metadata.xattrs.insert(b"security.capability".to_vec(), vec![0; 20]);
            metadata.mtime.seconds = i64::MIN;
            *hard_link = Some(path(b"d/other"));
            *opaque = true;
        }
        index.entries.insert(&path(b"special"), &special);
        index.entries.insert(&path(b"gone"), &IndexEntry::Whiteout);
        index.contents.insert(path(b"etc/passwd"), b"root:x:0:0::/root:/bin/sh\n".to_vec());
        index
    }

    fn encoded(index: &LayerIndex) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(index, &mut bytes).unwrap();
        bytes
    }

    fn decoded(bytes: &[u8]) -> Option<LayerIndex> {
        decode(bytes, bytes.len() as u64).ok()
    }

    #[test]
    fn every_kind_of_entry_survives() {
        assert_eq!(decoded(&encoded(&index())), Some(index()));
        assert_eq!(decoded(&encoded(&LayerIndex::default())), Some(LayerIndex::default()));
    }

    #[test]
    fn a_damaged_index_is_none() {
        let bytes = encoded(&index());
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            assert_eq!(decoded(&damaged), None, "byte {position}");
            assert_eq!(decoded(&bytes[..position]), None, "cut at {position}");
        }
    }

    #[test]
    fn nonsense_with_a_right_checksum_is_none_and_asks_for_no_memory() {
        let many = u64::MAX.to_le_bytes();
        let one = 1_u64.to_le_bytes();
        for body in
            [&many[..], &[one, many].concat(), &[one, one, [7; 8]].concat(), &[[0; 8], one, many].concat(), &[0; 17]]
        {
            let bytes = [MAGIC, body, Digest::of(body).as_bytes()].concat();
            assert_eq!(decoded(&bytes), None, "{body:?}");
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
            let bytes = encoded(&index);
            let start = std::time::Instant::now();
            assert!(decoded(&bytes).is_some());
            println!("{count} entries: {} bytes, loaded in {:?}", bytes.len(), start.elapsed());
        }
    }
}
