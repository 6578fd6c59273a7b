//! Requests of credential helpers, and what they are made of.

pub use crate::bindings::credentials::cofferdam::credentials::web::{Answer, Error, Header, Method, Request};
use crate::{
    bindings::credentials::cofferdam::credentials::web,
    credentials,
    diagnostics::{Diagnostic, error},
    json::{self, Value},
};

/// The servers that were granted.
pub trait Web {
    /// Sends a request to the URL's own host; redirects are not followed.
    ///
    /// # Errors
    /// Not granted, not sent, or not answered.
    fn send(&self, request: &Request) -> Result<Answer, Error>;
}

impl Web for web::Web {
    fn send(&self, request: &Request) -> Result<Answer, Error> {
        web::Web::send(self, request)
    }
}

/// Adds to a request.
pub trait RequestExt {
    /// A header.
    fn header(self, name: &str, value: impl Into<String>) -> Self;
}

impl RequestExt for Request {
    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.to_owned(), value: value.into() });
        self
    }
}

/// `GET`.
pub fn get(url: impl Into<String>) -> Request {
    Request { method: Method::Get, url: url.into(), headers: Vec::new(), body: Vec::new() }
}

/// `PUT` without a body.
pub fn put(url: impl Into<String>) -> Request {
    Request { method: Method::Put, ..get(url) }
}

/// `POST`.
pub fn post(url: impl Into<String>, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    let request = Request { method: Method::Post, body: body.into(), ..get(url) };
    request.header("Content-Type", content_type)
}

/// `POST` of a form.
pub fn post_form(url: impl Into<String>, fields: &[(&str, &str)]) -> Request {
    post(url, "application/x-www-form-urlencoded", form(fields))
}

/// Fields as in a query or a form.
pub fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.join("&")
}

/// Percent-encoded but for letters, digits and `-._~` (RFC 3986 §2.3).
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Looks at an answer.
pub trait AnswerExt {
    /// Status 200.
    fn is_ok(&self) -> bool;
    /// A header, its name in lower case.
    fn header(&self, name: &str) -> Option<&str>;
    /// The body as text.
    fn text(&self) -> Option<&str>;
    /// The body as JSON.
    fn json(&self) -> Option<Value>;
}

impl AnswerExt for Answer {
    fn is_ok(&self) -> bool {
        self.status == 200
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
    }

    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }

    fn json(&self) -> Option<Value> {
        json::parse(self.text()?).ok()
    }
}

/// The finding about a server that answered something else than hoped: who, the status, and its own words from the members of a
/// JSON object, as far as they are plain text.
pub fn refusal(who: &str, answer: &Answer, words: &[&str]) -> Diagnostic {
    let object = answer.json();
    let said: Vec<String> = words
        .iter()
        .filter_map(|word| word.split('.').try_fold(object.as_ref()?, |value, key| value.get(key))?.as_str())
        .map(shown)
        .collect();
    let said = if said.is_empty() { String::new() } else { format!(": {}", said.join(": ")) };
    error("CredentialRefused", format!("{who} answered {}{said}", answer.status))
}

/// One line of at most 500 bytes.
pub fn shown(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    line[..line.floor_char_boundary(500)].to_owned()
}

impl From<Error> for credentials::Error {
    fn from(problem: Error) -> Self {
        match problem {
            Error::Denied(denial) => Self::Denied(denial),
            Error::Invalid(why) => Self::Invalid(error("RequestInvalid", format!("a request can't be sent: {why}"))),
            Error::Failed(why) => Self::Invalid(error("ServerSilent", why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded_by_bytes() {
        assert_eq!(form(&[("a b", "c&d=é"), ("x", "~-._")]), "a%20b=c%26d%3D%C3%A9&x=~-._");
    }

    #[test]
    fn a_refusal_has_the_servers_words_and_nothing_else() {
        let body = br#"{"error": {"code": "no", "secret": "s"}, "message": "not you\nsecond line"}"#.to_vec();
        let answer = Answer { status: 403, headers: Vec::new(), body };
        let finding = refusal("the server", &answer, &["error.code", "message", "absent"]);
        assert_eq!(finding.message, "the server answered 403: no: not you");
    }
}
