//! One step: found in the cache, or carried out by its handler and written as a layer in one pass.

use std::sync::{Arc, Mutex, PoisonError};

use cofferdam_cache::CacheEntry;
use cofferdam_digest::Digest;
use cofferdam_image::LayerBlob;
use cofferdam_layer::{Compression, EarlierBlocks, WriteOptions, archive_size_bytes, write_layer_again};
use cofferdam_plan::{
    Action, DefinitionKey, Input, InputTree, PlannedStep, key,
    step::{TreeRead, TreeSource},
};
use cofferdam_plugin_host::{ApplyError, ApplyHandles, CallError, Exit as CommandExit, RunCommand};
use cofferdam_rootfs::{ChangeSet, CopyOptions, LayerIndex, RootFs, RootPath, Tree};

use crate::{
    command::{self, SharedCommands, StepCommands},
    earlier_blocks,
    error::{BuildError, StepError},
    events::{Event, Stream},
    hashed_tree::HashedTree,
    ignored,
    layers::StageLayer,
    mounts::{MountSources, MountTree},
    packing,
    stage::{Stages, state},
    trees::{self, TreeHash},
    work::{Meter, Work},
};

/// What a step stands on.
pub struct Below<'s> {
    /// The base is first.
    pub layers: &'s [Arc<StageLayer>],
    /// The definition key of the step before.
    pub key: DefinitionKey,
    /// Whether this step or a later one of the stage runs commands: then the layers are unpacked in the pass that makes
    /// their indexes.
    pub unpack: bool,
    /// How the step's layer is to be compressed.
    pub compression: Compression,
    /// Whether the image has the step's layer as it is made here.
    pub is_of_the_image: bool,
}

/// What became of a step.
pub struct Outcome {
    /// Its layer, if it changed anything.
    pub layer: Option<Arc<StageLayer>>,
    /// Its definition key.
    pub key: DefinitionKey,
    /// Whether the cache had it.
    pub cached: bool,
}

/// Carries out one action.
///
/// # Errors
/// The handler failed or refused, or what it needs can't be had.
pub fn carry_out(
    stages: &Stages<'_>,
    planned: &PlannedStep,
    action: &Action,
    below: &Below<'_>,
    work: &Work,
) -> Result<Outcome, StepError> {
    let builder = stages.builder;
    let known = stages.input_keys(action, &below.key);
    if let Some(inputs) = &known {
        let key = below.key.after(action, inputs);
        if let Some(entry) = packing::lookup(builder, &key.0, below.compression) {
            return Ok(found_again(stages, action, entry, key, &[below.key.0], below, work));
        }
    }
    let mut inputs = Vec::with_capacity(action.inputs.len());
    for input in &action.inputs {
        inputs.push(stages.tree(&input.tree).map_err(|error| match error {
            BuildError::Fetch(error) => StepError::Fetch(error),
            error => StepError::Input(Box::new(error)),
        })?);
    }
    let before = stages.rooted(DefinitionKey(state(below.layers))).0;
    let reads = || action.inputs.iter().zip(&inputs);
    // The same step on the same state, reached another way: another Dockerfile, a rebuilt stage with the same result.
    if stages.sighted(&action.recipe, &before) {
        let found = reads().map(|(input, tree)| match whole_hash(stages, input) {
            Some(hash) => Ok(hash),
            None => trees::first_hash(tree, &input.read),
        });
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let hashes = digests(&found);
        let content = key::content(&action.recipe, &before, &hashes);
        if let Some(entry) = packing::lookup(builder, &content, below.compression) {
            let key = definition(stages, action, below, known.as_deref(), &hashes);
            if is_steady(stages, &found) {
                builder.remember(&[key.0], &entry);
            }
            return Ok(found_again(stages, action, entry, key, &[below.key.0, before], below, work));
        }
    }
    let rootfs = standing_on(stages, below, work)?;
    work.carry_out();
    let (layer, warnings) = apply(stages, action, below, &inputs, rootfs, work)?;
    let found = reads().map(|(input, tree)| match whole_hash(stages, input) {
        Some(hash) => Ok(hash),
        None => trees::hash(tree, &input.read),
    });
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let hashes = digests(&found);
    if !is_steady(stages, &found) || known.as_ref().is_some_and(|known| differ(action, known, &hashes)) {
        let text = "warning: the context changed during the build: this step is not kept for later builds";
        work.note(text.to_owned());
        return Ok(Outcome { key: unrepeatable(&before, &layer), layer: Some(layer), cached: false });
    }
    let key = definition(stages, action, below, known.as_deref(), &hashes);
    let content = key::content(&action.recipe, &before, &hashes);
    let created_by = planned.created_by.clone().unwrap_or_default();
    let entry = CacheEntry { layer: Some((*layer.blob()).into()), created_by, warnings };
    let sighted_on = [below.key.0, before];
    remember(stages, entry, &layer, &[key.0, content], &action.recipe, &sighted_on, below.is_of_the_image);
    Ok(Outcome { layer: Some(layer), key, cached: false })
}

