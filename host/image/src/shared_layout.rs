//! An OCI layout directory that several builders write at once: layer caches, and base images that were fetched ahead.
//!
//! Blobs are written beside their place and renamed into it. Who changes `index.json` holds `index.json.lock`, which other tools
//! (BuildKit, containerd) lock too. What is in the directory is as little trusted as any other layout:
//! [`OciLayout`] reads it.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
};

use cofferdam_digest::{Digest, VerifyError};
use oci_spec::image::ANNOTATION_REF_NAME;

use crate::{
    Descriptor, Document, Family, Index, OciLayout, StoreError,
    export::{NewFile, write_file},
    store::OCI_LAYOUT,
};

/// A directory in which blobs are put, and tags are moved.
#[derive(Debug, Clone)]
pub struct SharedLayout {
    directory: PathBuf,
}

/// A layout whose `index.json` nobody else changes meanwhile.
#[derive(Debug)]
pub struct LockedLayout<'l> {
    layout: &'l SharedLayout,
    _lock: File,
}

impl SharedLayout {
    /// Makes the directory, or takes the layout that is there.
    ///
    /// # Errors
    /// Something else is there, or the machine refused.
    pub fn create(directory: &Path) -> Result<Self, StoreError> {
        let layout = Self { directory: directory.to_path_buf() };
        let blobs = layout.blobs();
        fs::create_dir_all(&blobs).map_err(StoreError::io("create", &blobs))?;
        let path = directory.join("oci-layout");
        if !path.exists() {
            write_file(&path, OCI_LAYOUT)?;
        }
        let path = directory.join("index.json");
        if !path.exists() {
            let locked = layout.lock()?;
            if !path.exists() {
                write_file(&path, &Index::new(Family::Oci, Vec::new()).to_json())?;
            }
            drop(locked);
        }
        OciLayout::open(directory)?;
        Ok(layout)
    }

    /// Whether a blob is there, with this size in bytes.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.blob_path(digest)).is_ok_and(|file| file.is_file() && file.len() == size)
    }

    /// Whether a blob is there, and its bytes are those of the descriptor: all of it is read.
    pub fn has_sound_blob(&self, descriptor: &Descriptor) -> bool {
        let open = || OciLayout::open(&self.directory)?.open_blob(descriptor);
        open().is_ok_and(|mut blob| io::copy(&mut blob, &mut io::sink()).is_ok())
    }

    /// Removes a blob; one that is not there, or can't be removed, is replaced or told of when it is written.
    pub fn remove_blob(&self, digest: &Digest) {
        drop(fs::remove_file(self.blob_path(digest)));
    }

    /// Writes a blob, unless it is there. It appears whole, and only if the bytes are those of the descriptor.
    ///
    /// # Errors
    /// The bytes are others or can't be read, or the machine refused.
    pub fn put_blob(&self, descriptor: &Descriptor, from: impl Read) -> Result<(), StoreError> {
        if self.has_blob(&descriptor.digest, descriptor.size) {
            return Ok(());
        }
        let path = self.blob_path(&descriptor.digest);
        let mut file = NewFile::create(&path)?;
        io::copy(&mut descriptor.verify(from), &mut file).map_err(|source| {
            match source.get_ref().is_some_and(|inner| inner.is::<VerifyError>()) {
                true => StoreError::Damaged {
                    digest: descriptor.digest,
                    path: path.clone(),
                    removed: false,
                    source: Some(source),
                },
                false => StoreError::Io { action: "write", path: path.clone(), source },
            }
        })?;
        file.persist()
    }

    /// Waits until nobody else changes `index.json`.
    ///
    /// # Errors
    /// The machine refused.
    pub fn lock(&self) -> Result<LockedLayout<'_>, StoreError> {
        let path = self.directory.join("index.json.lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        file.lock().map_err(StoreError::io("lock", &path))?;
        Ok(LockedLayout { layout: self, _lock: file })
    }

    fn blobs(&self) -> PathBuf {
        self.directory.join("blobs/sha256")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }
}

