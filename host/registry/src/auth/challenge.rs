//! `WWW-Authenticate`: what a server wants before it answers.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// More challenges or parameters than this are not looked at.
const MAX_CHALLENGES: usize = 16;
const MAX_PARAMETERS: usize = 32;

/// One challenge (RFC 9110 section 11.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case.
    pub(crate) scheme: String,
    /// Names in lower case; of a name given twice the first value.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// All challenges of an answer, in their order. What can't be read ends its header line, not the others.
    pub(crate) fn all(headers: &HeaderMap) -> Vec<Self> {
        let lines = headers.get_all(WWW_AUTHENTICATE).iter();
        let mut all: Vec<_> = lines.flat_map(|line| Self::parse(&String::from_utf8_lossy(line.as_bytes()))).collect();
        all.truncate(MAX_CHALLENGES);
        all
    }

    /// A line holds challenges and their parameters in one comma-separated list: a word with `=` after it is a
    /// parameter of the challenge before it, any other word begins a challenge.
    fn parse(line: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut rest = Cursor(line);
        while challenges.len() <= MAX_CHALLENGES {
            rest.skip(|c| c == ',' || c.is_ascii_whitespace());
            let Some(word) = rest.token() else { break };
            rest.skip(|c| c == ' ' || c == '\t');
            if rest.0.starts_with('=') {
                rest.0 = &rest.0[1..];
                rest.skip(|c| c == ' ' || c == '\t');
                let Some(value) = rest.value() else { break };
                if let Some(challenge) = challenges.last_mut()
                    && challenge.parameters.len() < MAX_PARAMETERS
                {
                    challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
            } else {
                challenges.push(Self { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
                // The one-word form `Negotiate YWJj==` has no parameters that matter here.
                rest.token68();
            }
        }
        challenges
    }
}

struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn skip(&mut self, matches: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(matches);
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.0.find(|c: char| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// Takes a word that ends with `=` signs and then a comma or nothing.
    fn token68(&mut self) {
        let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
        let word = &self.0[..end];
        let stem = word.trim_end_matches('=');
        let is_one = !stem.is_empty()
            && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
            && matches!(self.0[end..].trim_start().chars().next(), None | Some(','));
        if is_one {
            self.0 = &self.0[end..];
        }
    }

    /// A token or a quoted string with its backslashes resolved.
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix('"') else {
            // Some servers leave the quotes out round values that need them, such as URLs.
            let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return Some(value.to_owned());
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                _ => value.push(c),
            }
        }
        None
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, line.parse().unwrap());
        }
        Challenge::all(&headers).into_iter().map(|c| (c.scheme, c.parameters.into_iter().collect())).collect()
    }

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        (scheme.to_owned(), parameters.collect())
    }

    #[test]
    fn reads_what_registries_send() {
        let line = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push",error="insufficient_scope""#;
        assert_eq!(
            parse(&[line]),
            [challenge(
                "bearer",
                &[
                    ("error", "insufficient_scope"),
                    ("realm", "https://auth.example/token"),
                    ("scope", "repository:a/b:pull,push"),
                    ("service", "registry.example"),
                ]
            )]
        );
        assert_eq!(parse(&[r#"Basic realm="Registry""#]), [challenge("basic", &[("realm", "Registry")])]);
    }

    #[test]
    fn keeps_several_challenges_apart() {
        let expected = [
            challenge("negotiate", &[]),
            challenge("bearer", &[("realm", "https://a/t"), ("service", "s")]),
            challenge("basic", &[("realm", "a, \"b\"")]),
        ];
        assert_eq!(parse(&[r#"Negotiate, BEARER Realm=https://a/t , service = s, basic realm="a, \"b\"""#]), expected);
        assert_eq!(
            parse(&["Negotiate YWJj==", r#"Bearer realm="https://a/t",service="s""#, r#"Basic realm="a, \"b\"""#]),
            expected
        );
    }

    #[test]
    fn survives_nonsense() {
        for line in ["", ",,,", "=", "\"", r#"Bearer realm="open"#, r#"Bearer realm="a\"#, "Bearer ==", "a=b", "é"] {
            parse(&[line]);
        }
        assert_eq!(parse(&["bad=\"", r#"Basic realm="x""#]), [challenge("basic", &[("realm", "x")])]);
        assert!(Challenge::parse(&"a, ".repeat(10_000)).len() < 20);
    }
}
