//! Azure's blobs: who may ask for them.

use std::sync::Arc;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use url::Url;

use super::{
    Credentials, Learned, Opened,
    connector::{Connector, once},
};
use crate::{
    FetchError, Remote,
    remote::{host_and_port, innermost},
};

/// The container's store.
pub(super) fn store(
    account: &str,
    domain: &str,
    container: &str,
    remote: &Remote,
    learned: &Learned,
) -> Result<Opened, FetchError> {
    let access = remote.cloud();
    let text = format!("https://{account}.{domain}");
    let endpoint = Url::parse(&text);
    let endpoint = endpoint.map_err(|_| FetchError::Invalid { text: text.clone(), problem: "is no URL".to_owned() })?;
    let builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(container)
        .with_endpoint(text)
        .with_retry(once())
        .with_http_connector(Connector::new(remote, &endpoint));
    let client = access.value("AZURE_CLIENT_ID");
    let principal = client.zip(access.value("AZURE_TENANT_ID"));
    let is_tenant = |tenant: &str| tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if let Some((_, tenant)) = principal.filter(|(_, tenant)| !is_tenant(tenant)) {
        let problem = "is not a tenant (AZURE_TENANT_ID)".to_owned();
        return Err(FetchError::Invalid { text: tenant.to_owned(), problem });
    }
    let authority = match access.value("AZURE_AUTHORITY_HOST") {
        Some(host) if !host.contains("://") => format!("https://{}", host.trim_end_matches('/')),
        _ => match access.url("AZURE_AUTHORITY_HOST")? {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => authority(domain).to_owned(),
        },
    };
    let (builder, credentials) = if let Some(key) = access.value("AZURE_STORAGE_ACCESS_KEY") {
        (builder.with_access_key(key), Credentials::Given("AZURE_STORAGE_ACCESS_KEY"))
    } else if let Some(token) = access.value("AZURE_STORAGE_SAS_TOKEN") {
        let builder = builder.with_config(AzureConfigKey::SasKey, token);
        (builder, Credentials::Given("AZURE_STORAGE_SAS_TOKEN"))
    } else if let (Some((client, tenant)), Some(secret)) = (principal, access.value("AZURE_CLIENT_SECRET")) {
        let builder = builder.with_client_secret_authorization(client, secret, tenant).with_authority_host(authority);
        (builder, Credentials::Given("AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"))
    } else if let (Some((client, tenant)), Some(file)) = (principal, access.value("AZURE_FEDERATED_TOKEN_FILE")) {
        let builder = builder
            .with_client_id(client)
            .with_tenant_id(tenant)
            .with_federated_token_file(file)
            .with_authority_host(authority);
        (builder, Credentials::Given("AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE"))
    } else if learned.no_machine {
        (builder.with_skip_signature(true), Credentials::None)
    } else {
        let builder = client.into_iter().fold(builder, |builder, client| builder.with_client_id(client));
        let endpoint = access.url("IDENTITY_ENDPOINT")?;
        (endpoint.into_iter().fold(builder, |builder, url| builder.with_msi_endpoint(url)), Credentials::Machine)
    };
    let store = builder.build().map_err(|error| FetchError::CloudCredentials {
        reason: format!("those of the environment can't be read: {}", innermost(&error)),
        remedy: REMEDY,
    })?;
    let store = Arc::new(store);
    Ok(Opened { host: host_and_port(&endpoint), parts: store.clone(), store, credentials, region: None })
}

/// Where a cloud knows its users.
fn authority(domain: &str) -> &'static str {
    match domain {
        "blob.core.chinacloudapi.cn" => "https://login.chinacloudapi.cn",
        "blob.core.usgovcloudapi.net" => "https://login.microsoftonline.us",
        _ => "https://login.microsoftonline.com",
    }
}

/// What gives credentials.
pub(super) const REMEDY: &str = "set AZURE_STORAGE_ACCESS_KEY, or AZURE_CLIENT_ID and AZURE_TENANT_ID with AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, or use the blob's URL with a signature (SAS)";
