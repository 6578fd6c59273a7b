//! Amazon's S3, and the stores that speak as it does: where a bucket is, and who may ask there.

use std::sync::Arc;

use object_store::{
    StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    client::HttpClient,
};
use url::{Host, Url};

use super::{
    CloudAccess, Credentials, Learned, Opened,
    connector::{Connector, once},
    profile::{Keys, Profile},
    service::{Kind, Service, Token},
};
use crate::{
    FetchError, Remote,
    remote::{host_and_port, innermost},
    source::redacted,
};

/// Where a bucket is looked for first, if nothing says a region. S3 tells where it is.
const FIRST_REGION: &str = "us-east-1";

/// The bucket's store.
pub(super) fn store(bucket: &str, remote: &Remote, learned: &Learned) -> Result<Opened, FetchError> {
    let access = remote.cloud();
    let profile = Profile::read(access.value("AWS_PROFILE").unwrap_or("default"), access)?;
    let said = access.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).map(str::to_owned).or(profile.region.clone());
    let region = learned.region.clone().or(said).unwrap_or_else(|| FIRST_REGION.to_owned());
    if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(FetchError::Invalid { text: region, problem: "is not a region (AWS_REGION)".to_owned() });
    }
    let (endpoint, in_host) = endpoint(bucket, &region, access)?;
    let connector = Connector::new(remote, &endpoint);
    let builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&region)
        .with_endpoint(endpoint.as_str().trim_end_matches('/'))
        .with_virtual_hosted_style_request(in_host)
        .with_retry(once())
        .with_http_connector(connector.clone());
    let client = HttpClient::new(connector);
    let (builder, credentials) = credentials(builder, &client, &region, profile, access, learned)?;
    let store = builder.build().map_err(|error| no_credentials(&innermost(&error)))?;
    let store = Arc::new(store);
    Ok(Opened { host: host_and_port(&endpoint), parts: store.clone(), store, credentials, region: Some(region) })
}

/// The server, and whether the bucket is in its name already. As Amazon's own libraries have it: in the name, unless
/// S3_FORCE_PATH_STYLE says otherwise, the server is an address, or a certificate would not fit.
fn endpoint(bucket: &str, region: &str, access: &CloudAccess) -> Result<(Url, bool), FetchError> {
    let ignored = access.says("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    let general = access.first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]).filter(|_| !ignored);
    let custom = access.value("S3_ENDPOINT").or(general);
    let text = match custom {
        Some(text) if text.contains("://") => text.to_owned(),
        Some(host) => format!("https://{host}"),
        None => format!("https://s3.{region}.{}", domain(region)),
    };
    let wrong = |problem: &str| FetchError::Invalid { text: redacted(&text), problem: problem.to_owned() };
    let expected = "is not the address of an S3 server (S3_ENDPOINT); write https://HOST or http://HOST:PORT";
    let url = Url::parse(&text).map_err(|_| wrong(expected))?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || !url.username().is_empty() {
        return Err(wrong(expected));
    }
    let has_names = match url.host() {
        Some(Host::Domain(name)) => name.contains('.'),
        _ => false,
    };
    let fits = is_label(bucket) || url.scheme() == "http" && bucket.split('.').all(is_label);
    if access.says("S3_FORCE_PATH_STYLE") || !has_names || !fits {
        return Ok((url, false));
    }
    let mut with_bucket = url.clone();
    let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
    with_bucket.set_host(Some(&host)).map_err(|_| wrong(expected))?;
    Ok((with_bucket, true))
}

/// What a part of a host's name is.
fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The domain of a region's servers ("AWS service endpoints").
fn domain(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        _ => "amazonaws.com",
    }
}

