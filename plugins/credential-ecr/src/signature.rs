//! AWS Signature Version 4 ("Signing AWS API requests" of the IAM user guide).

use cofferdam_plugin_sdk::{
    diagnostics::Timestamp,
    web::{Method, Request, RequestExt},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Long-lived or temporary credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The access key id.
    pub id: String,
    /// The secret access key.
    pub secret: String,
    /// The session token of temporary ones.
    pub token: Option<String>,
}

/// What a signature is for.
pub struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
}

/// Signs a request whose URL has no query: adds `X-Amz-Date`, `X-Amz-Security-Token` and `Authorization`.
pub fn sign(request: Request, keys: &Keys, scope: &Scope<'_>, now: Timestamp) -> Request {
    let moment = jiff::Timestamp::from_second(now.seconds).unwrap_or_default();
    let (time, day) = (moment.strftime("%Y%m%dT%H%M%SZ").to_string(), moment.strftime("%Y%m%d").to_string());
    let mut request = request.header("X-Amz-Date", time.as_str());
    if let Some(token) = &keys.token {
        request = request.header("X-Amz-Security-Token", token);
    }
    let (host, path) = host_and_path(&request.url);
    let own = request.headers.iter().map(|header| (header.name.to_ascii_lowercase(), header.value.trim().to_owned()));
    let mut headers: Vec<(String, String)> = own.chain([("host".to_owned(), host)]).collect();
    headers.sort();
    let signed = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
    };
    let body = hexadecimal(&Sha256::digest(&request.body));
    let canonical = format!("{method}\n{path}\n\n{lines}\n{signed}\n{body}");
    let Scope { region, service } = scope;
    let within = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{within}\n{}", hexadecimal(&Sha256::digest(canonical)));
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in [day.as_str(), region, service, "aws4_request"] {
        key = hmac(&key, part);
    }
    let signature = hexadecimal(&hmac(&key, &text));
    let id = &keys.id;
    request.header(
        "Authorization",
        format!("AWS4-HMAC-SHA256 Credential={id}/{within}, SignedHeaders={signed}, Signature={signature}"),
    )
}

/// The value of the Host header that goes with a URL, and the path.
fn host_and_path(url: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let own_port = if scheme.eq_ignore_ascii_case("http") { ":80" } else { ":443" };
    let host = authority.strip_suffix(own_port).unwrap_or(authority);
    (host.to_ascii_lowercase(), format!("/{path}"))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::web::get;

    #[test]
    fn signs_as_amazons_own_example() {
        // "get-vanilla" of the AWS Signature Version 4 test suite.
        let keys = Keys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
        };
        let scope = Scope { region: "us-east-1", service: "service" };
        let now = Timestamp { seconds: 1_440_938_160, nanoseconds: 0 };
        let signed = sign(get("https://example.amazonaws.com/"), &keys, &scope, now);
        assert_eq!(signed.headers[0].value, "20150830T123600Z");
        assert_eq!(
            signed.headers[1].value,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }

    #[test]
    fn the_host_is_what_the_request_will_say() {
        for (url, host, path) in [
            ("https://API.example", "api.example", "/"),
            ("https://api.example:443/a/b", "api.example", "/a/b"),
            ("http://127.0.0.1:5000/", "127.0.0.1:5000", "/"),
            ("http://localhost:80/x", "localhost", "/x"),
        ] {
            assert_eq!(host_and_path(url), (host.to_owned(), path.to_owned()), "{url}");
        }
    }
}