impl LockedLayout<'_> {
    /// Moves a tag to a manifest, whose layers are there already, and removes what the manifest before had that nothing needs
    /// any more.
    ///
    /// # Errors
    /// A document can't be written, or the layout is broken.
    pub fn set_tag(
        &self,
        tag: &str,
        manifest: (&Descriptor, &[u8]),
        config: (&Descriptor, &[u8]),
    ) -> Result<(), StoreError> {
        let layout = self.layout;
        let mut index = OciLayout::open(&layout.directory)?.index().clone();
        for (descriptor, bytes) in [config, manifest] {
            layout.put_blob(descriptor, bytes)?;
        }
        let mut descriptor = manifest.0.clone();
        descriptor.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag.to_owned());
        let is_named = |entry: &Descriptor| entry.annotations.get(ANNOTATION_REF_NAME).is_some_and(|name| name == tag);
        let before: Vec<Descriptor> = index.manifests.extract_if(.., |entry| is_named(entry)).collect();
        index.manifests.push(descriptor);
        write_file(&layout.directory.join("index.json"), &index.to_json())?;
        // What can't be told to be unneeded stays.
        let (Some(old), Some(needed)) = (self.reached(&before), self.reached(&index.manifests)) else { return Ok(()) };
        for digest in old.difference(&needed) {
            drop(fs::remove_file(layout.blob_path(digest)));
        }
        Ok(())
    }

    /// Everything that entries of an index lead to; `None` if something can't be read.
    fn reached(&self, entries: &[Descriptor]) -> Option<BTreeSet<Digest>> {
        let layout = OciLayout::open(&self.layout.directory).ok()?;
        let mut reached = BTreeSet::new();
        let mut waiting = entries.to_vec();
        while let Some(entry) = waiting.pop() {
            if !reached.insert(entry.digest) {
                continue;
            }
            let bytes = layout.read_document(&entry).ok()?;
            match Document::parse(&bytes, Some(&entry.media_type)).ok()? {
                Document::Manifest(manifest) => {
                    reached.insert(manifest.config.digest);
                    reached.extend(manifest.layers.iter().map(|layer| layer.digest));
                }
                Document::Index(index) => waiting.extend(index.manifests),
            }
        }
        Some(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compression, LayoutSelector, Manifest, MediaType};

    fn layer(bytes: &[u8]) -> Descriptor {
        Descriptor::of(MediaType::Layer(Family::Oci, Compression::Gzip), bytes)
    }

    fn manifest(config: &[u8], layers: &[&[u8]]) -> Manifest {
        let config = Descriptor::of(MediaType::Other("application/x".to_owned()), config);
        Manifest::new(Family::Oci, config, layers.iter().map(|bytes| layer(bytes)).collect())
    }

    #[test]
    fn a_tag_moves_and_what_it_left_behind_goes() {
        let place = tempfile::tempdir().unwrap();
        let layout = SharedLayout::create(place.path()).unwrap();
        for bytes in [&b"one"[..], b"two", b"three"] {
            layout.put_blob(&layer(bytes), bytes).unwrap();
        }
        let put = |tag: &str, config: &[u8], layers: &[&[u8]]| {
            let manifest = manifest(config, layers);
            let descriptors = ((&manifest.descriptor(), &manifest.to_json()[..]), (&manifest.config, config));
            layout.lock().unwrap().set_tag(tag, descriptors.0, descriptors.1).unwrap();
        };
        put("a", b"first", &[b"one", b"two"]);
        put("b", b"other", &[b"one"]);
        put("a", b"second", &[b"three"]);
        let has = |bytes: &[u8]| layout.has_blob(&Digest::of(bytes), bytes.len() as u64);
        assert!(has(b"one") && has(b"three") && has(b"second") && has(b"other"));
        assert!(!has(b"two") && !has(b"first"));
        let read = OciLayout::open(place.path()).unwrap();
        let found = read.resolve(&LayoutSelector::Tag("a".to_owned())).unwrap();
        assert_eq!(found.digest, manifest(b"second", &[b"three"]).descriptor().digest);
    }

    #[test]
    fn a_blob_of_other_bytes_does_not_appear() {
        let place = tempfile::tempdir().unwrap();
        let layout = SharedLayout::create(place.path()).unwrap();
        let wanted = layer(b"right");
        assert!(matches!(layout.put_blob(&wanted, &b"wrong"[..]), Err(StoreError::Damaged { .. })));
        assert!(matches!(layout.put_blob(&wanted, &b"righ"[..]), Err(StoreError::Damaged { .. })));
        assert!(!layout.has_blob(&wanted.digest, wanted.size));
        assert_eq!(fs::read_dir(place.path().join("blobs/sha256")).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_with_something_else_in_it_is_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("index.json"), "[]").unwrap();
        assert!(SharedLayout::create(place.path()).is_err());
    }
}
