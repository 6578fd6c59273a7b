//! A layer becomes an index, and whatever its receiver makes of it.

use std::io::Read;

use cofferdam_digest::Digest;
use cofferdam_rootfs::{IndexEntry, Kind, LayerIndex, Metadata, RootPath};

use crate::{
    LayerError,
    assembly::{Assembly, Touched},
    compression::Format,
    entries::{Entries, Entry, EntryKind},
    error::printable,
    source::Source,
    whiteout::{self, Name},
};

/// Why a receiver could not take an entry.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Receives the entries of a layer as they come.
///
/// A call says what stands at `path` from now on. If it and what it replaces are both directories, what they contain
/// stays; otherwise what stood there, an earlier whiteout included, is gone with everything beneath it. A path may be told
/// several times: archives may have entries twice (the later wins), and a directory is told again when it turns out to be
/// opaque. Parents that were not told are directories of mode 0755, owner 0:0. No path lies beneath one that was told to
/// be something else than a directory, and hard links name paths that were told before; so a receiver that works
/// *beneath* a directory never meets a symlink of the layer on the way.
pub trait LayerSink {
    /// Takes an entry. `content` is there for regular files that are no hard links; what is not read of it is passed over.
    ///
    /// # Errors
    /// Whatever made it impossible; reading ends.
    fn entry(&mut self, path: &RootPath, entry: &IndexEntry, content: Option<&mut dyn Read>) -> Result<(), SinkError>;
}

/// Takes nothing: for whoever wants the index only.
#[derive(Debug, Clone, Copy, Default)]
pub struct IndexOnly;

impl LayerSink for IndexOnly {
    fn entry(&mut self, _: &RootPath, _: &IndexEntry, _: Option<&mut dyn Read>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Bounds for reading layers, which come from strangers. Writing has none of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadLimits {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of the uncompressed archive.
    pub uncompressed_bytes: u64,
    /// Bytes of the uncompressed archive where there are more than `suspicious_ratio` for each compressed one.
    pub suspicious_bytes: u64,
    /// More is what bombs have, and layers of zeros. Programs and data stay below 20; deflate reaches 1032, zstd much more.
    pub suspicious_ratio: u64,
    /// Bytes of a name, or of a link's target. At most 4096 have an effect: the kernel's PATH_MAX.
    pub path_bytes: u64,
    /// Bytes of one PAX header.
    pub pax_bytes: u64,
    /// Bytes of names and values of one entry's extended attributes.
    pub xattr_bytes: u64,
    /// Bytes of memory that the index takes, roughly.
    pub index_bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            uncompressed_bytes: 256 << 30,
            // A layer of zeros that somebody needs is smaller, and a bomb ends after some seconds.
            suspicious_bytes: 8 << 30,
            suspicious_ratio: 200,
            path_bytes: 4096,
            pax_bytes: 1 << 20,
            xattr_bytes: 512 << 10,
            index_bytes: 192 << 20,
        }
    }
}

/// What a name may have beyond its path: `./` before it, a slash behind it, the mark of a whiteout; in bytes.
pub(crate) const DECORATION_BYTES: u64 = 16;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadLayer {
    /// The digest of the uncompressed bytes, up to the last one.
    pub diff_id: Digest,
    /// Everything but the content of files. A kept file that is a hard link of another one has no content here.
    pub index: LayerIndex,
    /// What the blob is compressed with.
    pub format: Format,
    /// Bytes of the blob.
    pub size_bytes: u64,
    /// Bytes of the uncompressed archive.
    pub uncompressed_size_bytes: u64,
}

