//! Images that stages are based on or copy from: found in a registry, in an OCI layout, or in the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_digest::Digest;
use cofferdam_image::{
    Descriptor, Document, ImageConfig, ImageError, LayerBlob, LayoutReference, Manifest, MediaType, OciLayout, Store,
    StoreError,
};
use cofferdam_plan::{Config, ImageFacts, ImageName, Platform, step::KeyValue};
use cofferdam_plugin_host::PluginHost;
use cofferdam_registry::{
    Client, Mirrors, RateLimit, Reference, ReferenceError, RegistryError, RegistryHost, Repository,
};
use tokio::runtime::Handle;

use crate::{
    base_cache::{self, CachedImage},
    download::Download,
    events::{Ending, Kind},
    layers::{BlobOrigin, LayerFailure, LayerFiles, StageLayer},
    registry_origin::RegistryOrigin,
    request::BaseImageCache,
    work::Talk,
};

/// Configurations of images are not larger, in bytes.
pub const CONFIG_LIMIT_BYTES: u64 = 4 << 20;

/// An image with its layers, nothing of which needs to be here yet.
pub struct Image {
    /// Of the platform's manifest.
    pub digest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// The base is first.
    pub layers: Vec<Arc<StageLayer>>,
    /// What is told of fetching them; `None` where they are at hand.
    download: Option<Arc<Download>>,
}

/// An image can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageFailure {
    /// Its name is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its documents.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The layout or the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An index and the manifest that it names contradict each other.
    #[error("manifest {digest} has {actual} bytes, but the index of the image says {expected}")]
    Size {
        /// Of the manifest.
        digest: Digest,
        /// As the index has it, in bytes.
        expected: u64,
        /// What it has, in bytes.
        actual: u64,
    },
    /// It is for another platform, and there is no index to choose from.
    #[error("no image for {wanted}; there is {own}")]
    OtherPlatform {
        /// What it is for.
        own: Platform,
        /// What was asked for.
        wanted: Platform,
    },
    /// The operator's policy.
    #[error("the operator's policy does not allow to pull from `{0}`")]
    Forbidden(String),
}

impl ImageFailure {
    /// What to do about it, where that is known and the message does not say it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.remedy(),
            Self::Store(error) => error.remedy().map(str::to_owned),
            Self::Forbidden(host) => {
                Some(format!("the operator's policy can allow it: [registries] pull = [\"{host}\"]"))
            }
            Self::Size { .. } | Self::Image(ImageError::Json { .. } | ImageError::Invalid { .. }) => {
                Some("the image is damaged, or is none: push it again, or use another one".to_owned())
            }
            Self::OtherPlatform { own, .. } => Some(format!(
                "build for the platforms of the image only, or say that the stage is for {own} (FROM --platform={own})"
            )),
            Self::Reference(_) | Self::Image(_) => None,
        }
    }
}

/// A manifest or index: type, digest, bytes.
type Fetched = (MediaType, Digest, Vec<u8>);

/// What a named context stands for, if it is an image.
#[derive(Debug, Clone)]
pub enum NamedImage {
    /// `docker-image://REF`.
    Registry(String),
    /// `oci-layout://DIR[:TAG]`.
    Layout(LayoutReference),
}

/// Finds images.
pub struct Images {
    /// For registries.
    pub client: Client,
    /// Of the runtime that the client needs.
    pub runtime: Handle,
    /// For layers.
    pub files: Arc<LayerFiles>,
    /// `--build-context` with images.
    pub named: BTreeMap<String, NamedImage>,
    /// Where images of a registry are looked for instead, or first.
    pub mirrors: Mirrors,
    /// Registries that were told to give few images more.
    pub told_limits: Mutex<BTreeSet<RegistryHost>>,
    /// For the operator's policy.
    pub plugins: Arc<PluginHost>,
    /// Where images are that were fetched ahead.
    pub cache: Option<BaseImageCache>,
    /// Who watches.
    pub talk: Talk,
}

impl Images {
    /// Looks for images in registries alone.
    pub fn new(
        client: Client,
        runtime: Handle,
        files: Arc<LayerFiles>,
        mirrors: Mirrors,
        plugins: &Arc<PluginHost>,
        talk: Talk,
    ) -> Self {
        Self {
            client,
            runtime,
            files,
            named: BTreeMap::new(),
            mirrors,
            told_limits: Mutex::default(),
            plugins: plugins.clone(),
            cache: None,
            talk,
        }
    }

