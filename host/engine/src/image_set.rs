//! What the names of a build lead to: one image, or an index of images for several platforms.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use cofferdam_image::{AttestationManifest, Descriptor, Family, Index, Store};

use crate::{
    annotations::{self, Annotation, AnnotationLevel},
    assemble::Assembled,
    error::BuildError,
    layers::StageLayer,
};

/// One image, or several under an index.
pub enum ImageSet {
    /// One that stands for itself.
    Single(Box<Assembled>),
    /// Several, in the order in which their platforms were asked for, or one about which something is said.
    Indexed {
        /// The images.
        images: Vec<Assembled>,
        /// What is said about them, in the same order.
        attestations: Vec<AttestationManifest>,
        /// Names them.
        index: Index,
        /// Of the index's own descriptor, where that stands.
        descriptor_annotations: BTreeMap<String, String>,
    },
}

/// A manifest, or the index of others.
pub struct SetDocument {
    /// Of the bytes.
    pub descriptor: Descriptor,
    /// The JSON.
    pub bytes: Bytes,
}

impl ImageSet {
    /// Images under an index, each with its platform, and behind them what is said about them.
    pub fn indexed(
        images: Vec<Assembled>,
        attestations: Vec<AttestationManifest>,
        family: Family,
        annotations: &[Annotation],
    ) -> Self {
        let entry = |image: &Assembled| Descriptor { platform: Some(image.platform.clone()), ..image.descriptor() };
        let entries = images.iter().map(entry).chain(attestations.iter().map(AttestationManifest::entry));
        let mut index = Index::new(family, entries.collect());
        index.annotations = annotations::at(annotations, AnnotationLevel::Index, None);
        let descriptor_annotations = annotations::at(annotations, AnnotationLevel::IndexDescriptor, None);
        Self::Indexed { images, attestations, index, descriptor_annotations }
    }

    /// The images.
    pub fn images(&self) -> &[Assembled] {
        match self {
            Self::Single(image) => std::slice::from_ref(image),
            Self::Indexed { images, .. } => images,
        }
    }

    /// What is said about the images.
    pub fn attestations(&self) -> &[AttestationManifest] {
        match self {
            Self::Single(_) => &[],
            Self::Indexed { attestations, .. } => attestations,
        }
    }

    /// The layers of all images.
    pub fn layers(&self) -> impl Iterator<Item = &Arc<StageLayer>> {
        self.images().iter().flat_map(|image| &image.layers)
    }

    /// What the names lead to.
    pub fn root(&self) -> SetDocument {
        match self {
            Self::Single(image) => SetDocument::of_manifest(image),
            Self::Indexed { index, descriptor_annotations, .. } => {
                let descriptor = Descriptor { annotations: descriptor_annotations.clone(), ..index.descriptor() };
                SetDocument { descriptor, bytes: Bytes::from(index.to_json()) }
            }
        }
    }

    /// All documents in an order in which they can be sent: each after those that it names, the root last.
    pub fn documents(&self) -> Vec<SetDocument> {
        let manifests = match self {
            Self::Single(_) => &[],
            Self::Indexed { images, .. } => &images[..],
        };
        let attestations = self.attestations().iter().map(|attestation| SetDocument {
            descriptor: attestation.manifest().descriptor(),
            bytes: Bytes::from(attestation.manifest().to_json()),
        });
        manifests.iter().map(SetDocument::of_manifest).chain(attestations).chain([self.root()]).collect()
    }

    /// Puts everything into the store, layers of the bases included, and lists it there under its names.
    ///
    /// # Errors
    /// A layer can't be had, or the machine refused.
    pub fn keep(&self, store: &Store, names: &[String]) -> Result<(), BuildError> {
        for layer in self.layers() {
            layer.fetch()?;
        }
        for image in self.images() {
            store.put_document(image.manifest.config.media_type.clone(), &image.config)?;
        }
        for (descriptor, bytes) in self.attestations().iter().flat_map(AttestationManifest::blobs) {
            store.put_document(descriptor.media_type.clone(), bytes)?;
        }
        for document in self.documents() {
            store.put_document(document.descriptor.media_type.clone(), &document.bytes)?;
        }
        store.record_image(&self.root().descriptor, names)?;
        Ok(())
    }
}

impl SetDocument {
    fn of_manifest(image: &Assembled) -> Self {
        Self { descriptor: image.descriptor(), bytes: Bytes::from(image.manifest.to_json()) }
    }
}
