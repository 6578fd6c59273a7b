//! Requests to servers that are no registries: those behind which credentials for registries lie.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Method, header::HeaderMap};
use url::Url;

use crate::{
    ClientOptions, RegistryError, RequestLine,
    error::Waited,
    http::{Clients, Http, Outgoing, Profile, authority},
    options::Direction,
};

/// The way to any server: the same connections, proxies and certificates as for registries. Cheap to clone.
///
/// What was said of registries does not count here: certificates are always checked, by the system's authorities and those
/// given for the host.
#[derive(Clone)]
pub struct Web {
    pub(crate) options: Arc<ClientOptions>,
    pub(crate) clients: Arc<Clients>,
}

/// One request.
#[derive(Debug, Clone)]
pub struct WebRequest {
    /// Its method.
    pub method: Method,
    /// Where it goes, and nowhere else: redirects are not followed.
    pub url: Url,
    /// Beside those of the connection.
    pub headers: HeaderMap,
    /// May be empty.
    pub body: Bytes,
    /// Whether no proxy is used, even where the environment names one.
    pub direct: bool,
    /// How long the whole exchange may take.
    pub patience: Duration,
    /// How many bytes the answer's body may have.
    pub limit_bytes: u64,
}

/// One answer, of any status.
#[derive(Debug, Clone)]
pub struct WebAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

impl Web {
    /// Opens no connection and reads no file.
    pub fn new(options: ClientOptions) -> Self {
        let options = Arc::new(options);
        let clients = Arc::new(Clients::new(Arc::clone(&options)));
        Self { options, clients }
    }

    /// Sends a request, once.
    ///
    /// # Errors
    /// No answer, none in time, or one that is too large.
    pub async fn send(&self, request: WebRequest) -> Result<WebAnswer, RegistryError> {
        let line = RequestLine::new(&request.method, &request.url);
        let late = RegistryError::Timeout { request: line, waited: Waited::Answer, after: request.patience };
        let patience = request.patience;
        tokio::time::timeout(patience, self.exchange(request)).await.unwrap_or(Err(late))
    }

    async fn exchange(&self, request: WebRequest) -> Result<WebAnswer, RegistryError> {
        let http =
            Http { options: Arc::clone(&self.options), clients: Arc::clone(&self.clients), direction: Direction::Pull };
        let certificates = self.options.certificates_of(&authority(&request.url));
        let profile = Profile::new(&request.url, true, certificates).directly_if(request.direct);
        let mut outgoing = Outgoing::new(request.method, request.url);
        outgoing.headers = request.headers;
        outgoing.body = Some(request.body).filter(|body| !body.is_empty());
        let mut answer = http.exchange(profile, outgoing).await?;
        let body = answer.body(request.limit_bytes).await?;
        Ok(WebAnswer { status: answer.status().as_u16(), headers: answer.headers().clone(), body })
    }
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Web").finish_non_exhaustive()
    }
}