    /// The image of a name; its manifest and configuration are fetched and verified, its layers are not.
    ///
    /// # Errors
    /// It does not exist, has no image for the platform, can't be reached, or is damaged.
    pub fn find(&self, name: &ImageName) -> Result<Image, ImageFailure> {
        match self.named.get(&name.name) {
            Some(NamedImage::Registry(reference)) => self.in_registry(reference, name),
            Some(NamedImage::Layout(reference)) => self.in_layout(reference, name),
            None => self.in_registry(&name.name, name),
        }
    }

    fn in_registry(&self, reference: &str, name: &ImageName) -> Result<Image, ImageFailure> {
        let mut meanings = self.mirrors.meanings(reference)?;
        let last = meanings.pop().ok_or(ReferenceError::Empty)?;
        for meaning in meanings {
            match self.in_places(&meaning, name) {
                Err(ImageFailure::Registry(
                    RegistryError::NotFound { .. } | RegistryError::Unauthorized { .. } | RegistryError::Denied { .. },
                )) => {}
                found => return found,
            }
        }
        self.in_places(&last, name)
    }

    fn in_places(&self, reference: &Reference, name: &ImageName) -> Result<Image, ImageFailure> {
        let (first, last) = self.mirrors.places(reference)?;
        for place in first {
            match self.at(&place, name) {
                Ok(image) => return Ok(image),
                // A mirror need not have everything, nor be there.
                Err(error) => {
                    let text = format!("{} is not used: {}", place.familiar(), crate::chain(&error));
                    self.talk.warn(text);
                }
            }
        }
        self.at(&last, name)
    }

    fn at(&self, reference: &Reference, name: &ImageName) -> Result<Image, ImageFailure> {
        let host = reference.host().to_string();
        if !self.plugins.policy().may_pull(&host) {
            return Err(ImageFailure::Forbidden(host));
        }
        let work = self.talk.begin(Kind::LookUp, format!("looking up {}", reference.familiar()));
        let found = self.look_up(reference, name);
        work.end(match &found {
            Ok(_) => Ending::Done,
            Err(error) => Ending::Failed(error.to_string()),
        });
        found
    }

    /// Warns, once for each registry.
    fn tell_limit(&self, registry: &RegistryHost, limit: Option<RateLimit>) {
        let Some(limit) = limit.filter(RateLimit::is_near) else { return };
        if self.told_limits.lock().unwrap_or_else(PoisonError::into_inner).insert(registry.clone()) {
            let text =
                format!("`{registry}` limits how many images may be pulled: {limit}; log in for more, or use a mirror");
            self.talk.warn(text);
        }
    }

