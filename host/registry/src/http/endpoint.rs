//! Where a registry's API is, and whether it speaks TLS there.

use reqwest::{Method, StatusCode};
use url::Url;

use super::{Answer, Http, Outgoing, Profile};
use crate::{RegistryError, RegistryHost};

/// The base URL of a registry's API and how to connect to it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    base: Url,
    profile: Profile,
}

impl Endpoint {
    fn new(
        host: &RegistryHost,
        scheme: &str,
        verify: bool,
        certificates: Option<usize>,
    ) -> Result<Self, RegistryError> {
        let base = Url::parse(&format!("{scheme}://{}/", host.api_authority()))
            .map_err(|error| RegistryError::Setup { reason: format!("`{host}` makes no URL: {error}") })?;
        Ok(Self { profile: Profile::new(&base, verify, certificates), base })
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether a URL has the registry's own scheme, host and port: only then it gets the registry's credentials.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        url.scheme() == self.base.scheme()
            && url.host_str() == self.base.host_str()
            && url.port_or_known_default() == self.base.port_or_known_default()
    }

    /// The URL of a path below `/v2/`. Names, tags and digests have no character that would need escaping.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("v2/{path}"));
        url
    }

    /// A URL that the registry names (`Location`, a redirect), if it may be followed: never from TLS to plain HTTP.
    /// Registries behind a proxy that ends TLS often name themselves with `http`; then TLS is kept.
    pub(crate) fn follow(&self, answer: &Answer, from: &'static str, http: &Http) -> Result<Url, RegistryError> {
        let mut url = answer.location()?;
        let same_host = url.host_str() == self.base.host_str();
        let same_port = url.port_or_known_default() == self.base.port_or_known_default();
        let both_default = url.port().is_none() && self.base.port().is_none();
        if self.is_tls() && url.scheme() == "http" && same_host && (same_port || both_default) {
            // From http to https always succeeds.
            let _ = url.set_scheme("https");
        }
        let insecure = || http.options.is_insecure(&super::authority(&url), http.direction);
        let allowed = match url.scheme() {
            "https" => true,
            "http" => !self.is_tls() || insecure(),
            _ => false,
        };
        if !allowed {
            return Err(RegistryError::Elsewhere {
                request: answer.request().clone(),
                from,
                to: crate::error::bare(&url),
                reason: "which is not protected by TLS as the registry is",
            });
        }
        Ok(url)
    }
}

/// What the registry said when it was greeted (`GET /v2/`, distribution specification, "Determining Support").
pub(crate) struct Greeting {
    pub(crate) endpoint: Endpoint,
    pub(crate) answer: Answer,
}

impl Http {
    /// Finds the endpoint of a host. HTTPS, unless the host is this machine or was called insecure: then plain HTTP is
    /// possible too. No credentials are sent while that is open.
    ///
    /// With a port in the reference there is one server, and asking in plain HTTP first tells at once which protocol it
    /// speaks; without one there are two, and the protected one goes first.
    pub(crate) async fn greet(&self, host: &RegistryHost) -> Result<Greeting, RegistryError> {
        let name = host.to_string();
        let insecure = self.options.is_insecure(&name, self.direction);
        let verify = !insecure && !self.options.skips_tls_verify(&name, self.direction);
        let certificates = self.options.certificates_of(&name);
        let tls = Endpoint::new(host, "https", verify, certificates)?;
        if !insecure && !host.is_loopback() {
            return self.greet_at(tls).await;
        }
        let plain = Endpoint::new(host, "http", verify, certificates)?;
        let (first, second) = if host.port().is_some() { (plain, tls) } else { (tls, plain) };
        let first = match self.greet_at(first).await {
            Ok(greeting) if speaks(&greeting.answer) => return Ok(greeting),
            other => other,
        };
        match (first, self.greet_at(second).await) {
            (_, Ok(greeting)) => Ok(greeting),
            // It speaks TLS, but has a bad certificate: that is the thing to tell. Else what the first attempt met.
            // Or what the user gave for TLS can't be used.
            (_, Err(second @ (RegistryError::Tls { certificate: true, .. } | RegistryError::Setup { .. }))) => {
                Err(second)
            }
            (Ok(first), Err(_)) => Ok(first),
            (Err(first), Err(_)) => Err(first),
        }
    }

    async fn greet_at(&self, endpoint: Endpoint) -> Result<Greeting, RegistryError> {
        let outgoing = Outgoing::new(Method::GET, endpoint.url(""));
        let answer = self.exchange(endpoint.profile(), outgoing).await?;
        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(answer.into_error().await);
        }
        Ok(Greeting { endpoint, answer })
    }
}

/// Whether an answer is a registry's: a server for TLS answers plain HTTP with 400, a web server with 404 or a redirect.
fn speaks(answer: &Answer) -> bool {
    matches!(answer.status(), StatusCode::OK | StatusCode::UNAUTHORIZED)
        || answer.header("docker-distribution-api-version").is_some()
}
