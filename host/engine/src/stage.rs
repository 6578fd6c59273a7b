//! Running stages: each at most once, when something needs it, independent ones at the same time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use cofferdam_context::FetchError;
use cofferdam_digest::Digest;
use cofferdam_layer::Compression;
use cofferdam_plan::{Action, Base, DefinitionKey, InputTree, PlannedStage, StageNumber, key};
use cofferdam_rootfs::{Layer, LayerStack, RootPath, Tree};

use crate::{
    builder::Builder,
    error::{BuildError, StepError},
    events::{Ending, Kind},
    fetched::FetchedTree,
    hashed_tree::HashedTree,
    layers::{LayerFailure, StageLayer},
    packing,
    request::RunSurroundings,
    step, trees,
};

/// A finished stage.
pub struct StageResult {
    /// The base is first.
    pub layers: Vec<Arc<StageLayer>>,
    /// For each step of the stage, whether it made a layer.
    pub made_layer: Vec<bool>,
    /// How many of `layers` come from the base.
    pub base_layers: usize,
    /// The definition key of each step that works on the file system.
    pub keys: Vec<DefinitionKey>,
    /// The definition key of the last step.
    pub key: DefinitionKey,
}

impl StageResult {
    /// The finished file system, to be read.
    ///
    /// # Errors
    /// A layer can't be had.
    pub fn tree(&self) -> Result<Arc<dyn Tree>, LayerFailure> {
        stack(&self.layers)
    }
}

/// Layers as a tree.
pub fn stack(layers: &[Arc<StageLayer>]) -> Result<Arc<dyn Tree>, LayerFailure> {
    let layers = layers.iter().map(StageLayer::for_stack).collect::<Result<Vec<Layer>, _>>()?;
    Ok(Arc::new(LayerStack::new(layers)))
}

/// The digest of a state.
pub fn state(layers: &[Arc<StageLayer>]) -> Digest {
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.blob().diff_id).collect();
    key::state(diff_ids.into_iter())
}

type Outcome = Result<Arc<StageResult>, Arc<BuildError>>;

/// The stages of a plan, each with its result once somebody wanted it.
pub struct Stages<'b> {
    /// What they share.
    pub builder: &'b Builder,
    results: BTreeMap<StageNumber, OnceLock<Outcome>>,
    keys: BTreeMap<StageNumber, OnceLock<Option<DefinitionKey>>>,
    trees: BTreeMap<Option<String>, OnceLock<Arc<HashedTree>>>,
    fetched: Mutex<BTreeMap<InputTree, Arc<HashedTree>>>,
}

impl<'b> Stages<'b> {
    /// Nothing has run yet.
    pub fn new(builder: &'b Builder) -> Self {
        let numbers = || builder.plan.stages.keys().copied();
        let names = builder.directories.keys().cloned().map(Some).chain([None]);
        Self {
            builder,
            results: numbers().map(|number| (number, OnceLock::new())).collect(),
            keys: numbers().map(|number| (number, OnceLock::new())).collect(),
            trees: names.map(|name| (name, OnceLock::new())).collect(),
            fetched: Mutex::default(),
        }
    }

    /// The result of a stage; runs it if nobody did, waits if somebody is at it.
    ///
    /// # Errors
    /// The stage failed.
    pub fn result(&self, number: StageNumber) -> Result<Arc<StageResult>, BuildError> {
        let stage = self.stage(number)?;
        let run = || self.run(stage).map(Arc::new).map_err(|error| self.builder.fail(Arc::new(error)));
        let outcome = self.results[&number].get_or_init(run);
        outcome.clone().map_err(|source| BuildError::Stage { stage: stage.label(), source })
    }

