//! Forms of former times: MAINTAINER, `ENV KEY VALUE`, blank lines inside an instruction.

use super::{Findings, Reach, Rule, in_stages};
use crate::Parsed;

/// A blank line in a continued instruction. The parser reports it, as it alone sees the lines.
pub static NO_EMPTY_CONTINUATION: Rule = Rule {
    name: "NoEmptyContinuation",
    description: "Empty continuation lines will become errors in a future release",
    format: "Empty continuation line",
    help: "remove the blank lines inside the instruction",
    experimental: false,
    reach: Reach::File,
    bad: "FROM scratch\nUSER \\\n\n  app\n",
    good: "FROM scratch\nUSER \\\n  app\n",
};

/// MAINTAINER.
pub static MAINTAINER_DEPRECATED: Rule = Rule {
    name: "MaintainerDeprecated",
    description: "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    format: "Maintainer instruction is deprecated in favor of using label",
    help: "write `LABEL org.opencontainers.image.authors=…`",
    experimental: false,
    reach: Reach::File,
    bad: "FROM scratch\nMAINTAINER me@example.org\n",
    good: "FROM scratch\nLABEL org.opencontainers.image.authors=me@example.org\n",
};

/// `ENV KEY VALUE`.
pub static LEGACY_KEY_VALUE_FORMAT: Rule = Rule {
    name: "LegacyKeyValueFormat",
    description: "Legacy key/value format with whitespace separator should not be used",
    format: "\"{} key=value\" should be used instead of legacy \"{} key value\" format",
    help: "put a `=` behind the name, and quotes round a value that has blanks",
    experimental: false,
    reach: Reach::Stage,
    bad: "FROM scratch\nENV DIR /app\n",
    good: "FROM scratch\nENV DIR=/app\n",
};

pub(super) fn check(parsed: &Parsed, findings: &mut Findings<'_>) {
    for instruction in in_stages(parsed) {
        match instruction.keyword.as_str() {
            "MAINTAINER" => findings.report(&MAINTAINER_DEPRECATED, instruction, &[]),
            "ENV" | "LABEL" if instruction.pairs().is_ok_and(|pairs| pairs.iter().any(|pair| pair.legacy)) => {
                let keyword = instruction.spelling.as_str();
                findings.report(&LEGACY_KEY_VALUE_FORMAT, instruction, &[keyword, keyword]);
            }
            _ => {}
        }
    }
}