    fn look_up(&self, reference: &Reference, name: &ImageName) -> Result<Image, ImageFailure> {
        let store = &self.files.store;
        // A digest never means anything else, so what was fetched once need not be asked for again.
        let fetch = |reference: &Reference| -> Result<Fetched, ImageFailure> {
            if let Some(digest) = reference.digest() {
                if let Some(known) = stored_document(store, &digest)? {
                    return Ok(known);
                }
                if let Some(bytes) = self.fetched_ahead(&digest).and_then(|image| image.manifest()) {
                    let media_type = document_type(&bytes).ok_or_else(nested_index)?;
                    store.put_document(media_type.clone(), &bytes)?;
                    return Ok((media_type, digest, bytes));
                }
            }
            let manifest = self.runtime.block_on(self.client.resolve(reference))?;
            self.tell_limit(reference.host(), manifest.rate_limit);
            let media_type = MediaType::from(manifest.media_type.as_str());
            store.put_document(media_type.clone(), &manifest.bytes)?;
            Ok((media_type, manifest.digest, manifest.bytes.to_vec()))
        };
        let (media_type, mut digest, bytes) = fetch(reference)?;
        let manifest = match Document::parse(&bytes, Some(&media_type))? {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                let chosen = index.select(&name.platform)?.clone();
                let (media_type, chosen_digest, bytes) = fetch(&reference.with_digest(chosen.digest))?;
                if bytes.len() as u64 != chosen.size {
                    let (expected, actual) = (chosen.size, bytes.len() as u64);
                    return Err(ImageFailure::Size { digest: chosen.digest, expected, actual });
                }
                digest = chosen_digest;
                match Document::parse(&bytes, Some(&media_type))? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(_) => return Err(nested_index()),
                }
            }
        };
        let config = &manifest.config;
        let ahead = self.fetched_ahead(&digest);
        let config_bytes = match store.has_blob(&config.digest, Some(config.size)) {
            true => store.read_document(config).map(Some).or_else(|error| match error {
                // What a power failure left is fetched again.
                StoreError::Damaged { .. } => Ok(None),
                error => Err(error),
            })?,
            false => None,
        };
        let known = config_bytes.or_else(|| ahead.as_ref()?.config(config));
        let config_bytes = match known {
            Some(bytes) => {
                store.put_document(config.media_type.clone(), &bytes)?;
                bytes
            }
            None => {
                let fetched =
                    self.client.fetch_blob(reference.repository(), config.digest, config.size, CONFIG_LIMIT_BYTES);
                let bytes = self.runtime.block_on(fetched)?;
                store.put_document(config.media_type.clone(), &bytes)?;
                bytes.to_vec()
            }
        };
        let layers = manifest.layers.iter().map(|layer| (layer.digest, layer.size)).collect();
        let download = Download::new(self.talk.clone(), reference.familiar(), store.clone(), layers);
        let origin = RegistryOrigin {
            client: self.client.clone(),
            runtime: self.runtime.clone(),
            repository: reference.repository().clone(),
            download: Arc::new(download),
        };
        let download = origin.download.clone();
        let origin = base_cache::origin(ahead, &manifest, origin, &self.talk);
        let image = self.image(digest, &manifest, &config_bytes, origin)?;
        Ok(Image { download: Some(download), ..image })
    }

    /// An image that was fetched ahead, if there is such a cache.
    fn fetched_ahead(&self, digest: &Digest) -> Option<CachedImage> {
        self.cache.as_ref()?.find(digest)
    }

    fn in_layout(&self, reference: &LayoutReference, name: &ImageName) -> Result<Image, ImageFailure> {
        let layout = OciLayout::open(&reference.directory)?;
        let mut descriptor = layout.resolve(&reference.selector)?.clone();
        let mut levels = 0;
        let manifest = loop {
            let bytes = layout.read_document(&descriptor)?;
            match Document::parse(&bytes, Some(&descriptor.media_type))? {
                Document::Manifest(manifest) => break manifest,
                Document::Index(index) => descriptor = index.select(&name.platform)?.clone(),
            }
            levels += 1;
            if levels > 2 {
                return Err(nested_index());
            }
        };
        let config = layout.read_document(&manifest.config)?;
        let digest = descriptor.digest;
        self.image(digest, &manifest, &config, Arc::new(LayoutOrigin { layout, manifest: manifest.clone() }))
    }

    fn image(
        &self,
        digest: Digest,
        manifest: &Manifest,
        config: &[u8],
        origin: Arc<dyn BlobOrigin>,
    ) -> Result<Image, ImageFailure> {
        manifest.check_is_image()?;
        let config = ImageConfig::parse(config)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let why = format!("lists {} layers, its manifest {}", diff_ids.len(), manifest.layers.len());
            return Err(ImageError::Invalid { what: "the image's configuration".to_owned(), why }.into());
        }
        let mut layers: Vec<Arc<StageLayer>> = Vec::with_capacity(diff_ids.len());
        for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let blob = layer_blob(descriptor, *diff_id)?;
            let layer = StageLayer::remote(blob, origin.clone(), self.files.clone(), layers.clone());
            layers.push(Arc::new(layer));
        }
        Ok(Image { digest, layers, config, download: None })
    }
}

impl Image {
    /// What it is for, if that is not what was asked for.
    pub fn other_platform(&self, asked: &ImageName) -> Option<Platform> {
        let own = self.config.platform();
        (!own.satisfies(&asked.platform)).then_some(own)
    }

    /// What a plan must know.
    pub fn facts(&self) -> ImageFacts {
        ImageFacts { digest: self.digest, config: plan_config(&self.config), platform: self.platform() }
    }

