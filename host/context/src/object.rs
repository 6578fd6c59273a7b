//! Objects in the stores of clouds: Amazon's S3 and what speaks like it, Google Cloud Storage, Azure's blobs.

mod access;
mod azure;
mod bucket;
mod connector;
mod failure;
mod federation;
mod google;
mod kept;
mod profile;
mod reader;
mod s3;
mod service;
mod session;

use std::sync::Arc;

use object_store::{ObjectStore, multipart::MultipartStore, path::Path};
use url::Url;

pub use access::CloudAccess;
pub use bucket::Bucket;
pub(crate) use reader::ObjectReader;

use self::session::Session;
use crate::{FetchError, Remote, git::decoded, source::redacted};

/// What Kaniko takes where nothing but a bucket is named.
const DEFAULT_KEY: &str = "context.tar.gz";

/// The domains of Azure's clouds beneath which accounts have their blobs, as Kaniko knows them.
const AZURE_DOMAINS: [&str; 4] =
    ["blob.core.windows.net", "blob.core.chinacloudapi.cn", "blob.core.cloudapi.de", "blob.core.usgovcloudapi.net"];

/// An object, by the name that a person gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSource {
    pub(crate) place: Place,
    pub(crate) key: Path,
}

/// What holds an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    S3 { bucket: String },
    Google { bucket: String },
    Azure { account: String, domain: &'static str, container: String },
}

/// A store, ready to be asked.
#[derive(Clone)]
pub(crate) struct Opened {
    /// Of the server: `HOST` or `HOST:PORT`.
    pub(crate) host: String,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The same store, for objects that are sent in parts.
    pub(crate) parts: Arc<dyn MultipartStore>,
    pub(crate) credentials: Credentials,
    /// What requests are signed for, in S3.
    pub(crate) region: Option<String>,
}

/// Whose word counts at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// What this names.
    Given(&'static str),
    /// The identity of the machine or pod, if it has one.
    Machine,
    /// Nobody's: what anybody may read.
    None,
}

/// What was learned from the store's answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {
    /// The machine has no identity.
    pub(crate) no_machine: bool,
    /// Where the bucket is.
    pub(crate) region: Option<String>,
}

impl ObjectSource {
    /// Whether a text names an object. A URL of Azure's with a query is not one: the query is a signature, and the URL a file's.
    pub fn is_object(text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        lower.starts_with("s3://") || lower.starts_with("gs://") || azure_address(text).is_some()
    }

    /// `s3://BUCKET/KEY`, `gs://BUCKET/KEY` (without a key it is `context.tar.gz`, as Kaniko has it) or
    /// `https://ACCOUNT.blob.core.windows.net/CONTAINER/KEY`. In keys, `%XX` is the byte of that number, as Kaniko reads them.
    ///
    /// # Errors
    /// [`FetchError::Invalid`].
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        let invalid = |problem: &str| FetchError::Invalid { text: redacted(text), problem: problem.to_owned() };
        if let Some((account, domain, path)) = azure_address(text) {
            // A blob without a container is in the one that is called so ("Working with the root container").
            let (container, key) = path.split_once('/').unwrap_or(("$root", &path));
            let (container, key) = (container.to_owned(), checked(key, text)?);
            return Ok(Self { place: Place::Azure { account, domain, container }, key });
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_bucket(bucket) {
            return Err(invalid("names no bucket; write s3://BUCKET/KEY or gs://BUCKET/KEY"));
        }
        let key = if key.is_empty() { Path::from(DEFAULT_KEY) } else { checked(&decoded(key), text)? };
        let bucket = bucket.to_owned();
        match scheme.to_ascii_lowercase().as_str() {
            "s3" => Ok(Self { place: Place::S3 { bucket }, key }),
            "gs" => Ok(Self { place: Place::Google { bucket }, key }),
            _ => Err(invalid("is no object; write s3://BUCKET/KEY or gs://BUCKET/KEY")),
        }
    }

    /// How messages call it.
    pub fn shown(&self) -> String {
        let key = &self.key;
        match &self.place {
            Place::S3 { bucket } => format!("s3://{bucket}/{key}"),
            Place::Google { bucket } => format!("gs://{bucket}/{key}"),
            Place::Azure { account, domain, container } => format!("https://{account}.{domain}/{container}/{key}"),
        }
    }