/// The hash of the whole of a stage or an image, which its DiffIDs are: no file has to be read for it.
fn whole_hash(stages: &Stages<'_>, input: &Input) -> Option<TreeHash> {
    if !input.read.is_whole() {
        return None;
    }
    let layers = stages.layers(&input.tree)?;
    let mut hasher = key::KeyHasher::new("whole");
    hasher.digest(&state(&layers));
    Some(TreeHash { digest: hasher.finish(), changed_ns: None })
}

fn digests(hashes: &[TreeHash]) -> Vec<Digest> {
    hashes.iter().map(|hash| hash.digest).collect()
}

/// Whether the directories that were read are what they were when the build began.
fn is_steady(stages: &Stages<'_>, found: &[TreeHash]) -> bool {
    found.iter().all(|hash| hash.is_steady_since(stages.builder.start_ns()))
}

/// Whether a directory's hash is another one than before the step.
fn differ(action: &Action, known: &[Digest], hashes: &[Digest]) -> bool {
    let pairs = known.iter().zip(hashes);
    action.inputs.iter().zip(pairs).any(|(input, (known, hash))| {
        matches!(input.tree, InputTree::Context | InputTree::Directory(_)) && known != hash
    })
}

/// The key of a result that nothing leads to again: the steps above it must not be found under the key of another state.
fn unrepeatable(before: &Digest, layer: &StageLayer) -> DefinitionKey {
    let mut hasher = key::KeyHasher::new("unrepeatable");
    hasher.digest(before).digest(&layer.blob().diff_id);
    DefinitionKey(hasher.finish())
}

/// The definition key, now that the hashes of directories are known.
fn definition(
    stages: &Stages<'_>,
    action: &Action,
    below: &Below<'_>,
    known: Option<&[Digest]>,
    hashes: &[Digest],
) -> DefinitionKey {
    if let Some(known) = known {
        return below.key.after(action, known);
    }
    let inputs: Vec<Digest> = (action.inputs.iter().zip(hashes))
        .map(|(input, hash)| match &input.tree {
            InputTree::Context | InputTree::Directory(_) | InputTree::Url(_) | InputTree::Git(_) => *hash,
            InputTree::Image(_, digest) => DefinitionKey::image(digest).0,
            // The stage has run, so its key is known.
            InputTree::Stage(number) => stages.result(*number).map_or(*hash, |result| result.key.0),
        })
        .collect();
    below.key.after(action, &inputs)
}

fn remember(
    stages: &Stages<'_>,
    entry: CacheEntry,
    layer: &Arc<StageLayer>,
    keys: &[Digest],
    recipe: &Digest,
    sighted_on: &[Digest],
    is_of_the_image: bool,
) {
    stages.builder.remember(keys, &entry);
    stages.builder.remote_cache.note(keys, &entry, Some(layer), is_of_the_image);
    stages.builder.remember(&note_sightings(stages, recipe, sighted_on), &sighting());
}

