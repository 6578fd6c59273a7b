//! Annotations, and the places of an image that have them.

use std::collections::BTreeMap;

use cofferdam_plan::Platform;

/// Where an annotation stands (`docker buildx build --annotation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationLevel {
    /// In the manifest of each image.
    Manifest,
    /// Beside the digest of the manifest, where that is named: in the index, or in an OCI layout.
    ManifestDescriptor,
    /// In the index.
    Index,
    /// Beside the digest of the index, in an OCI layout.
    IndexDescriptor,
}

impl AnnotationLevel {
    /// Whether it is of an index, which not every build makes.
    pub fn is_of_index(self) -> bool {
        matches!(self, Self::Index | Self::IndexDescriptor)
    }
}

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Where.
    pub level: AnnotationLevel,
    /// Of the image for this platform alone.
    pub platform: Option<Platform>,
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Those of one place, for the image of a platform or for what has none. Of one name the last counts.
pub fn at(annotations: &[Annotation], level: AnnotationLevel, platform: Option<&Platform>) -> BTreeMap<String, String> {
    let is_here = |annotation: &&Annotation| {
        annotation.level == level && (annotation.platform.is_none() || annotation.platform.as_ref() == platform)
    };
    let here = annotations.iter().filter(is_here);
    here.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
}
