//! What the committed components are.
#![allow(clippy::disallowed_methods, reason = "the test reads the committed components")]

use cofferdam_plugin_pack::{Capability, Role, read_manifest};
use wasmparser::{Parser, Payload};

fn prebuilt() -> Vec<(String, Vec<u8>)> {
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/prebuilt");
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(place)
        .expect("the components are committed")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).expect("readable")))
        .collect();
    found.sort();
    found
}

/// The names of the instances and functions that the outermost component imports.
fn imports(component: &[u8]) -> Vec<String> {
    let mut depth = 0;
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload.expect("well formed") {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                names.extend(section.into_iter().map(|import| import.expect("well formed").name.name.to_owned()));
            }
            _ => {}
        }
    }
    names
}

#[test]
fn first_party_components_import_nothing_but_our_packages() {
    let components = prebuilt();
    assert!(!components.is_empty());
    for (name, bytes) in components {
        let imports = imports(&bytes);
        let foreign: Vec<&String> = imports.iter().filter(|import| !import.starts_with("cofferdam:")).collect();
        assert!(foreign.is_empty(), "{name} imports {foreign:?}");
        let manifest = read_manifest(&bytes).expect("a manifest");
        assert_eq!(manifest.name, name);
        if manifest.role == Role::Tags {
            let more: Vec<&String> = imports.iter().filter(|import| !import.starts_with("cofferdam:types/")).collect();
            assert!(more.is_empty(), "the policy {name} imports {more:?}");
            // A fact that it is told, and nothing that it could do.
            let is_fact = |wanted: &Capability| *wanted == Capability::PublishedTags;
            assert!(manifest.capabilities.iter().all(is_fact), "the policy {name} wants {:?}", manifest.capabilities);
        }
    }
}
