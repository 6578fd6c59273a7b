//! Reads a word character by character.

use std::ops::Range;

use super::pattern::Pattern;
use super::{ExpandError, ExpandProblem, Expander, Expansion, Lookups, MAX_DEPTH, MAX_EXPANSION_BYTES, Variables};

type Outcome<T> = Result<T, ExpandProblem>;

pub(super) struct Lexer<'a> {
    mode: Expander,
    source: &'a str,
    position: usize,
    variables: &'a dyn Variables,
    lookups: Lookups,
    /// Differs from the mode inside patterns, whose escapes are read later.
    keep_escapes: bool,
    depth: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(mode: Expander, source: &'a str, variables: &'a dyn Variables) -> Self {
        Self {
            mode,
            source,
            position: 0,
            variables,
            lookups: Lookups::default(),
            keep_escapes: mode.keep_escapes,
            depth: 0,
        }
    }

    pub fn run(mut self) -> Result<Expansion, ExpandError> {
        match self.until(None, self.mode.keep_escapes) {
            Ok((text, splitter)) => {
                let (words, ranges) = splitter.words.into_iter().unzip();
                Ok(Expansion { text, words, ranges, lookups: self.lookups })
            }
            Err(problem) => Err(ExpandError { word: self.source.to_owned(), problem, lookups: Box::new(self.lookups) }),
        }
    }

    fn peek(&self) -> Option<char> {
        self.source[self.position..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.position += next.len_utf8();
        Some(next)
    }

    /// Reads up to `stop`, which is consumed, or to the end if there is no `stop`.
    fn until(&mut self, stop: Option<char>, keep_escapes: bool) -> Outcome<(String, Splitter)> {
        if self.depth == MAX_DEPTH {
            return Err(ExpandProblem::TooDeep);
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let result = self.read(stop);
        self.keep_escapes = outer;
        self.depth -= 1;
        result
    }

    fn read(&mut self, stop: Option<char>) -> Outcome<(String, Splitter)> {
        let mut text = String::new();
        let mut splitter = Splitter::default();
        while let Some(next) = self.peek() {
            let start = self.position;
            if stop == Some(next) {
                self.next();
                splitter.finish();
                return Ok((text, splitter));
            }
            match next {
                '$' => {
                    let value = self.dollar()?;
                    append(&mut text, &value)?;
                    for character in value.chars() {
                        splitter.character(character, start..self.position);
                    }
                }
                '\'' | '"' if !self.mode.quotes_are_text => {
                    let quoted = if next == '\'' { self.single_quoted()? } else { self.double_quoted()? };
                    append(&mut text, &quoted)?;
                    splitter.raw(&quoted, start..self.position);
                }
                '<' => {
                    let marker = self.heredoc_marker();
                    append(&mut text, marker)?;
                    splitter.raw(marker, start..self.position);
                }
                _ if next == self.mode.escape => {
                    self.next();
                    if self.keep_escapes {
                        append_character(&mut text, next)?;
                        splitter.raw(next.encode_utf8(&mut [0; 4]), start..self.position);
                    }
                    // At the end of the word it escapes nothing and is dropped.
                    if let Some(escaped) = self.next() {
                        append_character(&mut text, escaped)?;
                        splitter.raw(escaped.encode_utf8(&mut [0; 4]), start..self.position);
                    }
                }
                _ => {
                    self.next();
                    append_character(&mut text, next)?;
                    splitter.character(next, start..self.position);
                }
            }
        }
        match stop {
            Some('/') => Err(ExpandProblem::MissingSlash),
            Some(_) => Err(ExpandProblem::MissingBrace),
            None => {
                splitter.finish();
                Ok((text, splitter))
            }
        }
    }

    /// `<` or `<<` with the blanks behind it, which belong to the marker: `<< EOF` is one word.
    fn heredoc_marker(&mut self) -> &'a str {
        let source = self.source;
        let start = self.position;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while matches!(self.peek(), Some(' ' | '\t' | '\r')) {
                self.next();
            }
        }
        &source[start..self.position]
    }

    fn single_quoted(&mut self) -> Outcome<String> {
        let source = self.source;
        let start = self.position + 1;
        let length = source[start..].find('\'').ok_or(ExpandProblem::SingleQuote);
        // The position says how far the reading came, also when it fails.
        self.position = length.as_ref().map_or(source.len(), |length| start + length + 1);
        let end = start + length?;
        Ok(source[if self.mode.keep_quotes { start - 1..end + 1 } else { start..end }].to_owned())
    }

    fn double_quoted(&mut self) -> Outcome<String> {
        let mut text = String::new();
        self.next();
        if self.mode.keep_quotes {
            text.push('"');
        }
        loop {
            match self.peek().ok_or(ExpandProblem::DoubleQuote)? {
                '"' => {
                    self.next();
                    if self.mode.keep_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                '$' => {
                    let value = self.dollar()?;
                    append(&mut text, &value)?;
                }
                next if next == self.mode.escape => {
                    self.next();
                    if self.keep_escapes {
                        append_character(&mut text, next)?;
                    }
                    match self.peek() {
                        None => {}
                        // Only these can be escaped inside quotes; before all others the escape is text.
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.mode.escape => {
                            self.next();
                            append_character(&mut text, escaped)?;
                        }
                        Some(_) => append_character(&mut text, next)?,
                    }
                }
                next => {
                    self.next();
                    append_character(&mut text, next)?;
                }
            }
        }
    }

    fn dollar(&mut self) -> Outcome<String> {
        self.next();
        if self.peek() == Some('{') {
            self.next();
            return self.braced();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match self.look_up(name) {
            None if self.mode.keep_unset => format!("${name}"),
            value => value.unwrap_or_default(),
        })
    }

    fn braced(&mut self) -> Outcome<String> {
        match self.peek() {
            None => return Err(ExpandProblem::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandProblem::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let operator = self.next().ok_or(ExpandProblem::MissingBrace)?;
        match operator {
            '}' => Ok(match self.look_up(name) {
                None if self.mode.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            ':' => {
                let operator = self.next().ok_or(ExpandProblem::MissingBrace)?;
                match operator {
                    '-' | '+' | '?' => self.conditional(name, operator, true),
                    other => Err(ExpandProblem::UnsupportedModifier(format!(":{other}"))),
                }
            }
            '-' | '+' | '?' => self.conditional(name, operator, false),
            '#' | '%' => self.trim(name, operator),
            '/' => self.replace(name),
            other => Err(ExpandProblem::UnsupportedModifier(other.to_string())),
        }
    }

    /// `-`, `+` and `?`; with a colon in front, an empty value counts as unset.
    fn conditional(&mut self, name: &str, operator: char, empty_is_unset: bool) -> Outcome<String> {
        let (word, _) = self.until(Some('}'), false)?;
        let value = self.look_up(name);
        if value.is_none() && self.mode.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let present = value.clone().filter(|value| !(empty_is_unset && value.is_empty()));
        match (operator, present) {
            ('-', Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let reason = if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                let message = if word.is_empty() { reason.to_owned() } else { word };
                Err(ExpandProblem::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `#` and `%`, doubled for the longest match instead of the shortest.
    fn trim(&mut self, name: &str, operator: char) -> Outcome<String> {
        let (word, _) = self.until(Some('}'), true)?;
        let value = self.look_up(name);
        if value.is_none() && self.mode.keep_unset {
            return Ok(format!("${{{name}{operator}{word}}}"));
        }
        let value = value.unwrap_or_default();
        let (pattern, longest) = match word.strip_prefix(operator) {
            Some(pattern) => (pattern, true),
            None => (word.as_str(), false),
        };
        let pattern = Pattern::parse(pattern)?;
        Ok(if operator == '#' { pattern.trim_start(&value, longest) } else { pattern.trim_end(&value, longest) })
    }

    /// `/pattern/replacement`, for all matches if the first slash is doubled.
    fn replace(&mut self, name: &str) -> Outcome<String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (pattern, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), true)?;
        let value = self.look_up(name);
        if value.is_none() && self.mode.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        Pattern::parse(&pattern)?.replace(&value, &replacement, all)
    }

    /// A name: letters, digits and underscores; or digits alone; or one of the shell's special parameters, none of
    /// which is ever set here.
    fn name(&mut self) -> &'a str {
        let rest = &self.source[self.position..];
        let length_while = |accept: fn(char) -> bool| rest.find(|other| !accept(other)).unwrap_or(rest.len());
        let length = match rest.chars().next() {
            Some(digit) if digit.is_ascii_digit() => length_while(|other| other.is_ascii_digit()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => length_while(|other| other.is_alphabetic() || other.is_ascii_digit() || other == '_'),
        };
        self.position += length;
        &rest[..length]
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name);
        let names = if value.is_some() { &mut self.lookups.set } else { &mut self.lookups.unset };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value.map(|value| value.into_owned())
    }
}

/// Collects words: blanks end one unless they came quoted or escaped.
#[derive(Default)]
struct Splitter {
    words: Vec<(String, Range<usize>)>,
    word: String,
    range: Range<usize>,
}

impl Splitter {
    fn character(&mut self, character: char, source: Range<usize>) {
        if character.is_whitespace() {
            self.finish();
        } else {
            self.raw(character.encode_utf8(&mut [0; 4]), source);
        }
    }

    fn raw(&mut self, text: &str, source: Range<usize>) {
        if self.word.is_empty() {
            self.range = source.clone();
        }
        self.range.end = source.end;
        self.word.push_str(text);
    }

    fn finish(&mut self) {
        if !self.word.is_empty() {
            self.words.push((std::mem::take(&mut self.word), self.range.clone()));
        }
    }
}

fn append(text: &mut String, more: &str) -> Outcome<()> {
    if text.len() + more.len() > MAX_EXPANSION_BYTES {
        return Err(ExpandProblem::TooLong);
    }
    text.push_str(more);
    Ok(())
}

fn append_character(text: &mut String, character: char) -> Outcome<()> {
    append(text, character.encode_utf8(&mut [0; 4]))
}
