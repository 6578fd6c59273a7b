//! A layer cache in a registry: what builds made on other machines.
//!
//! A cache is one manifest under one tag. Its configuration is a [`CacheDocument`], its layers are those that the document
//! names, so a registry keeps them as long as the tag. It is read once at the start, and written once at the end; layers go there
//! while the build runs. Nothing of it can fail a build: what can't be read or written is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use cofferdam_cache::{CacheDocument, CacheEntry, CachedLayer, DOCUMENT_LIMIT_BYTES};
use cofferdam_digest::Digest;
use cofferdam_image::{Compression, Descriptor, Document, Family, LayerBlob, Manifest, MediaType};
use cofferdam_registry::{BlobUpload, Client, ManifestName, Reference, RegistryError, Repository};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    download::Download,
    events::{Ending, Kind},
    layers::{BlobOrigin, LayerFailure, LayerFiles, StageLayer},
    packing,
    publish::{StoredBlob, document_upload},
    registry_origin::RegistryOrigin,
    request::{CacheMode, RemoteCaches},
    work::Talk,
};

/// Of the configuration of a cache's manifest.
const DOCUMENT_TYPE: &str = "application/vnd.cofferdam.cache.v1+json";

/// A record that is used again is written anew when it is older, so that it does not run out: a day.
const REFRESH_SECONDS: i64 = 24 * 60 * 60;

/// The caches of a build.
pub struct RegistryCache {
    means: Means,
    sources: Vec<Source>,
    target: Option<Target>,
    /// Records that were not used since are not used any more, in seconds since 1970.
    not_before: i64,
    now: i64,
}

/// What is needed to reach a registry and to tell of it.
pub struct Means {
    /// For registries.
    pub client: Client,
    /// Of the runtime that the client needs.
    pub runtime: Handle,
    /// Where blobs are.
    pub files: Arc<LayerFiles>,
    /// Who watches.
    pub talk: Talk,
}

/// A cache that is read.
struct Source {
    reference: Reference,
    document: CacheDocument,
    layers: BTreeSet<Digest>,
    origin: Arc<CacheOrigin>,
}

/// The cache that is written.
struct Target {
    reference: Reference,
    mode: CacheMode,
    /// Where its layers may be mounted from.
    mount_from: Vec<Repository>,
    notes: Mutex<Notes>,
}

/// What this build made or used.
#[derive(Default)]
struct Notes {
    document: CacheDocument,
    layers: BTreeMap<Digest, Arc<StageLayer>>,
    sending: BTreeMap<Digest, JoinHandle<Result<(), RegistryError>>>,
}

impl RegistryCache {
    /// Reads the caches that the request names. One that can't be read is told of, and is as good as none; one that is not
    /// there yet is not worth a word. `now` is in seconds since 1970, `mount_from` is where the image goes.
    pub fn open(request: &RemoteCaches, means: Means, mount_from: &[Repository], now: i64) -> Self {
        // In whole seconds: what is as old as the limit is too old, so that nothing is fresh for a limit of zero.
        let not_before =
            request.ttl.map_or(i64::MIN, |ttl| now.saturating_sub(ttl.as_secs().cast_signed()).saturating_add(1));
        let mut sources = Vec::new();
        for reference in &request.from {
            match means.read(reference) {
                Ok(Some(document)) => sources.push(Source::new(reference, document, &means)),
                Ok(None) => {}
                Err(why) => {
                    means.talk.warn(format!("the layer cache `{}` is not used: {why}", reference.familiar()));
                }
            }
        }
        let target = request.to.as_ref().map(|(reference, mode)| Target {
            reference: reference.clone(),
            mode: *mode,
            mount_from: mount_from.to_vec(),
            notes: Mutex::default(),
        });
        Self { means, sources, target, not_before, now }
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
        self.sources.iter().for_each(|source| source.origin.layers.download.end(Ending::Done));
    }

