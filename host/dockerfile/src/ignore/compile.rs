//! From an ignore pattern to what matches it, by the same steps as Moby's: the shape of the pattern decides whether
//! plain comparisons are enough, and everything else becomes a regular expression.

use super::regex::Regex;

/// How a pattern is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchType {
    /// No wildcards: the path equals it.
    Exact,
    /// Only a `**` at the end: the path begins with the rest.
    Prefix,
    /// Only a `**` at the start: the path ends with the rest.
    Suffix,
    /// All others.
    Regexp,
}

#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pattern: Vec<u8>,
    /// `None` for the comparisons.
    regex: Option<Regex>,
    kind: MatchType,
}

impl Compiled {
    /// `None` if the pattern has no meaning.
    pub fn new(cleaned: &[u8]) -> Option<Self> {
        let (kind, expression) = translate(&String::from_utf8_lossy(cleaned));
        let regex = match kind {
            MatchType::Regexp => Some(Regex::parse(&expression)?),
            _ => None,
        };
        Some(Self { pattern: cleaned.to_vec(), regex, kind })
    }

    pub fn matches(&self, path: &[u8]) -> bool {
        match self.kind {
            MatchType::Exact => path == self.pattern,
            MatchType::Prefix => path.starts_with(&self.pattern[..self.pattern.len() - 2]),
            MatchType::Suffix => {
                let suffix = &self.pattern[2..];
                // `**/a` matches `a`, too.
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            MatchType::Regexp => self.regex.as_ref().is_some_and(|regex| regex.matches(path)),
        }
    }
}

/// How a cleaned pattern is matched, and the expression, which is empty unless the type is [`MatchType::Regexp`].
///
/// The translation looks at one character after the other without regard to brackets, and the type is what the last
/// wildcard made it: both are visible in what matches, and so are kept.
pub fn translate(pattern: &str) -> (MatchType, String) {
    let mut kind = MatchType::Exact;
    let mut expression = String::from("^");
    let mut rest = pattern.chars().peekable();
    let mut first = true;
    while let Some(next) = rest.next() {
        let at_start = std::mem::replace(&mut first, false);
        match next {
            '*' if rest.next_if_eq(&'*').is_some() => {
                // `**/` is as good as `**`.
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    expression.push_str("(.*/)?");
                    kind = MatchType::Regexp;
                } else if kind == MatchType::Exact {
                    kind = MatchType::Prefix;
                } else {
                    expression.push_str(".*");
                    kind = MatchType::Regexp;
                }
                if at_start {
                    kind = MatchType::Suffix;
                }
            }
            '*' => {
                expression.push_str("[^/]*");
                kind = MatchType::Regexp;
            }
            '?' => {
                expression.push_str("[^/]");
                kind = MatchType::Regexp;
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => expression.extend(['\\', next]),
            '\\' => {
                expression.push('\\');
                if let Some(escaped) = rest.next() {
                    expression.push(escaped);
                    kind = MatchType::Regexp;
                }
            }
            '[' | ']' => {
                expression.push(next);
                kind = MatchType::Regexp;
            }
            _ => expression.push(next),
        }
    }
    if kind == MatchType::Regexp {
        expression.push('$');
    } else {
        expression.clear();
    }
    (kind, expression)
}
