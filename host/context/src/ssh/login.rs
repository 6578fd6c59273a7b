//! Logging in at a server: its key is checked first, then it is offered the agent's keys.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use russh::{
    AgentAuthError, Preferred,
    client::{self, AuthResult, Handle},
    keys::{HashAlg, PublicKey, PublicKeyOrCertificate, agent::AgentIdentity, agent::client::AgentClient},
};

use super::known_hosts::{KnownKeys, PORT, Verdict};
use crate::{FetchError, Remote};

/// Who wants in, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// What is wanted there, for messages.
    pub(crate) url: String,
}

/// A connection on which the user was let in.
pub(crate) type Session = Handle<Checker>;

/// Connects and logs in.
///
/// # Errors
/// The server is not reached, not known, or does not let the user in; there is no agent.
pub(crate) fn log_in(remote: &Remote, login: &Login) -> Result<Session, FetchError> {
    let access = remote.ssh();
    // Without keys there is nothing to ask a server for.
    let agent = access.agent.as_ref().ok_or_else(|| FetchError::NoSshKeys { url: login.url.clone() })?;
    let port = login.port.unwrap_or(PORT);
    let known = KnownKeys::read(&access.known_hosts, &login.host, port).map_err(|(file, source)| {
        FetchError::Storage { action: format!("read the keys of hosts in `{}`", file.display()), source }
    })?;
    let stream = remote.connect(&login.host, port, PORT)?;
    let config = Arc::new(client::Config { preferred: preferred(&known), nodelay: true, ..Default::default() });
    let refusal = Arc::new(Mutex::new(None));
    let files = access.known_hosts.iter().map(|file| file.display().to_string()).collect();
    let checker = Checker { known, files, host: login.host.clone(), port, refusal: refusal.clone() };
    let broken = |reason: String| FetchError::Broken { url: login.url.clone(), reason };
    let io = |action: &'static str| move |source| FetchError::Storage { action: action.to_owned(), source };
    stream.set_nonblocking(true).map_err(io("set up a connection"))?;
    let connected = remote.wait(&login.url, async {
        let stream = tokio::net::TcpStream::from_std(stream).map_err(russh::Error::IO)?;
        client::connect_stream(config, stream, checker).await
    })?;
    let mut session = connected.map_err(|error| {
        let refused = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        refused.unwrap_or_else(|| broken(error.to_string()))
    })?;
    let agent = agent.connect().and_then(|stream| stream.set_nonblocking(true).map(|()| stream));
    let agent = agent.map_err(io("reach the SSH agent"))?;
    let outcome = remote.wait(&login.url, async {
        let stream = tokio::net::UnixStream::from_std(agent).map_err(russh::keys::Error::IO)?;
        offer(&mut session, &login.user, AgentClient::connect(stream)).await
    })?;
    match outcome.map_err(|error| broken(format!("the SSH agent does not answer as one does: {error}")))? {
        Offered::Accepted => Ok(session),
        Offered::Refused { keys_count } => {
            Err(FetchError::SshRefused { url: login.url.clone(), user: login.user.clone(), keys_count })
        }
    }
}

/// Kinds of keys that are known of the server come first, so that it shows one of them (as OpenSSH asks).
fn preferred(known: &KnownKeys) -> Preferred {
    let (mut kinds, others): (Vec<_>, Vec<_>) =
        Preferred::DEFAULT.key.iter().cloned().partition(|kind| known.has_kind(kind));
    kinds.extend(others);
    Preferred { key: Cow::Owned(kinds), ..Preferred::DEFAULT }
}

enum Offered {
    Accepted,
    Refused { keys_count: usize },
}

/// Offers one key of the agent after the other.
async fn offer(
    session: &mut Session,
    user: &str,
    mut agent: AgentClient<tokio::net::UnixStream>,
) -> Result<Offered, russh::keys::Error> {
    let identities = agent.request_identities().await?;
    let keys_count = identities.len();
    for identity in identities {
        let answer = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                let hash = hash(session, &key).await;
                session.authenticate_publickey_with(user, key, hash, &mut agent).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                session.authenticate_certificate_with(user, certificate, None, &mut agent).await
            }
        };
        match answer {
            Ok(AuthResult::Success) => return Ok(Offered::Accepted),
            Ok(AuthResult::Failure { .. }) => {}
            // The server does not want to hear of more keys.
            Err(AgentAuthError::Send(_)) => break,
            // The agent has the key and does not sign, as where it asks somebody: there may be another one.
            Err(AgentAuthError::Key(_)) => {}
        }
        if session.is_closed() {
            break;
        }
    }
    Ok(Offered::Refused { keys_count })
}

/// With RSA, the best hash that the server knows; one that does not say so is taken to know what all do since 2016.
async fn hash(session: &Session, key: &PublicKey) -> Option<HashAlg> {
    if !key.algorithm().is_rsa() {
        return None;
    }
    session.best_supported_rsa_hash().await.ok().flatten().unwrap_or(Some(HashAlg::Sha512))
}

/// Decides whether the server is who it should be. A task of the runtime has it, so it must not hold that itself.
pub(crate) struct Checker {
    known: KnownKeys,
    /// Where that was read, for messages.
    files: Vec<String>,
    host: String,
    port: u16,
    /// Why it is not.
    refusal: Arc<Mutex<Option<FetchError>>>,
}

impl Checker {
    fn refuse(&self, key: &PublicKey) -> Option<FetchError> {
        let host = if self.port == PORT { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) };
        let kind = key.algorithm().to_string();
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let line = || format!("{host} {}", key.to_openssh().unwrap_or_default().trim_end());
        match self.known.verdict(key) {
            Verdict::Known => None,
            Verdict::Unknown => {
                Some(FetchError::UnknownHostKey { line: line(), host, kind, fingerprint, files: self.files.clone() })
            }
            Verdict::Differs(place) => Some(FetchError::OtherHostKey {
                line: line(),
                host,
                kind,
                fingerprint,
                place: format!("{}:{}", place.file.display(), place.line),
            }),
            Verdict::Revoked(place) => {
                let place = format!("{}:{}", place.file.display(), place.line);
                Some(FetchError::RevokedHostKey { host, kind, fingerprint, place })
            }
        }
    }
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // Certificates are never asked for, so that none comes.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let refusal = self.refuse(key);
        let is_known = refusal.is_none();
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        Ok(is_known)
    }
}
