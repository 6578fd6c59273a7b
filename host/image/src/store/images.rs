//! The list of built images in the store's `index.json`, and what references led to.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::PathBuf,
    sync::PoisonError,
};

use cofferdam_digest::Digest;

use super::{Store, read_small, session::lock_file};
use crate::{Descriptor, Document, Family, Index, MediaType, StoreError, json};

use oci_spec::image::ANNOTATION_REF_NAME;

/// How many images without a name the list keeps. Their blobs stay in any case; this only bounds the list.
const NAMELESS_LIMIT: usize = 100;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// The name it was built under; the same image may be listed under several.
    pub name: Option<String>,
    /// Its manifest or index.
    pub descriptor: Descriptor,
}

impl StoredImage {
    fn of_entry(mut descriptor: Descriptor) -> Self {
        Self { name: descriptor.annotations.remove(ANNOTATION_REF_NAME), descriptor }
    }
}

impl Store {
    /// Lists an image, under each of these names, or without one. A name that another image had moves to this one.
    ///
    /// Its manifest, configuration and layers should be in the store by now.
    ///
    /// # Errors
    /// The machine refused.
    pub fn record_image(&self, image: &Descriptor, names: &[String]) -> Result<(), StoreError> {
        let _lock = self.lock_image_list()?;
        let mut index = match self.read_image_list() {
            Err(StoreError::Broken { path, .. }) => self.begun_anew(path),
            read => read?,
        };
        let name_of = |entry: &Descriptor| entry.annotations.get(ANNOTATION_REF_NAME).cloned();
        index.manifests.retain(|entry| match name_of(entry) {
            Some(name) => !names.contains(&name),
            None => entry.digest != image.digest,
        });
        if names.is_empty() && !index.manifests.iter().any(|entry| entry.digest == image.digest) {
            index.manifests.push(image.clone());
        }
        for (position, name) in names.iter().enumerate() {
            if !names[..position].contains(name) {
                let mut entry = image.clone();
                entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.clone());
                index.manifests.push(entry);
            }
        }
        let mut surplus =
            index.manifests.iter().filter(|entry| name_of(entry).is_none()).count().saturating_sub(NAMELESS_LIMIT);
        index.manifests.retain(|entry| {
            let dropped = surplus > 0 && name_of(entry).is_none();
            surplus -= usize::from(dropped);
            !dropped
        });
        self.replace_file(&self.root.join("index.json"), true, |file| file.write_all(&index.to_json()))
    }

    /// The images, oldest first.
    ///
    /// # Errors
    /// The machine refused, or `index.json` is broken.
    pub fn images(&self) -> Result<Vec<StoredImage>, StoreError> {
        let index = self.read_image_list()?;
        Ok(index.manifests.into_iter().map(StoredImage::of_entry).collect())
    }

    /// The image of this name, or with this digest.
    ///
    /// # Errors
    /// The machine refused, or `index.json` is broken.
    pub fn find_image(&self, name_or_digest: &str) -> Result<Option<Descriptor>, StoreError> {
        let digest: Option<Digest> = name_or_digest.parse().ok();
        let found = self
            .images()?
            .into_iter()
            .rfind(|image| image.name.as_deref() == Some(name_or_digest) || digest == Some(image.descriptor.digest));
        Ok(found.map(|image| image.descriptor))
    }

    /// The blobs of an image, its manifest included; none if one of them is missing. Nothing is verified but the documents, and
    /// nothing counts as used.
    pub fn blobs_of_image(&self, image: &Descriptor) -> Option<BTreeSet<Digest>> {
        let mut blobs = BTreeSet::new();
        let mut waiting = vec![image.clone()];
        while let Some(entry) = waiting.pop() {
            if !blobs.insert(entry.digest) {
                continue;
            }
            let bytes = read_small(&self.blob_path(&entry.digest), json::DOCUMENT_LIMIT_BYTES).ok()??;
            if Digest::of(&bytes) != entry.digest {
                return None;
            }
            match Document::parse(&bytes, Some(&entry.media_type)).ok()? {
                Document::Index(index) => waiting.extend(index.manifests),
                Document::Manifest(manifest) => {
                    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                        let there = fs::symlink_metadata(self.blob_path(&blob.digest)).ok()?;
                        if !there.is_file() || there.len() != blob.size {
                            return None;
                        }
                        blobs.insert(blob.digest);
                    }
                }
            }
        }
        Some(blobs)
    }

    /// Takes images from the list that are not whole any more, and answers which.
    ///
    /// # Errors
    /// The machine refused, or `index.json` is broken.
    pub fn forget_incomplete_images(&self) -> Result<Vec<StoredImage>, StoreError> {
        let _lock = self.lock_image_list()?;
        let mut index = self.read_image_list()?;
        let incomplete: Vec<Descriptor> =
            index.manifests.extract_if(.., |entry| self.blobs_of_image(entry).is_none()).collect();
        if !incomplete.is_empty() {
            self.replace_file(&self.root.join("index.json"), true, |file| file.write_all(&index.to_json()))?;
        }
        Ok(incomplete.into_iter().map(StoredImage::of_entry).collect())
    }

    /// Remembers what a reference led to, so that a later build can do without asking if it may.
    ///
    /// # Errors
    /// The machine refused.
    pub fn remember_reference(&self, reference: &str, descriptor: &Descriptor) -> Result<(), StoreError> {
        self.write_atomically(&self.reference_path(reference), &json::canonical(descriptor))
    }

    /// What a reference led to when it was last looked up.
    ///
    /// # Errors
    /// The machine refused.
    pub fn remembered_reference(&self, reference: &str) -> Result<Option<Descriptor>, StoreError> {
        let record = read_small(&self.reference_path(reference), json::DOCUMENT_LIMIT_BYTES)?;
        Ok(record.and_then(|record| serde_json::from_slice(&record).ok()))
    }

    pub(super) fn ensure_image_list(&self) -> Result<(), StoreError> {
        let path = self.root.join("index.json");
        let is_broken = || match self.read_image_list() {
            Err(StoreError::Broken { .. }) => Ok(true),
            read => read.map(|_| false),
        };
        if !is_broken()? {
            return Ok(());
        }
        let _lock = self.lock_image_list()?;
        if !is_broken()? {
            return Ok(());
        }
        let empty = match fs::symlink_metadata(&path).is_ok() {
            true => self.begun_anew(path.clone()),
            false => Index::new(Family::Oci, Vec::new()),
        };
        self.write_atomically(&path, &empty.to_json())
    }

    /// A list in the place of one that can't be read. It names what was built, nothing depends on it.
    fn begun_anew(&self, path: PathBuf) -> Index {
        self.repaired.lock().unwrap_or_else(PoisonError::into_inner).push(path);
        Index::new(Family::Oci, Vec::new())
    }

    fn reference_path(&self, reference: &str) -> PathBuf {
        self.root.join("images").join(Digest::of(reference.as_bytes()).hex())
    }

    fn lock_image_list(&self) -> Result<File, StoreError> {
        let path = self.root.join("tmp/index-json");
        let lock = lock_file(&path)?;
        lock.lock().map_err(StoreError::io("lock", path))?;
        Ok(lock)
    }

    fn read_image_list(&self) -> Result<Index, StoreError> {
        let path = self.root.join("index.json");
        let broken = |why: String| StoreError::Broken { path: path.clone(), why };
        let bytes = read_small(&path, json::DOCUMENT_LIMIT_BYTES)?
            .ok_or_else(|| broken("is missing or too large".to_owned()))?;
        match Document::parse(&bytes, Some(&MediaType::Index(Family::Oci))) {
            Ok(Document::Index(index)) => Ok(index),
            Ok(Document::Manifest(_)) => Err(broken("is a manifest, not an index".to_owned())),
            Err(error) => Err(broken(format!("is damaged: {error}"))),
        }
    }
}
