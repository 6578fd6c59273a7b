//! One entry as bytes: its tag, its attributes as variable-length numbers (LEB128), nothing named.

use std::collections::BTreeMap;

use crate::{IndexEntry, Kind, Metadata, Owner, RootPath, Timestamp};

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

/// Appends an entry.
pub(super) fn encode(entry: &IndexEntry, out: &mut Vec<u8>) {
    let IndexEntry::Present { metadata, hard_link, opaque } = entry else {
        out.push(WHITEOUT);
        return;
    };
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
    out.push(
        kind | flag(!metadata.xattrs.is_empty(), HAS_XATTRS)
            | flag(hard_link.is_some(), HAS_HARD_LINK)
            | flag(*opaque, IS_OPAQUE),
    );
    put_number(out, metadata.mode.into());
    put_number(out, metadata.owner.uid.into());
    put_number(out, metadata.owner.gid.into());
    // Zigzag, so that moments before 1970 are short too.
    put_number(out, ((metadata.mtime.seconds << 1) ^ (metadata.mtime.seconds >> 63)).cast_unsigned());
    put_number(out, metadata.mtime.nanoseconds.into());
    match &metadata.kind {
        Kind::File { size } => put_number(out, *size),
        Kind::Symlink { target } => put_bytes(out, target),
        Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            put_number(out, (*major).into());
            put_number(out, (*minor).into());
        }
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    if !metadata.xattrs.is_empty() {
        put_number(out, metadata.xattrs.len() as u64);
        for (name, value) in &metadata.xattrs {
            put_bytes(out, name);
            put_bytes(out, value);
        }
    }
    if let Some(path) = hard_link {
        put_bytes(out, path.as_bytes());
    }
}

/// The entry that all of the bytes are; `None` if they are none.
pub(super) fn decode(bytes: &[u8]) -> Option<IndexEntry> {
    let mut input = Input(bytes);
    let entry = input.entry()?;
    input.0.is_empty().then_some(entry)
}

/// Appends a number.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes that are read from the front.
pub(super) struct Input<'b>(pub(super) &'b [u8]);

impl<'b> Input<'b> {
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

    /// A number of bytes or the like.
    pub(super) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = self.length()?;
        self.take(length)
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
            true => Some(RootPath::from_normalised(self.bytes()?)?),
            false => None,
        };
        Some(IndexEntry::Present {
            metadata: Metadata { kind, mode, owner, mtime, xattrs },
            hard_link,
            opaque: tag & IS_OPAQUE != 0,
        })
    }
}
