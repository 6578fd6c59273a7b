//! One instruction: keyword, flags, and the text that its handler takes apart.

use std::ops::{Range, RangeInclusive};

use serde::Serialize;

use crate::{Heredoc, Span, Text};

/// The keywords of the Dockerfile reference.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// One instruction of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instruction {
    /// In upper case.
    pub keyword: String,
    /// The keyword as it is written.
    pub spelling: String,
    /// The keyword's place.
    pub keyword_span: Span,
    /// In the order of the text.
    pub flags: Vec<RawFlag>,
    /// What stands after the flags: continuation lines joined, comments between them removed, nothing expanded.
    pub text: Text,
    /// In the order of the text.
    pub heredocs: Vec<Heredoc>,
    /// The whole instruction on one line, keyword and flags included, here-documents excluded.
    pub original: String,
    /// From the keyword to the end of the text, or of the last here-document.
    pub span: Span,
    /// The first and the last line that the instruction takes, comments and blank lines inside it included.
    #[serde(skip)]
    pub lines: RangeInclusive<u32>,
    /// The comments since the instruction before.
    pub comments: Vec<Comment>,
    /// The file's escape character.
    pub escape: char,
}

/// A `--name` or `--name=value` before the arguments, quotes removed, nothing expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RawFlag {
    /// Without the dashes.
    pub name: String,
    /// What follows the first `=`.
    pub value: Option<String>,
    /// The whole word.
    pub span: Span,
}

/// A comment line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comment {
    /// Without the `#` and the blanks around it.
    pub text: String,
    /// Counted from 1.
    pub line: u32,
}

/// A part of an instruction's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Word {
    /// As written, or decoded where it was an element of a JSON array.
    pub text: String,
    /// Its place.
    pub span: Span,
}

/// The blanks between a keyword and its arguments, and between the words of those that take words.
pub(crate) const BLANKS: [char; 5] = [' ', '\t', '\x0b', '\x0c', '\r'];

impl Instruction {
    /// Takes the keyword and the flags off a joined line. Here-documents, comments and lines are the caller's.
    pub(crate) fn from_line(line: &Text, escape: char) -> Self {
        let all = line.as_str();
        let whole = trimmed(all, 0..all.len());
        let length = all[whole.clone()].find(BLANKS).unwrap_or(whole.len());
        let keyword = whole.start..whole.start + length;
        let (flags, rest) = split_flags(line, keyword.end..whole.end);
        let spelling = all[keyword.clone()].to_owned();
        let span = line.span(whole);
        Self {
            keyword: spelling.to_ascii_uppercase(),
            spelling,
            keyword_span: line.span(keyword),
            flags,
            text: line.slice(trimmed(all, rest)),
            heredocs: Vec::new(),
            original: all.to_owned(),
            span,
            lines: span.start.line..=span.end.line,
            comments: Vec::new(),
            escape,
        }
    }

    /// The first flag of a name.
    pub fn flag(&self, name: &str) -> Option<&RawFlag> {
        self.flags.iter().find(|flag| flag.name == name)
    }

    /// Whether the keyword is one of the Dockerfile reference's.
    pub fn is_built_in(&self) -> bool {
        KEYWORDS.contains(&self.keyword.as_str())
    }

    /// The words of a range of the text.
    pub(crate) fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.text.as_str()[range.clone()].to_owned(), span: self.text.span(range) }
    }
}

/// The range without blanks of any kind at its ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

/// Takes the words that begin with `--` off the front; a `--` alone ends them. Quotes and backslashes work inside a
/// flag whatever the file's escape character is.
fn split_flags(line: &Text, range: Range<usize>) -> (Vec<RawFlag>, Range<usize>) {
    let text = &line.as_str()[..range.end];
    let mut flags = Vec::new();
    let mut position = range.start;
    loop {
        position += text[position..].len() - text[position..].trim_start().len();
        if !text[position..].starts_with("--") {
            return (flags, position..range.end);
        }
        let start = position;
        let mut word = String::new();
        let mut quote = None;
        let mut rest = text[start..].char_indices();
        position = range.end;
        while let Some((offset, next)) = rest.next() {
            match next {
                '\\' => word.extend(rest.next().map(|(_, escaped)| escaped)),
                _ if quote == Some(next) => quote = None,
                _ if quote.is_some() => word.push(next),
                '\'' | '"' => quote = Some(next),
                _ if next.is_whitespace() => {
                    position = start + offset;
                    break;
                }
                _ => word.push(next),
            }
        }
        if word == "--" {
            return (flags, position..range.end);
        }
        let word = word.strip_prefix("--").unwrap_or(&word);
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        flags.push(RawFlag { name: name.to_owned(), value, span: line.span(start..position) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;

    fn instruction(line: &str) -> Instruction {
        let mut text = Text::default();
        text.push(line, Position { line: 1, column: 1 });
        Instruction::from_line(&text, '\\')
    }

    fn flags(line: &str) -> Vec<(String, Option<String>)> {
        instruction(line).flags.into_iter().map(|flag| (flag.name, flag.value)).collect()
    }

    #[test]
    fn flags_stand_between_the_keyword_and_the_first_other_word() {
        let copy = instruction("copy --from=a --link  x --y /z ");
        assert_eq!((copy.keyword.as_str(), copy.spelling.as_str(), copy.text.as_str()), ("COPY", "copy", "x --y /z"));
        assert_eq!(flags("COPY --from=a --link x"), [("from".into(), Some("a".into())), ("link".into(), None)]);
        assert_eq!(instruction("CMD --doit -- --not").text.as_str(), "--not");
        assert_eq!(instruction("COPY --").text.as_str(), "");
    }

    #[test]
    fn quotes_and_backslashes_are_gone_from_flags() {
        assert_eq!(
            flags(r#"RUN --mount="type=cache,target=/a b" x"#),
            [("mount".into(), Some("type=cache,target=/a b".into()))]
        );
        assert_eq!(flags(r"RUN --a=b\ c x"), [("a".into(), Some("b c".into()))]);
        assert_eq!(flags(r#"RUN --a="x\"y" x"#), [("a".into(), Some("x\"y".into()))]);
    }

    #[test]
    fn places_are_those_of_the_line() {
        let copy = instruction("COPY --link  a b");
        let columns = |span: Span| (span.start.column, span.end.column);
        assert_eq!(columns(copy.flags[0].span), (6, 12));
        assert_eq!(columns(copy.text.whole()), (14, 17));
        assert_eq!(columns(copy.keyword_span), (1, 5));
    }
}
