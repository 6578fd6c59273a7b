//! Requests of credential helpers: the host takes the URL apart, compares its host with what was granted, and sends.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use cofferdam_plugin_pack::{Capability, HostPattern, ParsedHost};
use url::Url;
use wasmtime::component::Resource;

use crate::{
    CredentialSources, Policy,
    bindings::{
        credentials::cofferdam::credentials::web::{self as wit, Error, Host, HostWeb},
        instruction::cofferdam::types::diagnostics::Denial,
    },
    call::{CallState, Witness},
    plugin::Origin,
};

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebMethod {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
}

/// A request that was allowed, to be sent to the URL's own host and nowhere else.
#[derive(Clone)]
pub struct WebRequest {
    /// The method.
    pub method: WebMethod,
    /// Where to, without user and fragment.
    pub url: Url,
    /// Names and values; nothing of the connection's.
    pub headers: Vec<(String, String)>,
    /// Empty for `GET`.
    pub body: Vec<u8>,
    /// Whether no proxy may be used: for addresses that mean this machine, or this machine's cloud.
    pub direct: bool,
    /// How long the whole exchange may take.
    pub patience: Duration,
    /// How many bytes the answer's body may have.
    pub limit_bytes: u64,
}

/// An answer of any status.
#[derive(Clone)]
pub struct WebAnswer {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values that are text.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Requests in one call: the longest flow of ours, a federated token with impersonation behind a metadata service, has five.
const MAX_REQUESTS: u32 = 16;
/// Waiting in one call, all requests together.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Waiting for one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Waiting for the metadata address, which answers at once or is not there.
const METADATA_PATIENCE: Duration = Duration::from_secs(2);
/// An answer's body: the longest that is known, a token with all groups of a user in it, has some 16 KiB.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// A request's body.
const MAX_BODY_BYTES: usize = 256 << 10;
/// A URL.
const MAX_URL_BYTES: usize = 8 << 10;
/// All headers of a request or an answer together, and how many there are.
const MAX_HEADER_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;

/// The addresses at which clouds tell a machine, a container or a pod its credentials: EC2 (and Azure and Google, whose is the
/// same), ECS, EKS pod identities.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(169, 254, 170, 2), Ipv4Addr::new(169, 254, 170, 23)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)];
const METADATA_NAME: &str = "metadata.google.internal";

/// Headers that belong to the connection, or to the way to the server (RFC 9110 §7.2, §7.6.1, §8.6, §10.1.1, §11.7).
const HOSTS_OWN_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a URL leads to.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// What covers it.
    capability: Capability,
    direct: bool,
}

/// What a helper did in one call; the host looks at it afterwards.
#[derive(Default)]
pub(crate) struct WebUses {
    requests: AtomicU32,
    denied: Mutex<Option<(Capability, String)>>,
}

impl WebUses {
    /// Whether anything was sent.
    pub(crate) fn any(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// The last capability that was denied, with the lines that would allow it: the host's own words, which need not be
    /// believed of a plugin.
    pub(crate) fn denied(&self) -> Option<(Capability, String)> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The web of one call.
pub struct WebHandle {
    pub(crate) sources: Arc<dyn CredentialSources>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) witness: Witness,
    pub(crate) uses: Arc<WebUses>,
    pub(crate) waited: Duration,
}

impl WebHandle {
    fn send(&mut self, request: wit::Request) -> Result<wit::Answer, Error> {
        let url = parse(&request.url).map_err(|why| Error::Invalid(why.to_owned()))?;
        let target = Target::of(&url).map_err(|why| Error::Invalid(why.to_owned()))?;
        check(&request).map_err(|why| Error::Invalid(why.to_owned()))?;
        let plugin = &self.witness.plugin;
        let first_party = plugin.origin == Origin::Embedded;
        if let Err(why) = self.policy.admit_use(&plugin.manifest, &target.capability, first_party) {
            let denial = Denial { capability: target.capability.to_string(), message: why.clone() };
            *self.uses.denied.lock().unwrap_or_else(PoisonError::into_inner) = Some((target.capability, why));
            return Err(Error::Denied(denial));
        }
        if self.uses.requests.fetch_add(1, Ordering::Relaxed) >= MAX_REQUESTS {
            return Err(Error::Invalid(format!("more than {MAX_REQUESTS} requests in one call")));
        }
        let left = MAX_WAIT.saturating_sub(self.waited);
        if left.is_zero() {
            let seconds = MAX_WAIT.as_secs();
            return Err(Error::Failed(format!("a helper may wait for {seconds} s in one call, and has done so")));
        }
        let method = WebMethod::from(request.method);
        self.witness.record(&target.capability.to_string(), || {
            let mut shown = url.clone();
            shown.set_query(None);
            format!("{} {shown}", method.name())
        });
        let patience = if target.capability == Capability::Metadata { METADATA_PATIENCE } else { PATIENCE };
        let begun = Instant::now();
        let answered = self.sources.exchange(WebRequest {
            method,
            url,
            headers: request.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            body: request.body,
            direct: target.direct,
            patience: patience.min(left),
            limit_bytes: MAX_ANSWER_BYTES,
        });
        self.waited += begun.elapsed();
        let WebAnswer { status, headers, body } = answered.map_err(Error::Failed)?;
        let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if headers.len() > MAX_HEADERS || size > MAX_HEADER_BYTES || body.len() as u64 > MAX_ANSWER_BYTES {
            return Err(Error::Failed("the answer is larger than a helper is given".to_owned()));
        }
        let headers = headers.into_iter().map(|(name, value)| wit::Header { name, value }).collect();
        Ok(wit::Answer { status, headers, body })
    }
}

/// Takes a URL apart. What readers disagree on is refused: white space, backslashes and letters beyond ASCII, users, fragments.
fn parse(text: &str) -> Result<Url, &'static str> {
    if text.len() > MAX_URL_BYTES {
        return Err("its URL is too long");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err("its URL has other characters than a URL may have");
    }
    let url = Url::parse(text).map_err(|_| "its URL can't be read")?;
    if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
        return Err("its URL names a user");
    }
    if url.fragment().is_some() {
        return Err("its URL has a fragment");
    }
    match url.scheme() {
        "https" | "http" if url.has_host() => Ok(url),
        _ => Err("its URL is not `https://HOST/…`"),
    }
}

