//! Layer caches elsewhere: what builds made on other machines.
//!
//! A cache is one document, under one tag of a registry or of an OCI layout, or one key of a
//! bucket, with the layers that it names; or it is part of an image.
//! It is read once at the start, and written once at the end; layers go there while the build runs. Nothing of it can fail a
//! build: what can't be read or written is told. [`CachePlace`] is what a kind of place must be able to do.

mod bucket;
mod inline;
mod layout;
mod place;
mod registry;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_cache::{CacheDocument, CacheEntry, CachedLayer};
use cofferdam_digest::Digest;
use cofferdam_image::{Compression, LayerBlob};
use cofferdam_registry::Repository;
use tokio::task::JoinHandle;

use crate::{
    download::Download,
    events::{Ending, Kind},
    layers::{BlobOrigin, LayerFailure, StageLayer},
    packing,
    request::{CacheMode, RemoteCaches},
};

pub use inline::of_image as inline_cache;
pub use place::{CachePlace, Means};

/// A record that is used again is written anew when it is older, so that it does not run out: a day.
const REFRESH_SECONDS: i64 = 24 * 60 * 60;

/// The caches of a build.
pub struct RemoteCache {
    means: Means,
    sources: Vec<Source>,
    targets: Vec<Target>,
    notes: Mutex<Notes>,
    /// Records that were not used since are not used any more, in seconds since 1970.
    not_before: i64,
    now: i64,
}

/// A cache that is read.
struct Source {
    name: String,
    shelf: String,
    document: CacheDocument,
    is_inline: bool,
    layers: BTreeSet<Digest>,
    origin: Arc<CacheOrigin>,
}

/// A cache that is written.
struct Target {
    place: Arc<dyn CachePlace>,
    mode: CacheMode,
    /// Layers on their way.
    sending: Mutex<BTreeMap<Digest, Sending>>,
}

type Sending = JoinHandle<Result<(), String>>;

/// What this build made or used.
#[derive(Default)]
struct Notes {
    document: CacheDocument,
    layers: BTreeMap<Digest, Arc<StageLayer>>,
}

impl RemoteCache {
    /// Reads the caches that the request names. One that can't be read is told of, and is as good as none; one that is not
    /// there yet is not worth a word. `now` is in seconds since 1970.
    pub fn open(request: &RemoteCaches, means: Means, now: i64) -> Self {
        // In whole seconds: what is as old as the limit is too old, so that nothing is fresh for a limit of zero.
        let not_before =
            request.ttl.map_or(i64::MIN, |ttl| now.saturating_sub(ttl.as_secs().cast_signed()).saturating_add(1));
        let mut sources = Vec::new();
        for location in &request.from {
            let place = means.place(location);
            match Source::read(&*place, &means, now) {
                Ok(source) => sources.extend(source),
                Err(why) => means.talk.warn(format!("the layer cache `{}` is not used: {why}", place.name())),
            }
        }
        let target =
            |(location, mode): &_| Target { place: means.place(location), mode: *mode, sending: Mutex::default() };
        let targets = request.to.iter().map(target).collect();
        Self { means, sources, targets, notes: Mutex::default(), not_before, now }
    }

    /// Whether a cache is read that does not say which steps it has: then all sources are hashed before they are copied.
    pub fn are_unsighted(&self) -> bool {
        self.sources.iter().any(|source| source.is_inline)
    }

    /// What is known under a key.
    pub fn find(&self, key: &Digest) -> Option<CacheEntry> {
        self.sources.iter().find_map(|source| {
            let used = source.document.used(key)?;
            (used >= self.not_before).then(|| source.document.find(key))?
        })
    }

    /// Where a layer can be fetched from, or mounted.
    pub fn origin_of(&self, digest: &Digest) -> Option<Arc<dyn BlobOrigin>> {
        let source = self.sources.iter().find(|source| source.layers.contains(digest))?;
        let origin: Arc<dyn BlobOrigin> = source.origin.clone();
        Some(origin)
    }

    /// Whether a layer was wanted and did not come, or was not what its name says: a build that failed may have failed for
    /// that.
    pub fn is_suspect(&self) -> bool {
        self.sources.iter().any(|source| {
            let opened = source.origin.opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.iter().any(|digest| !self.means.files.store.has_blob(digest, None))
        })
    }

    /// Ends the talk about fetching layers, if there was any.
    pub fn end_downloads(&self) {
        self.sources.iter().for_each(|source| source.origin.download.end(Ending::Done));
    }

