//! Who we are to a registry: the header that a request carries, from credentials, challenges and tokens.
//!
//! Follows "Docker Registry v2 authentication" of the distribution project: the registry answers 401 and names a
//! *realm*; the token server there gives a token for a *scope*; the request is sent again with it.

mod challenge;
mod scope;
mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::sync::Mutex;

use crate::{
    Action, Credential, CredentialError, CredentialKind, CredentialSource, RegistryError, RequestLine, Secret,
    http::{Endpoint, Http},
};

use challenge::Challenge;
pub(crate) use scope::Scope;
use token::Realm;

/// The header of a request, and what it was made of.
#[derive(Debug, Clone)]
pub(crate) struct Authorization {
    pub(crate) header: Option<HeaderValue>,
    pub(crate) kind: CredentialKind,
}

/// What a registry wants, as far as its challenges told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Open,
    Basic,
    Bearer(Realm),
}

/// The authentication of one host.
pub(crate) struct Authorizer {
    host: String,
    source: Arc<dyn CredentialSource>,
    credential_lifetime: Duration,
    /// Held while a token is fetched, so that parallel requests share one.
    state: Mutex<State>,
}

struct State {
    scheme: Scheme,
    ready: BTreeMap<Scope, Ready>,
    /// Scope values that challenges named beyond our own (`aws`, for one).
    extra: BTreeMap<Scope, BTreeSet<String>>,
}

struct Ready {
    authorization: Authorization,
    until: Instant,
}

impl Authorizer {
    pub(crate) fn new(host: String, source: Arc<dyn CredentialSource>, credential_lifetime: Duration) -> Self {
        let state = State { scheme: Scheme::Open, ready: BTreeMap::new(), extra: BTreeMap::new() };
        Self { host, source, credential_lifetime, state: Mutex::new(state) }
    }

    /// The authorization for a request, from the cache if it is still good.
    pub(crate) async fn authorize(
        &self,
        scope: &Scope,
        http: &Http,
        endpoint: &Endpoint,
    ) -> Result<Authorization, RegistryError> {
        let mut state = self.state.lock().await;
        if state.scheme == Scheme::Open {
            return Ok(Authorization { header: None, kind: CredentialKind::Anonymous });
        }
        if let Some(ready) = state.ready.get(scope)
            && Instant::now() < ready.until
        {
            return Ok(ready.authorization.clone());
        }
        let credential = self.credential(scope).await?;
        let kind = credential.kind();
        let (header, lifetime) = match (&state.scheme, credential) {
            (_, Credential::Bearer(token)) => (Some(bearer(&token)), self.credential_lifetime),
            (Scheme::Basic, Credential::Basic { username, password }) => {
                (Some(basic(&username, &password)), self.credential_lifetime)
            }
            (Scheme::Bearer(realm), credential) => {
                let mut values = scope.values();
                values.extend(state.extra.get(scope).into_iter().flatten().cloned());
                let target = token::Target { host: &self.host, scope, values: &values };
                let token = token::fetch(realm, &target, &credential, http, endpoint).await?;
                (Some(bearer(&token.secret)), token.lifetime)
            }
            (Scheme::Basic | Scheme::Open, Credential::Anonymous | Credential::IdentityToken(_)) => {
                (None, self.credential_lifetime)
            }
            (Scheme::Open, Credential::Basic { .. }) => (None, self.credential_lifetime),
        };
        let authorization = Authorization { header, kind };
        let until = Instant::now() + lifetime;
        state.ready.insert(scope.clone(), Ready { authorization: authorization.clone(), until });
        Ok(authorization)
    }

    /// Reads the challenges of a 401 and forgets the authorization that was refused.
    pub(crate) async fn refused(
        &self,
        headers: &HeaderMap,
        refused: Option<(&Scope, &Authorization)>,
        endpoint: &Endpoint,
        http: &Http,
        request: &RequestLine,
    ) -> Result<(), RegistryError> {
        let mut state = self.state.lock().await;
        if let Some((scope, refused)) = refused
            && state.ready.get(scope).is_some_and(|ready| ready.authorization.header == refused.header)
        {
            state.ready.remove(scope);
        }
        let challenges = Challenge::all(headers);
        if let Some(challenge) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            let realm = Realm::from_challenge(challenge, endpoint, http, request)?;
            if state.scheme != Scheme::Bearer(realm.clone()) {
                state.ready.clear();
                state.scheme = Scheme::Bearer(realm);
            }
            if let (Some((scope, _)), Some(asked)) = (refused, challenge.parameters.get("scope")) {
                let extra = token::foreign_scopes(asked, scope);
                state.extra.entry(scope.clone()).or_default().extend(extra);
            }
        } else if challenges.iter().any(|challenge| challenge.scheme == "basic") && state.scheme != Scheme::Basic {
            state.ready.clear();
            state.scheme = Scheme::Basic;
        }
        Ok(())
    }

    /// Asks the source on a thread that may block.
    async fn credential(&self, scope: &Scope) -> Result<Credential, CredentialError> {
        let (source, host) = (Arc::clone(&self.source), self.host.clone());
        let (repository, actions): (_, &'static [Action]) = (scope.repository.clone(), scope.actions);
        let asked = tokio::task::spawn_blocking(move || source.credential(&host, &repository, actions)).await;
        let ended = |_| CredentialError { host: self.host.clone(), reason: "its source ended unexpectedly".to_owned() };
        Ok(asked.map_err(ended)??.unwrap_or(Credential::Anonymous))
    }
}

/// `Basic` (RFC 7617).
fn basic(username: &str, password: &Secret) -> HeaderValue {
    let pair = Secret::new(format!("{username}:{}", password.expose()));
    sensitive("Basic", &Secret::new(BASE64_STANDARD.encode(pair.expose())))
}

/// `Bearer` (RFC 6750 section 2.1).
fn bearer(token: &Secret) -> HeaderValue {
    sensitive("Bearer", token)
}

fn sensitive(scheme: &str, secret: &Secret) -> HeaderValue {
    // A token with a line break in it can't be sent; an empty one is refused by the registry, which names the cause.
    let mut value = HeaderValue::from_str(&format!("{scheme} {}", secret.expose()))
        .unwrap_or_else(|_| HeaderValue::from_static("Bearer invalid"));
    value.set_sensitive(true);
    value
}
