//! Ignore patterns: `.dockerignore` files and `--exclude` flags, with Moby's rules.
//!
//! The rules are those of `moby/patternmatcher` 0.6: a pattern covers what it matches and everything below that, `!`
//! makes an exception, the last pattern that matches decides. `*` stays within a component, `**` does not.

mod compile;
mod regex;

use thiserror::Error;

pub use compile::{MatchType, translate};

use crate::glob;
use compile::Compiled;

/// More patterns, or more bytes of them, are refused.
const MAX_PATTERNS: usize = 1 << 16;

/// A list of patterns that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IgnoreError {
    /// A `!` alone.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyException,
    /// Brackets or escapes that are not well formed, or that have no meaning.
    #[error("syntax error in pattern {:?}", String::from_utf8_lossy(.0))]
    BadPattern(Vec<u8>),
    /// The limit.
    #[error("more than {MAX_PATTERNS} ignore patterns")]
    TooMany,
}

/// A list of ignore patterns. Paths are bytes relative to the root of the tree, separated by `/`, without a slash at
/// either end.
#[derive(Debug, Clone, Default)]
pub struct IgnorePatterns {
    patterns: Vec<IgnorePattern>,
}

#[derive(Debug, Clone)]
struct IgnorePattern {
    cleaned: Vec<u8>,
    exception: bool,
    compiled: Compiled,
}

/// Which patterns matched a directory; to go on below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParentMatches(Vec<bool>);

impl IgnorePatterns {
    /// Reads an ignore file: one pattern in each line; `#` at the very start of a line makes it a comment; a slash in
    /// front does not count.
    ///
    /// # Errors
    /// [`IgnoreError`], for the first wrong pattern.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        Self::new(read_lines(text))
    }

    /// Compiles patterns that come one by one, from flags.
    ///
    /// # Errors
    /// [`IgnoreError`], for the first wrong pattern.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, IgnoreError> {
        let mut compiled = Vec::new();
        for pattern in patterns {
            let trimmed = pattern.as_ref().trim_ascii();
            if trimmed.is_empty() {
                continue;
            }
            let mut cleaned = clean(trimmed);
            let exception = cleaned.starts_with(b"!");
            if exception {
                cleaned.remove(0);
                if cleaned.is_empty() {
                    return Err(IgnoreError::EmptyException);
                }
            }
            let bad = || IgnoreError::BadPattern(trimmed.to_vec());
            // What Go's `filepath.Match` refuses is refused, although the matching itself has other rules.
            glob::Pattern::parse(&cleaned).map_err(|_| bad())?;
            let matcher = Compiled::new(&cleaned).ok_or_else(bad)?;
            compiled.push(IgnorePattern { cleaned, exception, compiled: matcher });
            if compiled.len() > MAX_PATTERNS {
                return Err(IgnoreError::TooMany);
            }
        }
        Ok(Self { patterns: compiled })
    }

    /// Whether there is no pattern, so that nothing is excluded.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether a pattern makes exceptions.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Whether a path is excluded, as a walk from the root down to it finds. The root is never.
    ///
    /// The walk matters: a pattern that matched a directory holds for everything below it, but an exception that had
    /// nothing to except from at a directory is not looked at again for its name (BuildKit's walk, in contrast to
    /// Moby's `MatchesOrParentMatches`).
    pub fn excluded(&self, path: &[u8]) -> bool {
        let mut parent = ParentMatches::default();
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            (_, parent) = self.excluded_in(&parent, &path[..end]);
        }
        self.excluded_in(&parent, path).0
    }

    /// One step of a walk from the root down: `parent` is what this returned for the directory above, the default for
    /// what is directly in the root. Each pattern is matched at most once.
    pub fn excluded_in(&self, parent: &ParentMatches, path: &[u8]) -> (bool, ParentMatches) {
        let mut excluded = false;
        let mut matches = vec![false; self.patterns.len()];
        for (index, pattern) in self.patterns.iter().enumerate() {
            let above = parent.0.get(index).copied().unwrap_or(false);
            matches[index] = above || (pattern.exception == excluded && pattern.compiled.matches(path));
            if matches[index] {
                excluded = !pattern.exception;
            }
        }
        (excluded && !is_root(path), ParentMatches(matches))
    }

    /// Whether an exception could bring back something below an excluded directory: if not, a walk need not enter it.
    pub fn might_reinclude_below(&self, directory: &[u8]) -> bool {
        self.patterns.iter().filter(|pattern| pattern.exception).any(|pattern| pattern.could_match_below(directory))
    }
}

impl IgnorePattern {
    fn could_match_below(&self, directory: &[u8]) -> bool {
        let mut components = self.cleaned.split(|&byte| byte == b'/');
        for name in directory.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            match components.next() {
                // Deeper than the pattern reaches.
                None => return false,
                Some(component) if component.windows(2).any(|pair| pair == b"**") => return true,
                // A bracket may match a slash here, so that components can't be compared one by one.
                Some(component) if component.contains(&b'[') => return true,
                Some(component) => match glob::Pattern::parse(component) {
                    Ok(pattern) if !pattern.matches(name) => return false,
                    Ok(_) => {}
                    // Its slash was an escaped one.
                    Err(_) => return true,
                },
            }
        }
        components.next().is_some()
    }
}

