//! Requests over HTTP, and answers as streams.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Once, OnceLock},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::{dns, redirect};
use url::Url;

use super::{Basic, FetchError, Remote};
use crate::source::redacted;

/// How many redirects are followed, as browsers and curl do it.
const REDIRECTS: usize = 10;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(20);

/// How often somebody looks whether the build was stopped.
const TICK: Duration = Duration::from_millis(200);

/// How often a request is sent in all, where no answer comes or the server says that it has trouble.
pub(crate) const ATTEMPTS: u32 = 4;

/// How long connecting to a source of credentials in this machine or its cloud may take: most machines have none.
const CONNECT_METADATA: Duration = Duration::from_secs(1);

/// Clients, each made when it is needed: reading the system's certificates takes milliseconds.
#[derive(Default)]
pub(super) struct Clients {
    proxied: OnceLock<reqwest::Client>,
    /// For this machine's own servers, which a proxy can't reach.
    direct: OnceLock<reqwest::Client>,
    unverified: OnceLock<reqwest::Client>,
    /// For the addresses at which clouds tell a machine its credentials.
    metadata: OnceLock<reqwest::Client>,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// For the URL's own host alone.
    pub(crate) credential: Option<Basic>,
    /// Whether certificates may be unchecked if the options say so: for git servers.
    pub(crate) is_git: bool,
}

/// What came back: any status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Where it came from in the end.
    pub(crate) url: Url,
    pub(crate) body: Body,
}

impl Request {
    pub(crate) fn get(url: Url) -> Self {
        let (headers, body) = (HeaderMap::new(), Vec::new());
        Self { method: Method::GET, url, headers, body, credential: None, is_git: false }
    }

    pub(crate) fn header(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}

impl Remote {
    /// Sends a request and follows redirects; tries again where nobody answers or the server says that it has trouble. A
    /// password goes to the host that it is for and no other.
    pub(crate) fn send(&self, request: &Request) -> Result<Answer, FetchError> {
        let mut attempt = 1;
        loop {
            let sent = self.send_once(request);
            let again = match &sent {
                Ok(answer) => answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS,
                Err(error) => matches!(error, FetchError::Connect { .. } | FetchError::Broken { .. }),
            };
            if !again || attempt >= ATTEMPTS {
                return sent;
            }
            self.pause(Duration::from_millis(250 << attempt))?;
            attempt += 1;
        }
    }

    /// Waits, as long as nobody stops the build.
    pub(crate) fn pause(&self, length: Duration) -> Result<(), FetchError> {
        let mut left = length;
        while !left.is_zero() {
            if self.is_stopped() {
                return Err(FetchError::Stopped);
            }
            let step = left.min(TICK);
            std::thread::sleep(step);
            left -= step;
        }
        Ok(())
    }

    fn send_once(&self, request: &Request) -> Result<Answer, FetchError> {
        let first = &request.url;
        let mut url = first.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.exchange(request, &url, url.origin() == first.origin())?;
            let is_redirect = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let location =
                answer.headers.get(header::LOCATION).filter(|_| is_redirect && request.method == Method::GET);
            let Some(location) = location else { return Ok(answer) };
            let refused = |to: String| FetchError::Redirect { url: redacted(first.as_str()), to };
            let next = location.to_str().ok().and_then(|location| url.join(location).ok());
            let next = next.ok_or_else(|| refused("to something that is no URL".to_owned()))?;
            match (url.scheme(), next.scheme()) {
                ("https", "https") | ("http", "http" | "https") => url = next,
                _ => return Err(refused(format!("to `{}`, which is less safe", redacted(next.as_str())))),
            }
        }
        Err(FetchError::Redirect { url: redacted(first.as_str()), to: format!("more than {REDIRECTS} times") })
    }

