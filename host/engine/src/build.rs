//! One build, from the request to the manifest.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use cofferdam_cache::LocalCache;
use cofferdam_digest::Digest;
use cofferdam_image::{Descriptor, Store};
use cofferdam_layer::WriteOptions;
use cofferdam_plan::{Platform, Scope, StageNumber};
use cofferdam_rootfs::{FileSpools, RootPath, SpoolFactory, Timestamp};

use crate::{
    builder::{Builder, DockerfileText, LayerListener, nanoseconds},
    caches::{Means, RemoteCache},
    error::BuildError,
    events::{Ending, Observer},
    executors::{Executors, Surroundings},
    fetched::Fetched,
    file_hashes::FileHashes,
    finish::finish,
    foreign,
    mounts::Handouts,
    plugins::check_push,
    prepare::{Prepared, prepare},
    publish::Publisher,
    request::{BuildRequest, CacheLocation, RemoteCaches, Timestamps},
    stop::Stop,
    work::Talk,
};

/// What a build made.
#[derive(Debug, Clone)]
pub struct Built {
    /// Of what the names lead to: a manifest, or an index.
    pub digest: Digest,
    /// The same with its type and size.
    pub root: Descriptor,
    /// Of the configuration, which Docker calls the image's id; an index has none.
    pub config_digest: Option<Digest>,
    /// The names under which it was pushed, or would be.
    pub names: Vec<String>,
    /// Whether it was pushed.
    pub pushed: bool,
    /// Whether it was written to a file or directory.
    pub written: bool,
}

/// Carries out a build. Blocks; starts threads.
///
/// `surroundings` is what was found out about this machine before any thread was started.
///
/// # Errors
/// Whatever made it impossible. No tag was moved, no output was begun, nothing is left behind.
pub fn build(
    request: &BuildRequest,
    surroundings: &Surroundings,
    observer: &Arc<dyn Observer>,
    stop: &Stop,
) -> Result<Built, BuildError> {
    match attempt(request, surroundings, observer, &stop.attempt()) {
        Err(Failed { cache_is_suspect: true, .. }) if !stop.is_stopped() && !reads_standard_input(request) => {
            let text = "a layer cache has not what it promised: the build begins again without it";
            Talk::new(observer.clone()).warn(text.to_owned());
            let caches = RemoteCaches { from: Vec::new(), ..request.caches.clone() };
            let without = BuildRequest { caches, ..request.clone() };
            attempt(&without, surroundings, observer, &stop.attempt())
        }
        outcome => outcome,
    }
    .map_err(|failed| failed.error)
}

/// An attempt at a build has failed.
struct Failed {
    error: BuildError,
    /// A cache elsewhere may be the cause.
    cache_is_suspect: bool,
}

impl From<BuildError> for Failed {
    fn from(error: BuildError) -> Self {
        Self { error, cache_is_suspect: false }
    }
}

/// What was read there is not there a second time.
fn reads_standard_input(request: &BuildRequest) -> bool {
    matches!(request.context.as_str(), "-" | "tar://stdin") || request.dockerfile.as_deref() == Some("-")
}

