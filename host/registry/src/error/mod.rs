//! Everything that a registry, or the way to it, can do wrong.

mod remedy;
mod said;

use std::{fmt, io, time::Duration};

use cofferdam_digest::Digest;
use reqwest::{Method, StatusCode};
use url::Url;

pub(crate) use said::MAX_BODY_BYTES;
pub use said::Said;

use crate::{Action, CredentialError, CredentialKind, RateLimit};

/// A request, for messages: its method and its URL without the user and the query, where signatures and tokens stand.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestLine(String);

impl RequestLine {
    pub(crate) fn new(method: &Method, url: &Url) -> Self {
        Self(format!("{method} {}", bare(url)))
    }
}

/// A URL without user and query.
pub(crate) fn bare(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for URLs that have no host, and so no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a registry does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The manifest, by tag or digest.
    Manifest,
    /// The blob.
    Blob,
    /// The repository itself.
    Repository,
}

impl Missing {
    /// What a 404 with these words is about.
    pub(crate) fn said_to_be(self, said: &Said) -> Self {
        if said.has_code("NAME_UNKNOWN") { Self::Repository } else { self }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Repository => "repository",
        })
    }
}

/// What was waited for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// For the answer to begin.
    Answer,
    /// For the next bytes of the answer.
    Receive,
    /// For the other side to take more of the request.
    Send,
    /// For the connection.
    Connect,
}

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "no answer came",
            Self::Receive => "no more bytes came",
            Self::Send => "no more bytes were taken",
            Self::Connect => "no connection came about",
        })
    }
}

