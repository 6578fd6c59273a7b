//! The Kaniko door: called as `executor`, with Kaniko's own flags.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser};

use crate::docker_door::Bounds;

/// Builds an image from a Dockerfile and a context, and pushes it (Kaniko's command line)
#[derive(Debug, Parser)]
#[command(
    name = "executor",
    version,
    after_help = "Example:
  executor --context dir:///workspace --dockerfile Dockerfile --destination registry.example/team/app:1.2"
)]
pub struct ExecutorArguments {
    /// The build context: a directory (dir://PATH), an archive (tar://PATH, tar://stdin, https://…), or
    /// git://[TOKEN@]HOST/REPOSITORY[#REFERENCE][#COMMIT]
    #[arg(short = 'c', long, value_name = "PATH", default_value = "/workspace/")]
    pub context: String,

    /// Directory of a fetched context that is the context
    #[arg(long, value_name = "PATH")]
    pub context_sub_path: Option<String>,

    /// How a git context is fetched: branch=NAME, single-branch=BOOL, depth=COUNT, recurse-submodules=BOOL,
    /// insecure-skip-tls=BOOL, separated by commas or repeated
    #[arg(long = "git", value_name = "KEY=VALUE,…")]
    pub git: Vec<String>,

    /// Dockerfile, relative to the current directory or to the context, or a URL
    #[arg(short = 'f', long, value_name = "FILE", default_value = "Dockerfile")]
    pub dockerfile: String,

    /// Name to push the image under; may be repeated
    #[arg(short = 'd', long = "destination", value_name = "REF")]
    pub destinations: Vec<String>,

    /// Value of an ARG; `NAME` alone takes it from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_arguments: Vec<String>,

    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Label of the image
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,

    /// Annotation of the manifest
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,

    /// Does not push
    #[arg(long, env = "KANIKO_NO_PUSH", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub no_push: bool,

    /// Writes the image as an archive for `docker load`
    #[arg(long, alias = "tarPath", value_name = "FILE")]
    pub tar_path: Option<PathBuf>,

    /// Writes the image as an OCI layout
    #[arg(long, value_name = "DIR")]
    pub oci_layout_path: Option<PathBuf>,

    /// Writes the digest of the image to a file
    #[arg(long, value_name = "FILE")]
    pub digest_file: Option<PathBuf>,

    /// Pushes over plain HTTP
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub insecure: bool,

    /// Pulls over plain HTTP
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub insecure_pull: bool,

    /// Reaches this registry over plain HTTP; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST")]
    pub insecure_registries: Vec<String>,

    /// Pushes without checking certificates
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub skip_tls_verify: bool,

    /// Pulls without checking certificates
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub skip_tls_verify_pull: bool,

    /// Does not check the certificate of this registry; may be repeated
    #[arg(long = "skip-tls-verify-registry", value_name = "HOST")]
    pub skip_tls_verify_registries: Vec<String>,

    /// How much is said: panic, fatal, error, warn, info, debug, trace
    #[arg(short = 'v', long, value_name = "LEVEL", default_value = "info",
        value_parser = ["panic", "fatal", "error", "warn", "info", "debug", "trace"])]
    pub verbosity: String,

    /// Directory that keeps layers between builds [default: the user's cache directory]
    #[arg(long, value_name = "DIR", env = "COFFERDAM_STORE")]
    pub store: Option<PathBuf>,

    /// Platform of the image, for example linux/arm64 [default: this machine's]
    #[arg(long, alias = "customPlatform", value_name = "OS/ARCH")]
    pub custom_platform: Option<String>,

    /// Pulls images of Docker Hub from this registry first; may be repeated
    #[arg(long = "registry-mirror", env = "KANIKO_REGISTRY_MIRROR", value_delimiter = ',', value_name = "HOST[/PATH]")]
    pub registry_mirrors: Vec<String>,

    /// Pulls images of one registry from another one first; several pairs are separated by `;`
    #[arg(long = "registry-map", env = "KANIKO_REGISTRY_MAP", value_delimiter = ';', value_name = "HOST=HOST[/PATH]")]
    pub registry_maps: Vec<String>,

    /// Never asks a registry itself that has a mirror or a map
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub skip_default_registry_fallback: bool,

    /// Certificates (PEM) that are trusted for a registry; may be repeated
    #[arg(long = "registry-certificate", value_name = "HOST=FILE")]
    pub registry_certificates: Vec<String>,

    /// Our certificate and its key (PEM) for a registry; may be repeated
    #[arg(long = "registry-client-cert", value_name = "HOST=CERT,KEY")]
    pub registry_client_certificates: Vec<String>,

    /// How often a failed push is tried again [default: 5]
    #[arg(long, value_name = "COUNT")]
    pub push_retry: Option<u32>,

    /// How often a failed download is tried again [default: 5]
    #[arg(long, value_name = "COUNT")]
    pub image_download_retry: Option<u32>,

    /// Credential helpers that are asked besides the configuration files, in the order that they have: env, gitlab, ghcr;
    /// empty is none [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub credential_helpers: Option<Vec<String>>,

    /// Does not find out before the build whether it may push
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub skip_push_permission_check: bool,

    /// Writes `NAME@DIGEST` for each destination to a file
    #[arg(long, value_name = "FILE")]
    pub image_name_with_digest_file: Option<PathBuf>,

    /// Writes `NAME:TAG@DIGEST` for each destination to a file
    #[arg(long, value_name = "FILE")]
    pub image_name_tag_with_digest_file: Option<PathBuf>,

    /// Times of this build become SOURCE_DATE_EPOCH, else 0, the image's own included
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub reproducible: bool,

    /// Form of the log: text, color or json
    #[arg(long, value_name = "FORMAT", default_value = "color", value_parser = ["text", "color", "json"])]
    pub log_format: String,

    #[command(flatten)]
    pub without_effect: WithoutEffect,

    #[command(flatten)]
    pub not_yet: NotYet,

    #[command(flatten)]
    pub bounds: Bounds,
}

