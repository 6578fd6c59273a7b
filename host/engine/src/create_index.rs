//! An index of images that are in registries already, as separate builders pushed them: nothing is built, and what is in the
//! repository already is not sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use cofferdam_digest::Digest;
use cofferdam_image::{Descriptor, Document, Family, ImageConfig, Index, Manifest, MediaType, REFERENCE_DIGEST};
use cofferdam_plugin_host::PluginHost;
use cofferdam_registry::{BlobSource, BlobUpload, Client, ManifestName, Reference, Repository, Tag};
use tokio::runtime::Handle;

use crate::{
    annotations::{self, Annotation, AnnotationLevel},
    credentials,
    error::BuildError,
    events::{Ending, Event, Kind, Observer},
    images::{CONFIG_LIMIT_BYTES, ImageFailure},
    plugins,
    publish::{put_manifest, transfer},
    registry_files,
    request::{PluginAccess, RegistryAccess},
    stop::Stop,
    work::{Talk, Work},
};

/// An index that is wanted.
#[derive(Debug, Clone)]
pub struct IndexRequest {
    /// Images and indexes: `REPOSITORY@DIGEST`, `REPOSITORY:TAG`, or a digest in the repository of the first name.
    pub sources: Vec<String>,
    /// The names that it gets.
    pub references: Vec<String>,
    /// Whether what the first name leads to now stays in it, but for platforms that are replaced.
    pub append: bool,
    /// Of the index, and of the descriptors in it.
    pub annotations: Vec<Annotation>,
    /// Whether nothing is sent.
    pub dry_run: bool,
    /// How registries are reached.
    pub registries: RegistryAccess,
    /// For credential helpers, and what the operator allows.
    pub plugins: PluginAccess,
}

/// An index that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedIndex {
    /// Of the document.
    pub digest: Digest,
    /// The document.
    pub json: Vec<u8>,
    /// The full names.
    pub names: Vec<String>,
}

/// An index can't be made of what was named.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A source is only a digest, and there is no name.
    #[error("`{0}` is a digest without a repository: write REPOSITORY@DIGEST, or give a name with --tag")]
    NoRepository(String),
    /// A source can't be had.
    #[error("image `{name}`")]
    Source {
        /// As the user wrote it.
        name: String,
        /// Why.
        #[source]
        source: ImageFailure,
    },
    /// Two images claim one platform.
    #[error("{first} and {second} are both for {platform}: an index has one image for each platform")]
    SamePlatform {
        /// The platform.
        platform: cofferdam_plan::Platform,
        /// The one.
        first: Digest,
        /// The other.
        second: Digest,
    },
}

/// Something that the index names, and where that is.
struct Entry {
    descriptor: Descriptor,
    from: Repository,
}

/// Makes the index, and sends it with what its repositories lack. Blocks; starts threads.
///
/// # Errors
/// A source can't be had, two are for one platform, a registry refuses, or it was stopped; no tag was moved then.
pub fn create_index(
    request: &IndexRequest,
    observer: &Arc<dyn Observer>,
    stop: &Stop,
) -> Result<CreatedIndex, BuildError> {
    let plugins = Arc::new(plugins::load_for(&request.plugins, None, stop)?);
    let mut targets: Vec<(Repository, Tag)> = Vec::new();
    for text in &request.references {
        let reference: Reference = text.parse()?;
        if !request.dry_run {
            plugins::check_push(&plugins, reference.host())?;
        }
        let tag = reference.tag().cloned().unwrap_or_else(Tag::latest);
        targets.push((reference.repository().clone(), tag));
    }
    let runtime = credentials::runtime(2)?;
    let client = credentials::client(&registry_files::resolved(&request.registries)?, &plugins, runtime.handle())?;
    let full = |(repository, tag): &(Repository, Tag)| Reference::tagged(repository.clone(), tag.clone()).familiar();
    let names: Vec<String> = targets.iter().map(full).collect();
    let joiner = Joiner { client, runtime: runtime.handle().clone(), plugins, stop: stop.clone() };
    let work = Talk::new(observer.clone()).begin(Kind::Push, format!("joining {} images", request.sources.len()));
    let made = joiner.make(request, &targets, &work);
    work.end(match &made {
        Ok(_) => Ending::Done,
        Err(_) if stop.is_stopped() => Ending::Stopped,
        Err(error) => Ending::Failed(crate::chain(error)),
    });
    runtime.shutdown_background();
    let (digest, json) = made?;
    Ok(CreatedIndex { digest, json, names })
}

struct Joiner {
    client: Client,
    runtime: Handle,
    plugins: Arc<PluginHost>,
    stop: Stop,
}

