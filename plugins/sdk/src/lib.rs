//! What every plugin of Cofferdam is written with.
//!
//! A plugin is a type that implements one trait and one line that exports it:
//!
//! | kind | trait | export |
//! | --- | --- | --- |
//! | instruction handler | [`InstructionHandler`] | [`export_instruction!`] |
//! | credential helper | [`CredentialHelper`] | [`export_credentials!`] |
//! | tagging policy | [`TagPolicy`] | [`export_tags!`] |
//! | scanner | [`Scanner`] | [`export_scanner!`] |
//!
//! Handlers see trees, root file systems and executors through the traits of [`fs`], which have two implementations:
//! the host's handles inside a component, and the fakes of `testing` on the developer's machine. So `cargo test` runs a
//! plugin's whole logic without WebAssembly.

pub mod accounts;
pub mod base64;
pub mod bindings;
pub mod credentials;
pub mod diagnostics;
pub mod fields;
pub mod flags;
pub mod fs;
pub mod instruction;
pub mod json;
pub mod paths;
pub mod sbom;
pub mod source;
pub mod tags;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod web;

pub use credentials::CredentialHelper;
pub use diagnostics::{Diagnostic, DiagnosticExt, Severity, Span};
pub use instruction::InstructionHandler;
pub use sbom::Scanner;
pub use tags::TagPolicy;
