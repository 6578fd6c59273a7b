//! The image on its way out: blobs to registries while the build runs, manifests and tags at the very end.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use cofferdam_digest::Digest;
use cofferdam_image::{AttestationManifest, Descriptor, Store};
use cofferdam_plugin_host::PublishedTag;
use cofferdam_registry::{
    BlobOutcome, BlobSource, BlobUpload, Client, ManifestName, Progress, RegistryError, Repository,
};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    error::BuildError,
    events::{Ending, Event, Kind, Transfer, Vertex},
    image_set::{ImageSet, SetDocument},
    layers::StageLayer,
    naming::NamedRepository,
    stop::{Stop, Stoppable},
    work::{Meter, Talk, Work},
};

/// A blob on its way.
type Transferring = JoinHandle<Result<(), RegistryError>>;

/// Pushes blobs as they become known.
pub struct Publisher {
    /// For registries.
    pub client: Client,
    /// Of the runtime that the client needs.
    pub runtime: Handle,
    /// Where blobs are.
    pub store: Store,
    /// Where to.
    pub repositories: Vec<Repository>,
    under_way: Mutex<BTreeMap<(usize, Digest), Transferring>>,
    told: Arc<PushTalk>,
}

/// Pushing as a unit of work. Whether a layer has to go anywhere is known late, and its bytes may still be on their way from
/// the base's registry: it begins with the first one that moves, or was there.
struct PushTalk {
    talk: Talk,
    name: String,
    work: Mutex<Option<Work>>,
}

impl PushTalk {
    /// Begins it, unless that was done, and answers its number.
    fn begin(&self) -> Vertex {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.get_or_insert_with(|| self.talk.begin(Kind::Push, self.name.clone())).vertex
    }

    fn tell(&self, event: impl FnOnce(Vertex) -> Event) {
        self.talk.event(event(self.begin()));
    }

    fn end(&self, ending: Ending) {
        if let Some(work) = self.work.lock().unwrap_or_else(PoisonError::into_inner).take() {
            work.end(ending);
        }
    }
}

impl Publisher {
    /// Nothing is under way yet.
    pub fn new(client: Client, runtime: Handle, store: Store, repositories: Vec<Repository>, talk: Talk) -> Self {
        let names: Vec<String> = repositories.iter().map(Repository::familiar).collect();
        let told = PushTalk { talk, name: format!("pushing to {}", names.join(", ")), work: Mutex::default() };
        Self { client, runtime, store, repositories, under_way: Mutex::default(), told: Arc::new(told) }
    }

    /// Ends the talk about pushing, if there was any.
    pub fn end(&self, ending: Ending) {
        self.told.end(ending);
    }

    /// Starts to push a layer that the image will have, unless that was done already.
    pub fn push_layer(&self, layer: &Arc<StageLayer>) {
        for (number, repository) in self.repositories.iter().enumerate() {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.entry((number, layer.blob().digest)).or_insert_with(|| {
                let task = push_layer(
                    self.client.clone(),
                    repository.clone(),
                    layer.clone(),
                    self.store.clone(),
                    self.told.clone(),
                );
                self.runtime.spawn(task)
            });
        }
    }

    /// Those of a repository's decided tags that it has already.
    ///
    /// # Errors
    /// The registry refuses, or can't be reached.
    pub fn published(
        &self,
        decided: &[NamedRepository],
        repository: &Repository,
    ) -> Result<Vec<PublishedTag>, BuildError> {
        let mut published = Vec::new();
        for named in decided.iter().filter(|named| named.repository == *repository) {
            for reference in named.references() {
                match self.runtime.block_on(self.client.resolve(&reference)) {
                    Ok(found) => published.push(PublishedTag {
                        tag: reference.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
                        digest: found.digest.to_string(),
                    }),
                    Err(RegistryError::NotFound { .. }) => {}
                    Err(source) => return Err(BuildError::Push { destination: reference.familiar(), source }),
                }
            }
        }
        Ok(published)
    }