    /// Notes the outcome of a step, made or used, under its keys, and starts to send its layer.
    pub fn note(&self, keys: &[Digest], entry: &CacheEntry, layer: Option<&Arc<StageLayer>>) {
        let Some(target) = &self.target else { return };
        let mut notes = target.notes.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            notes.document.put(*key, entry.clone(), self.now);
        }
        let Some(layer) = layer else { return };
        let blob = *layer.blob();
        notes.layers.insert(blob.digest, layer.clone());
        // The stages of the image are known, but which layers stay there is known at the end only.
        let is_certain = target.mode == CacheMode::Max && blob.compression != Compression::None;
        if is_certain && !self.has(target, &blob.digest) && !notes.sending.contains_key(&blob.digest) {
            let sending = self.means.runtime.spawn(self.means.send(target, layer.clone()));
            notes.sending.insert(blob.digest, sending);
        }
    }

    /// Writes the cache, after everything else has succeeded: `image` are the layers of the image.
    pub fn save(&self, image: &[Arc<StageLayer>]) {
        let Some(target) = &self.target else { return };
        let mut notes = std::mem::take(&mut *target.notes.lock().unwrap_or_else(PoisonError::into_inner));
        if target.mode == CacheMode::Min {
            let kept: BTreeSet<Digest> = image.iter().map(|layer| layer.blob().digest).collect();
            notes.document.retain_layers(|digest| kept.contains(digest));
        }
        let is_known = self.sources.iter().any(|source| {
            source.reference == target.reference
                && source.document.has_all_of(&notes.document, self.now.saturating_sub(REFRESH_SECONDS))
        });
        if is_known {
            return;
        }
        let name = target.reference.familiar();
        let work = self.means.talk.begin(Kind::Push, format!("writing the layer cache {name}"));
        match self.write(target, notes) {
            Ok(()) => work.end(Ending::Done),
            Err(why) => {
                work.end(Ending::Stopped);
                self.means.talk.warn(format!("the layer cache `{name}` was not written: {why}"));
            }
        }
    }

    /// Whether the target's repository has a layer already, as far as is known.
    fn has(&self, target: &Target, digest: &Digest) -> bool {
        let is_there = |source: &Source| source.reference.repository() == target.reference.repository();
        self.sources.iter().any(|source| is_there(source) && source.layers.contains(digest))
    }

    fn write(&self, target: &Target, notes: Notes) -> Result<(), String> {
        let Notes { mut document, layers, mut sending } = notes;
        let mut lost: BTreeSet<Digest> = BTreeSet::new();
        let mut packed: BTreeMap<Digest, CachedLayer> = BTreeMap::new();
        for cached in document.layers() {
            let Some(layer) = layers.get(&cached.digest) else { continue };
            if sending.contains_key(&cached.digest) || self.has(target, &cached.digest) {
                continue;
            }
            let layer = match cached.compression {
                Compression::None => match packing::by_default(&self.means.files, layer) {
                    Ok(layer) => {
                        packed.insert(cached.digest, (*layer.blob()).into());
                        layer
                    }
                    Err(_) => {
                        lost.insert(cached.digest);
                        continue;
                    }
                },
                _ => layer.clone(),
            };
            let digest = layer.blob().digest;
            sending.entry(digest).or_insert_with(|| self.means.runtime.spawn(self.means.send(target, layer)));
        }
        document.replace_layers(&packed);
        let mut failure = None;
        for (digest, task) in sending {
            match self.means.runtime.block_on(task) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    lost.insert(digest);
                    failure.get_or_insert(error.to_string());
                }
                Err(stopped) => return Err(stopped.to_string()),
            }
        }
        document.retain_layers(|digest| !lost.contains(digest));
        if let Some(why) = failure.filter(|_| document.layers().is_empty() && !lost.is_empty()) {
            return Err(why);
        }
        // Other builds may have written meanwhile.
        let mut joined = document.clone();
        if let Ok(Some(mut there)) = self.means.read(&target.reference) {
            there.forget_before(self.not_before);
            joined.merge(there);
        }
        joined.fit();
        let put = self.means.put(target, &joined);
        // Of what others wrote, the registry may have lost a layer.
        put.or_else(|error| if joined == document { Err(error) } else { self.means.put(target, &document) })
            .map_err(|error| error.to_string())
    }
}

