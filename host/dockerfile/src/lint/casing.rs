//! Capitals and small letters: of stage names, of `AS`, of keywords.

use super::{Findings, Reach, Rule, in_stages};
use crate::{KEYWORDS, Parsed};

/// `FROM x AS Name`.
pub static STAGE_NAME_CASING: Rule = Rule {
    name: "StageNameCasing",
    description: "Stage names should be lowercase",
    format: "Stage name '{}' should be lowercase",
    help: "write the name in small letters: stages are compared without regard to case",
    experimental: false,
    reach: Reach::File,
    bad: "FROM scratch AS Base\n",
    good: "FROM scratch AS base\n",
};

/// `FROM x as name`.
pub static FROM_AS_CASING: Rule = Rule {
    name: "FromAsCasing",
    description: "The 'as' keyword should match the case of the 'from' keyword",
    format: "'{}' and '{}' keywords' casing do not match",
    help: "write both in capitals or both in small letters",
    experimental: false,
    reach: Reach::File,
    bad: "FROM scratch as base\n",
    good: "from scratch as base\n",
};

/// `RUN` and `run` in one file.
pub static CONSISTENT_INSTRUCTION_CASING: Rule = Rule {
    name: "ConsistentInstructionCasing",
    description: "All commands within the Dockerfile should use the same casing (either upper or lower)",
    format: "Command '{}' should match the case of the command majority ({})",
    help: "write all keywords in capitals, or all in small letters",
    experimental: false,
    reach: Reach::File,
    bad: "FROM scratch\nUser app\n",
    good: "FROM scratch\nUSER app\n",
};

fn is_lower(text: &str) -> bool {
    !text.chars().any(char::is_uppercase)
}

fn is_upper(text: &str) -> bool {
    !text.chars().any(char::is_lowercase)
}

pub(super) fn check(parsed: &Parsed, keywords: &[&str], findings: &mut Findings<'_>) {
    // A keyword that nobody knows has a fault already.
    let known = |keyword: &str| KEYWORDS.contains(&keyword) || keywords.contains(&keyword);
    let counted: Vec<_> = in_stages(parsed).iter().filter(|instruction| known(&instruction.keyword)).collect();
    let lower = counted.iter().filter(|instruction| is_lower(&instruction.spelling)).count();
    let upper = counted.iter().filter(|instruction| is_upper(&instruction.spelling)).count();
    let mostly_lower = lower > upper;
    for instruction in counted {
        let spelling = instruction.spelling.as_str();
        if instruction.keyword == "FROM"
            && let Ok(from) = instruction.from_clause()
        {
            if let Some(written) = from.written_name.as_deref().filter(|written| *written != written.to_lowercase()) {
                findings.report(&STAGE_NAME_CASING, instruction, &[written]);
            }
            // A FROM of mixed letters has a warning of its own.
            let matches = |keyword: &str| match (is_lower(spelling), is_upper(spelling)) {
                (true, _) => is_lower(keyword),
                (_, true) => is_upper(keyword),
                _ => true,
            };
            if let Some(keyword) = from.as_keyword.filter(|keyword| !matches(&keyword.text)) {
                findings.report(&FROM_AS_CASING, instruction, &[&keyword.text, spelling]);
            }
        }
        match mostly_lower {
            true if !is_lower(spelling) => {
                findings.report(&CONSISTENT_INSTRUCTION_CASING, instruction, &[spelling, "lowercase"]);
            }
            false if !is_upper(spelling) => {
                findings.report(&CONSISTENT_INSTRUCTION_CASING, instruction, &[spelling, "uppercase"]);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{KEYWORDS, check, parse};

    fn messages(text: &str) -> Vec<String> {
        check(&parse(text.as_bytes()), &KEYWORDS).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn the_majority_decides_and_capitals_win_a_draw() {
        let draw = messages("FROM a\nrun x\n");
        assert_eq!(draw, ["Command 'run' should match the case of the command majority (uppercase)"]);
        let lower = messages("from a\nrun x\nRUN y\nRun z\n");
        assert_eq!(lower.len(), 2);
        assert_eq!(lower[0], "Command 'RUN' should match the case of the command majority (lowercase)");
    }

    #[test]
    fn as_follows_from() {
        assert_eq!(messages("from a AS b\nrun x\n"), ["'AS' and 'from' keywords' casing do not match"]);
        assert_eq!(messages("FROM a As b\n"), ["'As' and 'FROM' keywords' casing do not match"]);
    }

    #[test]
    fn arguments_before_the_first_stage_do_not_count() {
        assert_eq!(messages("arg A\narg B\nFROM a\n"), [""; 0]);
    }
}
