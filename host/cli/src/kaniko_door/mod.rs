//! The Kaniko door: called as `executor`, with Kaniko's own flags and commands.

mod deprecated;
mod switches;
mod warmer;
mod without_effect;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use deprecated::warnings;
pub use switches::go_bool;
use switches::switches;
pub use warmer::Warmer;
use without_effect::WithoutEffect;

use crate::{
    docker_door::{Bounds, RegistryFileArguments},
    login_command::LoginArguments,
    progress::Verbosity,
    push_command::KanikoPushArguments,
};

/// Builds an image from a Dockerfile and a context, and pushes it (Kaniko's command line)
#[derive(Debug, Parser)]
#[command(
    name = "executor",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Example:
  executor --context dir:///workspace --dockerfile Dockerfile --destination registry.example/team/app:1.2"
)]
pub struct Executor {
    #[command(subcommand)]
    pub command: Option<ExecutorCommand>,

    #[command(flatten)]
    pub build: ExecutorArguments,
}

/// What the executor does instead of building.
#[derive(Debug, Subcommand)]
pub enum ExecutorCommand {
    /// Keeps a registry's user and password in Docker's configuration file
    Login(LoginArguments),
    /// Pushes an image that was written to a file or directory
    Push(Box<KanikoPushArguments>),
    /// Prints the version
    Version,
    /// Prints completions for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A build.
#[derive(Debug, Args)]
pub struct ExecutorArguments {
    /// The build context: a directory (dir://PATH), an archive (tar://PATH, tar://stdin, https://…, s3://BUCKET/KEY,
    /// gs://BUCKET/KEY, a blob of Azure's), or git://[TOKEN@]HOST/REPOSITORY[#REFERENCE][#COMMIT] [default: /workspace/]
    #[arg(short = 'c', long, value_name = "PATH")]
    pub context: Option<String>,

    /// Bucket that has the context, as gs://BUCKET/KEY or s3://BUCKET/KEY
    #[arg(short = 'b', long, value_name = "BUCKET", hide = true)]
    pub bucket: Option<String>,

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

    /// Secret for `RUN --mount=type=secret`; may be repeated
    #[arg(long = "secret", value_name = "id=NAME[,src=FILE|,env=VARIABLE]")]
    pub secrets: Vec<String>,

    /// Stage to build [default: the last one]; of several the first is the image, and the others are built too
    #[arg(long = "target", value_delimiter = ',', value_name = "STAGE")]
    pub targets: Vec<String>,

    /// Label of the image
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,

    /// Annotation of the manifest
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,

    /// Writes the image as an archive for `docker load`
    #[arg(long, alias = "tarPath", value_name = "FILE")]
    pub tar_path: Option<PathBuf>,

    /// Writes the image as an OCI layout
    #[arg(long, value_name = "DIR")]
    pub oci_layout_path: Option<PathBuf>,

    /// Media types of the image [default: docker, but oci with `--oci-layout-path` or `--compression=zstd`]
    #[arg(long, value_name = "oci|docker", value_parser = ["oci", "docker", ""])]
    pub image_format: Option<String>,

    /// What layers are compressed with [default: gzip]
    #[arg(long, value_name = "gzip|zstd", value_parser = ["gzip", "zstd", ""])]
    pub compression: Option<String>,

    /// Effort of the compression: 1 to 9 for gzip, 1 to 22 for zstd; -1 and 0 are the format's own
    #[arg(long, value_name = "LEVEL", allow_hyphen_values = true, default_value = "-1")]
    pub compression_level: i32,

    /// Path that no layer of this build has; may be repeated
    #[arg(long = "ignore-path", value_name = "PATH")]
    pub ignored_paths: Vec<String>,

    /// Leaves `/var/run` out of the layers [default: layers have it; nothing of the machine's is in it]
    #[arg(long, alias = "whitelist-var-run", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = go_bool)]
    pub ignore_var_run: Option<bool>,

