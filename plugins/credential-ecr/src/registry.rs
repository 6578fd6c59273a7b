//! Which registry a host is, and where its API is.

use cofferdam_plugin_sdk::credentials::{SourceError, Sources};

/// One of Amazon's registries.
#[derive(Debug, PartialEq, Eq)]
pub enum Registry {
    /// `ACCOUNT.dkr.ecr.REGION.amazonaws.com`.
    Private {
        /// Where it is.
        region: String,
        /// The host of its API.
        api: String,
        /// The domain of the partition's other services.
        domain: &'static str,
    },
    /// `public.ecr.aws`.
    Public,
}

/// What stands behind the region, and the API before and behind it, with FIPS and without.
const FORMS: [(&str, &str, &str, &str); 10] = [
    (".dkr.ecr.", "amazonaws.com", "api.ecr.", "amazonaws.com"),
    (".dkr.ecr.", "amazonaws.com.cn", "api.ecr.", "amazonaws.com.cn"),
    (".dkr.ecr.", "amazonaws.eu", "api.ecr.", "amazonaws.eu"),
    (".dkr.ecr-fips.", "amazonaws.com", "ecr-fips.", "amazonaws.com"),
    (".dkr.ecr-fips.", "amazonaws.com.cn", "ecr-fips.", "amazonaws.com.cn"),
    (".dkr.ecr-fips.", "amazonaws.eu", "ecr-fips.", "amazonaws.eu"),
    (".dkr-ecr.", "on.aws", "ecr.", "api.aws"),
    (".dkr-ecr-fips.", "on.aws", "ecr-fips.", "api.aws"),
    (".dkr-ecr.", "on.amazonwebservices.com.cn", "ecr.", "api.amazonwebservices.com.cn"),
    (".dkr-ecr-fips.", "on.amazonwebservices.com.cn", "ecr-fips.", "api.amazonwebservices.com.cn"),
];

/// The public registry's API is in one region only.
const PUBLIC_REGION: &str = "us-east-1";

impl Registry {
    /// The registry of a host, which may have the port of HTTPS.
    pub fn of(host: &str) -> Option<Self> {
        let host = host.strip_suffix(":443").unwrap_or(host);
        if ["public.ecr.aws", "ecr-public.aws.com"].contains(&host) {
            return Some(Self::Public);
        }
        FORMS.iter().find_map(|(middle, behind, before_api, behind_api)| {
            let (account, rest) = host.split_once(middle)?;
            let region = rest.strip_suffix(behind)?.strip_suffix('.')?;
            let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
            let domain = if behind.ends_with(".cn") {
                "amazonaws.com.cn"
            } else if behind.ends_with(".eu") {
                "amazonaws.eu"
            } else {
                "amazonaws.com"
            };
            (is_account && is_region(region)).then(|| Self::Private {
                region: region.to_owned(),
                api: format!("{before_api}{region}.{behind_api}"),
                domain,
            })
        })
    }

    pub fn is_public(&self) -> bool {
        *self == Self::Public
    }

    pub fn region(&self) -> &str {
        match self {
            Self::Private { region, .. } => region,
            Self::Public => PUBLIC_REGION,
        }
    }

    /// The domain of the partition's other services.
    pub fn domain(&self) -> &'static str {
        match self {
            Self::Private { domain, .. } => domain,
            Self::Public => "amazonaws.com",
        }
    }

    /// The service's name in a signature.
    pub fn service(&self) -> &'static str {
        if self.is_public() { "ecr-public" } else { "ecr" }
    }

    /// The operation that gives a token.
    pub fn target(&self) -> &'static str {
        match self {
            Self::Private { .. } => "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
            Self::Public => "SpencerFrontendService.GetAuthorizationToken",
        }
    }

    /// The URL of the API.
    pub fn endpoint(&self, sources: &dyn Sources) -> Result<String, SourceError> {
        let (variable, own) = match self {
            Self::Private { api, .. } => ("AWS_ENDPOINT_URL_ECR", format!("https://{api}/")),
            Self::Public => {
                ("AWS_ENDPOINT_URL_ECR_PUBLIC", format!("https://api.ecr-public.{PUBLIC_REGION}.amazonaws.com/"))
            }
        };
        Ok(custom_endpoint(variable, sources)?.unwrap_or(own))
    }
}

/// An endpoint that the environment names instead of a service's own ("Service-specific endpoints" of the AWS SDKs reference).
pub fn custom_endpoint(variable: &str, sources: &dyn Sources) -> Result<Option<String>, SourceError> {
    if sources.value("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")?.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let url = match sources.value(variable)? {
        Some(url) => Some(url),
        None => sources.value("AWS_ENDPOINT_URL")?,
    };
    Ok(url.map(|url| format!("{}/", url.trim_end_matches('/'))))
}

/// Whether a text is a single label that a region may be: it becomes part of a host.
pub fn is_region(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
}
