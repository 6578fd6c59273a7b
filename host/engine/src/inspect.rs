//! Questions about a Dockerfile that are answered without building, and without a network unless the context itself is in
//! one: `--check`, `--call outline`, `--call targets`.

use std::sync::Arc;

use cofferdam_dockerfile::{Diagnostic, Severity};
use cofferdam_plan::{
    Facts, Planner,
    outline::{self, Outline, Target},
};

use cofferdam_plugin_host::Policy;

use crate::{
    error::BuildError,
    events::{Event, Observer},
    prepare::plan_options,
    request::BuildRequest,
    sources::{self, Sources},
    ssh,
    stop::Stop,
    work::Talk,
};

/// An answer, and the file that it is about.
#[derive(Debug, Clone)]
pub struct Inspected<A> {
    /// The Dockerfile's name, for people.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The answer.
    pub answer: A,
}

/// Everything that can be said against the Dockerfile without asking anybody, of all its stages.
///
/// # Errors
/// The context, the Dockerfile or the plugins can't be read.
pub fn check(request: &BuildRequest) -> Result<Inspected<Vec<Diagnostic>>, BuildError> {
    let sources = open(request)?;
    let plugins = crate::plugins::load(&request.plugins)?;
    let options = plan_options(request, &sources);
    let facts = Facts { ignore: sources.ignore.clone(), ..Facts::default() };
    let answer = Planner::new(&sources.parsed, &plugins, &options).check(&facts);
    Ok(inspected(sources, answer))
}

/// What the target makes use of.
///
/// # Errors
/// As [`check`]; there is no such target; the Dockerfile can't be read so far.
pub fn outline(request: &BuildRequest) -> Result<Inspected<Outline>, BuildError> {
    let sources = parsed(request)?;
    let options = plan_options(request, &sources);
    let Some(answer) = outline::outline(&sources.parsed, &options) else {
        let name = request.target.clone().unwrap_or_default();
        let names: Vec<String> =
            outline::targets(&sources.parsed).into_iter().filter_map(|target| target.name).collect();
        let unknown = Diagnostic {
            severity: Severity::Error,
            code: "UnknownTarget".to_owned(),
            message: format!("there is no stage `{name}`"),
            span: None,
            help: (!names.is_empty()).then(|| format!("stages are: {}", names.join(", "))),
        };
        return Err(wrong(sources, vec![unknown]));
    };
    Ok(inspected(sources, answer))
}

/// The stages that can be built.
///
/// # Errors
/// As [`check`]; the Dockerfile can't be read so far.
pub fn targets(request: &BuildRequest) -> Result<Inspected<Vec<Target>>, BuildError> {
    let sources = parsed(request)?;
    let answer = outline::targets(&sources.parsed);
    Ok(inspected(sources, answer))
}

/// Hears nothing.
struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: Event) {}
}

fn open(request: &BuildRequest) -> Result<Sources, BuildError> {
    let policy = Policy::load(request.plugins.policy_file.as_deref())?;
    let remote = sources::remote(request, &policy, &Stop::new(), None, &ssh::agents(request)?);
    Sources::open(request, &Talk::new(Arc::new(Deaf)), &remote)
}

/// The sources, if the language has nothing against the Dockerfile. Unknown keywords are a matter of plugins.
fn parsed(request: &BuildRequest) -> Result<Sources, BuildError> {
    let sources = open(request)?;
    let keywords: Vec<&str> =
        sources.parsed.instructions.iter().map(|instruction| instruction.keyword.as_str()).collect();
    let mut found = cofferdam_dockerfile::check(&sources.parsed, &keywords);
    found.retain(|finding| finding.severity == Severity::Error);
    if found.is_empty() { Ok(sources) } else { Err(wrong(sources, found)) }
}

fn wrong(sources: Sources, diagnostics: Vec<Diagnostic>) -> BuildError {
    BuildError::Dockerfile { file: sources.dockerfile_name, text: sources.text, diagnostics }
}

fn inspected<A>(sources: Sources, answer: A) -> Inspected<A> {
    Inspected { file: sources.dockerfile_name, text: sources.text, answer }
}
