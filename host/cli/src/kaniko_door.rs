//! The Kaniko door: called as `executor`, with Kaniko's own flags.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

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
    /// Path of the build context, or dir://PATH
    #[arg(short = 'c', long, value_name = "PATH", default_value = "/workspace/")]
    pub context: String,

    /// Dockerfile, relative to the current directory or to the context
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

    /// Does not push
    #[arg(long, env = "KANIKO_NO_PUSH", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = go_bool)]
    pub no_push: bool,

    /// Writes the image as an archive for `docker load`
    #[arg(long, value_name = "FILE")]
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

    #[command(flatten)]
    pub bounds: Bounds,
}

/// What Go's `strconv.ParseBool` takes.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}