impl Joiner {
    fn make(
        &self,
        request: &IndexRequest,
        targets: &[(Repository, Tag)],
        work: &Work,
    ) -> Result<(Digest, Vec<u8>), BuildError> {
        let (mut entries, mut annotations) = (Vec::new(), BTreeMap::new());
        for text in &request.sources {
            let reference = reference(text, targets)?;
            let failed = |source| IndexError::Source { name: text.clone(), source };
            let (found, of_index) = self.entries(&reference).map_err(failed)?;
            annotations.extend(of_index);
            for entry in found {
                add(&mut entries, entry)?;
            }
        }
        if let Some((repository, tag)) = targets.first().filter(|_| request.append) {
            let reference = Reference::tagged(repository.clone(), tag.clone());
            let failed = |source| IndexError::Source { name: reference.familiar(), source };
            let (found, of_index) = self.entries(&reference).map_err(failed)?;
            annotations = of_index.into_iter().chain(annotations).collect();
            entries = kept(found, &entries).into_iter().chain(entries).collect();
        }
        let is_docker = |entry: &Entry| matches!(entry.descriptor.media_type, MediaType::Manifest(Family::Docker));
        let family = if entries.iter().all(is_docker) { Family::Docker } else { Family::Oci };
        let descriptor = |entry: &Entry| {
            let mut descriptor = entry.descriptor.clone();
            let platform = descriptor.platform.as_ref();
            let new = annotations::at(&request.annotations, AnnotationLevel::ManifestDescriptor, platform);
            descriptor.annotations.extend(new);
            descriptor
        };
        let mut index = Index::new(family, entries.iter().map(descriptor).collect());
        annotations.extend(annotations::at(&request.annotations, AnnotationLevel::Index, None));
        // Docker's lists have none (image manifest version 2, schema 2).
        if family == Family::Oci {
            index.annotations = annotations;
        }
        let json = index.to_json();
        let root = index.descriptor();
        if !request.dry_run {
            self.send(&entries, &root, &json, targets, work)?;
        }
        Ok((root.digest, json))
    }

    /// What a source adds, with the annotations of the index if it is one.
    fn entries(&self, reference: &Reference) -> Result<(Vec<Entry>, BTreeMap<String, String>), ImageFailure> {
        let host = reference.host().to_string();
        if !self.plugins.policy().may_pull(&host) {
            return Err(ImageFailure::Forbidden(host));
        }
        let from = reference.repository();
        let found = self.runtime.block_on(self.client.resolve(reference))?;
        let media_type = MediaType::from(found.media_type.as_str());
        match Document::parse(&found.bytes, Some(&media_type))? {
            Document::Index(index) => {
                let entry = |descriptor| Entry { descriptor, from: from.clone() };
                Ok((index.manifests.into_iter().map(entry).collect(), index.annotations))
            }
            Document::Manifest(manifest) => {
                manifest.check_is_image()?;
                let config = &manifest.config;
                let fetched = self.client.fetch_blob(from, config.digest, config.size, CONFIG_LIMIT_BYTES);
                let config = ImageConfig::parse(&self.runtime.block_on(fetched)?)?;
                let descriptor = Descriptor {
                    platform: Some(config.platform()),
                    ..Descriptor::new(media_type, found.digest, found.bytes.len() as u64)
                };
                Ok((vec![Entry { descriptor, from: from.clone() }], BTreeMap::new()))
            }
        }
    }

    /// All repositories get everything before any tag moves.
    fn send(
        &self,
        entries: &[Entry],
        root: &Descriptor,
        json: &[u8],
        targets: &[(Repository, Tag)],
        work: &Work,
    ) -> Result<(), BuildError> {
        let repositories: BTreeSet<&Repository> = targets.iter().map(|(repository, _)| repository).collect();
        for repository in repositories {
            for entry in entries.iter().filter(|entry| entry.from != *repository) {
                self.copy(entry, repository, work)?;
            }
            self.put(repository, &ManifestName::Digest, root, Bytes::copy_from_slice(json))?;
        }
        for (repository, tag) in targets {
            self.put(repository, &ManifestName::Tag(tag.clone()), root, Bytes::copy_from_slice(json))?;
        }
        Ok(())
    }

    fn put(
        &self,
        repository: &Repository,
        name: &ManifestName,
        descriptor: &Descriptor,
        bytes: Bytes,
    ) -> Result<(), BuildError> {
        if self.stop.is_stopped() {
            return Err(BuildError::Stopped);
        }
        let put = put_manifest(&self.client, &self.runtime, repository, name, descriptor, bytes);
        put.map_err(|source| BuildError::Push { destination: repository.familiar(), source })
    }

