//! Findings about a Dockerfile, with their places.

use serde::Serialize;

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in bytes.
    pub column: u32,
}

/// A range in the file; `end` is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// The first byte.
    pub start: Position,
    /// The byte after the last.
    pub end: Position,
}

/// How bad a finding is. Only [`Severity::Error`] stops the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The build can't be what the user meant.
    Error,
    /// The build goes on.
    Warning,
    /// Additional information.
    Note,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name in CamelCase, for example `UnknownInstruction`.
    pub code: String,
    /// One sentence without a full stop.
    pub message: String,
    /// Where; `None` for the whole file.
    pub span: Option<Span>,
    /// What to do about it.
    pub help: Option<String>,
}
