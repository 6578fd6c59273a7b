//! What the layers of a stage have, as one file that can be searched without being read: the entries of their merged
//! index, each directory's children side by side.
//!
//! The engine writes it for a step, the translator maps names to entries with it. Numbers are little-endian; both ends
//! are this program.

use std::{collections::BTreeMap, io, path::Path};

use crate::{DeviceNode, Recorded, journal::mode_on_disk};

/// The number of an entry; the root is 0.
pub type EntryNumber = u32;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BelowKind {
    /// A directory.
    Directory,
    /// A regular file with so many bytes, which the unpacked layer with this number has under the same path.
    File {
        /// Bytes.
        size: u64,
        /// Counted from the base.
        layer: u32,
    },
    /// A symlink with this target.
    Symlink(Vec<u8>),
    /// A fifo.
    Fifo,
    /// A device.
    Device(DeviceNode),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BelowEntry {
    /// What it is.
    pub kind: BelowKind,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits: 0o7777 at most.
    pub mode: u32,
    /// Seconds and nanoseconds of the last change.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// How many names its layer has for the file.
    pub links: u32,
}

impl BelowEntry {
    /// What a journal has to say of it where it is made on a disk; `None` if the disk says it all.
    pub fn recorded(&self) -> Option<Recorded> {
        let directory = self.kind == BelowKind::Directory;
        let device = match self.kind {
            BelowKind::Device(device) => Some(device),
            _ => None,
        };
        let mut xattrs = self.xattrs.clone();
        xattrs.retain(|name, _| !name.starts_with(b"user."));
        let mode_is_real =
            matches!(self.kind, BelowKind::Symlink(_)) || mode_on_disk(self.mode, directory) == self.mode;
        let ordinary = self.uid == 0 && self.gid == 0 && mode_is_real && device.is_none() && xattrs.is_empty();
        (!ordinary).then_some(Recorded { uid: self.uid, gid: self.gid, mode: self.mode, device, xattrs })
    }
}

/// All entries.
#[derive(Debug)]
pub struct Below {
    count: usize,
    bytes: Vec<u8>,
}

const MAGIC: &[u8; 8] = b"cfbelow1";
const HEADER_BYTES: usize = 16;
/// What the words of 32 bits in an entry's record are. Two words make a number of 64 bits, the low one first.
mod word {
    pub const PARENT: usize = 0;
    /// Two words, as all that is variable: the place in the heap, and how many bytes there are.
    pub const NAME: usize = 1;
    pub const KIND: usize = 3;
    pub const MODE: usize = 4;
    pub const UID: usize = 5;
    pub const GID: usize = 6;
    /// Two words; of a device, the major and the minor number.
    pub const SIZE: usize = 7;
    /// Two words.
    pub const MTIME_SECONDS: usize = 9;
    pub const MTIME_NANOSECONDS: usize = 11;
    pub const FIRST_CHILD: usize = 12;
    pub const CHILDREN: usize = 13;
    pub const LAYER: usize = 14;
    /// Two words.
    pub const TARGET: usize = 15;
    /// Two words.
    pub const XATTRS: usize = 17;
    pub const LINKS: usize = 19;
    pub const COUNT: usize = 20;
}

const DIRECTORY: u32 = 0;
const FILE: u32 = 1;
const SYMLINK: u32 = 2;
const FIFO: u32 = 3;
const CHARACTER_DEVICE: u32 = 4;
const BLOCK_DEVICE: u32 = 5;

impl Below {
    /// Gathers a tree: `children` names what is in a directory, sorted by bytes, given its path without a slash before it.
    ///
    /// # Errors
    /// `InvalidInput`: there is more than numbers of 32 bits can count.
    pub fn gather(
        root: &BelowEntry,
        mut children: impl FnMut(&[u8]) -> Vec<(Vec<u8>, BelowEntry)>,
    ) -> io::Result<Self> {
        let mut records: Vec<[u32; word::COUNT]> = Vec::new();
        let mut heap = Vec::new();
        let mut paths: Vec<Option<Vec<u8>>> = Vec::new();
        let mut add = |records: &mut Vec<[u32; word::COUNT]>, parent: u32, name: &[u8], entry: &BelowEntry| {
            let record = record(&mut heap, parent, name, entry)?;
            records.push(record);
            io::Result::Ok(())
        };
        add(&mut records, 0, b"", root)?;
        paths.push(Some(Vec::new()));
        let mut next = 0;
        while next < records.len() {
            let parent = number(next)?;
            if let Some(path) = paths[next].take() {
                let first = records.len();
                for (name, entry) in children(&path) {
                    add(&mut records, parent, &name, &entry)?;
                    let directory = entry.kind == BelowKind::Directory;
                    let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    paths.push(directory.then(|| [path.as_slice(), separator, name.as_slice()].concat()));
                }
                records[next][word::FIRST_CHILD] = number(first)?;
                records[next][word::CHILDREN] = number(records.len() - first)?;
            }
            next += 1;
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + records.len() * word::COUNT * 4 + heap.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(records.len() as u64).to_le_bytes());
        for word in records.iter().flatten() {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&heap);
        Ok(Self { count: records.len(), bytes })
    }

    /// Reads a file that [`Below::save`] wrote.
    ///
    /// # Errors
    /// It can't be read, or is not one.
    pub fn load(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "is not a table of what the layers have");
        let count = bytes.get(8..HEADER_BYTES).filter(|_| bytes.starts_with(MAGIC)).ok_or_else(wrong)?;
        let count = u64::from_le_bytes(count.try_into().map_err(|_| wrong())?) as usize;
        let whole = count.checked_mul(word::COUNT * 4).and_then(|records| records.checked_add(HEADER_BYTES));
        if count == 0 || whole.is_none_or(|end| end > bytes.len()) {
            return Err(wrong());
        }
        Ok(Self { count, bytes })
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, &self.bytes)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The directory that holds an entry; the root's is the root.
    pub fn parent(&self, entry: EntryNumber) -> EntryNumber {
        self.word(entry, word::PARENT)
    }

    /// The name of an entry.
    pub fn name(&self, entry: EntryNumber) -> &[u8] {
        self.heap(entry, word::NAME)
    }

    /// The entries in a directory.
    pub fn children(&self, directory: EntryNumber) -> std::ops::Range<EntryNumber> {
        let first = self.word(directory, word::FIRST_CHILD);
        first..first + self.word(directory, word::CHILDREN)
    }

    /// The entry with a name in a directory.
    pub fn child(&self, directory: EntryNumber, name: &[u8]) -> Option<EntryNumber> {
        let std::ops::Range { mut start, mut end } = self.children(directory);
        while start < end {
            let middle = start + (end - start) / 2;
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => start = middle + 1,
                std::cmp::Ordering::Greater => end = middle,
            }
        }
        None
    }

    /// The path of an entry, without a slash before it.
    pub fn path(&self, entry: EntryNumber) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = entry;
        while at != 0 {
            names.push(self.name(at));
            at = self.parent(at);
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Whether an entry is a directory.
    pub fn is_directory(&self, entry: EntryNumber) -> bool {
        self.word(entry, word::KIND) == DIRECTORY
    }

    /// The size of a file and the number of its layer; `None` if it is no file.
    pub fn file(&self, entry: EntryNumber) -> Option<(u64, u32)> {
        (self.word(entry, word::KIND) == FILE)
            .then(|| (self.two_words(entry, word::SIZE), self.word(entry, word::LAYER)))
    }

    /// How many names the layer of a file has for it.
    pub fn links(&self, entry: EntryNumber) -> u32 {
        self.word(entry, word::LINKS)
    }

    /// All that is known of an entry.
    pub fn entry(&self, entry: EntryNumber) -> BelowEntry {
        let size = self.two_words(entry, word::SIZE);
        let device = |block| {
            BelowKind::Device(DeviceNode {
                block,
                major: self.word(entry, word::SIZE),
                minor: self.word(entry, word::SIZE + 1),
            })
        };
        let kind = match self.word(entry, word::KIND) {
            FILE => BelowKind::File { size, layer: self.word(entry, word::LAYER) },
            SYMLINK => BelowKind::Symlink(self.heap(entry, word::TARGET).to_vec()),
            FIFO => BelowKind::Fifo,
            CHARACTER_DEVICE => device(false),
            BLOCK_DEVICE => device(true),
            _ => BelowKind::Directory,
        };
        let xattrs = match self.heap(entry, word::XATTRS) {
            b"" => BTreeMap::new(),
            bytes => serde_json::from_slice::<Vec<(Vec<u8>, Vec<u8>)>>(bytes).unwrap_or_default().into_iter().collect(),
        };
        BelowEntry {
            kind,
            mode: self.word(entry, word::MODE),
            uid: self.word(entry, word::UID),
            gid: self.word(entry, word::GID),
            mtime: (self.two_words(entry, word::MTIME_SECONDS) as i64, self.word(entry, word::MTIME_NANOSECONDS)),
            xattrs,
            links: self.links(entry),
        }
    }

    fn word(&self, entry: EntryNumber, word: usize) -> u32 {
        let at = HEADER_BYTES + (entry as usize * word::COUNT + word) * 4;
        let bytes = self.bytes.get(at..at + 4).filter(|_| (entry as usize) < self.count);
        bytes.map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    fn two_words(&self, entry: EntryNumber, word: usize) -> u64 {
        u64::from(self.word(entry, word)) | u64::from(self.word(entry, word + 1)) << 32
    }

    /// The bytes that two words of a record say the place and the length of.
    fn heap(&self, entry: EntryNumber, word: usize) -> &[u8] {
        let (offset, length) = (self.word(entry, word) as usize, self.word(entry, word + 1) as usize);
        let start = HEADER_BYTES + self.count * word::COUNT * 4 + offset;
        self.bytes.get(start..start + length).unwrap_or_default()
    }
}

/// The words of an entry, whose variable parts go to the heap.
fn record(heap: &mut Vec<u8>, parent: u32, name: &[u8], entry: &BelowEntry) -> io::Result<[u32; word::COUNT]> {
    let mut words = [0; word::COUNT];
    let mut keep = |words: &mut [u32; word::COUNT], word: usize, bytes: &[u8]| {
        words[word] = number(heap.len())?;
        words[word + 1] = number(bytes.len())?;
        heap.extend_from_slice(bytes);
        io::Result::Ok(())
    };
    words[word::PARENT] = parent;
    keep(&mut words, word::NAME, name)?;
    words[word::MODE] = entry.mode;
    words[word::UID] = entry.uid;
    words[word::GID] = entry.gid;
    words[word::MTIME_SECONDS] = entry.mtime.0 as u32;
    words[word::MTIME_SECONDS + 1] = (entry.mtime.0 >> 32) as u32;
    words[word::MTIME_NANOSECONDS] = entry.mtime.1;
    words[word::LINKS] = entry.links;
    if !entry.xattrs.is_empty() {
        let pairs: Vec<(&Vec<u8>, &Vec<u8>)> = entry.xattrs.iter().collect();
        keep(&mut words, word::XATTRS, &serde_json::to_vec(&pairs)?)?;
    }
    words[word::KIND] = match &entry.kind {
        BelowKind::Directory => DIRECTORY,
        BelowKind::File { size, layer } => {
            words[word::SIZE] = *size as u32;
            words[word::SIZE + 1] = (*size >> 32) as u32;
            words[word::LAYER] = *layer;
            FILE
        }
        BelowKind::Symlink(target) => {
            keep(&mut words, word::TARGET, target)?;
            SYMLINK
        }
        BelowKind::Fifo => FIFO,
        BelowKind::Device(DeviceNode { block, major, minor }) => {
            words[word::SIZE] = *major;
            words[word::SIZE + 1] = *minor;
            if *block { BLOCK_DEVICE } else { CHARACTER_DEVICE }
        }
    };
    Ok(words)
}

fn number(count: usize) -> io::Result<u32> {
    count.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the layers have too many entries"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(kind: BelowKind) -> BelowEntry {
        BelowEntry { kind, uid: 0, gid: 0, mode: 0o755, mtime: (0, 0), xattrs: BTreeMap::new(), links: 1 }
    }

    #[test]
    fn every_entry_is_found_by_its_path_and_keeps_all_that_it_has() {
        let special = BelowEntry {
            uid: 7,
            gid: 8,
            mode: 0o4711,
            mtime: (-5, 999),
            xattrs: BTreeMap::from([(b"security.capability".to_vec(), vec![1, 0, 255])]),
            links: 3,
            kind: BelowKind::File { size: 1 << 40, layer: 9 },
        };
        let device = plain(BelowKind::Device(DeviceNode { block: true, major: 8, minor: 1 }));
        let below = Below::gather(&plain(BelowKind::Directory), |path| match path {
            b"" => vec![
                (b"a".to_vec(), plain(BelowKind::Directory)),
                (b"b".to_vec(), plain(BelowKind::Symlink(b"a/deep".to_vec()))),
            ],
            b"a" => vec![(b"deep".to_vec(), plain(BelowKind::Directory)), (b"disk".to_vec(), device.clone())],
            b"a/deep" => vec![(b"file".to_vec(), special.clone()), (b"pipe".to_vec(), plain(BelowKind::Fifo))],
            other => panic!("{other:?} is no directory"),
        })
        .unwrap();
        let at = |path: &str| path.split('/').try_fold(0, |at, name| below.child(at, name.as_bytes()));
        assert_eq!(below.entry(at("a/deep/file").unwrap()), special);
        assert_eq!(below.entry(at("a/disk").unwrap()), device);
        assert_eq!(below.entry(at("b").unwrap()).kind, BelowKind::Symlink(b"a/deep".to_vec()));
        assert_eq!(below.path(at("a/deep/pipe").unwrap()), b"a/deep/pipe");
        assert_eq!(below.len(), 7);
        assert_eq!((at("a/dee"), at("b/x"), at("c")), (None, None, None));
    }

    #[test]
    fn a_file_that_is_cut_short_is_refused() {
        let below = Below::gather(&plain(BelowKind::Directory), |_| Vec::new()).unwrap();
        let path = std::env::temp_dir().join(format!("cofferdam-below-{}", std::process::id()));
        std::fs::write(&path, &below.bytes[..below.bytes.len() - 4]).unwrap();
        assert!(Below::load(&path).is_err());
        std::fs::remove_file(path).unwrap();
    }
}
