//! Names that stages should not have.

use std::collections::BTreeSet;

use super::{Findings, Reach, Rule, in_stages, quoted};
use crate::Parsed;

/// Two stages of one name.
pub static DUPLICATE_STAGE_NAME: Rule = Rule {
    name: "DuplicateStageName",
    description: "Stage names should be unique",
    format: "Duplicate stage name {}, stage names should be unique",
    help: "give each stage a name of its own; the later one hides the earlier",
    experimental: false,
    reach: Reach::File,
    bad: "FROM scratch AS base\nFROM scratch AS base\n",
    good: "FROM scratch AS base\nFROM scratch AS next\n",
};

/// A stage whose name means something else.
pub static RESERVED_STAGE_NAME: Rule = Rule {
    name: "ReservedStageName",
    description: "Reserved words should not be used as stage names",
    format: "Stage name should not use the same name as reserved stage {}",
    help: "choose another name: `scratch` is the empty image, and `context` the build context",
    experimental: false,
    reach: Reach::File,
    bad: "FROM alpine AS scratch\n",
    good: "FROM alpine AS builder\n",
};

const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(parsed: &Parsed, findings: &mut Findings<'_>) {
    let mut seen = BTreeSet::new();
    for instruction in in_stages(parsed).iter().filter(|instruction| instruction.keyword == "FROM") {
        let Some(name) = instruction.from_clause().ok().and_then(|from| from.name) else { continue };
        if RESERVED.contains(&name.text.as_str()) {
            findings.report(&RESERVED_STAGE_NAME, instruction, &[&quoted(&name.text)]);
        }
        if seen.contains(&name.text) {
            findings.report(&DUPLICATE_STAGE_NAME, instruction, &[&quoted(&name.text)]);
        }
        seen.insert(name.text);
    }
}
