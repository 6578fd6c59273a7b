//! What the language itself says of a file, without any handler: findings that need no network and no image.

use crate::forms::error;
use crate::instruction::KEYWORDS;
use crate::{Diagnostic, Instruction, Parsed, Severity, lint, suggest};

/// How many findings are kept; one more says that there were others.
pub const MAX_DIAGNOSTICS: usize = 500;

/// How many findings are made before the search ends, so that a file of nothing but faults can't fill the memory.
const MAX_COLLECTED: usize = 10_000;

/// All findings about a file: those of the parsing, those of each instruction's syntax, and those of the lint rules that
/// need no more than the text, in the order of the file, each once, without the warnings that `# check=skip=…` names.
///
/// `keywords` are those that a handler claims beside FROM and ARG, in upper case; a keyword outside them is an error.
/// Flags are their handlers' business, except those of FROM.
pub fn check(parsed: &Parsed, keywords: &[&str]) -> Vec<Diagnostic> {
    let mut diagnostics = parsed.diagnostics.clone();
    let mut checker = Checker { keywords, in_stage: false, diagnostics: &mut diagnostics };
    for instruction in &parsed.instructions {
        if checker.diagnostics.len() < MAX_COLLECTED {
            checker.instruction(instruction);
        }
    }
    if let (false, Some(last)) = (checker.in_stage, parsed.instructions.last()) {
        checker.missing_from(last);
    }
    diagnostics.extend(lint::text(parsed, keywords));
    diagnostics.retain(|finding| finding.severity == Severity::Error || !parsed.directives.check.skips(&finding.code));
    in_order(diagnostics)
}

/// Findings in the order of the file, each once, and not more than [`MAX_DIAGNOSTICS`].
pub fn in_order(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by(|one, other| {
        (one.span, one.severity, &one.code, &one.message).cmp(&(
            other.span,
            other.severity,
            &other.code,
            &other.message,
        ))
    });
    diagnostics.dedup();
    if diagnostics.len() > MAX_DIAGNOSTICS {
        // Errors must not vanish behind warnings.
        let mut errors = diagnostics.iter().filter(|finding| finding.severity == Severity::Error).count();
        let others = diagnostics.len() - MAX_DIAGNOSTICS;
        let mut warnings = MAX_DIAGNOSTICS.saturating_sub(errors);
        errors = errors.min(MAX_DIAGNOSTICS);
        diagnostics.retain(|finding| {
            let left = if finding.severity == Severity::Error { &mut errors } else { &mut warnings };
            let keep = *left > 0;
            *left = left.saturating_sub(1);
            keep
        });
        diagnostics.push(Diagnostic {
            severity: Severity::Note,
            code: "TooManyDiagnostics".to_owned(),
            message: format!("{others} further findings are not shown"),
            span: None,
            help: None,
        });
    }
    diagnostics
}

