//! Text to instructions. Nothing stops at a mistake: each becomes a finding, and the reading goes on behind it.

use std::borrow::Cow;

use serde::Serialize;

use crate::directive::{self, Directives};
use crate::heredoc::{self, HeredocMarker};
use crate::lint::NO_EMPTY_CONTINUATION;
use crate::source::{self, Line, Lines, MAX_FILE_BYTES};
use crate::{Comment, Diagnostic, Heredoc, Instruction, Position, Severity, Span, Text};

/// More instructions are refused: each costs some hundred bytes, an empty line of input only one.
pub const MAX_INSTRUCTIONS: usize = 1 << 16;

/// An instruction that is longer, here-documents aside, is refused: its words cost many times its length.
pub const MAX_INSTRUCTION_BYTES: usize = 1 << 20;

/// After so many here-documents without an end no more guesses are made, as each reads the rest of the file.
const MAX_GUESSES: usize = 16;

/// A file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Parsed {
    /// In the order of the file.
    pub instructions: Vec<Instruction>,
    /// What the comments at the top say.
    pub directives: Directives,
    /// What the reading itself found; [`crate::check()`] adds what the instructions' syntax shows.
    pub diagnostics: Vec<Diagnostic>,
}

/// Takes a Dockerfile apart.
///
/// Bytes that are not UTF-8 become U+FFFD; lines end at a line feed, a carriage return before it does not count.
/// Columns count bytes of the text after that replacement.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    if bytes.len() > MAX_FILE_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20);
        parsed.diagnostics.push(finding(Severity::Error, "FileTooLarge", message, None, "copy data with COPY instead"));
        return parsed;
    }
    let text = source::decode(bytes);
    if let Cow::Owned(text) = &text {
        let line = Lines::new(text).find(|line| line.raw.contains(char::REPLACEMENT_CHARACTER));
        let message = "the file is not UTF-8, wrong bytes were replaced".to_owned();
        let span = line.map(|line| whole(&line));
        parsed.diagnostics.push(finding(Severity::Warning, "InvalidUtf8", message, span, "save the file as UTF-8"));
    }
    parsed.directives = directive::read(&text, &mut parsed.diagnostics);
    let escape = parsed.directives.escape;
    Parser { lines: Lines::new(&text), escape, guesses: 0, parsed: &mut parsed }.run();
    parsed
}

struct Parser<'a, 'p> {
    lines: Lines<'a>,
    escape: char,
    guesses: usize,
    parsed: &'p mut Parsed,
}

