//! Everything before the first step: plugins, sources, tags, base images, the plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cofferdam_context::{GitFacts, Remote};
use cofferdam_dockerfile::{Diagnostic, Severity};
use cofferdam_image::{Store, TempDir};
use cofferdam_layer::ReadLimits;
use cofferdam_plan::{
    BASE_IMAGE, Facts as PlanFacts, ImageName, NamedContext, NoImage, Options, Outcome, Plan, Planner, Platform,
};
use cofferdam_plugin_host::PluginHost;
use cofferdam_registry::Client;
use tokio::runtime::Runtime;

use crate::{
    build::now,
    credentials,
    error::BuildError,
    events::{Event, Observer},
    executors::Surroundings,
    images::{Image, ImageFailure, Images},
    layers::LayerFiles,
    naming::{self, Decided, Facts},
    registry_files,
    request::{BuildRequest, Timestamps},
    sources::{self, Sources},
    ssh::{self, Agent},
    stop::Stop,
    work::Talk,
};

/// A build of which nothing has run.
pub struct Prepared {
    /// The private directory of this and other builds.
    pub store: Store,
    /// Where plugins have their temporary directories; removed with it.
    pub _scratch: Option<TempDir>,
    /// Handlers, helpers and policies.
    pub plugins: Arc<PluginHost>,
    /// Who watches.
    pub talk: Talk,
    /// How sources in a network are reached.
    pub remote: Remote,
    /// Those of `--ssh`, by id.
    pub agents: BTreeMap<String, Agent>,
    /// The context and the Dockerfile.
    pub sources: Sources,
    /// For tagging policies.
    pub facts: Facts,
    /// What times in the image are set to.
    pub timestamps: Timestamps,
    /// Names, as far as they can be decided without the digest.
    pub decided: Decided,
    /// For the client.
    pub runtime: Runtime,
    /// For registries.
    pub client: Client,
    /// How layers are unpacked.
    pub files: Arc<LayerFiles>,
    /// What is to be done.
    pub plan: Plan,
    /// The images that the plan names.
    pub images: BTreeMap<ImageName, Arc<Image>>,
}

/// Plans a build. Blocks; starts threads.
///
/// # Errors
/// As for a build, before anything of it has run.
pub fn prepare(
    request: &BuildRequest,
    surroundings: &Surroundings,
    observer: &Arc<dyn Observer>,
    stop: &Stop,
) -> Result<Prepared, BuildError> {
    let store = Store::open(&request.store)?;
    let temporary = store.clone();
    stop.on_clean_up(move || temporary.remove_temporary());
    // Beneath the store, so that the next builder removes it if this one is killed.
    let scratch = (!request.plugins.directories.is_empty()).then(|| store.temp_dir("plugins")).transpose()?;
    let scratch_path = scratch.as_ref().map(|scratch| scratch.path().to_path_buf());
    let plugins = Arc::new(crate::plugins::load_for(&request.plugins, scratch_path, stop)?);
    let talk = Talk::new(observer.clone());
    warn_of_repairs(&store, &talk);
    let agents = ssh::agents(request)?;
    let remote = sources::remote(request, plugins.policy(), stop, Some(store.clone()), &agents);
    let sources = Sources::open(request, &talk, &remote)?;
    let timestamps = sources::timestamps(request, &sources.parsed)?;
    let facts = Facts {
        git: sources.git.clone(),
        variables: request.variables.clone(),
        epoch: epoch_seconds(timestamps, sources.git.as_ref()),
    };
    // A refusal before the build costs nothing.
    let destination = &request.destination;
    let before = naming::tag_facts(&facts, None);
    let decided = match destination.by_digest {
        true => naming::by_digest(&destination.references)?,
        false => {
            naming::decide(&plugins, &destination.policies, &destination.references, &before, &|_| Ok(Vec::new()))?
        }
    };
    let runtime = credentials::runtime(2)?;
    let registries = registry_files::resolved(&request.registries)?;
    let client = credentials::client(&registries, &plugins, runtime.handle())?;
    let files = Arc::new(LayerFiles {
        store: store.clone(),
        form: surroundings.form(),
        form_name: surroundings.form_name(),
        limits: read_limits(request.execution.layer_limit_bytes),
        stop: stop.clone(),
    });
    let images = Images {
        named: sources.images.clone(),
        cache: request.caches.bases.clone(),
        ..Images::new(
            client.clone(),
            runtime.handle().clone(),
            files.clone(),
            registries.mirrors,
            &plugins,
            talk.clone(),
        )
    };
    let (plan, images) = plan(request, &sources, &plugins, &images, &talk)?;
    Ok(Prepared {
        store,
        _scratch: scratch,
        plugins,
        talk,
        remote,
        agents,
        sources,
        facts,
        timestamps,
        decided,
        runtime,
        client,
        files,
        plan,
        images,
    })
}

/// Says what of the store was damaged and begun anew.
fn warn_of_repairs(store: &Store, talk: &Talk) {
    for path in store.take_repaired() {
        let path = path.display();
        talk.warn(format!(
            "`{path}` was damaged: the list of built images begins anew, and their blobs are still there"
        ));
    }
}

