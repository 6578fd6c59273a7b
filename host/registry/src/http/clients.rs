//! One reqwest client for each way of using TLS, made when it is first needed: reading the system's certificates takes
//! milliseconds that a build from the cache does not have.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Once, PoisonError},
};

use reqwest::{Certificate, Identity, redirect};
use url::Url;

use crate::{ClientOptions, HostCertificates, RegistryError, RequestLine, reference::is_loopback};

/// How to connect to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Profile {
    tls: Tls,
    /// Without a proxy, even where the environment names one: it would mean the proxy's own machine.
    direct: bool,
    /// Which of the options' certificates for single hosts are used.
    certificates: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tls {
    None,
    Verified,
    Unverified,
}

impl Profile {
    /// For a URL's scheme and host.
    pub(crate) fn new(url: &Url, verify: bool, certificates: Option<usize>) -> Self {
        let tls = match (url.scheme(), verify) {
            ("http", _) => Tls::None,
            (_, true) => Tls::Verified,
            (_, false) => Tls::Unverified,
        };
        Self { tls, direct: url.host_str().is_some_and(is_loopback), certificates }
    }

    /// The same, without a proxy if that is wanted.
    pub(crate) fn directly_if(self, direct: bool) -> Self {
        Self { direct: self.direct || direct, ..self }
    }

    /// Whether no proxy is used.
    pub(super) fn is_direct(self) -> bool {
        self.direct
    }
}

/// The clients made so far.
pub(crate) struct Clients {
    options: Arc<ClientOptions>,
    made: Mutex<BTreeMap<Profile, reqwest::Client>>,
}

impl Clients {
    pub(crate) fn new(options: Arc<ClientOptions>) -> Self {
        Self { options, made: Mutex::default() }
    }

    /// The client for a profile; host and request are for the message when it can't be made.
    pub(crate) fn get(
        &self,
        profile: Profile,
        host: &str,
        request: &RequestLine,
    ) -> Result<reqwest::Client, RegistryError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&profile) {
            return Ok(client.clone());
        }
        let client = self.build(profile, host, request)?;
        made.insert(profile, client.clone());
        Ok(client)
    }

    fn build(&self, profile: Profile, host: &str, request: &RequestLine) -> Result<reqwest::Client, RegistryError> {
        install_crypto();
        let builder = reqwest::Client::builder()
            .user_agent(&self.options.user_agent)
            .connect_timeout(self.options.timeouts.connect)
            // Uploads must not wait for a window that was made for web pages.
            .http2_adaptive_window(true)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never());
        let builder = if profile.direct { builder.no_proxy() } else { builder };
        let builder = match profile.tls {
            // No certificate is needed, so none is loaded; a redirect to https gets a client of its own.
            Tls::None => builder.tls_certs_only([]),
            Tls::Verified => builder.tls_certs_merge(self.extra_certificates(profile)?),
            Tls::Unverified => builder.tls_danger_accept_invalid_certs(true),
        };
        let builder = match self.own(profile).filter(|own| profile.tls != Tls::None && !own.client_pem.is_empty()) {
            Some(own) => builder.identity(identity(&own.client_pem, host)?),
            None => builder,
        };
        builder.build().map_err(|error| match profile.tls {
            // The one way this fails: a system without any CA certificate.
            Tls::Verified => RegistryError::Tls {
                host: host.to_owned(),
                request: request.clone(),
                certificate: true,
                reason: super::failure::innermost(&error),
            },
            _ => RegistryError::Setup { reason: super::failure::innermost(&error) },
        })
    }

    /// What the options have for the profile's host alone.
    fn own(&self, profile: Profile) -> Option<&HostCertificates> {
        self.options.host_certificates.values().nth(profile.certificates?)
    }

    fn extra_certificates(&self, profile: Profile) -> Result<Vec<Certificate>, RegistryError> {
        let mut certificates = Vec::new();
        let own = self.own(profile).map(|own| &own.ca_pem).filter(|pem| !pem.is_empty());
        for pem in self.options.ca_certificates_pem.iter().chain(own) {
            let error = |why| RegistryError::Setup { reason: format!("a CA certificate can't be read: {why}") };
            let read = Certificate::from_pem_bundle(pem).map_err(|why| error(super::failure::innermost(&why)))?;
            if read.is_empty() {
                return Err(error("there is no PEM block `CERTIFICATE` in it".to_owned()));
            }
            certificates.extend(read);
        }
        Ok(certificates)
    }
}

/// Our certificate and its key, for one host.
fn identity(pem: &[u8], host: &str) -> Result<Identity, RegistryError> {
    Identity::from_pem(pem).map_err(|why| RegistryError::Setup {
        reason: format!(
            "the client certificate for `{host}` and its key can't be used: {}",
            super::failure::innermost(&why)
        ),
    })
}

/// Makes `ring` the process's TLS cryptography. When a program around us chose another one first, that stays.
fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // The error is the provider that another part of the program installed before.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