/// What stands between `//` and the path.
fn authority(text: &str) -> &str {
    let rest = text.split_once(':').map_or(text, |(_, rest)| rest).trim_start_matches('/');
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

impl Target {
    /// # Errors
    /// Nothing could cover it; the text says why.
    fn of(url: &Url) -> Result<Self, &'static str> {
        let host = url.host().ok_or("its URL has no host")?;
        let address: Option<IpAddr> = match host {
            url::Host::Domain(_) => None,
            url::Host::Ipv4(address) => Some(address.into()),
            url::Host::Ipv6(address) => Some(address.into()),
        };
        let is_metadata = match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => METADATA_V4.contains(&address),
            Some(IpAddr::V6(address)) => METADATA_V6.contains(&address),
            None => url.host_str() == Some(METADATA_NAME),
        };
        if is_metadata {
            return match (url.scheme(), url.port()) {
                ("http", None) => Ok(Self { capability: Capability::Metadata, direct: true }),
                _ => Err("the metadata address is asked by `http` on its own port"),
            };
        }
        let link_local = match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => address.is_link_local() || address.is_unspecified(),
            Some(IpAddr::V6(address)) => address.is_unicast_link_local() || address.is_unspecified(),
            None => false,
        };
        if link_local {
            return Err("no capability covers addresses of the own link");
        }
        let is_loopback = match address {
            Some(address) => address.to_canonical().is_loopback(),
            None => url.host_str() == Some("localhost"),
        };
        if url.scheme() != "https" && !is_loopback {
            return Err("only this machine itself is asked without TLS: write `https`");
        }
        let text = match (url.port_or_known_default(), url.host_str()) {
            (Some(443), Some(host)) => host.to_owned(),
            (Some(port), Some(host)) => format!("{host}:{port}"),
            _ => return Err("its URL has no host"),
        };
        // A name with a trailing dot is another spelling, which certificates don't know.
        let host = ParsedHost::parse(&text).ok_or("its host is not spelled as hosts are")?;
        Ok(Self { capability: Capability::Http(HostPattern::from(host)), direct: is_loopback })
    }
}

fn check(request: &wit::Request) -> Result<(), &'static str> {
    if request.body.len() > MAX_BODY_BYTES {
        return Err("its body is too long");
    }
    if !request.body.is_empty() && matches!(request.method, wit::Method::Get) {
        return Err("a GET has no body");
    }
    let size: usize = request.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if request.headers.len() > MAX_HEADERS || size > MAX_HEADER_BYTES {
        return Err("it has too many headers");
    }
    for header in &request.headers {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if header.name.is_empty() || !header.name.bytes().all(token) {
            return Err("a header's name has other characters than letters, digits, `-` and `_`");
        }
        if HOSTS_OWN_HEADERS.iter().any(|own| header.name.eq_ignore_ascii_case(own)) {
            return Err("it has a header that the host writes");
        }
        if !header.value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err("a header's value is not one line of ASCII");
        }
    }
    Ok(())
}

impl WebMethod {
    /// As it stands in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

impl From<wit::Method> for WebMethod {
    fn from(method: wit::Method) -> Self {
        match method {
            wit::Method::Get => Self::Get,
            wit::Method::Post => Self::Post,
            wit::Method::Put => Self::Put,
        }
    }
}

impl Host for CallState {}

impl HostWeb for CallState {
    fn send(
        &mut self,
        web: Resource<WebHandle>,
        request: wit::Request,
    ) -> wasmtime::Result<Result<wit::Answer, Error>> {
        self.in_host(|state| Ok(state.table.get_mut(&web)?.send(request)))
    }

