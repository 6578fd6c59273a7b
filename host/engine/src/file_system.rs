//! The file systems of images as an archive or a directory, without the images around them (BuildKit's exporters `tar` and
//! `local`).

use std::{
    io::{self, BufWriter, Read, Write},
    path::Path,
    sync::Arc,
};

use cofferdam_image::export::{NewDirectory, NewFile};
use cofferdam_layer::{Compression, LayerError, WriteOptions, archive_size_bytes, write_layer};
use cofferdam_rootfs::{
    Attributes, Change, ChangeSet, ConfinedDir, CopyOptions, RootFs, RootPath, RootfsError, Tree, UnpackForm, Unpacker,
};

use crate::{builder::Builder, image_set::ImageSet, layers::StageLayer, stage::stack};

/// What all layers of an image give together, or of several images beside each other.
pub struct FileSystem {
    changes: ChangeSet,
}

/// It can't be written.
#[derive(Debug, thiserror::Error)]
pub enum FileSystemError {
    /// A layer can't be had, or the directory refuses.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A layer can't be had.
    #[error(transparent)]
    Layer(#[from] crate::layers::LayerFailure),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] LayerError),
    /// The file that the archive goes to.
    #[error(transparent)]
    File(#[from] cofferdam_image::StoreError),
    /// Standard output.
    #[error(transparent)]
    Output(#[from] io::Error),
}

impl FileSystem {
    /// Flattens the layers of an image; of several images, each into a directory that its platform names (`linux_amd64`), as
    /// BuildKit does. Contents are read when they are written.
    ///
    /// # Errors
    /// A layer can't be had.
    pub fn of(set: &ImageSet, builder: &Builder) -> Result<Self, FileSystemError> {
        let mut flat = RootFs::new(Vec::new(), builder.spools.clone(), builder.start);
        match set.images() {
            [only] => flatten(&mut flat, &only.layers, &RootPath::root())?,
            images => {
                for image in images {
                    let name = image.platform.to_string().replace('/', "_");
                    flatten(&mut flat, &image.layers, &RootPath::new(name).map_err(RootfsError::from)?)?;
                }
            }
        }
        Ok(Self { changes: flat.take_changes() })
    }

    /// About as many bytes as either form has.
    pub fn size_bytes(&self) -> u64 {
        archive_size_bytes(&self.changes)
    }

    /// Writes a tar archive (POSIX.1-2001, "pax Interchange Format") with the owners and times of the image; `-` is standard
    /// output. `copied` hears of the bytes, piece by piece.
    ///
    /// # Errors
    /// A file appears whole or not at all.
    pub fn write_archive(&self, destination: &Path, copied: &dyn Fn(u64)) -> Result<(), FileSystemError> {
        let options = WriteOptions { compression: Compression::None, timestamps_real: true, ..WriteOptions::default() };
        if destination == Path::new("-") {
            let out = Watched { inner: BufWriter::new(io::stdout().lock()), copied };
            return Ok(write_layer(&self.changes, &options, out)?.1.flush()?);
        }
        let out = Watched { inner: NewFile::create(destination)?, copied };
        Ok(write_layer(&self.changes, &options, out)?.1.inner.persist()?)
    }

    /// Writes into a directory, which is made if it is missing: beside what is there, and in the place of what has the same
    /// name. Everything belongs to whom the builder belongs to, devices are empty files. A directory that was missing
    /// appears whole or not at all.
    ///
    /// # Errors
    /// The directory can't be made or written.
    pub fn write_directory(&self, directory: &Path, copied: &dyn Fn(u64)) -> Result<(), FileSystemError> {
        let new = NewDirectory::create(directory)?;
        self.unpack_into(directory, copied)?;
        new.keep();
        Ok(())
    }

    fn unpack_into(&self, directory: &Path, copied: &dyn Fn(u64)) -> Result<(), FileSystemError> {
        let mut unpacker = Unpacker::new(Arc::new(ConfinedDir::open(directory)?), UnpackForm::SingleId);
        for (path, change) in &self.changes.changes {
            // Of nothing below, nothing can be removed.
            let Change::Put { metadata, content, hard_link, .. } = change else { continue };
            let content = match content {
                Some(content) => content.open()?,
                None => Box::new(io::empty()),
            };
            let mut content = Watched { inner: content, copied };
            unpacker.entry(path, metadata, hard_link.as_ref(), &mut content)?;
        }
        Ok(unpacker.finish()?)
    }
}

fn flatten(flat: &mut RootFs, layers: &[Arc<StageLayer>], into: &RootPath) -> Result<(), FileSystemError> {
    let tree: Arc<dyn Tree> = stack(layers)?;
    let root = RootPath::root();
    flat.copy_tree(&tree, &root, into, &CopyOptions { keep_owner: true, ..CopyOptions::default() })?;
    if let Some(metadata) = tree.metadata(&root, true)? {
        let (mode, owner, mtime) = (metadata.mode, metadata.owner, Some(metadata.mtime));
        flat.put_directory(into, &Attributes { mode, owner, mtime })?;
    }
    Ok(())
}

/// Tells how much goes through it.
struct Watched<'c, T> {
    inner: T,
    copied: &'c dyn Fn(u64),
}

impl<T: Read> Read for Watched<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        (self.copied)(count as u64);
        Ok(count)
    }
}

impl<T: Write> Write for Watched<'_, T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        (self.copied)(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