    /// Brings an image into another repository.
    fn copy(&self, entry: &Entry, to: &Repository, work: &Work) -> Result<(), BuildError> {
        let descriptor = &entry.descriptor;
        let reference = Reference::by_digest(entry.from.clone(), descriptor.digest);
        let failed = |source| IndexError::Source { name: reference.familiar(), source };
        let found = self.runtime.block_on(self.client.resolve(&reference)).map_err(|error| failed(error.into()))?;
        let document = Document::parse(&found.bytes, Some(&descriptor.media_type));
        let Document::Manifest(manifest) = document.map_err(|error| failed(error.into()))? else {
            return Err(BuildError::NestedIndex(descriptor.digest));
        };
        for blob in blobs(&manifest) {
            if self.stop.is_stopped() {
                return Err(BuildError::Stopped);
            }
            let upload = BlobUpload {
                digest: blob.digest,
                size_bytes: blob.size,
                source: Arc::new(ElsewhereBlob {
                    client: self.client.clone(),
                    runtime: self.runtime.clone(),
                    repository: entry.from.clone(),
                    blob: blob.clone(),
                }),
                mount_from: vec![entry.from.clone()],
                progress: None,
            };
            let outcome = self.runtime.block_on(self.client.push_blob(to, &upload));
            let outcome = outcome.map_err(|source| BuildError::Push { destination: to.familiar(), source })?;
            let (digest, size_bytes, transfer) = (blob.digest, blob.size, transfer(&outcome));
            work.event(|vertex| Event::Transferred { vertex, digest, size_bytes, transfer });
        }
        self.put(to, &ManifestName::Digest, descriptor, found.bytes)
    }
}

fn reference(text: &str, targets: &[(Repository, Tag)]) -> Result<Reference, BuildError> {
    match text.parse::<Digest>() {
        Ok(digest) => match targets.first() {
            Some((repository, _)) => Ok(Reference::by_digest(repository.clone(), digest)),
            None => Err(IndexError::NoRepository(text.to_owned()).into()),
        },
        Err(_) => Ok(text.parse()?),
    }
}

/// Adds an entry, unless the same image is there already.
fn add(entries: &mut Vec<Entry>, entry: Entry) -> Result<(), IndexError> {
    let platform = entry.descriptor.platform.as_ref().filter(|platform| platform.os != "unknown");
    for known in entries.iter() {
        if known.descriptor.digest == entry.descriptor.digest && known.descriptor.platform == entry.descriptor.platform
        {
            return Ok(());
        }
        if let Some(platform) = platform.filter(|platform| known.descriptor.platform.as_ref() == Some(platform)) {
            return Err(IndexError::SamePlatform {
                platform: platform.clone(),
                first: known.descriptor.digest,
                second: entry.descriptor.digest,
            });
        }
    }
    entries.push(entry);
    Ok(())
}

/// What stays of an index when entries are added: what is for other platforms, and what is said about that.
fn kept(old: Vec<Entry>, new: &[Entry]) -> Vec<Entry> {
    let is_replaced = |entry: &Entry| {
        new.iter().any(|new| {
            new.descriptor.digest == entry.descriptor.digest
                || (new.descriptor.platform == entry.descriptor.platform
                    && entry.descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown"))
        })
    };
    let gone: Vec<String> =
        old.iter().filter(|entry| is_replaced(entry)).map(|entry| entry.descriptor.digest.to_string()).collect();
    let is_about_gone =
        |entry: &Entry| entry.descriptor.annotations.get(REFERENCE_DIGEST).is_some_and(|about| gone.contains(about));
    old.into_iter().filter(|entry| !is_replaced(entry) && !is_about_gone(entry)).collect()
}

/// Configuration and layers, each once.
fn blobs(manifest: &Manifest) -> Vec<&Descriptor> {
    let all = std::iter::once(&manifest.config).chain(&manifest.layers);
    all.map(|blob| (blob.digest, blob)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// A blob of another repository.
struct ElsewhereBlob {
    client: Client,
    runtime: Handle,
    repository: Repository,
    blob: Descriptor,
}

impl BlobSource for ElsewhereBlob {
    fn open_at(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let opening = self.client.open_blob(&self.repository, self.blob.digest, self.blob.size);
        let stream = self.runtime.block_on(opening).map_err(io::Error::other)?;
        let _inside = self.runtime.enter();
        let mut reader = stream.into_reader();
        // Read, not passed over: the digest is checked.
        io::copy(&mut (&mut reader).take(offset_bytes), &mut io::sink())?;
        Ok(Box::new(reader))
    }
}
