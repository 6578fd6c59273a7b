//! A stage's layers: where their bytes are, their indexes, and their unpacked directories, each had when it is needed.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_digest::{Digest, Sha256, VerifyError};
use cofferdam_image::{Compression, LayerBlob, RawBlobWriter, Store, StoreError, Unpacking};
use cofferdam_layer::{IndexOnly, LayerError, LayerSink, ReadLimits, SinkError, read_archive, read_layer};
use cofferdam_rootfs::{
    ConfinedDir, IndexEntry, Layer, LayerContents, LayerIndex, MergedIndex, RootPath, RootfsError, UnpackForm, Unpacker,
};

use crate::stop::{Stop, Stoppable};

/// Where a layer's blob comes from if the store does not have it.
pub trait BlobOrigin: Send + Sync {
    /// Opens the blob; the reader ends with an error unless the bytes are those of the digest.
    ///
    /// # Errors
    /// The origin can't be reached, or does not have the blob.
    fn open(&self, blob: &LayerBlob) -> Result<Box<dyn Read + Send>, LayerFailure>;

    /// The repository to mount it from, where the origin is a registry.
    fn repository(&self) -> Option<&cofferdam_registry::Repository>;
}

/// Whoever watches a layer being unpacked.
pub trait LayerWatch {
    /// So many bytes of the blob were read so far. Called again and again.
    fn read_bytes(&self, done_bytes: u64);
    /// Another builder is at it, and is waited for.
    fn waits(&self);
}

/// Nobody watches.
impl LayerWatch for () {
    fn read_bytes(&self, _: u64) {}
    fn waits(&self) {}
}

/// A layer can't be had.
#[derive(Debug, thiserror::Error)]
pub enum LayerFailure {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] cofferdam_registry::RegistryError),
    /// The bucket that has it.
    #[error(transparent)]
    Bucket(cofferdam_context::FetchError),
    /// The layer's bytes.
    #[error("layer {digest}{} is unusable", of.as_ref().map(|of| format!(" of `{of}`")).unwrap_or_default())]
    Layer {
        /// Of the blob.
        digest: cofferdam_digest::Digest,
        /// The repository that it comes from.
        of: Option<String>,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// Unpacking it.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
}

/// How this builder unpacks layers, and what it reads them with.
pub struct LayerFiles {
    /// Where blobs, indexes and unpacked layers are.
    pub store: Store,
    /// How entries are written, which depends on who we are.
    pub form: UnpackForm,
    /// The name of the form in the store: layers unpacked with other ids are other directories.
    pub form_name: String,
    /// Bounds for what strangers made.
    pub limits: ReadLimits,
    /// Ends transfers when the build is stopped.
    pub stop: Stop,
}

/// One layer of a stage or an image.
pub struct StageLayer {
    blob: LayerBlob,
    origin: Option<Arc<dyn BlobOrigin>>,
    files: Arc<LayerFiles>,
    /// The layers that it lies on, the base first; only for layers that others made.
    below: Vec<Arc<StageLayer>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    index: Option<Arc<LayerIndex>>,
    directory: Option<PathBuf>,
}

impl StageLayer {
    /// A layer whose blob is in the store.
    pub fn stored(blob: LayerBlob, files: Arc<LayerFiles>) -> Self {
        Self { blob, origin: None, files, below: Vec::new(), known: Mutex::default() }
    }

    /// A layer whose blob is fetched when it is needed.
    pub fn remote(
        blob: LayerBlob,
        origin: Arc<dyn BlobOrigin>,
        files: Arc<LayerFiles>,
        below: Vec<Arc<StageLayer>>,
    ) -> Self {
        Self { blob, origin: Some(origin), files, below, known: Mutex::default() }
    }

    /// A layer that was just written.
    pub fn written(blob: LayerBlob, index: Arc<LayerIndex>, files: Arc<LayerFiles>) -> Self {
        let known = Mutex::new(Known { index: Some(index), directory: None });
        Self { blob, origin: None, files, below: Vec::new(), known }
    }

