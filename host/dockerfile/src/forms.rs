//! The forms that arguments have: JSON arrays, words, pairs, and what follows from them for single instructions.

use std::ops::Range;

use serde::Serialize;

use crate::instruction::BLANKS;
use crate::json::{JsonForm, json_form};
use crate::{Diagnostic, Instruction, Severity, Span, Word};

/// No more faults of one instruction are listed.
pub(crate) const MAX_FAULTS: usize = 100;

/// The arguments of an instruction that takes a JSON array or something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arguments {
    /// The elements of the array, or of the other form.
    pub words: Vec<Word>,
    /// Whether they were an array.
    pub json: bool,
}

/// `KEY=VALUE`, or `KEY VALUE` in the legacy form; quotes kept, nothing expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// As written.
    pub key: String,
    /// As written.
    pub value: String,
    /// Whether it is the legacy form, without `=`.
    pub legacy: bool,
    /// Key and value.
    pub span: Span,
}

/// A variable that ARG declares; quotes kept, nothing expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArgDeclaration {
    /// As written.
    pub name: String,
    /// What follows the first `=`.
    pub default: Option<String>,
    /// The whole word.
    pub span: Span,
}

/// The arguments of HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthcheckArguments {
    /// The first word, `CMD` or `NONE` if it is right, as written.
    pub kind: Word,
    /// What follows it, as RUN has it.
    pub command: Arguments,
}

impl Instruction {
    /// Whether the text is a JSON array of strings.
    pub fn is_json(&self) -> bool {
        matches!(json_form(self.text.as_str()), JsonForm::Strings(_))
    }

    /// For RUN, CMD, ENTRYPOINT, SHELL: a JSON array, or the whole text as one word.
    ///
    /// # Errors
    /// An array that is not of strings.
    pub fn command(&self) -> Result<Arguments, Diagnostic> {
        self.command_at(0..self.text.as_str().len())
    }

    /// For COPY, ADD, VOLUME: a JSON array, or words between blanks. Quotes group nothing here and are kept.
    ///
    /// # Errors
    /// An array that is not of strings.
    pub fn list(&self) -> Result<Arguments, Diagnostic> {
        match self.json_at(0..self.text.as_str().len())? {
            Some(words) => Ok(Arguments { words, json: true }),
            None => Ok(Arguments { words: self.blank_separated(), json: false }),
        }
    }

    /// For FROM, EXPOSE: words between blanks. Quotes group nothing here and are kept.
    pub fn blank_separated(&self) -> Vec<Word> {
        let text = self.text.as_str();
        let mut words = Vec::new();
        let mut start = 0;
        for part in text.split(BLANKS) {
            if !part.is_empty() {
                words.push(self.word(start..start + part.len()));
            }
            start += part.len() + 1;
        }
        words
    }

    /// For ARG and the pairs of ENV and LABEL: words between blanks that are neither quoted nor escaped. Quotes and
    /// escapes are kept for the expansion.
    pub fn words(&self) -> Vec<Word> {
        let text = self.text.as_str();
        let found = quoted_words(text, self.escape).into_iter();
        found.map(|(word, range)| Word { text: word, span: self.text.span(range) }).collect()
    }

