//! Texts that come out of plugins.

use cofferdam_dockerfile::{Diagnostic, Position, Severity, Span};

use crate::bindings::instruction::cofferdam::types::diagnostics as wit;

/// Without control characters but line ends and tabs: a plugin's text may be shown on a terminal, which must not take it
/// for commands.
pub(crate) fn printable(text: &str) -> String {
    let plain = |character: char| match character {
        '\n' | '\t' => character,
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    };
    text.chars().map(plain).collect()
}

/// Of one text in a finding.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// Findings of one call; more would help nobody.
pub(crate) const MAX_DIAGNOSTICS: usize = 1000;

fn message(text: &str) -> String {
    printable(&text[..text.floor_char_boundary(MAX_MESSAGE_BYTES)])
}

/// A plugin's finding, cut to size and without control characters.
pub(crate) fn diagnostic(found: wit::Diagnostic) -> Diagnostic {
    let position = |at: wit::Position| Position { line: at.line, column: at.column };
    Diagnostic {
        severity: match found.severity {
            wit::Severity::Error => Severity::Error,
            wit::Severity::Warning => Severity::Warning,
            wit::Severity::Note => Severity::Note,
        },
        code: message(&found.code),
        message: message(&found.message),
        span: found.span.map(|span| Span { start: position(span.start), end: position(span.end) }),
        help: found.help.as_deref().map(message),
    }
}

/// A plugin's findings, at most [`MAX_DIAGNOSTICS`].
pub(crate) fn diagnostics(found: Vec<wit::Diagnostic>) -> Vec<Diagnostic> {
    found.into_iter().take(MAX_DIAGNOSTICS).map(diagnostic).collect()
}

/// A text of a plugin that is shown to people.
pub(crate) fn shown(text: &str) -> String {
    message(text)
}

/// A finding of the host's own about a step.
pub(crate) fn host_error(code: &str, message: String, span: Option<Span>, help: Option<String>) -> Diagnostic {
    Diagnostic { severity: Severity::Error, code: code.to_owned(), message, span, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_commands_are_taken_out() {
        assert_eq!(printable("a\x1b[2Jb\r\n\tc\u{9b}"), "a\u{fffd}[2Jb\u{fffd}\n\tc\u{fffd}");
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let found = wit::Diagnostic {
            severity: wit::Severity::Error,
            code: String::new(),
            message: "ä".repeat(MAX_MESSAGE_BYTES),
            span: None,
            help: None,
        };
        assert_eq!(diagnostic(found).message.len(), MAX_MESSAGE_BYTES);
    }
}