    fn exchange(&self, request: &Request, url: &Url, own_host: bool) -> Result<Answer, FetchError> {
        let host = host_and_port(url);
        self.check_address(url)?;
        self.check_host(&host)?;
        let client = self.client(url, request.is_git)?;
        let mut builder = client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
        if request.method == Method::POST {
            builder = builder.body(request.body.clone());
        }
        if let Some(basic) = request.credential.as_ref().filter(|_| own_host) {
            builder = builder.basic_auth(&basic.username, Some(&basic.password));
        }
        let sending = builder.send();
        let shown = redacted(url.as_str());
        let response = self.wait(&shown, sending)?.map_err(|error| explain(&error, host, &shown))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = Body { remote: self.clone(), response, chunk: bytes::Bytes::new(), url: shown, received: 0 };
        Ok(Answer { status, headers, url: url.clone(), body })
    }

    /// Waits for something of the network, as long as the server is not too silent and nobody stopped the build.
    pub(crate) fn wait<T>(&self, url: &str, work: impl Future<Output = T>) -> Result<T, FetchError> {
        let patience = self.patience();
        self.runtime()?.block_on(async {
            let mut work = std::pin::pin!(work);
            let mut waited = Duration::ZERO;
            loop {
                if let Ok(done) = tokio::time::timeout(TICK, &mut work).await {
                    return Ok(done);
                }
                waited += TICK;
                if self.is_stopped() {
                    return Err(FetchError::Stopped);
                }
                if waited >= patience {
                    let reason = format!("nothing came for {} seconds", patience.as_secs());
                    return Err(FetchError::Broken { url: url.to_owned(), reason });
                }
            }
        })
    }

    /// Fails for an address that only the builder's own machine should reach.
    pub(crate) fn check_address(&self, url: &Url) -> Result<(), FetchError> {
        match address(url).is_some_and(is_link_local) {
            true => Err(FetchError::LinkLocal { host: host_and_port(url) }),
            false => Ok(()),
        }
    }

    /// The client for sources of credentials in this machine or its cloud, which no proxy reaches.
    pub(crate) fn metadata_client(&self, url: &Url) -> Result<reqwest::Client, FetchError> {
        let cell = &self.inner.clients.metadata;
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let builder = client_builder().connect_timeout(CONNECT_METADATA).no_proxy();
        let made = builder.build();
        let made = made.map_err(|error| FetchError::Tls { host: host_and_port(url), reason: innermost(&error) })?;
        Ok(cell.get_or_init(|| made).clone())
    }

    /// The client for a server; certificates of git servers may be unchecked.
    pub(crate) fn client(&self, url: &Url, is_git: bool) -> Result<reqwest::Client, FetchError> {
        let clients = &self.inner.clients;
        let is_loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let unverified = is_git && self.inner.options.skip_tls_verify;
        let cell = match (unverified, is_loopback) {
            (true, _) => &clients.unverified,
            (false, true) => &clients.direct,
            (false, false) => &clients.proxied,
        };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let builder = client_builder().connect_timeout(CONNECT).dns_resolver(Arc::new(GuardedNames));
        let builder = if is_loopback { builder.no_proxy() } else { builder };
        let builder = if unverified { builder.tls_danger_accept_invalid_certs(true) } else { builder };
        let host = host_and_port(url);
        let made = builder.build().map_err(|error| FetchError::Tls { host, reason: innermost(&error) })?;
        Ok(cell.get_or_init(|| made).clone())
    }
}