fn is_root(path: &[u8]) -> bool {
    path.is_empty() || path == b"."
}

/// The patterns of an ignore file, each cleaned, exceptions with their `!`.
pub fn read_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut patterns = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let pattern = line.trim_ascii();
        if line.starts_with(b"#") || pattern.is_empty() {
            continue;
        }
        let (pattern, exception) = match pattern.strip_prefix(b"!") {
            Some(rest) => (rest.trim_ascii(), true),
            None => (pattern, false),
        };
        let mut cleaned = if pattern.is_empty() { Vec::new() } else { clean(pattern) };
        if cleaned.len() > 1 && cleaned.starts_with(b"/") {
            cleaned.remove(0);
        }
        if exception {
            cleaned.insert(0, b'!');
        }
        patterns.push(cleaned);
    }
    patterns
}

/// Go's `filepath.Clean`: the shortest equivalent path, judged by its text alone.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> IgnorePatterns {
        IgnorePatterns::parse(text.as_bytes()).unwrap()
    }

    fn excluded<'a>(text: &str, paths: &[&'a str]) -> Vec<&'a str> {
        let patterns = patterns(text);
        paths.iter().copied().filter(|path| patterns.excluded(path.as_bytes())).collect()
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let paths = ["a.md", "README.md", "docs/a.md", "docs/README.md"];
        assert_eq!(excluded("*.md\n!README.md", &paths), ["a.md"]);
        assert_eq!(excluded("!README.md\n*.md", &paths), ["a.md", "README.md"]);
        assert_eq!(excluded("**\n!docs\ndocs/a*", &paths), ["a.md", "README.md", "docs/a.md"]);
    }

    #[test]
    fn what_is_below_an_excluded_directory_is_excluded() {
        assert_eq!(excluded("a/b", &["a", "a/b", "a/b/c/d", "a/bc"]), ["a/b", "a/b/c/d"]);
        assert_eq!(excluded("/a/", &["a", "a/b"]), ["a", "a/b"]);
        assert_eq!(excluded("*", &["a", "a/b", "."]), ["a", "a/b"]);
    }

    #[test]
    fn comments_blanks_and_byte_order_marks_are_no_patterns() {
        let text = "\u{feff}# note\n\n  a  \r\n #b\n! c\n";
        assert_eq!(read_lines(text.as_bytes()), [&b"a"[..], b"#b", b"!c"]);
    }

    #[test]
    fn wrong_patterns_are_refused() {
        assert_eq!(IgnorePatterns::parse(b"!").unwrap_err(), IgnoreError::EmptyException);
        for pattern in ["[", "a[", "[]", "\\", "[z-a]", "bin\\Release", "a*\\Q"] {
            assert!(matches!(IgnorePatterns::parse(pattern.as_bytes()), Err(IgnoreError::BadPattern(_))), "{pattern}");
        }
    }

    #[test]
    fn an_exception_counts_from_where_it_has_something_to_except_from() {
        assert_eq!(excluded("**/b\n!a", &["a", "a/b", "b"]), ["a/b", "b"]);
        assert_eq!(excluded("a\n!a/b\na/b/c", &["a", "a/b", "a/b/c", "a/b/d", "a/e"]), ["a", "a/b/c", "a/e"]);
    }

    #[test]
    fn a_directory_that_is_not_entered_holds_nothing_that_is_wanted() {
        for text in ["a\n!a/b\na/b/c", "**\n!x/**/y\n*/z", "a/*\n!a/b/c", "**/b\n!a", "*\n!a/[b-c]", "*\n!?/b"] {
            let patterns = patterns(text);
            let paths = ["a", "a/b", "a/b/c", "a/b/c/d", "x", "x/y", "x/q", "x/q/y", "x/z", "b", "b/c"];
            for directory in paths {
                let below = |path: &&&str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
                if patterns.excluded(directory.as_bytes()) && !patterns.might_reinclude_below(directory.as_bytes()) {
                    for path in paths.iter().filter(below) {
                        assert!(patterns.excluded(path.as_bytes()), "{text:?} {directory} {path}");
                    }
                }
            }
        }
    }

    #[test]
    fn directories_without_possible_exceptions_need_no_walk() {
        let patterns = patterns("**\n!src/*.rs\n!docs/**\n!a/b");
        for (directory, expected) in [
            ("", true),
            ("src", true),
            ("src/x", false),
            ("docs", true),
            ("docs/x/y", true),
            ("a", true),
            ("a/b", false),
            ("b", false),
        ] {
            assert_eq!(patterns.might_reinclude_below(directory.as_bytes()), expected, "{directory}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_match() {
        let patterns = IgnorePatterns::new([&b"a\xff"[..], b"b*c"]).unwrap();
        assert!(patterns.excluded(b"a\xff") && patterns.excluded(b"b\xfe\xffc") && !patterns.excluded(b"a\xfe"));
    }
}