impl<'a> Parser<'a, '_> {
    fn run(mut self) {
        let mut comments = Vec::new();
        while let Some(line) = self.lines.next() {
            if line.is_comment() {
                comments.push(comment(&line));
                continue;
            }
            let Some(text) = self.joined(&line) else { continue };
            let mut instruction = Instruction::from_line(&text, self.escape);
            instruction.comments = std::mem::take(&mut comments);
            if carries_heredocs(&instruction) {
                self.read_heredocs(&text, &mut instruction);
            }
            instruction.lines = line.number..=self.lines.number();
            self.parsed.instructions.push(instruction);
            if self.parsed.instructions.len() == MAX_INSTRUCTIONS {
                let message = format!("the file has more than {MAX_INSTRUCTIONS} instructions");
                self.report(Severity::Error, "TooManyInstructions", message, Some(whole(&line)), "split the build");
                return;
            }
        }
        if self.parsed.instructions.is_empty() {
            let message = "file with no instructions".to_owned();
            self.report(Severity::Error, "EmptyFile", message, None, "begin with FROM and the name of an image");
        }
    }

    /// Joins the lines that a line is continued by; `None` if it is blank.
    fn joined(&mut self, first: &Line<'a>) -> Option<Text> {
        let content = first.content();
        let indent = content.len() - content.trim_start().len();
        let mut text = Text::default();
        let (kept, mut continued) = continuation(&content[indent..], self.escape);
        if !continued && kept.is_empty() {
            return None;
        }
        let mut too_long = false;
        let mut push = |kept: &str, line: &Line<'_>, offset| {
            too_long |= text.as_str().len() + kept.len() > MAX_INSTRUCTION_BYTES;
            if !kept.is_empty() && !too_long {
                text.push(kept, Position { line: line.number, column: line.column(offset) });
            }
        };
        push(kept, first, indent);
        let mut last = *first;
        let mut blank_inside = false;
        while continued {
            let Some(line) = self.lines.next() else { break };
            last = line;
            if line.is_comment() {
                continue;
            }
            if line.content().trim_start().is_empty() {
                blank_inside = true;
                continue;
            }
            let kept;
            (kept, continued) = continuation(line.content(), self.escape);
            push(kept, &line, 0);
        }
        if too_long {
            let message = format!("the instruction is longer than {} MiB", MAX_INSTRUCTION_BYTES >> 20);
            let help = "move data to a file and use COPY";
            self.report(Severity::Error, "InstructionTooLong", message, Some(whole(first)), help);
            return None;
        }
        if text.as_str().trim().is_empty() {
            let message = "a line continuation that continues nothing".to_owned();
            self.report(Severity::Error, "UnknownInstruction", message, Some(whole(first)), "remove the line");
            return None;
        }
        if blank_inside {
            self.parsed.diagnostics.push(NO_EMPTY_CONTINUATION.finding(whole(&last), &[]));
        }
        Some(text)
    }

    fn read_heredocs(&mut self, line: &Text, instruction: &mut Instruction) {
        match heredoc::markers(line.as_str()) {
            Ok(markers) => {
                for (marker, range) in markers {
                    let heredoc = self.read_heredoc(marker, line.span(range));
                    instruction.span.end = instruction.span.end.max(heredoc.body.end);
                    instruction.heredocs.push(heredoc);
                }
            }
            Err(problem) => {
                let message = format!("the instruction's here-documents can't be read: {problem}");
                let help = "move the text to a file and use COPY";
                self.report(Severity::Error, "InvalidHeredoc", message, Some(instruction.span), help);
            }
        }
    }

    fn read_heredoc(&mut self, marker: HeredocMarker, span: Span) -> Heredoc {
        let HeredocMarker { name, expand, strip_tabs, descriptor } = marker;
        let ends = |line: &Line<'_>| {
            let content = line.raw.trim_end_matches(['\r', '\n']);
            name == if strip_tabs { content.trim_start_matches('\t') } else { content }
        };
        let mut last = self.lines.find_ahead(ends);
        if last.is_none() {
            // What was most likely meant to be the end is taken for it, so that the rest is still read.
            self.guesses += 1;
            last = self.lines.find_ahead(|line| line.raw.trim() == name).filter(|_| self.guesses < MAX_GUESSES);
            let help = match last {
                Some(line) if strip_tabs => {
                    format!("line {line} has blanks beside `{name}`, only tabs may stand there")
                }
                Some(line) => format!("remove the blanks beside `{name}` in line {line}, or use tabs and `<<-`"),
                None => format!("end it with a line that holds `{name}` and nothing else"),
            };
            self.report(Severity::Error, "UnterminatedHeredoc", "unterminated heredoc".to_owned(), Some(span), &help);
        }
        let mut content = String::new();
        let mut body = Span { start: span.end, end: span.end };
        for (index, line) in self.lines.by_ref().enumerate() {
            let place = whole(&line);
            body = Span { start: if index == 0 { place.start } else { body.start }, end: place.end };
            if last == Some(line.number) {
                break;
            }
            content.push_str(line.raw);
        }
        Heredoc { name, content, expand, strip_tabs, descriptor, span, body }
    }

    fn report(&mut self, severity: Severity, code: &str, message: String, span: Option<Span>, help: &str) {
        self.parsed.diagnostics.push(finding(severity, code, message, span, help));
    }
}

/// What of a line counts, and whether the next one continues it: if its last character that is neither blank nor tab
/// is the escape, and is not escaped itself.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(kept) if !kept.ends_with(escape) => (kept, true),
        _ => (line, false),
    }
}

/// RUN, COPY, ADD and custom instructions may, and ONBUILD of them; what is a JSON array has none.
fn carries_heredocs(instruction: &Instruction) -> bool {
    match instruction.keyword.as_str() {
        "ONBUILD" => {
            let trigger = Instruction::from_line(&instruction.text, instruction.escape);
            trigger.keyword != "ONBUILD" && carries_heredocs(&trigger)
        }
        "RUN" | "COPY" | "ADD" => !instruction.is_json(),
        _ => !instruction.is_built_in() && !instruction.is_json(),
    }
}

fn comment(line: &Line<'_>) -> Comment {
    let text = line.content().trim_start().strip_prefix('#').unwrap_or_default().trim();
    Comment { text: text.to_owned(), line: line.number }
}

fn whole(line: &Line<'_>) -> Span {
    Span {
        start: Position { line: line.number, column: line.column(0) },
        end: Position { line: line.number, column: line.column(line.content().len()) },
    }
}

fn finding(severity: Severity, code: &str, message: String, span: Option<Span>, help: &str) -> Diagnostic {
    Diagnostic { severity, code: code.to_owned(), message, span, help: Some(help.to_owned()) }
}
