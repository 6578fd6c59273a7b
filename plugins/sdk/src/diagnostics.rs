//! Findings, written in one line.

pub use crate::bindings::instruction::cofferdam::types::{
    diagnostics::{Denial, Diagnostic, Position, Severity, Span},
    values::{KeyValue, Timestamp},
};

/// A finding that stops the build.
pub fn error(code: &str, message: impl Into<String>) -> Diagnostic {
    finding(Severity::Error, code, message.into())
}

/// A finding that the user should know of.
pub fn warning(code: &str, message: impl Into<String>) -> Diagnostic {
    finding(Severity::Warning, code, message.into())
}

/// Adds to a finding.
pub trait DiagnosticExt {
    /// Says what to do about it.
    fn help(self, text: impl Into<String>) -> Self;
    /// Says where it is; without this the whole instruction is marked.
    fn at(self, span: Span) -> Self;
}

impl DiagnosticExt for Diagnostic {
    fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }
}

/// `first`, `second` and `third`, in backticks: for messages that list what is allowed.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            text.push_str(if index + 1 == names.len() { " and " } else { ", " });
        }
        text.push('`');
        text.push_str(name.as_ref());
        text.push('`');
    }
    text
}

fn finding(severity: Severity, code: &str, message: String) -> Diagnostic {
    Diagnostic { severity, code: code.to_owned(), message, span: None, help: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        assert_eq!(listed::<&str>(&[]), "");
        assert_eq!(listed(&["a"]), "`a`");
        assert_eq!(listed(&["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
