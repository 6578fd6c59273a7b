//! Compiles the first-party components ahead of time and writes the table that `src/embedded.rs` includes.
//!
//! The components are committed as built (`plugins/prebuilt`). Without them the table is empty: the packer that makes
//! them, and a build that brings its own plugins, need none.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a build script reads and writes files")]

#[path = "src/engine_config.rs"]
mod engine_config;

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

use cofferdam_digest::Digest;
use wasmtime::Engine;

const PREBUILT: &str = "../../plugins/prebuilt";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/engine_config.rs");
    println!("cargo:rerun-if-changed={PREBUILT}");
    let out = env::var("OUT_DIR")?;
    let engine = engine(&env::var("TARGET")?);
    let mut table = String::from("static EMBEDDED: &[Embedded] = &[\n");
    for path in components()? {
        let wasm = fs::read(&path)?;
        let name =
            Path::new(&path).file_stem().and_then(|stem| stem.to_str()).ok_or("a component's name is not UTF-8")?;
        let native = match &engine {
            Some(engine) => {
                let code = engine.precompile_component(&wasm).map_err(|error| format!("`{path}`: {error:?}"))?;
                let code_path = format!("{out}/{name}.cwasm");
                fs::write(&code_path, code)?;
                format!("Some(include_bytes!({code_path:?}))")
            }
            None => "None".to_owned(),
        };
        let digest = Digest::of(&wasm);
        writeln!(
            table,
            "    Embedded {{ digest: Digest::from_bytes({:?}), wasm: include_bytes!({path:?}), native: {native} }},",
            digest.as_bytes()
        )?;
    }
    table.push_str("];\n");
    fs::write(format!("{out}/embedded.rs"), table)?;
    Ok(())
}

/// An engine for the architecture's baseline, so that the code loads on every processor of it, whichever built it.
/// `None` if there is no compiler for the target: the components are then compiled when they are first used.
fn engine(target: &str) -> Option<Engine> {
    let mut config = engine_config::shared();
    config.target(target).ok()?;
    Engine::new(&config).ok()
}

/// Absolute paths of the components, sorted.
fn components() -> Result<Vec<String>, Box<dyn Error>> {
    let Ok(directory) = fs::canonicalize(PREBUILT) else {
        return Ok(Vec::new());
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            paths.push(path.to_str().ok_or("the path of a component is not UTF-8")?.to_owned());
        }
    }
    paths.sort();
    for path in &paths {
        println!("cargo:rerun-if-changed={path}");
    }
    Ok(paths)
}
