//! From blocks to entries: what POSIX, PAX and GNU headers say together about the next entry.
//!
//! An archive that two readers could understand in two ways is refused, not guessed at: that is how files were smuggled
//! past scanners (the "PAX desync" class of attacks).

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use cofferdam_rootfs::{Owner, Timestamp};

use crate::{
    LayerError, ReadLimits,
    error::printable,
    header::{self, BLOCK_BYTES, Block},
    pax::Records,
    read::DECORATION_BYTES,
    source::Source,
    whiteout::is_overlay_private,
};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    HardLink { target: Vec<u8> },
    Symlink { target: Vec<u8> },
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Directory,
    Fifo,
}

/// One entry, its names as the archive has them.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub name: Vec<u8>,
    pub kind: EntryKind,
    /// Bytes of content; 0 for everything but files.
    pub size: u64,
    pub mode: u32,
    pub owner: Owner,
    pub mtime: Timestamp,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Reads the entries of an archive one after the other.
pub(crate) struct Entries<'l, R: Read> {
    source: Source<R>,
    limits: &'l ReadLimits,
    globals: Records,
    /// Bytes of the current entry's content that were not read yet.
    remaining: u64,
    padding: u64,
    /// Why reading content failed: what passes through [`Read`] would lose it.
    failure: Option<LayerError>,
}

/// Headers that stand before the one that they change.
#[derive(Default)]
struct Extensions {
    pax: Option<Records>,
    gnu_name: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
}

impl<'l, R: Read> Entries<'l, R> {
    pub(crate) fn new(source: Source<R>, limits: &'l ReadLimits) -> Self {
        Self { source, limits, globals: Records::default(), remaining: 0, padding: 0, failure: None }
    }

