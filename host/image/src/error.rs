//! What can go wrong with documents and with the store.

use std::{io, path::PathBuf};

use cofferdam_digest::{Digest, ParseDigestError};

use crate::Platform;

/// A document is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A bound was exceeded.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The document.
        what: String,
        /// The bound, in bytes.
        limit: u64,
    },
    /// Not JSON, or not of the right shape.
    #[error("{what} can't be read")]
    Json {
        /// The document.
        what: String,
        /// The parser's finding.
        #[source]
        source: serde_json::Error,
    },
    /// JSON that contradicts its specification.
    #[error("{what} {why}")]
    Invalid {
        /// The document.
        what: String,
        /// The finding.
        why: String,
    },
    /// A layer that registries do not hold.
    #[error("layers of type `{0}` can't be fetched from a registry; use a base image without them")]
    ForeignLayer(String),
    /// Another kind of blob stands where a layer is needed.
    #[error("`{0}` is not the type of a layer; is this an image?")]
    NotALayer(String),
    /// An index has nothing for the platform.
    #[error("no image for {wanted}; there is {available}")]
    NoPlatform {
        /// What was asked for.
        wanted: Platform,
        /// What the index has, joined by commas.
        available: String,
    },
    /// A text that is not a reference to an OCI layout.
    #[error(
        "`{text}` is not a reference to an OCI layout; write `oci-layout://DIR[:TAG]` or `oci-layout://DIR@sha256:…`"
    )]
    LayoutReference {
        /// The text.
        text: String,
        /// The wrong digest, if that is why.
        #[source]
        source: Option<ParseDigestError>,
    },
    /// A layout has no such image.
    #[error("no image `{selector}` in the OCI layout `{}`; there is {available}", .layout.display())]
    NotInLayout {
        /// The directory.
        layout: PathBuf,
        /// What was asked for.
        selector: String,
        /// What the layout has, joined by commas.
        available: String,
    },
}

/// The store, or a file beside it, failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The machine refused.
    #[error("can't {action} `{}`", .path.display())]
    Io {
        /// What was attempted: "create", "write" …
        action: &'static str,
        /// On this machine.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// Content that was expected to be there.
    #[error("the blob {digest} is not in the store `{}`; build again", .store.display())]
    Missing {
        /// What was looked for.
        digest: Digest,
        /// The store.
        store: PathBuf,
    },
    /// Content that is not what its name says, as a machine leaves it that lost its power.
    #[error(
        "the blob `{}` was damaged and not used{}",
        .path.display(),
        if *.removed { "; it is removed from the store: build again" } else { "" }
    )]
    Damaged {
        /// What it should have been.
        digest: Digest,
        /// The file.
        path: PathBuf,
        /// Whether it was in the store, and is not any more.
        removed: bool,
        /// The finding.
        #[source]
        source: Option<io::Error>,
    },
    /// Bytes that were written are not those that were announced.
    #[error("the content that was written is {actual}, expected {expected}")]
    Mismatch {
        /// What was announced.
        expected: Digest,
        /// What was written.
        actual: Digest,
    },
    /// A file of the store's own is not what it should be.
    #[error("`{}` {why}; remove it", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The finding.
        why: String,
    },
    /// A directory for temporary data that somebody else made.
    #[error("`{}` belongs to user {owner}, who could change what is built; choose a directory of your own with `--store` or COFFERDAM_STORE", .path.display())]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
    },
    /// A form of unpacking that is not a plain name.
    #[error("`{0}` is not the name of a form of unpacking")]
    Form(String),
    /// What was asked for can't be exported in this format.
    #[error(
        "a Docker archive holds one platform, this image has {0}; export with `type=oci` or build for one platform"
    )]
    SeveralPlatforms(usize),
    /// A document in the store is not what it should be.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl StoreError {
    /// What to do about it, where that is known and the message does not say it; the paths are the store's.
    pub fn remedy(&self) -> Option<&'static str> {
        let Self::Io { source, .. } = self else { return None };
        match source.kind() {
            io::ErrorKind::StorageFull => {
                Some("the disk is full: free some space, or choose another place with `--store` or COFFERDAM_STORE")
            }
            io::ErrorKind::QuotaExceeded => Some(
                "this user's quota is used up: free some space, or choose another place with `--store` or COFFERDAM_STORE",
            ),
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Some(
                "something else stands where the store needs a directory or a file: remove it, or choose another place with `--store` or COFFERDAM_STORE",
            ),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Some("it is not writable for this user: choose another place with `--store` or COFFERDAM_STORE")
            }
            _ => None,
        }
    }

    /// For `map_err`: names the action and the path.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
