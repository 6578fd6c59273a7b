//! Names that only secrets have.

use super::{Findings, Reach, Rule, in_stages, quoted};
use crate::Parsed;

/// `ENV PASSWORD=…`: kept in the image for everybody to read.
pub static SECRETS_USED_IN_ARG_OR_ENV: Rule = Rule {
    name: "SecretsUsedInArgOrEnv",
    description: "Sensitive data should not be used in the ARG or ENV commands",
    format: "Do not use ARG or ENV instructions for sensitive data ({} {})",
    help: "use `RUN --mount=type=secret`: arguments and variables are kept in the image's history and configuration",
    experimental: false,
    reach: Reach::Stage,
    bad: "FROM scratch\nARG API_TOKEN\n",
    good: "FROM scratch\nARG API_TOKEN_FILE\n",
};

/// Words of a name that make it a secret's.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Words that take that back.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let has = |list: &[&str]| name.split('_').any(|word| list.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}

pub(super) fn check(parsed: &Parsed, findings: &mut Findings<'_>) {
    for instruction in in_stages(parsed) {
        let names: Vec<String> = match instruction.keyword.as_str() {
            "ARG" => instruction.arg_declarations().into_iter().flatten().map(|declaration| declaration.name).collect(),
            "ENV" => instruction.pairs().into_iter().flatten().map(|pair| pair.key).collect(),
            _ => continue,
        };
        for name in names.iter().filter(|name| is_secret(name)) {
            findings.report(&SECRETS_USED_IN_ARG_OR_ENV, instruction, &[&instruction.keyword, &quoted(name)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_count_whatever_their_case() {
        for name in ["PASSWORD", "api_key", "Git_Token", "APIKEY", "x_auth_y", "A__Key"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["KEYBOARD", "PUBLIC_KEY", "public_token", "PASSWORD_FILE", "AUTH_VERSION", "monkey", ""] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