    /// Writes the digest of the image to a file
    #[arg(long, value_name = "FILE")]
    pub digest_file: Option<PathBuf>,

    /// Writes `NAME@DIGEST` for each destination to a file
    #[arg(long, value_name = "FILE")]
    pub image_name_with_digest_file: Option<PathBuf>,

    /// Writes `NAME:TAG@DIGEST` for each destination to a file
    #[arg(long, value_name = "FILE")]
    pub image_name_tag_with_digest_file: Option<PathBuf>,

    #[command(flatten)]
    pub log: KanikoLog,

    /// Directory that keeps layers between builds [default: the user's cache directory]
    #[arg(long, value_name = "DIR", env = "COFFERDAM_STORE")]
    pub store: Option<PathBuf>,

    /// Platform of the image, for example linux/arm64 [default: this machine's]
    #[arg(long, alias = "customPlatform", value_name = "OS/ARCH")]
    pub custom_platform: Option<String>,

    #[command(flatten)]
    pub switches: Switches,

    #[command(flatten)]
    pub caches: KanikoCaches,

    #[command(flatten)]
    pub registries: KanikoRegistries,

    #[command(flatten)]
    pub without_effect: WithoutEffect,

    #[command(flatten)]
    pub bounds: Bounds,
}

switches! {
    /// What is on or off in a build.
    pub struct Switches {
        /// Does not push
        #[arg(env = "KANIKO_NO_PUSH")]
        pub no_push,

        /// Prints what would be built, and builds nothing
        #[arg(long = "dryrun")]
        pub dry_run,

        /// Makes one layer of everything that the build adds to its base
        pub single_snapshot,

        /// Times of this build become SOURCE_DATE_EPOCH, else 0, the image's own included
        pub reproducible,

        /// Does not find out before the build whether it may push
        pub skip_push_permission_check,

        /// A tag that the registry does not allow to be moved is no error
        pub push_ignore_immutable_tag_errors,
    }
}

/// What is said of the work.
#[derive(Debug, Args)]
pub struct KanikoLog {
    /// How much is said: panic, fatal, error, warn, info, debug, trace
    #[arg(short = 'v', long, value_name = "LEVEL", default_value = "info",
        value_parser = ["panic", "fatal", "error", "warn", "info", "debug", "trace"])]
    verbosity: String,

    /// Form of the log: text, color or json
    #[arg(long, value_name = "FORMAT", default_value = "color", value_parser = ["text", "color", "json"])]
    log_format: String,
}

impl KanikoLog {
    /// How much is said here.
    pub fn verbosity(&self) -> Verbosity {
        match self.verbosity.as_str() {
            "panic" | "fatal" | "error" => Verbosity::Quiet,
            _ => Verbosity::Normal,
        }
    }

    /// The form, as `--progress` has it.
    pub fn mode(&self) -> &'static str {
        if self.log_format == "json" { "json" } else { "auto" }
    }
}

/// The layer cache elsewhere.
#[derive(Debug, Args)]
pub struct KanikoCaches {
    #[command(flatten)]
    pub switches: CacheSwitches,

    /// Repository of the cache, or a directory (oci:DIR) [default: `cache` beneath the first destination]
    #[arg(long = "cache-repo", value_name = "REPOSITORY")]
    pub cache_repository: Option<String>,

    /// How long a result counts that no build has used, and a base image that was fetched ahead
    #[arg(long, value_name = "DURATION", default_value = CACHE_TTL)]
    pub cache_ttl: String,

    /// Directory with base images that `warmer` has fetched, for `--cache`
    #[arg(long, value_name = "DIR", default_value = CACHE_DIRECTORY)]
    pub cache_dir: PathBuf,
}

/// How long Kaniko keeps what it cached.
pub(super) const CACHE_TTL: &str = "336h0m0s";

/// Where Kaniko's warmer puts base images.
pub(super) const CACHE_DIRECTORY: &str = "/cache";

