//! Tokens of Microsoft Entra, by the variables that Azure's own libraries read.

use cofferdam_plugin_sdk::{
    credentials::{Error, Sources, Web},
    json::Value,
    web::{self, AnswerExt, RequestExt, encoded, form, get, post_form, refusal},
};

use crate::problem;

/// What the token is for: registries, in all of Azure's clouds.
const RESOURCE: &str = "https://containerregistry.azure.net";

/// The metadata service of a machine.
const METADATA: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// A token of a service principal, else of a federated identity, else of the machine's.
pub fn token(registry: &str, sources: &dyn Sources, web: &dyn Web) -> Result<Option<String>, Error> {
    let client = sources.value("AZURE_CLIENT_ID")?;
    if let (Some(client), Some(tenant)) = (&client, sources.value("AZURE_TENANT_ID")?) {
        if let Some(secret) = sources.value("AZURE_CLIENT_SECRET")? {
            return principal(registry, client, &tenant, &[("client_secret", &secret)], sources, web).map(Some);
        }
        if let Some(assertion) = assertion(sources)? {
            let proof = [
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", assertion.as_str()),
            ];
            return principal(registry, client, &tenant, &proof, sources, web).map(Some);
        }
    }
    managed(client.as_deref(), web)
}

/// Another provider's token for us: of a file, which is renewed, else the variable itself.
fn assertion(sources: &dyn Sources) -> Result<Option<String>, Error> {
    let Some(path) = sources.value("AZURE_FEDERATED_TOKEN_FILE")? else {
        return Ok(sources.value("AZURE_FEDERATED_TOKEN")?);
    };
    let missing = || Error::Invalid(problem(format!("there is no token in `{path}` (AZURE_FEDERATED_TOKEN_FILE)")));
    sources.text("azure-federated-token")?.ok_or_else(missing).map(Some)
}

/// The client credentials flow ("OAuth 2.0 client credentials" of the Microsoft identity platform).
fn principal(
    registry: &str,
    client: &str,
    tenant: &str,
    proof: &[(&str, &str)],
    sources: &dyn Sources,
    web: &dyn Web,
) -> Result<String, Error> {
    let authority = match sources.value("AZURE_AUTHORITY_HOST")? {
        Some(authority) if authority.contains("://") => authority.trim_end_matches('/').to_owned(),
        Some(authority) => format!("https://{}", authority.trim_end_matches('/')),
        None => authority(registry).to_owned(),
    };
    let url = format!("{authority}/{}/oauth2/v2.0/token", encoded(tenant));
    let scope = format!("{RESOURCE}/.default");
    let mut fields = vec![("grant_type", "client_credentials"), ("client_id", client), ("scope", scope.as_str())];
    fields.extend(proof);
    let answer = web.send(&post_form(url.clone(), &fields))?;
    access_token(&answer, &url)
}

/// Where the registry's cloud knows its users.
fn authority(registry: &str) -> &'static str {
    match registry.rsplit('.').next() {
        Some("us") => "https://login.microsoftonline.us",
        Some("cn") => "https://login.chinacloudapi.cn",
        _ => "https://login.microsoftonline.com",
    }
}

/// A managed identity ("Use managed identities on a virtual machine" of Entra's documentation); several are told apart by the
/// client's id. A machine elsewhere has none.
fn managed(client: Option<&str>, web: &dyn Web) -> Result<Option<String>, Error> {
    let mut fields = vec![("api-version", "2018-02-01"), ("resource", RESOURCE)];
    fields.extend(client.map(|client| ("client_id", client)));
    let answer = match web.send(&get(format!("{METADATA}?{}", form(&fields))).header("Metadata", "true")) {
        Err(web::Error::Failed(_)) => return Ok(None),
        answer => answer?,
    };
    // 400 is a machine of Azure's without an identity, 404 is somebody else's.
    if [400, 404, 405].contains(&answer.status) && client.is_none() || answer.json().is_none() {
        return Ok(None);
    }
    access_token(&answer, METADATA).map(Some)
}

fn access_token(answer: &web::Answer, url: &str) -> Result<String, Error> {
    if !answer.is_ok() {
        return Err(Error::Invalid(refusal(url, answer, &["error", "error_description"])));
    }
    let value = answer.json();
    let token = value.as_ref().and_then(|value| value.get("access_token")).and_then(Value::as_str);
    let missing = || Error::Invalid(problem(format!("the answer of {url} has no token")));
    token.filter(|token| !token.is_empty()).map(str::to_owned).ok_or_else(missing)
}
