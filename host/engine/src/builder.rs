//! What all stages of a build share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_cache::{CacheEntry, LayerCache, Lookup};
use cofferdam_digest::Digest;
use cofferdam_exec::{Emulator, Executor};
use cofferdam_image::LayerBlob;
use cofferdam_layer::WriteOptions;
use cofferdam_plan::{ImageName, Plan, StageNumber};
use cofferdam_plugin_host::PluginHost;
use cofferdam_rootfs::{RootPath, SpoolFactory, Timestamp, Tree};

use crate::{
    caches::RemoteCache,
    error::BuildError,
    fetched::Fetched,
    file_hashes::FileHashes,
    images::Image,
    layers::{LayerFiles, StageLayer},
    mounts::Handouts,
    request::RunSurroundings,
    stop::Stop,
    work::Talk,
};

/// Told of each layer of a stage as soon as it is there.
pub type LayerListener = Box<dyn Fn(StageNumber, &Arc<StageLayer>) + Send + Sync>;

/// A Dockerfile as errors show it.
pub struct DockerfileText {
    /// Its name, for people.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What all stages of a build share.
pub struct Builder {
    /// What is to be done.
    pub plan: Plan,
    /// For errors.
    pub dockerfile: DockerfileText,
    /// Handlers.
    pub plugins: Arc<PluginHost>,
    /// Store and form of unpacking.
    pub files: Arc<LayerFiles>,
    /// Results of earlier builds.
    pub cache: Arc<dyn LayerCache>,
    /// Results of builds elsewhere.
    pub remote_cache: RemoteCache,
    /// Whether results are used.
    pub use_cache: bool,
    /// How RUN is carried out; `None` if no step needs it.
    pub executor: Option<Arc<dyn Executor>>,
    /// What runs programs for other processors, if any has to.
    pub emulators: Vec<Emulator>,
    /// The build context.
    pub context: Arc<dyn Tree>,
    /// `--build-context` with directories.
    pub directories: BTreeMap<String, Arc<dyn Tree>>,
    /// Which of these and the context were fetched (`None` is the context): nobody changes them meanwhile.
    pub fetched_trees: BTreeSet<Option<String>>,
    /// What steps name beside them.
    pub fetched: Fetched,
    /// The images that the plan names.
    pub images: BTreeMap<ImageName, Arc<Image>>,
    /// The stages whose layers the image has.
    pub image_stages: BTreeSet<StageNumber>,
    /// How layers of the image are written.
    pub write: WriteOptions,
    /// Whether layers of bases are compressed as those of the build.
    pub force_compression: bool,
    /// Whether the image has one layer of all that the build adds to its base.
    pub single_layer: bool,
    /// `--ignore-path`.
    pub ignored: Vec<RootPath>,
    /// An explicit epoch changes layers, and so do the clock's times: they are part of the keys.
    pub epoch_key: Option<String>,
    /// Digests of unchanged files of the context.
    pub file_hashes: Arc<FileHashes>,
    /// The start of the build.
    pub start: Timestamp,
    /// What commands see beside the image: part of the keys, as it may show in what they make.
    pub surroundings: RunSurroundings,
    /// For contents that plugins write.
    pub spools: Arc<dyn SpoolFactory>,
    /// Who watches.
    pub talk: Talk,
    /// What commands may be handed beside trees.
    pub handouts: Arc<Handouts>,
    /// Variables that every command sees and no image keeps.
    pub proxies: Vec<(String, String)>,
    /// Ends the build from outside, and its commands when one of them fails.
    pub stop: Stop,
    /// Told of each layer of the image as soon as it is there.
    pub on_layer: LayerListener,
    /// Problems of the cache are told once.
    pub told: Mutex<bool>,
    /// The first stage's failure: the others fail because of it, or are stopped.
    pub first_failure: Mutex<Option<Arc<BuildError>>>,
}

impl Builder {
    /// The start of the build, in nanoseconds since 1970.
    pub fn start_ns(&self) -> i128 {
        nanoseconds(self.start)
    }

    /// The result of a step, if the cache has it.
    pub fn lookup(&self, key: &Digest) -> Option<CacheEntry> {
        if !self.use_cache {
            return None;
        }
        match self.cache.lookup(key) {
            Lookup::Hit(entry) => Some(entry),
            Lookup::Miss => self.remote_cache.find(key),
            Lookup::Unusable(error) => {
                self.tell_once(format!("an entry of the layer cache is not used: {error}"));
                self.remote_cache.find(key)
            }
        }
    }

    /// Whether a step may be found of which there is no sighting.
    pub fn reads_unsighted_cache(&self) -> bool {
        self.use_cache && self.remote_cache.are_unsighted()
    }

    /// A layer that a cache has named.
    pub fn layer(&self, blob: LayerBlob) -> Arc<StageLayer> {
        let is_here = self.files.store.has_blob(&blob.digest, Some(blob.size));
        Arc::new(match self.remote_cache.origin_of(&blob.digest).filter(|_| !is_here) {
            // What is below does not matter: a layer of ours describes every directory that it has.
            Some(origin) => StageLayer::remote(blob, origin, self.files.clone(), Vec::new()),
            None => StageLayer::stored(blob, self.files.clone()),
        })
    }

    /// Keeps the result of a step. A cache that fails never fails the build.
    pub fn remember(&self, keys: &[Digest], entry: &CacheEntry) {
        if let Err(error) = self.cache.store(keys, entry) {
            self.tell_once(format!("the layer cache can't be written: {error}"));
        }
    }

    /// Notes why the build fails, and stops what runs beside.
    pub fn fail(&self, error: Arc<BuildError>) -> Arc<BuildError> {
        let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() && !matches!(*error, BuildError::Stage { .. }) {
            *first = Some(error.clone());
            self.stop.stop();
        }
        error
    }

    /// Warns, of the first problem only.
    pub fn tell_once(&self, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut told, true) {
            self.talk.warn(text);
        }
    }

    /// The image of a name, which was found before the plan was complete.
    pub fn image(&self, name: &ImageName) -> Result<Arc<Image>, BuildError> {
        self.images.get(name).cloned().ok_or_else(|| BuildError::NamedContext {
            name: name.name.clone(),
            reason: "it was not found while planning".to_owned(),
        })
    }
}

/// A moment in nanoseconds since 1970.
pub fn nanoseconds(at: Timestamp) -> i128 {
    i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanoseconds)
}