switches! {
    /// What is on or off in the cache.
    pub struct CacheSwitches {
        /// Reads results of earlier builds from a registry or a directory, and writes those of this one there
        pub cache,

        /// Does not write the cache
        pub no_push_cache,
    }
}

/// How registries are reached, in builds and by `push`.
#[derive(Debug, Args)]
pub struct KanikoRegistries {
    #[command(flatten)]
    pub switches: RegistrySwitches,

    /// Reaches this registry over plain HTTP; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST")]
    pub insecure_registries: Vec<String>,

    /// Does not check the certificate of this registry; may be repeated
    #[arg(long = "skip-tls-verify-registry", value_name = "HOST")]
    pub skip_tls_verify_registries: Vec<String>,

    /// Pulls images of Docker Hub from this registry first; may be repeated
    #[arg(long = "registry-mirror", env = "KANIKO_REGISTRY_MIRROR", value_delimiter = ',', value_name = "HOST[/PATH]")]
    pub mirrors: Vec<String>,

    /// Pulls images of one registry from another one first; several pairs are separated by `;`
    #[arg(long = "registry-map", env = "KANIKO_REGISTRY_MAP", value_delimiter = ';', value_name = "HOST=HOST[/PATH]")]
    pub maps: Vec<String>,

    /// Certificates (PEM) that are trusted for a registry; may be repeated
    #[arg(long = "registry-certificate", value_name = "HOST=FILE")]
    pub certificates: Vec<String>,

    /// Our certificate and its key (PEM) for a registry; may be repeated
    #[arg(long = "registry-client-cert", value_name = "HOST=CERT,KEY")]
    pub client_certificates: Vec<String>,

    /// How often a failed push is tried again [default: 5]
    #[arg(long, value_name = "COUNT")]
    pub push_retry: Option<u32>,

    /// How often a failed download is tried again [default: 5]
    #[arg(long, value_name = "COUNT")]
    pub image_download_retry: Option<u32>,

    /// Credential helpers that are asked besides the configuration files, in the order that they have: env, google, ecr, acr,
    /// gitlab, ghcr; empty is none [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub credential_helpers: Option<Vec<String>>,

    #[command(flatten)]
    pub files: RegistryFileArguments,
}

switches! {
    /// What is on or off for registries.
    pub struct RegistrySwitches {
        /// Pushes over plain HTTP
        pub insecure,

        /// Pulls over plain HTTP
        pub insecure_pull,

        /// Pushes without checking certificates
        pub skip_tls_verify,

        /// Pulls without checking certificates
        pub skip_tls_verify_pull,

        /// Never asks a registry itself that has a mirror or a map
        pub skip_default_registry_fallback,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Executor, clap::Error> {
        Executor::try_parse_from([&["executor"], arguments].concat())
    }

    #[test]
    fn the_flags_are_sound() {
        Executor::command().debug_assert();
    }

    #[test]
    fn switches_are_gos() {
        for (arguments, expected) in [
            (&[][..], (false, true)),
            (&["--no-push"], (true, true)),
            (&["--no-push=TRUE", "--compressed-caching=0"], (true, false)),
            (&["--no-push=f", "--compressed-caching"], (false, true)),
        ] {
            let build = parse(arguments).unwrap().build;
            assert_eq!((build.switches.no_push, build.without_effect.compressed_caching()), expected, "{arguments:?}");
        }
        // The value never stands apart, as in Go.
        assert!(parse(&["--no-push", "false"]).is_err() && parse(&["--no-push=maybe"]).is_err());
    }

    #[test]
    fn a_level_may_be_negative() {
        assert_eq!(parse(&["--compression-level", "-1"]).unwrap().build.compression_level, -1);
        assert_eq!(parse(&["--compression-level=9"]).unwrap().build.compression_level, 9);
    }

    #[test]
    fn commands_stand_in_the_place_of_a_build() {
        assert!(matches!(parse(&["version"]).unwrap().command, Some(ExecutorCommand::Version)));
        assert!(parse(&["nonsense"]).is_err());
    }
}
