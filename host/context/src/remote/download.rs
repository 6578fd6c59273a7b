//! One file over HTTP: asked for only if it changed, and taken up again where a connection broke.

use std::io::{self, Read};

use http::{HeaderMap, StatusCode, header};
use url::Url;

use super::{FetchError, Remedies, Remote, Request, http::Answer, refusal};
use crate::{Basic, source::redacted};

/// How often a broken download is taken up again.
pub(crate) const RESUMES: u32 = 5;

/// What a server says of a file's version (RFC 9110, section 8.8).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Validators {
    /// `ETag`, as it came.
    pub etag: Option<String>,
    /// `Last-Modified`, as it came.
    pub last_modified: Option<String>,
}

/// A file on its way.
pub struct Download {
    remote: Remote,
    url: Url,
    credential: Option<Basic>,
    answer: Answer,
    validators: Validators,
    received: u64,
    resumed: u32,
}

/// The answer to a request for a file.
pub enum Requested {
    /// It is what the validators that were sent belong to.
    Unchanged,
    /// It comes.
    Coming(Box<Download>),
}

const REMEDIES: Remedies = Remedies {
    credential_given: false,
    password: "write the user and password into the URL, or use a file that anybody may read",
    forbidden: "this machine or user may not read it",
    missing: "check the address",
};

impl Validators {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) }
    }

    /// `Last-Modified` in seconds since 1970.
    pub fn last_modified_seconds(&self) -> Option<i64> {
        let date = jiff::fmt::rfc2822::parse(self.last_modified.as_deref()?).ok()?;
        Some(date.timestamp().as_second())
    }

    /// What `If-Range` takes: a strong validator (RFC 9110, section 13.1.5).
    fn strong(&self) -> Option<&str> {
        let etag = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        etag.or(self.last_modified.as_deref())
    }
}

/// Asks for the file behind a URL, with the validators of what is already there.
///
/// # Errors
/// Any [`FetchError`].
pub fn download(remote: &Remote, text: &str, known: Option<&Validators>) -> Result<Requested, FetchError> {
    let invalid = |problem: String| FetchError::Invalid { text: redacted(text), problem };
    let mut url = Url::parse(text).map_err(|error| invalid(format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("is not fetched; use https:// or http://".to_owned()));
    }
    let (username, password) = (url.username().to_owned(), url.password().map(str::to_owned));
    let credential = (!username.is_empty() || password.is_some()).then(|| Basic {
        username: crate::git::decoded(&username),
        password: crate::git::decoded(&password.unwrap_or_default()),
    });
    url.set_fragment(None);
    // A URL with a host takes both.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let mut request = Request { credential: credential.clone(), ..Request::get(url.clone()) };
    if let Some(etag) = known.and_then(|known| known.etag.as_deref()) {
        request.header(header::IF_NONE_MATCH, etag);
    } else if let Some(date) = known.and_then(|known| known.last_modified.as_deref()) {
        request.header(header::IF_MODIFIED_SINCE, date);
    }
    let answer = remote.send(&request)?;
    if answer.status == StatusCode::NOT_MODIFIED && known.is_some() {
        return Ok(Requested::Unchanged);
    }
    if answer.status != StatusCode::OK {
        return Err(refusal(&answer, &Remedies { credential_given: credential.is_some(), ..REMEDIES }));
    }
    let validators = Validators::of(&answer.headers);
    let download = Download { remote: remote.clone(), url, credential, answer, validators, received: 0, resumed: 0 };
    Ok(Requested::Coming(Box::new(download)))
}

impl Download {
    /// What the server says of the file.
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// The URL without a password.
    pub fn shown(&self) -> String {
        redacted(self.url.as_str())
    }

    /// Goes on where the connection broke, if the server has the same file still.
    fn resume(&mut self, broken: FetchError) -> Result<(), FetchError> {
        let Some(validator) = self.validators.strong().map(str::to_owned) else { return Err(broken) };
        if self.resumed >= RESUMES {
            return Err(broken);
        }
        self.resumed += 1;
        let mut request = Request { credential: self.credential.clone(), ..Request::get(self.url.clone()) };
        request.header(header::RANGE, &format!("bytes={}-", self.received));
        request.header(header::IF_RANGE, &validator);
        let mut answer = self.remote.send(&request)?;
        let begins = answer.headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let begins = begins.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
        match answer.status {
            StatusCode::PARTIAL_CONTENT if begins == Some(self.received) => {}
            // From the beginning: what is there already is passed over.
            StatusCode::OK if Validators::of(&answer.headers) == self.validators => {
                let skipped = io::copy(&mut answer.body.by_ref().take(self.received), &mut io::sink());
                if skipped.ok() != Some(self.received) {
                    return Err(broken);
                }
            }
            StatusCode::OK => {
                let reason = "it changed meanwhile".to_owned();
                return Err(FetchError::Broken { url: self.shown(), reason });
            }
            _ => return Err(broken),
        }
        self.answer = answer;
        Ok(())
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.answer.body.read(buffer) {
                Ok(length) => {
                    self.received += length as u64;
                    return Ok(length);
                }
                Err(error) => match error.downcast::<FetchError>() {
                    Ok(broken @ FetchError::Broken { .. }) => self.resume(broken).map_err(io::Error::other)?,
                    Ok(other) => return Err(io::Error::other(other)),
                    Err(error) => return Err(error),
                },
            }
        }
    }
}