    /// What is known of the blob.
    pub fn blob(&self) -> &LayerBlob {
        &self.blob
    }

    /// Ends transfers when the build is stopped.
    pub fn stop(&self) -> &Stop {
        &self.files.stop
    }

    /// The repository that has the blob already.
    pub fn repository(&self) -> Option<&cofferdam_registry::Repository> {
        self.origin.as_ref()?.repository()
    }

    /// The layer's index; fetches and reads the blob if the store does not have the index yet.
    ///
    /// # Errors
    /// The layer can't be had.
    pub fn index(&self) -> Result<Arc<LayerIndex>, LayerFailure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.index_locked(&mut known)
    }

    /// The directory with the layer's entries, unpacked if nobody did it before.
    ///
    /// # Errors
    /// The layer can't be had, or the machine refused.
    pub fn directory(&self, watch: &dyn LayerWatch) -> Result<PathBuf, LayerFailure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = &known.directory {
            return Ok(directory.clone());
        }
        // Mostly the layer is unpacked in the pass that makes its index. Only the index tells whether it needs more.
        let known_index = match &known.index {
            Some(index) => Some(index.clone()),
            None => self.files.store.layer_index(&self.blob.diff_id)?.map(Arc::new),
        };
        let directory = match known_index {
            Some(index) => {
                let directory = self.unpack_on(&index, watch)?;
                known.index = Some(index);
                directory
            }
            None => {
                let (directory, index) = self.unpack(&self.blob.diff_id, None, watch)?;
                let index = match index {
                    Some(index) => index,
                    None => self.index_locked(&mut known)?,
                };
                known.index = Some(index.clone());
                match self.implied_below(&index)? {
                    None => directory,
                    Some(_) => self.unpack_on(&index, watch)?,
                }
            }
        };
        known.directory = Some(directory.clone());
        Ok(directory)
    }

    fn unpack_on(&self, index: &LayerIndex, watch: &dyn LayerWatch) -> Result<PathBuf, LayerFailure> {
        Ok(match self.implied_below(index)? {
            None => self.unpack(&self.blob.diff_id, None, watch)?.0,
            Some((key, below)) => {
                let directory = self.unpack(&key, Some(below), watch)?.0;
                self.files.store.note_unpacked_layer(&self.files.form_name, &key, &self.blob.diff_id)?;
                directory
            }
        })
    }

    /// Directories that the layer implies without describing them look as they do below, but overlayfs takes a directory's
    /// attributes from the topmost layer that has it. Where that matters, the layer is unpacked for these attributes, under
    /// a key of its own.
    fn implied_below(&self, index: &LayerIndex) -> Result<Option<(Digest, Arc<MergedIndex>)>, LayerFailure> {
        let mut implied = BTreeSet::new();
        if self.below.is_empty() {
            return Ok(None);
        }
        // Of the entry before: mostly the same.
        let mut known = RootPath::root();
        for (path, _) in &index.entries {
            let Some(directory) = path.parent().filter(|directory| *directory != known) else { continue };
            known = directory.clone();
            let mut next = Some(directory);
            while let Some(parent) = next.filter(|parent| !parent.is_root() && !index.entries.contains(parent)) {
                next = parent.parent();
                if !implied.insert(parent) {
                    break;
                }
            }
        }
        if implied.is_empty() {
            return Ok(None);
        }
        let below = self.below.iter().map(|layer| layer.index()).collect::<Result<Vec<_>, _>>()?;
        let below = MergedIndex::new(below);
        let mut hasher = Sha256::new();
        hasher.update_framed(self.blob.diff_id.as_bytes());
        let mut matters = false;
        for path in implied {
            let Some(metadata) = below.lookup(&path).and_then(|found| found.metadata) else { continue };
            if !metadata.is_directory() {
                continue;
            }
            matters = true;
            hasher.update_framed(path.as_bytes());
            hasher.update_framed(format!("{metadata:?}").as_bytes());
        }
        Ok(matters.then(|| (hasher.finish(), Arc::new(below))))
    }

    fn unpack(
        &self,
        key: &Digest,
        below: Option<Arc<MergedIndex>>,
        watch: &dyn LayerWatch,
    ) -> Result<(PathBuf, Option<Arc<LayerIndex>>), LayerFailure> {
        match self.files.store.begin_unpack(&self.files.form_name, key, &|| watch.waits())? {
            Unpacking::Ready(directory) => Ok((directory, None)),
            Unpacking::Started(guard) => {
                let index = self.read(Some((guard.directory(), below)), watch)?;
                Ok((guard.commit()?, Some(index)))
            }
        }
    }

    /// Takes over a directory that already holds the layer unpacked: the upper directory that it was made from.
    ///
    /// # Errors
    /// The machine refused.
    pub fn adopt(&self, directory: &Path) -> Result<(), LayerFailure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.files.store.adopt_unpacked(&self.files.form_name, &self.blob.diff_id, directory)?;
        known.directory = Some(place);
        Ok(())
    }

    /// Puts the blob into the store if it is not there, to be pushed or exported from it.
    ///
    /// # Errors
    /// The layer can't be had.
    pub fn fetch(&self) -> Result<(), LayerFailure> {
        if self.files.store.has_blob(&self.blob.digest, Some(self.blob.size)) {
            return Ok(());
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.files.store.has_blob(&self.blob.digest, Some(self.blob.size)) {
            known.index = Some(self.read(None, &())?);
        }
        Ok(())
    }

    /// The blob, from the store or from its origin; the reader ends with an error unless the bytes are those of the digest.
    ///
    /// # Errors
    /// The layer can't be had.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, LayerFailure> {
        match &self.origin {
            Some(origin) if !self.files.store.has_blob(&self.blob.digest, Some(self.blob.size)) => {
                Ok(Box::new(Stoppable::new(origin.open(&self.blob)?, &self.files.stop)))
            }
            _ => Ok(Box::new(self.files.store.open_blob(&self.blob.digest)?)),
        }
    }

    /// The layer for a stack, with its content on demand.
    ///
    /// # Errors
    /// The index can't be had.
    pub fn for_stack(self: &Arc<Self>) -> Result<Layer, LayerFailure> {
        Ok(Layer { index: self.index()?, contents: self.clone() })
    }

    fn index_locked(&self, known: &mut Known) -> Result<Arc<LayerIndex>, LayerFailure> {
        if let Some(index) = &known.index {
            return Ok(index.clone());
        }
        let index = match self.files.store.layer_index(&self.blob.diff_id)? {
            Some(index) => Arc::new(index),
            None => self.read(None, &())?,
        };
        known.index = Some(index.clone());
        Ok(index)
    }

    /// Reads the blob once, from the store or from its origin: into the store, into the index, and unpacked where that is
    /// wanted.
    fn read(
        &self,
        unpack_into: Option<(&Path, Option<Arc<MergedIndex>>)>,
        watch: &dyn LayerWatch,
    ) -> Result<Arc<LayerIndex>, LayerFailure> {
        let error = match self.read_once(unpack_into.clone(), watch) {
            Err(error @ LayerFailure::Layer { .. }) => error,
            other => return other,
        };
        // What the store has may be what a power failure left of it.
        let store = &self.files.store;
        if !store.remove_if_damaged(&self.blob.digest) {
            return Err(error);
        }
        match (&self.origin, unpack_into) {
            // What was unpacked until then is in the way.
            (Some(_), None) => self.read_once(None, watch),
            _ => Err(store.damaged(&self.blob.digest).into()),
        }
    }

    fn read_once(
        &self,
        unpack_into: Option<(&Path, Option<Arc<MergedIndex>>)>,
        watch: &dyn LayerWatch,
    ) -> Result<Arc<LayerIndex>, LayerFailure> {
        let store = &self.files.store;
        let digest = self.blob.digest;
        let of = self.repository().map(cofferdam_registry::Repository::familiar);
        let failed = |source| LayerFailure::Layer { digest, of: of.clone(), source };
        let mut index_only = IndexOnly;
        let mut unpacking = match unpack_into {
            Some((directory, below)) => {
                let unpacker = Unpacker::new(Arc::new(ConfinedDir::open(directory)?), self.files.form);
                Some(UnpackSink(match below {
                    Some(below) => unpacker.on_top_of(below),
                    None => unpacker,
                }))
            }
            None => None,
        };
        let sink: &mut dyn LayerSink = match &mut unpacking {
            Some(sink) => sink,
            None => &mut index_only,
        };
        let expected = Some(self.blob.diff_id);
        let limits = &self.files.limits;
        let read = match &self.origin {
            Some(origin) if !store.has_blob(&digest, Some(self.blob.size)) => {
                let from = Counted { from: origin.open(&self.blob)?, bytes: 0, watch };
                let from = Stoppable::new(from, &self.files.stop);
                let mut tee = Tee { from, to: store.raw_blob_writer()? };
                let read = read_layer(&mut tee, expected, limits, sink);
                let read = read.map_err(|error| failed(wrong_bytes(error, &mut tee.from)))?;
                tee.to.commit(digest)?;
                read
            }
            _ => {
                let from = Counted { from: store.open_blob(&digest)?, bytes: 0, watch };
                // Our own archives may begin with any name; what strangers made is told by its first bytes.
                let is_archive = self.origin.is_none() && self.blob.compression == Compression::None;
                let read = match is_archive {
                    true => read_archive(from, expected, limits, sink),
                    false => read_layer(from, expected, limits, sink),
                };
                read.map_err(failed)?
            }
        };
        if let Some(sink) = unpacking {
            sink.0.finish()?;
        }
        store.put_layer_index(&self.blob.diff_id, &read.index)?;
        store.put_layer_blob(&self.blob)?;
        Ok(Arc::new(read.index))
    }
}