    /// What the image says that it is for, if it says so.
    fn platform(&self) -> Option<Platform> {
        let ImageConfig { os, architecture, variant, .. } = &self.config;
        let said = !os.is_empty() && !architecture.is_empty();
        said.then(|| Platform::new(os, architecture, variant.as_deref()))
    }

    /// Ends the talk about fetching layers, if there was any.
    pub fn end_download(&self, ending: Ending) {
        if let Some(download) = &self.download {
            download.end(ending);
        }
    }
}

/// The configuration in the plan's words.
pub fn plan_config(image: &ImageConfig) -> Config {
    let config = &image.config;
    let mut plan = Config::default();
    plan.environment =
        config.variables().map(|(key, value)| KeyValue { key: key.to_owned(), value: value.to_owned() }).collect();
    plan.labels = config.labels.clone();
    plan.exposed_ports = config.exposed_ports.keys().cloned().collect();
    plan.volumes = config.volumes.keys().cloned().collect();
    plan.user = config.user.clone();
    plan.working_directory = config.working_dir.clone();
    plan.command = config.cmd.clone();
    plan.command_shell_form = config.args_escaped;
    plan.entrypoint = config.entrypoint.clone();
    plan.shell = config.shell.clone();
    plan.stop_signal = config.stop_signal.clone();
    plan.healthcheck = config.healthcheck.as_ref().map(|check| cofferdam_plan::step::Healthcheck {
        test: check.test.clone(),
        interval_ns: u64::try_from(check.interval).unwrap_or_default(),
        timeout_ns: u64::try_from(check.timeout).unwrap_or_default(),
        start_period_ns: u64::try_from(check.start_period).unwrap_or_default(),
        start_interval_ns: u64::try_from(check.start_interval).unwrap_or_default(),
        retries: u32::try_from(check.retries).unwrap_or_default(),
    });
    plan.on_build = config.on_build.clone();
    plan.author = image.author.clone();
    plan
}

fn nested_index() -> ImageFailure {
    let why = "leads to an index that leads to another index".to_owned();
    ImageError::Invalid { what: "the index".to_owned(), why }.into()
}

/// A layer as a manifest and a configuration describe it.
fn layer_blob(descriptor: &Descriptor, diff_id: Digest) -> Result<LayerBlob, ImageError> {
    match &descriptor.media_type {
        MediaType::Layer(_, compression) => {
            Ok(LayerBlob { diff_id, digest: descriptor.digest, size: descriptor.size, compression: *compression })
        }
        other => Err(ImageError::Invalid {
            what: format!("layer {}", descriptor.digest),
            why: format!("is of type `{other}`, which is no layer"),
        }),
    }
}

/// A manifest or index that an earlier build fetched.
fn stored_document(store: &Store, digest: &Digest) -> Result<Option<Fetched>, ImageFailure> {
    let Ok(mut file) = store.open_blob(digest) else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = (&mut file).take(CONFIG_LIMIT_BYTES + 1).read_to_end(&mut bytes);
    if read.is_err() || Digest::of(&bytes) != *digest {
        return Ok(None);
    }
    Ok(document_type(&bytes).map(|media_type| (media_type, *digest, bytes)))
}

/// The type of a document of which nobody keeps the one under which it was served: it says it itself, or is OCI's.
fn document_type(bytes: &[u8]) -> Option<MediaType> {
    match Document::parse(bytes, None).ok()? {
        Document::Manifest(manifest) => Some(manifest.media_type),
        Document::Index(index) => Some(index.media_type),
    }
}

struct LayoutOrigin {
    layout: OciLayout,
    manifest: Manifest,
}

impl BlobOrigin for LayoutOrigin {
    fn open(&self, blob: &LayerBlob) -> Result<Box<dyn Read + Send>, LayerFailure> {
        let descriptor = self.manifest.layers.iter().find(|descriptor| descriptor.digest == blob.digest);
        let missing = || StoreError::Missing { digest: blob.digest, store: PathBuf::from("the OCI layout") };
        let descriptor = descriptor.ok_or_else(missing)?;
        Ok(Box::new(self.layout.open_blob(descriptor)?))
    }

    fn repository(&self) -> Option<&Repository> {
        None
    }
}
