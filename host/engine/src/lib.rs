//! Runs a build: looks up what a plan needs, walks its stages, calls handlers with what they were granted, turns changes into
//! layers, and sends or writes the image. Prints nothing: whoever watches gets [`Event`]s.
//!
//! One build can be read in the order of the files: [`build()`] → `images` → `stage` → `step` → `command` → `finish` →
//! `assemble` → `publish`.

mod annotations;
mod assemble;
mod attest;
mod base_cache;
mod build;
mod builder;
mod caches;
mod command;
mod create_index;
mod credentials;
mod download;
mod dry_run;
mod earlier_blocks;
mod error;
mod events;
mod executors;
mod fetched;
mod file_hashes;
mod file_system;
mod finish;
mod flat;
mod foreign;
mod hashed_tree;
mod ignored;
mod image_file;
mod image_set;
mod images;
mod inspect;
mod layers;
mod login;
mod mounts;
mod naming;
mod packing;
mod plugins;
mod prepare;
mod provenance;
mod prune;
mod publish;
mod push_image;
mod registry_files;
mod registry_origin;
mod request;
mod single_layer;
mod sources;
mod ssh;
mod ssh_keys;
mod stage;
mod step;
mod stop;
mod store_check;
mod trees;
mod unpacked_check;
mod warm;
mod work;
mod write_out;

pub use annotations::{Annotation, AnnotationLevel};
pub use build::{Built, build};
pub use cofferdam_context::{Basic, CloudAccess, GitOptions};
pub use cofferdam_digest::Digest;
pub use cofferdam_dockerfile::{Diagnostic, Severity, Span, render, render_place, split_fields};
pub use cofferdam_exec::{ExecError, Exit as CommandExit, Finding, Note, Tier};
pub use cofferdam_layer::{Compression, LayerError};
pub use cofferdam_plan::{BASE_IMAGE, Platform, lint, outline as outlines, step::KeyValue};
pub use cofferdam_plugin_host as plugin_host;
pub use cofferdam_plugin_host::Allowance;
pub use cofferdam_registry::{Mirrors, Reference, RegistryError, RegistryHost, Secret};
pub use create_index::{CreatedIndex, IndexError, IndexRequest, create_index};
pub use credentials::{HelperRequest, ask as ask_helper};
pub use dry_run::{DryStage, dry_run};
pub use error::{BuildError, StepError};
pub use events::{Ending, Event, Kind, Observer, Stream, Transfer, Vertex};
pub use executors::Surroundings;
pub use image_file::source_path;
pub use images::ImageFailure;
pub use inspect::{Inspected, check, outline, targets};
pub use layers::LayerFailure;
pub use login::log_in;
pub use naming::{Decided, Facts, decide, tag_facts};
pub use plugins::load as load_plugins;
pub use prune::{PruneRequest, Pruned, prune};
pub use push_image::{PushRequest, Pushed, push_image};
pub use request::{
    Attestations, BaseImageCache, BucketCache, BuildRequest, CacheLocation, CacheMode, CertificateFiles, Destination,
    Execution, Output, OutputKind, PluginAccess, PolicyUse, ProvenanceMode, ProvenanceRequest, RegistryAccess,
    RegistryFiles, RemoteCaches, RunSurroundings, SbomRequest, SecretSource, SourceAccess, SshSource, Timestamps,
};
pub use stop::Stop;
pub use store_check::{CheckedStore, StoreFinding, check_store};
pub use warm::{WarmImage, WarmRequest, warm};

/// An error and what caused it, on one line, without saying the same twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
