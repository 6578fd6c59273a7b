//! An image in a file or directory that somebody wrote: an OCI layout, an archive of one, an archive for `docker load`.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
};

use cofferdam_digest::Digest;
use cofferdam_image::{
    Compression as ImageCompression, Descriptor, Document, Family, ImageConfig, LayoutReference, LayoutSelector,
    Manifest, MediaType, OciLayout, Store, StoreError,
};
use cofferdam_layer::{
    Compression, LayerError, LayerSink, ReadLimits, SinkError,
    compression::{Decoder, Encoder},
    read_layer,
};
use cofferdam_rootfs::{IndexEntry, Kind, RootPath};
use serde::Deserialize;

use crate::{
    error::BuildError,
    stop::{Stop, Stoppable},
};

/// Where an image's documents and blobs are.
pub struct ImageFile {
    root: Descriptor,
    place: Place,
}

enum Place {
    Layout(OciLayout),
    /// The blobs of an archive were put into the store.
    Store(Store),
}

impl ImageFile {
    /// Opens `DIR[:TAG]`, or a file, whose blobs go into the store.
    ///
    /// # Errors
    /// There is no image, or several and none is chosen.
    pub fn open(source: &Path, store: &Path, stop: &Stop) -> Result<Self, BuildError> {
        if source.is_file() {
            return Self::unpack(source, &Store::open(store)?, stop);
        }
        let reference = match source.is_dir() {
            true => LayoutReference { directory: source.to_path_buf(), selector: LayoutSelector::Default },
            false => format!("{}{}", LayoutReference::SCHEME, source.display()).parse()?,
        };
        let layout = OciLayout::open(&reference.directory)?;
        let root = layout.resolve(&reference.selector)?.clone();
        Ok(Self { root, place: Place::Layout(layout) })
    }

    /// The manifest or index.
    pub fn root(&self) -> &Descriptor {
        &self.root
    }

    /// A manifest or index, verified.
    ///
    /// # Errors
    /// Missing, damaged, or too large.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError> {
        match &self.place {
            Place::Layout(layout) => layout.read_document(descriptor),
            Place::Store(store) => store.read_document(descriptor),
        }
    }

    /// A blob; the reader ends with an error unless the bytes are those of the descriptor.
    ///
    /// # Errors
    /// Missing, or the machine refused.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, StoreError> {
        Ok(match &self.place {
            Place::Layout(layout) => Box::new(layout.open_blob(descriptor)?),
            Place::Store(store) => Box::new(descriptor.verify(store.open_blob(&descriptor.digest)?)),
        })
    }

    fn unpack(source: &Path, store: &Store, stop: &Stop) -> Result<Self, BuildError> {
        let unreadable =
            |error: LayerError| BuildError::ImageFile { path: source.to_path_buf(), reason: crate::chain(&error) };
        let invalid = |reason: &str| BuildError::ImageFile { path: source.to_path_buf(), reason: reason.to_owned() };
        let mut members = Members { store, files: BTreeMap::new(), links: BTreeMap::new() };
        // It is the user's own, whatever its size.
        let limits = ReadLimits { uncompressed_bytes: u64::MAX, suspicious_bytes: u64::MAX, ..ReadLimits::default() };
        let archive = cofferdam_rootfs::open_named_file(source).map_err(|error| invalid(&error.to_string()))?;
        read_layer(Stoppable::new(archive, stop), None, &limits, &mut members).map_err(unreadable)?;
        let root = match (members.find("index.json"), members.find("manifest.json")) {
            (Some(index), _) => only_image(&members.read(index)?, source)?,
            (None, Some(manifest)) => docker_image(&members, &members.read(manifest)?, source)?,
            (None, None) => return Err(invalid("it has neither `index.json` nor `manifest.json`")),
        };
        Ok(Self { root, place: Place::Store(store.clone()) })
    }
}

/// The image of an OCI layout's `index.json`.
fn only_image(bytes: &[u8], source: &Path) -> Result<Descriptor, BuildError> {
    let invalid = |reason: String| BuildError::ImageFile { path: source.to_path_buf(), reason };
    match Document::parse(bytes, Some(&MediaType::Index(Family::Oci)))? {
        Document::Index(index) => match &index.manifests[..] {
            [only] => Ok(only.clone()),
            several => Err(invalid(format!("it holds {} images, and one can be pushed", several.len()))),
        },
        Document::Manifest(_) => Err(invalid("its `index.json` is a manifest".to_owned())),
    }
}

