//! Dockerfile text to instructions with spans: directives, heredocs, word expansion, ignore patterns.
//!
//! - [`parse()`] takes a file apart and never stops at a mistake; [`check()`] adds what the language itself finds wrong;
//!   [`render()`] shows findings to a person.
//! - An [`Instruction`] is a keyword, flags and a [`Text`]. Its methods read the text in the form that its handler
//!   asks for: [`Instruction::pairs`], [`Instruction::list`], [`Instruction::command`] and others.
//! - [`lint`] holds the rules about what is allowed and seldom meant.
//! - [`expand`] replaces variables, [`glob`] matches the sources of COPY, [`ignore`] reads `.dockerignore`.
//!
//! Everything is pure: no files, no network, no variables of the process.

pub mod expand;
pub mod glob;
pub mod ignore;
pub mod lint;

mod check;
mod diagnostic;
mod directive;
mod fields;
mod forms;
mod heredoc;
mod instruction;
mod json;
mod onbuild;
mod parse;
mod render;
mod source;
mod stage;
mod suggest;
mod text;

pub use check::{MAX_DIAGNOSTICS, check, in_order};
pub use diagnostic::{Diagnostic, Position, Severity, Span};
pub use directive::{CheckOptions, Directive, Directives};
pub use fields::{join_fields, split_fields};
pub use forms::{ArgDeclaration, Arguments, HealthcheckArguments, Pair};
pub use heredoc::{Heredoc, HeredocMarker};
pub use instruction::{Comment, Instruction, KEYWORDS, RawFlag, Word};
pub use json::{JsonForm, json_form};
pub use parse::{MAX_INSTRUCTION_BYTES, MAX_INSTRUCTIONS, Parsed, parse};
pub use render::{render, render_place};
pub use source::MAX_FILE_BYTES;
pub use stage::{FromClause, is_stage_name};
pub use suggest::{closest, closest_exactly};
pub use text::Text;
