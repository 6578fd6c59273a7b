//! A cache that is an object of a bucket: of S3's, or of a store that speaks like it.

use std::{io::Read, sync::Arc};

use cofferdam_cache::{CacheDocument, DOCUMENT_LIMIT_BYTES};
use cofferdam_context::{Bucket, FetchError};
use cofferdam_digest::{Digest, VerifyingReader};
use cofferdam_image::LayerBlob;
use cofferdam_registry::Repository;
use tokio::task::JoinHandle;

use super::place::{CachePlace, FoundCache, Means};
use crate::{
    chain,
    download::Download,
    layers::{BlobOrigin, LayerFailure, StageLayer},
    request::BucketCache,
};

/// Keys of a bucket.
pub struct BucketPlace {
    cache: BucketCache,
    bucket: Result<Arc<Bucket>, String>,
    /// As it is asked first; the bucket may turn out to be in another region.
    server: String,
    means: Means,
}

impl BucketPlace {
    /// Nothing is asked yet.
    pub fn new(cache: BucketCache, means: Means) -> Self {
        let bucket = Bucket::new(&cache.bucket, cache.cloud.clone(), &means.remote);
        let server = bucket.as_ref().map(Bucket::host).unwrap_or_default();
        Self { cache, bucket: bucket.map(Arc::new).map_err(|error| chain(&error)), server, means }
    }

    /// The bucket, if it can be asked and the operator lets it be.
    fn bucket(&self, to_write: bool) -> Result<&Arc<Bucket>, String> {
        let bucket = self.bucket.as_ref().map_err(Clone::clone)?;
        let host = bucket.host();
        let policy = self.means.plugins.policy();
        let (may, what) =
            if to_write { (policy.may_push(&host), "push to") } else { (policy.may_pull(&host), "pull from") };
        match may {
            true => Ok(bucket),
            false => Err(format!("the operator's policy does not allow to {what} `{host}`")),
        }
    }

    /// What a place in the bucket is called; those of two servers have two names.
    fn called(&self, key: &str) -> String {
        format!("s3://{}/{key} ({})", self.cache.bucket, self.server)
    }
}

impl CachePlace for BucketPlace {
    fn name(&self) -> String {
        self.called(&self.cache.document)
    }

    fn shelf(&self) -> String {
        self.called(&self.cache.layers)
    }

    fn read(&self) -> Result<Option<FoundCache>, String> {
        let Some(from) = self.bucket(false)?.open(&self.cache.document).map_err(|error| chain(&error))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        from.take(DOCUMENT_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(|error| chain(&error))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT_BYTES {
            return Err(format!("it has more than {DOCUMENT_LIMIT_BYTES} bytes, and is no cache of ours"));
        }
        let document = CacheDocument::parse(&bytes).map_err(|error| error.to_string())?;
        Ok(Some(FoundCache { document, is_inline: false }))
    }

    fn origin(&self, download: Arc<Download>) -> Arc<dyn BlobOrigin> {
        Arc::new(BucketOrigin { bucket: self.bucket.clone(), layers: self.cache.layers.clone(), download })
    }

    fn send(&self, layer: Arc<StageLayer>) -> JoinHandle<Result<(), String>> {
        let (bucket, store) = (self.bucket(true).cloned(), self.means.files.store.clone());
        let key = key(&self.cache.layers, &layer.blob().digest);
        self.means.runtime.spawn_blocking(move || {
            let (bucket, blob) = (bucket?, layer.blob());
            if bucket.size(&key).map_err(|error| chain(&error))? == Some(blob.size) {
                return Ok(());
            }
            layer.fetch().map_err(|error| chain(&error))?;
            let from = store.open_blob(&blob.digest).map_err(|error| chain(&error))?;
            bucket.put(&key, from).map_err(|error| chain(&error))
        })
    }

    fn write(&self, document: &CacheDocument) -> Result<(), String> {
        let put = self.bucket(true)?.put(&self.cache.document, document.to_json().as_slice());
        put.map_err(|error| chain(&error))
    }
}

/// A layer's key.
fn key(layers: &str, digest: &Digest) -> String {
    format!("{layers}{digest}")
}

/// Layers that are in a bucket.
struct BucketOrigin {
    bucket: Result<Arc<Bucket>, String>,
    layers: String,
    download: Arc<Download>,
}

impl BlobOrigin for BucketOrigin {
    fn open(&self, blob: &LayerBlob) -> Result<Box<dyn Read + Send>, LayerFailure> {
        let key = key(&self.layers, &blob.digest);
        let missing = |answer: String| {
            let remedy = "build without this cache".to_owned();
            LayerFailure::Bucket(FetchError::MissingObject { object: key.clone(), answer, remedy })
        };
        let bucket = self.bucket.as_ref().map_err(|why| missing(why.clone()))?;
        let from = bucket.open(&key).map_err(LayerFailure::Bucket)?;
        let from = from.ok_or_else(|| missing("it is gone from the bucket".to_owned()))?;
        Ok(Box::new(self.download.watch(blob, VerifyingReader::new(from, blob.digest, blob.size))))
    }

    fn repository(&self) -> Option<&Repository> {
        None
    }
}