    fn drop(&mut self, web: Resource<WebHandle>) -> wasmtime::Result<()> {
        self.table.delete(web)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a grant of `pattern` would let a URL through.
    fn covered(pattern: &str, url: &str) -> bool {
        let granted: Capability = format!("http:{pattern}").parse().unwrap();
        parse(url).and_then(|url| Target::of(&url)).is_ok_and(|target| granted.covers(&target.capability))
    }

    #[test]
    fn a_lookalike_gets_no_request() {
        for url in [
            "https://x.azurecr.io/oauth2/exchange",
            "https://X.AzureCR.IO/",
            "https://x.azurecr.io:443/",
            "HTTPS://a.b.azurecr.io?q",
            "https://x.azurecr%2Eio/",
        ] {
            assert!(covered("*.azurecr.io", url), "{url}");
        }
        for url in [
            "https://x.azurecr.io.evil.example/",
            "https://x.azurecr.io@evil.example/",
            "https://evil.example@x.azurecr.io/",
            "https://@x.azurecr.io/",
            "https://:@x.azurecr.io/",
            "https://x.azurecr.io:pw@evil.example/",
            "https://evil.example/x.azurecr.io",
            "https://evil.example?x.azurecr.io",
            "https://evil.example#x.azurecr.io",
            "https://x.azurecr.io/#evil",
            "https://evil.example\\x.azurecr.io/",
            "https://evil.example%2Fx.azurecr.io/",
            "https://evil.example%00.azurecr.io/",
            "https://evil.example\t.azurecr.io/",
            "https://evil.example .azurecr.io/",
            "https://x.azurecr.io./",
            "https://x.azurecr.io..",
            "https://x.azurecr.io:8443/",
            "https://x.azurecr.io:80/",
            "https://azurecr.io/",
            "https://evilazurecr.io/",
            // Cyrillic letters, and a full-width dot.
            "https://x.аzurecr.io/",
            "https://x。azurecr.io/",
            "https://xn--zurecr-2nf.io/",
            "http://x.azurecr.io/",
            "ftp://x.azurecr.io/",
            "file://x.azurecr.io/etc/passwd",
            "//x.azurecr.io/",
            "x.azurecr.io",
            "https:///x.azurecr.io/..//evil.example",
            "https://",
            "",
        ] {
            // The URL standard takes any number of slashes, and the host behind them is the one that is asked.
            let same = url.starts_with("https:///x.azurecr.io");
            assert_eq!(covered("*.azurecr.io", url), same, "{url}");
        }
    }

    #[test]
    fn an_address_must_be_named_however_it_is_spelled() {
        for url in ["https://10.0.0.1/", "https://0x0a.0.0.1/", "https://167772161/", "https://012.1/"] {
            assert!(covered("10.0.0.1", url), "{url}");
            assert!(!covered("*.azurecr.io", url), "{url}");
        }
        assert!(covered("[2001:db8::1]", "https://[2001:db8:0::1]/"));
        assert!(!covered("10.0.0.1", "https://10.0.0.1.nip.example/"));
    }

    #[test]
    fn the_metadata_address_is_no_server_whatever_the_pattern() {
        let target = |url: &str| Target::of(&parse(url).unwrap());
        for url in [
            "http://169.254.169.254/latest/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://[::ffff:169.254.169.254]/",
            "http://169.254.170.2/v2/credentials",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::254]/",
            "http://[fd00:0ec2:0::23]/",
            "http://metadata.google.internal/",
            "http://METADATA.google.internal:80/",
        ] {
            assert_eq!(target(url).unwrap(), Target { capability: Capability::Metadata, direct: true }, "{url}");
        }
        for url in [
            "https://169.254.169.254/",
            "http://169.254.169.254:8080/",
            "http://169.254.1.1/",
            "https://169.254.1.1/",
            "https://[fe80::1]/",
            "http://metadata.google.internal./",
            "http://0.0.0.0/",
            "https://0/",
        ] {
            assert!(target(url).is_err(), "{url}");
        }
    }

    #[test]
    fn without_tls_only_this_machine_is_asked() {
        assert!(covered("127.0.0.1:5000", "http://127.0.0.1:5000/"));
        assert!(covered("localhost:80", "http://localhost/"));
        assert!(covered("[::1]:5000", "http://[::1]:5000/"));
        for url in
            ["http://10.0.0.1:5000/", "http://localhost.evil.example:5000/", "http://127.0.0.1.evil.example:5000/"]
        {
            let host = url.trim_start_matches("http://").trim_end_matches('/');
            assert!(!covered(host, url), "{url}");
        }
    }

    #[test]
    fn headers_of_the_connection_and_second_lines_are_refused() {
        let request = |name: &str, value: &str| wit::Request {
            method: wit::Method::Get,
            url: String::new(),
            headers: vec![wit::Header { name: name.to_owned(), value: value.to_owned() }],
            body: Vec::new(),
        };
        assert!(check(&request("X-Amz-Date", "20150830T123600Z")).is_ok());
        for (name, value) in [
            ("Host", "evil.example"),
            ("content-LENGTH", "0"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Authorization", "x"),
            ("a b", "x"),
            ("", "x"),
            ("a:", "x"),
            ("a", "x\r\nHost: evil.example"),
            ("a", "\u{e9}"),
        ] {
            assert!(check(&request(name, value)).is_err(), "{name}: {value}");
        }
        let body = wit::Request { body: vec![0], ..request("a", "b") };
        assert!(check(&body).is_err());
    }
}
