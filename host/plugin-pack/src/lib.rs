//! The manifest of a plugin, and the custom section that carries it.
//!
//! A component declares itself: [`pack`] writes a [`Manifest`] into the custom section [`SECTION`], and the plugin host
//! reads it with [`read_manifest`] before it compiles a byte. There is no other declaration.

mod api;
mod capability;
mod host_pattern;
mod manifest;
mod pack;
mod section;

pub use api::{ApiVersion, OFFERED};
pub use capability::Capability;
pub use host_pattern::{HostLabels, HostPattern, ParsedHost};
pub use manifest::{Kind, Manifest, ManifestError, Role};
pub use pack::{PackError, pack};
pub use section::{MAX_MANIFEST_BYTES, SECTION, SectionError, read_manifest};
