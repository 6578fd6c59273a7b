//! A bucket as a place for files: what is written there by a key is read by it again.

use std::io::Read;

use bytes::Bytes;
use object_store::{GetOptions, PutOptions, PutPayload, path::Path};

use super::{CloudAccess, ObjectReader, Place, checked, session::Session};
use crate::{FetchError, Remote};

/// The bytes of a part, where a file is sent in parts: S3 takes 10,000 of them.
const PART_BYTES: usize = 16 << 20;

/// A bucket of S3's, or of what speaks like it.
pub struct Bucket {
    name: String,
    session: Session,
}

impl Bucket {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// The name is no bucket's, or there is something wrong with the credentials.
    pub fn new(name: &str, cloud: CloudAccess, remote: &Remote) -> Result<Self, FetchError> {
        let place = Place::s3(name)?;
        Ok(Self { name: name.to_owned(), session: Session::new(place, &remote.with_cloud(cloud))? })
    }

    /// The host that is asked, with its port if it has one of its own.
    pub fn host(&self) -> String {
        self.session.host()
    }

    /// A file; none if there is none under the key.
    ///
    /// # Errors
    /// The bucket can't be reached or read.
    pub fn open(&self, key: &str) -> Result<Option<impl Read + Send + use<>>, FetchError> {
        let shown = self.shown(key);
        present(ObjectReader::open(self.session.clone(), checked(key, &shown)?, shown))
    }

    /// How many bytes a file has; none if there is none under the key.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn size(&self, key: &str) -> Result<Option<u64>, FetchError> {
        let shown = self.shown(key);
        let path = checked(key, &shown)?;
        let head = self.session.ask(&shown, |opened| {
            let path = path.clone();
            async move { opened.store.get_opts(&path, GetOptions { head: true, ..GetOptions::default() }).await }
        });
        present(head.map(|found| found.meta.size))
    }

    /// Writes a file, whole or not at all. One that is there under the key is replaced.
    ///
    /// # Errors
    /// The bucket can't be reached or written to; the content can't be read.
    pub fn put(&self, key: &str, mut content: impl Read) -> Result<(), FetchError> {
        let shown = self.shown(key);
        let path = checked(key, &shown)?;
        let first = part_of(&mut content, &shown)?;
        if first.len() < PART_BYTES {
            return self.session.ask(&shown, |opened| {
                let (path, payload) = (path.clone(), PutPayload::from(first.clone()));
                async move { opened.store.put_opts(&path, payload, PutOptions::default()).await.map(drop) }
            });
        }
        let id = self.session.ask(&shown, |opened| {
            let path = path.clone();
            async move { opened.parts.create_multipart(&path).await }
        })?;
        let sent = self.put_parts(&path, &id, first, &mut content, &shown);
        if sent.is_err() {
            // What is left of it costs money until a rule of the bucket's removes it.
            let _ = self.session.ask(&shown, |opened| {
                let (path, id) = (path.clone(), id.clone());
                async move { opened.parts.abort_multipart(&path, &id).await }
            });
        }
        sent
    }

    fn put_parts(
        &self,
        path: &Path,
        id: &str,
        first: Bytes,
        content: &mut dyn Read,
        shown: &str,
    ) -> Result<(), FetchError> {
        let (mut parts, mut next) = (Vec::new(), first);
        while !next.is_empty() {
            let number = parts.len();
            parts.push(self.session.ask(shown, |opened| {
                let (path, id, payload) = (path.clone(), id.to_owned(), PutPayload::from(next.clone()));
                async move { opened.parts.put_part(&path, &id, number, payload).await }
            })?);
            next = part_of(content, shown)?;
        }
        self.session.ask(shown, |opened| {
            let (path, id, parts) = (path.clone(), id.to_owned(), parts.clone());
            async move { opened.parts.complete_multipart(&path, &id, parts).await.map(drop) }
        })
    }

    fn shown(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }
}

/// The next bytes of a file that is sent; few or none at its end.
fn part_of(mut content: &mut (impl Read + ?Sized), shown: &str) -> Result<Bytes, FetchError> {
    let mut part = Vec::new();
    let read = Read::take(&mut content, PART_BYTES as u64).read_to_end(&mut part);
    read.map_err(|source| FetchError::Storage { action: format!("read what goes to `{shown}`"), source })?;
    Ok(part.into())
}

/// What is missing is none.
fn present<T>(found: Result<T, FetchError>) -> Result<Option<T>, FetchError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(FetchError::MissingObject { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
