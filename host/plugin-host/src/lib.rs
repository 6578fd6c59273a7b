//! The WebAssembly host: it loads plugins, decides what they are handed, and calls them within limits.
//!
//! - [`PluginHost::load`] reads manifests, checks them against the [`Policy`] and against what the components really
//!   import. Nothing is compiled before it is called.
//! - Instructions: [`PluginHost`] implements the planner's [`Handlers`](cofferdam_plan::step::Handlers), and
//!   [`PluginHost::apply`] carries a step out. [`Coverage`] is what a declared read means, for the key and for `apply`.
//! - Credentials: [`PluginHost::credential`]. Tags: [`PluginHost::decide`].
//! - Bills of materials: [`PluginHost::scan`].
//!
//! A plugin gets a fresh store for each call, holds only the handles of that call, and whatever it does ends as an error
//! with its name.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "loading plugins, policies and the compile cache, and the private copy of the context for WASI, are this \
              crate's own business with the machine"
)]

mod answer_cache;
mod audit;
mod bindings;
mod call;
mod compile_cache;
mod coverage;
mod credentials;
mod embedded;
mod engine_config;
mod error;
mod host;
mod imports;
mod instruction;
mod limits;
mod native;
mod plugin;
mod policy;
mod preopen;
mod runtime;
mod sbom;
mod seed;
mod tags;
mod text;
mod wasi;
mod web;

pub use audit::AuditLog;
pub use call::Interrupt;
pub use cofferdam_plugin_pack::{
    ApiVersion, Capability, HostPattern, Kind, Manifest, ManifestError, OFFERED, PackError, ParsedHost, Role,
    SectionError, pack, read_manifest,
};
pub use coverage::{Coverage, CoverageError, CoveredEntry, Place};
pub use credentials::{
    Credential, CredentialAnswer, CredentialError, CredentialSources, MAX_SOURCE_BYTES, OWN_HELPERS, Secret,
};
pub use error::{ApplyError, CallError, CompileCacheError, Fault, FaultKind, InterfaceError, PluginError};
pub use host::{HostOptions, PluginFacts, PluginHost};
pub use instruction::{
    Applied, ApplyHandles, Command, CommandMount, CommandMountSource, Exit, Network, RunCommand, RunCommandError,
    Sharing, TreePart,
};
pub use limits::Limits;
pub use plugin::Origin;
pub use policy::{Allowance, OPERATOR_POLICY, Policy, PolicyError, RunNetwork};
pub use sbom::{BillOfMaterials, ScanError, Scanned, Subject};
pub use tags::{CiFacts, Decision, Facts, GitFacts, Naming, PublishedTag, Requested, TagsError};
pub use web::{WebAnswer, WebMethod, WebRequest};
