//! Keys for S3 that a service gives: the agent of a container or pod, or the metadata of a machine.
//!
//! The library's own ways end the program for a token with a line's end, or a role whose name is no part of a URL.

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use http::{HeaderName, Method, header};
use object_store::{CredentialProvider, Result, aws::AwsCredential, client::HttpClient};
use serde::Deserialize;
use url::Url;

use super::{
    access::text_of,
    kept::{Kept, ask, failed},
    profile::Keys,
};

/// How long the metadata service's own token is asked for, in seconds.
const SESSION_SECONDS: &str = "21600";

const SESSION_LIFETIME: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const SESSION: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");

/// A service that gives keys to whatever runs here.
pub(super) struct Service {
    client: HttpClient,
    kind: Kind,
    kept: Kept<AwsCredential>,
}

/// Which service.
#[derive(Clone)]
pub(super) enum Kind {
    /// Of an ECS task or an EKS pod ("Container credential provider" of the AWS SDKs reference).
    Container {
        /// Where the keys are.
        url: Url,
        /// What the agent wants to be shown.
        token: Token,
    },
    /// Of a machine, version 2 ("Use IMDSv2" of the EC2 user guide).
    Machine {
        /// Without a path.
        endpoint: Url,
    },
}

/// What an agent wants to be shown.
#[derive(Clone)]
pub(super) enum Token {
    /// Nothing.
    None,
    /// This.
    Value(String),
    /// What the file says at the time.
    File(PathBuf),
}

/// As every one of them answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

impl Service {
    pub(super) fn new(client: HttpClient, kind: Kind) -> Self {
        Self { client, kind, kept: Kept::new() }
    }

    async fn fetch(&self) -> Result<AwsCredential> {
        let keys = match &self.kind {
            Kind::Container { url, token } => {
                let token = token.read()?;
                let headers = token.as_deref().map(|token| (header::AUTHORIZATION, token.trim()));
                ask(&self.client, Method::GET, url, headers.as_slice(), String::new()).await?
            }
            Kind::Machine { endpoint } => self.of_machine(endpoint).await?,
        };
        // The parser's words could quote a key.
        let document: Document = serde_json::from_str(&keys).map_err(|_| failed("the answer has no keys"))?;
        let Document { access_key_id: id, secret_access_key: secret, token } = document;
        Keys { id, secret, token }.credential().map_err(failed)
    }

    async fn of_machine(&self, endpoint: &Url) -> Result<String> {
        let at = |path: &str| endpoint.join(path).map_err(failed);
        let lifetime = [(SESSION_LIFETIME, SESSION_SECONDS)];
        let session = ask(&self.client, Method::PUT, &at("/latest/api/token")?, &lifetime, String::new()).await?;
        let headers = [(SESSION, session.trim())];
        let roles = "/latest/meta-data/iam/security-credentials/";
        let role = ask(&self.client, Method::GET, &at(roles)?, &headers, String::new()).await?;
        let role = role.lines().next().unwrap_or_default().trim();
        // Roles have names of letters, digits and `+=,.@-_`.
        if role.is_empty() || !role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_".contains(&byte)) {
            return Err(failed("the machine has no role"));
        }
        ask(&self.client, Method::GET, &at(&format!("{roles}{role}"))?, &headers, String::new()).await
    }
}

impl Token {
    fn read(&self) -> Result<Option<String>> {
        match self {
            Self::None => Ok(None),
            Self::Value(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let missing = || failed(format!("there is no file `{}`", path.display()));
                text_of(path).map_err(failed)?.ok_or_else(missing).map(Some)
            }
        }
    }
}

#[async_trait]
impl CredentialProvider for Service {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        self.kept.get(self.fetch()).await
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service(…)")
    }
}
