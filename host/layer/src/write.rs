//! A step's changes become a layer.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::Arc,
};

use cofferdam_digest::{Digest, HashingWriter};
use cofferdam_rootfs::{
    Change, ChangeSet, Content, IndexEntry, Kind, LayerIndex, Metadata, Owner, RootPath, Timestamp,
};

use crate::{
    LayerError,
    blocks::{BlockIndex, EarlierBlocks},
    compression::{Compression, Encoder},
    cuts::Cuts,
    tar::{Member, MemberKind, Writer},
    whiteout,
};

/// Files get their times from the kernel's coarse clock, which is behind the clock that programs ask for by up to a tick,
/// 10 ms at most: a file that the build itself wrote may look that much older than the build.
const CLOCK_TICK_NS: i128 = 10_000_000;

/// How a layer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// What the archive is compressed with.
    pub compression: Compression,
    /// Stands for every time that the build itself caused; only the seconds count.
    pub epoch: Timestamp,
    /// The start of the build: every mtime later than this (or less than a clock tick, 10 ms, before it) becomes `epoch`.
    pub clamp_after: Timestamp,
    /// Keeps all times as they are.
    pub timestamps_real: bool,
}

/// The default compression, and all times 0.
impl Default for WriteOptions {
    fn default() -> Self {
        let zero = Timestamp::default();
        Self { compression: Compression::default(), epoch: zero, clamp_after: zero, timestamps_real: false }
    }
}

/// What became of the changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenLayer {
    /// The digest of the uncompressed archive (OCI image specification, config.md, "Layer DiffID").
    pub diff_id: Digest,
    /// The digest of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size_bytes: u64,
    /// Bytes of the archive.
    pub uncompressed_size_bytes: u64,
    /// As it was asked for.
    pub compression: Compression,
    /// What [`read_layer`](crate::read_layer) would find in it.
    pub index: LayerIndex,
    /// Sockets, and other names of them, are left out: an archive can't hold them. Sorted.
    pub skipped_sockets: Vec<RootPath>,
}

/// Writes the layer of `changes` to `out`, in one pass: archive → DiffID → compression → digest. The same changes and
/// options give the same bytes. Times are whole seconds. Gives `out` back, not flushed.
///
/// # Errors
/// [`LayerError::Source`], [`LayerError::SourceRead`] and [`LayerError::SourceSize`] for files that can't be read or
/// changed meanwhile; [`LayerError::ReservedName`] for names with the prefix `.wh.`; [`LayerError::Inconsistent`] if the
/// changes contradict each other; [`LayerError::Unrepresentable`]; [`LayerError::Write`].
pub fn write_layer<W: Write>(
    changes: &ChangeSet,
    options: &WriteOptions,
    out: W,
) -> Result<(WrittenLayer, W), LayerError> {
    write(changes, options, None, out, &mut |_| ()).map(|(written, _, out)| (written, out))
}

/// As [`write_layer`], and the same bytes, made with less work if `earlier` has blocks of them. Gives the index of the
/// layer's own blocks for the next time. `watch` hears how many bytes of the archive are written, again and again. They
/// reach about [`archive_size_bytes`].
///
/// # Errors
/// As [`write_layer`].
pub fn write_layer_again<W: Write>(
    changes: &ChangeSet,
    options: &WriteOptions,
    earlier: EarlierBlocks,
    out: W,
    watch: &mut dyn FnMut(u64),
) -> Result<(WrittenLayer, BlockIndex, W), LayerError> {
    write(changes, options, Some(Arc::new(earlier)), out, watch)
}

fn write<W: Write>(
    changes: &ChangeSet,
    options: &WriteOptions,
    earlier: Option<Arc<EarlierBlocks>>,
    out: W,
    watch: &mut dyn FnMut(u64),
) -> Result<(WrittenLayer, BlockIndex, W), LayerError> {
    let out = HashingWriter::new(out);
    let encoder = Encoder::reusing(out, options.compression, earlier).map_err(LayerError::Write)?;
    let mut layer = LayerWriter {
        // No buffer between: the encoders collect, and hashing 512 bytes costs hardly more than they do in a larger piece.
        archive: Writer::new(Watched { inner: HashingWriter::new(encoder), watch }),
        cuts: Cuts::default(),
        changes,
        options,
        kept: kept_sources(changes),
        index: LayerIndex::default(),
        skipped_sockets: Vec::new(),
    };
    let mut leaf: Option<&RootPath> = None;
    for (path, change) in &changes.changes {
        if leaf.is_some_and(|leaf| path.starts_with(leaf)) {
            return Err(inconsistent(path, "lies beneath something that is not a directory"));
        }
        if path.components().any(|name| name.starts_with(whiteout::PREFIX)) {
            return Err(LayerError::ReservedName(path.clone()));
        }
        let is_directory = matches!(change, Change::Put { metadata, .. } if metadata.is_directory());
        leaf = (!is_directory).then_some(path);
        layer.change(path, change)?;
    }
    let (encoder, diff_id, uncompressed_size_bytes) = layer.archive.finish()?.inner.finish();
    let (out, blocks) = encoder.finish_indexed().map_err(LayerError::Write)?;
    let (out, digest, size_bytes) = out.finish();
    let written = WrittenLayer {
        diff_id,
        digest,
        size_bytes,
        uncompressed_size_bytes,
        compression: options.compression,
        index: layer.index,
        skipped_sockets: layer.skipped_sockets,
    };
    Ok((written, blocks, out))
}

