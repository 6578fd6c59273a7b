//! Variables that nothing sets.

use cofferdam_dockerfile::{
    Diagnostic, Instruction, Severity, closest_exactly,
    lint::{Findings, Reach, Rule},
};

/// `$NAME` without ARG or ENV before it.
pub static UNDEFINED_VAR: Rule = Rule {
    name: "UndefinedVar",
    description: "Variables should be defined before their use",
    format: "Usage of undefined variable '${}'{}",
    help: "set it with ENV or ARG above; `ARG NAME` is enough if it may be empty",
    experimental: false,
    reach: Reach::Stage,
    bad: "FROM scratch\nLABEL version=$VERSION\n",
    good: "FROM scratch\nARG VERSION\nLABEL version=$VERSION\n",
};

/// A name that was looked up in vain. `known` are those that are set; `all_known` tells whether the base can set others.
pub(super) fn report<'a>(
    instruction: &Instruction,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    all_known: bool,
    findings: &mut Findings<'_>,
) {
    let hint = closest_exactly(name, known).map(|meant| format!(" (did you mean ${meant}?)")).unwrap_or_default();
    let finding = UNDEFINED_VAR.finding(instruction.span, &[name, &hint]);
    let finding = match all_known {
        true => finding,
        false => Diagnostic {
            severity: Severity::Note,
            help: Some(format!("the base image was not looked at; if its ENV does not set `{name}`, set it above")),
            ..finding
        },
    };
    findings.push(&UNDEFINED_VAR, instruction, finding);
}
