//! hosts.toml: where containerd reaches a registry (containerd, "Registry Configuration").

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};
use url::Url;

use super::RuleError;
use crate::{Mirror, RegistryHost};

/// What the file of one registry says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostsToml {
    /// Asked first, in this order.
    pub mirrors: Vec<Mirror>,
    /// Asked last, in the registry's place.
    pub server: Option<Mirror>,
    /// Registries that are used over plain HTTP.
    pub insecure: Vec<RegistryHost>,
    /// Registries whose certificates are not checked.
    pub skip_tls_verify: Vec<RegistryHost>,
    /// Files for TLS.
    pub files: Vec<(RegistryHost, HostFiles)>,
}

/// Files in PEM, as the file names them: relative ones are beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFiles {
    /// Certificates that are trusted.
    pub ca: Vec<String>,
    /// Our certificate, and its key.
    pub client: Option<(String, String)>,
}

/// Other keys do not matter to a builder. Those of the first level are the server's own.
#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Host>,
    ca: Option<Value>,
    client: Option<Value>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
}

#[derive(Deserialize)]
struct Host {
    capabilities: Option<Vec<String>>,
    ca: Option<Value>,
    client: Option<Value>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
}

impl HostsToml {
    /// Reads the file of a registry.
    ///
    /// # Errors
    /// It is not TOML, or a value is none.
    pub fn parse(registry: &RegistryHost, text: &str) -> Result<Self, RuleError> {
        let file: File = toml::from_str(text).map_err(|error| RuleError(error.message().to_owned()))?;
        let mut read = Self::default();
        let mut hosts: Vec<_> = file.host.into_iter().collect();
        // In the order of the file.
        hosts.sort_by_key(|(url, _)| url.span().start);
        for (url, host) in hosts {
            let pulls = |capabilities: &Vec<String>| capabilities.iter().any(|can| can == "pull");
            if !host.capabilities.as_ref().is_none_or(pulls) {
                continue;
            }
            let mirror = read.reach(url.get_ref(), &host)?;
            read.mirrors.push(mirror);
        }
        let (ca, client, skip_verify, override_path) = (file.ca, file.client, file.skip_verify, file.override_path);
        let own = Host { capabilities: None, ca, client, skip_verify, override_path };
        let server = file.server.unwrap_or_else(|| format!("https://{}", registry.api_authority()));
        let place = read.reach(&server, &own)?;
        // The registry itself, under the name that its API has.
        let itself = place.host().api_authority() == registry.api_authority() || place.host() == registry;
        if !itself {
            read.server = Some(place);
        }
        Ok(read)
    }

    /// The place behind a URL, whose TLS is noted.
    fn reach(&mut self, text: &str, host: &Host) -> Result<Mirror, RuleError> {
        let wrong = |why: &str| RuleError(format!("`{text}`: {why}"));
        let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&whole).map_err(|error| wrong(&error.to_string()))?;
        let name = url.host_str().ok_or_else(|| wrong("it has no host"))?;
        let authority = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let path = url.path().trim_matches('/');
        let path = match (path, host.override_path) {
            ("", false) | ("v2", _) => "",
            // The API's own part of the path comes before the repository's name.
            (path, true) => {
                path.strip_prefix("v2/").ok_or_else(|| wrong("with `override_path` it must begin with `/v2`"))?
            }
            (_, false) => {
                return Err(wrong("a path before `/v2` is not supported; with `override_path` it may be `/v2/PATH`"));
            }
        };
        let place: Mirror = format!("{authority}/{path}").parse().map_err(|error| wrong(&format!("{error}")))?;
        let registry = place.host().clone();
        match url.scheme() {
            "https" => {}
            "http" => self.insecure.push(registry.clone()),
            _ => return Err(wrong("it is neither `https` nor `http`")),
        }
        if host.skip_verify {
            self.skip_tls_verify.push(registry.clone());
        }
        let files = HostFiles { ca: texts("ca", host.ca.as_ref())?, client: pair(host.client.as_ref())? };
        if files != HostFiles::default() {
            self.files.push((registry, files));
        }
        Ok(place)
    }
}

/// One text or a list of them.
fn texts(key: &str, value: Option<&Value>) -> Result<Vec<String>, RuleError> {
    let wrong = || RuleError(format!("`{key}` is neither a text nor a list of texts"));
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(list)) => {
            list.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// `"FILE"` with both in it, `["FILE"]`, or `[["CERTIFICATE", "KEY"]]`, of which the first counts.
fn pair(value: Option<&Value>) -> Result<Option<(String, String)>, RuleError> {
    let first = match value {
        Some(Value::Array(list)) => list.first(),
        other => other,
    };
    let wrong = || RuleError("`client` is neither a file nor a list of pairs of files".to_owned());
    match first {
        None => Ok(None),
        Some(Value::String(file)) => Ok(Some((file.clone(), file.clone()))),
        Some(pair) => match &texts("client", Some(pair)).map_err(|_| wrong())?[..] {
            [file] => Ok(Some((file.clone(), file.clone()))),
            [certificate, key] => Ok(Some((certificate.clone(), key.clone()))),
            _ => Err(wrong()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(registry: &str, text: &str) -> Result<HostsToml, RuleError> {
        HostsToml::parse(&registry.parse().unwrap(), text)
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file() {
        let read = parse(
            "docker.io",
            r#"
server = "https://registry-1.docker.io"
[host."https://z.example:8443/v2/hub"]
  capabilities = ["pull", "resolve"]
  override_path = true
  ca = ["one.pem", "/two.pem"]
  client = [["cert.pem", "key.pem"]]
[host."http://a.example:5000"]
[host."https://push.example"]
  capabilities = ["push"]
[host."https://b.example"]
  skip_verify = true
  client = "both.pem"
"#,
        )
        .unwrap();
        let mirror = |text: &str| text.parse::<Mirror>().unwrap();
        assert_eq!(read.mirrors, [mirror("z.example:8443/hub"), mirror("a.example:5000"), mirror("b.example")]);
        assert_eq!(read.server, None, "it is Docker Hub itself");
        assert_eq!(read.insecure, ["a.example:5000".parse().unwrap()]);
        assert_eq!(read.skip_tls_verify, ["b.example".parse().unwrap()]);
        let first = HostFiles {
            ca: vec!["one.pem".to_owned(), "/two.pem".to_owned()],
            client: Some(("cert.pem".to_owned(), "key.pem".to_owned())),
        };
        assert_eq!(read.files[0], ("z.example:8443".parse().unwrap(), first));
        assert_eq!(read.files[1].1.client, Some(("both.pem".to_owned(), "both.pem".to_owned())));
    }

    #[test]
    fn a_server_may_be_another_one() {
        let read = parse("registry.example", "server = \"http://real.example:80\"\nskip_verify = true\n").unwrap();
        assert_eq!(read.server, Some("real.example".parse().unwrap()));
        let read = parse("registry.example:5000", "ca = \"ca.pem\"\n").unwrap();
        assert_eq!((read.server, read.files.len()), (None, 1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("x", "expected"),
            ("server = \"ftp://x\"", "ftp"),
            ("[host.\"https://x.example/path\"]", "override_path"),
            ("[host.\"https://x.example/path\"]\noverride_path = true", "/v2"),
            ("ca = 3", "`ca`"),
            ("client = [[\"a\", \"b\", \"c\"]]", "`client`"),
        ] {
            let error = parse("registry.example", text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