impl Source {
    fn new(reference: &Reference, document: CacheDocument, means: &Means) -> Self {
        let layers = document.layers();
        let sizes = layers.iter().map(|layer| (layer.digest, layer.size)).collect();
        let name = format!("from the layer cache {}", reference.familiar());
        let download = Arc::new(Download::new(means.talk.clone(), name, means.files.store.clone(), sizes));
        let origin = RegistryOrigin {
            client: means.client.clone(),
            runtime: means.runtime.clone(),
            repository: reference.repository().clone(),
            download,
        };
        let origin = CacheOrigin { layers: origin, opened: Mutex::default() };
        let layers = layers.iter().map(|layer| layer.digest).collect();
        Self { reference: reference.clone(), document, layers, origin: Arc::new(origin) }
    }
}

impl Means {
    /// The document of a cache; none if the tag does not exist.
    fn read(&self, reference: &Reference) -> Result<Option<CacheDocument>, String> {
        let manifest = match self.runtime.block_on(self.client.resolve(reference)) {
            Ok(manifest) => manifest,
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let media_type = MediaType::from(manifest.media_type.as_str());
        let config = match Document::parse(&manifest.bytes, Some(&media_type)) {
            Ok(Document::Manifest(manifest)) => manifest.config,
            Ok(Document::Index(_)) => return Err("it is an index of images".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        if config.media_type.to_string() != DOCUMENT_TYPE {
            return Err(format!("it has a configuration of type `{}`, and is no cache of ours", config.media_type));
        }
        let fetched = self.client.fetch_blob(reference.repository(), config.digest, config.size, DOCUMENT_LIMIT_BYTES);
        let bytes = self.runtime.block_on(fetched).map_err(|error| error.to_string())?;
        CacheDocument::parse(&bytes).map(Some).map_err(|error| error.to_string())
    }

    fn put(&self, target: &Target, document: &CacheDocument) -> Result<(), RegistryError> {
        let bytes = document.to_json();
        let config = Descriptor::of(MediaType::Other(DOCUMENT_TYPE.to_owned()), &bytes);
        let repository = target.reference.repository();
        let upload = document_upload(&config, Bytes::from(bytes));
        self.runtime.block_on(self.client.push_blob(repository, &upload))?;
        let layers = document.layers().into_iter().map(|layer| LayerBlob::from(layer).descriptor(Family::Oci));
        let manifest = Manifest::new(Family::Oci, config, layers.collect());
        let name = target.reference.tag_or_latest().map_or(ManifestName::Digest, ManifestName::Tag);
        let media_type = manifest.media_type.to_string();
        let put = self.client.put_manifest(repository, &name, &media_type, Bytes::from(manifest.to_json()));
        self.runtime.block_on(put).map(drop)
    }

    /// Brings a layer into the target's repository.
    fn send(
        &self,
        target: &Target,
        layer: Arc<StageLayer>,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send + 'static {
        let (client, repository) = (self.client.clone(), target.reference.repository().clone());
        let upload = BlobUpload {
            digest: layer.blob().digest,
            size_bytes: layer.blob().size,
            mount_from: layer.repository().into_iter().chain(&target.mount_from).cloned().collect(),
            source: Arc::new(StoredBlob { layer, store: self.files.store.clone() }),
            progress: None,
        };
        async move { client.push_blob(&repository, &upload).await.map(drop) }
    }
}

/// Layers in the cache's repository, and which of them were asked for.
struct CacheOrigin {
    layers: RegistryOrigin,
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
