//! What a registry is told about who asks, and where that comes from.

use std::fmt;

use crate::Secret;

/// What is to be done in a repository: the actions of a token's scope
/// (distribution specification, "Token Scope Documentation").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Read manifests and blobs.
    Pull,
    /// Write manifests and blobs.
    Push,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pull => "pull",
            Self::Push => "push",
        })
    }
}

/// How a user is known to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Not at all: public images only.
    Anonymous,
    /// A name and a password, for the registry or for its token server.
    Basic {
        /// The user's name.
        username: String,
        /// The password or personal access token.
        password: Secret,
    },
    /// A token that the registry itself takes (`registrytoken` in a `config.json`).
    Bearer(Secret),
    /// A refresh token that the token server exchanges (`identitytoken` in a `config.json`).
    IdentityToken(Secret),
}

impl Credential {
    /// Which kind this is.
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Anonymous => CredentialKind::Anonymous,
            Self::Basic { .. } => CredentialKind::Basic,
            Self::Bearer(_) => CredentialKind::Bearer,
            Self::IdentityToken(_) => CredentialKind::IdentityToken,
        }
    }
}

/// The kind of a [`Credential`], for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// No credentials.
    Anonymous,
    /// A name and a password.
    Basic,
    /// A registry token.
    Bearer,
    /// An identity token.
    IdentityToken,
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "no credentials",
            Self::Basic => "a user name and password",
            Self::Bearer => "a registry token",
            Self::IdentityToken => "an identity token",
        })
    }
}

/// Finds credentials. The client calls it on a blocking thread, once for each host, repository and set of actions, and
/// again when what it gave was refused or is [`ClientOptions::credential_lifetime`](crate::ClientOptions) old.
pub trait CredentialSource: Send + Sync {
    /// The credential for `repository` (without the host; empty for the registry as a whole) at `host`, as the
    /// user writes the host (`docker.io`, `registry.example:5000`); none when nothing is known of that host.
    fn credential(
        &self,
        host: &str,
        repository: &str,
        actions: &[Action],
    ) -> Result<Option<Credential>, CredentialError>;
}

/// A source that could not tell whether there is a credential.
#[derive(Debug, thiserror::Error)]
#[error("no credential could be had for `{host}`: {reason}")]
pub struct CredentialError {
    /// The registry's host.
    pub host: String,
    /// What went wrong, without any secret.
    pub reason: String,
}

/// Knows nobody: every request is anonymous.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl CredentialSource for NoCredentials {
    fn credential(&self, _: &str, _: &str, _: &[Action]) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}
