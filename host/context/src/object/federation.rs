//! Workload identity federation (AIP-4117): another provider's token, exchanged for one of Google's (RFC 8693), and that maybe for
//! one of a service account.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use http::{HeaderName, Method, header};
use object_store::{CredentialProvider, Result, client::HttpClient, gcp::GcpCredential};
use serde::Deserialize;
use serde_json::Value;
use url::{Url, form_urlencoded::Serializer};

use super::{
    access::text_of,
    kept::{Kept, ask, failed},
};

/// What tokens are asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// The file of credentials.
#[derive(Deserialize)]
pub(super) struct External {
    audience: String,
    subject_token_type: String,
    token_url: Address,
    credential_source: Source,
    service_account_impersonation_url: Option<Address>,
}

/// Where a server is.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Address(Url);

impl TryFrom<String> for Address {
    type Error = url::ParseError;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        Url::parse(&text).map(Self)
    }
}

/// Where the other provider's token is.
#[derive(Deserialize)]
struct Source {
    file: Option<PathBuf>,
    url: Option<Address>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    r#type: String,
    subject_token_field_name: Option<String>,
}

/// Whoever gives tokens for such a file.
pub(super) struct Federation {
    client: HttpClient,
    file: External,
    kept: Kept<GcpCredential>,
}

impl External {
    /// What a file says; `None` if it is of another kind, or not whole. Its words could quote a secret.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let file: Self = serde_json::from_str(text).ok()?;
        let source = &file.credential_source;
        (source.file.is_some() || source.url.is_some()).then_some(file)
    }
}

impl Federation {
    pub(super) fn new(client: HttpClient, file: External) -> Self {
        Self { client, file, kept: Kept::new() }
    }

    async fn fetch(&self) -> Result<GcpCredential> {
        let subject = self.subject_token().await?;
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", self.file.audience.as_str()),
            ("scope", SCOPE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", self.file.subject_token_type.as_str()),
            ("subject_token", subject.as_str()),
        ];
        let form = Serializer::new(String::new()).extend_pairs(form).finish();
        let headers = [(header::CONTENT_TYPE, "application/x-www-form-urlencoded")];
        let answer = ask(&self.client, Method::POST, &self.file.token_url.0, &headers, form).await?;
        let token = member(&answer, "access_token")?;
        let bearer = match &self.file.service_account_impersonation_url {
            None => token,
            Some(Address(url)) => {
                let bearer = format!("Bearer {token}");
                let headers = [(header::CONTENT_TYPE, "application/json"), (header::AUTHORIZATION, bearer.as_str())];
                let body = serde_json::json!({ "scope": [SCOPE] }).to_string();
                member(&ask(&self.client, Method::POST, url, &headers, body).await?, "accessToken")?
            }
        };
        match bearer.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(GcpCredential { bearer }),
            false => Err(failed("the token has characters that none has")),
        }
    }

    /// What the other provider said of us: a file, or the answer of a URL; as text, or as a member of JSON.
    async fn subject_token(&self) -> Result<String> {
        let source = &self.file.credential_source;
        let text = match (&source.file, &source.url) {
            (Some(path), _) => {
                let missing = || failed(format!("there is no file `{}` (`credential_source`)", path.display()));
                text_of(path).map_err(failed)?.ok_or_else(missing)?
            }
            (None, Some(Address(url))) => {
                let name = |name: &String| name.parse::<HeaderName>().map_err(failed);
                let headers = source.headers.iter().map(|(key, value)| Ok((name(key)?, value.as_str())));
                let headers = headers.collect::<Result<Vec<_>>>()?;
                ask(&self.client, Method::GET, url, &headers, String::new()).await?
            }
            (None, None) => return Err(failed("`credential_source` has neither `file` nor `url`")),
        };
        match &source.format {
            Some(Format { r#type, subject_token_field_name }) if r#type == "json" => {
                member(&text, subject_token_field_name.as_deref().unwrap_or("access_token"))
            }
            _ => Ok(text.trim().to_owned()),
        }
    }
}

/// A text of a JSON object.
fn member(text: &str, name: &str) -> Result<String> {
    let value: Option<Value> = serde_json::from_str(text).ok();
    let found = value.as_ref().and_then(|value| value.get(name)?.as_str()).filter(|text| !text.is_empty());
    found.map(str::to_owned).ok_or_else(|| failed(format!("the answer has no `{name}`")))
}

#[async_trait]
impl CredentialProvider for Federation {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> Result<Arc<GcpCredential>> {
        self.kept.get(self.fetch()).await
    }
}

impl fmt::Debug for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Federation(…)")
    }
}
