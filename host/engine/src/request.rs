//! What a build is asked for: both front doors of the command line make one of these.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use cofferdam_context::{Basic, CloudAccess, GitOptions};
use cofferdam_digest::Digest;
use cofferdam_layer::Compression;
use cofferdam_plan::{Platform, step::KeyValue};
use cofferdam_plugin_host::Allowance;
use cofferdam_registry::{Mirrors, Reference, Secret};

use crate::annotations::Annotation;

/// One build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// What relative paths are relative to, absolute.
    pub working_directory: PathBuf,
    /// The build context, as the user wrote it.
    pub context: String,
    /// The Dockerfile, as the user wrote it; `None` is `Dockerfile` in the context.
    pub dockerfile: Option<String>,
    /// `--target`.
    pub target: Option<String>,
    /// Stages that are built too, and not pushed.
    pub further_targets: Vec<String>,
    /// `--build-arg`, values filled in.
    pub build_arguments: BTreeMap<String, String>,
    /// `--build-context`: name and what it stands for, as the user wrote it.
    pub contexts: BTreeMap<String, String>,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`, by id.
    pub ssh: BTreeMap<String, SshSource>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--platform`, each once: more than one give an index. None is this machine's.
    pub platforms: Vec<Platform>,
    /// Where the image's names come from and where it goes.
    pub destination: Destination,
    /// Whether results of earlier builds are not used.
    pub no_cache: bool,
    /// Where results of builds elsewhere are, and where those of this one go.
    pub caches: RemoteCaches,
    /// `--ignore-path`: absolute paths that no layer of this build has, nor anything beneath them.
    pub ignored_paths: Vec<String>,
    /// What the layers that this build makes are compressed with.
    pub compression: Compression,
    /// What timestamps are set to.
    pub timestamps: Timestamps,
    /// The private directory of this and other builds.
    pub store: PathBuf,
    /// How contexts and other sources in a network are reached.
    pub sources: SourceAccess,
    /// How registries are reached.
    pub registries: RegistryAccess,
    /// Which plugins are loaded, and what they may do.
    pub plugins: PluginAccess,
    /// How RUN is carried out.
    pub execution: Execution,
    /// The variables of a continuous integration system and other facts for tagging policies.
    pub variables: BTreeMap<String, String>,
}

/// Layer caches elsewhere.
#[derive(Debug, Clone, Default)]
pub struct RemoteCaches {
    /// Those that are read, the first first.
    pub from: Vec<CacheLocation>,
    /// Those that are written, and what goes there.
    pub to: Vec<(CacheLocation, CacheMode)>,
    /// Whether the image says itself what its layers are.
    pub inline: bool,
    /// How long a result counts that no build has used.
    pub ttl: Option<Duration>,
    /// Where base images are that were fetched ahead.
    pub bases: Option<BaseImageCache>,
}

/// A directory with base images that were fetched ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImageCache {
    /// The directory.
    pub directory: PathBuf,
    /// How long an image counts; `None` is for ever.
    pub ttl: Option<Duration>,
}

impl BaseImageCache {
    /// The layout of an image.
    pub fn directory_of(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }
}

/// Where a layer cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheLocation {
    /// A tag of a registry: a cache, or an image that has one in it.
    Registry(Reference),
    /// A tag of an OCI layout.
    Layout {
        /// Its directory.
        directory: PathBuf,
        /// As `index.json` has it.
        tag: String,
    },
    /// Objects of a bucket.
    Bucket(BucketCache),
}

/// A layer cache in a bucket of S3's, or of a store that speaks like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketCache {
    /// Its name.
    pub bucket: String,
    /// The key of the document.
    pub document: String,
    /// What the keys of layers begin with; digests follow.
    pub layers: String,
    /// Where the bucket is, and who may ask there.
    pub cloud: CloudAccess,
}

/// What goes to a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// The layers that the image has.
    Min,
    /// Those of all stages.
    Max,
}

/// Where a secret comes from.
#[derive(Clone)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// The value itself, from the environment.
    Value(String),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(…)"),
        }
    }
}

/// Where an SSH agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSource {
    /// The socket of an agent, or private keys that this builder serves itself.
    pub paths: Vec<PathBuf>,
}

