//! Parser directives: `# name=value` comments at the top of the file.

use serde::Serialize;

use crate::source::{Line, Lines};
use crate::{Diagnostic, Position, Severity, Span};

/// What the directives of a file say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directives {
    /// `# syntax=`: a hint, nothing is fetched for it.
    pub syntax: Option<Directive>,
    /// The character that escapes and that continues lines: a backslash, or a backtick after ``# escape=` ``.
    pub escape: char,
    /// `# check=`, read.
    pub check: CheckOptions,
}

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directive {
    /// Without the blanks around it.
    pub value: String,
    /// The whole comment.
    pub span: Span,
}

/// The options of `# check=skip=A,B;error=true`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CheckOptions {
    /// `skip=all`.
    pub skip_all: bool,
    /// The rules of `skip=`.
    pub skip: Vec<String>,
    /// `experimental=all`.
    pub experimental_all: bool,
    /// The rules of `experimental=`.
    pub experimental: Vec<String>,
    /// `error=true`: warnings of the check fail the build.
    pub error: bool,
}

impl CheckOptions {
    /// Whether findings of the rule are left out.
    pub fn skips(&self, rule: &str) -> bool {
        self.skip_all || self.skip.iter().any(|skipped| skipped == rule)
    }

    /// Whether an experimental rule is asked for.
    pub fn tries(&self, rule: &str) -> bool {
        self.experimental_all || self.experimental.iter().any(|tried| tried == rule)
    }

    /// Reads the value of the directive.
    ///
    /// # Errors
    /// One sentence that names the wrong option.
    pub fn parse(value: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for option in value.split(';') {
            let Some((name, value)) = option.split_once('=') else {
                return Err(format!("invalid check option {option:?}"));
            };
            let value = value.trim();
            let rules = || value.split(',').map(|rule| rule.trim().to_owned()).collect();
            match name.trim() {
                "skip" if value == "all" => options.skip_all = true,
                "skip" => options.skip = rules(),
                "experimental" if value == "all" => options.experimental_all = true,
                "experimental" => options.experimental = rules(),
                "error" => match value {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => options.error = true,
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => options.error = false,
                    _ => return Err(format!("invalid value {value:?} of check option \"error\"")),
                },
                _ => return Err(format!("invalid check option {option:?}")),
            }
        }
        Ok(options)
    }
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: CheckOptions::default() }
    }
}

/// Reads the directives in front of everything else: the first line that is none ends them.
pub(crate) fn read(text: &str, diagnostics: &mut Vec<Diagnostic>) -> Directives {
    let mut directives = Directives::default();
    let mut seen = Vec::new();
    let mut shebang = false;
    for line in Lines::new(text) {
        if line.number == 1 && line.content().starts_with("#!") {
            // `syntax` and `check` may stand below a shebang; for `escape` it is a comment like any other.
            shebang = true;
            continue;
        }
        let Some((name, value)) = split(line.content()) else { break };
        let name = name.to_ascii_lowercase();
        if !matches!(name.as_str(), "syntax" | "escape" | "check") {
            break;
        }
        let span = span(&line);
        let mut refuse = |message: String, help: &str| {
            diagnostics.push(Diagnostic {
                severity: Severity::Error,
                code: "InvalidDirective".to_owned(),
                message,
                span: Some(span),
                help: Some(help.to_owned()),
            });
        };
        if seen.contains(&name) {
            refuse(format!("only one {name} parser directive can be used"), "remove all but one of them");
            continue;
        }
        match name.as_str() {
            "syntax" => directives.syntax = Some(Directive { value: value.to_owned(), span }),
            "escape" if shebang => {}
            "escape" if value == "`" => directives.escape = '`',
            "escape" if value == "\\" => {}
            "escape" => refuse(
                format!("invalid escape token '{value}' does not match ` or \\"),
                "the escape character is a backslash or a backtick",
            ),
            _ => match CheckOptions::parse(value) {
                Ok(options) => directives.check = options,
                Err(message) => {
                    refuse(message, "the options are `skip=RULE,…`, `experimental=RULE,…` and `error=true`")
                }
            },
        }
        seen.push(name);
    }
    directives
}

/// `# name = value`; the value is not empty.
fn split(content: &str) -> Option<(&str, &str)> {
    let (name, value) = content.trim_start().strip_prefix('#')?.trim_start().split_once('=')?;
    let blank = [' ', '\t', '\x0c', '\r'];
    let (name, value) = (name.trim_end_matches(blank), value.trim_matches(blank));
    let named = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|other| other.is_ascii_alphanumeric());
    (named && !value.is_empty()).then_some((name, value))
}

fn span(line: &Line<'_>) -> Span {
    let content = line.content();
    let start = content.len() - content.trim_start().len();
    Span {
        start: Position { line: line.number, column: line.column(start) },
        end: Position { line: line.number, column: line.column(content.len()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> (Directives, Vec<String>) {
        let mut diagnostics = Vec::new();
        let directives = read(text, &mut diagnostics);
        (directives, diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect())
    }

    #[test]
    fn directives_stand_only_at_the_top() {
        assert_eq!(read_all("# escape=`\nFROM x").0.escape, '`');
        assert_eq!(read_all("#EsCaPe = `  \nFROM x").0.escape, '`');
        for hidden in ["\n# escape=`", "# note\n# escape=`", "# other=1\n# escape=`", "FROM x\n# escape=`"] {
            assert_eq!(read_all(hidden).0.escape, '\\', "{hidden:?}");
        }
    }

    #[test]
    fn repeated_and_wrong_directives_are_all_reported() {
        let (directives, messages) = read_all("# escape=x\n# escape=`\n# check=nope\n# syntax=a/b\nFROM x");
        assert_eq!(directives.syntax.unwrap().value, "a/b");
        assert_eq!(
            messages,
            [
                "invalid escape token 'x' does not match ` or \\",
                "only one escape parser directive can be used",
                "invalid check option \"nope\"",
            ]
        );
    }

    #[test]
    fn check_options_are_read() {
        let check = read_all("# check=skip=A, B;error=true\n").0.check;
        assert_eq!((check.skip.as_slice(), check.error), (["A".to_owned(), "B".to_owned()].as_slice(), true));
        assert!(check.skips("B") && !check.skips("C"));
        assert!(read_all("# check=skip=all\n").0.check.skips("C"));
    }

    #[test]
    fn a_shebang_hides_escape_alone() {
        let (directives, _) = read_all("#!/usr/bin/env x\n# syntax=a\n# escape=`\nFROM x");
        assert_eq!((directives.syntax.is_some(), directives.escape), (true, '\\'));
    }
}
