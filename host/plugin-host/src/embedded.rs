//! The first-party components, with their code for this architecture.

use cofferdam_digest::Digest;

/// One component inside this binary.
pub(crate) struct Embedded {
    /// Of `wasm`.
    pub(crate) digest: Digest,
    /// The component.
    pub(crate) wasm: &'static [u8],
    /// What the build script compiled it to.
    pub(crate) native: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// All of them, in the order of their file names.
pub(crate) fn all() -> &'static [Embedded] {
    EMBEDDED
}
