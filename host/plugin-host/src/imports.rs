//! What a component really imports and exports, by name, read before it is compiled.

use cofferdam_plugin_pack::Kind;
use wasmparser::{Chunk, Parser, Payload};

/// What was found; the manifest's word is compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Imports {
    /// Some `wasi:` interface: the plugin gets a WASI world of its own.
    pub(crate) wasi: bool,
    /// `wasi:filesystem/preopens`: the plugin can look at the context as files.
    pub(crate) preopens: bool,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// Not what the parser expects. The text is its own.
    #[error("is malformed: {0}")]
    Malformed(String),
    /// Something that this kind is never given.
    #[error("imports `{import}`, which a plugin of kind `{kind}` is not given")]
    Foreign {
        /// The import's name.
        import: String,
        /// The manifest's kind.
        kind: Kind,
    },
    /// The right interface in another version.
    #[error("needs `{needed}`, this host offers `{offered}`")]
    Version {
        /// As the component names it.
        needed: String,
        /// As this host would.
        offered: String,
    },
    /// It doesn't export what its kind consists of.
    #[error("does not export `{export}`, which a plugin of kind `{kind}` consists of")]
    NotExported {
        /// The missing export.
        export: &'static str,
        /// The manifest's kind.
        kind: Kind,
    },
}

/// Compares a component's imports and exports with those of its kind.
///
/// # Errors
/// Any [`InterfaceError`].
pub(crate) fn check(component: &[u8], kind: Kind) -> Result<Imports, InterfaceError> {
    let malformed = |error: wasmparser::BinaryReaderError| InterfaceError::Malformed(error.to_string());
    let mut imports = Imports::default();
    let mut exported = false;
    let mut other_version = None;
    let mut parser = Parser::new(0);
    let mut at = 0;
    loop {
        let rest = component.get(at..).ok_or_else(|| InterfaceError::Malformed("cut short".to_owned()))?;
        let Chunk::Parsed { consumed, payload } = parser.parse(rest, true).map_err(malformed)? else {
            return Err(InterfaceError::Malformed("cut short".to_owned()));
        };
        at += consumed;
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    imports.check(import.map_err(malformed)?.name.name, kind)?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let name = export.map_err(malformed)?.name.name;
                    let (interface, version) = split_version(name);
                    exported |= interface == export_of(kind) && is_offered(version);
                    if interface == export_of(kind) && !is_offered(version) {
                        other_version = Some(name.to_owned());
                    }
                }
            }
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                at = unchecked_range.end;
            }
            Payload::End(_) if exported => return Ok(imports),
            Payload::End(_) => {
                return Err(match other_version {
                    Some(needed) => {
                        InterfaceError::Version { needed, offered: format!("{}@{OFFERED}", export_of(kind)) }
                    }
                    None => InterfaceError::NotExported { export: export_of(kind), kind },
                });
            }
            _ => {}
        }
    }
}

/// The version of each of our packages.
const OFFERED: &str = "0.1.0";

impl Imports {
    fn check(&mut self, name: &str, kind: Kind) -> Result<(), InterfaceError> {
        let (interface, version) = split_version(name);
        if let Some(wasi) = interface.strip_prefix("wasi:") {
            let package = wasi.split('/').next().unwrap_or_default();
            if !["cli", "clocks", "filesystem", "io", "random", "sockets"].contains(&package) {
                return Err(InterfaceError::Foreign { import: name.to_owned(), kind });
            }
            if !version.starts_with("0.2.") {
                let offered = format!("{interface}@0.2");
                return Err(InterfaceError::Version { needed: name.to_owned(), offered });
            }
            self.wasi = true;
            self.preopens |= interface == "wasi:filesystem/preopens";
            return Ok(());
        }
        if !imports_of(kind).contains(&interface) {
            return Err(InterfaceError::Foreign { import: name.to_owned(), kind });
        }
        if !is_offered(version) {
            return Err(InterfaceError::Version { needed: name.to_owned(), offered: format!("{interface}@{OFFERED}") });
        }
        Ok(())
    }
}

fn imports_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Instruction => &[
            "cofferdam:types/diagnostics",
            "cofferdam:types/values",
            "cofferdam:fs/model",
            "cofferdam:fs/trees",
            "cofferdam:fs/root",
            "cofferdam:fs/execution",
            "cofferdam:instruction/steps",
        ],
        Kind::Credentials => &[
            "cofferdam:types/diagnostics",
            "cofferdam:types/values",
            "cofferdam:credentials/sources",
            "cofferdam:credentials/web",
        ],
        Kind::Tags => &["cofferdam:types/diagnostics", "cofferdam:types/values"],
        Kind::Sbom => {
            &["cofferdam:types/diagnostics", "cofferdam:types/values", "cofferdam:fs/model", "cofferdam:fs/trees"]
        }
    }
}

fn export_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Instruction => "cofferdam:instruction/handler",
        Kind::Credentials => "cofferdam:credentials/helper",
        Kind::Tags => "cofferdam:tags/policy",
        Kind::Sbom => "cofferdam:sbom/scanner",
    }
}

/// Below 1.0 a patch version only ever adds functions, so an older one is served by the newer (semantic versioning
/// 2.0.0, item 4; the rule by which wasmtime's linker resolves names too).
fn is_offered(version: &str) -> bool {
    let patch = |text: &str| text.strip_prefix("0.1.").and_then(|patch| patch.parse::<u32>().ok());
    patch(version) <= patch(OFFERED) && patch(version).is_some()
}

fn split_version(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}