/// Reads a layer to its last byte, whatever its format, and hands its entries to `sink`. The digest of the *blob* is the
/// caller's to verify ([`VerifyingReader`](cofferdam_digest::VerifyingReader)).
///
/// Names are taken as every other builder takes them: a leading `/` or `./` means nothing, `..` is resolved. Whiteouts
/// (`.wh.NAME`, `.wh..wh..opq`) become what they mean; other names of aufs (`.wh..wh.*`) are ignored. Of extended
/// attributes those of overlayfs itself are left out.
///
/// # Errors
/// [`LayerError::DiffId`] if `expected_diff_id` is another one, found at the end: what `sink` made until then, or until any
/// other error, must be thrown away. [`LayerError::Limit`] for each bound. [`LayerError::Malformed`],
/// [`LayerError::Truncated`], [`LayerError::Entry`] and [`LayerError::HardLinkTarget`] for archives that are damaged,
/// climb out, or could be understood in two ways; [`LayerError::Read`], [`LayerError::UnknownCompression`],
/// [`LayerError::Sink`]. Never panics, whatever the blob.
pub fn read_layer<R: Read>(
    blob: R,
    expected_diff_id: Option<Digest>,
    limits: &ReadLimits,
    sink: &mut dyn LayerSink,
) -> Result<ReadLayer, LayerError> {
    read(Source::new(blob, limits)?, expected_diff_id, limits, sink)
}

/// As [`read_layer`], of an archive that is known not to be compressed, whatever its first bytes look like.
///
/// # Errors
/// As [`read_layer`].
pub fn read_archive<R: Read>(
    archive: R,
    expected_diff_id: Option<Digest>,
    limits: &ReadLimits,
    sink: &mut dyn LayerSink,
) -> Result<ReadLayer, LayerError> {
    read(Source::of_archive(archive, limits), expected_diff_id, limits, sink)
}

fn read<R: Read>(
    source: Source<R>,
    expected_diff_id: Option<Digest>,
    limits: &ReadLimits,
    sink: &mut dyn LayerSink,
) -> Result<ReadLayer, LayerError> {
    let mut entries = Entries::new(source, limits);
    let mut assembly = Assembly::new(limits.entries, limits.index_bytes);
    while let Some(entry) = entries.next()? {
        assembly.count()?;
        accept(entry, &mut entries, &mut assembly, limits, sink)?;
    }
    let mut source = entries.into_source();
    source.drain()?;
    let (diff_id, uncompressed_size_bytes, size_bytes, format) = source.finish();
    match expected_diff_id {
        Some(expected) if expected != diff_id => Err(LayerError::DiffId { expected, actual: diff_id }),
        _ => Ok(ReadLayer { diff_id, index: assembly.finish(), format, size_bytes, uncompressed_size_bytes }),
    }
}

fn accept<R: Read>(
    entry: Entry,
    entries: &mut Entries<'_, R>,
    assembly: &mut Assembly,
    limits: &ReadLimits,
    sink: &mut dyn LayerSink,
) -> Result<(), LayerError> {
    match meaning(&entry.name, limits)? {
        Meaning::Nothing => Ok(()),
        Meaning::Opaque(directory) => {
            let touched = assembly.opaque(directory)?;
            tell(&touched, assembly, sink)
        }
        Meaning::Whiteout(removed) => {
            let touched = assembly.whiteout(removed)?;
            tell(&touched, assembly, sink)
        }
        Meaning::Entry(path) => put(path, entry, entries, assembly, limits, sink),
    }
}

fn put<R: Read>(
    path: RootPath,
    entry: Entry,
    entries: &mut Entries<'_, R>,
    assembly: &mut Assembly,
    limits: &ReadLimits,
    sink: &mut dyn LayerSink,
) -> Result<(), LayerError> {
    let kind = match entry.kind {
        EntryKind::HardLink { target } => {
            let touched = assembly.hard_link(path, normalise(&target, limits)?)?;
            return tell(&touched, assembly, sink);
        }
        EntryKind::File => Kind::File { size: entry.size },
        EntryKind::Symlink { target } => Kind::Symlink { target },
        EntryKind::CharacterDevice { major, minor } => Kind::CharacterDevice { major, minor },
        EntryKind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        EntryKind::Directory => Kind::Directory,
        EntryKind::Fifo => Kind::Fifo,
    };
    let is_file = matches!(kind, Kind::File { .. });
    let metadata = Metadata { kind, mode: entry.mode, owner: entry.owner, mtime: entry.mtime, xattrs: entry.xattrs };
    let mut touched = assembly.put(path.clone(), metadata)?;
    if !is_file {
        return tell(&touched, assembly, sink);
    }
    touched.pop();
    tell(&touched, assembly, sink)?;
    let Some(stands) = assembly.get(&path) else { return Ok(()) };
    let keep = entry.size <= LayerIndex::KEPT_CONTENT_LIMIT
        && LayerIndex::KEPT_CONTENTS.iter().any(|kept| kept.as_bytes() == path.as_bytes());
    if !keep {
        let told = sink.entry(&path, &stands, Some(&mut entries.content()));
        return finish(entries, told, &path);
    }
    let mut bytes = Vec::new();
    let read = entries.content().read_to_end(&mut bytes).map(drop).map_err(SinkError::from);
    finish(entries, read, &path)?;
    sink.entry(&path, &stands, Some(&mut &bytes[..]))
        .map_err(|source| LayerError::Sink { path: path.clone(), source })?;
    assembly.keep_content(path, bytes);
    Ok(())
}

