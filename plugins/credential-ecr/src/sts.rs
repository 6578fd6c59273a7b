//! Roles for tokens: `AssumeRoleWithWebIdentity` (AWS Security Token Service API reference).

use cofferdam_plugin_sdk::{
    credentials::{Error, Sources, Web},
    diagnostics::{Timestamp, error},
    web::{AnswerExt, post_form, shown},
};

use crate::{
    problem,
    registry::{Registry, custom_endpoint, is_region},
    signature::Keys,
};

/// The keys of the role in AWS_ROLE_ARN for the token in AWS_WEB_IDENTITY_TOKEN_FILE, where both are set.
pub fn web_identity(
    registry: &Registry,
    now: Timestamp,
    sources: &dyn Sources,
    web: &dyn Web,
) -> Result<Option<Keys>, Error> {
    let (Some(role), Some(path)) = (sources.value("AWS_ROLE_ARN")?, sources.value("AWS_WEB_IDENTITY_TOKEN_FILE")?)
    else {
        return Ok(None);
    };
    let Some(token) = sources.text("aws-web-identity-token")? else {
        return Err(Error::Invalid(problem(format!("there is no token in `{path}` (AWS_WEB_IDENTITY_TOKEN_FILE)"))));
    };
    let session = sources.value("AWS_ROLE_SESSION_NAME")?.unwrap_or_else(|| format!("cofferdam-{}", now.seconds));
    let endpoint = endpoint(registry, sources)?;
    let answer = web.send(&post_form(
        endpoint.clone(),
        &[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &role),
            ("RoleSessionName", &session),
            ("WebIdentityToken", &token),
        ],
    ))?;
    let text = answer.text().unwrap_or_default();
    if !answer.is_ok() {
        let said: Vec<String> = ["Code", "Message"].iter().filter_map(|name| element(text, name)).map(shown).collect();
        let message =
            format!("STS at {endpoint} does not give the role `{role}` ({}): {}", answer.status, said.join(": "));
        return Err(Error::Invalid(error("CredentialRefused", message)));
    }
    let keys = || {
        Some(Keys {
            id: element(text, "AccessKeyId")?.to_owned(),
            secret: element(text, "SecretAccessKey")?.to_owned(),
            token: Some(element(text, "SessionToken")?.to_owned()),
        })
    };
    let malformed = || Error::Invalid(problem(format!("the answer of STS at {endpoint} has no credentials")));
    keys().map(Some).ok_or_else(malformed)
}

/// STS of the job's region, else of the registry's.
fn endpoint(registry: &Registry, sources: &dyn Sources) -> Result<String, Error> {
    if let Some(custom) = custom_endpoint("AWS_ENDPOINT_URL_STS", sources)? {
        return Ok(custom);
    }
    let given = match sources.value("AWS_REGION")? {
        Some(region) => Some(region),
        None => sources.value("AWS_DEFAULT_REGION")?,
    };
    let region = given.unwrap_or_else(|| registry.region().to_owned());
    if !is_region(&region) {
        return Err(Error::Invalid(problem(format!("`{}` is not a region (AWS_REGION)", shown(&region)))));
    }
    Ok(format!("https://sts.{region}.{}/", registry.domain()))
}

/// The text of the first element of a name. Those that are asked for hold no markup and no entities.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(value, _)| value.trim()).filter(|value| !value.is_empty())
}