    /// The next entry, `None` at the end of the archive. What was left of the last one's content is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        self.source.skip(self.remaining)?;
        self.source.skip(self.padding)?;
        (self.remaining, self.padding) = (0, 0);
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.block()? else {
                if extensions.pax.is_some() || extensions.gnu_name.is_some() || extensions.gnu_link.is_some() {
                    return Err(self.malformed("an extended header has no entry after it"));
                }
                return Ok(None);
            };
            match block.typeflag {
                b'x' => {
                    let records = self.records(&block)?;
                    self.set_once(&mut extensions.pax, records)?;
                }
                b'g' => self.set_globals(&block)?,
                b'L' => {
                    let name = self.long_name(&block)?;
                    self.set_once(&mut extensions.gnu_name, name)?;
                }
                b'K' => {
                    let name = self.long_name(&block)?;
                    self.set_once(&mut extensions.gnu_link, name)?;
                }
                _ => return self.entry(block, extensions).map(Some),
            }
        }
    }

    /// The content of the entry that [`Entries::next`] gave last.
    pub(crate) fn content(&mut self) -> Content<'_, 'l, R> {
        Content(self)
    }

    /// Why a read of content failed, if one did.
    pub(crate) fn take_failure(&mut self) -> Option<LayerError> {
        self.failure.take()
    }

    /// What the bytes come from, when the entries are done.
    pub(crate) fn into_source(self) -> Source<R> {
        self.source
    }

    /// The next header; `None` at the end mark (one block of zeros before the end of the file, or two) or the end of the
    /// file.
    fn block(&mut self) -> Result<Option<Block>, LayerError> {
        let Some(bytes) = self.raw_block()? else { return Ok(None) };
        if is_zero(&bytes) {
            return match self.raw_block()? {
                Some(second) if !is_zero(&second) => Err(self.malformed("there is a block of zeros between entries")),
                _ => Ok(None),
            };
        }
        header::decode(&bytes).map(Some).map_err(|why| self.malformed_before(why))
    }

    fn raw_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, LayerError> {
        let mut bytes = [0; BLOCK_BYTES];
        match self.source.read_full(&mut bytes)? {
            0 => Ok(None),
            BLOCK_BYTES => Ok(Some(bytes)),
            _ => Err(self.source.truncated()),
        }
    }

    fn set_once<T>(&self, slot: &mut Option<T>, value: T) -> Result<(), LayerError> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(self.malformed("two extended headers of one kind stand before one entry")),
        }
    }

    fn records(&mut self, block: &Block) -> Result<Records, LayerError> {
        let bytes = self.extension(block, self.limits.pax_bytes, "bytes in one extended header")?;
        Records::parse(&bytes).map_err(|why| self.malformed(why))
    }

    /// Global records reach every later entry in POSIX' own tar and none in Go's: those that would change what an entry is
    /// or where the next one begins are refused.
    fn set_globals(&mut self, block: &Block) -> Result<(), LayerError> {
        let records = self.records(block)?;
        let harmless = records.path.is_none()
            && records.link_path.is_none()
            && records.size.is_none()
            && records.xattrs.is_empty()
            && !records.sparse;
        if !harmless {
            return Err(self.malformed("a global extended header has names, sizes or attributes for all entries"));
        }
        let globals = &mut self.globals;
        globals.uid = records.uid.or(globals.uid);
        globals.gid = records.gid.or(globals.gid);
        globals.mtime = records.mtime.or(globals.mtime);
        Ok(())
    }

    fn long_name(&mut self, block: &Block) -> Result<Vec<u8>, LayerError> {
        let limit = self.limits.path_bytes.saturating_add(DECORATION_BYTES);
        let mut bytes = self.extension(block, limit, "bytes in a GNU long name")?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(self.malformed("a GNU long name is empty or has a NUL byte"));
        }
        Ok(bytes)
    }

    /// The content of a header that only speaks about the next one.
    fn extension(&mut self, block: &Block, limit: u64, what: &'static str) -> Result<Vec<u8>, LayerError> {
        if block.size > limit {
            return Err(LayerError::Limit { what, limit });
        }
        let mut bytes = vec![0; block.size as usize];
        if self.source.read_full(&mut bytes)? < bytes.len() {
            return Err(self.source.truncated());
        }
        self.source.skip(padding(block.size))?;
        Ok(bytes)
    }

    fn entry(&mut self, block: Block, extensions: Extensions) -> Result<Entry, LayerError> {
        let pax = extensions.pax.unwrap_or_default();
        let name = agree(pax.path, extensions.gnu_name, block.name)?;
        let error = |why| LayerError::Entry { path: printable(&name), why };
        let link = agree(pax.link_path, extensions.gnu_link, block.link_name)?;
        let size = pax.size.unwrap_or(block.size);
        let device = || {
            let number = |part| u32::try_from(part).map_err(|_| error("has a device number of more than 32 bits"));
            Ok((number(block.device_major)?, number(block.device_minor)?))
        };
        if pax.sparse || block.typeflag == b'S' {
            return Err(error("is stored as a sparse file, which images can't have; pack it without `--sparse`"));
        }
        let slash = name.ends_with(b"/");
        let kind = match block.typeflag {
            // Before POSIX a slash at the end was what made a directory.
            0 if slash => EntryKind::Directory,
            // Here some readers make a file and some a directory.
            b'0' | b'7' if slash => return Err(error("is a regular file with the name of a directory")),
            0 | b'0' | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink { target: link },
            b'2' => EntryKind::Symlink { target: link },
            b'3' => device().map(|(major, minor)| EntryKind::CharacterDevice { major, minor })?,
            b'4' => device().map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'M' | b'V' | b'D' | b'N' => return Err(error("belongs to a GNU multi-volume or incremental archive")),
            _ => return Err(error("is of a kind that images don't have")),
        };
        // Some readers skip such content, others take it for the next header.
        if size > 0 && kind != EntryKind::File {
            return Err(error("has content although it is not a regular file"));
        }
        if let EntryKind::Symlink { target } | EntryKind::HardLink { target } = &kind {
            if target.is_empty() {
                return Err(error("is a link to nothing"));
            }
            if target.len() as u64 > self.limits.path_bytes {
                return Err(LayerError::Limit { what: "bytes in the target of a link", limit: self.limits.path_bytes });
            }
        }
        let mut xattrs = pax.xattrs;
        let xattr_bytes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if xattr_bytes as u64 > self.limits.xattr_bytes {
            let what = "bytes in the extended attributes of one entry";
            return Err(LayerError::Limit { what, limit: self.limits.xattr_bytes });
        }
        xattrs.retain(|name, _| !is_overlay_private(name));
        let id = |pax: Option<u32>, global: Option<u32>, header| match pax.or(global) {
            Some(id) => Ok(id),
            None => u32::try_from(header).map_err(|_| error("has a uid or gid of more than 32 bits")),
        };
        let mtime = Timestamp { seconds: block.mtime, nanoseconds: 0 };
        let entry = Entry {
            kind,
            size,
            mode: (block.mode & 0o7777) as u32,
            owner: Owner {
                uid: id(pax.uid, self.globals.uid, block.uid)?,
                gid: id(pax.gid, self.globals.gid, block.gid)?,
            },
            mtime: pax.mtime.or(self.globals.mtime).unwrap_or(mtime),
            xattrs,
            name,
        };
        (self.remaining, self.padding) = (entry.size, padding(entry.size));
        Ok(entry)
    }

    fn malformed(&self, why: &'static str) -> LayerError {
        LayerError::Malformed { offset_bytes: self.source.offset(), why }
    }

    fn malformed_before(&self, why: &'static str) -> LayerError {
        LayerError::Malformed { offset_bytes: self.source.offset() - BLOCK_BYTES as u64, why }
    }
}

/// The content of one entry.
pub(crate) struct Content<'a, 'l, R: Read>(&'a mut Entries<'l, R>);

impl<R: Read> Read for Content<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let entries = &mut *self.0;
        if entries.failure.is_some() {
            return Err(io::Error::other("the layer can't be read any further"));
        }
        if entries.remaining == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let failure = match entries.source.fill() {
            Ok([]) => entries.source.truncated(),
            Ok(bytes) => {
                let count = (bytes.len().min(buffer.len()) as u64).min(entries.remaining) as usize;
                buffer[..count].copy_from_slice(&bytes[..count]);
                entries.source.consume(count);
                entries.remaining -= count as u64;
                return Ok(count);
            }
            Err(error) => error,
        };
        let error = io::Error::new(io::ErrorKind::InvalidData, failure.to_string());
        entries.failure = Some(failure);
        Err(error)
    }
}

/// The name of an entry: PAX before GNU before the header; two extended ones must be the same.
fn agree(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>, header: Vec<u8>) -> Result<Vec<u8>, LayerError> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => {
            Err(LayerError::Entry { path: printable(&pax), why: "has a PAX name and a GNU long name that differ" })
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(header),
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK_BYTES as u64 - size % BLOCK_BYTES as u64) % BLOCK_BYTES as u64
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