/// One image of a `manifest.json` (Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format").
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// The manifest that a registry wants for the image of a `manifest.json`: such archives have none. Layers that are not
/// compressed are, as everywhere.
fn docker_image(members: &Members<'_>, bytes: &[u8], source: &Path) -> Result<Descriptor, BuildError> {
    let invalid = |reason: String| BuildError::ImageFile { path: source.to_path_buf(), reason };
    let images: Vec<Saved> =
        serde_json::from_slice(bytes).map_err(|error| invalid(format!("its `manifest.json` is none: {error}")))?;
    let [image] = &images[..] else {
        return Err(invalid(format!("it holds {} images, and one can be pushed", images.len())));
    };
    let find = |name: &str| members.find(name).ok_or_else(|| invalid(format!("it lacks `{name}`")));
    let config_bytes = members.read(find(&image.config)?)?;
    let config = ImageConfig::parse(&config_bytes)?;
    if config.rootfs.diff_ids.len() != image.layers.len() {
        return Err(invalid(format!(
            "it has {} layers, and its configuration names {}",
            image.layers.len(),
            config.rootfs.diff_ids.len()
        )));
    }
    let mut layers = Vec::with_capacity(image.layers.len());
    for (name, diff_id) in image.layers.iter().zip(&config.rootfs.diff_ids) {
        let (descriptor, actual) = members.layer(find(name)?, source)?;
        if actual != *diff_id {
            return Err(invalid(format!("the layer `{name}` is not the one that its configuration names")));
        }
        layers.push(descriptor);
    }
    let config = Descriptor::of(MediaType::Config(Family::Docker), &config_bytes);
    let manifest = Manifest::new(Family::Docker, config, layers);
    let bytes = manifest.to_json();
    members.store.put_document(manifest.media_type.clone(), &bytes)?;
    Ok(Descriptor::of(manifest.media_type, &bytes))
}

/// The files of an archive, which go into the store as they come.
struct Members<'s> {
    store: &'s Store,
    files: BTreeMap<RootPath, (Digest, u64)>,
    /// Old archives name a layer that several images have by links.
    links: BTreeMap<RootPath, RootPath>,
}

impl LayerSink for Members<'_> {
    fn entry(&mut self, path: &RootPath, entry: &IndexEntry, content: Option<&mut dyn Read>) -> Result<(), SinkError> {
        let IndexEntry::Present { metadata, hard_link, .. } = entry else { return Ok(()) };
        if let Some(target) = hard_link {
            self.links.insert(path.clone(), target.clone());
        } else if let Kind::Symlink { target } = &metadata.kind {
            let directory = path.parent().unwrap_or_else(RootPath::root);
            let target = RootPath::new([directory.as_bytes(), b"/", target].concat())?;
            self.links.insert(path.clone(), target);
        } else if let Some(content) = content {
            let mut writer = self.store.blob_writer()?;
            io::copy(content, &mut writer)?;
            let info = writer.commit(None)?;
            self.files.insert(path.clone(), (info.digest, info.size));
        }
        Ok(())
    }
}

impl Members<'_> {
    fn find(&self, name: &str) -> Option<(Digest, u64)> {
        let path = RootPath::new(name).ok()?;
        self.files.get(&path).or_else(|| self.files.get(self.links.get(&path)?)).copied()
    }

    fn read(&self, (digest, size): (Digest, u64)) -> Result<Vec<u8>, BuildError> {
        Ok(self.store.read_document(&Descriptor::new(MediaType::Other(String::new()), digest, size))?)
    }

    /// The descriptor of a layer's blob, compressed if it was not, and its DiffID.
    fn layer(&self, (digest, size): (Digest, u64), source: &Path) -> Result<(Descriptor, Digest), BuildError> {
        let failed = |reason: String| BuildError::ImageFile { path: source.to_path_buf(), reason };
        let unreadable = |error: io::Error| failed(format!("the layer {digest} can't be read: {error}"));
        let mut decoder = Decoder::new(self.store.open_blob(&digest)?).map_err(|error| failed(crate::chain(&error)))?;
        let (compression, digest, size, diff_id) = match decoder.format() {
            cofferdam_layer::Format::Plain => {
                let writer = self.store.blob_writer()?;
                let mut encoder = Encoder::new(writer, Compression::default()).map_err(unreadable)?;
                io::copy(&mut decoder, &mut encoder).map_err(unreadable)?;
                let packed = encoder.finish().map_err(unreadable)?.commit(None)?;
                (ImageCompression::Gzip, packed.digest, packed.size, digest)
            }
            format => {
                let mut hasher = cofferdam_digest::HashingWriter::new(io::sink());
                io::copy(&mut decoder, &mut hasher).map_err(unreadable)?;
                let compression = match format {
                    cofferdam_layer::Format::Zstd => ImageCompression::Zstd,
                    _ => ImageCompression::Gzip,
                };
                (compression, digest, size, hasher.finish().1)
            }
        };
        Ok((Descriptor::new(MediaType::Layer(Family::Docker, compression), digest, size), diff_id))
    }
}

/// `DIR[:TAG]` or a file, relative to a directory.
pub fn source_path(directory: &Path, text: &str) -> PathBuf {
    directory.join(text.strip_prefix(LayoutReference::SCHEME).unwrap_or(text))
}
