//! Patterns of COPY and ADD sources: Go's `filepath.Match`, and `**` for any number of directories.
//!
//! Paths are bytes, separated by `/`. A character is a sequence that is valid UTF-8, or else a single byte, which is
//! how Go reads strings: `?` matches `ä`, and also one byte that is no UTF-8.

use serde::Serialize;
use thiserror::Error;

/// A pattern that is not well formed: a bracket without its end, an empty bracket, an escape at the end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("syntax error in pattern {:?}", String::from_utf8_lossy(.0))]
pub struct BadPattern(pub Vec<u8>);

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pattern {
    components: Vec<Component>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
enum Component {
    /// `**`: any number of components, also none.
    AnyDepth,
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
enum Token {
    Byte(u8),
    /// `?`.
    Any,
    /// `*`.
    Many,
    /// `[a-z]`, `[^a-z]`.
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

impl Pattern {
    /// Compiles a pattern in which `**` is no more than `*`, as Go's `filepath.Match` has it.
    ///
    /// # Errors
    /// [`BadPattern`]; unlike Go's, found whether or not the faulty part takes part in a match.
    pub fn parse(pattern: &[u8]) -> Result<Self, BadPattern> {
        let components =
            split(pattern).map(|part| Ok(Component::Name(tokens(part).ok_or(BadPattern(pattern.into()))?)));
        Ok(Self { components: components.collect::<Result<_, _>>()? })
    }

    /// Compiles a pattern in which a component `**` stands for any number of directories, and for anything in them at its end
    /// (the sources of COPY with `--parents`, which BuildKit matches as it does ignore patterns).
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn parse_with_any_depth(pattern: &[u8]) -> Result<Self, BadPattern> {
        let mut compiled = Self::parse(pattern)?;
        for (component, part) in compiled.components.iter_mut().zip(split(pattern)) {
            if part == b"**" {
                *component = Component::AnyDepth;
            }
        }
        // The directory itself is none of what is in it.
        if compiled.components.last() == Some(&Component::AnyDepth) {
            compiled.components.push(Component::Name(vec![Token::Many]));
        }
        Ok(compiled)
    }

    /// Whether it has a `**` that stands for any number of directories.
    pub fn has_any_depth(&self) -> bool {
        self.components.contains(&Component::AnyDepth)
    }

    /// Whether the whole path matches; a wildcard never matches a `/`.
    pub fn matches(&self, path: &[u8]) -> bool {
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        self.reached(&parts)[self.components.len()]
    }

    /// Whether something below the directory could match. For the root of the tree, the path is empty.
    pub fn could_match_below(&self, directory: &[u8]) -> bool {
        let parts: Vec<&[u8]> = directory.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect();
        // Some component must be left for what lies below; `**` is never used up.
        self.reached(&parts)[..self.components.len()].contains(&true)
    }

    /// For each number of components, whether the parts match exactly those.
    fn reached(&self, parts: &[&[u8]]) -> Vec<bool> {
        let mut states = vec![false; self.components.len() + 1];
        states[0] = true;
        self.skip_any_depth(&mut states);
        for part in parts {
            let mut following = vec![false; states.len()];
            for (state, component) in self.components.iter().enumerate().filter(|(state, _)| states[*state]) {
                match component {
                    Component::AnyDepth => following[state] = true,
                    Component::Name(tokens) if name_matches(tokens, part) => following[state + 1] = true,
                    Component::Name(_) => {}
                }
            }
            self.skip_any_depth(&mut following);
            states = following;
        }
        states
    }

    fn skip_any_depth(&self, states: &mut [bool]) {
        for (state, component) in self.components.iter().enumerate() {
            if states[state] && *component == Component::AnyDepth {
                states[state + 1] = true;
            }
        }
    }
}

/// Whether a source has to be looked for rather than taken as it is: an unescaped `*`, `?` or `[`.
pub fn has_wildcards(source: &[u8]) -> bool {
    let mut bytes = source.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Splits a source into the directory that is taken as it is, backslashes included, and the pattern from the first
/// component with a wildcard on, which is empty if there is none. Both without slashes at their ends, but for `/`.
pub fn split_wildcards(source: &[u8]) -> (&[u8], &[u8]) {
    let mut start = 0;
    for component in source.split(|&byte| byte == b'/') {
        if has_wildcards(component) {
            let directory = &source[..start];
            let end = directory.iter().rposition(|&byte| byte != b'/').map_or(start.min(1), |last| last + 1);
            return (&source[..end], &source[start..]);
        }
        start += component.len() + 1;
    }
    (source, b"")
}

/// At slashes outside brackets and escapes, as a bracket may hold one.
fn split(pattern: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut in_class = false;
    let mut escaped = false;
    pattern.split(move |&byte| {
        let was_escaped = escaped;
        escaped = !was_escaped && byte == b'\\';
        match byte {
            b'[' if !was_escaped => in_class = true,
            b']' if !was_escaped => in_class = false,
            _ => {}
        }
        byte == b'/' && !in_class && !was_escaped
    })
}

fn tokens(mut pattern: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    while let Some((&next, rest)) = pattern.split_first() {
        pattern = rest;
        match next {
            b'*' if tokens.last() == Some(&Token::Many) => {}
            b'*' => tokens.push(Token::Many),
            b'?' => tokens.push(Token::Any),
            b'\\' => {
                let (&escaped, rest) = pattern.split_first()?;
                tokens.push(Token::Byte(escaped));
                pattern = rest;
            }
            b'[' => {
                let negated = pattern.first() == Some(&b'^');
                pattern = &pattern[usize::from(negated)..];
                let mut ranges = Vec::new();
                while ranges.is_empty() || pattern.first() != Some(&b']') {
                    let low = class_character(&mut pattern)?;
                    let high = if pattern.first() == Some(&b'-') {
                        pattern = &pattern[1..];
                        class_character(&mut pattern)?
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                pattern = &pattern[1..];
                tokens.push(Token::Class { negated, ranges });
            }
            other => tokens.push(Token::Byte(other)),
        }
    }
    Some(tokens)
}

/// A character of a bracket; something must follow it there.
fn class_character(pattern: &mut &[u8]) -> Option<u32> {
    if matches!(pattern.first()?, b'-' | b']') {
        return None;
    }
    if pattern.first() == Some(&b'\\') {
        *pattern = &pattern[1..];
    }
    let (character, length) = decode(pattern)?;
    let valid = length > 1 || pattern[0].is_ascii();
    *pattern = &pattern[length..];
    (valid && !pattern.is_empty()).then_some(character)
}

/// The first character and its length; a byte that is no UTF-8 is U+FFFD, one byte long.
fn decode(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    let length = match first {
        0..=0x7f => return Some((first.into(), 1)),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let text = bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let character = text.and_then(|text| text.chars().next());
    Some(character.map_or((0xfffd, 1), |character| (character.into(), length)))
}

/// Whether a name matches; on a mismatch only the last `*` needs to take one character more.
fn name_matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut position) = (0, 0);
    let mut retry = None;
    loop {
        let matched = match tokens.get(token) {
            None => position == name.len(),
            Some(Token::Many) => {
                retry = Some((token + 1, position));
                token += 1;
                continue;
            }
            Some(one) => match length_of_match(one, &name[position..]) {
                Some(length) => {
                    position += length;
                    token += 1;
                    continue;
                }
                None => false,
            },
        };
        match &mut retry {
            _ if matched => return true,
            // By bytes, as Go's loop over the name does.
            Some((after, from)) if *from < name.len() => {
                *from += 1;
                (token, position) = (*after, *from);
            }
            _ => return false,
        }
    }
}

fn length_of_match(token: &Token, name: &[u8]) -> Option<usize> {
    let (character, length) = decode(name)?;
    match token {
        Token::Byte(byte) => (name[0] == *byte).then_some(1),
        Token::Any => Some(length),
        Token::Class { negated, ranges } => {
            let inside = ranges.iter().any(|&(low, high)| (low..=high).contains(&character));
            (inside != *negated).then_some(length)
        }
        Token::Many => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &[u8]) -> bool {
        Pattern::parse_with_any_depth(pattern.as_bytes()).unwrap().matches(path)
    }

    #[test]
    fn names_that_are_not_utf8_match_byte_by_byte() {
        assert!(matches("a?b", b"a\xffb"));
        assert!(matches("a*b", b"a\xff\xfeb"));
        assert!(matches("a[^x]b", b"a\xffb"));
        assert!(!matches("a??b", "a☺b".as_bytes()));
    }

    #[test]
    fn two_stars_reach_any_depth_only_as_a_component() {
        for path in ["a", "x/a", "x/y/a"] {
            assert!(matches("**/a", path.as_bytes()), "{path}");
        }
        assert!(matches("x/**", b"x/y/z") && matches("x/**", b"x/y") && !matches("x/**", b"x"));
        assert!(matches("**", b"x") && matches("**", b"x/y") && matches("a/**/**/b", b"a/b"));
        assert!(!matches("x**", b"x/y") && matches("x**", b"xy"));
        assert!(!Pattern::parse(b"**/a").unwrap().matches(b"x/y/a"));
    }

    #[test]
    fn a_walk_can_be_cut_where_nothing_can_match() {
        let below = |pattern: &str, directory: &str| {
            Pattern::parse_with_any_depth(pattern.as_bytes()).unwrap().could_match_below(directory.as_bytes())
        };
        assert!(below("a/*.c", "") && below("a/*.c", "a") && below("a/**/b", "a/x/y"));
        assert!(!below("a/*.c", "b") && !below("a/*.c", "a/x"));
    }

    #[test]
    fn a_source_is_split_before_its_first_wildcard() {
        let split = |source: &'static str| {
            let (directory, pattern) = split_wildcards(source.as_bytes());
            (std::str::from_utf8(directory).unwrap(), std::str::from_utf8(pattern).unwrap())
        };
        assert_eq!(split("a/b/*.c"), ("a/b", "*.c"));
        assert_eq!(split("/*.c"), ("/", "*.c"));
        assert_eq!(split("*.c"), ("", "*.c"));
        assert_eq!(split("a/x?/c"), ("a", "x?/c"));
        assert_eq!(split("a/b\\*"), ("a/b\\*", ""));
    }

    #[test]
    fn patterns_that_are_not_well_formed_are_refused() {
        for pattern in ["[", "[]a]", "[-x]", "[x-]", "a[", "\\", "[^", "[a-b-c]", "a/[", "x\\"] {
            assert!(Pattern::parse(pattern.as_bytes()).is_err(), "{pattern}");
        }
    }
}