/// How sources in a network are reached.
#[derive(Debug, Clone, Default)]
pub struct SourceAccess {
    /// For the host of the context, and no other.
    pub credential: Option<Basic>,
    /// `--git`: the context is read as Kaniko reads it. `None` reads it as Docker does.
    pub kaniko_git: Option<GitOptions>,
    /// `GIT_PULL_METHOD`: what Kaniko fetches `git://` over.
    pub git_pull_method: Option<String>,
    /// The user's own SSH agent, for the host of the context where `--ssh` names no other.
    pub ssh_auth_socket: Option<PathBuf>,
    /// The files that have the keys of SSH servers.
    pub known_hosts: Vec<PathBuf>,
    /// Who may ask the stores of clouds for the context and named contexts.
    pub cloud: CloudAccess,
    /// `--context-sub-path`: the directory of a fetched context that is the context.
    pub context_directory: Option<String>,
}

/// What is said about an image, beside it in its index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attestations {
    /// `--provenance`: how it was built.
    pub provenance: Option<ProvenanceRequest>,
    /// `--sbom`: what it is made of.
    pub sbom: Option<SbomRequest>,
    /// Whether they are stored as artifacts about the image (OCI image specification 1.1), not in the form of images.
    pub as_artifacts: bool,
}

impl Attestations {
    /// Whether anything is said.
    pub fn is_any(&self) -> bool {
        self.provenance.is_some() || self.sbom.is_some()
    }
}

/// What provenance is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenanceRequest {
    /// How much.
    pub mode: ProvenanceMode,
    /// A URI for who builds; `None` is this program's own.
    pub builder_id: Option<String>,
    /// Whether the user promises that the same inputs give the same image.
    pub reproducible: bool,
}

/// How much provenance says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvenanceMode {
    /// What went into the image, from where, by which plugins.
    Min,
    /// Build arguments, labels, the names of secrets, steps and the Dockerfile too.
    Max,
}

/// Who describes an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SbomRequest {
    /// The plugin's name, `sbom-` may be left out.
    pub scanner: String,
    /// `KEY=VALUE`.
    pub options: Vec<KeyValue>,
}

/// Where an image goes.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    /// `--tag`, `--destination`: references, with or without a tag.
    pub references: Vec<String>,
    /// Whether they are pushed.
    pub push: bool,
    /// `--output`.
    pub outputs: Vec<Output>,
    /// `--tag-policy`, in sequence; empty is `explicit`.
    pub policies: Vec<PolicyUse>,
    /// `--annotation`.
    pub annotations: Vec<Annotation>,
    /// Whether it is pushed without a tag, as what an index is made of later.
    pub by_digest: bool,
    /// Whether the store lists the image under `REPOSITORY@DIGEST` too.
    pub canonical_names: bool,
    /// Whether the layers of bases are compressed as those that this build makes.
    pub force_compression: bool,
    /// Whether it is found out before the build that we may push.
    pub check_push: bool,
    /// Files that take the digest.
    pub digest_file: Option<PathBuf>,
    /// What is said about the image beside it.
    pub attestations: Attestations,
    /// Docker's media types instead of OCI's.
    pub docker_media_types: bool,
    /// One layer of everything that the build adds to the base image, instead of one for each step.
    pub single_layer: bool,
    /// Whether a tag that the registry does not allow to be moved is taken as pushed.
    pub ignore_immutable_tags: bool,
}

/// A tagging policy and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyUse {
    /// The plugin's name, `tags-` may be left out.
    pub name: String,
    /// `KEY=VALUE`.
    pub options: Vec<KeyValue>,
}

/// A file or directory that the image is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// In which form.
    pub kind: OutputKind,
    /// `-` is standard output.
    pub destination: PathBuf,
}

/// The form of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// A tar archive of an OCI layout.
    OciArchive,
    /// An OCI layout as a directory.
    OciDirectory,
    /// A tar archive for `docker load`.
    DockerArchive,
    /// A tar archive of the image's file system.
    FileSystemArchive,
    /// The image's file system in a directory.
    FileSystemDirectory,
}

