//! What can go wrong with a layer.

use std::io;

use cofferdam_digest::Digest;
use cofferdam_rootfs::{RootPath, RootfsError};

use crate::SinkError;

/// A layer can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The place that the blob goes to failed.
    #[error("can't write the layer")]
    Write(#[source] io::Error),
    /// A file of the change set can't be opened.
    #[error("can't open `{path}` for the layer")]
    Source {
        /// Where it is to stand in the layer.
        path: RootPath,
        /// What its tree answered.
        #[source]
        source: RootfsError,
    },
    /// A file of the change set can't be read.
    #[error("can't read `{path}` for the layer")]
    SourceRead {
        /// Where it is to stand in the layer.
        path: String,
        /// The machine's answer.
        #[source]
        source: io::Error,
    },
    /// A file had another size than was announced: something changed it in the meantime.
    #[error(
        "`{path}` changed while it was read: it had {announced_bytes} bytes and now has {} {found_bytes}; build again \
         when nothing writes to it",
        if .found_bytes > .announced_bytes { "at least" } else { "only" }
    )]
    SourceSize {
        /// Where it is to stand in the layer.
        path: String,
        /// What its metadata say.
        announced_bytes: u64,
        /// What was read.
        found_bytes: u64,
    },
    /// The change set contradicts itself.
    #[error("the change of `{path}` {why}")]
    Inconsistent {
        /// The path of the change.
        path: RootPath,
        /// What is wrong.
        why: &'static str,
    },
    /// A name that means a removal in a layer.
    #[error("`{0}` can't be in an image: in layers, names that begin with `.wh.` stand for removed files; rename it")]
    ReservedName(RootPath),
    /// Something that the archive format can't hold.
    #[error("`{path}` can't be in a tar archive: {why}")]
    Unrepresentable {
        /// The entry.
        path: String,
        /// What doesn't fit.
        why: &'static str,
    },
    /// The blob can't be read or decompressed.
    #[error("can't read the layer")]
    Read(#[source] io::Error),
    /// A compression that layers don't have.
    #[error("the layer is compressed with {0}, which images can't use; only gzip, zstd and none are known")]
    UnknownCompression(&'static str),
    /// The archive itself is damaged.
    #[error("the layer's archive is damaged {offset_bytes} bytes from its beginning: {why}")]
    Malformed {
        /// Bytes from the beginning of the uncompressed archive.
        offset_bytes: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The archive ends in the middle of something.
    #[error("the layer's archive ends after {offset_bytes} bytes in the middle of an entry")]
    Truncated {
        /// Bytes from the beginning of the uncompressed archive.
        offset_bytes: u64,
    },
    /// An entry that can't be accepted.
    #[error("the layer's entry `{path}` {why}")]
    Entry {
        /// Its name as the archive has it.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A hard link that leads nowhere.
    #[error("the layer's entry `{path}` is a hard link to a path that this layer doesn't have before it: `{target}`")]
    HardLinkTarget {
        /// The link.
        path: RootPath,
        /// What it names.
        target: RootPath,
    },
    /// The uncompressed content isn't what the image's configuration says.
    #[error("the layer's DiffID is {actual}, expected {expected}")]
    DiffId {
        /// What the image's configuration says.
        expected: Digest,
        /// What was read.
        actual: Digest,
    },
    /// A bound of [`ReadLimits`](crate::ReadLimits) was exceeded.
    #[error("the layer has more than {limit} {what}, the limit for layers that are read")]
    Limit {
        /// What was counted, with its unit.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The receiver of the entries failed.
    #[error("can't take over `{path}` from the layer")]
    Sink {
        /// The entry.
        path: RootPath,
        /// The receiver's answer.
        #[source]
        source: SinkError,
    },
}

/// A name from an archive for a message: escaped, and cut where it gets too long for one line.
pub(crate) fn printable(name: &[u8]) -> String {
    let cut = &name[..name.len().min(300)];
    match std::str::from_utf8(cut) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => cut.escape_ascii().to_string(),
    }
}
