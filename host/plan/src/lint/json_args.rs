//! CMD and ENTRYPOINT whose program is a shell, which passes no signals on.

use cofferdam_dockerfile::{
    Instruction,
    lint::{Findings, Reach, Rule},
};

use crate::Config;

/// The shell form, where nobody chose the shell.
pub static JSON_ARGS_RECOMMENDED: Rule = Rule {
    name: "JSONArgsRecommended",
    description: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    format: "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
    help: "write `[\"program\", \"argument\"]`, or choose the shell with SHELL if it is meant",
    experimental: false,
    reach: Reach::Stage,
    bad: "FROM scratch\nCMD /app --serve\n",
    good: "FROM scratch\nCMD [\"/app\", \"--serve\"]\n",
};

pub(super) fn check(instruction: &Instruction, config: &Config, findings: &mut Findings<'_>) {
    if !instruction.is_json() && config.shell.as_ref().is_none_or(Vec::is_empty) {
        findings.report(&JSON_ARGS_RECOMMENDED, instruction, &[&instruction.spelling]);
    }
}
