//! Keys for S3 that a service gives: the agent of a container or pod, or the metadata of a machine.
//!
//! The library's own ways end the program for a token with a line's end, or a role whose name is no part of a URL.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::{HeaderValue, Method};
use object_store::{
    CredentialProvider, Error, Result,
    aws::AwsCredential,
    client::{HttpClient, HttpRequest, HttpRequestBody},
};
use serde::Deserialize;
use url::Url;

use super::{access::text_of, profile::Keys};

/// How long keys are used before they are asked for again: each of these services renews them minutes before their end.
const KEPT: Duration = Duration::from_secs(60);

/// How long the metadata service's own token is asked for, in seconds.
const SESSION_SECONDS: &str = "21600";

/// A service that gives keys to whatever runs here.
pub(super) struct Service {
    client: HttpClient,
    kind: Kind,
    kept: Mutex<Option<(Arc<AwsCredential>, Instant)>>,
}

/// Which service.
#[derive(Debug, Clone)]
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
        Self { client, kind, kept: Mutex::default() }
    }

    async fn fetch(&self) -> Result<AwsCredential> {
        let keys = match &self.kind {
            Kind::Container { url, token } => {
                let token = match token {
                    Token::None => None,
                    Token::Value(token) => Some(token.clone()),
                    Token::File(path) => {
                        let text = text_of(path).map_err(failed)?;
                        Some(text.ok_or_else(|| failed(format!("there is no file `{}`", path.display())))?)
                    }
                };
                let headers = token.iter().map(|token| ("authorization", token.trim()));
                self.text(Method::GET, url.clone(), headers).await?
            }
            Kind::Machine { endpoint } => {
                let at = |path: &str| endpoint.join(path).map_err(failed);
                let lifetime = [("x-aws-ec2-metadata-token-ttl-seconds", SESSION_SECONDS)];
                let session = self.text(Method::PUT, at("/latest/api/token")?, lifetime).await?;
                let session = [("x-aws-ec2-metadata-token", session.trim())];
                let roles = "/latest/meta-data/iam/security-credentials/";
                let role = self.text(Method::GET, at(roles)?, session).await?;
                let role = role.lines().next().unwrap_or_default().trim();
                // Roles have names of letters, digits and `+=,.@-_`.
                if role.is_empty()
                    || !role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_".contains(&byte))
                {
                    return Err(failed("the machine has no role"));
                }
                self.text(Method::GET, at(&format!("{roles}{role}"))?, session).await?
            }
        };
        // The parser's words could quote a key.
        let document: Document = serde_json::from_str(&keys).map_err(|_| failed("the answer has no keys"))?;
        let Document { access_key_id: id, secret_access_key: secret, token } = document;
        Keys { id, secret, token }.credential().map_err(failed)
    }

    async fn text<'a>(
        &self,
        method: Method,
        url: Url,
        headers: impl IntoIterator<Item = (&'static str, &'a str)>,
    ) -> Result<String> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(failed)?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|_| failed("a token has characters that none has"))?;
            request.headers_mut().insert(name, value);
        }
        let answer = self.client.execute(request).await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(failed(format!("it answers {}", answer.status())));
        }
        let bytes = answer.into_body().bytes().await.map_err(failed)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[async_trait]
impl CredentialProvider for Service {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((keys, since)) = kept
            && since.elapsed() < KEPT
        {
            return Ok(keys);
        }
        let keys = Arc::new(self.fetch().await?);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((keys.clone(), Instant::now()));
        Ok(keys)
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

fn failed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "S3", source: why.into() }
}