/// Tells the caches of others that a recipe was carried out on states, and answers the keys of that.
fn note_sightings(stages: &Stages<'_>, recipe: &Digest, sighted_on: &[Digest]) -> Vec<Digest> {
    let keys: Vec<Digest> = sighted_on.iter().map(|parent| key::sighting(recipe, parent)).collect();
    stages.builder.remote_cache.note(&keys, &sighting(), None, false);
    keys
}

fn sighting() -> CacheEntry {
    CacheEntry { layer: None, created_by: String::new(), warnings: Vec::new() }
}

/// A step that a cache has: the caches of others learn of it too.
fn found_again(
    stages: &Stages<'_>,
    action: &Action,
    entry: CacheEntry,
    key: DefinitionKey,
    sighted_on: &[Digest],
    below: &Below<'_>,
    work: &Work,
) -> Outcome {
    entry.warnings.iter().for_each(|warning| work.note(warning.clone()));
    let outcome = cached(stages, entry.clone(), key, work);
    stages.builder.remote_cache.note(&[key.0], &entry, outcome.layer.as_ref(), below.is_of_the_image);
    note_sightings(stages, &action.recipe, sighted_on);
    outcome
}

fn cached(stages: &Stages<'_>, entry: CacheEntry, key: DefinitionKey, work: &Work) -> Outcome {
    if let Some(layer) = &entry.layer {
        work.event(|vertex| Event::Layer { vertex, digest: layer.digest, size_bytes: layer.size });
    }
    let layer = entry.layer.map(|layer| stages.builder.layer(layer.into()));
    Outcome { layer, key, cached: true }
}

/// The file system that a step begins with. What of the layers below is missing is fetched, and unpacked where commands
/// are to run on it: in one pass, before the step's own time counts.
fn standing_on(stages: &Stages<'_>, below: &Below<'_>, work: &Work) -> Result<RootFs, StepError> {
    let builder = stages.builder;
    if below.unpack && builder.executor.is_some() {
        command::unpack(below.layers, &builder.talk, work.vertex)?;
    }
    root(stages, below.layers)
}

/// Calls the handler with what it declared and was granted, and writes what it changed. The answer has its warnings, which
/// were told.
fn apply(
    stages: &Stages<'_>,
    action: &Action,
    below: &Below<'_>,
    inputs: &[Arc<HashedTree>],
    rootfs: RootFs,
    work: &Work,
) -> Result<(Arc<StageLayer>, Vec<String>), StepError> {
    let builder = stages.builder;
    let rootfs = Arc::new(Mutex::new(rootfs));
    let trees = inputs.iter().map(|tree| {
        let tree: Arc<dyn Tree> = tree.clone();
        tree
    });
    let commands = builder.executor.as_ref().map(|executor| {
        SharedCommands(Arc::new(Mutex::new(StepCommands {
            executor: executor.clone(),
            store: builder.files.store.clone(),
            form: builder.files.form,
            rootfs: rootfs.clone(),
            layers: below.layers.to_vec(),
            talk: builder.talk.clone(),
            vertex: work.vertex,
            proxies: builder.proxies.clone(),
            surroundings: builder.surroundings.clone(),
            emulators: builder.emulators.clone(),
            mounts: mount_sources(stages, action, inputs),
            cancel: builder.stop.cancel(),
            mounted: None,
            flat: None,
            failure: None,
            last: None,
        })))
    });
    let handles = ApplyHandles {
        rootfs: rootfs.clone(),
        trees: trees.collect(),
        executor: commands.clone().map(|commands| Box::new(commands) as Box<dyn RunCommand>),
        interrupt: None,
    };
    let applied = builder.plugins.apply(&action.step, &action.planned, handles);
    let mut commands = commands.as_ref().map(|commands| commands.0.lock().unwrap_or_else(PoisonError::into_inner));
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) => {
            if let Some(failure) = commands.as_mut().and_then(|commands| commands.failure.take()) {
                return Err(failure);
            }
            let last = commands.as_ref().and_then(|commands| commands.last.clone());
            return Err(step_error(error, last, builder.files.store.is_full()));
        }
    };
    let told =
        applied.diagnostics.into_iter().map(|warning| format!("warning: {} ({})", warning.message, warning.code));
    let warnings: Vec<String> = told.collect();
    warnings.iter().for_each(|warning| work.note(warning.clone()));
    if !applied.output.is_empty() {
        work.output(Stream::Stderr, applied.output.into_bytes());
    }
    let mut changes = match &commands {
        Some(commands) => commands.changes()?,
        None => rootfs.lock().unwrap_or_else(PoisonError::into_inner).take_changes(),
    };
    let is_less = ignored::take_out(&mut changes, &builder.ignored);
    let (layer, index) = write(stages, &changes, &action.recipe, below.compression, work)?;
    drop(changes);
    // A directory with more in it than the layer has is not the layer's.
    if let Some(commands) = commands.as_mut().filter(|_| !is_less) {
        commands.hand_over(&layer, &index)?;
    }
    Ok((layer, warnings))
}

