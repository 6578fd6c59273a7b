//! Manifests and indexes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{Descriptor, Family, ImageError, MediaType, Platform, json};

/// More layers than any kernel can stack, and than any registry's image has.
const LAYERS_LIMIT: usize = 4096;

/// More images than any index in the wild lists.
const INDEX_LIMIT: usize = 4096;

/// What a reference leads to.
#[allow(clippy::large_enum_variant, reason = "one of these exists for each base image")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images for several platforms.
    Index(Index),
}

/// An image: its configuration and its layers (OCI image specification, manifest.md; Docker's schema 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    /// [`MediaType::Manifest`].
    #[serde(default = "oci_manifest")]
    pub media_type: MediaType,
    /// Of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// Base first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Sorted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, one for each platform (OCI image specification, image-index.md; Docker's manifest list).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    /// [`MediaType::Index`].
    #[serde(default = "oci_index")]
    pub media_type: MediaType,
    /// In the order of preference.
    pub manifests: Vec<Descriptor>,
    /// Sorted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Document {
    /// Reads a manifest or an index. `media_type` is what the descriptor or the HTTP header says, if anything does.
    ///
    /// A document that could be read as both is refused, and so is one that names another type than it was served as: two
    /// readers must never see two images in the same bytes (CVE-2021-41190).
    ///
    /// # Errors
    /// Too large, not JSON, neither of the two, contradictory, or of Docker's long obsolete schema 1.
    pub fn parse(bytes: &[u8], media_type: Option<&MediaType>) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: u32,
            media_type: Option<MediaType>,
            config: Option<IgnoredAny>,
            layers: Option<IgnoredAny>,
            manifests: Option<IgnoredAny>,
        }
        let invalid = |why: String| ImageError::Invalid { what: "the manifest".to_owned(), why };
        let shape: Shape = json::parse("the manifest", bytes)?;
        if shape.schema_version != 2 {
            return Err(invalid(format!(
                "has schema version {}, only 2 is supported; push the image again with a current tool",
                shape.schema_version
            )));
        }
        let served = media_type.filter(|media_type| MediaType::MANIFESTS.contains(media_type));
        if let (Some(own), Some(served)) = (&shape.media_type, served)
            && own != served
        {
            return Err(invalid(format!("says that it is `{own}`, but was served as `{served}`")));
        }
        if let Some(own) = &shape.media_type
            && !MediaType::MANIFESTS.contains(own)
        {
            return Err(invalid(format!("is of type `{own}`, which is no image")));
        }
        let is_index = match (shape.config.is_some() || shape.layers.is_some(), shape.manifests.is_some()) {
            (true, false) => false,
            (false, true) => true,
            (true, true) => return Err(invalid("has both layers and manifests".to_owned())),
            (false, false) => return Err(invalid("has neither layers nor manifests".to_owned())),
        };
        let document = if is_index {
            let mut index: Index = json::parse("the index", bytes)?;
            if let (None, Some(served)) = (&shape.media_type, served) {
                index.media_type = served.clone();
            }
            Self::Index(index)
        } else {
            let mut manifest: Manifest = json::parse("the manifest", bytes)?;
            if let (None, Some(served)) = (&shape.media_type, served) {
                manifest.media_type = served.clone();
            }
            Self::Manifest(manifest)
        };
        match &document {
            Self::Index(index) if !matches!(index.media_type, MediaType::Index(_)) => {
                Err(invalid(format!("says that it is `{}`, but lists manifests", index.media_type)))
            }
            Self::Index(index) if index.manifests.len() > INDEX_LIMIT => {
                Err(invalid(format!("lists more than {INDEX_LIMIT} manifests")))
            }
            Self::Manifest(manifest) if !matches!(manifest.media_type, MediaType::Manifest(_)) => {
                Err(invalid(format!("says that it is `{}`, but has layers", manifest.media_type)))
            }
            Self::Manifest(manifest) if manifest.layers.len() > LAYERS_LIMIT => {
                Err(invalid(format!("has more than {LAYERS_LIMIT} layers")))
            }
            _ => Ok(document),
        }
    }
}

impl Manifest {
    /// A manifest without annotations.
    pub fn new(family: Family, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MediaType::Manifest(family),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Which specification it follows.
    pub fn family(&self) -> Family {
        match self.media_type {
            MediaType::Manifest(family) => family,
            _ => Family::Oci,
        }
    }

    /// Refuses what can't be a base: artifacts, and layers that registries do not hold.
    ///
    /// # Errors
    /// [`ImageError::ForeignLayer`], [`ImageError::NotALayer`], or a configuration of another type.
    pub fn check_is_image(&self) -> Result<(), ImageError> {
        if !matches!(self.config.media_type, MediaType::Config(_)) {
            let why =
                format!("has a configuration of type `{}`; it is an artifact, not an image", self.config.media_type);
            return Err(ImageError::Invalid { what: "the manifest".to_owned(), why });
        }
        self.layers.iter().try_for_each(|layer| layer.media_type.layer_compression().map(drop))
    }

    /// The canonical JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json::canonical(self)
    }

    /// The descriptor of the canonical JSON.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type.clone(), &self.to_json())
    }
}

