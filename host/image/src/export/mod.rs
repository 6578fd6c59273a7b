//! Images out of the store, in the forms that other tools read. Everything streams, every blob is verified on the way,
//! and the same image gives the same bytes.

mod archive;
mod directory;
mod new_directory;
mod new_file;

pub use archive::{docker_archive, oci_archive};
pub use directory::oci_directory;
pub use new_directory::NewDirectory;
pub use new_file::{NewFile, write_file};

use std::collections::BTreeMap;

use oci_spec::image::ANNOTATION_REF_NAME;

use crate::{Descriptor, Document, Index, Manifest, Store, StoreError};

/// The annotation in which containerd looks for the full name.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Everything that an image consists of.
struct Parts {
    /// Manifests of images, in the order of the index.
    manifests: Vec<Manifest>,
    /// Every blob, by digest: the documents and the layers, each once.
    blobs: BTreeMap<cofferdam_digest::Digest, Descriptor>,
}

impl Parts {
    fn collect(store: &Store, image: &Descriptor) -> Result<Self, StoreError> {
        let mut parts = Self { manifests: Vec::new(), blobs: BTreeMap::new() };
        parts.add(store, image, 0)?;
        Ok(parts)
    }

    fn add(&mut self, store: &Store, image: &Descriptor, depth: usize) -> Result<(), StoreError> {
        let bytes = store.read_document(image)?;
        self.blobs.insert(image.digest, image.clone());
        match Document::parse(&bytes, Some(&image.media_type))? {
            Document::Manifest(manifest) => {
                for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    if !store.has_blob(&blob.digest, Some(blob.size)) {
                        return Err(match store.has_blob(&blob.digest, None) {
                            true => store.reading(&blob.digest, wrong_size()),
                            false => StoreError::Missing { digest: blob.digest, store: store.root().to_path_buf() },
                        });
                    }
                    self.blobs.insert(blob.digest, blob.clone());
                }
                self.manifests.push(manifest);
            }
            // An index of indexes is allowed, but one that contains itself can't exist: it would have to know its own digest.
            Document::Index(Index { manifests, .. }) if depth < 4 => {
                manifests.iter().try_for_each(|entry| self.add(store, entry, depth + 1))?;
            }
            Document::Index(_) => {
                let what = format!("the index {}", image.digest);
                return Err(crate::ImageError::Invalid { what, why: "nests too deep".to_owned() }.into());
            }
        }
        Ok(())
    }
}

fn wrong_size() -> std::io::Error {
    let error = cofferdam_digest::VerifyError::Size { expected: 0, actual: 0 };
    std::io::Error::new(std::io::ErrorKind::InvalidData, error)
}

/// The entries of `index.json` for an image under these full names (`registry/repository:tag`): the tag alone is what
/// OCI tools look for, the full name is for containerd and Docker.
fn entries(image: &Descriptor, names: &[String]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![image.clone()];
    }
    let entry = |name: &String| {
        let mut entry = image.clone();
        entry.annotations.insert(ANNOTATION_CONTAINERD_NAME.to_owned(), name.clone());
        entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag_of(name).to_owned());
        entry
    };
    names.iter().map(entry).collect()
}

/// What stands after the last colon, unless that is the port of a registry.
fn tag_of(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        _ => "latest",
    }
}