/// Why something could not be had from a registry, or brought to it. Messages name the request and keep the registry's
/// own words; [`RegistryError::remedy`] says what to do. No message contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Status 401 although everything that is known was sent.
    #[error("`{host}` does not let us {action} `{repository}`: {request} answered 401 to {used}{said}")]
    Unauthorized {
        /// The registry.
        host: String,
        /// The repository, without the host.
        repository: String,
        /// What was to be done there.
        action: Action,
        /// What was sent.
        used: CredentialKind,
        /// The request that was refused: the registry's or the token server's.
        request: RequestLine,
        /// The registry's words.
        said: Said,
    },
    /// A user's name and password that a registry, or its token server, does not take.
    #[error("`{host}` does not take the user name and password: {request} refused them{said}")]
    WrongCredentials {
        /// The registry.
        host: String,
        /// The request that was refused.
        request: RequestLine,
        /// The registry's words.
        said: Said,
    },
    /// Status 403: known, but not allowed.
    #[error("`{host}` forbids us to {action} `{repository}`: {request} answered 403 to {used}{said}")]
    Denied {
        /// The registry.
        host: String,
        /// The repository, without the host.
        repository: String,
        /// What was to be done there.
        action: Action,
        /// What was sent.
        used: CredentialKind,
        /// The request that was refused: the registry's or the token server's.
        request: RequestLine,
        /// The registry's words.
        said: Said,
    },
    /// Status 404.
    #[error("the {what} `{name}` does not exist: {request} answered 404{said}")]
    NotFound {
        /// What kind of thing.
        what: Missing,
        /// Its name, with the host.
        name: String,
        /// The request.
        request: RequestLine,
        /// The registry's words.
        said: Said,
    },
    /// Status 429 until patience ended.
    #[error(
        "the registry limits how often we may ask: {request} answered 429{}{}{said}",
        RetryAfter(*retry_after),
        limit.map(|limit| format!(", {limit}")).unwrap_or_default()
    )]
    RateLimited {
        /// The request.
        request: RequestLine,
        /// How long the registry wants us to wait.
        retry_after: Option<Duration>,
        /// How many images it still gives, if it says so.
        limit: Option<RateLimit>,
        /// The registry's words.
        said: Said,
    },
    /// Another status that does not belong here.
    #[error("{request} answered {status}{said}")]
    Status {
        /// The request.
        request: RequestLine,
        /// The status.
        status: StatusCode,
        /// The registry's words.
        said: Said,
    },
    /// Content with another digest than was asked for or announced.
    #[error("{request}: the content's digest is {actual}, expected {expected}")]
    DigestMismatch {
        /// The request.
        request: RequestLine,
        /// What was asked for or announced.
        expected: Digest,
        /// What came, or what the registry says that it stored.
        actual: Digest,
    },
    /// Content longer than its descriptor says, or of another announced length.
    #[error("{request}: the content has {} {actual} bytes, expected {expected}", if *at_least { "at least" } else { "" })]
    SizeMismatch {
        /// The request.
        request: RequestLine,
        /// The descriptor's size in bytes.
        expected: u64,
        /// The size that came or was announced, in bytes.
        actual: u64,
        /// Whether reading stopped there, so that there may be more.
        at_least: bool,
    },
    /// Content that ended early, each time.
    #[error("{request}: the content ended after {received} of {expected} bytes")]
    Truncated {
        /// The request.
        request: RequestLine,
        /// How many bytes came, in all attempts together.
        received: u64,
        /// The descriptor's size in bytes.
        expected: u64,
    },
    /// More bytes than this client reads.
    #[error("{request}: the answer is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The request.
        request: RequestLine,
        /// The most that is read, in bytes.
        limit_bytes: u64,
    },
    /// TLS could not be set up: a certificate, mostly.
    #[error("no TLS connection to `{host}` for {request}: {reason}")]
    Tls {
        /// Host and port.
        host: String,
        /// The request.
        request: RequestLine,
        /// Whether it failed for the server's certificate.
        certificate: bool,
        /// What the TLS library says.
        reason: String,
    },
    /// No connection.
    #[error(
        "no connection to `{host}`{} for {request}: {reason}",
        .proxy.as_ref().map(|proxy| format!(" through the proxy `{proxy}`")).unwrap_or_default()
    )]
    Connect {
        /// Host and port.
        host: String,
        /// The proxy that the environment names for it.
        proxy: Option<String>,
        /// The request.
        request: RequestLine,
        /// What the system says.
        reason: String,
    },
    /// Nothing moved for too long.
    #[error("{request}: {waited} for {} s", after.as_secs_f32())]
    Timeout {
        /// The request.
        request: RequestLine,
        /// What was waited for.
        waited: Waited,
        /// How long.
        after: Duration,
    },
    /// A body that comes, but so slowly that it would take for ever.
    #[error(
        "{request}: only {bytes} bytes came in {:.0} s, less than {least_bytes_per_second} in each second",
        waited.as_secs_f64()
    )]
    TooSlow {
        /// The request.
        request: RequestLine,
        /// How many bytes came.
        bytes: u64,
        /// In which time.
        waited: Duration,
        /// What is expected, in bytes.
        least_bytes_per_second: u64,
    },
    /// Redirects without an end.
    #[error("{request}: redirects lead on and on, after {hops} of them to {to}")]
    Redirects {
        /// The request.
        request: RequestLine,
        /// How many were followed.
        hops: usize,
        /// Where the last one leads, without the query.
        to: String,
    },
    /// The connection broke, or what came over it was not HTTP.
    #[error("{request}: the connection broke: {reason}")]
    Transport {
        /// The request.
        request: RequestLine,
        /// What the HTTP library says.
        reason: String,
    },
    /// A manifest of a kind that is not read.
    #[error("{request}: `{media_type}` is not a manifest that can be used")]
    UnsupportedMediaType {
        /// The request.
        request: RequestLine,
        /// What the registry sent.
        media_type: String,
    },
    /// An answer that breaks the specification.
    #[error("{request}: the answer can't be used: {reason}")]
    Answer {
        /// The request.
        request: RequestLine,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry sends us where we do not go.
    #[error("{request}: {from} leads to {to}, {reason}")]
    Elsewhere {
        /// The request.
        request: RequestLine,
        /// What leads there: a redirect, a `Location`, a token realm.
        from: &'static str,
        /// Where to, without the query.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// The source of credentials failed.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The content to be sent could not be read here.
    #[error("{request}: the content to be sent can't be read")]
    Source {
        /// The request.
        request: RequestLine,
        /// Why.
        source: io::Error,
    },
    /// The content to be sent has another size than was said.
    #[error("{request}: the content to be sent has {actual} bytes, its descriptor says {expected}")]
    SourceSize {
        /// The request.
        request: RequestLine,
        /// The descriptor's size in bytes.
        expected: u64,
        /// What could be read, in bytes; one more than expected stands for any greater size.
        actual: u64,
    },
    /// The options make no usable client, for example because a CA certificate can't be read.
    #[error("the registry client can't be set up: {reason}")]
    Setup {
        /// What is wrong.
        reason: String,
    },
}

impl RegistryError {
    /// Whether the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::TooSlow { .. }
            | Self::Transport { .. }
            | Self::Truncated { .. } => true,
            Self::Status { status, .. } => {
                matches!(status.as_u16(), 408 | 500 | 502 | 503 | 504) || status.as_u16() >= 520
            }
            _ => false,
        }
    }

    /// Whether a registry refuses a tag because tags of this repository are never moved. There is no code for it: registries
    /// answer 400, 403, 409 or 412, and say so in words.
    pub fn says_immutable_tag(&self) -> bool {
        match self {
            Self::Status { said, .. } | Self::Denied { said, .. } => {
                said.text().to_ascii_lowercase().contains("immutab")
            }
            _ => false,
        }
    }
}

struct RetryAfter(Option<Duration>);

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |after| write!(f, " (try again in {} s)", after.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_shown_without_user_query_and_fragment() {
        let url = Url::parse("https://user:pass@cdn.example/blob?X-Signature=secret#frag").unwrap();
        let line = RequestLine::new(&Method::GET, &url);
        assert_eq!(line.to_string(), "GET https://cdn.example/blob");
        assert_eq!(format!("{line:?}"), line.to_string());
    }
}
