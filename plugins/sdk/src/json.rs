//! A small JSON reader (RFC 8259): for the exec form inside a text, and for configuration files.

use std::collections::BTreeMap;

/// Deeper nesting than this is refused; nothing that plugins read is nested like that.
const DEPTH_LIMIT: usize = 64;

/// A value. Numbers stay text: no plugin calculates with them.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Boolean(bool),
    /// As written.
    Number(String),
    /// Unescaped.
    String(String),
    /// In order.
    Array(Vec<Value>),
    /// By key; the last of equal keys counts.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A number of seconds, without what lies behind the point. As text too: some services write it so.
    pub fn as_seconds(&self) -> Option<i64> {
        match self {
            Self::Number(text) | Self::String(text) => text.parse::<f64>().ok().map(|seconds| seconds as i64),
            _ => None,
        }
    }

    /// The member of an object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Object(members) => members.get(key),
            _ => None,
        }
    }
}

/// Not JSON; the offset in bytes. It carries nothing of the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Where, in bytes.
    pub offset: usize,
}

/// Reads one value and nothing after it.
///
/// # Errors
/// The text is not JSON.
pub fn parse(text: &str) -> Result<Value, Malformed> {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
    let value = reader.value(0)?;
    reader.skip_blanks();
    if reader.at < reader.bytes.len() { Err(reader.malformed()) } else { Ok(value) }
}

/// The strings of an array that holds nothing else, as the exec form of CMD is written.
pub fn string_array(text: &str) -> Option<Vec<String>> {
    match parse(text.trim()).ok()? {
        Value::Array(values) => values
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Some(text),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// A text as JSON writes it, with its quotation marks.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..='\x1f' => quoted.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

impl Value {
    /// The value as JSON without blanks, members sorted by key: the same value, the same text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Boolean(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(number),
            Self::String(string) => text.push_str(&quoted(string)),
            Self::Array(values) => {
                for (number, value) in values.iter().enumerate() {
                    text.push(if number == 0 { '[' } else { ',' });
                    value.write(text);
                }
                text.push_str(if values.is_empty() { "[]" } else { "]" });
            }
            Self::Object(members) => {
                for (number, (key, value)) in members.iter().enumerate() {
                    text.push(if number == 0 { '{' } else { ',' });
                    text.push_str(&quoted(key));
                    text.push(':');
                    value.write(text);
                }
                text.push_str(if members.is_empty() { "{}" } else { "}" });
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl<const COUNT: usize> From<[(&str, Value); COUNT]> for Value {
    fn from(members: [(&str, Value); COUNT]) -> Self {
        Self::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        self.skip_blanks();
        match self.peek() {
            _ if depth > DEPTH_LIMIT => Err(self.malformed()),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for (word, value) in
                    [("null", Value::Null), ("true", Value::Boolean(true)), ("false", Value::Boolean(false))]
                {
                    if self.bytes[self.at..].starts_with(word.as_bytes()) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                Err(self.malformed())
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Malformed> {
        self.at += 1;
        let mut members = BTreeMap::new();
        if self.takes(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'"') {
                return Err(self.malformed());
            }
            let key = self.string()?;
            self.must_take(b':')?;
            let value = self.value(depth + 1)?;
            members.insert(key, value);
            if !self.takes(b',') {
                self.must_take(b'}')?;
                return Ok(Value::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Malformed> {
        self.at += 1;
        let mut values = Vec::new();
        if self.takes(b']') {
            return Ok(Value::Array(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            if !self.takes(b',') {
                self.must_take(b']')?;
                return Ok(Value::Array(values));
            }
        }
    }

    fn string(&mut self) -> Result<String, Malformed> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return String::from_utf8(text).map_err(|_| self.malformed());
                }
                Some(b'\\') => {
                    self.at += 1;
                    let character = self.escape()?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(byte) if byte >= 0x20 => {
                    text.push(byte);
                    self.at += 1;
                }
                _ => return Err(self.malformed()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Malformed> {
        let byte = self.peek().ok_or_else(|| self.malformed())?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hexadecimal()?;
                // A pair of surrogates is one character (RFC 8259 §7); a lone one is none.
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first).ok_or_else(|| self.malformed());
                }
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(self.malformed());
                }
                self.at += 2;
                let second = self.hexadecimal()?;
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(self.malformed());
                }
                let scalar = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                char::from_u32(scalar).ok_or_else(|| self.malformed())?
            }
            _ => return Err(self.malformed()),
        })
    }

    fn hexadecimal(&mut self) -> Result<u32, Malformed> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = std::str::from_utf8(digits.ok_or_else(|| self.malformed())?).map_err(|_| self.malformed())?;
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.malformed())
    }

    fn number(&mut self) -> Result<Value, Malformed> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.at;
        self.digits()?;
        if self.bytes[whole] == b'0' && self.at > whole + 1 {
            return Err(self.malformed());
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(Value::Number(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()))
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.malformed()) } else { Ok(()) }
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn must_take(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.takes(byte) { Ok(()) } else { Err(self.malformed()) }
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn malformed(&self) -> Malformed {
        Malformed { offset: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_exec_form() {
        assert_eq!(string_array(r#" ["a", "b\"\u00e9\ud83d\ude00\n"] "#).unwrap(), ["a", "b\"é😀\n"]);
        assert_eq!(string_array("[]").unwrap(), Vec::<String>::new());
        for text in ["[1]", "['a']", r#"["a""#, r#"["a"] x"#, r#""a""#, r#"["\ud800"]"#, "[\"\t\"]", r#"["a",]"#] {
            assert!(string_array(text).is_none(), "{text}");
        }
    }

    #[test]
    fn reads_objects_and_refuses_what_is_not_json() {
        let value = parse(r#"{"auths": {"h": {"auth": "eA=="}}, "n": -1.5e3, "t": [true, false, null]}"#).ok().unwrap();
        let entry = value.get("auths").and_then(|auths| auths.get("h")).unwrap();
        assert_eq!(entry.get("auth").and_then(Value::as_str), Some("eA=="));
        for text in ["", "{", "{\"a\"}", "{\"a\":1,}", "01", "-", "1.", "tru", "{\"a\":1}}", "{a:1}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_quoted_reads_back() {
        for text in ["", "a\"b\\c", "-----BEGIN\n\u{1}é\u{1f600}"] {
            assert_eq!(parse(&quoted(text)).ok().unwrap().as_str(), Some(text));
        }
    }

    #[test]
    fn what_is_written_reads_back_in_one_form() {
        let text = r#"{"a":[1,"b\"",{}],"b":[],"c":{"d":null,"e":true}}"#;
        let value = parse(text).ok().unwrap();
        assert_eq!(value.to_text(), text);
        assert_eq!(
            parse(r#" { "c" : {"e":true,"d":null}, "b": [ ], "a": [1, "b\"", {}] }"#).ok().unwrap().to_text(),
            text
        );
    }

    #[test]
    fn depth_is_bounded() {
        assert!(parse(&"[".repeat(1_000_000)).is_err());
        assert!(parse(&format!("{}{}", "[".repeat(60), "]".repeat(60))).is_ok());
    }
}
