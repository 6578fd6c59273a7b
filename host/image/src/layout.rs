//! Somebody else's OCI layout, read with distrust: bounded, regular files only, every digest verified.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};

use cofferdam_digest::{Digest, VerifyError, VerifyingReader};
use oci_spec::image::ANNOTATION_REF_NAME;
use serde::Deserialize;

use crate::{Descriptor, Document, Family, ImageError, Index, MediaType, StoreError, json};

/// `oci-layout://DIR[:TAG][@sha256:…]`; where both are written, the digest decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutReference {
    /// As written; the caller resolves a relative one.
    pub directory: PathBuf,
    /// Which of its images.
    pub selector: LayoutSelector,
}

/// Which image of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutSelector {
    /// The only one, or `latest`.
    Default,
    /// The one with this `org.opencontainers.image.ref.name`.
    Tag(String),
    /// The one with this digest.
    Digest(Digest),
}

/// An OCI layout directory (OCI image specification, image-layout.md).
#[derive(Debug, Clone)]
pub struct OciLayout {
    directory: PathBuf,
    index: Index,
}

impl LayoutReference {
    /// What a reference of this kind starts with.
    pub const SCHEME: &'static str = "oci-layout://";
}

impl FromStr for LayoutReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |source| ImageError::LayoutReference { text: text.chars().take(200).collect(), source };
        let rest = text.strip_prefix(Self::SCHEME).ok_or_else(|| invalid(None))?;
        let (rest, digest) = match rest.rsplit_once('@').filter(|(_, digest)| digest.starts_with("sha256:")) {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|error| invalid(Some(error)))?)),
            None => (rest, None),
        };
        // A tag has no slash, so a colon before the last slash belongs to the directory's name.
        let (directory, tag) = match rest.rsplit_once(':') {
            Some((directory, tag)) if !tag.contains('/') && !tag.is_empty() => (directory, Some(tag)),
            _ => (rest, None),
        };
        let selector = match (digest, tag) {
            (Some(digest), _) => LayoutSelector::Digest(digest),
            (None, Some(tag)) => LayoutSelector::Tag(tag.to_owned()),
            (None, None) => LayoutSelector::Default,
        };
        if directory.is_empty() {
            return Err(invalid(None));
        }
        Ok(Self { directory: directory.into(), selector })
    }
}

