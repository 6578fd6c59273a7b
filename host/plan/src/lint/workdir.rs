//! WORKDIR below a directory that the base image chose.

use cofferdam_dockerfile::{
    Instruction,
    lint::{Findings, Reach, Rule, quoted},
};

/// A relative path with nothing of this Dockerfile that it is relative to.
pub static WORKDIR_RELATIVE_PATH: Rule = Rule {
    name: "WorkdirRelativePath",
    description: "Relative workdir without an absolute workdir declared within the build can have unexpected results if \
                  the base image changes",
    format: "Relative workdir {} can have unexpected results if the base image changes",
    help: "begin the path with a slash",
    experimental: false,
    reach: Reach::Stage,
    bad: "FROM scratch\nWORKDIR app\n",
    good: "FROM scratch\nWORKDIR /app\n",
};

/// Only the first WORKDIR of a stage: with it, all are mended.
pub(super) fn check(instruction: &Instruction, path: &str, is_first: bool, findings: &mut Findings<'_>) {
    if is_first && !path.starts_with('/') {
        findings.report(&WORKDIR_RELATIVE_PATH, instruction, &[&quoted(path)]);
    }
}
