//! Tokens for Azure's registries: a token of Microsoft Entra, for a service principal, a federated or a managed identity, which the
//! registry itself exchanges for a refresh token ("AAD-OAuth" of Azure/acr).

mod entra;

use cofferdam_plugin_sdk::{
    CredentialHelper, Diagnostic, base64,
    credentials::{Answer, Credential, Error, Request, Sources, Web},
    diagnostics::{Timestamp, error},
    json::{self, Value},
    web::{AnswerExt, post_form, refusal},
};

/// The helper.
pub struct Acr;

cofferdam_plugin_sdk::export_credentials!(crate::Acr);

impl CredentialHelper for Acr {
    fn get(request: &Request, sources: &dyn Sources, web: &dyn Web) -> Result<Option<Answer>, Error> {
        // The manifest's patterns are the registries' domains; what they cover is asked for its own tokens only.
        let registry = request.host.strip_suffix(":443").unwrap_or(&request.host);
        let Some(token) = entra::token(registry, sources, web)? else { return Ok(None) };
        let tenant = sources.value("AZURE_TENANT_ID")?;
        exchange(registry, &token, tenant.as_deref(), web).map(Some)
    }
}

/// `POST /oauth2/exchange`.
fn exchange(registry: &str, token: &str, tenant: Option<&str>, web: &dyn Web) -> Result<Answer, Error> {
    let url = format!("https://{registry}/oauth2/exchange");
    let mut form = vec![("grant_type", "access_token"), ("service", registry)];
    form.extend(tenant.map(|tenant| ("tenant", tenant)));
    form.push(("access_token", token));
    let answer = web.send(&post_form(url.clone(), &form))?;
    if !answer.is_ok() {
        return Err(Error::Invalid(refusal(&url, &answer, &["error", "error_description", "message"])));
    }
    let value = answer.json();
    let token = value.as_ref().and_then(|value| value.get("refresh_token")?.as_str()).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| Error::Invalid(problem(format!("the answer of {url} has no token"))))?;
    Ok(Answer { credential: Credential::IdentityToken(token.to_owned()), expires_at: end(token) })
}

/// The end that a JSON Web Token says of itself (RFC 7519 §4.1.4). Whoever gave it over TLS needs no signature here.
fn end(token: &str) -> Option<Timestamp> {
    let claims = String::from_utf8(base64::decode(token.split('.').nth(1)?)?).ok()?;
    let seconds = json::parse(&claims).ok()?.get("exp").and_then(Value::as_seconds)?;
    Some(Timestamp { seconds, nanoseconds: 0 })
}

/// A finding of this helper's.
fn problem(message: impl Into<String>) -> Diagnostic {
    error("AzureCredentials", message)
}

#[cfg(test)]
mod tests;