/// Flags for what this builder does not have or always does; taken so that a pipeline need not change (docs/kaniko.md).
#[derive(Debug, Args)]
pub struct WithoutEffect {
    /// The machine's own file system is never touched
    #[arg(long, env = "KANIKO_CLEANUP", hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub cleanup: bool,

    /// As `cleanup`
    #[arg(long, env = "KANIKO_PRE_CLEANUP", hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub pre_cleanup: bool,

    /// The context is never changed
    #[arg(long, env = "KANIKO_PRESERVE_CONTEXT", hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub preserve_context: bool,

    /// It may run outside of a container
    #[arg(long, hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub force: bool,

    /// Configuration steps never make layers
    #[arg(long, hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub force_build_metadata: bool,

    /// Memory is flat in any case
    #[arg(long, hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "true", value_parser = go_bool)]
    pub compressed_caching: bool,

    /// Stages that nothing needs are never built
    #[arg(long, hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub skip_unused_stages: bool,

    /// Changes are known, not searched for
    #[arg(long, hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub use_new_run: bool,

    /// What is needed of a base is unpacked
    #[arg(long, hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub materialize: bool,

    /// Lines of the log have no times
    #[arg(long, hide = true, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub log_timestamp: bool,

    /// Changes are known, not searched for
    #[arg(long, alias = "snapshotMode", hide = true, value_name = "MODE", default_value = "full",
        value_parser = ["full", "redo", "time"])]
    pub snapshot_mode: String,

    /// There is no tool directory
    #[arg(long, env = "KANIKO_DIR", hide = true, value_name = "DIR")]
    pub kaniko_dir: Option<PathBuf>,

    /// Nothing is unpacked over the network
    #[arg(long, hide = true, value_name = "COUNT")]
    pub image_fs_extract_retry: Option<u32>,
}

/// Flags of Kaniko's that change the image or where it comes from, and are not done yet: never ignored.
#[derive(Debug, Args)]
pub struct NotYet {
    /// One layer for the whole last stage
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub single_snapshot: Option<String>,

    /// Paths that get into no layer
    #[arg(long, hide = true, value_name = "PATH")]
    pub ignore_path: Vec<String>,

    /// gzip or zstd
    #[arg(long, hide = true, value_name = "FORMAT")]
    pub compression: Option<String>,

    /// Effort of the compression
    #[arg(long, hide = true, allow_hyphen_values = true, value_name = "LEVEL")]
    pub compression_level: Option<String>,
}

impl NotYet {
    /// The first flag that was given and would change the result.
    pub fn given(&self) -> Option<&'static str> {
        let set = |value: &Option<String>, neutral: &[&str]| {
            value.as_deref().is_some_and(|value| !value.is_empty() && !neutral.contains(&value))
        };
        [
            ("--single-snapshot", set(&self.single_snapshot, &["false", "0"])),
            ("--ignore-path", !self.ignore_path.is_empty()),
            ("--compression", set(&self.compression, &["gzip"])),
            ("--compression-level", set(&self.compression_level, &["-1", "6"])),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }
}

/// What Go's `strconv.ParseBool` takes.
pub fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}