/// The size of the archive that [`write_layer`] makes, without extended headers (POSIX.1-2001, "pax Interchange Format"):
/// for people who wait, not for allocation.
pub fn archive_size_bytes(changes: &ChangeSet) -> u64 {
    const BLOCK_BYTES: u64 = 512;
    let size = |change: &Change| match change {
        Change::Put { metadata, hard_link: None, .. } if metadata.is_file() => {
            metadata.size_bytes().div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
        }
        _ => 0,
    };
    let members = changes.changes.values().map(|change| size(change).saturating_add(BLOCK_BYTES));
    members.fold(2 * BLOCK_BYTES, u64::saturating_add)
}

/// The files whose bytes the index keeps, by the path that has the bytes: another one if it is a hard link.
fn kept_sources(changes: &ChangeSet) -> BTreeMap<RootPath, Vec<RootPath>> {
    let mut sources: BTreeMap<RootPath, Vec<RootPath>> = BTreeMap::new();
    for kept in LayerIndex::KEPT_CONTENTS.iter().filter_map(|path| RootPath::new(path).ok()) {
        if let Some(Change::Put { hard_link, .. }) = changes.changes.get(&kept) {
            sources.entry(hard_link.as_ref().unwrap_or(&kept).clone()).or_default().push(kept);
        }
    }
    sources
}

struct LayerWriter<'a, W: Write> {
    archive: Writer<Watched<'a, Encoder<W>>>,
    cuts: Cuts,
    changes: &'a ChangeSet,
    options: &'a WriteOptions,
    kept: BTreeMap<RootPath, Vec<RootPath>>,
    index: LayerIndex,
    skipped_sockets: Vec<RootPath>,
}