    /// For ENV and LABEL: `KEY=VALUE …`, or `KEY VALUE` if the first word has no `=`.
    ///
    /// # Errors
    /// All that is wrong with them, also that there is none.
    pub fn pairs(&self) -> Result<Vec<Pair>, Vec<Diagnostic>> {
        let words = self.words();
        let Some(first) = words.first() else {
            return Err(vec![self.missing_argument()]);
        };
        let example = format!("write `{} NAME=value`", self.keyword);
        if !first.text.contains('=') {
            let text = self.text.as_str();
            let key = text.find(BLANKS).unwrap_or(text.len());
            let value = text[key..].trim_start_matches(BLANKS);
            if key == text.len() {
                let message = format!("{} must have two arguments", self.keyword);
                return Err(vec![error("MissingArgument", message, self.text.whole(), &example)]);
            }
            let (key, value) = (text[..key].to_owned(), value.to_owned());
            return Ok(vec![Pair { key, value, legacy: true, span: self.text.whole() }]);
        }
        let mut pairs = Vec::new();
        let mut wrong = Vec::new();
        for Word { text, span } in words {
            if wrong.len() == MAX_FAULTS {
                break;
            }
            match text.split_once('=') {
                Some(("", _)) => {
                    let message = format!("{} names can not be blank", self.keyword);
                    wrong.push(error("BlankName", message, span, &example));
                }
                Some((key, value)) => {
                    pairs.push(Pair { key: key.to_owned(), value: value.to_owned(), legacy: false, span });
                }
                None => {
                    let message = format!("Syntax error - can't find = in {text:?}. Must be of the form: name=value");
                    wrong.push(error("InvalidPair", message, span, "quote a value that has blanks"));
                }
            }
        }
        if wrong.is_empty() { Ok(pairs) } else { Err(wrong) }
    }

    /// For ARG: `NAME` and `NAME=DEFAULT`, several.
    ///
    /// # Errors
    /// All that is wrong with them, also that there is none.
    pub fn arg_declarations(&self) -> Result<Vec<ArgDeclaration>, Vec<Diagnostic>> {
        let words = self.words();
        if words.is_empty() {
            return Err(vec![self.missing_argument()]);
        }
        let mut wrong = Vec::new();
        let mut declarations = Vec::new();
        for Word { text, span } in words {
            if wrong.len() == MAX_FAULTS {
                break;
            }
            let (name, default) = match text.split_once('=') {
                Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
                None => (text, None),
            };
            if name.is_empty() {
                let message = "ARG names can not be blank".to_owned();
                wrong.push(error("BlankName", message, span, "write `ARG NAME` or `ARG NAME=default`"));
            }
            declarations.push(ArgDeclaration { name, default, span });
        }
        if wrong.is_empty() { Ok(declarations) } else { Err(wrong) }
    }

    /// For HEALTHCHECK: the kind and the command behind it; `None` without arguments.
    ///
    /// # Errors
    /// A command that is an array, but not of strings.
    pub fn healthcheck(&self) -> Result<Option<HealthcheckArguments>, Diagnostic> {
        let text = self.text.as_str();
        if text.is_empty() {
            return Ok(None);
        }
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let next = text.len() - text[end..].trim_start().len();
        Ok(Some(HealthcheckArguments { kind: self.word(0..end), command: self.command_at(next..text.len())? }))
    }

    fn command_at(&self, range: Range<usize>) -> Result<Arguments, Diagnostic> {
        match self.json_at(range.clone())? {
            Some(words) => Ok(Arguments { words, json: true }),
            None if range.is_empty() => Ok(Arguments { words: Vec::new(), json: false }),
            None => Ok(Arguments { words: vec![self.word(range)], json: false }),
        }
    }

    fn json_at(&self, range: Range<usize>) -> Result<Option<Vec<Word>>, Diagnostic> {
        let span = self.text.span(range.clone());
        match json_form(&self.text.as_str()[range]) {
            JsonForm::Strings(elements) => Ok(Some(elements.into_iter().map(|text| Word { text, span }).collect())),
            JsonForm::NotJson => Ok(None),
            JsonForm::OtherElements => Err(error(
                "InvalidJsonForm",
                "when using JSON array syntax, arrays must be comprised of strings only".to_owned(),
                span,
                "put each element in double quotes, or write the arguments without brackets",
            )),
        }
    }

    pub(crate) fn missing_argument(&self) -> Diagnostic {
        let message = format!("{} requires at least one argument", self.keyword);
        error("MissingArgument", message, self.span, "add an argument, or remove the instruction")
    }
}

