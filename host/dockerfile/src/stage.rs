//! FROM: the image, the platform, the stage's name.

use serde::Serialize;

use crate::forms::{MAX_FAULTS, error};
use crate::suggest;
use crate::{Diagnostic, Instruction, RawFlag, Word};

/// The arguments of FROM; nothing is expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FromClause {
    /// A stage, a named context, an image, or `scratch`.
    pub image: Word,
    /// `--platform=`.
    pub platform: Option<RawFlag>,
    /// The stage's name in lower case, as it is compared, with the place of the name as written.
    pub name: Option<Word>,
    /// The name as written.
    pub written_name: Option<String>,
    /// The word between image and name as written: `AS`, `as`.
    pub as_keyword: Option<Word>,
}

impl Instruction {
    /// For FROM: `[--platform=…] IMAGE [AS NAME]`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_clause(&self) -> Result<FromClause, Vec<Diagnostic>> {
        let mut wrong = Vec::new();
        for flag in self.flags.iter().take(MAX_FAULTS) {
            if flag.name != "platform" {
                let hint = suggest::closest(&flag.name, &["platform"]).map(|name| format!(" (did you mean {name}?)"));
                let message = format!("unknown flag: --{}{}", flag.name, hint.unwrap_or_default());
                wrong.push(error("UnknownFlag", message, flag.span, "FROM has one flag, `--platform=OS/ARCHITECTURE`"));
            } else if flag.value.is_none() {
                let message = "missing a value on flag: platform".to_owned();
                wrong.push(error("MissingFlagValue", message, flag.span, "write `--platform=OS/ARCHITECTURE`"));
            } else if self.flag("platform") != Some(flag) {
                let message = "flag specified more than once: platform".to_owned();
                wrong.push(error("DuplicateFlag", message, flag.span, "remove one of them"));
            }
        }
        let mut words = self.blank_separated().into_iter();
        let clause = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(image), None, ..) => Some((image, None)),
            (Some(image), Some(keyword), Some(name), None) if keyword.text.eq_ignore_ascii_case("as") => {
                Some((image, Some((keyword, name))))
            }
            _ => {
                let message = "FROM requires either one or three arguments".to_owned();
                wrong.push(error("InvalidFrom", message, self.span, "write `FROM IMAGE` or `FROM IMAGE AS NAME`"));
                None
            }
        };
        if let Some((_, Some((_, name)))) = &clause
            && !is_stage_name(&name.text.to_lowercase())
        {
            let message = format!(
                "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                name.text
            );
            let help = "begin with a letter; letters, digits, `-`, `_` and `.` may follow";
            wrong.push(error("InvalidStageName", message, name.span, help));
        }
        let Some((image, alias)) = clause.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        let (as_keyword, name) = alias.unzip();
        Ok(FromClause {
            image,
            platform: self.flag("platform").cloned(),
            written_name: name.as_ref().map(|name| name.text.clone()),
            name: name.map(|name| Word { text: name.text.to_lowercase(), ..name }),
            as_keyword,
        })
    }
}

/// `[a-z][a-z0-9-_.]*`, for names in lower case.
pub fn is_stage_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|other| matches!(other, 'a'..='z' | '0'..='9' | '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn clause(text: &str) -> Result<FromClause, Vec<String>> {
        let from = parse(text.as_bytes()).instructions.remove(0);
        from.from_clause().map_err(|wrong| wrong.into_iter().map(|wrong| wrong.code).collect())
    }

    #[test]
    fn a_name_is_compared_in_lower_case() {
        let from = clause("FROM --platform=$BUILDPLATFORM golang:1 As Build-1.x").unwrap();
        assert_eq!(from.image.text, "golang:1");
        assert_eq!(from.name.unwrap().text, "build-1.x");
        assert_eq!(from.written_name.as_deref(), Some("Build-1.x"));
        assert_eq!(from.platform.unwrap().value.as_deref(), Some("$BUILDPLATFORM"));
    }

    #[test]
    fn all_faults_of_one_line_are_reported() {
        assert_eq!(
            clause("FROM --plaform=x --platform a AS 1b").unwrap_err(),
            ["UnknownFlag", "MissingFlagValue", "InvalidStageName"]
        );
        for text in ["FROM", "FROM a b", "FROM a b c", "FROM a AS b c"] {
            assert_eq!(clause(text).unwrap_err(), ["InvalidFrom"], "{text}");
        }
        assert_eq!(clause("FROM --platform=a --platform=b x").unwrap_err(), ["DuplicateFlag"]);
    }
}