impl<W: Write> LayerWriter<'_, W> {
    /// Every member of the archive comes through here.
    fn append(&mut self, member: &Member<'_>, content: impl Read) -> Result<(), LayerError> {
        let size_bytes = if let MemberKind::File { size } = member.kind { size } else { 0 };
        if let Some(min_bytes) = self.cuts.before(member.path, size_bytes) {
            self.archive.inner_mut().inner.inner_mut().cut(min_bytes).map_err(LayerError::Write)?;
        }
        self.archive.append(member, content)
    }

    fn change(&mut self, path: &RootPath, change: &Change) -> Result<(), LayerError> {
        match change {
            Change::Remove => self.whiteout(path),
            Change::Put { hard_link: Some(target), content, opaque, .. } => {
                if content.is_some() || *opaque {
                    return Err(inconsistent(path, "is a hard link and something else at once"));
                }
                self.hard_link(path, target)
            }
            Change::Put { metadata, content, hard_link: None, opaque } => {
                self.put(path, metadata, content.as_ref(), *opaque)
            }
        }
    }

    fn put(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        content: Option<&Content>,
        opaque: bool,
    ) -> Result<(), LayerError> {
        if opaque && !metadata.is_directory() {
            return Err(inconsistent(path, "makes something opaque that is not a directory"));
        }
        if path.is_root() && !metadata.is_directory() {
            return Err(inconsistent(path, "replaces the root by something that is not a directory"));
        }
        let mut metadata = metadata.clone();
        metadata.mode &= 0o7777;
        metadata.mtime = self.mtime(metadata.mtime);
        metadata.xattrs.retain(|name, _| !whiteout::is_overlay_private(name));
        let kind = match &metadata.kind {
            Kind::File { size } => MemberKind::File { size: *size },
            Kind::Directory => MemberKind::Directory,
            Kind::Symlink { target } => MemberKind::Symlink { target },
            Kind::CharacterDevice { major, minor } => MemberKind::CharacterDevice { major: *major, minor: *minor },
            Kind::BlockDevice { major, minor } => MemberKind::BlockDevice { major: *major, minor: *minor },
            Kind::Fifo => MemberKind::Fifo,
            Kind::Socket => {
                self.skipped_sockets.push(path.clone());
                return Ok(());
            }
        };
        let member = member(path, kind, &metadata);
        match (metadata.is_file(), content) {
            (true, Some(content)) => {
                let reader = content.open().map_err(|source| LayerError::Source { path: path.clone(), source })?;
                self.file(path, &member, metadata.size_bytes(), reader)?;
            }
            (true, None) => return Err(inconsistent(path, "is a file without content")),
            (false, Some(_)) => return Err(inconsistent(path, "has content although it is not a file")),
            (false, None) => self.append(&member, io::empty())?,
        }
        if opaque {
            // First in its directory, as layer.md recommends for whiteouts; the next entry is beneath or beyond it.
            self.marker(&join(path, whiteout::OPAQUE))?;
        }
        self.index.entries.insert(path, &IndexEntry::Present { metadata, hard_link: None, opaque });
        Ok(())
    }

    fn file(
        &mut self,
        path: &RootPath,
        member: &Member<'_>,
        size: u64,
        mut reader: impl Read,
    ) -> Result<(), LayerError> {
        let kept = self.kept.remove(path).filter(|_| size <= LayerIndex::KEPT_CONTENT_LIMIT);
        let Some(kept) = kept else {
            return self.append(member, reader);
        };
        let mut bytes = Vec::new();
        self.append(member, Tee { inner: &mut reader, copy: &mut bytes })?;
        for name in kept {
            self.index.contents.insert(name, bytes.clone());
        }
        Ok(())
    }

    fn hard_link(&mut self, path: &RootPath, target: &RootPath) -> Result<(), LayerError> {
        let (metadata, target) = match self.index.entries.get(target) {
            Some(IndexEntry::Present { metadata, hard_link, .. }) if !metadata.is_directory() => {
                (metadata, hard_link.unwrap_or_else(|| target.clone()))
            }
            _ if self.skipped_sockets.binary_search(target).is_ok() => {
                self.skipped_sockets.push(path.clone());
                return Ok(());
            }
            _ if self.changes.changes.contains_key(target) => {
                return Err(inconsistent(
                    path,
                    "is a hard link to a directory, a removal, or something sorted after it",
                ));
            }
            _ => return Err(inconsistent(path, "is a hard link to something that is not in the same change set")),
        };
        // Attributes belong to the file, which has them already.
        let kind = MemberKind::HardLink { target: &target };
        self.append(&Member { xattrs: None, ..member(path, kind, &metadata) }, io::empty())?;
        let entry = IndexEntry::Present { metadata, hard_link: Some(target), opaque: false };
        self.index.entries.insert(path, &entry);
        Ok(())
    }

    fn whiteout(&mut self, path: &RootPath) -> Result<(), LayerError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(inconsistent(path, "removes the root"));
        };
        self.marker(&join(&parent, &[whiteout::PREFIX, name].concat()))?;
        self.index.entries.insert(path, &IndexEntry::Whiteout);
        Ok(())
    }

    /// An empty file whose name alone counts.
    fn marker(&mut self, name: &[u8]) -> Result<(), LayerError> {
        let member = Member {
            path: name,
            kind: MemberKind::File { size: 0 },
            mode: 0,
            owner: Owner::default(),
            mtime_seconds: self.options.epoch.seconds,
            xattrs: None,
        };
        self.append(&member, io::empty())
    }

    fn mtime(&self, mtime: Timestamp) -> Timestamp {
        let nanoseconds = |time: Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
        let by_the_build = nanoseconds(mtime) > nanoseconds(self.options.clamp_after) - CLOCK_TICK_NS;
        let time = if by_the_build && !self.options.timestamps_real { self.options.epoch } else { mtime };
        Timestamp { seconds: time.seconds, nanoseconds: 0 }
    }
}

fn member<'a>(path: &'a RootPath, kind: MemberKind<'a>, metadata: &'a Metadata) -> Member<'a> {
    Member {
        path: path.as_bytes(),
        kind,
        mode: metadata.mode,
        owner: metadata.owner,
        mtime_seconds: metadata.mtime.seconds,
        xattrs: Some(&metadata.xattrs),
    }
}

fn join(directory: &RootPath, name: &[u8]) -> Vec<u8> {
    if directory.is_root() { name.to_vec() } else { [directory.as_bytes(), b"/", name].concat() }
}

fn inconsistent(path: &RootPath, why: &'static str) -> LayerError {
    LayerError::Inconsistent { path: path.clone(), why }
}

/// Tells how much was written through it.
struct Watched<'w, W> {
    inner: HashingWriter<W>,
    watch: &'w mut dyn FnMut(u64),
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        (self.watch)(self.inner.bytes());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Keeps what is read through it.
struct Tee<'a, R> {
    inner: R,
    copy: &'a mut Vec<u8>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        // A file that grows is refused after the read that shows it: nothing beyond one buffer piles up here.
        self.copy.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}
