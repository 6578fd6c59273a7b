//! Archives that ADD unpacks, read as a stream from untrusted input: decompression, then tar.
//!
//! Nothing here touches a file system: entries come out, and whoever asked puts them somewhere. Every length that the
//! input claims is bounded before anything of that length is allocated.

mod compression;
mod header;
mod name;
mod pax;
mod tar;
mod zstd;

use std::io::{self, Read};

pub use compression::{Compression, decoder};
pub use header::is_header;
pub use tar::{Archive, Entry, EntryKind};

/// Bytes of a tar block (POSIX.1-2017, pax, "ustar Interchange Format").
pub const BLOCK_BYTES: usize = 512;

/// Why an archive could not be read on.
#[derive(Debug)]
pub enum Error {
    /// The input could not be read or decompressed.
    Read(io::Error),
    /// The archive is damaged, or made to be misunderstood; the text says how.
    Malformed(String),
    /// The archive uses something that this reader does not know; the text names it.
    Unsupported(String),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => write!(f, "it can't be read: {error}"),
            Self::Malformed(text) | Self::Unsupported(text) => f.write_str(text),
        }
    }
}

/// The archive in a file, if the file is one: tar, plain or compressed. `source` is a fresh reader of the whole file.
///
/// The content decides, never the name (Dockerfile reference, "ADD").
///
/// # Errors
/// The file can't be read. One that merely fails to decompress is not an archive.
pub fn open<'a>(mut source: impl Read + 'a) -> io::Result<Option<Archive<Box<dyn Read + 'a>>>> {
    let mut head = Vec::new();
    source.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut head)?;
    let compression = Compression::detect(&head);
    let whole = io::Cursor::new(head).chain(source);
    let mut decoded: Box<dyn Read + 'a> = match compression {
        None => Box::new(whole),
        Some(compression) => decoder(compression, whole),
    };
    let mut first = Vec::new();
    let outcome = decoded.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut first);
    if outcome.is_err() || !is_header(&first) {
        return Ok(None);
    }
    Ok(Some(Archive::new(Box::new(io::Cursor::new(first).chain(decoded)))))
}
