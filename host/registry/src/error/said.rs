//! The registry's own words.

use std::fmt;

use serde::Deserialize;

/// How much of an error's body is read and shown.
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024;
const MAX_SHOWN_CHARS: usize = 400;
const MAX_SHOWN_ERRORS: usize = 4;

/// What a registry said about an error: the codes and messages of its JSON (distribution specification, "Error Codes"),
/// or the start of its text. Printed with `: ` before it, or not at all when there is nothing; control characters are
/// left out, so that an answer can't play with the terminal.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Said {
    codes: Vec<String>,
    text: String,
}

impl Said {
    /// Reads an answer's body.
    pub(crate) fn parse(body: &[u8]) -> Self {
        if let Ok(Body { errors }) = serde_json::from_slice::<Body>(body)
            && !errors.is_empty()
        {
            let text = errors.iter().take(MAX_SHOWN_ERRORS).map(Item::text).collect::<Vec<_>>().join("; ");
            return Self { codes: errors.into_iter().filter_map(|item| item.code).collect(), text: shown(&text) };
        }
        if let Ok(TokenError { error: Some(error), error_description }) = serde_json::from_slice(body) {
            let text = [Some(error), error_description].into_iter().flatten().collect::<Vec<_>>().join(": ");
            return Self { codes: Vec::new(), text: shown(&text) };
        }
        if let Ok(Details { details: Some(text) }) = serde_json::from_slice(body) {
            return Self { codes: Vec::new(), text: shown(&text) };
        }
        let text = String::from_utf8_lossy(&body[..body.len().min(MAX_BODY_BYTES)]);
        // A proxy's error page says nothing that the status does not.
        let html = text.trim_start().starts_with('<');
        Self { codes: Vec::new(), text: if html { String::new() } else { shown(&text) } }
    }

    /// Whether the registry gave this code, such as `NAME_UNKNOWN`.
    pub fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|said| said == code)
    }

    /// The words alone; empty when there are none.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[derive(Deserialize)]
struct Body {
    errors: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    code: Option<String>,
    message: Option<String>,
    detail: Option<serde_json::Value>,
}

impl Item {
    fn text(&self) -> String {
        let mut text = match (&self.code, &self.message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (one, other) => one.as_ref().or(other.as_ref()).cloned().unwrap_or_default(),
        };
        match &self.detail {
            None | Some(serde_json::Value::Null) => {}
            Some(serde_json::Value::String(detail)) => text.push_str(&format!(" ({detail})")),
            Some(serde_json::Value::Object(detail)) if detail.is_empty() => {}
            Some(detail) => text.push_str(&format!(" ({detail})")),
        }
        text
    }
}

/// RFC 6749 section 5.2, which token servers use.
#[derive(Deserialize)]
struct TokenError {
    error: Option<String>,
    error_description: Option<String>,
}

/// What Docker's own token server says.
#[derive(Deserialize)]
struct Details {
    details: Option<String>,
}

fn shown(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let text = words.collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_codes_messages_and_details() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"v9"}},{"code":"X"}]}"#;
        let said = Said::parse(body);
        assert_eq!(said.to_string(), r#": MANIFEST_UNKNOWN: manifest unknown ({"Tag":"v9"}); X"#);
        assert!(said.has_code("MANIFEST_UNKNOWN") && said.has_code("X") && !said.has_code("DENIED"));
    }

    #[test]
    fn reads_the_words_of_token_servers_and_plain_text() {
        assert_eq!(
            Said::parse(br#"{"error":"invalid_grant","error_description":"expired"}"#).text(),
            "invalid_grant: expired"
        );
        assert_eq!(
            Said::parse(br#"{"details":"incorrect username or password"}"#).text(),
            "incorrect username or password"
        );
        assert_eq!(Said::parse(b"slow\n down\n").text(), "slow down");
        assert_eq!(Said::parse(b"<html>500</html>").text(), "");
    }

    #[test]
    fn bounds_the_text_and_drops_terminal_sequences() {
        assert_eq!(Said::parse(b"\x1b[31mred\x07").text(), "[31mred");
        assert_eq!(Said::parse(&[b'x'; 10_000]).text().chars().count(), MAX_SHOWN_CHARS + 1);
    }
}
