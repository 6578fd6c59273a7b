//! Images as data, and the store that holds them.
//!
//! - [`ImageConfig`], [`Manifest`], [`Index`], [`Descriptor`], [`MediaType`], [`Platform`]: the JSON documents of the OCI
//!   image specification and of Docker, read with bounds and written canonically.
//! - [`Statement`], [`AttestationManifest`], [`slsa`]: what is said about an image, beside it.
//! - [`Store`]: the content store, an OCI layout that any number of builders share; with [`BlobWriter`], unpacked layers,
//!   layer indexes, and temporary files that outlive no builder.
//! - [`export`]: OCI layout directory, OCI archive, Docker archive.
//! - [`OciLayout`]: reading somebody else's layout (`oci-layout://`), every blob verified; [`SharedLayout`]: writing one that
//!   several builders share.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "owner of the content store: blobs, layouts and exports are files of the builder's own"
)]

mod attestation;
mod config;
mod descriptor;
mod error;
pub mod export;
mod json;
mod layout;
mod manifest;
mod media_type;
mod shared_layout;
pub mod slsa;
mod store;

pub use attestation::{AttestationManifest, REFERENCE_DIGEST, Statement};
pub use cofferdam_platform::{ParsePlatformError, Platform};
pub use config::{Empty, Healthcheck, History, ImageConfig, RootFs, RuntimeConfig, created};
pub use descriptor::Descriptor;
pub use error::{ImageError, StoreError};
pub use layout::{LayoutReference, LayoutSelector, OciLayout};
pub use manifest::{Document, Index, Manifest};
pub use media_type::{Compression, Family, MediaType};
pub use shared_layout::{LockedLayout, SharedLayout};
pub use store::{
    BlobInfo, BlobWriter, CacheMount, CacheSharing, Item, ItemKind, LayerBlob, Neighbours, RawBlobWriter, Store,
    StoreLocation, StoredBlocks, StoredImage, TempDir, UnpackGuard, Unpacking,
};
