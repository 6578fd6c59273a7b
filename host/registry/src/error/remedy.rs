//! What a user can do about an error.

use super::{Missing, RegistryError};
use crate::CredentialKind;

impl RegistryError {
    /// What to do about it, in one sentence; none when nothing but the error itself can be said.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Unauthorized { host, used: CredentialKind::Anonymous, .. } => {
                format!("log in to `{host}`, or give its credentials to a credential helper (docker's `config.json`)")
            }
            Self::Unauthorized { host, used: CredentialKind::Basic, .. } => {
                format!("check the user name and the password for `{host}`; an access token may have expired")
            }
            Self::WrongCredentials { .. } => {
                "check both; many registries want an access token in the place of the password".to_owned()
            }
            Self::Unauthorized { host, .. } => format!("the token for `{host}` may have expired: log in again"),
            Self::Denied { repository, action, used: CredentialKind::Anonymous, .. } => {
                format!("log in with an account that may {action} `{repository}`")
            }
            Self::Denied { repository, action, .. } => format!(
                "use credentials that may {action} `{repository}`, and check that the repository exists and is spelt so"
            ),
            Self::NotFound { what: Missing::Manifest, .. } => {
                "check the tag and the spelling of the name; a registry may hide what you are not allowed to see"
                    .to_owned()
            }
            Self::NotFound { what: Missing::Repository, .. } => {
                "check the spelling; some registries want a repository to be created before the first push".to_owned()
            }
            Self::NotFound { what: Missing::Blob, .. } => {
                "the image is incomplete in its registry: push it again, or use another tag".to_owned()
            }
            Self::RateLimited { .. } => {
                "wait, log in (registered users may ask more often), or use a mirror of the registry".to_owned()
            }
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => {
                "the registry, or a proxy before it, sends other bytes than were pushed; nothing of them was used"
                    .to_owned()
            }
            Self::Truncated { .. } | Self::Transport { .. } | Self::Timeout { .. } => {
                "the connection or the registry is unreliable: run the same command again".to_owned()
            }
            Self::TooSlow { .. } => {
                "the connection or the registry is too slow: run the same command again, or take the \
                 image from another registry"
                    .to_owned()
            }
            Self::Redirects { .. } => {
                "the registry, or a proxy before it, is set up wrongly: check the image's name, and tell \
                 whoever runs it"
                    .to_owned()
            }
            Self::TooLarge { .. } => "this is not an image's manifest; check the reference".to_owned(),
            Self::Tls { host, certificate: false, .. } => {
                format!("if `{host}` is meant to be used without TLS, give `--insecure-registry {host}`")
            }
            Self::Tls { host, .. } => format!(
                "add the registry's CA certificate to the system's, or, for a registry you trust without it, give \
                 `--skip-tls-verify-registry {host}` (certificate not checked) or `--insecure-registry {host}` (plain HTTP)"
            ),
            Self::Connect { host, proxy: Some(_), .. } => format!(
                "check the proxy, which HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names; if `{host}` is to be reached without it, \
                 list it in NO_PROXY"
            ),
            Self::Connect { host, .. } => {
                format!("check that `{host}` is spelt right and can be reached from here (proxy variables, firewall)")
            }
            Self::UnsupportedMediaType { media_type, .. } if crate::media_type::is_schema_1(media_type) => {
                "this is Docker's schema 1 of before 2017: pull and push it with a current tool to convert it"
                    .to_owned()
            }
            Self::UnsupportedMediaType { .. } => {
                "the reference names something other than an image; check it".to_owned()
            }
            Self::Elsewhere { .. } => {
                "if the registry is meant to be used without TLS, name it with `--insecure-registry`".to_owned()
            }
            Self::Status { status, .. } if status.as_u16() == 407 => {
                "the proxy on the way wants a password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT".to_owned()
            }
            Self::Status { status, .. } if status.is_server_error() => {
                "the registry has a fault of its own: run the same command again later".to_owned()
            }
            Self::Status { status, .. } if status.as_u16() == 413 => {
                "the registry, or a proxy before it, limits the size of uploads: raise that limit".to_owned()
            }
            Self::Source { .. } | Self::SourceSize { .. } => {
                "the local store changed while it was read: build again".to_owned()
            }
            Self::Answer { .. } => {
                "the registry, or a proxy before it, does not keep to the protocol: check that the name is \
                 that of a registry, and tell whoever runs it"
                    .to_owned()
            }
            Self::Status { status, .. } if status.is_redirection() => {
                "check that the name is that of a registry and not of a web page".to_owned()
            }
            Self::Status { .. } => {
                "the registry refuses the request itself: check the name of the image, and tell whoever \
                 runs the registry what it answered"
                    .to_owned()
            }
            Self::Setup { .. } => "check the options that name certificates and hosts".to_owned(),
            Self::Credential(_) => return None,
        })
    }
}
