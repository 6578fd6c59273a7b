//! Whole files with what is made of them: instructions, places and findings.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test reads its data")]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use cofferdam_dockerfile::{KEYWORDS, Span, check, parse, render};

fn place(span: Span) -> String {
    format!("{}:{}-{}:{}", span.start.line, span.start.column, span.end.line, span.end.column)
}

/// A description that shows every part of the result.
fn describe(bytes: &[u8]) -> String {
    let parsed = parse(bytes);
    let mut text = format!("escape {}\n", parsed.directives.escape);
    if let Some(syntax) = &parsed.directives.syntax {
        writeln!(text, "syntax {} {}", syntax.value, place(syntax.span)).unwrap();
    }
    for instruction in &parsed.instructions {
        let (first, last) = (instruction.lines.start(), instruction.lines.end());
        writeln!(text, "{} lines {first}-{last} at {}", instruction.keyword, place(instruction.span)).unwrap();
        for comment in &instruction.comments {
            writeln!(text, "  comment {} {:?}", comment.line, comment.text).unwrap();
        }
        for flag in &instruction.flags {
            writeln!(text, "  flag {} {:?} {}", flag.name, flag.value, place(flag.span)).unwrap();
        }
        writeln!(text, "  text {:?} {}", instruction.text.as_str(), place(instruction.text.whole())).unwrap();
        for heredoc in &instruction.heredocs {
            let kind = if heredoc.expand { "expanded" } else { "literal" };
            writeln!(text, "  heredoc {} {kind} {} {:?}", heredoc.name, place(heredoc.span), heredoc.text()).unwrap();
        }
    }
    let source = String::from_utf8_lossy(bytes);
    let found = check(&parsed, &KEYWORDS.into_iter().chain(["TEMPLATE"]).collect::<Vec<_>>());
    if !found.is_empty() {
        write!(text, "\n{}", render(&found, "Dockerfile", &source)).unwrap();
    }
    text
}

#[test]
fn files_are_read_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "dockerfile"));
    names.sort();
    assert!(!names.is_empty());
    for path in names {
        let found = describe(&fs::read(&path).unwrap());
        let expected = path.with_extension("expected");
        if std::env::var("COFFERDAM_BLESS").as_deref() == Ok("1") {
            fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&expected).unwrap_or_default(), "{}", path.display());
    }
}
