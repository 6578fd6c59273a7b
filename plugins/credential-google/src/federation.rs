//! Workload identity federation (AIP-4117): another provider's token, exchanged for one of Google's (RFC 8693), and that maybe for
//! one of a service account.

use cofferdam_plugin_sdk::{
    credentials::{Error, Sources, Web},
    diagnostics::Timestamp,
    json::{self, Value},
    web::{AnswerExt, RequestExt, get, post, post_form, refusal},
};

use crate::{SCOPE, Token, member, problem, token_of};

pub fn token(credentials: &Value, now: Timestamp, sources: &dyn Sources, web: &dyn Web) -> Result<Token, Error> {
    let subject = subject_token(credentials, sources, web)?;
    let url = member(credentials, "token_url")?;
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", member(credentials, "audience")?),
        ("scope", SCOPE),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token_type", member(credentials, "subject_token_type")?),
        ("subject_token", &subject),
    ];
    let token = token_of(&web.send(&post_form(url, &form))?, url, now)?;
    match credentials.get("service_account_impersonation_url").and_then(Value::as_str) {
        Some(url) => impersonated(url, &token, web),
        None => Ok(token),
    }
}

/// What the other provider said of us: a file, or the answer of a URL; as text, or as a member of JSON.
fn subject_token(credentials: &Value, sources: &dyn Sources, web: &dyn Web) -> Result<String, Error> {
    let source = credentials.get("credential_source");
    let source = source.ok_or_else(|| Error::Invalid(problem("Google's credentials have no `credential_source`")))?;
    let text = |name: &str| source.get(name).and_then(Value::as_str);
    let (content, place) = match (text("file"), text("url")) {
        (Some(path), _) => {
            let content = sources.text("google-subject-token")?;
            let missing = || Error::Invalid(problem(format!("there is no token in `{path}` (`credential_source`)")));
            (content.ok_or_else(missing)?, path)
        }
        (None, Some(url)) => (asked(url, source, web)?, url.split('?').next().unwrap_or_default()),
        (None, None) => {
            let message =
                "`credential_source` of Google's credentials has neither `file` nor `url`: this helper knows no other";
            return Err(Error::Unsupported(problem(message)));
        }
    };
    let format = source.get("format");
    let field = |name: &str| format?.get(name)?.as_str();
    if field("type") != Some("json") {
        return Ok(content);
    }
    let name = field("subject_token_field_name").unwrap_or("access_token");
    let object = json::parse(&content).ok();
    let token = object.as_ref().and_then(|object| object.get(name)?.as_str()).filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or_else(|| Error::Invalid(problem(format!("`{place}` has no token in `{name}`"))))
}

fn asked(url: &str, source: &Value, web: &dyn Web) -> Result<String, Error> {
    let mut request = get(url);
    if let Some(Value::Object(headers)) = source.get("headers") {
        for (name, value) in headers {
            request = request.header(name, value.as_str().unwrap_or_default());
        }
    }
    let answer = web.send(&request)?;
    match answer.text().map(str::trim).filter(|text| answer.is_ok() && !text.is_empty()) {
        Some(text) => Ok(text.to_owned()),
        None => Err(Error::Invalid(refusal(url.split('?').next().unwrap_or_default(), &answer, &["message"]))),
    }
}

/// `generateAccessToken` of the IAM Service Account Credentials API.
fn impersonated(url: &str, token: &Token, web: &dyn Web) -> Result<Token, Error> {
    let body = format!("{{\"scope\":[{}]}}", json::quoted(SCOPE));
    let request = post(url, "application/json", body).header("Authorization", format!("Bearer {}", token.secret));
    let answer = web.send(&request)?;
    if !answer.is_ok() {
        return Err(Error::Invalid(refusal(url, &answer, &["error.status", "error.message"])));
    }
    let value = answer.json();
    let text = |name: &str| value.as_ref()?.get(name)?.as_str();
    let secret =
        text("accessToken").ok_or_else(|| Error::Invalid(problem(format!("the answer of {url} has no token"))))?;
    let end = text("expireTime").and_then(|end| end.parse::<jiff::Timestamp>().ok());
    let expires_at = end.map(|end| Timestamp { seconds: end.as_second(), nanoseconds: 0 });
    Ok(Token { secret: secret.to_owned(), expires_at })
}
