//! Blobs on their way to a registry: asked for, mounted, or sent.

use std::{
    io::{self, Read},
    sync::Arc,
};

use cofferdam_digest::Digest;
use reqwest::{Method, StatusCode};
use url::Url;

use crate::{
    Client, RegistryError, Repository,
    auth::Scope,
    error::Missing,
    host::{Call, Host},
    options::Direction,
    upload::{Session, Upload},
};

/// Told how many bytes of a blob were handed to the network, from its start; less than before when an upload begins
/// again. Called on a runtime thread: it must not block.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// A blob's bytes, as often as they are needed: an upload that broke is read again. Any closure that opens a reader is
/// one; a source that can seek should implement [`open_at`](Self::open_at) itself.
pub trait BlobSource: Send + Sync {
    /// A reader that begins `offset_bytes` into the blob. Called and read on a blocking thread.
    fn open_at(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>>;
}

impl<F> BlobSource for F
where
    F: Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync,
{
    fn open_at(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut reader = self()?;
        io::copy(&mut (&mut reader).take(offset_bytes), &mut io::sink())?;
        Ok(reader)
    }
}

/// A blob to be pushed.
#[derive(Clone)]
pub struct BlobUpload {
    /// Its digest; the registry checks the bytes against it.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Where its bytes are.
    pub source: Arc<dyn BlobSource>,
    /// Repositories of the same registry that may have it, most likely one first: for a mount instead of an upload.
    pub mount_from: Vec<Repository>,
    /// Who wants to know how far it is.
    pub progress: Option<Progress>,
}

/// How a blob came to be in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobOutcome {
    /// It was there.
    Present,
    /// It was mounted from this repository, without its bytes being sent.
    Mounted(Repository),
    /// It was sent.
    Uploaded,
}

/// More sources of a mount are not tried: each costs a request, and mostly a token.
const MAX_MOUNT_ATTEMPTS: usize = 3;

impl Client {
    /// Brings a blob into a repository in the cheapest way: not at all, by a mount, or by sending it.
    pub async fn push_blob(&self, repository: &Repository, blob: &BlobUpload) -> Result<BlobOutcome, RegistryError> {
        if self.blob_exists(repository, blob.digest).await? {
            return Ok(BlobOutcome::Present);
        }
        let host = self.host(repository.host(), Direction::Push);
        let mut session = None;
        let sources = blob.mount_from.iter().filter(|from| from.host() == repository.host() && *from != repository);
        for from in sources.take(MAX_MOUNT_ATTEMPTS) {
            match try_mount(&host, repository, blob.digest, from).await? {
                Mount::Done => return Ok(BlobOutcome::Mounted(from.clone())),
                // The registry has opened an upload instead: the last of them is used.
                Mount::Session(opened) => {
                    if let Some(unused) = session.replace(opened) {
                        cancel(&host, repository, unused).await;
                    }
                }
                Mount::Refused => {}
            }
        }
        Upload::new(&host, repository, blob).run(session).await?;
        Ok(BlobOutcome::Uploaded)
    }

    /// Whether a repository has a blob.
    pub async fn blob_exists(&self, repository: &Repository, digest: Digest) -> Result<bool, RegistryError> {
        blob_exists(&self.host(repository.host(), Direction::Push), repository, digest).await
    }

    /// Mounts a blob of another repository of the same registry (distribution specification, "Mounting a blob from
    /// another repository"). False if the registry does not do that here; then the blob has to be uploaded.
    pub async fn mount_blob(
        &self,
        repository: &Repository,
        digest: Digest,
        from: &Repository,
    ) -> Result<bool, RegistryError> {
        if repository.host() != from.host() {
            return Ok(false);
        }
        let host = self.host(repository.host(), Direction::Push);
        match try_mount(&host, repository, digest, from).await? {
            Mount::Done => Ok(true),
            Mount::Refused => Ok(false),
            Mount::Session(session) => {
                cancel(&host, repository, session).await;
                Ok(false)
            }
        }
    }

    /// Sends a blob, whether or not the repository has it.
    pub async fn upload_blob(&self, repository: &Repository, blob: &BlobUpload) -> Result<(), RegistryError> {
        let host = self.host(repository.host(), Direction::Push);
        Upload::new(&host, repository, blob).run(None).await
    }

    /// Finds out whether we may push to a repository, by opening an upload and cancelling it.
    pub async fn check_push(&self, repository: &Repository) -> Result<(), RegistryError> {
        let host = self.host(repository.host(), Direction::Push);
        let session = Session::open(&host, repository).await?;
        cancel(&host, repository, session).await;
        Ok(())
    }
}

pub(crate) async fn blob_exists(host: &Host, repository: &Repository, digest: Digest) -> Result<bool, RegistryError> {
    let url = host.endpoint().await?.url(&format!("{}/blobs/{digest}", repository.name()));
    let missing = (Missing::Blob, format!("{repository}@{digest}"));
    let mut call = Call::new(Scope::push(repository), missing, Method::HEAD, url);
    // A redirect to storage says that the blob is there; storage itself mostly allows GET only.
    call.follow = false;
    match host.send(&call).await {
        Ok(answer) => {
            answer.finish().await;
            Ok(true)
        }
        Err(RegistryError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

enum Mount {
    Done,
    Session(Session),
    Refused,
}

async fn try_mount(
    host: &Host,
    repository: &Repository,
    digest: Digest,
    from: &Repository,
) -> Result<Mount, RegistryError> {
    let mut url = uploads_url(host, repository).await?;
    url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from.name());
    let missing = (Missing::Repository, repository.to_string());
    let call = Call::new(Scope::mount(repository, from), missing, Method::POST, url);
    match host.send(&call).await {
        Ok(answer) if answer.status() == StatusCode::CREATED => {
            answer.finish().await;
            Ok(Mount::Done)
        }
        Ok(answer) if answer.status() == StatusCode::ACCEPTED => Ok(Mount::Session(Session::of(host, answer).await?)),
        // A token for both repositories is refused as a whole where we may not read the other one, and some registries
        // know no mounts: neither says that an upload is not allowed.
        Ok(_)
        | Err(
            RegistryError::Unauthorized { .. }
            | RegistryError::Denied { .. }
            | RegistryError::NotFound { .. }
            | RegistryError::Status { .. },
        ) => Ok(Mount::Refused),
        Err(error) => Err(error),
    }
}

/// Cancels an upload. Registries also clean up by themselves, so nothing comes of a failure.
async fn cancel(host: &Host, repository: &Repository, session: Session) {
    if let Ok(answer) = host.send_once(&upload_call(repository, Method::DELETE, session.location)).await {
        answer.finish().await;
    }
}

/// `/v2/<name>/blobs/uploads/`, with its last slash, as the specification writes it.
pub(crate) async fn uploads_url(host: &Host, repository: &Repository) -> Result<Url, RegistryError> {
    Ok(host.endpoint().await?.url(&format!("{}/blobs/uploads/", repository.name())))
}

/// A request about an upload.
pub(crate) fn upload_call(repository: &Repository, method: Method, url: Url) -> Call {
    Call::new(Scope::push(repository), (Missing::Repository, repository.to_string()), method, url)
}
