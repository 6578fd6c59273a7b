//! Lint: what is allowed and yet seldom meant. Names, messages and lines are those of BuildKit's checks, so that what is
//! known of one builder is known of the other.
//!
//! A [`Rule`] is a value: its name, what it is about, the form of its message, what to do, and an example of each kind.
//! `docs/lint.md` is made from these values. Here are the rules that the text alone decides; those that need variables,
//! an ignore file or a base image are in `cofferdam-plan`, and report through the same [`Findings`].

mod casing;
mod description;
mod forms;
mod once;
mod secrets;
mod stages;

use std::fmt::Write;

use crate::directive::CheckOptions;
use crate::{Diagnostic, Instruction, Parsed, Severity, Span};

pub use casing::{CONSISTENT_INSTRUCTION_CASING, FROM_AS_CASING, STAGE_NAME_CASING};
pub use description::INVALID_DEFINITION_DESCRIPTION;
pub use forms::{LEGACY_KEY_VALUE_FORMAT, MAINTAINER_DEPRECATED, NO_EMPTY_CONTINUATION};
pub use once::MULTIPLE_INSTRUCTIONS_DISALLOWED;
pub use secrets::SECRETS_USED_IN_ARG_OR_ENV;
pub use stages::{DUPLICATE_STAGE_NAME, RESERVED_STAGE_NAME};

/// One thing that is looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable, in CamelCase: what `# check=skip=` names.
    pub name: &'static str,
    /// One sentence without a full stop.
    pub description: &'static str,
    /// The message; `{}` stands for each of the values.
    pub format: &'static str,
    /// What to do about it.
    pub help: &'static str,
    /// Only looked for if `# check=experimental=` asks for it.
    pub experimental: bool,
    /// Where it is looked for.
    pub reach: Reach,
    /// A Dockerfile with the fault.
    pub bad: &'static str,
    /// The same without.
    pub good: &'static str,
}

/// Where a rule is looked for in a build; a check looks everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In the whole file.
    File,
    /// In the stages that are built.
    Stage,
}

/// The rules that the text alone decides.
pub static RULES: [&Rule; 11] = [
    &STAGE_NAME_CASING,
    &FROM_AS_CASING,
    &NO_EMPTY_CONTINUATION,
    &CONSISTENT_INSTRUCTION_CASING,
    &DUPLICATE_STAGE_NAME,
    &RESERVED_STAGE_NAME,
    &MAINTAINER_DEPRECATED,
    &MULTIPLE_INSTRUCTIONS_DISALLOWED,
    &LEGACY_KEY_VALUE_FORMAT,
    &SECRETS_USED_IN_ARG_OR_ENV,
    &INVALID_DEFINITION_DESCRIPTION,
];

impl Rule {
    /// The page that Docker's documentation has on the rule.
    pub fn url(&self) -> String {
        let mut slug = String::new();
        let letters: Vec<char> = self.name.chars().collect();
        for (index, letter) in letters.iter().enumerate() {
            // A word begins at a capital behind a small letter, and at the last capital of several.
            let after_small = index > 0 && letters[index - 1].is_lowercase();
            let before_small = index > 0 && letters.get(index + 1).is_some_and(|next| next.is_lowercase());
            if letter.is_uppercase() && (after_small || before_small) {
                slug.push('-');
            }
            slug.extend(letter.to_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{slug}/")
    }

    /// The message with its values.
    pub fn message(&self, values: &[&str]) -> String {
        let mut parts = self.format.split("{}");
        let mut message = parts.next().unwrap_or_default().to_owned();
        for (index, part) in parts.enumerate() {
            message.push_str(values.get(index).unwrap_or(&""));
            message.push_str(part);
        }
        message
    }

    /// A finding.
    pub fn finding(&self, span: Span, values: &[&str]) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            code: self.name.to_owned(),
            message: self.message(values),
            span: Some(span),
            help: Some(self.help.to_owned()),
        }
    }
}

/// A text in double quotes, as the messages have it.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if letter.is_ascii_control() => {
                write!(quoted, "\\x{:02x}", letter as u32).expect("writing to a string does not fail");
            }
            _ => quoted.push(letter),
        }
    }
    quoted + "\""
}

/// Collects findings, without those that are not wanted.
#[derive(Debug)]
pub struct Findings<'a> {
    options: &'a CheckOptions,
    found: Vec<Diagnostic>,
}

impl<'a> Findings<'a> {
    /// Nothing found yet; `options` are those of the file.
    pub fn new(options: &'a CheckOptions) -> Self {
        Self { options, found: Vec::new() }
    }

    /// Notes that a rule applies to an instruction.
    pub fn report(&mut self, rule: &Rule, instruction: &Instruction, values: &[&str]) {
        self.report_at(rule, instruction, instruction.span, values);
    }