impl OutputKind {
    /// Whether it is one file, which may be standard output.
    pub fn is_file(self) -> bool {
        !matches!(self, Self::OciDirectory | Self::FileSystemDirectory)
    }
}

/// What timestamps in the image are set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// `SOURCE_DATE_EPOCH`, in seconds.
    Epoch(i64),
    /// The context's git commit time, else 0.
    Automatic,
    /// The clock's: the image differs with every build.
    Real,
}

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryAccess {
    /// Push over plain HTTP.
    pub insecure_push: bool,
    /// Pull over plain HTTP.
    pub insecure_pull: bool,
    /// Hosts that are reached over plain HTTP.
    pub insecure_hosts: Vec<String>,
    /// Hosts whose certificate is not checked.
    pub skip_tls_verify_hosts: Vec<String>,
    /// Push without checking certificates.
    pub skip_tls_verify_push: bool,
    /// Pull without checking certificates.
    pub skip_tls_verify_pull: bool,
    /// Files in the form of Docker's `config.json`, for the credential helper that reads it: the first that has an entry for
    /// a registry counts.
    pub docker_configs: Vec<PathBuf>,
    /// The text of such a file (`DOCKER_AUTH_CONFIG`), which counts before the files.
    pub docker_auth_config: Option<Secret>,
    /// The variables of the environment that credential helpers may be granted.
    pub credential_variables: BTreeMap<String, Secret>,
    /// The files that credential helpers may be granted, by the names that capabilities give them.
    pub credential_files: BTreeMap<String, PathBuf>,
    /// The helpers that are asked besides the one for those files, `credential-` may be left out; `None` is all.
    pub credential_helpers: Option<Vec<String>>,
    /// Where images are pulled from instead, or first.
    pub mirrors: Mirrors,
    /// Files that say more of all this.
    pub files: RegistryFiles,
    /// Files with certificates for single hosts.
    pub host_certificates: BTreeMap<String, CertificateFiles>,
    /// How often a request is tried in all; `None` is the default.
    pub attempts: Option<u32>,
    /// How long a registry may be silent before a request is given up and sent again.
    pub patience: Option<Duration>,
}

/// Files of other tools about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryFiles {
    /// A registries.conf that was named.
    pub registries_conf: Option<PathBuf>,
    /// Where one may be otherwise; the first that is there counts, but for what it says of short names.
    pub default_registries_conf: Vec<PathBuf>,
    /// Directories with a directory for each registry, in which there are a hosts.toml or certificates.
    pub hosts_directories: Vec<PathBuf>,
}

/// Files in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificates that are trusted.
    pub ca: Vec<PathBuf>,
    /// Our own certificate, and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Which plugins are loaded, and what they may do.
#[derive(Debug, Clone, Default)]
pub struct PluginAccess {
    /// `--plugin-dir`.
    pub directories: Vec<PathBuf>,
    /// `--policy`.
    pub policy_file: Option<PathBuf>,
    /// Whether that is looked at alone, without the operator's: to check a file, never to build.
    pub sole_policy: bool,
    /// `--allow-plugin NAME[:CAPABILITY]`.
    pub allow: Vec<Allowance>,
    /// `--audit-log`.
    pub audit_log: Option<PathBuf>,
    /// Where compiled third-party components are kept.
    pub compile_cache: Option<PathBuf>,
    /// Where private temporary directories are made.
    pub scratch: Option<PathBuf>,
}

/// How RUN is carried out.
#[derive(Debug, Clone, Default)]
pub struct Execution {
    /// How many bytes a base layer may have, unpacked; `None` takes bounds that only bombs reach.
    pub layer_limit_bytes: Option<u64>,
    /// `--executor`; `None` takes the strongest that works here.
    pub executor: Option<String>,
    /// What commands see beside the image.
    pub surroundings: RunSurroundings,
    /// Where programs of this machine are, for those that run programs of other processors.
    pub program_directories: Vec<PathBuf>,
}

/// What every command of a build sees beside the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSurroundings {
    /// `--network=none`: no network, where a RUN does not say otherwise itself.
    pub without_network: bool,
    /// `--add-host`: further lines of /etc/hosts.
    pub hosts: Vec<(String, IpAddr)>,
}
