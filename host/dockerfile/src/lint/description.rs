//! Comments that describe arguments and stages: `--call outline` and `--call targets` show them.

use super::{Findings, Reach, Rule};
use crate::{Instruction, Parsed};

/// A comment above ARG or FROM that begins with another word than the name.
pub static INVALID_DEFINITION_DESCRIPTION: Rule = Rule {
    name: "InvalidDefinitionDescription",
    description: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. \
                  If this is not intended to be a description comment, add an empty line or comment between the \
                  instruction and the comment",
    format: "Comment for {} should follow the format: `# {} <description>`",
    help: "begin the comment with the name, or leave an empty line below it",
    experimental: true,
    reach: Reach::File,
    bad: "# check=experimental=InvalidDefinitionDescription\n\n# which one to build\nARG VERSION=1\nFROM scratch\n",
    good: "# check=experimental=InvalidDefinitionDescription\n\n# VERSION which one to build\nARG VERSION=1\n\
           FROM scratch\n",
};

pub(super) fn check(parsed: &Parsed, findings: &mut Findings<'_>) {
    for instruction in &parsed.instructions {
        let names: Vec<String> = match instruction.keyword.as_str() {
            "ARG" => instruction.arg_declarations().into_iter().flatten().map(|declaration| declaration.name).collect(),
            "FROM" => {
                instruction.from_clause().ok().and_then(|from| from.name).into_iter().map(|name| name.text).collect()
            }
            _ => continue,
        };
        let Some(comment) = instruction.comments_above().last().filter(|comment| !comment.text.is_empty()) else {
            continue;
        };
        let first = comment.text.split(' ').next().unwrap_or_default();
        match names.as_slice() {
            [] => {}
            names if names.iter().any(|name| name == first) => {}
            [name] => findings.report(&INVALID_DEFINITION_DESCRIPTION, instruction, &[&instruction.keyword, name]),
            _ => {
                findings.report(&INVALID_DEFINITION_DESCRIPTION, instruction, &[&instruction.keyword, "<arg_key>"]);
            }
        }
    }
}

impl Instruction {
    /// What a comment above the instruction says of a name that it declares.
    pub fn description_of(&self, name: &str) -> Option<&str> {
        let of_name = |text: &'_ str| text.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
        let comment = self.comments_above().iter().find(|comment| of_name(&comment.text))?;
        Some(comment.text[name.len()..].trim())
    }
}
