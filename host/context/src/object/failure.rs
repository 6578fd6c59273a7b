//! What an object store's refusals mean, and what to do about them.

use http::StatusCode;

use super::{
    CloudAccess, Credentials, Opened, Place, azure,
    connector::{Refused, Seen, What},
    google, s3,
};
use crate::FetchError;

/// What follows from a failure.
pub(super) enum Finding {
    /// The machine has no identity: the object is asked for as anybody.
    NoMachine,
    /// The bucket is in this region.
    OtherRegion(String),
    /// Maybe it goes better later.
    Trouble(FetchError),
    /// It stays so.
    Final(FetchError),
}

/// What a failure means: what the library says of it, and what was seen on the way.
pub(super) fn find(
    object: &str,
    place: &Place,
    opened: &Opened,
    words: String,
    seen: Option<Seen>,
    access: &CloudAccess,
) -> Finding {
    let Some(Seen { at_store, what }) = seen else {
        // Nobody was asked: it is a file with credentials.
        let remedy = match opened.credentials {
            Credentials::Given(what) => format!("check {what}"),
            Credentials::Machine | Credentials::None => "look at the server that answers".to_owned(),
        };
        return Finding::Final(FetchError::Object { object: object.to_owned(), answer: words, remedy });
    };
    if !at_store && opened.credentials == Credentials::Machine {
        return Finding::NoMachine;
    }
    let refused = match what {
        What::Failed(error @ (FetchError::Connect { .. } | FetchError::Broken { .. })) => {
            return Finding::Trouble(error);
        }
        What::Failed(error) => return Finding::Final(error),
        What::Success if at_store => {
            let (object, answer) = (object.to_owned(), format!("the store's answer makes no sense: {words}"));
            let remedy = "look at the server and what is on the way to it".to_owned();
            return Finding::Final(FetchError::Object { object, answer, remedy });
        }
        What::Success => {
            return Finding::Final(FetchError::CloudCredentials { reason: words, remedy: remedy(place) });
        }
        What::Answer(refused) => refused,
    };
    let is_trouble = refused.status.is_server_error() || refused.status == StatusCode::TOO_MANY_REQUESTS;
    if !at_store {
        let reason = format!("`{}` answers {}", refused.url, refused.said());
        let error = FetchError::CloudCredentials { reason, remedy: remedy(place) };
        return if is_trouble { Finding::Trouble(error) } else { Finding::Final(error) };
    }
    if let (Place::S3 { .. }, Some(region)) = (place, refused.region())
        && opened.region.as_ref() != Some(&region)
    {
        return Finding::OtherRegion(region);
    }
    if let Some(to) = refused.headers.get(http::header::LOCATION).filter(|_| refused.status.is_redirection()) {
        let to = format!("to `{}`", crate::source::redacted(&String::from_utf8_lossy(to.as_bytes())));
        return Finding::Final(FetchError::Redirect { url: refused.url, to });
    }
    let remedy = match is_trouble {
        true => "the store has trouble: build again later".to_owned(),
        false => what_to_do(place, opened.credentials, &refused, access),
    };
    let (object, answer) = (object.to_owned(), refused.said());
    if refused.is_missing() && !refused.is_about_the_place() {
        return Finding::Final(FetchError::MissingObject { object, answer, remedy });
    }
    let error = FetchError::Object { object, answer, remedy };
    if is_trouble { Finding::Trouble(error) } else { Finding::Final(error) }
}

/// Every answer leads to another question.
pub(super) fn circle(object: &str) -> FetchError {
    let (answer, remedy) = ("the store sends from one region to another", "set AWS_REGION to the bucket's own");
    FetchError::Object { object: object.to_owned(), answer: answer.to_owned(), remedy: remedy.to_owned() }
}

