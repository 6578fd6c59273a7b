//! The entries of a tar archive, one after the other.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use crate::{BLOCK_BYTES, Error, header::Header, name, pax::Extended};

/// The most bytes of an extended header or of a long name.
const EXTENSION_LIMIT_BYTES: u64 = 1 << 20;

/// A tar archive, read as a stream.
pub struct Archive<R> {
    source: R,
    /// Bytes of the current entry's content that nobody read, then of its padding.
    unread: u64,
    padding: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file with this many bytes, to be read from the archive.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link and where it points, as stored.
    Symlink(Vec<u8>),
    /// A hard link to an entry of the archive, by its relative name.
    HardLink(Vec<u8>),
    /// A character device.
    CharacterDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, without `.` and `..`; empty for the archive's root.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, 0o7777 at most.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> Archive<R> {
    /// Reads from the archive's first byte.
    pub fn new(source: R) -> Self {
        Self { source, unread: 0, padding: 0 }
    }

    /// The next entry; what was left of the last one's content is skipped.
    ///
    /// # Errors
    /// The archive can't be read on.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended: Option<Extended> = None;
        let (mut long_name, mut long_link): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        loop {
            self.skip_content()?;
            let Some(header) = self.next_header()? else {
                return match extended.is_some() || long_name.is_some() || long_link.is_some() {
                    true => Err(malformed("ends behind an extended header")),
                    false => Ok(None),
                };
            };
            // Two headers for one entry, or two ways of naming it: readers disagree on which one counts.
            let twice = || malformed("has two extended headers for one entry");
            match header.type_flag {
                b'x' if extended.is_some() || long_name.is_some() || long_link.is_some() => return Err(twice()),
                b'x' => extended = Some(Extended::parse(&self.extension(header.size)?)?),
                b'g' if extended.is_some() || long_name.is_some() || long_link.is_some() => return Err(twice()),
                b'g' => Extended::check_global(&self.extension(header.size)?)?,
                b'L' if extended.is_some() || long_name.is_some() => return Err(twice()),
                b'L' => long_name = Some(self.long_name(header.size)?),
                b'K' if extended.is_some() || long_link.is_some() => return Err(twice()),
                b'K' => long_link = Some(self.long_name(header.size)?),
                _ => {
                    let mut extended = extended.unwrap_or_default();
                    extended.path = long_name.or(extended.path);
                    extended.link_path = long_link.or(extended.link_path);
                    return self.entry(header, extended).map(Some);
                }
            }
        }
    }

    fn entry(&mut self, header: Header, extended: Extended) -> Result<Entry, Error> {
        let size = extended.size.unwrap_or(header.size);
        let raw_name = extended.path.unwrap_or(header.name);
        let link = extended.link_path.unwrap_or(header.link_name);
        let is_directory_name = raw_name.ends_with(b"/");
        let kind = match header.type_flag {
            // Before POSIX a directory was a file whose name ends with a slash.
            0 | b'0' if is_directory_name => EntryKind::Directory,
            0 | b'0' | b'7' => EntryKind::File(size),
            b'1' => EntryKind::HardLink(name::relative(&link)?),
            b'2' => EntryKind::Symlink(link),
            b'3' => EntryKind::CharacterDevice(header.major, header.minor),
            b'4' => EntryKind::BlockDevice(header.major, header.minor),
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err(Error::Unsupported("the archive has a sparse file, which is not supported".to_owned())),
            other => {
                let shown = char::from(other).escape_default();
                return Err(Error::Unsupported(format!("the archive has an entry of the unknown type `{shown}`")));
            }
        };
        match kind {
            EntryKind::File(size) => self.expect_content(size)?,
            // A size of what has no content says nothing about bytes in the archive (POSIX.1-2017, pax, `size`).
            EntryKind::HardLink(_) if size > 0 => return Err(malformed("has a hard link with content")),
            _ => {}
        }
        if matches!(&kind, EntryKind::Symlink(target) if target.is_empty() || target.contains(&0)) {
            return Err(malformed("has a symbolic link that points nowhere"));
        }
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id < u32::MAX);
        let ids = id(extended.uid.unwrap_or(header.uid)).zip(id(extended.gid.unwrap_or(header.gid)));
        let (uid, gid) = ids.ok_or_else(|| malformed("has an owner that is out of range"))?;
        Ok(Entry {
            name: name::relative(&raw_name)?,
            kind,
            mode: header.mode,
            uid,
            gid,
            mtime: extended.mtime.unwrap_or((header.mtime, 0)),
            xattrs: extended.xattrs,
        })
    }

    /// The next header; none at the end: a block of zeros, or nothing more.
    fn next_header(&mut self) -> Result<Option<Header>, Error> {
        let mut block = [0; BLOCK_BYTES];
        match self.read_block(&mut block)? {
            0 => Ok(None),
            BLOCK_BYTES if block.iter().all(|byte| *byte == 0) => Ok(None),
            BLOCK_BYTES => Header::parse(&block).map(Some),
            _ => Err(malformed("ends within a header")),
        }
    }

    fn read_block(&mut self, block: &mut [u8; BLOCK_BYTES]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.source.read(&mut block[filled..])? {
                0 => break,
                length => filled += length,
            }
        }
        Ok(filled)
    }

    /// The content of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > EXTENSION_LIMIT_BYTES {
            return Err(malformed("has an extended header that is too long"));
        }
        self.expect_content(size)?;
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut content = self.extension(size)?;
        let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
        content.truncate(end);
        Ok(content)
    }

    fn expect_content(&mut self, size: u64) -> Result<(), Error> {
        self.unread = size;
        self.padding = size.wrapping_neg() % BLOCK_BYTES as u64;
        if size > i64::MAX as u64 { Err(malformed("has an entry that is too large")) } else { Ok(()) }
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        let rest = self.unread + self.padding;
        (self.unread, self.padding) = (0, 0);
        let skipped = io::copy(&mut self.source.by_ref().take(rest), &mut io::sink())?;
        if skipped < rest { Err(malformed("ends within an entry")) } else { Ok(()) }
    }
}

/// The content of the current entry.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.unread).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let length = self.source.read(&mut buffer[..wanted])?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread -= length as u64;
        Ok(length)
    }
}

fn malformed(what: &str) -> Error {
    Error::Malformed(format!("the archive {what}"))
}
