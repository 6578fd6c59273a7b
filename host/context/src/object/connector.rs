//! The HTTP client of object stores: the one of all sources, with their proxies, certificates and guards, and a witness of what
//! was answered.

use std::{cell::RefCell, net::IpAddr, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use object_store::{
    ClientOptions, Result, RetryConfig,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
};
use url::Url;

use super::CloudAccess;
use crate::{
    FetchError, Remote,
    remote::{explain, host_and_port, innermost, is_link_local},
    source::redacted,
};

/// How much of a refusal is read, in bytes.
const REFUSAL_LIMIT_BYTES: usize = 64 << 10;

/// How long a source of credentials in this machine may take.
const METADATA_PATIENCE: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// What came of the last request that this task waits for.
    static SEEN: RefCell<Option<Seen>>;
}

/// What a request answers; and if it fails, what was seen of that.
pub(super) async fn witnessed<T>(request: impl Future<Output = Result<T>>) -> (Result<T>, Option<Seen>) {
    SEEN.scope(RefCell::default(), async {
        let result = request.await;
        (result, SEEN.with(RefCell::take))
    })
    .await
}

/// Keeps what came of a request, for whoever waits for the request; bodies are read without.
fn note(seen: Seen) {
    let _ = SEEN.try_with(|kept| kept.replace(Some(seen)));
}

/// The way to one store and to whoever gives credentials for it.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    remote: Remote,
    /// `HOST` or `HOST:PORT` of the store; all others give credentials.
    store: String,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Whether it was the store itself, not somebody who gives credentials.
    pub(crate) at_store: bool,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// An answer that is no success.
    Answer(Refused),
    /// None came.
    Failed(FetchError),
    /// A success that nobody understands.
    Success,
}

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Without a query, which may be a signature or a token.
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Connector {
    pub(crate) fn new(remote: &Remote, endpoint: &Url) -> Self {
        Self { remote: remote.clone(), store: host_and_port(endpoint) }
    }

    async fn exchange(
        &self,
        request: HttpRequest,
        at_store: bool,
        url: Url,
    ) -> std::result::Result<HttpResponse, HttpError> {
        let failed = |error: FetchError| {
            let kind = match &error {
                FetchError::Connect { .. } => HttpErrorKind::Connect,
                FetchError::Broken { .. } => HttpErrorKind::Interrupted,
                _ => HttpErrorKind::Unknown,
            };
            let told = HttpError::new(kind, Told(error.to_string()));
            note(Seen { at_store, what: What::Failed(error) });
            told
        };
        let client = self.client(&url, at_store).map_err(failed)?;
        let shown = redacted(without_query(&url).as_str());
        let (parts, body) = request.into_parts();
        // Amazon's token service takes a form as well as a query; a token does not belong into a URL.
        let form = is_for_token(&parts.method, &url).then(|| form_of(&url));
        let url = if form.is_some() { without_query(&url) } else { url };
        let mut builder = client.request(parts.method, url.clone()).headers(parts.headers);
        builder = match (form, body.as_bytes()) {
            (Some(form), _) => builder.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form),
            (None, Some(bytes)) if bytes.is_empty() => builder,
            (None, Some(bytes)) => builder.body(bytes.clone()),
            (None, None) => builder.body(reqwest::Body::wrap(body)),
        };
        if at_store {
            // Without it, Google's store unpacks what was stored compressed, and says no length. No signature covers it.
            builder = builder.header(header::ACCEPT_ENCODING, "gzip");
        } else if is_of_this_machine(&url, self.remote.cloud()) {
            builder = builder.timeout(METADATA_PATIENCE);
        }
        let sent = builder.send().await;
        let response = sent.map_err(|error| failed(explain(&error, host_and_port(&url), &shown)))?;
        let (mut parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        if parts.status.is_success() {
            note(Seen { at_store, what: What::Success });
            complete(&mut parts.headers);
            let broken = |error: reqwest::Error| HttpError::new(HttpErrorKind::Interrupted, Told(innermost(&error)));
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body.map_err(broken))));
        }
        let read = http_body_util::Limited::new(body, REFUSAL_LIMIT_BYTES).collect().await;
        let bytes = read.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let refused = Refused { url: shown, status: parts.status, headers: parts.headers.clone(), body: text };
        note(Seen { at_store, what: What::Answer(refused) });
        // The length that was announced may be more than was read.
        parts.headers.remove(header::CONTENT_LENGTH);
        Ok(HttpResponse::from_parts(parts, bytes.into()))
    }

    /// The store is a source like any other. Credentials come over TLS, or from this machine or its cloud's address for that.
    fn client(&self, url: &Url, at_store: bool) -> std::result::Result<reqwest::Client, FetchError> {
        let host = host_and_port(url);
        match (at_store, url.scheme()) {
            (true, _) => {
                self.remote.check_address(url)?;
                self.remote.check_host(&host)?;
                self.remote.client(url, false)
            }
            (false, "https") => self.remote.client(url, false),
            (false, _) if is_of_this_machine(url, self.remote.cloud()) => self.remote.metadata_client(url),
            (false, _) => {
                let problem = "is not asked for credentials: use https://".to_owned();
                Err(FetchError::Invalid { text: redacted(without_query(url).as_str()), problem })
            }
        }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let url = Url::parse(&request.uri().to_string());
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        // A store may be its own token service.
        let at_store = self.store == host_and_port(&url) && !is_for_token(request.method(), &url);
        self.exchange(request, at_store, url).await
    }
}

/// Whether a request is for Amazon's token service.
fn is_for_token(method: &Method, url: &Url) -> bool {
    method == Method::POST && url.query_pairs().any(|(name, _)| name == "Action")
}

/// What a query says, as a form. A token may come from a file with a line's end.
fn form_of(url: &Url) -> String {
    let pairs = url.query_pairs().map(|(name, value)| (name, value.trim().to_owned()));
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Says for a store what the library insists on, and what emulators leave out: an empty tag is none.
fn complete(headers: &mut HeaderMap) {
    headers.entry(header::ETAG).or_insert(HeaderValue::from_static(NO_ETAG));
    headers.entry(header::LAST_MODIFIED).or_insert(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
}

/// What an object has that its store says no version of.
pub(super) const NO_ETAG: &str = "\"\"";

/// A failure as the library hears it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);

/// Requests are repeated by whoever reads the object: the library's own bounds would end with three minutes.
pub(super) fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Whether a URL is of a service in this machine, or of the addresses at which clouds tell a machine its credentials.
fn is_of_this_machine(url: &Url, access: &CloudAccess) -> bool {
    let is_own = |address: IpAddr| is_link_local(address) || address.to_canonical().is_loopback();
    match url.host() {
        Some(url::Host::Ipv4(address)) => is_own(address.into()),
        Some(url::Host::Ipv6(address)) => is_own(address.into()),
        Some(url::Host::Domain(name)) => {
            let chosen = access.value("GCE_METADATA_HOST").map(|host| host.split(':').next().unwrap_or(host));
            name == "localhost" || name == "metadata.google.internal" || chosen == Some(name)
        }
        None => false,
    }
}

fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}