/// What the planner must know of the request, for each platform.
fn all_plan_options(request: &BuildRequest, sources: &Sources) -> Vec<Options> {
    let first = plan_options(request, sources);
    let others =
        request.platforms.iter().skip(1).map(|platform| Options { platform: platform.clone(), ..first.clone() });
    std::iter::once(first.clone()).chain(others).collect()
}

/// The same for the first platform, where questions are about one.
pub(crate) fn plan_options(request: &BuildRequest, sources: &Sources) -> Options {
    let build_platform = Platform::current();
    Options {
        build_arguments: request.build_arguments.clone(),
        target: request.target.clone(),
        further_targets: request.further_targets.clone(),
        platform: request.platforms.first().unwrap_or(&build_platform).clone(),
        build_platform,
        contexts: (sources.directories.keys().map(|name| (name.clone(), NamedContext::Directory)))
            .chain(sources.images.keys().map(|name| (name.clone(), NamedContext::Image)))
            .collect(),
    }
}

/// Plans all platforms until nothing is missing; images are looked up at the same time.
fn plan(
    request: &BuildRequest,
    sources: &Sources,
    plugins: &PluginHost,
    images: &Images,
    talk: &Talk,
) -> Result<(Plan, BTreeMap<ImageName, Arc<Image>>), BuildError> {
    let options = all_plan_options(request, sources);
    let failed = |diagnostics: Vec<Diagnostic>, failures: BTreeMap<ImageName, ImageFailure>| {
        let (file, text) = (sources.dockerfile_name.clone(), sources.text.clone());
        let mut errors = diagnostics.iter().filter(|finding| finding.severity == Severity::Error);
        // The Dockerfile is right, but what it names can't be had.
        let no_image = failures.len() == 1 && errors.all(|finding| finding.code == BASE_IMAGE);
        match failures.into_iter().next().filter(|_| no_image) {
            Some((image, source)) => {
                let span =
                    diagnostics.iter().find(|finding| finding.code == BASE_IMAGE).and_then(|finding| finding.span);
                BuildError::Source { name: image.name, file, text, span, source }
            }
            None => BuildError::Dockerfile { file, text, diagnostics },
        }
    };
    let planners: Vec<Planner<'_>> =
        options.iter().map(|options| Planner::new(&sources.parsed, plugins, options)).collect();
    let mut facts = PlanFacts { ignore: sources.ignore.clone(), ..PlanFacts::default() };
    let mut found: BTreeMap<ImageName, Arc<Image>> = BTreeMap::new();
    let mut failures = BTreeMap::new();
    loop {
        let (mut plans, mut findings, mut needs) = (Vec::new(), Vec::new(), BTreeSet::new());
        for planner in &planners {
            match planner.plan(&facts) {
                Outcome::Plan(plan, warnings) => {
                    plans.push(plan);
                    findings.extend(warnings);
                }
                Outcome::Failed(diagnostics) => return Err(failed(diagnostics, failures)),
                Outcome::Needs(images) => needs.extend(images),
            }
        }
        if needs.is_empty() {
            // Mostly the same for every platform, and told once.
            let diagnostics = cofferdam_dockerfile::in_order(findings);
            if !diagnostics.is_empty() {
                let file = sources.dockerfile_name.clone();
                talk.event(Event::Warnings { file, diagnostics });
            }
            return Ok((Plan::join(plans), found));
        }
        let answers: Vec<_> = std::thread::scope(|scope| {
            let look_ups: Vec<_> = needs.iter().map(|name| (name, scope.spawn(move || images.find(name)))).collect();
            let joined = look_ups
                .into_iter()
                .map(|(name, look_up)| (name, look_up.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))));
            joined.collect()
        });
        for (name, answer) in answers {
            let answer = answer.and_then(|image| match image.other_platform(name) {
                // An index would promise what its image is not.
                Some(own) if planners.len() > 1 => {
                    Err(ImageFailure::OtherPlatform { own, wanted: name.platform.clone() })
                }
                Some(own) => {
                    let (name, wanted) = (&name.name, &name.platform);
                    talk.warn(format!("the image `{name}` is for {own}, not for {wanted}: so is what is built on it"));
                    Ok(image)
                }
                None => Ok(image),
            });
            let fact = match answer {
                Ok(image) => {
                    let fact = image.facts();
                    found.insert(name.clone(), Arc::new(image));
                    Ok(fact)
                }
                Err(error) => {
                    let missing = NoImage { reason: crate::chain(&error), remedy: error.remedy() };
                    failures.insert(name.clone(), error);
                    Err(missing)
                }
            };
            facts.images.insert(name.clone(), fact);
        }
    }
}

/// The bounds of base layers.
pub fn read_limits(layer_limit_bytes: Option<u64>) -> ReadLimits {
    let limits = ReadLimits::default();
    match layer_limit_bytes {
        None => limits,
        Some(bytes) => ReadLimits { uncompressed_bytes: bytes, suspicious_bytes: bytes, ..limits },
    }
}

fn epoch_seconds(timestamps: Timestamps, git: Option<&GitFacts>) -> i64 {
    match timestamps {
        Timestamps::Epoch(seconds) => seconds,
        Timestamps::Automatic => git.map_or(0, |git| git.commit_time),
        Timestamps::Real => now().seconds,
    }
}
