//! Here-documents: the `<<NAME` words of an instruction and the lines that belong to them.

use std::borrow::Cow;
use std::ops::Range;

use serde::Serialize;

use crate::Span;
use crate::expand::{ExpandProblem, Expander, NoVariables};

/// A here-document of an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heredoc {
    /// The word after `<<`, quotes and escapes removed: also the line that ends the document.
    pub name: String,
    /// The lines as they stand in the file, line endings included; see [`Heredoc::text`].
    pub content: String,
    /// Whether no part of the name was quoted.
    pub expand: bool,
    /// `<<-`: tabs at the start of each line do not count.
    pub strip_tabs: bool,
    /// The number in front of `<<`, 0 without one.
    pub descriptor: u32,
    /// The `<<NAME` word.
    pub span: Span,
    /// The lines of the document and the one that ends it.
    pub body: Span,
}

impl Heredoc {
    /// The lines, without the leading tabs if `<<-` asks for that. Nothing is expanded.
    pub fn text(&self) -> Cow<'_, str> {
        if !self.strip_tabs {
            return Cow::Borrowed(&self.content);
        }
        Cow::Owned(self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect())
    }
}

/// A `<<NAME` word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeredocMarker {
    /// The word after `<<`, quotes and escapes removed.
    pub name: String,
    /// Whether no part of the name was quoted.
    pub expand: bool,
    /// `<<-`.
    pub strip_tabs: bool,
    /// The number in front, 0 without one.
    pub descriptor: u32,
}

impl HeredocMarker {
    /// Reads a word, quotes included, as it stands in an instruction; `None` if it is none.
    pub fn parse(word: &str) -> Option<Self> {
        let digits = word.len() - word.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
        let rest = word[digits..].strip_prefix("<<")?;
        let (rest, strip_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
        let rest = rest.trim_start_matches(|blank: char| blank.is_ascii_whitespace());
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        // The name's escape is always a backslash, whatever the file's is.
        let expander = Expander::new('\\').keep_unset();
        let single = |expander: Expander| match expander.words(rest, &NoVariables).ok()?.as_slice() {
            [name] => Some(name.clone()),
            _ => None,
        };
        let (name, quoted) = (single(expander)?, single(expander.keep_quotes())?);
        // An escaped quote is in both, a quote that quotes only in the second.
        let quotes = |word: &str| word.matches(['\'', '"']).count();
        Some(Self {
            expand: quotes(&name) == quotes(&quoted),
            name,
            strip_tabs,
            descriptor: word[..digits].parse().unwrap_or(0),
        })
    }
}

/// The here-documents that a joined line asks for, with the bytes of the line that do. A line whose quotes do not
/// match has none: it is for a shell, which knows other ways of quoting.
///
/// # Errors
/// The limit that the line goes beyond.
pub(crate) fn markers(line: &str) -> Result<Vec<(HeredocMarker, Range<usize>)>, ExpandProblem> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let expander = Expander::new('\\').keep_quotes().keep_escapes().keep_unset();
    match expander.expand(line, &NoVariables) {
        Ok(expansion) => {
            let words = expansion.words.iter().zip(expansion.ranges);
            Ok(words.filter_map(|(word, range)| Some((HeredocMarker::parse(word)?, range))).collect())
        }
        Err(error) => match error.problem {
            problem @ (ExpandProblem::TooLong | ExpandProblem::TooDeep) => Err(problem),
            _ => Ok(Vec::new()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<(String, bool, bool, u32)> {
        let markers = markers(line).unwrap().into_iter();
        markers.map(|(marker, _)| (marker.name, marker.expand, marker.strip_tabs, marker.descriptor)).collect()
    }

    #[test]
    fn a_marker_may_be_quoted_in_part_numbered_and_apart() {
        for (word, name, expand, strip, descriptor) in [
            ("<<EOF", "EOF", true, false, 0),
            ("<<-EOF", "EOF", true, true, 0),
            ("<<'EOF'", "EOF", false, false, 0),
            ("<<E\"O\"F", "EOF", false, false, 0),
            ("3<<EOF", "EOF", true, false, 3),
            ("<< EOF", "EOF", true, false, 0),
            ("<<eo\\'f", "eo'f", true, false, 0),
            ("<<'e'o\\'f", "eo'f", false, false, 0),
            ("<<'one two'", "one two", false, false, 0),
            ("<<$EOF", "$EOF", true, false, 0),
        ] {
            assert_eq!(names(&format!("RUN {word}")), [(name.to_owned(), expand, strip, descriptor)], "{word}");
        }
    }

    #[test]
    fn what_only_looks_like_a_marker_is_none() {
        for line in ["RUN <<", "RUN <<<EOF", "RUN \"<<EOF\"", "RUN a<<EOF", "RUN it's <<EOF", "RUN \\<<EOF"] {
            assert_eq!(names(line), [], "{line}");
        }
    }

    #[test]
    fn a_marker_knows_its_place() {
        let line = "COPY <<A  <<-\"B\" /x";
        let places: Vec<_> = markers(line).unwrap().into_iter().map(|(_, range)| &line[range]).collect();
        assert_eq!(places, ["<<A", "<<-\"B\""]);
    }
}
