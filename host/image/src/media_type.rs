//! What a blob is, in the words of OCI and of Docker.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ImageError;

/// Which specification a media type belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// OCI image specification, media-types.md.
    Oci,
    /// Docker's image manifest version 2, schema 2.
    Docker,
}

/// How the tar stream of a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// The media type of a blob or document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaType {
    /// An image manifest.
    Manifest(Family),
    /// An image index; Docker's manifest list.
    Index(Family),
    /// An image configuration.
    Config(Family),
    /// A layer.
    Layer(Family, Compression),
    /// A layer that registries do not hold ("non-distributable", "foreign"): refused wherever a layer is needed.
    ForeignLayer(String),
    /// The empty JSON object.
    Empty,
    /// Anything else, kept as it is.
    Other(String),
}

const TABLE: [(MediaType, &str); 15] = {
    use Compression::{Gzip, None, Zstd};
    use Family::{Docker, Oci};
    [
        (MediaType::Manifest(Oci), "application/vnd.oci.image.manifest.v1+json"),
        (MediaType::Index(Oci), "application/vnd.oci.image.index.v1+json"),
        (MediaType::Config(Oci), "application/vnd.oci.image.config.v1+json"),
        (MediaType::Layer(Oci, None), "application/vnd.oci.image.layer.v1.tar"),
        (MediaType::Layer(Oci, Gzip), "application/vnd.oci.image.layer.v1.tar+gzip"),
        (MediaType::Layer(Oci, Zstd), "application/vnd.oci.image.layer.v1.tar+zstd"),
        (MediaType::Empty, "application/vnd.oci.empty.v1+json"),
        (MediaType::Manifest(Docker), "application/vnd.docker.distribution.manifest.v2+json"),
        (MediaType::Index(Docker), "application/vnd.docker.distribution.manifest.list.v2+json"),
        (MediaType::Config(Docker), "application/vnd.docker.container.image.v1+json"),
        (MediaType::Layer(Docker, Gzip), "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        (MediaType::Layer(Docker, None), "application/vnd.docker.image.rootfs.diff.tar"),
        (MediaType::Layer(Docker, Zstd), "application/vnd.docker.image.rootfs.diff.tar.zstd"),
        // Names that old builders wrote for the same bytes.
        (MediaType::Layer(Docker, Gzip), "application/x-tar-gzip"),
        (MediaType::Layer(Docker, None), "application/x-tar"),
    ]
};

const FOREIGN: [&str; 5] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

impl MediaType {
    /// What a registry client accepts when it asks for a manifest, in order of preference.
    pub const MANIFESTS: [Self; 4] = [
        Self::Index(Family::Oci),
        Self::Manifest(Family::Oci),
        Self::Index(Family::Docker),
        Self::Manifest(Family::Docker),
    ];

    /// The compression of a layer.
    ///
    /// # Errors
    /// [`ImageError::ForeignLayer`], or [`ImageError::NotALayer`] for everything that is no layer.
    pub fn layer_compression(&self) -> Result<Compression, ImageError> {
        match self {
            Self::Layer(_, compression) => Ok(*compression),
            Self::ForeignLayer(text) => Err(ImageError::ForeignLayer(text.clone())),
            other => Err(ImageError::NotALayer(other.to_string())),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignLayer(text) | Self::Other(text) => f.write_str(text),
            known => {
                let name = TABLE.iter().find(|(media_type, _)| media_type == known).map_or("", |(_, name)| name);
                f.write_str(name)
            }
        }
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        // Parameters ("; charset=utf-8") come with HTTP headers, and type names ignore case (RFC 9110, 8.3.1).
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if let Some((media_type, _)) = TABLE.iter().find(|(_, name)| *name == essence) {
            return media_type.clone();
        }
        if FOREIGN.contains(&&*essence) { Self::ForeignLayer(essence) } else { Self::Other(essence) }
    }
}

impl FromStr for MediaType {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_type_reads_back_as_what_it_was_written_as() {
        for (media_type, _) in TABLE {
            assert_eq!(MediaType::from(&*media_type.to_string()), media_type);
        }
        assert_eq!(MediaType::from("Application/X-Tar-Gzip; q=1"), MediaType::Layer(Family::Docker, Compression::Gzip));
    }

    #[test]
    fn foreign_layers_and_other_blobs_are_no_layers() {
        for text in FOREIGN {
            assert!(matches!(MediaType::from(text).layer_compression(), Err(ImageError::ForeignLayer(_))), "{text}");
        }
        assert!(matches!(MediaType::Config(Family::Oci).layer_compression(), Err(ImageError::NotALayer(_))));
    }

    #[test]
    fn names_are_those_of_the_oci_crate() {
        use oci_spec::image::MediaType as Oci;
        for (ours, theirs) in [
            (MediaType::Manifest(Family::Oci), Oci::ImageManifest),
            (MediaType::Index(Family::Oci), Oci::ImageIndex),
            (MediaType::Config(Family::Oci), Oci::ImageConfig),
            (MediaType::Layer(Family::Oci, Compression::None), Oci::ImageLayer),
            (MediaType::Layer(Family::Oci, Compression::Gzip), Oci::ImageLayerGzip),
            (MediaType::Layer(Family::Oci, Compression::Zstd), Oci::ImageLayerZstd),
        ] {
            assert_eq!(ours.to_string(), theirs.to_string());
        }
    }
}