    /// Notes the outcome of a step, made or used, under its keys, without its warnings, which are this Dockerfile's, and starts to send its layer, unless it goes to the same registry as
    /// a layer of the image: then it is mounted from there when it has arrived.
    pub fn note(&self, keys: &[Digest], entry: &CacheEntry, layer: Option<&Arc<StageLayer>>, is_of_the_image: bool) {
        if self.targets.is_empty() {
            return;
        }
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            notes.document.put(*key, CacheEntry { warnings: Vec::new(), ..entry.clone() }, self.now);
        }
        let Some(layer) = layer else { return };
        notes.layers.insert(layer.blob().digest, layer.clone());
        drop(notes);
        // The stages of the image are known, but which layers stay there is known at the end only.
        let is_certain = |target: &&Target| {
            target.mode == CacheMode::Max && !(is_of_the_image && target.place.mounts_from_the_image())
        };
        if layer.blob().compression != Compression::None {
            self.targets.iter().filter(is_certain).for_each(|target| self.send(target, layer));
        }
    }

    /// Writes the caches, after everything else has succeeded: `image` are the layers of the image.
    pub fn save(&self, image: &[Arc<StageLayer>]) {
        let notes = std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        for target in &self.targets {
            let mut document = notes.document.clone();
            if target.mode == CacheMode::Min {
                let kept: BTreeSet<Digest> = image.iter().map(|layer| layer.blob().digest).collect();
                document.retain_layers(|layer| kept.contains(&layer.digest));
            }
            let name = target.place.name();
            let is_known = self.sources.iter().any(|source| {
                source.name == name && source.document.has_all_of(&document, self.now.saturating_sub(REFRESH_SECONDS))
            });
            if is_known {
                continue;
            }
            let work = self.means.talk.begin(Kind::Push, format!("writing the layer cache {name}"));
            match self.write(target, document, &notes.layers) {
                Ok(()) => work.end(Ending::Done),
                Err(why) => {
                    work.end(Ending::Stopped);
                    self.means.talk.warn(format!("the layer cache `{name}` was not written: {why}"));
                }
            }
        }
    }

    /// Begins to bring a layer to a target that does not have it, as far as is known.
    fn send(&self, target: &Target, layer: &Arc<StageLayer>) {
        let digest = layer.blob().digest;
        if !self.has(target, &digest) {
            let mut sending = target.sending.lock().unwrap_or_else(PoisonError::into_inner);
            sending.entry(digest).or_insert_with(|| target.place.send(layer.clone()));
        }
    }

    /// Whether a target has a layer already, as far as is known.
    fn has(&self, target: &Target, digest: &Digest) -> bool {
        let shelf = target.place.shelf();
        self.sources.iter().any(|source| source.shelf == shelf && source.layers.contains(digest))
    }

    fn write(
        &self,
        target: &Target,
        mut document: CacheDocument,
        layers: &BTreeMap<Digest, Arc<StageLayer>>,
    ) -> Result<(), String> {
        let mut lost: BTreeSet<Digest> = BTreeSet::new();
        let mut packed: BTreeMap<Digest, CachedLayer> = BTreeMap::new();
        for cached in document.layers() {
            let Some(layer) = layers.get(&cached.digest) else { continue };
            if cached.compression != Compression::None {
                self.send(target, layer);
                continue;
            }
            match packing::by_default(&self.means.files, layer) {
                Ok(layer) => {
                    packed.insert(cached.digest, (*layer.blob()).into());
                    self.send(target, &layer);
                }
                Err(_) => drop(lost.insert(cached.digest)),
            }
        }
        document.replace_layers(&packed);
        let mut failure = None;
        for (digest, task) in std::mem::take(&mut *target.sending.lock().unwrap_or_else(PoisonError::into_inner)) {
            match self.means.runtime.block_on(task) {
                Ok(Ok(())) => {}
                Ok(Err(why)) => {
                    lost.insert(digest);
                    failure.get_or_insert(why);
                }
                Err(stopped) => return Err(stopped.to_string()),
            }
        }
        document.retain_layers(|layer| !lost.contains(&layer.digest));
        if let Some(why) = failure.filter(|_| document.layers().is_empty() && !lost.is_empty()) {
            return Err(why);
        }
        // Other builds may have written meanwhile.
        let mut joined = document.clone();
        if let Ok(Some(there)) = target.place.read()
            && !there.is_inline
        {
            let mut there = there.document;
            there.forget_before(self.not_before);
            joined.merge(there);
        }
        joined.fit();
        let put = target.place.write(&joined);
        // Of what others wrote, the place may have lost a layer.
        put.or_else(|why| if joined == document { Err(why) } else { target.place.write(&document) })
    }
}

impl Source {
    /// The cache of a place, if there is one.
    fn read(place: &dyn CachePlace, means: &Means, now: i64) -> Result<Option<Self>, String> {
        let Some(found) = place.read()? else { return Ok(None) };
        let mut document = found.document;
        if found.is_inline {
            document.use_all(now);
        }
        let layers = document.layers();
        let sizes = layers.iter().map(|layer| (layer.digest, layer.size)).collect();
        let name = place.name();
        let pulled = format!("from the layer cache {name}");
        let download = Arc::new(Download::new(means.talk.clone(), pulled, means.files.store.clone(), sizes));
        let origin = CacheOrigin { layers: place.origin(download.clone()), download, opened: Mutex::default() };
        Ok(Some(Self {
            name,
            shelf: place.shelf(),
            document,
            is_inline: found.is_inline,
            layers: layers.iter().map(|layer| layer.digest).collect(),
            origin: Arc::new(origin),
        }))
    }
}

/// Layers where the cache is, and which of them were asked for.
struct CacheOrigin {
    layers: Arc<dyn BlobOrigin>,
    download: Arc<Download>,
    opened: Mutex<BTreeSet<Digest>>,
}

impl BlobOrigin for CacheOrigin {
    fn open(&self, blob: &LayerBlob) -> Result<Box<dyn Read + Send>, LayerFailure> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest);
        self.layers.open(blob)
    }

    fn repository(&self) -> Option<&Repository> {
        self.layers.repository()
    }
}
