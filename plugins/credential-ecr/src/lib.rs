//! Tokens for Amazon's registries, private (`ACCOUNT.dkr.ecr.REGION.amazonaws.com` and its kin) and public.
//!
//! Credentials of AWS come from where its own libraries look for them ([`keys`]); the registry's API gives a token for them,
//! which is a password for twelve hours.

mod keys;
mod profiles;
mod registry;
mod signature;
mod sts;

use cofferdam_plugin_sdk::{
    CredentialHelper, Diagnostic, base64,
    credentials::{Answer, Basic, Credential, Error, Request, Sources, Web},
    diagnostics::{Timestamp, error},
    json::Value,
    web::{AnswerExt, RequestExt, post, refusal},
};

use registry::Registry;
use signature::{Scope, sign};

/// The helper.
pub struct Ecr;

cofferdam_plugin_sdk::export_credentials!(crate::Ecr);

impl CredentialHelper for Ecr {
    fn get(request: &Request, sources: &dyn Sources, web: &dyn Web) -> Result<Option<Answer>, Error> {
        let Some(registry) = Registry::of(&request.host) else { return Ok(None) };
        let answer = token(&registry, request, sources, web);
        // Whoever only reads what is public needs no token, and may have credentials that give none.
        let only_reads = !request.actions.iter().any(|action| action == "push");
        if registry.is_public() && only_reads { Ok(answer.unwrap_or_default()) } else { answer }
    }
}

fn token(
    registry: &Registry,
    request: &Request,
    sources: &dyn Sources,
    web: &dyn Web,
) -> Result<Option<Answer>, Error> {
    let Some(keys) = keys::find(registry, request.now, sources, web)? else { return Ok(None) };
    let endpoint = registry.endpoint(sources)?;
    let call = post(endpoint.clone(), "application/x-amz-json-1.1", "{}").header("X-Amz-Target", registry.target());
    let scope = Scope { region: registry.region(), service: registry.service() };
    let answer = web.send(&sign(call, &keys, &scope, request.now))?;
    if !answer.is_ok() {
        let who = format!("`GetAuthorizationToken` at {endpoint}");
        return Err(Error::Invalid(refusal(&who, &answer, &["__type", "message", "Message"])));
    }
    let malformed = || error("CredentialMalformed", format!("the answer of {endpoint} has no token"));
    let found = answer.json().and_then(|answer| authorization(&answer)).ok_or_else(malformed)?;
    Ok(Some(found))
}

/// `authorizationData`: a list of one in the private API, an object in the public one.
fn authorization(answer: &Value) -> Option<Answer> {
    let data = match answer.get("authorizationData")? {
        Value::Array(all) => all.first()?,
        one => one,
    };
    let pair = String::from_utf8(base64::decode(data.get("authorizationToken")?.as_str()?)?).ok()?;
    let (username, password) = pair.split_once(':')?;
    let credential = Credential::Basic(Basic { username: username.to_owned(), password: password.to_owned() });
    let expires_at = data.get("expiresAt").and_then(Value::as_seconds);
    Some(Answer { credential, expires_at: expires_at.map(|seconds| Timestamp { seconds, nanoseconds: 0 }) })
}

/// A finding of this helper's.
fn problem(message: impl Into<String>) -> Diagnostic {
    error("AwsCredentials", message)
}

#[cfg(test)]
mod tests;
