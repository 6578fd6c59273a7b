//! Scanners: what a finished image is made of.

use std::sync::Arc;

use cofferdam_digest::{Digest, Sha256};
use cofferdam_dockerfile::Diagnostic;
use cofferdam_plan::step::{KeyValue, TreeRead, TreeSource};
use cofferdam_plugin_pack::{Capability, Kind};
use cofferdam_rootfs::{Timestamp, Tree};
use serde_json::{Map, Value};
use wasmtime::component::Resource;

use crate::{
    ApplyError, CallError, Coverage, Fault, FaultKind, PluginFacts, PluginHost,
    bindings::{instruction::cofferdam::types::diagnostics::Error, sbom::exports::cofferdam::sbom::scanner as wit},
    instruction::{handles::TreeHandle, key_values, timestamp},
    plugin::{Plugin, Ready},
    text, wasi,
};

/// The image that is looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Of its manifest.
    pub digest: Digest,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// The build's epoch.
    pub date: Timestamp,
    /// Options of the scanner.
    pub options: Vec<KeyValue>,
}

/// A bill of materials.
#[derive(Debug, Clone)]
pub struct BillOfMaterials {
    /// The URI of its kind.
    pub predicate_type: String,
    /// One JSON object.
    pub content: Map<String, Value>,
}

/// What a scanner found.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// At least one; no kind twice.
    pub documents: Vec<BillOfMaterials>,
    /// What could not be read.
    pub warnings: Vec<Diagnostic>,
}

/// Why there is no bill of materials.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// No such scanner.
    #[error("there is no scanner `{name}`; there are {}", .known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The call came to nothing, or the scanner refuses.
    #[error(transparent)]
    Call(#[from] ApplyError),
}

/// More kinds than there are.
const MAX_DOCUMENTS: usize = 16;

/// Registries take blobs of any size, but whoever reads a document holds it in memory.
const MAX_DOCUMENT_BYTES: usize = 24 << 20;

impl PluginHost {
    /// The scanners, sorted.
    pub fn scanners(&self) -> Vec<String> {
        let scanners = self.plugins.values().filter(|plugin| plugin.manifest.kind() == Kind::Sbom);
        scanners.map(|plugin| plugin.name().to_owned()).collect()
    }

    /// A scanner. `name` is the plugin's, or what follows `sbom-` in it.
    ///
    /// # Errors
    /// [`ScanError::Unknown`].
    pub fn scanner(&self, name: &str) -> Result<PluginFacts, ScanError> {
        Ok(self.scanning_plugin(name)?.facts())
    }

    /// Lets a scanner look at an image's file system. `name` is as for [`PluginHost::scanner`].
    ///
    /// # Errors
    /// Any [`ScanError`]; a document that is none is the plugin's [`Fault`].
    pub fn scan(&self, name: &str, subject: &Subject, rootfs: Arc<dyn Tree>) -> Result<Scanned, ScanError> {
        Ok(self.call_scanner(self.scanning_plugin(name)?, subject, rootfs)?)
    }

    fn scanning_plugin(&self, name: &str) -> Result<&Arc<Plugin>, ScanError> {
        let found = [name.to_owned(), format!("sbom-{name}")].into_iter().find_map(|name| self.plugins.get(&name));
        let scanner = found.filter(|plugin| plugin.manifest.kind() == Kind::Sbom);
        scanner.ok_or_else(|| ScanError::Unknown { name: name.to_owned(), known: self.scanners() })
    }

    fn call_scanner(
        &self,
        plugin: &Arc<Plugin>,
        subject: &Subject,
        rootfs: Arc<dyn Tree>,
    ) -> Result<Scanned, ApplyError> {
        let protocol = |error: wasmtime::Error| self.protocol(plugin, &error);
        let mut state = self.state(plugin, self.interrupt.clone());
        if plugin.imports.wasi {
            state.wasi = Some(wasi::world(&state.output, &seed(subject), None).map_err(protocol)?);
        }
        // One that wants nothing sees nothing.
        let patterns = if plugin.has(&Capability::FinishedRootfs) { vec![b"/".to_vec()] } else { Vec::new() };
        let read = TreeRead { source: TreeSource::Context, patterns, exclude: Vec::new() };
        let coverage = Arc::new(Coverage::new(&read).expect("the root is a pattern"));
        let handle = TreeHandle { tree: rootfs, coverage, capability: Capability::FinishedRootfs };
        let handle: Resource<TreeHandle> = state.table.push(handle).map_err(|error| protocol(error.into()))?;
        let asked = wit::Subject {
            digest: subject.digest.to_string(),
            platform: subject.platform.clone(),
            date: timestamp(subject.date),
            options: key_values(&subject.options),
        };
        let (result, state) = plugin.call(&self.runtime, state, |store, ready| {
            let Ready::Sbom(pre) = ready else {
                return Err(wasmtime::Error::msg("the plugin is not a scanner"));
            };
            pre.instantiate(&mut *store)?.cofferdam_sbom_scanner().call_scan(store, &asked, handle)
        });
        match result? {
            Ok(report) => Ok(Scanned {
                documents: checked(plugin, report.documents)?,
                warnings: text::diagnostics(report.warnings),
            }),
            // The guest saw only the text of what failed here.
            Err(_) if state.storage.is_some() => {
                Err(CallError::Storage(state.storage.expect("looked at in the guard")).into())
            }
            Err(Error::Denied(denial)) => Err(ApplyError::Denied {
                plugin: plugin.name().to_owned(),
                capability: text::shown(&denial.capability),
                message: text::shown(&denial.message),
            }),
            Err(Error::Invalid(found)) => Err(ApplyError::Invalid(text::diagnostic(found))),
            Err(Error::Unsupported(found)) => Err(ApplyError::Unsupported(text::diagnostic(found))),
        }
    }
}

/// A scanner's documents, if they are what the interface asks for.
fn checked(plugin: &Arc<Plugin>, documents: Vec<wit::Document>) -> Result<Vec<BillOfMaterials>, CallError> {
    let fault = |message: String| {
        CallError::Fault(Fault { plugin: plugin.name().to_owned(), kind: FaultKind::Protocol, message })
    };
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        return Err(fault(format!("it answered {} documents", documents.len())));
    }
    let mut checked: Vec<BillOfMaterials> = Vec::new();
    for wit::Document { predicate_type, content } in documents {
        let graphic = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        let is_uri = predicate_type.contains(':') && predicate_type.len() <= 512;
        if !is_uri || !predicate_type.bytes().all(graphic) {
            return Err(fault("it answered a document whose type is no URI".to_owned()));
        }
        if checked.iter().any(|other| other.predicate_type == predicate_type) {
            return Err(fault(format!("it answered two documents of the type `{predicate_type}`")));
        }
        if content.len() > MAX_DOCUMENT_BYTES {
            return Err(fault(format!("it answered a document of more than {} MiB", MAX_DOCUMENT_BYTES >> 20)));
        }
        let content = serde_json::from_slice(&content)
            .map_err(|error| fault(format!("it answered a document that is no JSON object: {error}")))?;
        checked.push(BillOfMaterials { predicate_type, content });
    }
    Ok(checked)
}

/// What a scanner's randomness follows from.
fn seed(subject: &Subject) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(subject.digest.as_bytes());
    hasher.finish()
}
