//! A finding at a place of the Dockerfile, as logs and continuous integration systems show it.

use cofferdam_engine::{Diagnostic, Severity};

use super::text::{clean, clean_line};

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The Dockerfile, as the user named it.
    pub file: String,
    /// First and last line, from 1.
    pub lines: Option<(u32, u32)>,
    /// A stable name.
    pub code: String,
    /// One sentence.
    pub message: String,
    help: Option<String>,
}

impl Problem {
    /// A finding about a file.
    pub fn of(finding: &Diagnostic, file: &str) -> Self {
        Self {
            severity: finding.severity,
            file: file.to_owned(),
            lines: finding.span.map(|span| (span.start.line, span.end.line.max(span.start.line))),
            code: finding.code.clone(),
            message: finding.message.clone(),
            help: finding.help.clone(),
        }
    }

    /// Whether it is told to the user elsewhere: errors are, with the lines of the Dockerfile.
    pub fn is_annotation_only(&self) -> bool {
        self.severity == Severity::Error
    }

    /// As lines of a log.
    pub fn lines(&self) -> Vec<String> {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let place = match self.lines {
            Some((line, _)) => format!("{}:{line}: ", clean(&self.file)),
            None => format!("{}: ", clean(&self.file)),
        };
        let first = format!("{severity}: {place}{} ({})", clean(&self.message), clean(&self.code));
        let help = self.help.as_ref().map(|help| clean_line(&format!("  {help}")));
        std::iter::once(first).chain(help).collect()
    }
}
