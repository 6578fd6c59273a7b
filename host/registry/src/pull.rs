//! Blobs as they come: a stream that resumes where it broke, and a blocking reader over it.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use cofferdam_digest::{Digest, Sha256};
use reqwest::{
    Method, StatusCode,
    header::{ACCEPT_ENCODING, HeaderValue, RANGE},
};
use tokio::sync::mpsc;

use crate::{
    Client, RegistryError, Repository, RequestLine,
    auth::Scope,
    error::Missing,
    host::{Call, Host},
    http::Answer,
    options::Direction,
    retry::Attempts,
};

/// An attempt that brought at least this many bytes counts as none that failed: it bounds the attempts by the blob's size.
const FORWARD_BYTES: u64 = 1 << 20;

/// Pieces that wait between the network and a blocking reader; each is at most some hundred KiB.
const CHUNKS_AHEAD: usize = 8;

impl Client {
    /// Starts to fetch a blob of `size_bytes` bytes. While the stream is open it takes one of the host's places for
    /// parallel requests.
    pub async fn open_blob(
        &self,
        repository: &Repository,
        digest: Digest,
        size_bytes: u64,
    ) -> Result<BlobStream, RegistryError> {
        let host = self.host(repository.host(), Direction::Pull);
        let url = host.endpoint().await?.url(&format!("{}/blobs/{digest}", repository.name()));
        let missing = (Missing::Blob, format!("{repository}@{digest}"));
        let mut call = Call::new(Scope::pull(repository), missing, Method::GET, url);
        // A proxy that compresses on the way would change the bytes.
        call.outgoing.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let request = call.outgoing.line();
        let mut stream = BlobStream {
            host,
            call,
            request,
            digest,
            size_bytes,
            state: State::Broken,
            received: 0,
            skip: 0,
            hasher: Sha256::new(),
            failed: 0,
            came_to: 0,
        };
        stream.connect().await?;
        Ok(stream)
    }

    /// Fetches a small blob (an image's config) whole. Its descriptor's size must not be over `limit_bytes`.
    pub async fn fetch_blob(
        &self,
        repository: &Repository,
        digest: Digest,
        size_bytes: u64,
        limit_bytes: u64,
    ) -> Result<Bytes, RegistryError> {
        let mut stream = self.open_blob(repository, digest, size_bytes).await?;
        if size_bytes > limit_bytes {
            return Err(RegistryError::TooLarge { request: stream.request, limit_bytes });
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }
}

/// A blob's bytes as they arrive. A broken transfer goes on where it broke, also with registries that can't start in
/// the middle. Exactly the descriptor's bytes come, or an error does: size and digest are checked before the end is
/// told, so what came before is to be used only after [`chunk`](Self::chunk) has returned none.
pub struct BlobStream {
    host: Arc<Host>,
    call: Call,
    request: RequestLine,
    digest: Digest,
    size_bytes: u64,
    state: State,
    /// Bytes handed out so far.
    received: u64,
    /// Bytes of the current answer that were handed out before.
    skip: u64,
    hasher: Sha256,
    /// Attempts that failed since the last one that brought the transfer forward.
    failed: u32,
    /// How far the transfer was after the last failure, in bytes.
    came_to: u64,
}

enum State {
    Open(Box<Answer>),
    Broken,
    Verified,
    Failed,
}

impl BlobStream {
    /// The next bytes; none when all have come and are the right ones. After an error, only errors.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let result = self.next().await;
        match result {
            Ok(Some(_)) => {}
            Ok(None) => self.state = State::Verified,
            Err(_) => self.state = State::Failed,
        }
        result
    }

