//! Tokens: asking the token server that a registry names.

use std::{collections::BTreeSet, time::Duration};

use reqwest::{
    Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::{basic, challenge::Challenge, scope::Scope};
use crate::{
    Credential, RegistryError, RequestLine, Secret,
    error::bare,
    http::{Endpoint, Http, Outgoing},
};

/// More than the longest token in use (a few KiB).
const MAX_TOKEN_ANSWER_BYTES: u64 = 256 * 1024;
/// Where `expires_in` is missing (token specification, "Token Response Fields").
const DEFAULT_LIFETIME_SECONDS: u64 = 60;
/// Who we are to an OAuth2 token server, which wants a name.
const CLIENT_ID: &str = "cofferdam";

/// Where a registry's tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Realm {
    url: Url,
    service: Option<String>,
}

impl Realm {
    /// From a `Bearer` challenge. Credentials are going to be sent there, so a realm without TLS is refused, except
    /// where the registry itself is used without TLS and the realm is on its host, this machine, or a host that the
    /// user called insecure.
    pub(super) fn from_challenge(
        challenge: &Challenge,
        endpoint: &Endpoint,
        http: &Http,
        request: &RequestLine,
    ) -> Result<Self, RegistryError> {
        let answer = |reason: String| RegistryError::Answer { request: request.clone(), reason };
        let realm =
            challenge.parameters.get("realm").ok_or_else(|| answer("a Bearer challenge without realm".to_owned()))?;
        let mut url = Url::parse(realm).map_err(|error| answer(format!("its token realm is not a URL: {error}")))?;
        let plain_allowed = || {
            let same_host = url.host_str() == endpoint.base().host_str();
            !endpoint.is_tls() && (same_host || http.may_be_plain(&url))
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && plain_allowed()) {
            return Err(RegistryError::Elsewhere {
                request: request.clone(),
                from: "its token realm",
                to: bare(&url),
                reason: "where credentials could be read on the way",
            });
        }
        // The user's name in a URL would become an Authorization header of its own.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Ok(Self { url, service: challenge.parameters.get("service").cloned() })
    }
}

/// What a token is for.
pub(super) struct Target<'a> {
    pub(super) host: &'a str,
    pub(super) scope: &'a Scope,
    pub(super) values: &'a BTreeSet<String>,
}

/// A token and how long it is used.
pub(super) struct Token {
    pub(super) secret: Secret,
    pub(super) lifetime: Duration,
}

/// Fetches a token: by POST with an identity token, else by GET, with a password if there is one.
pub(super) async fn fetch(
    realm: &Realm,
    target: &Target<'_>,
    credential: &Credential,
    http: &Http,
    endpoint: &Endpoint,
) -> Result<Token, RegistryError> {
    let basic_header = match credential {
        Credential::Basic { username, password } => Some(basic(username, password)),
        // Docker's convention where the token server knows no POST.
        Credential::IdentityToken(token) => {
            match fetch_once(realm, target, credential, http, endpoint, by_post(realm, target, token)).await {
                // This server knows no POST.
                Err(RegistryError::Status {
                    status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, ..
                }) => {}
                answer => return answer,
            }
            Some(basic("<token>", token))
        }
        Credential::Anonymous | Credential::Bearer(_) => None,
    };
    fetch_once(realm, target, credential, http, endpoint, by_get(realm, target, basic_header)).await
}

/// "Token Authentication Specification", "Requesting a Token".
fn by_get(realm: &Realm, target: &Target<'_>, basic: Option<HeaderValue>) -> Outgoing {
    let mut url = realm.url.clone();
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(realm.service.iter().map(|service| ("service", service)));
        query.extend_pairs(target.values.iter().map(|value| ("scope", value)));
    }
    let mut outgoing = Outgoing::new(Method::GET, url);
    outgoing.headers.extend(basic.map(|basic| (AUTHORIZATION, basic)));
    outgoing
}

/// "Docker Registry v2 Bearer token OAuth2 specification", "POST /token".
fn by_post(realm: &Realm, target: &Target<'_>, token: &Secret) -> Outgoing {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.extend_pairs(realm.service.iter().map(|service| ("service", service)));
    form.append_pair("client_id", CLIENT_ID);
    form.append_pair("scope", &target.values.iter().map(String::as_str).collect::<Vec<_>>().join(" "));
    form.append_pair("refresh_token", token.expose());
    let mut outgoing = Outgoing::new(Method::POST, realm.url.clone());
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    outgoing.headers.insert(CONTENT_TYPE, form_type);
    outgoing.body = Some(form.finish().into());
    outgoing
}

#[derive(Deserialize)]
struct Response {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

async fn fetch_once(
    realm: &Realm,
    target: &Target<'_>,
    credential: &Credential,
    http: &Http,
    endpoint: &Endpoint,
    outgoing: Outgoing,
) -> Result<Token, RegistryError> {
    // No redirect is followed: the credentials are for this URL alone.
    let profile = http.profile_of(&realm.url, Some(endpoint));
    let mut answer = http.exchange(profile, outgoing).await?;
    let request = answer.request().clone();
    let (host, repository) = (target.host.to_owned(), target.scope.repository.clone());
    let (action, used) = (target.scope.action(), credential.kind());
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            let said = answer.said().await;
            return Err(RegistryError::Unauthorized { host, repository, action, used, request, said });
        }
        StatusCode::FORBIDDEN => {
            let said = answer.said().await;
            return Err(RegistryError::Denied { host, repository, action, used, request, said });
        }
        status if status.is_redirection() => {
            let to = answer.location().map_or_else(|_| "nowhere".to_owned(), |url| bare(&url));
            let reason = "where credentials are not sent";
            return Err(RegistryError::Elsewhere { request, from: "a redirect of the token server", to, reason });
        }
        _ => return Err(answer.into_error().await),
    }
    let body = answer.body(MAX_TOKEN_ANSWER_BYTES).await?;
    let bad = |reason: &str| RegistryError::Answer { request: request.clone(), reason: reason.to_owned() };
    // The error of the JSON parser could quote the token.
    let response: Response = serde_json::from_slice(&body).map_err(|_| bad("it is not the JSON of a token server"))?;
    let given = [response.token, response.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let secret = Secret::new(given.ok_or_else(|| bad("there is no token in it"))?);
    if !secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("its token has characters that no token may have"));
    }
    Ok(Token { secret, lifetime: lifetime(response.expires_in) })
}

/// A little shorter than the server says, so that a token does not expire on its way.
fn lifetime(expires_in: Option<u64>) -> Duration {
    let seconds = expires_in.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_LIFETIME_SECONDS).min(24 * 3600);
    Duration::from_secs(seconds - (seconds / 5).min(10))
}

/// The scope values of a challenge that are not about our own repository. Those for a repository are ours to choose:
/// a challenge must not make us ask for more, such as `*`.
pub(super) fn foreign_scopes(asked: &str, scope: &Scope) -> BTreeSet<String> {
    let own = scope.values();
    let values = asked.split(' ').filter(|value| !value.is_empty() && value.len() <= 512).take(8);
    values.filter(|value| !own.contains(*value) && !value.starts_with("repository:")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_a_little_before_it_expires() {
        assert_eq!(lifetime(None).as_secs(), 50);
        assert_eq!(lifetime(Some(300)).as_secs(), 290);
        assert_eq!(lifetime(Some(10)).as_secs(), 8);
        assert_eq!(lifetime(Some(0)).as_secs(), 50);
        assert_eq!(lifetime(Some(u64::MAX)).as_secs(), 24 * 3600 - 10);
    }
}
