//! Where AWS's own libraries find credentials, in their order: variables, a web identity, the shared files, the container or pod,
//! the machine.

use cofferdam_plugin_sdk::{
    credentials::{Error, Sources, Web},
    diagnostics::Timestamp,
    json::Value,
    web::{self, AnswerExt, RequestExt, get, put, refusal},
};

use crate::{problem, profiles, registry::Registry, signature::Keys, sts};

/// The first source that has any.
pub fn find(registry: &Registry, now: Timestamp, sources: &dyn Sources, web: &dyn Web) -> Result<Option<Keys>, Error> {
    // A profile that somebody named counts before everything.
    if let Some(profile) = sources.value("AWS_PROFILE")? {
        return profiles::find(&profile, true, sources);
    }
    if let Some(pair) = sources.pair("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")? {
        let token = sources.value("AWS_SESSION_TOKEN")?;
        return Ok(Some(Keys { id: pair.username, secret: pair.password, token }));
    }
    if let Some(keys) = sts::web_identity(registry, now, sources, web)? {
        return Ok(Some(keys));
    }
    if let Some(keys) = profiles::find("default", false, sources)? {
        return Ok(Some(keys));
    }
    match container(sources, web)? {
        Some(keys) => Ok(Some(keys)),
        None => machine(sources, web),
    }
}

/// Where ECS serves the paths of AWS_CONTAINER_CREDENTIALS_RELATIVE_URI.
const ECS: &str = "http://169.254.170.2";

/// Credentials of an ECS task or of an EKS pod ("Container credential provider" of the AWS SDKs reference).
fn container(sources: &dyn Sources, web: &dyn Web) -> Result<Option<Keys>, Error> {
    let url = match sources.value("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")? {
        Some(path) if path.starts_with('/') => format!("{ECS}{path}"),
        Some(_) => {
            let message = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not a path";
            return Err(Error::Invalid(problem(message)));
        }
        None => match sources.value("AWS_CONTAINER_CREDENTIALS_FULL_URI")? {
            Some(url) => url,
            None => return Ok(None),
        },
    };
    let token = match sources.value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")? {
        Some(path) => Some(sources.text("aws-container-token")?.ok_or_else(|| {
            let variable = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
            Error::Invalid(problem(format!("there is no token in `{path}` ({variable})")))
        })?),
        None => sources.value("AWS_CONTAINER_AUTHORIZATION_TOKEN")?,
    };
    let mut request = get(url.clone());
    if let Some(token) = token {
        request = request.header("Authorization", token);
    }
    let who = format!("the container's source of credentials, {}", url.split('?').next().unwrap_or_default());
    let answer = web.send(&request)?;
    if !answer.is_ok() {
        return Err(Error::Invalid(refusal(&who, &answer, &["code", "message"])));
    }
    keys(answer.json(), &who).map(Some)
}

const EC2: &str = "http://169.254.169.254";
const EC2_V6: &str = "http://[fd00:ec2::254]";

/// How long the metadata service's own token is asked for, in seconds.
const SESSION: &str = "21600";

/// Credentials of the machine's role, from its metadata service in version 2 ("Use IMDSv2" of the EC2 user guide). A machine of
/// somebody else's cloud, or of none, has none.
fn machine(sources: &dyn Sources, web: &dyn Web) -> Result<Option<Keys>, Error> {
    if sources.value("AWS_EC2_METADATA_DISABLED")?.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let mode = sources.value("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")?.unwrap_or_default();
    let endpoint = match sources.value("AWS_EC2_METADATA_SERVICE_ENDPOINT")? {
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None => if mode.eq_ignore_ascii_case("ipv6") { EC2_V6 } else { EC2 }.to_owned(),
    };
    let begin = put(format!("{endpoint}/latest/api/token")).header("X-aws-ec2-metadata-token-ttl-seconds", SESSION);
    let session = match web.send(&begin) {
        Ok(answer) if answer.is_ok() => answer.text().unwrap_or_default().trim().to_owned(),
        Ok(_) | Err(web::Error::Failed(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let roles = format!("{endpoint}/latest/meta-data/iam/security-credentials/");
    let ask = |url: &str| web.send(&get(url).header("X-aws-ec2-metadata-token", session.as_str()));
    let answer = ask(&roles)?;
    let role = answer.text().and_then(|text| text.lines().next()).map(str::trim).unwrap_or_default();
    // Roles have names of letters, digits and `+=,.@-_`.
    let is_role =
        !role.is_empty() && role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_".contains(&byte));
    if !answer.is_ok() || !is_role {
        return Ok(None);
    }
    let url = format!("{roles}{role}");
    let answer = ask(&url)?;
    if !answer.is_ok() {
        return Err(Error::Invalid(refusal(&format!("the metadata service, {url},"), &answer, &["Code", "Message"])));
    }
    keys(answer.json(), &format!("the metadata service, {url},")).map(Some)
}

/// The keys in an answer of either service.
fn keys(answer: Option<Value>, who: &str) -> Result<Keys, Error> {
    let keys = answer.as_ref().and_then(|answer| {
        let text = |key: &str| answer.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Some(Keys { id: text("AccessKeyId")?, secret: text("SecretAccessKey")?, token: text("Token") })
    });
    keys.ok_or_else(|| Error::Invalid(problem(format!("{who} answered without credentials"))))
}