    /// The blob's size in bytes, as its descriptor says.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// A blocking reader over the same bytes. A task on the current tokio runtime fetches ahead of it, so it must be
    /// read on a thread where blocking is allowed; dropping it ends the transfer. Its errors hold a [`RegistryError`].
    pub fn into_reader(mut self) -> BlobReader {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        tokio::spawn(async move {
            loop {
                let item = match self.chunk().await {
                    Ok(Some(chunk)) => Ok(chunk),
                    Ok(None) => Ok(Bytes::new()),
                    Err(error) => Err(error),
                };
                let last = !matches!(&item, Ok(chunk) if !chunk.is_empty());
                if sender.send(item).await.is_err() || last {
                    return;
                }
            }
        });
        BlobReader { receiver, chunk: Bytes::new(), state: Reading::Bytes }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let answer = match &mut self.state {
                State::Open(answer) => answer,
                State::Broken => {
                    self.connect().await?;
                    continue;
                }
                State::Verified => return Ok(None),
                State::Failed => return Err(self.truncated()),
            };
            let error = match answer.chunk().await {
                Ok(Some(chunk)) => match self.take(chunk)? {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => continue,
                },
                Ok(None) if self.received == self.size_bytes => return self.verify().map(|()| None),
                Ok(None) => self.truncated(),
                // The whole content came, and only the end of the connection was not as it should be.
                Err(_) if self.received == self.size_bytes => return self.verify().map(|()| None),
                Err(error) => error,
            };
            self.broken(error).await?;
        }
    }

    /// Counts and hashes bytes; none when all of them were there before.
    fn take(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let known = self.skip.min(chunk.len() as u64);
        self.skip -= known;
        // At most the length of a piece that is in memory.
        let chunk = chunk.split_off(known as usize);
        if chunk.is_empty() {
            return Ok(None);
        }
        self.received += chunk.len() as u64;
        if self.received > self.size_bytes {
            return Err(self.other_size(self.received, true));
        }
        self.hasher.update(&chunk);
        Ok(Some(chunk))
    }

    fn verify(&mut self) -> Result<(), RegistryError> {
        let actual = std::mem::take(&mut self.hasher).finish();
        if actual == self.digest {
            return Ok(());
        }
        Err(RegistryError::DigestMismatch { request: self.request.clone(), expected: self.digest, actual })
    }

    /// Waits after a failure; an error when it was the last one.
    async fn broken(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.state = State::Broken;
        // A line that breaks again and again brings a large blob home all the same, piece by piece.
        if self.received - self.came_to >= FORWARD_BYTES {
            self.failed = 0;
        }
        self.came_to = self.received;
        // What a reader wants to know in the end is how far it came.
        let error = match error {
            RegistryError::Transport { .. } if self.failed + 1 >= self.host.http.options.retries.attempts => {
                self.truncated()
            }
            error => error,
        };
        let mut attempts = Attempts::after(&self.host.http.options.retries, self.failed);
        attempts.wait(error).await?;
        self.failed = attempts.failed();
        Ok(())
    }

    /// Opens the transfer at the byte that is wanted next.
    async fn connect(&mut self) -> Result<(), RegistryError> {
        let mut call = self.call.clone();
        if self.received > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.received));
            call.outgoing.headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        let answer = self.host.send(&call).await?;
        let (start, whole) = match answer.status() {
            StatusCode::PARTIAL_CONTENT => self.content_range(&answer)?,
            // The registry can't start in the middle, so what is known already is read past.
            _ => (0, answer.content_length()),
        };
        if let Some(whole) = whole.filter(|whole| *whole != self.size_bytes) {
            return Err(self.other_size(whole, false));
        }
        self.skip = self.received - start;
        self.state = State::Open(Box::new(answer));
        Ok(())
    }

    /// The first byte's position and the whole length (RFC 9110 section 14.4).
    fn content_range(&self, answer: &Answer) -> Result<(u64, Option<u64>), RegistryError> {
        let parse = |text: &str| {
            let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
            let start = range.split_once('-')?.0.parse::<u64>().ok()?;
            Some((start, whole.parse().ok()))
        };
        let range = answer.header("content-range").and_then(parse).filter(|(start, _)| *start <= self.received);
        range.ok_or_else(|| RegistryError::Answer {
            request: self.request.clone(),
            reason: format!("it is not the part from byte {} on that was asked for", self.received),
        })
    }

    fn truncated(&self) -> RegistryError {
        let request = self.request.clone();
        RegistryError::Truncated { request, received: self.received, expected: self.size_bytes }
    }

    fn other_size(&self, actual: u64, at_least: bool) -> RegistryError {
        RegistryError::SizeMismatch { request: self.request.clone(), expected: self.size_bytes, actual, at_least }
    }
}

/// A blocking reader over a [`BlobStream`]. It ends without an error only when all bytes were the right ones.
pub struct BlobReader {
    receiver: mpsc::Receiver<Result<Bytes, RegistryError>>,
    chunk: Bytes,
    state: Reading,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Bytes,
    Verified,
    Failed,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && self.state != Reading::Verified && !buffer.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(chunk)) if chunk.is_empty() => self.state = Reading::Verified,
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    self.state = Reading::Failed;
                    return Err(io::Error::other(error));
                }
                None if self.state == Reading::Failed => return Err(io::Error::other("the transfer has failed")),
                // The end is told by an empty piece; without it the runtime went away.
                None => return Err(io::Error::other("the transfer was stopped")),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}
