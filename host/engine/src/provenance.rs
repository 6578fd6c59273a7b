//! How an image was built: what was asked for, what went into it, and by which plugins.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use cofferdam_context::{ArchiveSource, ContextSource, GitSource};
use cofferdam_digest::Digest;
use cofferdam_image::{
    created,
    slsa::{
        BuildConfig, BuildStage, BuildStep, Builder as BuilderDetails, Completeness, ConfigSource, ExternalParameters,
        Handout, Metadata, Provenance, Request, Resource,
    },
};
use cofferdam_plan::{Base, ImageName, InputTree, Plan, PlannedStage, Scope, StageNumber, Target, step::Handlers as _};
use cofferdam_registry::Reference;

use crate::{
    build::now,
    builder::Builder,
    error::BuildError,
    naming::Facts,
    request::{BuildRequest, ProvenanceMode, ProvenanceRequest, Timestamps},
};

/// Who builds, where nobody says otherwise: a URI that names the program.
const BUILDER_ID: &str = concat!("pkg:generic/cofferdam@", env!("CARGO_PKG_VERSION"));

/// The provenance of a target's image. It has no times and nothing of this machine, so the same inputs have the same one
/// anywhere, unless the request wants the clock's times.
///
/// # Errors
/// A source of the plan that was not needed so far can't be fetched.
pub fn provenance(
    request: &BuildRequest,
    builder: &Builder,
    facts: &Facts,
    target: &Target,
    asked: &ProvenanceRequest,
) -> Result<Provenance, BuildError> {
    let stages = stages_of(&builder.plan, target.stage);
    let is_max = asked.mode == ProvenanceMode::Max;
    let context = Context::of(request, facts);
    let left_out = !is_max && (!arguments(request).is_empty() || !request.labels.is_empty());
    let moment = |at: i64| (request.timestamps == Timestamps::Real).then(|| created(at));
    let metadata = Metadata {
        started_on: moment(builder.start.seconds),
        finished_on: moment(now().seconds),
        completeness: Completeness {
            request: !left_out && (is_max || request.secrets.is_empty() && request.ssh.is_empty()),
            // What commands fetch, and what a directory has in it, is not known.
            resolved_dependencies: false,
        },
        reproducible: asked.reproducible,
        more: more(builder, facts, &context, is_max),
    };
    let mut dependencies = materials(request, builder, &stages)?;
    dependencies.extend(context.material());
    let details = BuilderDetails {
        id: asked.builder_id.clone().unwrap_or_else(|| BUILDER_ID.to_owned()),
        version: [("cofferdam".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        builder_dependencies: plugins(request, builder, &stages),
    };
    let external = ExternalParameters {
        config_source: ConfigSource {
            uri: context.uri.clone(),
            digest: context.digest.clone(),
            path: file_name(builder).to_owned(),
        },
        request: asked_for(request, target, &context, is_max),
    };
    let steps = is_max.then(|| BuildConfig { stages: stages.iter().map(|stage| steps(stage)).collect() });
    Ok(Provenance::new(external, steps, dependencies, details, metadata))
}

/// The Dockerfile's name without a place of this machine.
fn file_name(builder: &Builder) -> &str {
    let name = builder.dockerfile.name.as_str();
    if name.starts_with('/') { name.rsplit('/').next().unwrap_or_default() } else { name }
}

/// The stages that an image is made of or copies from, in the order of the plan.
fn stages_of(plan: &Plan, target: StageNumber) -> Vec<&PlannedStage> {
    let mut found = BTreeSet::new();
    let mut next = vec![target];
    while let Some(number) = next.pop() {
        let Some(stage) = plan.stages.get(&number).filter(|_| found.insert(number)) else { continue };
        if let Base::Stage(base) = stage.base {
            next.push(base);
        }
        next.extend(inputs(stage).filter_map(|tree| match tree {
            InputTree::Stage(number) => Some(*number),
            _ => None,
        }));
    }
    found.iter().map(|number| &plan.stages[number]).collect()
}

fn inputs(stage: &PlannedStage) -> impl Iterator<Item = &InputTree> {
    let actions = stage.steps.iter().filter_map(|step| step.action.as_ref());
    actions.flat_map(|action| action.inputs.iter().map(|input| &input.tree))
}

/// Where the context is from.
#[derive(Default)]
struct Context {
    /// If it was fetched.
    uri: Option<String>,
    /// The commit of a repository.
    digest: BTreeMap<String, String>,
    is_directory: bool,
}

impl Context {
    fn of(request: &BuildRequest, facts: &Facts) -> Self {
        let parsed = match &request.sources.kaniko_git {
            None => ContextSource::parse(&request.context),
            Some(git) => ContextSource::parse_kaniko(&request.context, git, request.sources.git_pull_method.as_deref()),
        };
        match parsed {
            Ok(ContextSource::Git(source)) => Self {
                uri: Some(git_uri(&source)),
                digest: facts.git.iter().map(|git| commit(&git.commit)).collect(),
                is_directory: false,
            },
            Ok(ContextSource::Archive(ArchiveSource::Url(url))) => {
                Self { uri: Some(without_secrets(&url)), ..Self::default() }
            }
            Ok(ContextSource::Archive(source @ ArchiveSource::Object(_))) => {
                Self { uri: Some(without_secrets(&source.shown())), ..Self::default() }
            }
            Ok(ContextSource::Archive(ArchiveSource::File(_) | ArchiveSource::Stdin)) => Self::default(),
            Ok(ContextSource::Directory(_)) => Self { is_directory: true, ..Self::default() },
            // It was opened, so it is of a kind that has a URL.
            _ => Self { uri: Some(without_secrets(&request.context)), ..Self::default() },
        }
    }

    fn material(&self) -> Option<Resource> {
        Some(Resource { uri: self.uri.clone()?, digest: self.digest.clone(), ..Resource::default() })
    }
}

/// Images, files and repositories that the stages read.
fn materials(request: &BuildRequest, builder: &Builder, stages: &[&PlannedStage]) -> Result<Vec<Resource>, BuildError> {
    let mut found = Vec::new();
    let image = |name: &ImageName, digest: &Digest| Resource {
        uri: image_uri(request, name),
        digest: [("sha256".to_owned(), digest.hex())].into(),
        ..Resource::default()
    };
    for stage in stages {
        if let Base::Image(name, digest) = &stage.base {
            found.push(image(name, digest));
        }
        for tree in inputs(stage) {
            match tree {
                InputTree::Image(name, digest) => found.push(image(name, digest)),
                InputTree::Url(url) => {
                    let digest = builder.fetched.url(url)?.digest;
                    let digest = digest.iter().map(|digest| ("sha256".to_owned(), digest.hex())).collect();
                    found.push(Resource { uri: without_secrets(url), digest, ..Resource::default() });
                }
                InputTree::Git(url) => {
                    let fetched = builder.fetched.git(url)?;
                    let uri = GitSource::parse(url).map_or_else(|_| without_secrets(url), |source| git_uri(&source));
                    let digest = fetched.revision.iter().map(|revision| commit(revision)).collect();
                    found.push(Resource { uri, digest, ..Resource::default() });
                }
                InputTree::Context | InputTree::Directory(_) | InputTree::Stage(_) => {}
            }
        }
    }
    Ok(found)
}

/// An image's package URL (purl types `docker` and `oci`), as BuildKit writes it.
fn image_uri(request: &BuildRequest, name: &ImageName) -> String {
    let platform = name.platform.to_string().replace('/', "%2F");
    let context = request.contexts.get(&name.name);
    let written = context.map_or(name.name.as_str(), |text| text.strip_prefix("docker-image://").unwrap_or(text));
    if written.starts_with("oci-layout://") {
        return format!("pkg:oci/{}?platform={platform}", encoded(&name.name));
    }
    let Ok(reference) = written.parse::<Reference>() else {
        return format!("pkg:docker/{}?platform={platform}", encoded(written));
    };
    let repository: Vec<String> = reference.repository().familiar().split('/').map(encoded).collect();
    let version = match (reference.tag(), reference.digest()) {
        (Some(tag), _) => format!("@{tag}"),
        (None, Some(_)) => String::new(),
        (None, None) => "@latest".to_owned(),
    };
    let digest = reference.digest().map(|digest| format!("digest={digest}&")).unwrap_or_default();
    format!("pkg:docker/{}{version}?{digest}platform={platform}", repository.join("/"))
}

/// Percent-encoded, as a part of a package URL.
fn encoded(text: &str) -> String {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':');
    text.bytes().map(|byte| if fine(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A repository as BuildKit writes it: the reference behind a `#`.
fn git_uri(source: &GitSource) -> String {
    let place = without_secrets(source.url.as_str());
    match (&source.reference, &source.directory) {
        (None, None) => place,
        (reference, None) => format!("{place}#{}", reference.as_deref().unwrap_or_default()),
        (reference, Some(directory)) => format!("{place}#{}:{directory}", reference.as_deref().unwrap_or_default()),
    }
}

/// A commit's id is a digest of one of git's two algorithms.
fn commit(id: &str) -> (String, String) {
    let algorithm = if id.len() == 64 { "sha256" } else { "sha1" };
    (algorithm.to_owned(), id.to_owned())
}

/// A URL without user, password and query: signatures of links that open for some time stand there.
fn without_secrets(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = bare.split_once("://") else { return bare.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// The build arguments but for those about proxies, which often have a password in them.
fn arguments(request: &BuildRequest) -> BTreeMap<&String, &String> {
    let is_proxy = |name: &str| Scope::PROXIES.contains(&name);
    request.build_arguments.iter().filter(|(name, _)| !is_proxy(name)).collect()
}

fn asked_for(request: &BuildRequest, target: &Target, context: &Context, is_max: bool) -> Request {
    let mut args = BTreeMap::from([("platform".to_owned(), target.platform.to_string())]);
    args.extend(request.target.iter().map(|stage| ("target".to_owned(), stage.clone())));
    let mut locals = Vec::new();
    let mut local = |name: &str| locals.push(BTreeMap::from([("name".to_owned(), name.to_owned())]));
    if context.is_directory {
        local("context");
        local("dockerfile");
    }
    for (name, text) in &request.contexts {
        let is_image = ["docker-image://", "oci-layout://"].iter().any(|scheme| text.starts_with(scheme));
        let value = match ContextSource::parse(text) {
            // A layout's directory is one of this machine.
            _ if text.starts_with("oci-layout://") => format!("oci-layout:{name}"),
            _ if is_image => text.clone(),
            Ok(ContextSource::Directory(_) | ContextSource::Archive(ArchiveSource::File(_) | ArchiveSource::Stdin)) => {
                local(name);
                format!("local:{name}")
            }
            Ok(ContextSource::Git(source)) => git_uri(&source),
            _ => without_secrets(text),
        };
        args.insert(format!("context:{name}"), value);
    }
    let mut asked = Request { args, locals, ..Request::default() };
    if is_max {
        let arguments = arguments(request).into_iter();
        asked.args.extend(arguments.map(|(name, value)| (format!("build-arg:{name}"), value.clone())));
        asked.args.extend(request.labels.iter().map(|(name, value)| (format!("label:{name}"), value.clone())));
        let handout = |id: &String| Handout { id: id.clone(), optional: true };
        asked.secrets = request.secrets.keys().map(handout).collect();
        asked.ssh = request.ssh.keys().map(handout).collect();
    }
    asked
}

/// The plugins whose answers are in the image: handlers, tagging policies, the scanner.
fn plugins(request: &BuildRequest, builder: &Builder, stages: &[&PlannedStage]) -> Vec<Resource> {
    let keyword = |title: &str| title.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    let keywords: BTreeSet<String> =
        stages.iter().flat_map(|stage| stage.steps.iter().map(|step| keyword(&step.title))).collect();
    let mut names: BTreeSet<String> =
        keywords.iter().filter_map(|keyword| Some(builder.plugins.facts(keyword)?.plugin)).collect();
    let destination = &request.destination;
    if !destination.references.is_empty() {
        let policies = destination.policies.iter().map(|policy| policy.name.clone());
        let none = destination.policies.is_empty().then(|| "explicit".to_owned());
        names.extend(policies.chain(none).flat_map(|name| [format!("tags-{name}"), name]));
    }
    if let Some(sbom) = &destination.attestations.sbom {
        names.extend([sbom.scanner.clone(), format!("sbom-{}", sbom.scanner)]);
    }
    let known = builder.plugins.plugins().into_iter().filter(|plugin| names.contains(&plugin.manifest.name));
    known
        .map(|plugin| Resource {
            uri: format!("pkg:generic/{}@{}", plugin.manifest.name, encoded(&plugin.manifest.version)),
            digest: [("sha256".to_owned(), plugin.digest.hex())].into(),
            annotations: [("kind".to_owned(), plugin.manifest.kind().to_string())].into(),
            name: Some(plugin.manifest.name),
        })
        .collect()
}

fn steps(stage: &PlannedStage) -> BuildStage {
    let from = BuildStep { instruction: stage.title.clone(), line: stage.span.start.line };
    let step =
        |step: &cofferdam_plan::PlannedStep| BuildStep { instruction: step.title.clone(), line: step.span.start.line };
    BuildStage {
        name: stage.name.clone().unwrap_or_else(|| format!("stage-{}", stage.section)),
        platform: stage.platform.to_string(),
        steps: [from].into_iter().chain(stage.steps.iter().map(step)).collect(),
    }
}

/// BuildKit's own: the commit of a checkout that is the context, and the Dockerfile.
fn more(builder: &Builder, facts: &Facts, context: &Context, is_max: bool) -> Option<serde_json::Value> {
    let mut more = serde_json::Map::new();
    if let Some(git) = facts.git.as_ref().filter(|_| context.is_directory) {
        let dirty = if git.dirty { "-dirty" } else { "" };
        more.insert("vcs".to_owned(), serde_json::json!({ "revision": format!("{}{dirty}", git.commit) }));
    }
    if is_max {
        let (filename, data) = (file_name(builder), BASE64.encode(&builder.dockerfile.text));
        let info = serde_json::json!({ "data": data, "filename": filename, "language": "Dockerfile" });
        more.insert("source".to_owned(), serde_json::json!({ "infos": [info] }));
    }
    (!more.is_empty()).then(|| more.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_may_be_secret() {
        for (text, expected) in [
            ("https://u:p@x.example/a/b.tgz?X-Amz-Signature=s#f", "https://x.example/a/b.tgz"),
            ("https://x.example:8443", "https://x.example:8443"),
            ("ssh://git@x.example/a.git", "ssh://x.example/a.git"),
            ("https://x.example/a@b", "https://x.example/a@b"),
            ("a/b?c", "a/b"),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }

    #[test]
    fn repositories_are_written_with_their_reference() {
        let uri = |text: &str| git_uri(&GitSource::parse(text).unwrap());
        assert_eq!(uri("https://u:p@x.example/a.git"), "https://x.example/a.git");
        assert_eq!(uri("https://x.example/a.git#v1"), "https://x.example/a.git#v1");
        assert_eq!(uri("https://x.example/a.git#v1:sub"), "https://x.example/a.git#v1:sub");
        assert_eq!(commit(&"0".repeat(40)).0, "sha1");
        assert_eq!(commit(&"0".repeat(64)).0, "sha256");
    }
}