    /// Waits for every blob, then sends configurations, manifests, the index if there is one, and last the tags: until then
    /// nobody sees a part of the image. Answers the digest of what the tags lead to.
    ///
    /// # Errors
    /// A registry refused or can't be reached, or the build was stopped; no tag was moved to an incomplete image.
    pub fn finish(
        &self,
        set: &ImageSet,
        named: &[NamedRepository],
        ignore_immutable_tags: bool,
        stop: &Stop,
    ) -> Result<Digest, BuildError> {
        // Whoever stops a build does not want to see it published.
        let go_on = || if stop.is_stopped() { Err(BuildError::Stopped) } else { Ok(()) };
        self.told.begin();
        for layer in set.layers() {
            self.push_layer(layer);
        }
        let documents = set.documents();
        let root = set.root();
        let mut failure = None;
        let tasks = std::mem::take(&mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner));
        for ((number, digest), task) in tasks {
            let done = self.runtime.block_on(task);
            let error = match done {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                // The runtime is ours and outlives the tasks, so this is a panic of the client's.
                Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
            };
            failure.get_or_insert((number, digest, error));
        }
        go_on()?;
        if let Some((number, digest, source)) = failure {
            // A registry refuses what a power failure left of a blob.
            if refuses_content(&source) && self.store.remove_if_damaged(&digest) {
                return Err(self.store.damaged(&digest).into());
            }
            return Err(BuildError::Push { destination: self.repositories[number].familiar(), source });
        }
        // All repositories get everything before any tag moves.
        for repository in &self.repositories {
            let failed = |source| BuildError::Push { destination: repository.familiar(), source };
            for image in set.images() {
                let config = document_upload(&image.manifest.config, Bytes::from(image.config.clone()));
                self.runtime.block_on(self.client.push_blob(repository, &config)).map_err(failed)?;
            }
            for (descriptor, bytes) in set.attestations().iter().flat_map(AttestationManifest::blobs) {
                let blob = document_upload(descriptor, Bytes::copy_from_slice(bytes));
                self.runtime.block_on(self.client.push_blob(repository, &blob)).map_err(failed)?;
            }
            for document in &documents {
                go_on()?;
                self.put(repository, &ManifestName::Digest, document).map_err(failed)?;
            }
        }
        for destination in named {
            for tag in &destination.tags {
                go_on()?;
                let repository = &destination.repository;
                let name = ManifestName::Tag(tag.clone());
                let destination = || format!("{}:{tag}", repository.familiar());
                match self.put(repository, &name, &root) {
                    Err(error) if ignore_immutable_tags && error.says_immutable_tag() => {
                        self.told.talk.warn(format!("{} stays what it is: {error}", destination()));
                    }
                    Err(source) => return Err(BuildError::Push { destination: destination(), source }),
                    Ok(()) => {}
                }
            }
        }
        Ok(root.descriptor.digest)
    }

    fn put(&self, repository: &Repository, name: &ManifestName, document: &SetDocument) -> Result<(), RegistryError> {
        put_manifest(&self.client, &self.runtime, repository, name, &document.descriptor, document.bytes.clone())
    }
}

/// Puts a manifest or index in place.
///
/// # Errors
/// The registry refuses, or can't be reached.
pub fn put_manifest(
    client: &Client,
    runtime: &Handle,
    repository: &Repository,
    name: &ManifestName,
    descriptor: &Descriptor,
    bytes: Bytes,
) -> Result<(), RegistryError> {
    let media_type = descriptor.media_type.to_string();
    runtime.block_on(client.put_manifest(repository, name, &media_type, bytes)).map(drop)
}

/// Whether the bytes that were sent may be at fault, or could not be read here.
fn refuses_content(error: &RegistryError) -> bool {
    match error {
        RegistryError::Status { status, .. } => status.is_client_error(),
        RegistryError::DigestMismatch { .. } | RegistryError::Source { .. } | RegistryError::SourceSize { .. } => true,
        _ => false,
    }
}

async fn push_layer(
    client: Client,
    repository: Repository,
    layer: Arc<StageLayer>,
    store: Store,
    told: Arc<PushTalk>,
) -> Result<(), RegistryError> {
    let blob = *layer.blob();
    let progress: Progress = {
        let (told, meter) = (told.clone(), Meter::new());
        Arc::new(move |done_bytes| {
            if meter.is_due() {
                let (digest, total_bytes) = (blob.digest, blob.size);
                told.tell(|vertex| Event::Progress { vertex, digest, done_bytes, total_bytes });
            }
        })
    };
    let upload = BlobUpload {
        digest: blob.digest,
        size_bytes: blob.size,
        source: Arc::new(StoredBlob { layer: layer.clone(), store }),
        mount_from: layer.repository().into_iter().cloned().collect(),
        progress: Some(progress),
    };
    let outcome = client.push_blob(&repository, &upload).await?;
    let transfer = transfer(&outcome);
    told.tell(|vertex| Event::Transferred { vertex, digest: blob.digest, size_bytes: blob.size, transfer });
    Ok(())
}

/// A layer's blob: in the store, or brought there first, from where the base image is.
pub struct StoredBlob {
    /// The layer.
    pub layer: Arc<StageLayer>,
    /// Where its blob is, or is brought to.
    pub store: Store,
}

impl BlobSource for StoredBlob {
    fn open_at(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        self.layer.fetch().map_err(io::Error::other)?;
        let mut file = self.store.open_blob(&self.layer.blob().digest).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset_bytes))?;
        // Nobody waits for a long upload of a build that was stopped.
        Ok(Box::new(Stoppable::new(file, self.layer.stop())))
    }
}

/// How a blob came into a repository.
pub fn transfer(outcome: &BlobOutcome) -> Transfer {
    match outcome {
        BlobOutcome::Present => Transfer::Present,
        BlobOutcome::Mounted(_) => Transfer::Mounted,
        BlobOutcome::Uploaded => Transfer::Uploaded,
    }
}

/// A configuration, which nobody has to watch.
pub fn document_upload(descriptor: &Descriptor, bytes: Bytes) -> BlobUpload {
    BlobUpload {
        digest: descriptor.digest,
        size_bytes: descriptor.size,
        source: Arc::new(InMemory(bytes)),
        mount_from: Vec::new(),
        progress: None,
    }
}

struct InMemory(Bytes);

impl BlobSource for InMemory {
    fn open_at(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let start = usize::try_from(offset_bytes).unwrap_or(usize::MAX).min(self.0.len());
        Ok(Box::new(io::Cursor::new(self.0.slice(start..))))
    }
}
