//! An object as it arrives, taken up again where a connection broke.

use std::io::{self, Read};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use object_store::{GetOptions, GetRange, path::Path};

use super::{connector::NO_ETAG, session::Session};
use crate::{
    FetchError,
    remote::{RESUMES, innermost, read_chunk},
};

/// An object on its way.
pub(crate) struct ObjectReader {
    session: Session,
    key: Path,
    /// What messages call it.
    shown: String,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    chunk: Bytes,
    /// Of the whole object, in bytes.
    size: u64,
    /// What the store says of its version.
    etag: Option<String>,
    received: u64,
    resumed: u32,
}

impl ObjectReader {
    /// Asks for an object from its beginning.
    pub(super) fn open(session: Session, key: Path, shown: String) -> Result<Self, FetchError> {
        let result = session.ask(&shown, |opened| {
            let key = key.clone();
            async move { opened.store.get_opts(&key, GetOptions::default()).await }
        })?;
        let (size, etag) = (result.meta.size, result.meta.e_tag.clone().filter(|tag| tag != NO_ETAG));
        let limit = session.remote().limits().download_bytes;
        if size > limit {
            return Err(FetchError::TooLarge { url: shown, limit, unit: "bytes" });
        }
        let (stream, chunk) = (result.into_stream(), Bytes::new());
        Ok(Self { session, key, shown, stream, chunk, size, etag, received: 0, resumed: 0 })
    }

    /// The next bytes; none at the end.
    fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let reason = match self.session.remote().wait(&self.shown, self.stream.next()) {
                Ok(Some(Ok(chunk))) => {
                    self.received += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) if self.received >= self.size => return Ok(None),
                Ok(None) => "it ended too early".to_owned(),
                Ok(Some(Err(error))) => innermost(&error),
                Err(FetchError::Broken { reason, .. }) => reason,
                Err(other) => return Err(other),
            };
            self.resume(reason)?;
        }
    }

    /// Goes on where the connection broke, if the store has the same object still.
    fn resume(&mut self, reason: String) -> Result<(), FetchError> {
        let broken = |reason| FetchError::Broken { url: self.shown.clone(), reason };
        let Some(etag) = self.etag.clone().filter(|_| self.resumed < RESUMES) else { return Err(broken(reason)) };
        self.resumed += 1;
        let (range, if_match) = (Some(GetRange::Offset(self.received)), Some(etag.clone()));
        let options = GetOptions { range, if_match, ..GetOptions::default() };
        let result = self.session.ask(&self.shown, |opened| {
            let (key, options) = (self.key.clone(), options.clone());
            async move { opened.store.get_opts(&key, options).await }
        })?;
        if result.meta.e_tag.as_ref() != Some(&etag) || result.meta.size != self.size {
            return Err(broken("it changed meanwhile".to_owned()));
        }
        self.stream = result.into_stream();
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut chunk = std::mem::take(&mut self.chunk);
        let read = read_chunk(&mut chunk, buffer, || self.next());
        self.chunk = chunk;
        read
    }
}