/// What the mounts of a step's commands may show.
fn mount_sources(stages: &Stages<'_>, action: &Action, inputs: &[Arc<HashedTree>]) -> MountSources {
    let builder = stages.builder;
    let trees = action.inputs.iter().zip(inputs).map(|(input, tree)| MountTree {
        tree: tree.clone(),
        layers: stages.layers(&input.tree),
        read: input.read.clone(),
    });
    MountSources {
        trees: trees.collect(),
        files: builder.files.clone(),
        spools: builder.spools.clone(),
        start: builder.start,
        handouts: builder.handouts.clone(),
        stop: builder.stop.clone(),
        owners_are_real: builder.executor.as_ref().is_none_or(|executor| executor.ids() != cofferdam_exec::Ids::Single),
    }
}

fn root(stages: &Stages<'_>, layers: &[Arc<StageLayer>]) -> Result<RootFs, StepError> {
    let builder = stages.builder;
    let stacked = layers.iter().map(StageLayer::for_stack).collect::<Result<Vec<_>, _>>()?;
    Ok(RootFs::new(stacked, builder.spools.clone(), builder.start))
}

/// A layer and its index.
type Written = (Arc<StageLayer>, Arc<LayerIndex>);

/// A layer that is made of others, in the form that the image has.
///
/// # Errors
/// The changes can't be had, or the layer can't be written.
pub fn derived_layer(
    stages: &Stages<'_>,
    recipe: &Digest,
    changes: impl FnOnce() -> Result<ChangeSet, StepError>,
    work: &Work,
) -> Result<Arc<StageLayer>, StepError> {
    let builder = stages.builder;
    if let Some(entry) = packing::lookup(builder, recipe, Compression::default())
        && let Some(layer) = cached(stages, entry, DefinitionKey(*recipe), work).layer
    {
        return Ok(packing::for_image(builder, layer)?);
    }
    let (layer, _) = write(stages, &changes()?, recipe, Compression::default(), work)?;
    let entry = CacheEntry { layer: Some((*layer.blob()).into()), created_by: String::new(), warnings: Vec::new() };
    builder.remember(&[*recipe], &entry);
    Ok(packing::for_image(builder, layer)?)
}

/// Changes become a blob of the store: one pass over the bytes. No change is a layer too: history and layers of an image are
/// those that BuildKit makes, where every step that works on the file system has one.
fn write(
    stages: &Stages<'_>,
    changes: &ChangeSet,
    recipe: &Digest,
    compression: Compression,
    work: &Work,
) -> Result<Written, StepError> {
    let builder = stages.builder;
    let store = &builder.files.store;
    let (meter, total_bytes) = (Meter::new(), archive_size_bytes(changes));
    let mut watch = |done_bytes: u64| {
        if meter.is_due() {
            work.event(|vertex| Event::Writing { vertex, done_bytes, total_bytes: total_bytes.max(done_bytes) });
        }
    };
    let earlier = if builder.use_cache { earlier_blocks::find(store, recipe) } else { EarlierBlocks::default() };
    let options = WriteOptions { compression, ..builder.write };
    let written = write_layer_again(changes, &options, earlier, store.raw_blob_writer()?, &mut watch);
    let (written, blocks, out) = written.map_err(StepError::Write)?;
    out.commit(written.digest)?;
    earlier_blocks::keep(store, recipe, written.digest, &blocks);
    let compression = packing::image_compression(written.compression);
    let blob = LayerBlob { diff_id: written.diff_id, digest: written.digest, size: written.size_bytes, compression };
    store.put_layer_index(&blob.diff_id, &written.index)?;
    store.put_layer_blob(&blob)?;
    work.event(|vertex| Event::Layer { vertex, digest: blob.digest, size_bytes: blob.size });
    let index = Arc::new(written.index);
    let layer = StageLayer::written(blob, index.clone(), builder.files.clone());
    Ok((Arc::new(layer), index))
}

