//! Dockerfile text to instructions with spans: directives, heredocs, word expansion, ignore patterns, lint

mod diagnostic;

pub use diagnostic::{Diagnostic, Position, Severity, Span};