struct Checker<'a> {
    keywords: &'a [&'a str],
    in_stage: bool,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn instruction(&mut self, instruction: &Instruction) {
        let keyword = instruction.keyword.as_str();
        if keyword == "FROM" {
            self.in_stage = true;
            return self.diagnostics.extend(instruction.from_clause().err().into_iter().flatten());
        }
        if !self.is_known(keyword) {
            self.unknown(instruction);
        } else if !self.in_stage && keyword != "ARG" {
            // Once is enough: everything up to the next FROM has the same fault.
            self.missing_from(instruction);
        }
        self.form(instruction);
    }

    /// The faults that the arguments of the reference's own instructions can have, whoever handles them.
    fn form(&mut self, instruction: &Instruction) {
        let wrong = match instruction.keyword.as_str() {
            "ARG" => {
                let flags = instruction.flags.iter().map(|flag| {
                    let message = format!("unknown flag: --{}", flag.name);
                    error("UnknownFlag", message, flag.span, "ARG has no flags")
                });
                flags.chain(instruction.arg_declarations().err().into_iter().flatten()).collect()
            }
            "ENV" | "LABEL" => instruction.pairs().err().unwrap_or_default(),
            "ADD" | "COPY" | "VOLUME" => instruction.list().err().into_iter().collect(),
            "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" => instruction.command().err().into_iter().collect(),
            "HEALTHCHECK" => instruction.healthcheck().err().into_iter().collect(),
            "ONBUILD" => match instruction.trigger() {
                Ok(trigger) => {
                    if !self.is_known(&trigger.keyword) {
                        self.unknown(&trigger);
                    }
                    return self.form(&trigger);
                }
                Err(wrong) => wrong,
            },
            _ => Vec::new(),
        };
        if wrong.is_empty() {
            self.almost_json(instruction);
        }
        self.diagnostics.extend(wrong);
    }

    /// Brackets and quotes round the whole text, and yet no JSON: taken for the other form, which nobody means.
    fn almost_json(&mut self, instruction: &Instruction) {
        const WITH_JSON_FORM: [&str; 7] = ["ADD", "COPY", "VOLUME", "RUN", "CMD", "ENTRYPOINT", "SHELL"];
        let text = instruction.text.as_str();
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default().trim();
        let quoted = inner.starts_with(['"', '\'', '\u{201c}']) && inner.ends_with(['"', '\'', '\u{201d}', ',']);
        if quoted && WITH_JSON_FORM.contains(&instruction.keyword.as_str()) && !instruction.is_json() {
            self.diagnostics.push(Diagnostic {
                severity: Severity::Warning,
                code: "InvalidJsonForm".to_owned(),
                message: format!(
                    "{} looks like a JSON array but is none, so the brackets are text",
                    instruction.keyword
                ),
                span: Some(instruction.text.whole()),
                help: Some("use double quotes, commas between the elements, and `\\\\` for a backslash".to_owned()),
            });
        }
    }

    fn is_known(&self, keyword: &str) -> bool {
        matches!(keyword, "FROM" | "ARG") || self.keywords.contains(&keyword)
    }

    fn unknown(&mut self, instruction: &Instruction) {
        let mut options: Vec<&str> = self.keywords.iter().copied().chain(["FROM", "ARG"]).collect();
        options.sort_unstable();
        let meant = suggest::closest(&instruction.keyword, &options).map(|meant| {
            let lower = instruction.spelling.chars().all(|letter| !letter.is_uppercase());
            if lower { meant.to_lowercase() } else { meant.to_owned() }
        });
        let hint = meant.as_ref().map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
        let help = match meant {
            Some(meant) => format!("write {meant}, or load a plugin that claims {}", instruction.keyword),
            None if KEYWORDS.contains(&instruction.keyword.as_str()) => {
                format!("load a plugin that claims {}", instruction.keyword)
            }
            None => format!(
                "load a plugin that claims {}, or end the line before with `{}` if it belongs to that",
                instruction.keyword, instruction.escape
            ),
        };
        let message = format!("unknown instruction: {}{hint}", instruction.spelling);
        self.diagnostics.push(error("UnknownInstruction", message, instruction.keyword_span, &help));
    }

    fn missing_from(&mut self, instruction: &Instruction) {
        self.in_stage = true;
        let message = "no build stage in current context".to_owned();
        let help = "begin with FROM and the name of an image; only ARG may stand before it";
        self.diagnostics.push(error("MissingFrom", message, instruction.span, help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn codes(text: &str) -> Vec<(u32, String)> {
        let keywords: Vec<&str> = KEYWORDS.into_iter().filter(|keyword| !["FROM", "ARG"].contains(keyword)).collect();
        let found = check(&parse(text.as_bytes()), &keywords).into_iter();
        found.map(|finding| (finding.span.map_or(0, |span| span.start.line), finding.code)).collect()
    }

    fn at(line: u32, code: &str) -> (u32, String) {
        (line, code.to_owned())
    }

    #[test]
    fn all_mistakes_come_at_once_and_in_order() {
        let text = "ARG A\nRUN x\nFROM a AS b\nRUNN y\nENV A\nFROM c AS B\nCMD [1]\nONBUILD FROM x\nCOPY <<E /f\n";
        assert_eq!(
            codes(text),
            [
                at(2, "MissingFrom"),
                at(4, "UnknownInstruction"),
                at(5, "MissingArgument"),
                at(6, "DuplicateStageName"),
                at(6, "StageNameCasing"),
                at(7, "InvalidJsonForm"),
                at(8, "InvalidTrigger"),
                at(9, "UnterminatedHeredoc"),
            ]
        );
    }

    #[test]
    fn a_correct_file_has_no_findings() {
        let text = "# check=error=true\nARG V=1\nFROM a:$V AS b\nRUN [ -f x ] && echo ['a']\nRUN [\"a\"]\nCMD []\n";
        assert_eq!(codes(text), []);
    }

    #[test]
    fn a_file_without_a_stage_is_an_error() {
        assert_eq!(codes("ARG A\n"), [at(1, "MissingFrom")]);
        assert_eq!(codes("# nothing\n"), [at(0, "EmptyFile")]);
    }

    #[test]
    fn custom_keywords_are_known_and_slips_are_explained() {
        let parsed = parse(b"FROM a\nTEMPLATE <<E x\nhi\nE\nONBUILD TEMPLAT y\ncpoy a b\n");
        let found = check(&parsed, &["COPY", "TEMPLATE", "ONBUILD"]);
        let messages: Vec<_> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(
            messages,
            ["unknown instruction: TEMPLAT (did you mean TEMPLATE?)", "unknown instruction: cpoy (did you mean copy?)"]
        );
    }

    #[test]
    fn warnings_can_be_skipped_and_errors_not() {
        let text = "# check=skip=all\nFROM a AS b\nFROM a AS b\nCMD ['a']\nNOPE\n";
        assert_eq!(codes(text), [at(5, "UnknownInstruction")]);
        assert_eq!(
            codes(&text.replace("all", "DuplicateStageName")),
            [at(4, "InvalidJsonForm"), at(5, "UnknownInstruction")]
        );
    }

    #[test]
    fn a_flood_of_findings_is_cut_and_errors_survive() {
        let text = format!("FROM a\n{}NOPE\n", "CMD ['a']\n".repeat(1000));
        let found = codes(&text);
        assert_eq!(found.len(), MAX_DIAGNOSTICS + 1);
        assert!(found.contains(&at(1002, "UnknownInstruction")));
        assert_eq!(found.last().unwrap().1, "TooManyDiagnostics");
    }
}
