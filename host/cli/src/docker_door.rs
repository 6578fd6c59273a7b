//! `cofferdam build`: the habits of `docker build`.

use std::path::PathBuf;

use clap::Args;

use crate::tag_policies::TagPolicyArguments;

/// Builds an image from a Dockerfile and a context.
///
/// With neither `--push` nor `--output` the image is kept in the local store and its digest is printed.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:
  cofferdam build -t registry.example/team/app:1.2 --push .
  cofferdam build -t app --output type=oci,dest=app.tar .
  cofferdam build --target test --build-arg VERSION=1.2 -f docker/Dockerfile ."
)]
pub struct BuildArguments {
    /// The build context: a directory, a git repository as `https://HOST/REPOSITORY.git#REFERENCE:DIRECTORY`, or a tar archive
    /// (a file, a URL, `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, a blob of Azure's, `-` for standard input), of which a lone Dockerfile
    /// may take the place
    #[arg(value_name = "CONTEXT")]
    pub context: String,

    /// Dockerfile to build: a path, a URL, `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<String>,

    /// Name of the image, with or without a tag; may be repeated
    #[arg(short = 't', long = "tag", value_name = "REF")]
    pub tags: Vec<String>,

    #[command(flatten)]
    pub tag_policies: TagPolicyArguments,

    /// Stage to build, by name or number [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Looks for mistakes instead of building: no network, nothing is run; fails if there are any
    #[arg(long)]
    pub check: bool,

    /// What is wanted: an image, or an answer about the Dockerfile; `,format=json` for programs [default: build]
    #[arg(long, value_name = "build|check|outline|targets")]
    pub call: Option<String>,

    /// Value of an ARG; `NAME` alone takes it from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_arguments: Vec<String>,

    /// Tree that FROM and --from may name: a directory, a git repository, a tar archive, `oci-layout://DIR[:TAG]` or
    /// `docker-image://REF`
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub contexts: Vec<String>,

    /// Secret for `RUN --mount=type=secret`: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`; may be repeated
    #[arg(long = "secret", value_name = "id=NAME[,src=FILE|,env=VARIABLE]")]
    pub secrets: Vec<String>,

    /// SSH agent for `RUN --mount=type=ssh` and, under the name `default`, for repositories over SSH: `default` is the one of
    /// SSH_AUTH_SOCK, `NAME=KEY` serves the private key of a file without a passphrase; may be repeated
    #[arg(long = "ssh", value_name = "default|NAME=SOCKET|NAME=KEY[,KEY]")]
    pub ssh: Vec<String>,

    /// Line of /etc/hosts for RUN; may be repeated
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub hosts: Vec<String>,

    /// Network of RUN, where it does not say otherwise: the builder's, or none [default: the builder's]
    #[arg(long, value_name = "default|host|none", value_parser = ["default", "host", "none"])]
    pub network: Option<String>,

    #[command(flatten)]
    pub refused: Refused,

    /// Label of the image
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,

    /// Annotation of the image's manifest; `index:`, `manifest-descriptor:`, `index-descriptor:` or several of them with commas in
    /// front name other places, `manifest[OS/ARCH]:` one platform's
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,

    /// Platform of the image, for example linux/arm64; several, or repeated, give an index of images [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH,…", value_delimiter = ',')]
    pub platforms: Vec<String>,

    /// Writes the image (`type=oci|docker,dest=FILE`, or `type=oci,tar=false,dest=DIRECTORY`) or its file system
    /// (`type=tar,dest=FILE`, `type=local,dest=DIRECTORY`, or a directory alone); `-` is standard output. File systems
    /// of several platforms are directories such as `linux_arm64`. `type=registry` is `--push`, `type=image,name=REF` is
    /// `--tag`. Images take `compression=gzip|zstd|uncompressed`, `compression-level=N`, `force-compression=true`,
    /// `oci-mediatypes=false`, `annotation.KEY=VALUE`, pushed ones `push-by-digest=true`. May be repeated
    #[arg(short = 'o', long = "output", value_name = "type=…,dest=…|DIRECTORY|-")]
    pub outputs: Vec<String>,

    /// Says beside the image how it was built (SLSA provenance): `mode=max` with build arguments, steps and the Dockerfile
    /// [default: mode=min where the image is pushed, false elsewhere and with BUILDX_NO_DEFAULT_ATTESTATIONS=1]
    #[arg(long, value_name = "true|false|mode=min|mode=max")]
    pub provenance: Option<String>,

    /// Says beside the image what it is made of (SPDX), as a plugin finds it [default: false]
    #[arg(long, value_name = "true|false|generator=PLUGIN")]
    pub sbom: Option<String>,

    /// The same in one flag, with further attributes; may be repeated
    #[arg(long, value_name = "type=provenance|sbom[,KEY=VALUE]")]
    pub attest: Vec<String>,

    /// Pushes the image under its tags
    #[arg(long)]
    pub push: bool,

    /// Does not use results of earlier builds
    #[arg(long)]
    pub no_cache: bool,

    /// Layer cache that is read: as another build's `--cache-to` wrote it, or an image with an inline cache; may be repeated
    #[arg(long = "cache-from", value_name = "type=registry,ref=REF|type=local,src=DIR|type=s3,bucket=BUCKET")]
    pub caches_from: Vec<String>,

