//! Word expansion: variables with their operators, quotes and escapes, as in a Dockerfile's arguments.
//!
//! The rules are those of the Dockerfile reference, section "Environment replacement", with BuildKit's behaviour where
//! that page is silent. They look like a shell's and are not: `$1` is a variable named `1`, there is no command
//! substitution, and an escape outside quotes vanishes whatever it stands in front of.

mod lexer;
mod pattern;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use thiserror::Error;

/// The longest text that an expansion may produce, so that arguments which double each other can't fill the memory.
pub const MAX_EXPANSION_BYTES: usize = 1 << 20;

/// How deep `${…}` may stand in the words of one another.
pub const MAX_DEPTH: usize = 100;

/// Where values come from.
pub trait Variables {
    /// The value of a variable; `None` if it is not set.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self(name).map(Cow::Owned)
    }
}

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        BTreeMap::get(self, name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// No variable is set.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// Expands words. By default quotes and escapes are removed and unset variables are empty.
#[derive(Debug, Clone, Copy)]
pub struct Expander {
    escape: char,
    keep_quotes: bool,
    keep_escapes: bool,
    quotes_are_text: bool,
    keep_unset: bool,
}

/// What an expansion gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// The whole text, blanks included.
    pub text: String,
    /// The text split at blanks that are neither quoted nor escaped; blanks inside values split as well.
    pub words: Vec<String>,
    /// For each word the bytes of the source that it came from.
    pub ranges: Vec<Range<usize>>,
    /// Variables that were looked up.
    pub lookups: Lookups,
}

/// The variables that a word named, by their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lookups {
    /// Those that are set.
    pub set: BTreeSet<String>,
    /// Those that are not.
    pub unset: BTreeSet<String>,
}

/// A word that can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("failed to process {word:?}: {problem}")]
pub struct ExpandError {
    /// The word as it stands in the file.
    pub word: String,
    /// What is wrong with it.
    pub problem: ExpandProblem,
    /// Variables that were looked up before the problem was met.
    pub lookups: Box<Lookups>,
}

/// Why a word can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpandProblem {
    /// `'` without its end.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// `"` without its end.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// `${` without its end.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${V/a` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:`, `${{`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${V=word}` and others.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `${V?message}` and `${V:?message}`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// As written, or that it must be set.
        message: String,
    },
    /// A backslash in a pattern before something that needs none.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// The character after the backslash.
        escaped: String,
    },
    /// A pattern beyond any use.
    #[error("the pattern has more than {} characters", pattern::MAX_TOKENS)]
    PatternTooLong,
    /// The limit on results.
    #[error("the result is longer than {MAX_EXPANSION_BYTES} bytes")]
    TooLong,
    /// The limit on nesting.
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

impl Expander {
    /// An expander for a file with this escape character.
    pub fn new(escape: char) -> Self {
        Self { escape, keep_quotes: false, keep_escapes: false, quotes_are_text: false, keep_unset: false }
    }

    /// For the content of a here-document: variables and escapes count, quotes are text.
    pub fn for_content() -> Self {
        Self { quotes_are_text: true, ..Self::new('\\') }
    }

    /// Leaves quotes in the result; they still group.
    pub fn keep_quotes(self) -> Self {
        Self { keep_quotes: true, ..self }
    }

    /// Leaves escape characters in the result; they still escape.
    pub fn keep_escapes(self) -> Self {
        Self { keep_escapes: true, ..self }
    }

    /// Leaves variables that are not set as they are written.
    pub fn keep_unset(self) -> Self {
        Self { keep_unset: true, ..self }
    }

    /// Expands a text as one word and, at the same time, as a list of words.
    ///
    /// # Errors
    /// Whatever of [`ExpandProblem`] is met first, with the variables that were looked up until then.
    pub fn expand(&self, word: &str, variables: &dyn Variables) -> Result<Expansion, ExpandError> {
        lexer::Lexer::new(*self, word, variables).run()
    }

    /// Expands a text as one word.
    ///
    /// # Errors
    /// As [`Expander::expand`].
    pub fn word(&self, word: &str, variables: &dyn Variables) -> Result<String, ExpandError> {
        self.expand(word, variables).map(|expansion| expansion.text)
    }

    /// Expands a text and splits it into words.
    ///
    /// # Errors
    /// As [`Expander::expand`].
    pub fn words(&self, word: &str, variables: &dyn Variables) -> Result<Vec<String>, ExpandError> {
        self.expand(word, variables).map(|expansion| expansion.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        [("A", "one two"), ("EMPTY", ""), ("PATH", "/bin:/usr/bin")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn quotes_and_escapes_vanish_or_stay() {
        let expander = Expander::new('\\');
        assert_eq!(expander.word(r#"a\ "b $A"'$A'"#, &variables()).unwrap(), "a b one two$A");
        assert_eq!(expander.keep_quotes().word(r#""$A""#, &variables()).unwrap(), r#""one two""#);
        assert_eq!(expander.keep_escapes().word(r"a\$A", &variables()).unwrap(), r"a\$A");
        assert_eq!(Expander::new('`').word(r"C:\dir`$A", &variables()).unwrap(), r"C:\dir$A");
    }

    #[test]
    fn values_split_unless_they_are_quoted() {
        let expander = Expander::new('\\');
        assert_eq!(expander.words(r#"x$A "$A""#, &variables()).unwrap(), ["xone", "two", "one two"]);
        assert_eq!(expander.words("a${UNSET:-b} c", &variables()).unwrap(), ["ab", "c"]);
    }

    #[test]
    fn here_document_content_keeps_its_quotes() {
        let content = Expander::for_content().word("echo \"$A\" '$A' \\$A\n", &variables()).unwrap();
        assert_eq!(content, "echo \"one two\" 'one two' $A\n");
    }

    #[test]
    fn an_error_names_the_word_and_what_was_looked_up() {
        let error = Expander::new('\\').word("${A}${NOPE:?set NOPE}", &variables()).unwrap_err();
        assert_eq!(error.to_string(), "failed to process \"${A}${NOPE:?set NOPE}\": NOPE: set NOPE");
        assert!(error.lookups.set.contains("A") && error.lookups.unset.contains("NOPE"));
    }

    #[test]
    fn replacing_follows_the_reference_builder_in_its_corners() {
        let expander = Expander::new('\\');
        let mut variables = variables();
        for (source, expected) in [
            ("${PATH//bin/x}", "/x:/usr/x"),
            ("${PATH///}", "/bin:/usr/bin"),
            ("${EMPTY///x}", "x"),
            ("${A///-}", "-o-n-e- -t-w-o-"),
            ("${A//*/x}", "x"),
            ("${A/ne*/x}", "ox"),
            ("${A//o/$R}", "<o>ne tw<o>"),
            ("${A/o/$R}", "<$0>ne two"),
            ("${A%o*}", "one tw"),
            ("${A%%o*}", ""),
        ] {
            variables.insert("R".to_owned(), "<$0>".to_owned());
            assert_eq!(expander.word(source, &variables).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn growth_and_depth_are_bounded() {
        let long = BTreeMap::from([("L".to_owned(), "x".repeat(MAX_EXPANSION_BYTES / 2))]);
        let problem = |word: &str| Expander::new('\\').word(word, &long).unwrap_err().problem;
        assert_eq!(problem("$L$L$L"), ExpandProblem::TooLong);
        assert_eq!(problem("${L//x/yyyy}"), ExpandProblem::TooLong);
        assert_eq!(problem(&"${a:-".repeat(100_000)), ExpandProblem::TooDeep);
    }
}