    /// The object as it comes.
    pub(crate) fn open(&self, remote: &Remote) -> Result<ObjectReader, FetchError> {
        ObjectReader::open(Session::new(self.place.clone(), remote)?, self.key.clone(), self.shown())
    }
}

/// Letters, digits and `-._`, of which names of buckets are in either store.
fn is_bucket(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

impl Place {
    /// A bucket of S3's.
    fn s3(bucket: &str) -> Result<Self, FetchError> {
        match is_bucket(bucket) {
            true => Ok(Self::S3 { bucket: bucket.to_owned() }),
            false => Err(FetchError::Invalid { text: bucket.to_owned(), problem: "is no bucket's name".to_owned() }),
        }
    }

    /// The store that it is in, with whoever's credentials there are. Nothing is asked yet.
    pub(crate) fn store(&self, remote: &Remote, learned: &Learned) -> Result<Opened, FetchError> {
        match self {
            Self::S3 { bucket } => s3::store(bucket, remote, learned),
            Self::Google { bucket } => google::store(bucket, remote, learned),
            Self::Azure { account, domain, container } => azure::store(account, domain, container, remote, learned),
        }
    }
}

/// Account, domain, and what is behind the host, decoded.
fn azure_address(text: &str) -> Option<(String, &'static str, String)> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.query().is_none())?;
    let (account, domain) = url.host_str()?.split_once('.')?;
    let domain = AZURE_DOMAINS.into_iter().find(|known| *known == domain)?;
    Some((account.to_owned(), domain, decoded(url.path().trim_start_matches('/'))))
}

/// A key that the library can ask for as it is.
fn checked(key: &str, text: &str) -> Result<Path, FetchError> {
    let problem = match Path::parse(key) {
        Ok(path) if path.as_ref() == key && !key.is_empty() => return Ok(path),
        _ if key.is_empty() => "names no object in it; write the object's name behind the bucket or container",
        _ => {
            "has a name that can't be asked for: one with control characters, or with a part between slashes that is empty, `.` or `..`; give the object another name"
        }
    };
    Err(FetchError::Invalid { text: redacted(text), problem: problem.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_buckets_and_keys() {
        for (text, shown) in [
            ("s3://bucket/dir/x.tar.gz", "s3://bucket/dir/x.tar.gz"),
            ("S3://bucket/a%20b/ü.tar", "s3://bucket/a b/ü.tar"),
            ("s3://bucket", "s3://bucket/context.tar.gz"),
            ("s3://bucket/100%.tar", "s3://bucket/100%.tar"),
            ("gs://my_bucket.example/", "gs://my_bucket.example/context.tar.gz"),
            ("https://acc.blob.core.windows.net/c/d/k.tar", "https://acc.blob.core.windows.net/c/d/k.tar"),
            ("https://acc.blob.core.chinacloudapi.cn/k", "https://acc.blob.core.chinacloudapi.cn/$root/k"),
        ] {
            assert!(ObjectSource::is_object(text), "{text}");
            assert_eq!(ObjectSource::parse(text).unwrap().shown(), shown);
        }
    }

    #[test]
    fn what_is_no_object_is_told() {
        for text in ["s3://", "s3:///key", "s3://a b/key", "gs://b/a//b", "s3://b/../x", "s3://b/%0a", "s3://b/x/"] {
            assert!(matches!(ObjectSource::parse(text), Err(FetchError::Invalid { .. })), "{text}");
        }
        let nothing = ObjectSource::parse("https://acc.blob.core.windows.net/").unwrap_err().to_string();
        assert!(nothing.contains("names no object"), "{nothing}");
        for text in [
            "https://acc.blob.core.windows.net/c/k?sv=1&sig=secret",
            "https://blob.core.windows.net/c/k",
            "https://a.b.blob.core.windows.net/c/k",
            "https://acc.blob.core.windows.net.example/c/k",
            "http://acc.blob.core.windows.net/c/k",
            "bucket/key",
        ] {
            assert!(!ObjectSource::is_object(text), "{text}");
        }
    }
}
