//! Requests and answers over reqwest: one exchange, its timeouts, and what its failures mean. Redirects, retries and
//! authentication are decided above.

mod answer;
mod clients;
mod endpoint;
mod failure;
mod upload_body;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{CONTENT_LENGTH, HeaderMap, HeaderValue},
};
use url::Url;

use crate::{ClientOptions, RegistryError, RequestLine, error::Waited, options::Direction, reference::is_loopback};

pub(crate) use answer::Answer;
pub(crate) use clients::{Clients, Profile};
pub(crate) use endpoint::Endpoint;
pub(crate) use upload_body::UploadBody;
use upload_body::Watch;

/// A request that can be sent more than once.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    /// A body that is read while it is sent, instead of `body`.
    pub(crate) upload: Option<UploadBody>,
}

impl Outgoing {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None, upload: None }
    }

    pub(crate) fn line(&self) -> RequestLine {
        RequestLine::new(&self.method, &self.url)
    }

    fn has_body(&self) -> bool {
        self.body.is_some() || self.upload.is_some()
    }
}

/// The means to send requests in one direction.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) options: Arc<ClientOptions>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) direction: Direction,
}

impl Http {
    /// How to talk to a URL's host: as with the registry if it is that, else as the options say.
    pub(crate) fn profile_of(&self, url: &Url, endpoint: Option<&Endpoint>) -> Profile {
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.owns(url)) {
            return endpoint.profile();
        }
        let host = authority(url);
        let verify =
            !self.options.skips_tls_verify(&host, self.direction) && !self.options.is_insecure(&host, self.direction);
        Profile::new(url, verify, self.options.certificates_of(&host))
    }

    /// Whether a host may be spoken to without TLS, whatever sent us there.
    pub(crate) fn may_be_plain(&self, url: &Url) -> bool {
        url.host_str().is_some_and(is_loopback) || self.options.is_insecure(&authority(url), self.direction)
    }

    /// Sends one request and waits for the head of its answer.
    pub(crate) async fn exchange(&self, profile: Profile, outgoing: Outgoing) -> Result<Answer, RegistryError> {
        let line = outgoing.line();
        let host = authority(&outgoing.url);
        let client = self.clients.get(profile, &host, &line)?;
        let timeouts = &self.options.timeouts;
        let url = outgoing.url.clone();
        let proxy = || if profile.is_direct() { None } else { failure::proxy_of(&url) };
        let streams = outgoing.upload.is_some();
        let watch = Arc::new(Watch::new(streams));

        let mut headers = outgoing.headers.clone();
        if !outgoing.has_body() && !matches!(outgoing.method, Method::GET | Method::HEAD) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut request = client.request(outgoing.method, outgoing.url);
        if let Some(upload) = outgoing.upload {
            // Without it the body would go in chunked coding, which storage behind registries often refuses.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(upload.length_bytes));
            request = request.body(upload.start(Arc::clone(&watch)));
        } else if let Some(body) = outgoing.body {
            request = request.body(body);
        }
        let sending = request.headers(headers).send();
        tokio::pin!(sending);
        let result = loop {
            // While a body is sent, what counts is when its last piece was taken.
            let (since, patience, waited) = match watch.sent_all() {
                false => (watch.last_taken(), timeouts.idle, Waited::Send),
                true if streams => (watch.last_taken(), timeouts.answer, Waited::Answer),
                true => (watch.last_taken(), timeouts.idle, Waited::Answer),
            };
            let deadline = since + patience;
            if Instant::now() >= deadline {
                return Err(RegistryError::Timeout { request: line, waited, after: patience });
            }
            tokio::select! {
                result = &mut sending => break result,
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        };
        match result {
            Ok(response) => Ok(Answer::new(response, line, timeouts)),
            Err(error) => Err(match watch.take_failure() {
                Some(failure) => failure.into_error(line),
                None => failure::classify(&error, host, line, timeouts.connect, proxy),
            }),
        }
    }
}

/// Host and port of a URL as they are written in a reference: without the scheme's own port.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