/// The first source that has credentials, in the order of Amazon's own libraries: a profile that was named, variables, a web
/// identity, the shared files, the container or pod, the machine.
fn credentials(
    builder: AmazonS3Builder,
    client: &HttpClient,
    region: &str,
    profile: Profile,
    access: &CloudAccess,
    learned: &Learned,
) -> Result<(AmazonS3Builder, Credentials), FetchError> {
    let with = |builder: AmazonS3Builder, keys: Keys| {
        let keys = keys.credential().map_err(no_credentials)?;
        Ok(builder.with_credentials(Arc::new(StaticCredentialProvider::new(keys))))
    };
    let by = |builder: AmazonS3Builder, kind| builder.with_credentials(Arc::new(Service::new(client.clone(), kind)));
    if let Some(name) = access.value("AWS_PROFILE") {
        let keys = profile.keys.clone().ok_or_else(|| no_keys(name, &profile))?;
        return Ok((with(builder, keys)?, Credentials::Given("AWS_PROFILE")));
    }
    if let (Some(id), Some(secret)) = (access.value("AWS_ACCESS_KEY_ID"), access.value("AWS_SECRET_ACCESS_KEY")) {
        let token = access.value("AWS_SESSION_TOKEN").map(str::to_owned);
        let keys = Keys { id: id.to_owned(), secret: secret.to_owned(), token };
        return Ok((with(builder, keys)?, Credentials::Given("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")));
    }
    if let (Some(role), Some(file)) = (access.value("AWS_ROLE_ARN"), access.value("AWS_WEB_IDENTITY_TOKEN_FILE")) {
        let sts = match access.url("AWS_ENDPOINT_URL_STS")? {
            Some(custom) => custom.to_string(),
            None => format!("https://sts.{region}.{}", domain(region)),
        };
        let session = access.value("AWS_ROLE_SESSION_NAME").unwrap_or("cofferdam");
        let builder = builder
            .with_config(AmazonS3ConfigKey::RoleArn, role)
            .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, file)
            .with_config(AmazonS3ConfigKey::RoleSessionName, session)
            .with_config(AmazonS3ConfigKey::StsEndpoint, sts);
        return Ok((builder, Credentials::Given("AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE")));
    }
    if let Some(keys) = profile.keys {
        return Ok((with(builder, keys)?, Credentials::Given("the profile `default`")));
    }
    if profile.elsewhere.is_some() {
        return Err(no_keys("default", &profile));
    }
    if let Some(path) = access.value("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        let url = Url::parse(ECS).and_then(|agent| agent.join(path)).ok().filter(|url| url.as_str().starts_with(ECS));
        let url = url.ok_or_else(|| no_credentials("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not a path"))?;
        let kind = Kind::Container { url, token: token(access) };
        return Ok((by(builder, kind), Credentials::Given("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")));
    }
    if let Some(url) = access.url("AWS_CONTAINER_CREDENTIALS_FULL_URI")? {
        let kind = Kind::Container { url, token: token(access) };
        return Ok((by(builder, kind), Credentials::Given("AWS_CONTAINER_CREDENTIALS_FULL_URI")));
    }
    if learned.no_machine || access.says("AWS_EC2_METADATA_DISABLED") {
        return Ok((builder.with_skip_signature(true), Credentials::None));
    }
    let is_v6 =
        access.value("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    let usual = || Url::parse(if is_v6 { EC2_V6 } else { EC2 });
    let endpoint = match access.url("AWS_EC2_METADATA_SERVICE_ENDPOINT")? {
        Some(custom) => custom,
        None => usual().map_err(|_| no_credentials("the machine has no metadata service"))?,
    };
    Ok((by(builder, Kind::Machine { endpoint }), Credentials::Machine))
}

/// Where ECS serves the paths of AWS_CONTAINER_CREDENTIALS_RELATIVE_URI.
const ECS: &str = "http://169.254.170.2/";

/// Where a machine finds its metadata.
const EC2: &str = "http://169.254.169.254/";
const EC2_V6: &str = "http://[fd00:ec2::254]/";

/// What the agent of a container wants to be shown.
fn token(access: &CloudAccess) -> Token {
    let file = access.value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| Token::File(path.into()));
    let value = || access.value("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|token| Token::Value(token.to_owned()));
    file.or_else(value).unwrap_or(Token::None)
}

fn no_keys(name: &str, profile: &Profile) -> FetchError {
    match profile.elsewhere {
        Some(key) => no_credentials(&format!("the profile `{name}` gets them by `{key}`, which is not done here")),
        None => no_credentials(&format!("no file of AWS's has keys for the profile `{name}` (AWS_PROFILE)")),
    }
}

fn no_credentials(reason: &str) -> FetchError {
    FetchError::CloudCredentials { reason: reason.to_owned(), remedy: REMEDY }
}

/// What gives credentials.
pub(super) const REMEDY: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE, or give the machine or pod a role";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_in_the_host_where_that_can_be() {
        let with = |variables: &[(&str, &str)], bucket: &str, region: &str| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let access = CloudAccess { variables: variables.collect(), ..CloudAccess::default() };
            let (url, in_host) = endpoint(bucket, region, &access).unwrap();
            format!("{url} {in_host}")
        };
        assert_eq!(with(&[], "b", "eu-west-1"), "https://b.s3.eu-west-1.amazonaws.com/ true");
        assert_eq!(with(&[], "b.c", "eu-west-1"), "https://s3.eu-west-1.amazonaws.com/ false");
        assert_eq!(with(&[], "b", "cn-north-1"), "https://b.s3.cn-north-1.amazonaws.com.cn/ true");
        let forced = ("S3_FORCE_PATH_STYLE", "True");
        assert_eq!(with(&[forced], "b", "eu-west-1"), "https://s3.eu-west-1.amazonaws.com/ false");
        for (endpoint, expected) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000/ false"),
            ("http://minio:9000", "http://minio:9000/ false"),
            ("http://minio.storage.svc:9000", "http://b.minio.storage.svc:9000/ true"),
            ("store.example", "https://b.store.example/ true"),
        ] {
            assert_eq!(with(&[("S3_ENDPOINT", endpoint)], "b", "us-east-1"), expected);
            assert_eq!(with(&[("AWS_ENDPOINT_URL", endpoint)], "b", "us-east-1"), expected);
        }
        let ignored = [("AWS_ENDPOINT_URL", "http://x"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")];
        assert_eq!(with(&ignored, "b", "us-east-1"), "https://b.s3.us-east-1.amazonaws.com/ true");
    }
}
