//! One blob's upload: in one request, in pieces where the registry wants that, resumed where it broke.
//!
//! Follows the distribution specification, "Pushing blobs": `POST` opens a session, `PUT` with the digest closes it,
//! `PATCH` adds to it in between. Each answer's `Location` is the URL of the next request.

use cofferdam_digest::Digest;
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue},
};
use url::Url;

use crate::{
    BlobUpload, RegistryError, Repository,
    host::Host,
    http::{Answer, UploadBody},
    manifest::announced_digest,
    push::{blob_exists, upload_call, uploads_url},
    retry::Attempts,
};

/// An open upload.
pub(crate) struct Session {
    pub(crate) location: Url,
    /// How much of the blob the registry has.
    offset_bytes: u64,
    /// The least that a piece must have, but for the last one (`OCI-Chunk-Min-Length`).
    least_chunk_bytes: u64,
}

impl Session {
    /// Opens an upload.
    pub(crate) async fn open(host: &Host, repository: &Repository) -> Result<Self, RegistryError> {
        let answer = host.send(&upload_call(repository, Method::POST, uploads_url(host, repository).await?)).await?;
        Self::of(host, answer).await
    }

    /// The session that an answer tells of.
    pub(crate) async fn of(host: &Host, answer: Answer) -> Result<Self, RegistryError> {
        let location = host.endpoint().await?.follow(&answer, "an upload's `Location`", &host.http)?;
        let least = answer.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        answer.finish().await;
        Ok(Self { location, offset_bytes: 0, least_chunk_bytes: least.unwrap_or(0) })
    }
}

/// An upload with what it is of.
pub(crate) struct Upload<'a> {
    host: &'a Host,
    repository: &'a Repository,
    blob: &'a BlobUpload,
    /// Whether the registry has refused the blob in one request.
    in_pieces: bool,
}

/// How often a registry may say that what it got is wrong before it is believed: once may be the fault of a resumed
/// session, or of a proxy.
const MAX_REFUSED_CONTENT: u32 = 2;

impl<'a> Upload<'a> {
    pub(crate) fn new(host: &'a Host, repository: &'a Repository, blob: &'a BlobUpload) -> Self {
        Self { host, repository, blob, in_pieces: false }
    }

    /// Uploads the blob, beginning with a session that is open already if there is one.
    pub(crate) async fn run(mut self, mut session: Option<Session>) -> Result<(), RegistryError> {
        let mut attempts = Attempts::new(&self.host.http.options.retries);
        let mut refused = 0;
        loop {
            let mut current = match session.take() {
                Some(session) => session,
                None => Session::open(self.host, self.repository).await?,
            };
            let error = match self.send(&mut current).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !self.in_pieces && wants_pieces(&error) {
                self.in_pieces = true;
            } else if is_lost_session(&error) && refused < MAX_REFUSED_CONTENT {
                refused += 1;
            } else {
                attempts.wait(error).await?;
                // The answer may have been lost, not the request.
                if blob_exists(self.host, self.repository, self.blob.digest).await? {
                    return Ok(());
                }
                session = self.resume(&current).await;
            }
        }
    }

    /// Sends what the session lacks, and closes it.
    async fn send(&self, session: &mut Session) -> Result<(), RegistryError> {
        let left = self.blob.size_bytes.saturating_sub(session.offset_bytes);
        if session.offset_bytes == 0 && !self.in_pieces {
            return self.close(session, Some(self.body(0, left))).await;
        }
        let options = &self.host.http.options;
        let piece = if self.in_pieces { options.chunk_bytes.max(session.least_chunk_bytes).max(1) } else { u64::MAX };
        while session.offset_bytes < self.blob.size_bytes {
            let length = piece.min(self.blob.size_bytes - session.offset_bytes);
            self.add(session, length).await?;
        }
        self.close(session, None).await
    }

    /// Adds a piece: its range is sent as `<start>-<end>`, without a unit.
    async fn add(&self, session: &mut Session, length_bytes: u64) -> Result<(), RegistryError> {
        let mut call = upload_call(self.repository, Method::PATCH, session.location.clone());
        let end = session.offset_bytes + length_bytes - 1;
        let range = HeaderValue::from_str(&format!("{}-{end}", session.offset_bytes));
        call.outgoing.headers.extend(range.ok().map(|range| (CONTENT_RANGE, range)));
        call.outgoing.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.outgoing.upload = Some(self.body(session.offset_bytes, length_bytes));
        let answer = self.host.send_once(&call).await?;
        let least_chunk_bytes = session.least_chunk_bytes;
        *session = Session { offset_bytes: end + 1, ..Session::of(self.host, answer).await? };
        session.least_chunk_bytes = session.least_chunk_bytes.max(least_chunk_bytes);
        Ok(())
    }

    /// Closes the session with the digest, and with the whole blob if it is not there yet.
    async fn close(&self, session: &Session, body: Option<UploadBody>) -> Result<(), RegistryError> {
        let mut url = session.location.clone();
        url.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let mut call = upload_call(self.repository, Method::PUT, url);
        call.outgoing.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.outgoing.upload = body;
        let answer = self.host.send_once(&call).await?;
        let (expected, request) = (self.blob.digest, answer.request().clone());
        let actual: Option<Digest> = announced_digest(&answer);
        answer.finish().await;
        match actual.filter(|actual| *actual != expected) {
            Some(actual) => Err(RegistryError::DigestMismatch { request, expected, actual }),
            None => Ok(()),
        }
    }

    /// Asks how much of a broken upload the registry has; none when it is to begin again.
    async fn resume(&self, broken: &Session) -> Option<Session> {
        let call = upload_call(self.repository, Method::GET, broken.location.clone());
        let answer = self.host.send_once(&call).await.ok()?;
        if answer.status() != StatusCode::NO_CONTENT {
            return None;
        }
        // `Range: 0-<last byte>`: an empty session can only be told by its absence, or as `0-0`, which may also be one byte.
        let last = answer.header("range").and_then(|range| range.rsplit_once('-')?.1.parse::<u64>().ok())?;
        let has = last + 1;
        if last == 0 || has > self.blob.size_bytes {
            return None;
        }
        let session = Session::of(self.host, answer).await.ok()?;
        Some(Session { offset_bytes: has, least_chunk_bytes: broken.least_chunk_bytes, ..session })
    }

    fn body(&self, offset_bytes: u64, length_bytes: u64) -> UploadBody {
        UploadBody {
            source: std::sync::Arc::clone(&self.blob.source),
            offset_bytes,
            length_bytes,
            size_bytes: self.blob.size_bytes,
            progress: self.blob.progress.clone(),
        }
    }
}

/// Statuses of registries, and of proxies before them, that do not take a whole blob in one request.
fn wants_pieces(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Status { status, .. } if matches!(status.as_u16(), 405 | 411 | 413 | 501))
}

/// Whether the session can't be used any more, while a new one may.
fn is_lost_session(error: &RegistryError) -> bool {
    match error {
        RegistryError::NotFound { said, .. } => !said.has_code("NAME_UNKNOWN"),
        RegistryError::Status { status, said, .. } => {
            *status == StatusCode::RANGE_NOT_SATISFIABLE
                || ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "DIGEST_INVALID", "SIZE_INVALID", "RANGE_INVALID"]
                    .into_iter()
                    .any(|code| said.has_code(code))
        }
        _ => false,
    }
}
