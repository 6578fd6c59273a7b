//! What ADD names beside the context: files behind URLs and git repositories, fetched once for a build.
//!
//! A file stays in the store, with what its server said of its version: the next build asks whether it changed, and gets an
//! answer without a body if it did not.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use cofferdam_context::{
    Basic, Download, FetchError, FetchedFile, GitSource, Remote, Requested, Validators, download, fetch_git,
};
use cofferdam_digest::Digest;
use cofferdam_image::Store;
use cofferdam_plan::key::KeyHasher;
use cofferdam_rootfs::{ConfinedDir, DirectoryTree, Owner, Timestamp, Tree};
use serde::{Deserialize, Serialize};

use crate::work::Talk;

/// The secret that is a token for a git server: with the server's host behind a dot, as BuildKit has it.
const TOKEN_SECRET: &str = "GIT_AUTH_TOKEN.";

/// The user that goes with a token.
const TOKEN_USER: &str = "x-access-token";

/// A tree that was fetched.
pub struct FetchedTree {
    pub tree: Arc<dyn Tree>,
    /// What the tree's entries do not say and the image may show: time or commit.
    pub version: String,
    /// The commit, for a repository.
    pub revision: Option<String>,
    /// Of the content, for a file.
    pub digest: Option<Digest>,
}

type Outcome = Result<Arc<FetchedTree>, Arc<FetchError>>;

/// Had once, by whoever asks first.
type Once = Arc<OnceLock<Outcome>>;

/// The sources that were fetched so far.
pub struct Fetched {
    remote: Remote,
    store: Store,
    talk: Talk,
    tokens: BTreeMap<String, Basic>,
    outcomes: Mutex<BTreeMap<(Kind, String), Once>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Url,
    Git,
}

impl Fetched {
    /// Nothing yet. Secrets called `GIT_AUTH_TOKEN.HOST` are tokens for that host.
    pub fn new(remote: Remote, store: Store, talk: Talk, secrets: &BTreeMap<String, Vec<u8>>) -> Self {
        let token = |(id, value): (&String, &Vec<u8>)| {
            let host = id.strip_prefix(TOKEN_SECRET).filter(|host| !host.is_empty())?;
            let password = String::from_utf8(value.clone()).ok()?.trim().to_owned();
            Some((host.to_ascii_lowercase(), Basic { username: TOKEN_USER.to_owned(), password }))
        };
        let tokens = secrets.iter().filter_map(token).collect();
        Self { remote, store, talk, tokens, outcomes: Mutex::default() }
    }

    /// The file behind a URL.
    ///
    /// # Errors
    /// It can't be fetched; every caller of one build hears the same.
    pub fn url(&self, url: &str) -> Outcome {
        self.once(Kind::Url, url, || self.file(url))
    }

    /// A git repository.
    ///
    /// # Errors
    /// As [`Fetched::url`].
    pub fn git(&self, url: &str) -> Outcome {
        self.once(Kind::Git, url, || {
            let source = GitSource::parse(url)?;
            let host = source.url.host_str().unwrap_or_default();
            let with_port = source.url.port().map(|port| format!("{host}:{port}"));
            let token = with_port.and_then(|host| self.tokens.get(&host)).or_else(|| self.tokens.get(host));
            let fetched = fetch_git(&self.remote, &source, token)?;
            for warning in fetched.warnings {
                self.talk.warn(warning);
            }
            let top = ConfinedDir::open(&fetched.directory)
                .map_err(|error| storage("open what was fetched")(io::Error::other(error)))?;
            let tree = DirectoryTree::new(Arc::new(top)).owned_by(Owner { uid: 0, gid: 0 });
            let commit = fetched.facts.commit;
            Ok(FetchedTree { tree: Arc::new(tree), version: commit.clone(), revision: Some(commit), digest: None })
        })
    }

    fn once(&self, kind: Kind, url: &str, fetch: impl FnOnce() -> Result<FetchedTree, FetchError>) -> Outcome {
        let cell = {
            let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes.entry((kind, url.to_owned())).or_default().clone()
        };
        cell.get_or_init(|| fetch().map(Arc::new).map_err(Arc::new)).clone()
    }

    fn file(&self, url: &str) -> Result<FetchedTree, FetchError> {
        let known = self.record(url);
        let validators = known.as_ref().map(Record::validators);
        let record = match download(&self.remote, url, validators.as_ref())? {
            Requested::Unchanged => {
                known.ok_or_else(|| storage("find what was fetched")(io::ErrorKind::NotFound.into()))?
            }
            Requested::Coming(coming) => self.receive(url, *coming)?,
        };
        let seconds = record.validators().last_modified_seconds();
        let mtime = Timestamp { seconds: seconds.unwrap_or_default(), nanoseconds: 0 };
        let path = self.store.blob_path(&record.digest);
        let tree = FetchedFile::new(path, record.size_bytes, mtime);
        Ok(FetchedTree {
            tree: Arc::new(tree),
            version: mtime.seconds.to_string(),
            revision: None,
            digest: Some(record.digest),
        })
    }

    fn receive(&self, url: &str, mut coming: Download) -> Result<Record, FetchError> {
        let failed = |error| storage("write what is fetched")(io::Error::other(error));
        let mut blob = self.store.blob_writer().map_err(failed)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let length = coming.read(&mut buffer).map_err(|error| {
                let reading = storage("read what is fetched");
                error.downcast::<FetchError>().unwrap_or_else(reading)
            })?;
            if length == 0 {
                break;
            }
            io::Write::write_all(&mut blob, &buffer[..length]).map_err(storage("write what is fetched"))?;
        }
        let info = blob.commit(None).map_err(failed)?;
        let Validators { etag, last_modified } = coming.validators().clone();
        let record = Record { url: coming.shown(), etag, last_modified, digest: info.digest, size_bytes: info.size };
        // Without a record the next build fetches again: no reason to fail.
        if let Ok(text) = serde_json::to_vec(&record) {
            let _ = self.store.write_atomically(&self.record_path(url), &text);
        }
        Ok(record)
    }

    fn record(&self, url: &str) -> Option<Record> {
        let file = self.store.open_own_file(&self.record_path(url)).ok()??;
        let mut text = Vec::new();
        file.take(RECORD_LIMIT_BYTES).read_to_end(&mut text).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let is_there = self.store.has_blob(&record.digest, Some(record.size_bytes));
        let can_be_asked = record.etag.is_some() || record.last_modified.is_some();
        (is_there && can_be_asked).then_some(record)
    }

    fn record_path(&self, url: &str) -> PathBuf {
        let mut hasher = KeyHasher::new("fetched-url");
        hasher.part(url);
        self.store.cache_directory().join(format!("url-{}.json", hasher.finish().hex()))
    }
}

/// A record is not larger.
const RECORD_LIMIT_BYTES: u64 = 64 << 10;

/// What is known of a file that an earlier build fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Record {
    /// For people.
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    digest: Digest,
    size_bytes: u64,
}

/// The blob that a record of a download names; `None` if it is none.
pub fn blob_of_record(path: &Path) -> Option<Digest> {
    let text = cofferdam_rootfs::read_named_file(path, RECORD_LIMIT_BYTES).ok()??;
    serde_json::from_slice::<Record>(&text).ok().map(|record| record.digest)
}

impl Record {
    fn validators(&self) -> Validators {
        Validators { etag: self.etag.clone(), last_modified: self.last_modified.clone() }
    }
}

fn storage(action: &str) -> impl Fn(io::Error) -> FetchError + '_ {
    move |source| FetchError::Storage { action: action.to_owned(), source }
}