    /// Layer cache that is written: the layers of the image, or with `mode=max` those of all stages; `type=inline` puts it into the
    /// image; may be repeated
    #[arg(
        long = "cache-to",
        value_name = "type=registry,ref=REF|type=local,dest=DIR|type=s3,bucket=BUCKET[,mode=min|max]"
    )]
    pub caches_to: Vec<String>,

    /// Writes the digest of the image to a file
    #[arg(long, value_name = "FILE")]
    pub digest_file: Option<PathBuf>,

    /// Writes the image's id, which is the digest of its configuration, to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,

    /// Writes digests and names of the image to a file, as JSON with BuildKit's keys
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,

    /// Sets timestamps to the epoch (SOURCE_DATE_EPOCH, else the commit's time, else 0), or keeps the clock's
    #[arg(long, value_name = "epoch|real", default_value = "epoch")]
    pub timestamps: String,

    /// Media types of the image [default: oci]
    #[arg(long, value_name = "oci|docker")]
    pub image_format: Option<String>,

    /// How RUN is carried out [default: the strongest that works here, see `cofferdam doctor`]
    #[arg(long, value_name = "native|userns|chroot|emulated")]
    pub executor: Option<String>,

    #[command(flatten)]
    pub registries: RegistryArguments,

    #[command(flatten)]
    pub bounds: Bounds,

    #[command(flatten)]
    pub shared: SharedArguments,
}

/// Flags of `docker build` that no executor here can carry out everywhere: refused by name.
#[derive(Debug, Args, Clone, Default)]
pub struct Refused {
    /// Size of /dev/shm
    #[arg(long, hide = true, value_name = "SIZE")]
    pub shm_size: Option<String>,

    /// Limits of processes
    #[arg(long = "ulimit", hide = true, value_name = "NAME=SOFT[:HARD]")]
    pub limits: Vec<String>,
}

/// How registries are reached.
#[derive(Debug, Args, Clone, Default)]
pub struct RegistryArguments {
    /// Reaches this registry over plain HTTP
    #[arg(long = "insecure-registry", value_name = "HOST")]
    pub insecure_registries: Vec<String>,

    /// Does not check the certificates of registries
    #[arg(long)]
    pub skip_tls_verify: bool,

    /// Does not check the certificate of this registry
    #[arg(long = "skip-tls-verify-registry", value_name = "HOST")]
    pub skip_tls_verify_registries: Vec<String>,

    /// Credential helpers that are asked besides the configuration files, in the order that they have: env, google, ecr, acr,
    /// gitlab, ghcr; empty is none [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub credential_helpers: Option<Vec<String>>,

    #[command(flatten)]
    pub files: RegistryFileArguments,
}

/// Files of other tools about registries, through either door.
#[derive(Debug, Args, Clone, Default)]
pub struct RegistryFileArguments {
    /// Mirrors, other places, blocked and insecure registries, and where names without a host are looked for, in the form of
    /// containers-registries.conf(5) [default: the user's or the system's, but for names without a host]
    #[arg(long, value_name = "FILE", env = "CONTAINERS_REGISTRIES_CONF")]
    pub registries_conf: Option<PathBuf>,

    /// Directory that has, in a directory for each registry, a hosts.toml as containerd reads it, or ca.crt, client.cert and
    /// client.key; may be repeated [default: /etc/containerd/certs.d, /etc/containers/certs.d, /etc/docker/certs.d]
    #[arg(long = "hosts-dir", value_name = "DIR")]
    pub hosts_directories: Vec<PathBuf>,
}

/// What is given up, through either door.
#[derive(Debug, Args, Clone, Default)]
pub struct Bounds {
    /// How long a registry may be silent before a request is sent again, in seconds [default: 60, and 180 after an upload]
    #[arg(long, value_name = "SECONDS", env = "COFFERDAM_REGISTRY_TIMEOUT")]
    pub registry_timeout: Option<String>,

    /// Largest layer of a base image, unpacked, for example 20g [default: 256g, and 8g where it is more than 200 times the
    /// compressed size, as in a bomb]
    #[arg(long, value_name = "SIZE", env = "COFFERDAM_LAYER_LIMIT")]
    pub layer_limit: Option<String>,
}

/// What builds and other commands have in common.
#[derive(Debug, Args, Clone, Default)]
pub struct SharedArguments {
    /// How progress is shown: `auto` takes the view for terminals on one, else sections in GitLab's and groups in GitHub's
    /// logs, else plain lines
    #[arg(long, value_name = "auto|tty|plain|json|quiet", env = "BUILDKIT_PROGRESS", default_value = "auto")]
    pub progress: String,

    /// Directory that keeps layers between builds [default: the user's cache directory]
    #[arg(long, value_name = "DIR", env = "COFFERDAM_STORE")]
    pub store: Option<PathBuf>,

    /// Directory with further plugins (*.wasm); may be repeated
    #[arg(long = "plugin-dir", value_name = "DIR")]
    pub plugin_directories: Vec<PathBuf>,

    /// Operator's policy [default: /etc/cofferdam/policy.toml if it exists]
    #[arg(long = "policy", value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Grants a capability to a plugin, as far as the operator's policy leaves that to you
    #[arg(long = "allow-plugin", value_name = "NAME:CAPABILITY")]
    pub allow_plugins: Vec<String>,

    /// Writes one JSON line for each use of a capability by a plugin
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
}
