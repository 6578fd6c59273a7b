//! An image that was written to a file or directory goes to registries as it is: the same digest.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use cofferdam_digest::Digest;
use cofferdam_image::{Descriptor, Document, Manifest};
use cofferdam_registry::{BlobSource, BlobUpload, Client, ManifestName, Reference, RegistryError, Repository};
use tokio::runtime::Handle;

use crate::{
    credentials,
    error::BuildError,
    events::{Ending, Event, Kind, Observer},
    image_file::ImageFile,
    plugins,
    publish::{put_manifest, transfer},
    registry_files,
    request::{PluginAccess, RegistryAccess},
    stop::{Stop, Stoppable},
    work::{Talk, Work},
};

/// One push.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// `DIR[:TAG]` of an OCI layout, or an archive of one or for `docker load`; relative to the working directory.
    pub source: PathBuf,
    /// Where to: with a tag, `latest` if there is none, or with nothing but the image's digest, which moves no tag.
    pub references: Vec<String>,
    /// Where the blobs of an archive are unpacked.
    pub store: PathBuf,
    /// How registries are reached.
    pub registries: RegistryAccess,
    /// For credential helpers, and what the operator allows.
    pub plugins: PluginAccess,
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Of the manifest or index.
    pub digest: Digest,
    /// The full names.
    pub names: Vec<String>,
}

/// What of an image is to be sent.
struct Parts {
    /// Configurations and layers.
    blobs: BTreeMap<Digest, Descriptor>,
    /// Manifests, and an index after those that it names: what has the tag is the last.
    documents: Vec<(Descriptor, Bytes)>,
}

/// Pushes the image. Blocks; starts threads.
///
/// # Errors
/// The image can't be read, a registry refuses, or the push was stopped; no tag was moved to an incomplete image.
pub fn push_image(request: &PushRequest, observer: &Arc<dyn Observer>, stop: &Stop) -> Result<Pushed, BuildError> {
    let plugins = Arc::new(plugins::load_for(&request.plugins, None, stop)?);
    let mut destinations = Vec::new();
    for text in &request.references {
        let reference: Reference = text.parse()?;
        plugins::check_push(&plugins, reference.host())?;
        destinations.push(reference);
    }
    let image = ImageFile::open(&request.source, &request.store, stop)?;
    let parts = Parts::of(&image)?;
    for reference in &mut destinations {
        *reference = destination(reference, &parts.root().0.digest)?;
    }
    let runtime = credentials::runtime(2)?;
    let client = credentials::client(&registry_files::resolved(&request.registries)?, &plugins, runtime.handle())?;
    let pusher = Pusher { client, runtime: runtime.handle().clone(), image: Arc::new(image), stop: stop.clone() };
    let names: Vec<String> = destinations.iter().map(Reference::familiar).collect();
    let work = Talk::new(observer.clone()).begin(Kind::Push, format!("pushing to {}", names.join(", ")));
    let pushed = pusher.push(&parts, &destinations, &work);
    work.end(match &pushed {
        Ok(_) => Ending::Done,
        Err(_) if stop.is_stopped() => Ending::Stopped,
        Err(error) => Ending::Failed(crate::chain(error)),
    });
    runtime.shutdown_background();
    Ok(Pushed { digest: pushed?, names })
}

/// What an image with this digest is called at a destination: by a tag, or by the digest if that was all that was asked for.
fn destination(asked: &Reference, digest: &Digest) -> Result<Reference, BuildError> {
    if asked.digest().is_some_and(|asked| asked != *digest) {
        return Err(BuildError::OtherDigest { destination: asked.to_string(), found: *digest });
    }
    let tagged = asked.tag_or_latest().map(|tag| Reference::tagged(asked.repository().clone(), tag));
    Ok(tagged.unwrap_or_else(|| asked.clone()))
}

