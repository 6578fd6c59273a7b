//! A request's body that is read from a blocking source while it is sent.

use std::{
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{BlobSource, Progress, RegistryError, RequestLine};

/// Small enough for several uploads at once, large enough that handing over costs nothing.
const CHUNK_BYTES: usize = 128 * 1024;
const CHUNKS_AHEAD: usize = 4;

/// A part of a blob, to be sent.
#[derive(Clone)]
pub(crate) struct UploadBody {
    pub(crate) source: Arc<dyn BlobSource>,
    pub(crate) offset_bytes: u64,
    pub(crate) length_bytes: u64,
    /// The whole blob's size: what the source must have, neither more nor less.
    pub(crate) size_bytes: u64,
    pub(crate) progress: Option<Progress>,
}

impl UploadBody {
    /// Starts reading on a blocking thread; it ends when the body is dropped.
    pub(super) fn start(self, watch: Arc<Watch>) -> reqwest::Body {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let (offset, progress) = (self.offset_bytes, self.progress.clone());
        watch.expect(self.length_bytes);
        let reader_watch = Arc::clone(&watch);
        tokio::task::spawn_blocking(move || {
            if let Err(failure) = self.read(&sender) {
                reader_watch.fail(failure);
                // The body must not just end: it would be sent as if it were whole.
                let _ = sender.blocking_send(Err(io::Error::other("the content can't be read")));
            }
        });
        let taken = 0u64;
        let stream = futures_util::stream::unfold((receiver, watch, taken), move |(mut receiver, watch, taken)| {
            let progress = progress.clone();
            async move {
                let chunk: io::Result<Bytes> = receiver.recv().await?;
                let taken = taken + chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                watch.took(taken);
                if let Some(progress) = progress {
                    progress(offset + taken);
                }
                Some((chunk, (receiver, watch, taken)))
            }
        });
        reqwest::Body::wrap_stream(stream)
    }

    fn read(&self, sender: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), SourceFailure> {
        let mut reader = self.source.open_at(self.offset_bytes).map_err(SourceFailure::Read)?;
        let mut left = self.length_bytes;
        let size_failure = |actual| SourceFailure::Size { expected: self.size_bytes, actual };
        while left > 0 {
            let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
            let count = read_full(&mut *reader, &mut chunk).map_err(SourceFailure::Read)?;
            chunk.truncate(count);
            left -= count as u64;
            if left > 0 && count < CHUNK_BYTES {
                return Err(size_failure(self.offset_bytes + self.length_bytes - left));
            }
            // The last piece of the blob is held back until it is sure that nothing follows.
            if left == 0 && self.offset_bytes + self.length_bytes == self.size_bytes {
                let more = read_full(&mut *reader, &mut [0]).map_err(SourceFailure::Read)?;
                if more > 0 {
                    return Err(size_failure(self.size_bytes + 1));
                }
            }
            if sender.blocking_send(Ok(chunk.into())).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Reads until the buffer is full or the source ends.
fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Why a source could not be sent.
pub(super) enum SourceFailure {
    Read(io::Error),
    Size { expected: u64, actual: u64 },
}

impl SourceFailure {
    pub(super) fn into_error(self, request: RequestLine) -> RegistryError {
        match self {
            Self::Read(source) => RegistryError::Source { request, source },
            Self::Size { expected, actual } => RegistryError::SourceSize { request, expected, actual },
        }
    }
}

/// What the sender of a request sees of its body: when a piece was last taken, and whether the source failed.
pub(super) struct Watch {
    started: Instant,
    last_taken_ms: AtomicU64,
    length_bytes: AtomicU64,
    sent_all: AtomicBool,
    failure: Mutex<Option<SourceFailure>>,
}

impl Watch {
    pub(super) fn new(streams: bool) -> Self {
        Self {
            started: Instant::now(),
            last_taken_ms: AtomicU64::new(0),
            length_bytes: AtomicU64::new(0),
            sent_all: AtomicBool::new(!streams),
            failure: Mutex::new(None),
        }
    }

    pub(super) fn last_taken(&self) -> Instant {
        self.started + Duration::from_millis(self.last_taken_ms.load(Ordering::Relaxed))
    }

    pub(super) fn sent_all(&self) -> bool {
        self.sent_all.load(Ordering::Relaxed)
    }

    pub(super) fn take_failure(&self) -> Option<SourceFailure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn expect(&self, length_bytes: u64) {
        self.length_bytes.store(length_bytes, Ordering::Relaxed);
        self.took(0);
    }

    fn took(&self, total_bytes: u64) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_taken_ms.store(elapsed, Ordering::Relaxed);
        if total_bytes >= self.length_bytes.load(Ordering::Relaxed) {
            self.sent_all.store(true, Ordering::Relaxed);
        }
    }

    fn fail(&self, failure: SourceFailure) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}