fn client_builder() -> reqwest::ClientBuilder {
    install_crypto();
    reqwest::Client::builder()
        .user_agent(concat!("cofferdam/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
}

/// An answer's body as it arrives.
pub(crate) struct Body {
    remote: Remote,
    response: reqwest::Response,
    chunk: bytes::Bytes,
    url: String,
    received: u64,
}

impl Body {
    /// The next bytes, as they come; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<bytes::Bytes>, FetchError> {
        let received = self.remote.wait(&self.url, self.response.chunk())?;
        let broken = |error: reqwest::Error| FetchError::Broken { url: self.url.clone(), reason: innermost(&error) };
        let Some(chunk) = received.map_err(broken)? else { return Ok(None) };
        self.received += chunk.len() as u64;
        let limit = self.remote.limits().download_bytes;
        match self.received > limit {
            true => Err(FetchError::TooLarge { url: self.url.clone(), limit, unit: "bytes" }),
            false => Ok(Some(chunk)),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut chunk = std::mem::take(&mut self.chunk);
        let read = read_chunk(&mut chunk, buffer, || self.next());
        self.chunk = chunk;
        read
    }
}

/// Reads what is left of a chunk, or of the next one; nothing where there is none.
pub(crate) fn read_chunk(
    chunk: &mut bytes::Bytes,
    buffer: &mut [u8],
    mut next: impl FnMut() -> Result<Option<bytes::Bytes>, FetchError>,
) -> io::Result<usize> {
    while chunk.is_empty() {
        match next().map_err(io::Error::other)? {
            Some(more) => *chunk = more,
            None => return Ok(0),
        }
    }
    let length = buffer.len().min(chunk.len());
    buffer[..length].copy_from_slice(&chunk.split_to(length));
    Ok(length)
}

/// What an answer that is no success means, with what to do about it.
pub(crate) fn refusal(answer: &Answer, remedies: &Remedies) -> FetchError {
    let url = redacted(answer.url.as_str());
    if answer.status == StatusCode::UNAUTHORIZED {
        return FetchError::Unauthorized { url, given: remedies.credential_given, remedy: remedies.password };
    }
    let remedy = match answer.status.as_u16() {
        403 => remedies.forbidden,
        404 | 410 => remedies.missing,
        429 | 500..=599 => "the server has trouble: build again later",
        _ => "check the address",
    };
    FetchError::Status { url, status: answer.status.to_string(), remedy }
}

/// What to do about answers, which depends on what was asked for.
pub(crate) struct Remedies {
    pub(crate) credential_given: bool,
    pub(crate) password: &'static str,
    pub(crate) forbidden: &'static str,
    pub(crate) missing: &'static str,
}

/// What a request that got no answer means.
pub(crate) fn explain(error: &reqwest::Error, host: String, url: &str) -> FetchError {
    let reason = innermost(error);
    if let Some(found) = link_local(error) {
        return FetchError::LinkLocal { host: found };
    }
    let is_tls = ["certificate", "UnknownIssuer", "TLS", "tls"].iter().any(|word| reason.contains(word));
    match error.is_connect() {
        true if is_tls => FetchError::Tls { host, reason },
        true => FetchError::Connect { host, reason },
        false => FetchError::Broken { url: url.to_owned(), reason },
    }
}

/// The cause of all in its own words.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

pub(crate) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        url::Host::Domain(_) => None,
        url::Host::Ipv4(address) => Some(address.into()),
        url::Host::Ipv6(address) => Some(address.into()),
    }
}

/// Addresses behind which cloud providers tell a machine its credentials.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.segments()[..2] == [0xfd00, 0x0ec2],
    }
}

/// The system's names, without those that mean a link-local address.
struct GuardedNames;

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is a link-local address")]
struct LinkLocalName(String);

fn link_local(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(LinkLocalName(name)) = error.downcast_ref() {
            return Some(name.clone());
        }
        cause = error.source();
    }
    None
}

impl dns::Resolve for GuardedNames {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found.iter().copied().filter(|found| !is_link_local(found.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(Box::new(LinkLocalName(name.as_str().to_owned())) as Box<_>);
            }
            Ok(Box::new(allowed.into_iter()) as dns::Addrs)
        })
    }
}

/// Makes `ring` the process's TLS cryptography. When a program around us chose another one first, that stays.
fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // The error is the provider that another part of the program installed before.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_machines_are_out_of_reach() {
        for (address, refused) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("fd00::1", false),
        ] {
            assert_eq!(is_link_local(address.parse().unwrap()), refused, "{address}");
        }
    }
}