impl Parts {
    fn of(image: &ImageFile) -> Result<Self, BuildError> {
        let mut parts = Self { blobs: BTreeMap::new(), documents: Vec::new() };
        let root = image.root().clone();
        let bytes = image.document(&root)?;
        match Document::parse(&bytes, Some(&root.media_type))? {
            Document::Manifest(manifest) => parts.add(&manifest),
            Document::Index(index) => {
                for child in &index.manifests {
                    let bytes = image.document(child)?;
                    match Document::parse(&bytes, Some(&child.media_type))? {
                        Document::Manifest(manifest) => parts.add(&manifest),
                        Document::Index(_) => return Err(BuildError::NestedIndex(child.digest)),
                    }
                    parts.documents.push((child.clone(), bytes.into()));
                }
            }
        }
        parts.documents.push((root, bytes.into()));
        Ok(parts)
    }

    /// The manifest or index that has the tag.
    fn root(&self) -> &(Descriptor, Bytes) {
        self.documents.last().expect("`of` puts the root there")
    }

    fn add(&mut self, manifest: &Manifest) {
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        self.blobs.extend(blobs.map(|blob| (blob.digest, blob.clone())));
    }
}

struct Pusher {
    client: Client,
    runtime: Handle,
    image: Arc<ImageFile>,
    stop: Stop,
}

impl Pusher {
    /// All repositories get everything before any tag moves.
    fn push(&self, parts: &Parts, destinations: &[Reference], work: &Work) -> Result<Digest, BuildError> {
        let go_on = || if self.stop.is_stopped() { Err(BuildError::Stopped) } else { Ok(()) };
        let (root, bytes) = parts.root();
        let repositories: BTreeSet<&Repository> = destinations.iter().map(Reference::repository).collect();
        for repository in repositories {
            let failed = |source| BuildError::Push { destination: repository.familiar(), source };
            self.push_blobs(parts, repository, work).map_err(failed)?;
            for (descriptor, bytes) in &parts.documents {
                go_on()?;
                self.put(repository, &ManifestName::Digest, descriptor, bytes).map_err(failed)?;
            }
        }
        for reference in destinations {
            let Some(tag) = reference.tag() else { continue };
            go_on()?;
            self.put(reference.repository(), &ManifestName::Tag(tag.clone()), root, bytes)
                .map_err(|source| BuildError::Push { destination: reference.familiar(), source })?;
        }
        Ok(root.digest)
    }

    fn put(
        &self,
        repository: &Repository,
        name: &ManifestName,
        descriptor: &Descriptor,
        bytes: &Bytes,
    ) -> Result<(), RegistryError> {
        put_manifest(&self.client, &self.runtime, repository, name, descriptor, bytes.clone())
    }

    /// All at once; the client bounds how many are under way.
    fn push_blobs(&self, parts: &Parts, repository: &Repository, work: &Work) -> Result<(), RegistryError> {
        let tasks: Vec<_> = parts
            .blobs
            .values()
            .map(|blob| {
                let (client, repository) = (self.client.clone(), repository.clone());
                let source = FileBlob { image: self.image.clone(), blob: blob.clone(), stop: self.stop.clone() };
                let upload = BlobUpload {
                    digest: blob.digest,
                    size_bytes: blob.size,
                    source: Arc::new(source),
                    mount_from: Vec::new(),
                    progress: None,
                };
                (blob, self.runtime.spawn(async move { client.push_blob(&repository, &upload).await }))
            })
            .collect();
        let mut failure = None;
        for (blob, task) in tasks {
            let outcome = match self.runtime.block_on(task) {
                Ok(outcome) => outcome,
                // The runtime outlives its tasks, so this is a panic of the client's.
                Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
            };
            match outcome {
                Ok(outcome) => {
                    let (digest, size_bytes, transfer) = (blob.digest, blob.size, transfer(&outcome));
                    work.event(|vertex| Event::Transferred { vertex, digest, size_bytes, transfer });
                }
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

struct FileBlob {
    image: Arc<ImageFile>,
    blob: Descriptor,
    stop: Stop,
}

impl BlobSource for FileBlob {
    fn open_at(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut reader = self.image.open_blob(&self.blob).map_err(io::Error::other)?;
        // Read, not passed over: the digest is checked.
        io::copy(&mut (&mut reader).take(offset_bytes), &mut io::sink())?;
        Ok(Box::new(Stoppable::new(reader, &self.stop)))
    }
}
