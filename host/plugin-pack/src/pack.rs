//! Writing a manifest into a component.

use wasmparser::Encoding;
use wit_component::ComponentEncoder;

use crate::{Manifest, ManifestError, SECTION, SectionError, read_manifest, section::Outline};

/// A plugin that could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// `plugin.toml` is wrong.
    #[error("the manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// The file is no WebAssembly, or cut short.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// A core module from which no component can be made. The text is the encoder's.
    #[error("can't make a component of this core module: {0}")]
    Component(String),
    /// A core module that was built for WASI preview 1.
    #[error("the core module imports WASI preview 1: build it for wasm32-wasip2 or wasm32-unknown-unknown")]
    Preview1,
}

/// Writes the manifest `plugin_toml` into `wasm`, in place of one that may already be there. A core module with embedded
/// WIT (what `wit-bindgen` makes for wasm32-unknown-unknown) becomes a component first. The same input gives the same
/// bytes.
///
/// # Errors
/// Any [`PackError`].
pub fn pack(wasm: &[u8], plugin_toml: &str) -> Result<Vec<u8>, PackError> {
    let manifest = Manifest::from_toml(plugin_toml)?;
    let mut component = match Outline::of(wasm)?.encoding {
        Encoding::Component => without_manifests(wasm)?,
        Encoding::Module => encode(wasm)?,
    };
    append_section(&mut component, &manifest.to_json());
    read_manifest(&component)?;
    Ok(component)
}

fn encode(module: &[u8]) -> Result<Vec<u8>, PackError> {
    if imports_preview1(module) {
        return Err(PackError::Preview1);
    }
    let encoded = ComponentEncoder::default().module(module).and_then(|encoder| encoder.validate(true).encode());
    // `{:#}` prints the whole chain: the outer error only says that encoding failed.
    encoded.map_err(|error| PackError::Component(format!("{error:#}")))
}

fn imports_preview1(module: &[u8]) -> bool {
    wasmparser::Parser::new(0).parse_all(module).flatten().any(|payload| match payload {
        wasmparser::Payload::ImportSection(imports) => {
            imports.into_imports().flatten().any(|import| import.module == "wasi_snapshot_preview1")
        }
        _ => false,
    })
}

fn without_manifests(component: &[u8]) -> Result<Vec<u8>, SectionError> {
    let mut kept = Vec::with_capacity(component.len() + 1024);
    let mut at = 0;
    for place in Outline::of(component)?.manifests {
        kept.extend_from_slice(&component[at..place.section.start]);
        at = place.section.end;
    }
    kept.extend_from_slice(&component[at..]);
    Ok(kept)
}

/// A custom section is its id 0, its size, its name with the name's size, and the content (WebAssembly core
/// specification, "Custom Section"; the component binary format has it unchanged).
fn append_section(component: &mut Vec<u8>, content: &[u8]) {
    let mut body = Vec::with_capacity(content.len() + SECTION.len() + 5);
    leb128(&mut body, SECTION.len());
    body.extend_from_slice(SECTION.as_bytes());
    body.extend_from_slice(content);
    component.push(0);
    leb128(component, body.len());
    component.extend_from_slice(&body);
}

fn leb128(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest component: the magic number and the version of the component layer.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    const TAGS: &str = "api = \"0.1\"\nkind = \"tags\"\nname = \"t\"\nversion = \"1\"\n";

    #[test]
    fn what_is_packed_is_read_again_and_replaced_by_the_next() {
        let first = pack(EMPTY, TAGS).unwrap();
        assert_eq!(read_manifest(&first).unwrap().version, "1");
        let second = pack(&first, &TAGS.replace("\"1\"", "\"2\"")).unwrap();
        assert_eq!(read_manifest(&second).unwrap().version, "2");
        assert_eq!(second.len(), first.len());
        assert_eq!(pack(EMPTY, TAGS).unwrap(), first);
    }

    #[test]
    fn a_component_without_or_with_two_manifests_is_refused() {
        assert_eq!(read_manifest(EMPTY), Err(SectionError::Missing));
        let mut twice = pack(EMPTY, TAGS).unwrap();
        append_section(&mut twice, b"{}");
        assert_eq!(read_manifest(&twice), Err(SectionError::Ambiguous));
    }

    #[test]
    fn a_manifest_beyond_the_bound_is_not_parsed() {
        let mut large = EMPTY.to_vec();
        append_section(&mut large, &vec![b' '; crate::MAX_MANIFEST_BYTES + 1]);
        assert_eq!(read_manifest(&large), Err(SectionError::TooLarge(crate::MAX_MANIFEST_BYTES + 1)));
    }

    #[test]
    fn a_manifest_of_a_nested_component_does_not_count() {
        let nested = pack(EMPTY, TAGS).unwrap();
        let mut outer = EMPTY.to_vec();
        outer.push(4);
        leb128(&mut outer, nested.len());
        outer.extend_from_slice(&nested);
        assert_eq!(read_manifest(&outer), Err(SectionError::Missing));
        assert_eq!(read_manifest(&pack(&outer, TAGS).unwrap()).unwrap().name, "t");
    }

    #[test]
    fn noise_truncation_and_core_modules_are_errors() {
        assert!(matches!(read_manifest(b"hello"), Err(SectionError::Malformed(_))));
        assert_eq!(read_manifest(b"\0asm\x01\0\0\0"), Err(SectionError::Module));
        let packed = pack(EMPTY, TAGS).unwrap();
        for end in 0..packed.len() {
            assert!(read_manifest(&packed[..end]).is_err(), "{end}");
        }
        let imports_env_f = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x09\x01\x03env\x01f\0\0";
        assert!(matches!(pack(imports_env_f, TAGS), Err(PackError::Component(_))));
    }
}
