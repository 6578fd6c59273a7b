//! What a failed exchange means.

use std::{error::Error, io, time::Duration};

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::{RegistryError, RequestLine, error::Waited};

/// Sorts an error of the HTTP library by its causes.
///
/// `proxy` is what stands before the host.
pub(super) fn classify(
    error: &reqwest::Error,
    host: String,
    request: RequestLine,
    connect: Duration,
    proxy: impl FnOnce() -> Option<String>,
) -> RegistryError {
    if let Some(tls) = tls_cause(error) {
        let certificate = matches!(tls, rustls::Error::InvalidCertificate(_));
        return RegistryError::Tls { host, request, certificate, reason: tls_reason(tls) };
    }
    if error.is_connect() && error.is_timeout() {
        return match proxy() {
            None => RegistryError::Timeout { request, waited: Waited::Connect, after: connect },
            proxy => {
                let reason = format!("it did not answer within {} s", connect.as_secs_f32());
                RegistryError::Connect { host, proxy, request, reason }
            }
        };
    }
    let reason = innermost(error);
    if error.is_connect() {
        return RegistryError::Connect { host, proxy: proxy(), request, reason };
    }
    RegistryError::Transport { request, reason }
}

/// The proxy that the environment names for a URL, without the password that may stand in it. The HTTP library decides by
/// the same rules, and tells nobody.
pub(super) fn proxy_of(url: &Url) -> Option<String> {
    let proxy = Matcher::from_system().intercept(&url.as_str().parse().ok()?)?;
    let uri = proxy.uri();
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{}{port}", uri.scheme_str()?, uri.host()?))
}

/// The message of the first cause: the ones above it only say in which layer it was met, or repeat the URL with its
/// query.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = deeper(cause) {
        cause = next;
    }
    match cause.downcast_ref::<reqwest::Error>() {
        Some(_) => "the request could not be made".to_owned(),
        None => cause.to_string(),
    }
}

/// The next cause. An `io::Error` made from another error hides that one from `source`, which skips to *its* cause.
fn deeper<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return Some(inner);
    }
    error.source()
}

fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        cause = deeper(error);
    }
    None
}

fn tls_reason(error: &rustls::Error) -> String {
    use rustls::CertificateError::{Expired, NotValidForName, NotValidForNameContext, UnknownIssuer};
    match error {
        rustls::Error::InvalidCertificate(UnknownIssuer) => {
            "its certificate is signed by an authority that is not known here".to_owned()
        }
        rustls::Error::InvalidCertificate(Expired | rustls::CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "its certificate is for another name".to_owned()
        }
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS there".to_owned(),
        // The library below rustls gives this one no name of its own above. It is what `openssl req -x509` makes.
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is that of a certificate authority, which a server must not use as its own".to_owned()
        }
        other => other.to_string(),
    }
}