    fn stage(&self, number: StageNumber) -> Result<&'b PlannedStage, BuildError> {
        self.builder.plan.stages.get(&number).ok_or_else(|| BuildError::NamedContext {
            name: number.to_string(),
            reason: "the plan has no such stage".to_owned(),
        })
    }

    fn run(&self, stage: &PlannedStage) -> Result<StageResult, BuildError> {
        std::thread::scope(|scope| {
            // What is certain to be needed starts now; this stage waits for each where it needs it.
            for needed in self.certainly_needed(stage) {
                scope.spawn(move || drop(self.result(needed)));
            }
            self.run_steps(stage)
        })
    }

    fn run_steps(&self, stage: &PlannedStage) -> Result<StageResult, BuildError> {
        let (mut layers, mut key) = self.base(stage)?;
        let base_layers = layers.len();
        let mut made_layer = Vec::with_capacity(stage.steps.len());
        let mut keys = Vec::new();
        let mut position = 1 + stage.earlier_actions;
        let last_command = stage.steps.iter().rposition(|step| step.needs_rootfs());
        for (number, planned) in stage.steps.iter().enumerate() {
            let Some(action) = &planned.action else {
                made_layer.push(false);
                continue;
            };
            if self.builder.stop.is_stopped() {
                return Err(BuildError::Stopped);
            }
            position += 1;
            let work = self.builder.talk.begin(Kind::Step, self.title(stage, position, &planned.title));
            let unpack = last_command.is_some_and(|last| number <= last);
            let compression = self.step_compression(stage.number);
            let is_of_the_image = !self.builder.single_layer && self.builder.image_stages.contains(&stage.number);
            let below = step::Below {
                layers: &layers,
                key,
                unpack,
                compression,
                is_of_the_image: is_of_the_image && compression != Compression::None,
            };
            let outcome = step::carry_out(self, planned, action, &below, &work);
            let outcome = outcome.and_then(|outcome| self.for_image(is_of_the_image, outcome));
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(source) => {
                    // What fails after a stop mostly fails because of it.
                    let stopped = self.builder.stop.is_stopped();
                    work.end(if stopped { Ending::Stopped } else { Ending::Failed(source.to_string()) });
                    return Err(self.failed(planned, source));
                }
            };
            work.end(if outcome.cached { Ending::Cached } else { Ending::Done });
            key = outcome.key;
            keys.push(key);
            made_layer.push(outcome.layer.is_some());
            if let Some(layer) = outcome.layer {
                if !self.builder.single_layer {
                    (self.builder.on_layer)(stage.number, &layer);
                }
                layers.push(layer);
            }
        }
        Ok(StageResult { layers, made_layer, base_layers, keys, key })
    }

    /// How the layers of a stage are first written: not compressed if no image has them, or not as they are.
    fn step_compression(&self, stage: StageNumber) -> Compression {
        match self.builder.single_layer {
            true => Compression::None,
            false => self.base_compression(stage),
        }
    }

    /// The same for the layer of a base that is a directory, which the image has in any case.
    fn base_compression(&self, stage: StageNumber) -> Compression {
        let is_default = self.builder.write.compression == Compression::default();
        match is_default && self.builder.image_stages.contains(&stage) {
            true => Compression::default(),
            false => Compression::None,
        }
    }

    /// A step's outcome with the layer as the image has it, if the image has it.
    fn for_image(&self, is_of_the_image: bool, outcome: step::Outcome) -> Result<step::Outcome, StepError> {
        match outcome.layer {
            Some(layer) if is_of_the_image => {
                Ok(step::Outcome { layer: Some(packing::for_image(self.builder, layer)?), ..outcome })
            }
            layer => Ok(step::Outcome { layer, ..outcome }),
        }
    }

    /// What progress calls a step: `[builder 2/4] RUN make`, without the stage's name where the plan has only one.
    fn title(&self, stage: &PlannedStage, position: usize, text: &str) -> String {
        let total = 1 + stage.all_actions;
        match self.builder.plan.stages.len() {
            1 => format!("[{position}/{total}] {text}"),
            _ => format!("[{} {position}/{total}] {text}", stage.label()),
        }
    }

    fn failed(&self, planned: &cofferdam_plan::PlannedStep, source: StepError) -> BuildError {
        BuildError::Step {
            title: planned.title.clone(),
            file: self.builder.dockerfile.name.clone(),
            text: self.builder.dockerfile.text.clone(),
            span: planned.span,
            source,
        }
    }

    fn base(&self, stage: &PlannedStage) -> Result<(Vec<Arc<StageLayer>>, DefinitionKey), BuildError> {
        match &stage.base {
            Base::Scratch => Ok((Vec::new(), self.rooted(DefinitionKey::scratch(&stage.platform)))),
            Base::Stage(number) => {
                let result = self.result(*number)?;
                Ok((result.layers.clone(), result.key))
            }
            Base::Image(name, digest) => {
                let image = self.builder.image(name)?;
                let title = self.title(stage, 1, &stage.title);
                let work = self.builder.talk.begin(Kind::Step, title);
                work.note(format!("{} {digest}", name.name));
                work.end(Ending::Done);
                let layers = match self.builder.image_stages.contains(&stage.number) {
                    true => image
                        .layers
                        .iter()
                        .map(|layer| packing::of_base(self.builder, layer))
                        .collect::<Result<_, _>>()?,
                    false => image.layers.clone(),
                };
                for layer in &layers {
                    (self.builder.on_layer)(stage.number, layer);
                }
                Ok((layers, self.rooted(DefinitionKey::image(digest))))
            }
            Base::Directory(name) => {
                let title = self.title(stage, 1, &stage.title);
                let work = self.builder.talk.begin(Kind::Step, title);
                let outcome = step::copy_directory(self, name, self.base_compression(stage.number), &work);
                let is_of_the_image = self.builder.image_stages.contains(&stage.number);
                let outcome = outcome.and_then(|outcome| self.for_image(is_of_the_image, outcome));
                let outcome = outcome
                    .map_err(|source| BuildError::NamedContext { name: name.clone(), reason: crate::chain(&source) })?;
                work.end(if outcome.cached { Ending::Cached } else { Ending::Done });
                if let Some(layer) = &outcome.layer {
                    (self.builder.on_layer)(stage.number, layer);
                }
                Ok((outcome.layer.into_iter().collect(), outcome.key))
            }
        }
    }

    /// An epoch that the user chose is in the layers, and what is to be ignored is not: both are in their keys.
    pub fn rooted(&self, key: DefinitionKey) -> DefinitionKey {
        let mut key = key.0;
        if let Some(epoch) = &self.builder.epoch_key {
            let mut hasher = key::KeyHasher::new("epoch");
            hasher.digest(&key).part(epoch);
            key = hasher.finish();
        }
        if !self.builder.ignored.is_empty() {
            let mut hasher = key::KeyHasher::new("ignored-paths");
            hasher.digest(&key).list(self.builder.ignored.iter().map(RootPath::as_bytes));
            key = hasher.finish();
        }
        let surroundings = &self.builder.surroundings;
        if *surroundings != RunSurroundings::default() {
            let mut hasher = key::KeyHasher::new("run-surroundings");
            let hosts = surroundings.hosts.iter().map(|(name, address)| format!("{name}={address}"));
            hasher.digest(&key).part([u8::from(surroundings.without_network)]).list(hosts);
            key = hasher.finish();
        }
        DefinitionKey(key)
    }

    /// A directory of this machine, hashed while it is read; `None` is the context.
    pub fn directory(&self, name: Option<&str>) -> Arc<HashedTree> {
        let inner = match name.and_then(|name| self.builder.directories.get(name)) {
            Some(directory) => directory,
            None => &self.builder.context,
        };
        let time = (!self.builder.write.timestamps_real).then_some(self.builder.write.epoch);
        let make = || {
            let tree = HashedTree::new(inner.clone(), self.builder.stop.clone()).timed(time);
            Arc::new(match self.builder.fetched_trees.contains(&name.map(str::to_owned)) {
                // Its files are there for this build alone, so nothing that is known of them is of use later.
                true => tree.ours(),
                false => tree.keeping(self.builder.file_hashes.clone()),
            })
        };
        match self.trees.get(&name.map(str::to_owned)) {
            Some(cell) => cell.get_or_init(make).clone(),
            None => make(),
        }
    }

    /// The tree behind an input, hashed while it is read.
    ///
    /// # Errors
    /// The stage or image can't be had.
    pub fn tree(&self, tree: &InputTree) -> Result<Arc<HashedTree>, BuildError> {
        match tree {
            InputTree::Context => Ok(self.directory(None)),
            InputTree::Directory(name) => Ok(self.directory(Some(name))),
            InputTree::Stage(number) => Ok(self.hashed(self.result(*number)?.tree()?)),
            InputTree::Image(name, _) => Ok(self.hashed(stack(&self.builder.image(name)?.layers)?)),
            InputTree::Url(url) => self.fetched(tree, || self.builder.fetched.url(url)),
            InputTree::Git(url) => self.fetched(tree, || self.builder.fetched.git(url)),
        }
    }

    /// A fetched tree, one for all steps that read it: its files are hashed once.
    fn fetched(
        &self,
        tree: &InputTree,
        fetch: impl FnOnce() -> Result<Arc<FetchedTree>, Arc<FetchError>>,
    ) -> Result<Arc<HashedTree>, BuildError> {
        let fetched = fetch()?;
        let mut trees = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let hashed = HashedTree::new(fetched.tree.clone(), self.builder.stop.clone());
            // Of a repository's files nobody knows a time but that of the checkout; a server says when its file changed.
            let is_checkout = fetched.revision.is_some() && !self.builder.write.timestamps_real;
            let hashed = hashed.timed(is_checkout.then_some(self.builder.write.epoch));
            Arc::new(hashed.fetched(fetched.version.clone(), fetched.revision.clone()))
        };
        Ok(trees.entry(tree.clone()).or_insert_with(make).clone())
    }

    /// The layers behind an input, if it has any.
    pub fn layers(&self, tree: &InputTree) -> Option<Vec<Arc<StageLayer>>> {
        match tree {
            InputTree::Context | InputTree::Directory(_) | InputTree::Url(_) | InputTree::Git(_) => None,
            InputTree::Stage(number) => self.result(*number).ok().map(|result| result.layers.clone()),
            InputTree::Image(name, _) => self.builder.image(name).ok().map(|image| image.layers.clone()),
        }
    }

    fn hashed(&self, tree: Arc<dyn Tree>) -> Arc<HashedTree> {
        Arc::new(HashedTree::new(tree, self.builder.stop.clone()))
    }

    /// The definition keys of an action's inputs, where they are known without running or hashing anything that no earlier
    /// build has seen.
    pub fn input_keys(&self, action: &Action, parent: &DefinitionKey) -> Option<Vec<Digest>> {
        let hash_directories = self.builder.reads_unsighted_cache() || self.sighted(&action.recipe, &parent.0);
        let key = |input: &cofferdam_plan::Input| match &input.tree {
            InputTree::Stage(number) => self.key(*number).map(|key| key.0),
            InputTree::Image(_, digest) => Some(DefinitionKey::image(digest).0),
            InputTree::Context if hash_directories => self.directory_hash(None, input),
            InputTree::Directory(name) if hash_directories => self.directory_hash(Some(name), input),
            // Whether it changed is asked of its server, which is cheaper than to fetch it.
            InputTree::Url(_) | InputTree::Git(_) if hash_directories => {
                let tree = self.tree(&input.tree).ok()?;
                trees::first_hash(&tree, &input.read).ok().map(|hash| hash.digest)
            }
            InputTree::Context | InputTree::Directory(_) | InputTree::Url(_) | InputTree::Git(_) => None,
        };
        action.inputs.iter().map(key).collect()
    }

    fn directory_hash(&self, name: Option<&str>, input: &cofferdam_plan::Input) -> Option<Digest> {
        let hash = trees::first_hash(&self.directory(name), &input.read).ok()?;
        Some(hash.digest)
    }

    /// Whether any earlier build carried out this recipe on this state. If none did, there is nothing to find, and
    /// sources need not be hashed before they are copied.
    pub fn sighted(&self, recipe: &Digest, parent: &Digest) -> bool {
        self.builder.lookup(&key::sighting(recipe, parent)).is_some()
    }

    /// The definition key of a stage's last step, without running the stage; `None` where it depends on sources that no
    /// earlier build has seen.
    fn key(&self, number: StageNumber) -> Option<DefinitionKey> {
        if let Some(Ok(result)) = self.results.get(&number).and_then(OnceLock::get) {
            return Some(result.key);
        }
        *self.keys.get(&number)?.get_or_init(|| {
            let stage = self.builder.plan.stages.get(&number)?;
            let mut key = match &stage.base {
                Base::Scratch => self.rooted(DefinitionKey::scratch(&stage.platform)),
                Base::Image(_, digest) => self.rooted(DefinitionKey::image(digest)),
                Base::Stage(number) => self.key(*number)?,
                Base::Directory(name) => step::directory_key(self, name)?,
            };
            for action in stage.steps.iter().filter_map(|step| step.action.as_ref()) {
                key = key.after(action, &self.input_keys(action, &key)?);
            }
            Some(key)
        })
    }

    /// The stages from which this one copies in steps that the cache does not have, and the one it is based on.
    fn certainly_needed(&self, stage: &PlannedStage) -> Vec<StageNumber> {
        let mut needed: Vec<StageNumber> = Vec::new();
        let mut key = match &stage.base {
            Base::Scratch => Some(self.rooted(DefinitionKey::scratch(&stage.platform))),
            Base::Image(_, digest) => Some(self.rooted(DefinitionKey::image(digest))),
            Base::Stage(number) => {
                needed.push(*number);
                self.key(*number)
            }
            Base::Directory(name) => step::directory_key(self, name),
        };
        for action in stage.steps.iter().filter_map(|step| step.action.as_ref()) {
            key = key.and_then(|key| Some(key.after(action, &self.input_keys(action, &key)?)));
            let hit = key.is_some_and(|key| self.builder.lookup(&key.0).is_some());
            if !hit {
                needed.extend(action.inputs.iter().filter_map(|input| match input.tree {
                    InputTree::Stage(number) => Some(number),
                    _ => None,
                }));
            }
        }
        needed.sort_unstable();
        needed.dedup();
        needed
    }
}