fn attempt(
    request: &BuildRequest,
    surroundings: &Surroundings,
    observer: &Arc<dyn Observer>,
    stop: &Stop,
) -> Result<Built, Failed> {
    let prepared = prepare(request, surroundings, observer, stop)?;
    let Prepared {
        store,
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
        ..
    } = prepared;
    let (destination, named) = (&request.destination, &decided.repositories);
    let executor = Executors::choose(surroundings, request.execution.executor.as_deref(), &plan)?;
    let emulators = match &executor {
        Some(executor) => {
            foreign::emulators(&plan, &images, executor.as_ref(), &request.execution.program_directories)?
        }
        None => Vec::new(),
    };
    let start = now();
    let repositories: Vec<_> =
        if destination.push { named.iter().map(|named| named.repository.clone()).collect() } else { Vec::new() };
    let cache_repositories = request.caches.to.iter().filter_map(|(location, _)| match location {
        CacheLocation::Registry(reference) => Some(reference.repository()),
        CacheLocation::Layout { .. } | CacheLocation::Bucket(_) => None,
    });
    for repository in repositories.iter().chain(cache_repositories) {
        check_push(&plugins, repository.host())?;
    }
    if let Some(sbom) = &destination.attestations.sbom {
        plugins.scanner(&sbom.scanner).map_err(BuildError::from)?;
    }
    if destination.check_push {
        for repository in &repositories {
            let checked = runtime.block_on(client.check_push(repository));
            checked.map_err(|source| BuildError::Push { destination: repository.familiar(), source })?;
        }
    }
    let means = Means {
        client: client.clone(),
        runtime: runtime.handle().clone(),
        files: files.clone(),
        talk: talk.clone(),
        working_directory: request.working_directory.clone(),
        platforms: match &request.platforms[..] {
            [] => vec![Platform::current()],
            platforms => platforms.to_vec(),
        },
        mount_from: repositories.clone(),
        plugins: plugins.clone(),
        remote: remote.clone(),
    };
    let remote_cache = RemoteCache::open(&request.caches, means, start.seconds);
    let publisher = (!repositories.is_empty()).then(|| {
        let handle = runtime.handle().clone();
        Arc::new(Publisher::new(client, handle, store.clone(), repositories, talk.clone()))
    });
    let image_stages = plan.image_stages();
    let handouts = Arc::new(Handouts::collect(request, agents)?);
    let builder = Builder {
        dockerfile: DockerfileText { name: sources.dockerfile_name.clone(), text: sources.text.clone() },
        plugins: plugins.clone(),
        cache: Arc::new(LocalCache::new(store.clone())),
        remote_cache,
        use_cache: !request.no_cache,
        executor,
        emulators,
        context: sources.tree.clone(),
        directories: sources.directories.clone(),
        fetched_trees: sources.fetched.clone(),
        fetched: Fetched::new(remote, store.clone(), talk.clone(), handouts.secrets()),
        images,
        write: write_options(request, timestamps, start),
        force_compression: destination.force_compression,
        single_layer: destination.single_layer,
        ignored: ignored_paths(request)?,
        surroundings: request.execution.surroundings.clone(),
        epoch_key: match timestamps {
            Timestamps::Epoch(seconds) => Some(seconds.to_string()),
            Timestamps::Automatic => None,
            Timestamps::Real => Some("real".to_owned()),
        },
        file_hashes: Arc::new(FileHashes::new(store.clone(), nanoseconds(start))),
        start,
        spools: spools(&store),
        talk,
        proxies: proxies(request),
        handouts,
        stop: stop.clone(),
        on_layer: early_push(publisher.clone(), image_stages.clone()),
        image_stages,
        told: Mutex::new(false),
        first_failure: Mutex::new(None),
        files,
        plan,
    };
    let created = match timestamps {
        Timestamps::Real => start.seconds,
        _ => facts.epoch,
    };
    if stop.is_stopped() {
        return Err(BuildError::Stopped.into());
    }
    let finished = finish(request, &builder, &facts, &decided, publisher.as_deref(), created);
    builder.file_hashes.save();
    end_transfers(&builder, publisher.as_deref(), finished.as_ref().err());
    // What still runs for a failed build is not waited for.
    runtime.shutdown_background();
    finished.map_err(|error| Failed {
        error: first_cause(&builder, error),
        cache_is_suspect: builder.remote_cache.is_suspect(),
    })
}

/// Ends the talk about what goes on beside the steps.
fn end_transfers(builder: &Builder, publisher: Option<&Publisher>, error: Option<&BuildError>) {
    let ending = || if error.is_none() { Ending::Done } else { Ending::Stopped };
    builder.images.values().for_each(|image| image.end_download(ending()));
    builder.remote_cache.end_downloads();
    if let Some(publisher) = publisher {
        publisher.end(match error {
            Some(error @ BuildError::Push { .. }) => Ending::Failed(crate::chain(error)),
            _ => ending(),
        });
    }
}

/// Another stage's failure is told as it happened there.
fn first_cause(builder: &Builder, error: BuildError) -> BuildError {
    let first = builder.first_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (error, first) {
        (BuildError::Stage { stage, .. }, Some(source)) => BuildError::Stage { stage, source },
        (error, _) => error,
    }
}

fn explicit_epoch(timestamps: Timestamps) -> Option<i64> {
    match timestamps {
        Timestamps::Epoch(seconds) => Some(seconds),
        Timestamps::Automatic | Timestamps::Real => None,
    }
}

fn write_options(request: &BuildRequest, timestamps: Timestamps, start: Timestamp) -> WriteOptions {
    WriteOptions {
        // Layers never hold a commit's time: they are shared by the builds of many commits, and what was found in the store
        // must not show in the image.
        epoch: Timestamp { seconds: explicit_epoch(timestamps).unwrap_or_default(), nanoseconds: 0 },
        clamp_after: start,
        timestamps_real: timestamps == Timestamps::Real,
        compression: request.compression,
    }
}

fn ignored_paths(request: &BuildRequest) -> Result<Vec<RootPath>, BuildError> {
    let path = |text: &String| RootPath::new(text).ok().filter(|path| !path.is_root());
    let paths =
        request.ignored_paths.iter().map(|text| path(text).ok_or_else(|| BuildError::IgnoredPath(text.clone())));
    let mut paths = paths.collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The clock's time.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() }
}

fn spools(store: &Store) -> Arc<dyn SpoolFactory> {
    let store = store.clone();
    Arc::new(FileSpools::new(Box::new(move || store.spool_file().map_err(io::Error::other))))
}

/// Proxy settings that were passed as build arguments: every command sees them, no image keeps them.
fn proxies(request: &BuildRequest) -> Vec<(String, String)> {
    let is_proxy = |name: &str| Scope::PROXIES.contains(&name);
    let pairs = request.build_arguments.iter().filter(|(name, _)| is_proxy(name));
    pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Layers of the image are pushed as soon as they are there, while later steps run.
fn early_push(publisher: Option<Arc<Publisher>>, stages: BTreeSet<StageNumber>) -> LayerListener {
    Box::new(move |stage, layer| {
        if let Some(publisher) = publisher.as_ref().filter(|_| stages.contains(&stage)) {
            publisher.push_layer(layer);
        }
    })
}