    /// Notes that a rule applies at a place; the comments of `instruction` may refuse it.
    pub fn report_at(&mut self, rule: &Rule, instruction: &Instruction, span: Span, values: &[&str]) {
        if self.wanted(rule, instruction) {
            self.found.push(rule.finding(span, values));
        }
    }

    /// Adds a finding that was made otherwise.
    pub fn push(&mut self, rule: &Rule, instruction: &Instruction, finding: Diagnostic) {
        if self.wanted(rule, instruction) {
            self.found.push(finding);
        }
    }

    /// All that was found.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.found
    }

    fn wanted(&self, rule: &Rule, instruction: &Instruction) -> bool {
        let here = instruction.check_options();
        let either = |test: &dyn Fn(&CheckOptions) -> bool| test(self.options) || here.as_ref().is_some_and(test);
        !either(&|options| options.skips(rule.name)) && (!rule.experimental || either(&|one| one.tries(rule.name)))
    }
}

impl Instruction {
    /// The comments in the lines right above, in the order of the text.
    pub fn comments_above(&self) -> &[crate::Comment] {
        let mut line = self.span.start.line;
        let mut first = self.comments.len();
        while first > 0 && self.comments[first - 1].line + 1 == line {
            line -= 1;
            first -= 1;
        }
        &self.comments[first..]
    }

    /// `# check=…` in the lines right above: options for this instruction. The first one counts; what follows a blank is
    /// a remark.
    fn check_options(&self) -> Option<CheckOptions> {
        let value = self.comments_above().iter().find_map(|comment| {
            let (name, value) = comment.text.split_once('=')?;
            name.trim_end().eq_ignore_ascii_case("check").then(|| value.trim_start())
        })?;
        CheckOptions::parse(value.split(' ').next().unwrap_or_default()).ok()
    }
}

/// What the rules of [`RULES`] find in a file, except what the parser has found already. `keywords` are those that a handler
/// claims.
pub fn text(parsed: &Parsed, keywords: &[&str]) -> Vec<Diagnostic> {
    let mut findings = Findings::new(&parsed.directives.check);
    casing::check(parsed, keywords, &mut findings);
    stages::check(parsed, &mut findings);
    forms::check(parsed, &mut findings);
    once::check(parsed, &mut findings);
    secrets::check(parsed, &mut findings);
    description::check(parsed, &mut findings);
    findings.into_vec()
}

/// The instructions of stages: those from the first FROM on.
fn in_stages(parsed: &Parsed) -> &[Instruction] {
    let first = parsed.instructions.iter().position(|instruction| instruction.keyword == "FROM");
    &parsed.instructions[first.unwrap_or(parsed.instructions.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KEYWORDS, check, parse};

    fn found(text: &str) -> Vec<(u32, String)> {
        let found = check(&parse(text.as_bytes()), &KEYWORDS).into_iter();
        found.map(|finding| (finding.span.map_or(0, |span| span.start.line), finding.code)).collect()
    }

    #[test]
    fn each_rule_finds_its_bad_example_and_passes_its_good_one() {
        for rule in RULES {
            let names: Vec<String> = found(rule.bad).into_iter().map(|(_, code)| code).collect();
            assert!(!names.is_empty() && names.iter().all(|name| name == rule.name), "{}: {names:?}", rule.name);
            assert_eq!(found(rule.good), [], "{}", rule.name);
        }
    }

    #[test]
    fn pages_have_the_rules_name_in_small_words() {
        assert!(STAGE_NAME_CASING.url().ends_with("/stage-name-casing/"));
        let rule = Rule { name: "JSONArgsRecommended", ..STAGE_NAME_CASING };
        assert!(rule.url().ends_with("/json-args-recommended/"));
    }

    #[test]
    fn a_comment_above_an_instruction_speaks_for_that_one_alone() {
        let text = "FROM a\n# note\n# check=skip=LegacyKeyValueFormat // old\nENV a b\nENV c d\n\
                    # check=skip=LegacyKeyValueFormat\n\nENV e f\n# check=skip=all\nENV g h\n";
        let legacy = |line| (line, "LegacyKeyValueFormat".to_owned());
        assert_eq!(found(text), [legacy(5), legacy(8)]);
    }

    #[test]
    fn experimental_rules_are_asked_for() {
        let text = "# other\nFROM a AS b\n";
        assert_eq!(found(&format!("\n{text}")), []);
        for option in ["experimental=all", "skip=X;experimental=InvalidDefinitionDescription"] {
            assert_eq!(found(&format!("# check={option}\n\n{text}")).len(), 1, "{option}");
        }
    }
}