/// What to do about a refusal by the store itself.
fn what_to_do(place: &Place, credentials: Credentials, refused: &Refused, access: &CloudAccess) -> String {
    let custom = match place {
        Place::S3 { .. } => access.first(&["S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
        Place::Google { .. } => access.value("STORAGE_EMULATOR_HOST"),
        Place::Azure { .. } => None,
    };
    let server = custom.map(|_| ", and the server's address").unwrap_or_default();
    match (refused.status.as_u16(), credentials) {
        (412, _) => "it changed meanwhile: build again".to_owned(),
        (_, _) if refused.is_missing() => {
            let is_place = refused.is_about_the_place();
            let what = match (place, is_place) {
                (_, false) => "the object's name",
                (Place::S3 { .. } | Place::Google { .. }, true) => "the bucket's name",
                (Place::Azure { .. }, true) => "the container's name",
            };
            let hidden = match credentials == Credentials::None && !is_place {
                true => format!("{NOBODY}{}", remedy(place)),
                false => String::new(),
            };
            format!("check {what}{server}{hidden}")
        }
        (400 | 401 | 403 | 409, Credentials::None) => {
            format!("there are no credentials, and not everybody may read it: {}", remedy(place))
        }
        (401 | 403, Credentials::Given(what)) => {
            format!("check {what}, and that they may read the object")
        }
        (401 | 403, Credentials::Machine) => "let the machine's or pod's identity read the object".to_owned(),
        _ => format!("check its name{server}"),
    }
}

/// Behind a remedy for what nobody's credentials were shown to.
const NOBODY: &str = "; there are no credentials, and a store may hide what not everybody may read: ";

fn remedy(place: &Place) -> &'static str {
    match place {
        Place::S3 { .. } => s3::REMEDY,
        Place::Google { .. } => google::REMEDY,
        Place::Azure { .. } => azure::REMEDY,
    }
}

impl Refused {
    /// The error's code, in the XML of all three stores and of Amazon's token service, or in a token server's JSON.
    fn code(&self) -> Option<String> {
        let header = self.headers.get("x-ms-error-code").and_then(|code| code.to_str().ok());
        header.or_else(|| element(&self.body, "Code")).or_else(|| member(&self.body, "error")).map(plain)
    }

    fn is_missing(&self) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE)
    }

    /// Whether it is the bucket or container that is meant, not the object.
    fn is_about_the_place(&self) -> bool {
        self.code().is_some_and(|code| code.contains("Bucket") || code.contains("Container"))
    }

    /// Status, code and message, as a person reads them.
    fn said(&self) -> String {
        let json = || member(&self.body, "error_description").or_else(|| member(&self.body, "message"));
        let message = element(&self.body, "Message").or_else(json).map(plain);
        let parts: Vec<String> = self.code().into_iter().chain(message).filter(|part| !part.is_empty()).collect();
        match parts.is_empty() {
            true => self.status.to_string(),
            false => format!("{} ({})", self.status, parts.join(": ")),
        }
    }

    /// The region that S3 names where another one was asked or signed for ("Redirects and request routing").
    fn region(&self) -> Option<String> {
        let is_hint = self.status.is_redirection() || self.status == StatusCode::BAD_REQUEST;
        let header = self.headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
        let region = header.or_else(|| element(&self.body, "Region")).filter(|_| is_hint)?;
        let is_region = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_region.then(|| region.to_owned())
    }
}

/// The text of the first element of a name. Those that are asked for hold no markup.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(value, _)| value.trim())
}

/// The text of the first member of a name in a JSON object, up to its first quote.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    rest.split_once(['"', '\\']).map(|(value, _)| value)
}

/// The longest message of a server that is shown, in characters.
const MESSAGE_LIMIT: usize = 200;

/// A server's words on one line, and not many of them.
fn plain(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|letter| !letter.is_control()).take(MESSAGE_LIMIT).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, headers: &[(&'static str, &str)], body: &str) -> Refused {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap()));
        let (url, body) = ("https://x/".to_owned(), body.to_owned());
        Refused { url, status: StatusCode::from_u16(status).unwrap(), headers: headers.collect(), body }
    }

    #[test]
    fn servers_words_are_short_and_plain() {
        let body =
            "<?xml?><Error><Code>NoSuchKey</Code><Message>The key\u{1b}[31m is gone.\nTime: now</Message></Error>";
        assert_eq!(refused(404, &[], body).said(), "404 Not Found (NoSuchKey: The key[31m is gone.)");
        let json = "{\"error\": \"invalid_grant\", \"error_description\":\"Expired \\\"x\\\"\"}";
        assert_eq!(refused(400, &[], json).said(), "400 Bad Request (invalid_grant: Expired)");
        let long = format!("<Message>{}</Message>", "x".repeat(1000));
        assert!(refused(400, &[], &long).said().len() < 300);
        assert_eq!(refused(403, &[], "<html>").said(), "403 Forbidden");
    }

    #[test]
    fn a_region_is_learned_from_what_is_no_success_for_its_sake() {
        let other = [("x-amz-bucket-region", "eu-west-3")];
        assert_eq!(refused(301, &other, "").region().as_deref(), Some("eu-west-3"));
        let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-north-1</Region></Error>";
        assert_eq!(refused(400, &[], malformed).region().as_deref(), Some("eu-north-1"));
        assert_eq!(refused(403, &other, "").region(), None);
        assert_eq!(refused(301, &[("x-amz-bucket-region", "x/../y")], "").region(), None);
    }
}