/// A failure of the blob counts before what the receiver made of it.
fn finish<R: Read>(
    entries: &mut Entries<'_, R>,
    told: Result<(), SinkError>,
    path: &RootPath,
) -> Result<(), LayerError> {
    match entries.take_failure() {
        Some(failure) => Err(failure),
        None => told.map_err(|source| LayerError::Sink { path: path.clone(), source }),
    }
}

fn tell(touched: &Touched, assembly: &Assembly, sink: &mut dyn LayerSink) -> Result<(), LayerError> {
    for path in touched {
        if let Some(entry) = assembly.get(path) {
            sink.entry(path, &entry, None).map_err(|source| LayerError::Sink { path: path.clone(), source })?;
        }
    }
    Ok(())
}

/// What the name of an entry means for a layer.
enum Meaning {
    Entry(RootPath),
    Opaque(RootPath),
    Whiteout(RootPath),
    Nothing,
}

fn meaning(name: &[u8], limits: &ReadLimits) -> Result<Meaning, LayerError> {
    let error = |why| LayerError::Entry { path: printable(name), why };
    let mut components = components(name, limits)?;
    // Looked at before it becomes a path: the whiteout of a name of 255 bytes is longer than a name can be.
    let Some(last) = components.pop() else { return Ok(Meaning::Entry(RootPath::root())) };
    for component in &components {
        match whiteout::classify(component) {
            Name::Ordinary => {}
            Name::Ignored => return Ok(Meaning::Nothing),
            _ => return Err(error("lies beneath a name that stands for a removal")),
        }
    }
    let mut with = |last| {
        components.push(last);
        RootPath::new(components.join(&b'/')).map_err(|_| error(UNUSABLE))
    };
    match whiteout::classify(last) {
        Name::Ordinary => with(last).map(Meaning::Entry),
        Name::Ignored => Ok(Meaning::Nothing),
        Name::Invalid => Err(error("is a whiteout without the name of what it removes")),
        Name::Opaque => with(b"").map(Meaning::Opaque),
        Name::Whiteout(removed) => with(removed).map(Meaning::Whiteout),
    }
}

const UNUSABLE: &str = "has a name that is too long or has a NUL byte";

/// The path that a name in an archive means.
fn normalise(name: &[u8], limits: &ReadLimits) -> Result<RootPath, LayerError> {
    let components = components(name, limits)?;
    RootPath::new(components.join(&b'/')).map_err(|_| LayerError::Entry { path: printable(name), why: UNUSABLE })
}

/// The components of a name in an archive. `..` is resolved by the text alone, as no path here leads through a symlink.
fn components<'a>(name: &'a [u8], limits: &ReadLimits) -> Result<Vec<&'a [u8]>, LayerError> {
    let error = |why| LayerError::Entry { path: printable(name), why };
    if name.len() as u64 > limits.path_bytes.saturating_add(DECORATION_BYTES) {
        return Err(LayerError::Limit { what: "bytes in a name", limit: limits.path_bytes });
    }
    if name.is_empty() {
        return Err(error("has no name"));
    }
    let mut components = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if components.pop().is_none() => return Err(error("climbs out of the root by `..`")),
            b".." => {}
            _ => components.push(component),
        }
    }
    Ok(components)
}