fn step_error(
    error: ApplyError,
    last: Option<(cofferdam_exec::Exit, Vec<cofferdam_exec::Note>)>,
    disk_is_full: bool,
) -> StepError {
    match error {
        ApplyError::CommandFailed(exit) => {
            let notes = last.map(|(_, notes)| notes).unwrap_or_default();
            let exit = match exit {
                CommandExit::Code(code) => cofferdam_exec::Exit::Code(code),
                CommandExit::Signal(signal) => cofferdam_exec::Exit::Signal(signal),
            };
            StepError::Command { exit, notes, disk_is_full }
        }
        ApplyError::Invalid(finding) | ApplyError::Unsupported(finding) => StepError::Finding(finding),
        ApplyError::Denied { plugin, capability, message } => StepError::Denied { plugin, capability, message },
        ApplyError::Call(CallError::Storage(error)) => StepError::Rootfs(error),
        other => StepError::Plugin(crate::chain(&other)),
    }
}

/// The recipe of a stage that starts from a directory.
fn directory_recipe() -> Digest {
    let mut hasher = key::KeyHasher::new("from-directory");
    hasher.part("1");
    hasher.finish()
}

fn whole() -> TreeRead {
    TreeRead { source: TreeSource::Context, patterns: vec![b"/".to_vec()], exclude: Vec::new() }
}

/// The definition key of a directory as a base, if an earlier build has seen one like it.
pub fn directory_key(stages: &Stages<'_>, name: &str) -> Option<DefinitionKey> {
    let empty = state(&[]);
    if !stages.sighted(&directory_recipe(), &empty) {
        return None;
    }
    let hash = trees::first_hash(&stages.directory(Some(name)), &whole()).ok()?;
    Some(stages.rooted(DefinitionKey::directory(&hash.digest)))
}

/// A directory becomes the one layer of a base, owned by root whoever owns the files here.
///
/// # Errors
/// The directory can't be read, or the layer can't be written.
pub fn copy_directory(
    stages: &Stages<'_>,
    name: &str,
    compression: Compression,
    work: &Work,
) -> Result<Outcome, StepError> {
    if let Some(key) = directory_key(stages, name)
        && let Some(entry) = packing::lookup(stages.builder, &key.0, compression)
    {
        return Ok(cached(stages, entry, key, work));
    }
    work.carry_out();
    let tree = stages.directory(Some(name));
    let from: Arc<dyn Tree> = tree.clone();
    let mut rootfs = root(stages, &[])?;
    rootfs.copy_tree(&from, &RootPath::root(), &RootPath::root(), &CopyOptions::default())?;
    let (layer, _) = write(stages, &rootfs.take_changes(), &directory_recipe(), compression, work)?;
    let hash = trees::hash(&tree, &whole())?;
    if !hash.is_steady_since(stages.builder.start_ns()) {
        work.note("warning: the directory changed during the build: this step is not kept for later builds".to_owned());
        return Ok(Outcome { key: unrepeatable(&hash.digest, &layer), layer: Some(layer), cached: false });
    }
    let key = stages.rooted(DefinitionKey::directory(&hash.digest));
    let created_by = "FROM directory".to_owned();
    let entry = CacheEntry { layer: Some((*layer.blob()).into()), created_by, warnings: Vec::new() };
    remember(stages, entry, &layer, &[key.0], &directory_recipe(), &[state(&[])], false);
    Ok(Outcome { layer: Some(layer), key, cached: false })
}