pub(crate) fn error(code: &str, message: String, span: Span, help: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: code.to_owned(),
        message,
        span: Some(span),
        help: Some(help.to_owned()),
    }
}

/// Splits at blanks outside quotes. An escape at the very end is dropped, all else is kept.
fn quoted_words(text: &str, escape: char) -> Vec<(String, Range<usize>)> {
    let mut words = Vec::new();
    let mut rest = text.char_indices().peekable();
    loop {
        while rest.next_if(|(_, blank)| blank.is_whitespace()).is_some() {}
        let Some(&(start, _)) = rest.peek() else { return words };
        let mut word = String::new();
        let mut quote = None;
        let mut end = text.len();
        while let Some((offset, next)) = rest.next() {
            match next {
                // A single quote ends at the next one, whatever stands in front of that.
                _ if next == escape && quote != Some('\'') => {
                    if let Some((_, escaped)) = rest.next() {
                        word.extend([next, escaped]);
                    }
                    continue;
                }
                _ if quote == Some(next) => quote = None,
                _ if quote.is_some() => {}
                '\'' | '"' => quote = Some(next),
                _ if next.is_whitespace() => {
                    end = offset;
                    break;
                }
                _ => {}
            }
            word.push(next);
        }
        if !word.is_empty() {
            words.push((word, start..end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn first(text: &str) -> Instruction {
        parse(text.as_bytes()).instructions.remove(0)
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        first(text).pairs().unwrap().into_iter().map(|pair| (pair.key, pair.value)).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn pairs_keep_their_quotes() {
        assert_eq!(
            pairs(r#"ENV a=1 b="x y" c='p q'r d=e\ f g="#),
            [pair("a", "1"), pair("b", "\"x y\""), pair("c", "'p q'r"), pair("d", "e\\ f"), pair("g", "")]
        );
    }

    #[test]
    fn the_legacy_form_takes_everything_behind_the_key() {
        assert_eq!(pairs("ENV a  b=c  d"), [pair("a", "b=c  d")]);
        assert!(first("LABEL a b").pairs().unwrap()[0].legacy);
    }

    #[test]
    fn every_wrong_pair_is_reported_at_its_place() {
        let wrong = first("ENV a=1 b =c d").pairs().unwrap_err();
        let found: Vec<_> = wrong.iter().map(|wrong| (wrong.code.as_str(), wrong.span.unwrap().start.column)).collect();
        assert_eq!(found, [("InvalidPair", 9), ("BlankName", 11), ("InvalidPair", 14)]);
        assert_eq!(first("ENV A").pairs().unwrap_err()[0].message, "ENV must have two arguments");
        assert_eq!(first("ENV").pairs().unwrap_err()[0].message, "ENV requires at least one argument");
    }

    #[test]
    fn the_escape_character_of_the_file_counts() {
        assert_eq!(first("# escape=`\nARG a=b` c d=\\").words().len(), 2);
    }

    #[test]
    fn lists_are_json_or_words_with_places_across_lines() {
        let copy = first("COPY a \\\n  b /c").list().unwrap();
        let places: Vec<_> = copy.words.iter().map(|word| (word.text.as_str(), word.span.start.line)).collect();
        assert_eq!(places, [("a", 1), ("b", 2), ("/c", 2)]);
        assert!(first("COPY [\"a b\", \"/c\"]").list().unwrap().json);
        assert!(first("COPY [\"a\", 1]").list().is_err());
    }

    #[test]
    fn a_health_check_is_a_kind_and_a_command() {
        let check = first("HEALTHCHECK --interval=5s CMD [\"a\", \"b\"]").healthcheck().unwrap().unwrap();
        assert_eq!((check.kind.text.as_str(), check.command.words.len(), check.command.json), ("CMD", 2, true));
        let check = first("HEALTHCHECK none").healthcheck().unwrap().unwrap();
        assert_eq!((check.kind.text.as_str(), check.command.words.len()), ("none", 0));
    }
}
