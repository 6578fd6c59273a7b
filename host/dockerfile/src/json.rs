//! The JSON form of arguments: an array of strings (RFC 8259).
//!
//! A reader of its own, as the form decides by whether a text *is* JSON which of two meanings it has: it must agree
//! with BuildKit's about that in every corner (lone surrogates, control characters, deep nesting).

/// What a text is that may be in the JSON form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonForm {
    /// An array of strings, decoded.
    Strings(Vec<String>),
    /// An array with an element that is no string: an error wherever the JSON form is allowed.
    OtherElements,
    /// Anything else: the other form.
    NotJson,
}

/// Arrays and objects inside one another; Go's limit.
const MAX_DEPTH: usize = 10_000;

/// Reads a text that may be in the JSON form; blanks around it do not count.
pub fn json_form(text: &str) -> JsonForm {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return JsonForm::NotJson;
    }
    let mut reader = Reader { rest: text };
    match reader.array_of_strings() {
        Some(elements) if reader.rest.trim_start_matches(BLANKS).is_empty() => match elements {
            Some(elements) => JsonForm::Strings(elements),
            None => JsonForm::OtherElements,
        },
        _ => JsonForm::NotJson,
    }
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// `Some(None)` if it is an array, but not of strings only.
    fn array_of_strings(&mut self) -> Option<Option<Vec<String>>> {
        self.take('[')?;
        let mut elements = Some(Vec::new());
        self.blanks();
        if self.take(']').is_some() {
            return Some(elements);
        }
        loop {
            self.blanks();
            if self.rest.starts_with('"') {
                let element = self.string()?;
                elements.iter_mut().for_each(|elements| elements.push(element.clone()));
            } else {
                self.other_value()?;
                elements = None;
            }
            self.blanks();
            if self.take(',').is_none() {
                self.take(']')?;
                return Some(elements);
            }
        }
    }

    /// Any value but a string, read for its syntax only. Nesting is a stack of closing brackets, not recursion.
    fn other_value(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            self.blanks();
            match self.rest.chars().next()? {
                bracket @ ('[' | '{') if open.len() < MAX_DEPTH => {
                    self.take(bracket)?;
                    let close = if bracket == '[' { ']' } else { '}' };
                    self.blanks();
                    if self.take(close).is_none() {
                        open.push(close);
                        self.key(close)?;
                        continue;
                    }
                }
                '"' => drop(self.string()?),
                't' => self.literal("true")?,
                'f' => self.literal("false")?,
                'n' => self.literal("null")?,
                _ => self.number()?,
            }
            // Behind a value: as many closing brackets as stand there, then a comma.
            loop {
                let Some(&close) = open.last() else { return Some(()) };
                self.blanks();
                if self.take(close).is_some() {
                    open.pop();
                    continue;
                }
                self.take(',')?;
                self.key(close)?;
                break;
            }
        }
    }

    /// In an object, the name and the colon in front of a value.
    fn key(&mut self, close: char) -> Option<()> {
        if close == '}' {
            self.blanks();
            self.string()?;
            self.blanks();
            self.take(':')?;
        }
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        self.take('"')?;
        let mut text = String::new();
        loop {
            let next = self.rest.chars().next()?;
            self.rest = &self.rest[next.len_utf8()..];
            match next {
                '"' => return Some(text),
                '\\' => text.push(self.escaped()?),
                '\0'..='\x1f' => return None,
                _ => text.push(next),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(match next {
            '"' | '\\' | '/' => next,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.hexadecimal()?;
                if let 0xD800..=0xDBFF = first
                    && let Some(rest) = self.rest.strip_prefix("\\u")
                {
                    let second = Reader { rest }.hexadecimal()?;
                    if let 0xDC00..=0xDFFF = second {
                        self.rest = &rest[4..];
                        return char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00));
                    }
                }
                // Half of a pair is no character: U+FFFD, as in Go.
                char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return None,
        })
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        let valid = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        self.rest = &self.rest[4..];
        valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take('-');
        if self.take('0').is_none() {
            self.digits()?;
        }
        if self.take('.').is_some() {
            self.digits()?;
        }
        if self.take('e').or_else(|| self.take('E')).is_some() {
            let _ = self.take('+').or_else(|| self.take('-'));
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let rest = self.rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let some = rest.len() < self.rest.len();
        self.rest = rest;
        some.then_some(())
    }

    fn literal(&mut self, literal: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    fn take(&mut self, character: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(character)?;
        Some(())
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(BLANKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_strings_are_decoded() {
        for (text, expected) in [
            ("[]", &[][..]),
            (" [ \"a\" ,\"b\"\t] ", &["a", "b"]),
            (r#"["A\n\"\\\/","😀","\ud800x"]"#, &["A\n\"\\/", "😀", "\u{fffd}x"]),
            (r#"["\ud800\u0041"]"#, &["\u{fffd}A"]),
            (r#"["\ud83d\ude00"]"#, &["😀"]),
        ] {
            let expected = expected.iter().map(|element| element.to_string()).collect();
            assert_eq!(json_form(text), JsonForm::Strings(expected), "{text}");
        }
    }

    #[test]
    fn other_elements_are_told_from_what_is_no_json() {
        for text in ["[1]", "[\"a\", [\"b\"]]", "[null,true,{\"a\":[-1.5e+3]}]", "[{}]", "[[[]]]"] {
            assert_eq!(json_form(text), JsonForm::OtherElements, "{text}");
        }
        let broken =
            ["['a']", "[\"a\"", "[\"a\"] x", "[\"a\",]", "[01]", "[\"\t\"]", "[ -f x ]", "[\"\\x\"]", "{}", "", "[{]}"];
        for text in broken {
            assert_eq!(json_form(text), JsonForm::NotJson, "{text}");
        }
        assert_eq!(json_form(&"[".repeat(1 << 20)), JsonForm::NotJson);
    }
}