impl Index {
    /// An index without annotations.
    pub fn new(family: Family, manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: MediaType::Index(family), manifests, annotations: BTreeMap::new() }
    }

    /// The image for a platform: the same variant, else the newest older one; the first of equals. An index with a single
    /// entry that says no platform means that one. Attestations (`unknown/unknown`) are never taken.
    ///
    /// # Errors
    /// [`ImageError::NoPlatform`] lists what there is.
    pub fn select(&self, wanted: &Platform) -> Result<&Descriptor, ImageError> {
        if let [only] = &self.manifests[..]
            && only.platform.is_none()
        {
            return Ok(only);
        }
        wanted
            .best(self.manifests.iter().map(|entry| entry.platform.as_ref()))
            .map(|position| &self.manifests[position])
            .ok_or_else(|| {
                let mut names: Vec<String> = self.platforms().map(|platform| platform.to_string()).collect();
                names.sort();
                names.dedup();
                let available = if names.is_empty() { "nothing with a platform".to_owned() } else { names.join(", ") };
                ImageError::NoPlatform { wanted: wanted.clone(), available }
            })
    }

    /// The platforms of its images.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.manifests.iter().filter_map(|entry| entry.platform.as_ref()).filter(|platform| platform.os != "unknown")
    }

    /// The canonical JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json::canonical(self)
    }

    /// The descriptor of the canonical JSON.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type.clone(), &self.to_json())
    }
}

fn oci_manifest() -> MediaType {
    MediaType::Manifest(Family::Oci)
}

fn oci_index() -> MediaType {
    MediaType::Index(Family::Oci)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compression;

    fn manifest() -> Manifest {
        let layer = MediaType::Layer(Family::Oci, Compression::Gzip);
        Manifest::new(
            Family::Oci,
            Descriptor::of(MediaType::Config(Family::Oci), b"{}"),
            vec![Descriptor::of(layer, b"layer")],
        )
    }

    fn index(platforms: &[&str]) -> Index {
        let entry = |name: &&str| Descriptor {
            platform: Some(name.parse().unwrap()),
            ..Descriptor::of(oci_manifest(), name.as_bytes())
        };
        Index::new(Family::Oci, platforms.iter().map(entry).collect())
    }

    #[test]
    fn what_is_written_reads_back_and_the_oci_crate_reads_it_too() {
        let manifest = manifest();
        assert_eq!(Document::parse(&manifest.to_json(), None).unwrap(), Document::Manifest(manifest.clone()));
        let theirs = oci_spec::image::ImageManifest::from_reader(&manifest.to_json()[..]).unwrap();
        assert_eq!(theirs.layers()[0].digest().to_string(), manifest.layers[0].digest.to_string());
        let index = index(&["linux/amd64", "linux/arm/v7"]);
        assert_eq!(Document::parse(&index.to_json(), None).unwrap(), Document::Index(index.clone()));
        let theirs = oci_spec::image::ImageIndex::from_reader(&index.to_json()[..]).unwrap();
        assert_eq!(theirs.manifests()[1].platform().as_ref().unwrap().variant().as_deref(), Some("v7"));
    }

    #[test]
    fn ambiguous_and_contradictory_documents_are_refused() {
        let config = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;
        for (text, why) in [
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#), "both"),
            (r#"{"schemaVersion":2}"#.to_owned(), "neither"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema version 1"),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]}}"#, oci_index()),
                "but has layers",
            ),
            (format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, oci_manifest()), "lists manifests"),
            (r#"{"schemaVersion":2,"mediaType":"text/html","manifests":[]}"#.to_owned(), "no image"),
        ] {
            let error = Document::parse(text.as_bytes(), None).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let served = MediaType::Manifest(Family::Docker);
        assert!(Document::parse(&manifest().to_json(), Some(&served)).unwrap_err().to_string().contains("served as"));
    }

    #[test]
    fn a_document_without_a_type_has_the_one_it_was_served_as() {
        let text = br#"{"schemaVersion":2,"manifests":[]}"#;
        let served = MediaType::Index(Family::Docker);
        let Document::Index(index) = Document::parse(text, Some(&served)).unwrap() else { panic!() };
        assert_eq!(index.media_type, served);
    }

    #[test]
    fn a_missing_platform_error_lists_what_there_is() {
        let mut index = index(&["linux/arm64", "linux/amd64"]);
        let attestation =
            Platform { os: "unknown".into(), architecture: "unknown".into(), os_version: None, variant: None };
        index.manifests[0].platform = Some(attestation);
        let error = index.select(&"linux/s390x".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "no image for linux/s390x; there is linux/amd64");
        assert_eq!(index.select(&"linux/amd64".parse().unwrap()).unwrap(), &index.manifests[1]);
    }

    #[test]
    fn artifacts_and_foreign_layers_are_no_bases() {
        let mut foreign = manifest();
        assert!(foreign.check_is_image().is_ok());
        foreign.layers[0].media_type = MediaType::from("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        assert!(matches!(foreign.check_is_image(), Err(ImageError::ForeignLayer(_))));
        let mut artifact = manifest();
        artifact.config.media_type = MediaType::Empty;
        assert!(artifact.check_is_image().unwrap_err().to_string().contains("artifact"));
    }
}
