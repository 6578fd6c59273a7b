//! Tokens for Google's registries (`*.pkg.dev`, `gcr.io` and its kin), by application default credentials: a service account's key, a
//! user's refresh token, workload identity federation, else the metadata service of the machine.

mod federation;
mod key;
mod metadata;

use cofferdam_plugin_sdk::{
    CredentialHelper, Diagnostic,
    credentials::{Answer, Basic, Credential, Error, Request, Sources, Web},
    diagnostics::{Timestamp, error},
    json::{self, Value},
    web::{self, AnswerExt, post_form, refusal},
};

/// The helper.
pub struct Google;

cofferdam_plugin_sdk::export_credentials!(crate::Google);

/// The user name that goes with a token ("Configure authentication to Artifact Registry").
const TOKEN_USER: &str = "oauth2accesstoken";
/// What tokens are asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where Google's OAuth2 tokens come from.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// An access token and its end.
struct Token {
    secret: String,
    expires_at: Option<Timestamp>,
}

impl CredentialHelper for Google {
    fn get(request: &Request, sources: &dyn Sources, web: &dyn Web) -> Result<Option<Answer>, Error> {
        let token = match credentials(sources)? {
            Some(credentials) => Some(of_file(&credentials, request.now, sources, web)?),
            None => metadata::token(request.now, sources, web)?,
        };
        Ok(token.map(|token| Answer {
            credential: Credential::Basic(Basic { username: TOKEN_USER.to_owned(), password: token.secret }),
            expires_at: token.expires_at,
        }))
    }
}

/// The file of application default credentials, if there is one.
fn credentials(sources: &dyn Sources) -> Result<Option<Value>, Error> {
    let Some(content) = sources.file("google-credentials")? else {
        return match sources.value("GOOGLE_APPLICATION_CREDENTIALS")? {
            Some(path) => {
                Err(Error::Invalid(problem(format!("there is no file `{path}` (GOOGLE_APPLICATION_CREDENTIALS)"))))
            }
            None => Ok(None),
        };
    };
    let text = std::str::from_utf8(&content).ok();
    let value = text.and_then(|text| json::parse(text).ok());
    value.map(Some).ok_or_else(|| Error::Invalid(problem("the file of Google's credentials is not JSON")))
}

fn of_file(credentials: &Value, now: Timestamp, sources: &dyn Sources, web: &dyn Web) -> Result<Token, Error> {
    match credentials.get("type").and_then(Value::as_str) {
        Some("service_account") => key::token(credentials, now, web),
        Some("authorized_user") => of_user(credentials, now, web),
        Some("external_account") => federation::token(credentials, now, sources, web),
        other => Err(Error::Unsupported(problem(format!(
            "Google's credentials are of type `{}`: there are `service_account`, `authorized_user` and `external_account`",
            web::shown(other.unwrap_or("none"))
        )))),
    }
}

/// What `gcloud auth application-default login` leaves behind (RFC 6749 §6).
fn of_user(credentials: &Value, now: Timestamp, web: &dyn Web) -> Result<Token, Error> {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", member(credentials, "client_id")?),
        ("client_secret", member(credentials, "client_secret")?),
        ("refresh_token", member(credentials, "refresh_token")?),
    ];
    token_of(&web.send(&post_form(TOKEN_URI, &form))?, TOKEN_URI, now)
}

/// The token of an OAuth2 answer (RFC 6749 §5.1).
fn token_of(answer: &web::Answer, url: &str, now: Timestamp) -> Result<Token, Error> {
    if !answer.is_ok() {
        let words = ["error", "error_description", "error.status", "error.message"];
        return Err(Error::Invalid(refusal(url, answer, &words)));
    }
    let value = answer.json();
    let member = |name: &str| value.as_ref()?.get(name);
    let secret = member("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
    let secret = secret.ok_or_else(|| Error::Invalid(problem(format!("the answer of {url} has no token"))))?.to_owned();
    let lifetime = member("expires_in").and_then(Value::as_seconds);
    let expires_at =
        lifetime.map(|lifetime| Timestamp { seconds: now.seconds.saturating_add(lifetime), nanoseconds: 0 });
    Ok(Token { secret, expires_at })
}

/// A member of the file of credentials that must be a text.
fn member<'a>(object: &'a Value, name: &str) -> Result<&'a str, Error> {
    let found = object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    found.ok_or_else(|| Error::Invalid(problem(format!("the file of Google's credentials has no `{name}`"))))
}

/// A finding of this helper's.
fn problem(message: impl Into<String>) -> Diagnostic {
    error("GoogleCredentials", message)
}

#[cfg(test)]
mod tests;