impl fmt::Display for LayoutSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("latest"),
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl OciLayout {
    /// Whether a directory is meant to be a layout.
    pub fn is_at(directory: &Path) -> bool {
        directory.join("oci-layout").exists()
    }

    /// Opens a layout: reads `oci-layout` and `index.json`.
    ///
    /// # Errors
    /// It is not a layout of version 1, or can't be read.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            image_layout_version: String,
        }
        let path = directory.join("oci-layout");
        let version: Version = json::parse("`oci-layout`", &read_bounded(&path)?)?;
        if !version.image_layout_version.starts_with("1.") {
            let why = format!("has layout version `{}`, only 1 is supported", version.image_layout_version);
            return Err(ImageError::Invalid { what: format!("`{}`", path.display()), why }.into());
        }
        let path = directory.join("index.json");
        match Document::parse(&read_bounded(&path)?, Some(&MediaType::Index(Family::Oci)))? {
            Document::Index(index) => Ok(Self { directory: directory.to_path_buf(), index }),
            Document::Manifest(_) => Err(ImageError::Invalid {
                what: format!("`{}`", path.display()),
                why: "is a manifest, not an index".to_owned(),
            }
            .into()),
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// When the list of images was last written, if the file system says it.
    pub fn written(&self) -> Option<SystemTime> {
        std::fs::metadata(self.directory.join("index.json")).and_then(|index| index.modified()).ok()
    }

    /// Whether a blob is there, with this size in bytes. Its content is verified when it is read.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        std::fs::symlink_metadata(self.blob_path(digest)).is_ok_and(|file| file.is_file() && file.len() == size)
    }

    /// The images as `index.json` lists them.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The image that is meant. A tag also fits a full name (`registry/app:tag`) that ends with it, if only one does.
    ///
    /// # Errors
    /// [`ImageError::NotInLayout`] lists what there is.
    pub fn resolve(&self, selector: &LayoutSelector) -> Result<&Descriptor, ImageError> {
        let entries = &self.index.manifests;
        let name = |entry: &Descriptor| entry.annotations.get(ANNOTATION_REF_NAME).cloned();
        let named = |tag: &str| {
            let suffix = format!(":{tag}");
            let mut full = entries.iter().filter(|entry| name(entry).is_some_and(|name| name.ends_with(&suffix)));
            let only = full.next().filter(|_| full.next().is_none());
            entries.iter().rfind(|entry| name(entry).as_deref() == Some(tag)).or(only)
        };
        let found = match selector {
            LayoutSelector::Digest(digest) => entries.iter().find(|entry| entry.digest == *digest),
            LayoutSelector::Tag(tag) => named(tag),
            LayoutSelector::Default => match &entries[..] {
                [only] => Some(only),
                _ => named("latest"),
            },
        };
        found.ok_or_else(|| {
            let names: Vec<String> =
                entries.iter().take(50).map(|entry| name(entry).unwrap_or_else(|| entry.digest.to_string())).collect();
            let available = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            ImageError::NotInLayout { layout: self.directory.clone(), selector: selector.to_string(), available }
        })
    }

    /// Reads a manifest, index or configuration whole, verified.
    ///
    /// # Errors
    /// Missing, damaged, too large, or the machine refused.
    pub fn read_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError> {
        if descriptor.size > json::DOCUMENT_LIMIT_BYTES {
            let what = format!("the document {}", descriptor.digest);
            return Err(ImageError::TooLarge { what, limit: json::DOCUMENT_LIMIT_BYTES }.into());
        }
        let path = self.blob_path(&descriptor.digest);
        let mut bytes = Vec::new();
        self.open_blob(descriptor)?.read_to_end(&mut bytes).map_err(|source| {
            match source.get_ref().is_some_and(|inner| inner.is::<VerifyError>()) {
                true => StoreError::Damaged { digest: descriptor.digest, path, removed: false, source: Some(source) },
                false => StoreError::Io { action: "read", path, source },
            }
        })?;
        Ok(bytes)
    }

    /// Opens a blob for a reader that ends with an error unless the bytes are those of the descriptor.
    ///
    /// # Errors
    /// Missing, not a regular file, or the machine refused.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<VerifyingReader<File>, StoreError> {
        Ok(descriptor.verify(open_regular(&self.blob_path(&descriptor.digest))?))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    // One byte more than is allowed: the parser says that it is too much.
    open_regular(path)?
        .take(json::DOCUMENT_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(StoreError::io("read", path))?;
    Ok(bytes)
}

/// Opens a regular file; a fifo or a device is an error, and never waited for.
fn open_regular(path: &Path) -> Result<File, StoreError> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(StoreError::io("open", path))?;
    if !file.metadata().map_err(StoreError::io("open", path))?.is_file() {
        return Err(StoreError::io("open", path)(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_digests_are_told_from_directories() {
        let digest = Digest::of(b"x");
        let at_digest = format!("oci-layout:///a/b@{digest}");
        let tagged_at_digest = format!("oci-layout:///a/b:1@{digest}");
        for (text, directory, selector) in [
            ("oci-layout://a/b", "a/b", LayoutSelector::Default),
            ("oci-layout:///a:b/c", "/a:b/c", LayoutSelector::Default),
            ("oci-layout:///a/b:1.2", "/a/b", LayoutSelector::Tag("1.2".to_owned())),
            (&at_digest, "/a/b", LayoutSelector::Digest(digest)),
            (&tagged_at_digest, "/a/b", LayoutSelector::Digest(digest)),
        ] {
            let reference: LayoutReference = text.parse().unwrap();
            assert_eq!((reference.directory.to_str().unwrap(), reference.selector), (directory, selector), "{text}");
        }
        for text in ["oci-layout://", "oci:/a", "oci-layout://a@sha256:1", "oci-layout://:tag"] {
            assert!(text.parse::<LayoutReference>().is_err(), "{text}");
        }
    }
}
