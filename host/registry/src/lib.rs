//! The client side of container registries: references, authentication, manifests, blobs, and what to do when a
//! registry or the way to it fails.
//!
//! Follows the OCI distribution specification 1.1 and, for tokens, the distribution project's "Docker Registry v2
//! authentication" documents. Nothing that a registry says is believed: digests and sizes are computed here, answers are
//! bounded, redirects never carry credentials elsewhere and never lead away from TLS.
//!
//! [`Client`] is the entry. Its errors are [`RegistryError`]s: they name the request, keep the registry's own words, and
//! know a remedy. Secrets are [`Secret`]s, which show themselves redacted.

mod auth;
mod client;
mod credential;
mod error;
mod host;
mod http;
mod login;
mod manifest;
mod media_type;
mod options;
mod pull;
mod push;
mod rate_limit;
mod reference;
mod retry;
mod rules;
mod secret;
mod upload;
mod web;

pub use client::Client;
pub use credential::{Action, Credential, CredentialError, CredentialKind, CredentialSource, NoCredentials};
pub use error::{Missing, RegistryError, RequestLine, Said, Waited};
pub use manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestHead, ManifestName};
pub use media_type::ManifestType;
pub use options::{ClientOptions, HostCertificates, RetryPolicy, SlowestRate, Timeouts};
pub use pull::{BlobReader, BlobStream};
pub use push::{BlobOutcome, BlobSource, BlobUpload, Progress};
pub use rate_limit::RateLimit;
pub use reference::{Mirror, Mirrors, Reference, ReferenceError, RegistryHost, Repository, Tag};
pub use rules::{HostFiles, HostsToml, Prefix, RegistriesConf, Rule, RuleError, RuleMirror};
pub use secret::Secret;
pub use web::{Web, WebAnswer, WebRequest};