/// What is wrong with bytes that make no layer: mostly that they are not those of the digest, which their last one tells.
fn wrong_bytes(error: LayerError, rest: &mut dyn Read) -> LayerError {
    let told_by_the_origin = |source: &io::Error| {
        source.kind() == io::ErrorKind::Other || source.get_ref().is_some_and(|inner| inner.is::<VerifyError>())
    };
    match &error {
        LayerError::Limit { .. } | LayerError::Sink { .. } | LayerError::DiffId { .. } => return error,
        LayerError::Read(source) if told_by_the_origin(source) => return error,
        _ => {}
    }
    io::copy(rest, &mut io::sink()).map_or_else(LayerError::Read, |_| error)
}

impl LayerContents for StageLayer {
    fn directory(&self) -> Result<Arc<ConfinedDir>, RootfsError> {
        let directory = Self::directory(self, &()).map_err(|error| RootfsError::Storage {
            action: format!("unpack layer {}", self.blob.digest),
            source: io::Error::other(error),
        })?;
        Ok(Arc::new(ConfinedDir::open(&directory)?))
    }
}

/// Writes a layer's entries into a directory.
struct UnpackSink(Unpacker);

impl LayerSink for UnpackSink {
    fn entry(&mut self, path: &RootPath, entry: &IndexEntry, content: Option<&mut dyn Read>) -> Result<(), SinkError> {
        match entry {
            IndexEntry::Whiteout => self.0.whiteout(path)?,
            IndexEntry::Present { metadata, hard_link, opaque } => {
                let mut nothing = io::empty();
                let mut content = content;
                let content: &mut dyn Read = match &mut content {
                    Some(content) => content,
                    None => &mut nothing,
                };
                self.0.entry(path, metadata, hard_link.as_ref(), content)?;
                if *opaque {
                    self.0.opaque(path)?;
                }
            }
        }
        Ok(())
    }
}

/// Copies what is read through it into a new blob.
struct Tee<R> {
    from: R,
    to: RawBlobWriter,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.to.write_all(&buffer[..count])?;
        Ok(count)
    }
}

/// Tells how much was read through it.
struct Counted<'w, R> {
    from: R,
    bytes: u64,
    watch: &'w dyn LayerWatch,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.bytes += count as u64;
        self.watch.read_bytes(self.bytes);
        Ok(count)
    }
}
