//! The custom section of a component, read without touching what is nested inside.

use std::ops::Range;

use wasmparser::{Chunk, Encoding, Parser, Payload};

use crate::{Manifest, ManifestError};

/// The name of the custom section.
pub const SECTION: &str = "cofferdam:manifest";

/// The section's bound. A manifest is some hundred bytes; this leaves room for a helper with very many hosts.
pub const MAX_MANIFEST_BYTES: usize = 64 << 10;

/// A file in which no manifest could be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SectionError {
    /// Not WebAssembly, or cut short. The text is the parser's.
    #[error("not a WebAssembly component: {0}")]
    Malformed(String),
    /// A core module, which nobody made a component.
    #[error("a core module, not a component: `cofferdam plugin pack` makes one of it")]
    Module,
    /// No section.
    #[error("has no manifest: `cofferdam plugin pack FILE.wasm --manifest plugin.toml` writes it")]
    Missing,
    /// Two sections: which one counts would be a matter of taste.
    #[error("has more than one manifest")]
    Ambiguous,
    /// Larger than [`MAX_MANIFEST_BYTES`].
    #[error("its manifest has {0} bytes, more than {MAX_MANIFEST_BYTES}")]
    TooLarge(usize),
    /// The manifest itself is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Reads the manifest of a component. Nested modules and components are stepped over, nothing is compiled.
///
/// # Errors
/// Any [`SectionError`].
pub fn read_manifest(component: &[u8]) -> Result<Manifest, SectionError> {
    let outline = Outline::of(component)?;
    if outline.encoding == Encoding::Module {
        return Err(SectionError::Module);
    }
    match outline.manifests.as_slice() {
        [] => Err(SectionError::Missing),
        [one] if one.content.len() > MAX_MANIFEST_BYTES => Err(SectionError::TooLarge(one.content.len())),
        [one] => Ok(Manifest::from_json(&component[one.content.clone()])?),
        _ => Err(SectionError::Ambiguous),
    }
}

/// Where the manifests stand in the outermost component or module.
pub(crate) struct Outline {
    pub(crate) encoding: Encoding,
    pub(crate) manifests: Vec<Place>,
}

/// One custom section.
pub(crate) struct Place {
    /// With its header.
    pub(crate) section: Range<usize>,
    /// The manifest's bytes.
    pub(crate) content: Range<usize>,
}

impl Outline {
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, SectionError> {
        let malformed = |error: wasmparser::BinaryReaderError| {
            // Some of the parser's messages have a second line with bytes.
            SectionError::Malformed(error.message().lines().next().unwrap_or_default().to_owned())
        };
        let cut_short = || SectionError::Malformed("cut short".to_owned());
        let mut outline = Self { encoding: Encoding::Module, manifests: Vec::new() };
        let mut parser = Parser::new(0);
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).ok_or_else(cut_short)?;
            let Chunk::Parsed { consumed, payload } = parser.parse(rest, true).map_err(malformed)? else {
                return Err(cut_short());
            };
            let start = at;
            at += consumed;
            match payload {
                Payload::Version { encoding, .. } => outline.encoding = encoding,
                Payload::CustomSection(section) if section.name() == SECTION => {
                    let content = section.data_offset()..section.data_offset() + section.data().len();
                    outline.manifests.push(Place { section: start..at, content });
                }
                // The parser hands out only the header and counts on the caller to step over the rest.
                Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                    at = unchecked_range.end;
                }
                Payload::CodeSectionStart { range, .. } => {
                    parser.skip_section();
                    at = range.end;
                }
                Payload::End(_) => return Ok(outline),
                _ => {}
            }
        }
    }
}
