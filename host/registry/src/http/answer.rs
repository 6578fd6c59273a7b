//! An answer's head, and its body as it comes.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, LOCATION},
};
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::failure;
use crate::{
    RateLimit, RegistryError, RequestLine, Said, SlowestRate, Timeouts,
    error::{MAX_BODY_BYTES, Waited},
    retry,
};

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    response: reqwest::Response,
    request: RequestLine,
    idle: Duration,
    slowest: SlowestRate,
    /// How long the current window was waited in, and what came in it, in bytes.
    window: (Duration, u64),
    /// The place among the host's parallel requests, kept until the body is read or dropped.
    permit: Option<OwnedSemaphorePermit>,
}

impl Answer {
    pub(super) fn new(response: reqwest::Response, request: RequestLine, timeouts: &Timeouts) -> Self {
        let (idle, slowest) = (timeouts.idle, timeouts.slowest);
        Self { response, request, idle, slowest, window: (Duration::ZERO, 0), permit: None }
    }

    pub(crate) fn hold(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header that is text, else none.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    pub(crate) fn request(&self) -> &RequestLine {
        &self.request
    }

    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    /// The body's announced length. Not asked of the HTTP library, which knows of none after HEAD.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// `Location`, resolved against the request's URL; without user and fragment.
    pub(crate) fn location(&self) -> Result<Url, RegistryError> {
        let bad = |reason: &str| RegistryError::Answer { request: self.request.clone(), reason: reason.to_owned() };
        let value = self.headers().get(LOCATION).ok_or_else(|| bad("it has no `Location`"))?;
        let text = value.to_str().map_err(|_| bad("its `Location` is not text"))?;
        let mut url = self.url().join(text).map_err(|_| bad("its `Location` is not a URL"))?;
        if !url.has_host() {
            return Err(bad("its `Location` has no host"));
        }
        // A user in the URL would become an Authorization header.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(url)
    }

    /// The next piece of the body; none at its end. An announced length that was not reached is an error.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let begun = Instant::now();
        let next = tokio::time::timeout(self.idle, self.response.chunk()).await;
        self.window.0 += begun.elapsed();
        match next {
            Ok(Ok(chunk)) => {
                self.window.1 += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                if chunk.is_some() { self.expect_fast_enough().map(|()| chunk) } else { Ok(None) }
            }
            Ok(Err(error)) => Err(failure::classify(&error, String::new(), self.request.clone(), self.idle, || None)),
            Err(_) => {
                Err(RegistryError::Timeout { request: self.request.clone(), waited: Waited::Receive, after: self.idle })
            }
        }
    }

    fn expect_fast_enough(&mut self) -> Result<(), RegistryError> {
        let (waited, bytes) = self.window;
        if waited < self.slowest.window {
            return Ok(());
        }
        self.window = (Duration::ZERO, 0);
        let least_bytes_per_second = self.slowest.bytes_per_second;
        match (bytes as f64) < least_bytes_per_second as f64 * waited.as_secs_f64() {
            true => {
                Err(RegistryError::TooSlow { request: self.request.clone(), bytes, waited, least_bytes_per_second })
            }
            false => Ok(()),
        }
    }

    /// The whole body, of at most `limit_bytes`.
    pub(crate) async fn body(&mut self, limit_bytes: u64) -> Result<Bytes, RegistryError> {
        let too_large = || RegistryError::TooLarge { request: self.request.clone(), limit_bytes };
        if self.content_length().is_some_and(|length| length > limit_bytes) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit_bytes {
                return Err(RegistryError::TooLarge { request: self.request.clone(), limit_bytes });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Reads what is left of a short body that says nothing, so that its connection can be used again.
    pub(crate) async fn finish(mut self) {
        self.start_of_body().await;
    }

    /// The words of an error, as far as they come.
    pub(crate) async fn said(&mut self) -> Said {
        Said::parse(&self.start_of_body().await)
    }

    async fn start_of_body(&mut self) -> BytesMut {
        let mut body = BytesMut::new();
        while body.len() < MAX_BODY_BYTES
            && let Ok(Some(chunk)) = self.chunk().await
        {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY_BYTES - body.len())]);
        }
        body
    }

    /// The error for a status that needs no context.
    pub(crate) async fn into_error(mut self) -> RegistryError {
        let said = self.said().await;
        let (request, status) = (self.request.clone(), self.status());
        if status == StatusCode::TOO_MANY_REQUESTS {
            let (retry_after, limit) = (retry::retry_after(self.headers()), RateLimit::of(self.headers()));
            return RegistryError::RateLimited { request, retry_after, limit, said };
        }
        RegistryError::Status { request, status, said }
    }

    /// Whether following its redirect repeats the same request (RFC 9110 section 15.4).
    pub(crate) fn redirects(&self, method: &Method) -> bool {
        match self.status().as_u16() {
            307 | 308 => true,
            301..=303 => matches!(*method, Method::GET | Method::HEAD),
            _ => false,
        }
    }
}
