//! Instructions of which only the last one of a stage counts.

use std::collections::BTreeMap;

use super::{Findings, Reach, Rule, in_stages};
use crate::{Instruction, Parsed};

/// A CMD that another one follows. The place is the one that has no effect.
pub static MULTIPLE_INSTRUCTIONS_DISALLOWED: Rule = Rule {
    name: "MultipleInstructionsDisallowed",
    description: "Multiple instructions of the same type should not be used in the same stage",
    format: "Multiple {} instructions should not be used in the same stage because only the last one will be used",
    help: "remove it: the later one of the stage replaces it",
    experimental: false,
    reach: Reach::Stage,
    bad: "FROM scratch\nCMD [\"/first\"]\nCMD [\"/second\"]\n",
    good: "FROM scratch\nCMD [\"/second\"]\n",
};

pub(super) fn check(parsed: &Parsed, findings: &mut Findings<'_>) {
    let mut last: BTreeMap<&str, &Instruction> = BTreeMap::new();
    for instruction in in_stages(parsed) {
        match instruction.keyword.as_str() {
            "FROM" => last.clear(),
            keyword @ ("CMD" | "ENTRYPOINT" | "HEALTHCHECK") => {
                if let Some(earlier) = last.insert(keyword, instruction) {
                    let values = [instruction.spelling.as_str()];
                    findings.report_at(&MULTIPLE_INSTRUCTIONS_DISALLOWED, instruction, earlier.span, &values);
                }
            }
            _ => {}
        }
    }
}
