//! Provenance: how an image was built (SLSA provenance 1.0), with the parameters and extensions of BuildKit's build type, so
//! that what reads BuildKit's provenance reads this.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The predicate's type.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// BuildKit's own: it defines what the parameters mean.
const BUILD_TYPE: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// The predicate.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

/// What a build was asked for and what went into it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    build_type: &'static str,
    external_parameters: ExternalParameters,
    internal_parameters: InternalParameters,
    resolved_dependencies: Vec<Resource>,
}

/// What the user decides.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalParameters {
    /// Where the Dockerfile is from.
    pub config_source: ConfigSource,
    /// Everything else.
    pub request: Request,
}

/// Where the Dockerfile is from.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ConfigSource {
    /// Of the context, if it was fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its commit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// Of the Dockerfile, in the context.
    pub path: String,
}

/// What the build was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    /// Who reads the Dockerfile.
    pub frontend: &'static str,
    /// Parameters, as BuildKit calls them: `target`, `platform`, `build-arg:NAME`, `label:NAME`, `context:NAME`.
    pub args: BTreeMap<String, String>,
    /// Directories of the machine that started the build, by the name that they have for it.
    pub locals: Vec<BTreeMap<String, String>>,
    /// Secrets that commands may be handed, by id; never their content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Handout>,
    /// SSH agents, as secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Handout>,
}

/// Something that commands may be handed.
#[derive(Debug, Clone, Serialize)]
pub struct Handout {
    /// What commands call it.
    pub id: String,
    /// Whether a build goes on without it.
    pub optional: bool,
}

/// What the builder decided.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct InternalParameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    build_config: Option<BuildConfig>,
}

/// The steps of a build.
#[derive(Debug, Clone, Serialize)]
pub struct BuildConfig {
    /// In the order of the Dockerfile.
    pub stages: Vec<BuildStage>,
}

/// One stage.
#[derive(Debug, Clone, Serialize)]
pub struct BuildStage {
    /// Its name, or `stage-N`.
    pub name: String,
    /// What it is for.
    pub platform: String,
    /// Its instructions, FROM first.
    pub steps: Vec<BuildStep>,
}

/// One instruction.
#[derive(Debug, Clone, Serialize)]
pub struct BuildStep {
    /// As it is written.
    pub instruction: String,
    /// Of the Dockerfile, counted from 1.
    pub line: u32,
}

/// Anything with a name and a digest (ResourceDescriptor of in-toto).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Resource {
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is from.
    pub uri: String,
    /// By algorithm: `sha256`, or `sha1` for commits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// Anything else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize)]
struct RunDetails {
    builder: Builder,
    metadata: Metadata,
}

/// Who built.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Builder {
    /// A URI.
    pub id: String,
    /// Versions, by program.
    pub version: BTreeMap<String, String>,
    /// Plugins that had a part in the image.
    pub builder_dependencies: Vec<Resource>,
}

/// What is known of the build itself. Times are only there if they were asked for: without them the same inputs have the same
/// provenance.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_on: Option<String>,
    /// As `started_on`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_on: Option<String>,
    /// How much of the truth this is.
    #[serde(rename = "buildkit_completeness")]
    pub completeness: Completeness,
    /// Whether the user promises that the same inputs give the same image.
    #[serde(rename = "buildkit_reproducible")]
    pub reproducible: bool,
    /// The Dockerfile, and the commit of a checkout that is the context.
    #[serde(rename = "buildkit_metadata", skip_serializing_if = "Option::is_none")]
    pub more: Option<Value>,
}

/// How much of the truth a document is.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Completeness {
    /// Nothing that was asked for is left out.
    pub request: bool,
    /// Nothing that went into the image is left out.
    pub resolved_dependencies: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            frontend: "dockerfile.v0",
            args: BTreeMap::new(),
            locals: Vec::new(),
            secrets: Vec::new(),
            ssh: Vec::new(),
        }
    }
}

impl Provenance {
    /// The predicate; dependencies are sorted, and none is there twice.
    pub fn new(
        external: ExternalParameters,
        steps: Option<BuildConfig>,
        mut dependencies: Vec<Resource>,
        mut builder: Builder,
        metadata: Metadata,
    ) -> Self {
        for list in [&mut dependencies, &mut builder.builder_dependencies] {
            list.sort();
            list.dedup();
        }
        Self {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE,
                external_parameters: external,
                internal_parameters: InternalParameters { build_config: steps },
                resolved_dependencies: dependencies,
            },
            run_details: RunDetails { builder, metadata },
        }
    }
}
