//! Findings as people read them: the message, the place, the lines with `>>>` before those that are meant.

use std::fmt::Write;

use crate::{Diagnostic, Severity, Span};

/// Lines shown before and behind a single marked line.
const CONTEXT: usize = 2;
/// Marked lines shown of a long instruction; a here-document may have thousands.
const MAX_MARKED: usize = 20;
/// Characters shown of a line.
const MAX_COLUMNS: usize = 300;
const RULE: &str = "--------------------";

/// Renders findings in their order, each with its lines of `source`, an empty line between them. Plain text; what
/// could steer a terminal is replaced. `file_name` is shown as it is given.
pub fn render(diagnostics: &[Diagnostic], file_name: &str, source: &str) -> String {
    let lines = split(source);
    let mut text = String::new();
    for (index, diagnostic) in diagnostics.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        one(diagnostic, file_name, &lines, &mut text);
    }
    text
}

/// Renders a place alone, with its lines of `source`, for an error whose message stands elsewhere.
pub fn render_place(span: Span, file_name: &str, source: &str) -> String {
    let mut text = String::new();
    place(span, file_name, &split(source), &mut text);
    text
}

fn split(source: &str) -> Vec<&str> {
    source.split('\n').map(|line| line.trim_end_matches('\r')).collect()
}

fn one(diagnostic: &Diagnostic, file_name: &str, lines: &[&str], text: &mut String) {
    let severity = match diagnostic.severity {
        Severity::Error => "ERROR",
        Severity::Warning => "WARNING",
        Severity::Note => "NOTE",
    };
    line(text, format_args!("{severity}: {} ({})", harmless(&diagnostic.message), harmless(&diagnostic.code)));
    if let Some(span) = diagnostic.span {
        place(span, file_name, lines, text);
    }
    if let Some(help) = &diagnostic.help {
        line(text, format_args!("help: {}", harmless(help)));
    }
}

fn place(span: Span, file_name: &str, lines: &[&str], text: &mut String) {
    let (first, last) = (span.start.line as usize, (span.end.line as usize).max(span.start.line as usize));
    line(text, format_args!("{}:{first}", harmless(file_name)));
    if (1..=lines.len()).contains(&first) {
        excerpt(lines, first, last.min(lines.len()), text);
    }
}

fn excerpt(lines: &[&str], first: usize, last: usize, text: &mut String) {
    let context = if first == last { CONTEXT } else { 1 };
    // A last, empty "line" behind the final line feed is none.
    let count = if lines.last() == Some(&"") { lines.len() - 1 } else { lines.len() }.max(last);
    let shown = first.saturating_sub(context).max(1)..=(last + context).min(count);
    let cut = (last - first >= MAX_MARKED).then(|| first + MAX_MARKED - 1..=last - 1);
    let width = shown.end().to_string().len().max(3);
    line(text, format_args!("{RULE}"));
    for number in shown {
        match &cut {
            Some(cut) if number == *cut.start() => line(text, format_args!(" {:>width$} | >>> …", "")),
            Some(cut) if cut.contains(&number) => {}
            _ => {
                let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
                line(text, format_args!(" {number:>width$} | {mark} {}", harmless(lines[number - 1])));
            }
        }
    }
    line(text, format_args!("{RULE}"));
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let start = text.len();
    text.write_fmt(arguments).expect("writing to a string does not fail");
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

/// Without control characters, and not longer than a person reads.
fn harmless(text: &str) -> String {
    let printable = |other: char| match other {
        '\t' => '\t',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        _ if other.is_control() => char::REPLACEMENT_CHARACTER,
        _ => other,
    };
    let mut shown: String = text.chars().take(MAX_COLUMNS).map(printable).collect();
    if text.chars().nth(MAX_COLUMNS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, parse};

    #[test]
    fn a_single_line_is_marked_between_its_neighbours() {
        let source = "FROM x\nRUN a\nRUN b\nRUNN c\nRUN d\nRUN e\nRUN f\n";
        let found = check(&parse(source.as_bytes()), &["RUN"]);
        assert_eq!(
            render(&found, "Dockerfile", source),
            "ERROR: unknown instruction: RUNN (did you mean RUN?) (UnknownInstruction)\n\
             Dockerfile:4\n\
             --------------------\n\
             \x20  2 |     RUN a\n\
             \x20  3 |     RUN b\n\
             \x20  4 | >>> RUNN c\n\
             \x20  5 |     RUN d\n\
             \x20  6 |     RUN e\n\
             --------------------\n\
             help: write RUN, or load a plugin that claims RUNN\n"
        );
    }

    #[test]
    fn all_lines_of_an_instruction_are_marked_and_a_long_one_is_cut() {
        let source = format!("FROM x\nENV a=1 \\\n{} b", " c=2 \\\n".repeat(50));
        let found = check(&parse(source.as_bytes()), &["ENV"]);
        assert!(render(&found, "f", &source).contains("\n  53 | >>>  b\n"), "{}", render(&found, "f", &source));
        let mut found = found;
        found[0].span.as_mut().unwrap().start.line = 2;
        let text = render(&found, "f", &source);
        assert!(
            text.contains("\n   2 | >>> ENV a=1 \\\n")
                && text.contains("| >>> …\n")
                && text.contains("\n  53 | >>>  b\n")
        );
        assert!(text.lines().count() < 30, "{text}");
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_printed() {
        let source = "FROM x\n\u{1b}[2JRUN\u{202e} y\r\n";
        let text = render(&check(&parse(source.as_bytes()), &["RUN"]), "f\x1b", source);
        assert!(!text.contains(['\u{1b}', '\r', '\u{202e}']), "{text:?}");
    }
}
