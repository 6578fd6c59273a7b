//! A stack of layers that can be read.

use std::{
    io::{Cursor, Read, Seek, SeekFrom},
    sync::Arc,
};

use crate::{ConfinedDir, Kind, LayerIndex, MergedIndex, Metadata, RootPath, RootfsError, Tree};

/// The unpacked content of one layer, had on demand: a layer whose files nobody reads is never unpacked.
pub trait LayerContents: Send + Sync {
    /// The directory that holds the layer's files under the paths that the index has. The first call may unpack it.
    ///
    /// # Errors
    /// The layer can't be had or unpacked.
    fn directory(&self) -> Result<Arc<ConfinedDir>, RootfsError>;
}

/// One layer: what is known of it, and how to get at its files.
#[derive(Clone)]
pub struct Layer {
    /// Everything but the content of files.
    pub index: Arc<LayerIndex>,
    /// The content of files.
    pub contents: Arc<dyn LayerContents>,
}

/// Layers read as one file system. Immutable, so what was read from it stays true.
pub struct LayerStack {
    index: MergedIndex,
    contents: Vec<Arc<dyn LayerContents>>,
}

impl LayerStack {
    /// Stacks layers, the base first.
    pub fn new(layers: Vec<Layer>) -> Self {
        let (indexes, contents) = layers.into_iter().map(|layer| (layer.index, layer.contents)).unzip();
        Self { index: MergedIndex::new(indexes), contents }
    }

    /// The same with one more layer on top.
    #[must_use]
    pub fn with(&self, top: Layer) -> Self {
        Self::new(self.layers().chain([top]).collect())
    }

    /// The merged index.
    pub fn index(&self) -> &MergedIndex {
        &self.index
    }

    /// The layers, the base first.
    pub fn layers(&self) -> impl Iterator<Item = Layer> + '_ {
        let pairs = self.index.layers().iter().zip(&self.contents);
        pairs.map(|(index, contents)| Layer { index: index.clone(), contents: contents.clone() })
    }

    /// Opens a file at a path whose parents hold no symlink.
    pub(crate) fn open_resolved(&self, path: &RootPath) -> Result<Box<dyn Read + Send>, RootfsError> {
        Ok(self.open_anywhere(path)?)
    }

    fn open_anywhere(&self, path: &RootPath) -> Result<Box<dyn ReadSeek + Send>, RootfsError> {
        let found = self.index.lookup(path).ok_or_else(|| RootfsError::NotFound(path.clone()))?;
        expect_file(path, found.metadata.as_ref().map_or(&Kind::Directory, |metadata| &metadata.kind))?;
        if let Some(kept) = self.index.kept_content(path) {
            return Ok(Box::new(Cursor::new(kept.to_vec())));
        }
        Ok(Box::new(self.contents[found.layer].directory()?.open_file(path)?))
    }

    fn existing(&self, path: &RootPath) -> Result<RootPath, RootfsError> {
        self.resolve(path)?.ok_or_else(|| RootfsError::NotFound(path.clone()))
    }
}

/// What can be read from anywhere.
trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// Refuses what is not a regular file.
pub(crate) fn expect_file(path: &RootPath, kind: &Kind) -> Result<(), RootfsError> {
    match kind {
        Kind::File { .. } => Ok(()),
        Kind::Directory => Err(RootfsError::IsADirectory(path.clone())),
        _ => Err(RootfsError::NotAFile(path.clone())),
    }
}

impl Tree for LayerStack {
    fn metadata(&self, path: &RootPath, follow: bool) -> Result<Option<Metadata>, RootfsError> {
        let found = self.index.walk(path, follow)?;
        Ok(self.index.lookup(&found.path).filter(|_| found.exists).map(|found| found.to_metadata()))
    }

    fn resolve(&self, path: &RootPath) -> Result<Option<RootPath>, RootfsError> {
        self.index.resolve(path)
    }

    fn read_directory(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        let real = self.existing(path)?;
        match self.index.lookup(&real).is_some_and(|found| found.is_directory()) {
            true => Ok(self.index.children(&real)),
            false => Err(RootfsError::NotADirectory(real)),
        }
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn Read + Send>, RootfsError> {
        self.open_resolved(&self.existing(path)?)
    }

    fn open_at(&self, path: &RootPath, offset_bytes: u64) -> Result<Box<dyn Read + Send>, RootfsError> {
        let mut file = self.open_anywhere(&self.existing(path)?)?;
        let sought = file.seek(SeekFrom::Start(offset_bytes));
        sought.map_err(|source| RootfsError::Storage { action: format!("read `{path}`"), source })?;
        Ok(file)
    }

    fn identity(&self, path: &RootPath) -> Result<Option<u64>, RootfsError> {
        Ok(self.index.identity(&self.existing(path)?))
    }
}
