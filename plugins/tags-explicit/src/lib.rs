//! The tags that were asked for, or `latest`.

use cofferdam_plugin_sdk::{
    DiagnosticExt, TagPolicy,
    diagnostics::error,
    tags::{Decision, Error, Facts, Requested, TAG_LIMIT_BYTES, is_valid_tag},
};

/// The policy.
pub struct Explicit;

cofferdam_plugin_sdk::export_tags!(crate::Explicit);

impl TagPolicy for Explicit {
    fn decide(_facts: &Facts, requested: &Requested) -> Result<Decision, Error> {
        if let Some(option) = requested.options.first() {
            let message = format!("the policy `tags-explicit` has no option `{}`", option.key);
            return Err(Error::Invalid(error("UnknownOption", message).help("it takes no options")));
        }
        let mut tags: Vec<String> = Vec::new();
        for tag in &requested.tags {
            if !is_valid_tag(tag) {
                let help = format!(
                    "a tag has letters, digits, `_`, `.` and `-`, does not begin with `.` or `-`, and is at most \
                     {TAG_LIMIT_BYTES} bytes long"
                );
                return Err(Error::Invalid(error("InvalidTag", format!("`{tag}` is not a tag")).help(help)));
            }
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        if tags.is_empty() {
            tags.push("latest".to_owned());
        }
        Ok(Decision::Tags(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::diagnostics::{KeyValue, Timestamp};

    fn decide(tags: &[&str], options: &[&str]) -> Result<Decision, Error> {
        let date = Timestamp { seconds: 0, nanoseconds: 0 };
        let facts = Facts { git: None, ci: None, date, digest: None };
        let option = |key: &&str| KeyValue { key: (*key).to_owned(), value: String::new() };
        let requested = Requested {
            repository: "registry.example/x".into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            options: options.iter().map(option).collect(),
        };
        Explicit::decide(&facts, &requested)
    }

    #[test]
    fn what_was_asked_for_is_what_is_pushed() {
        assert_eq!(decide(&["b", "a", "b"], &[]).unwrap(), Decision::Tags(vec!["b".into(), "a".into()]));
        assert_eq!(decide(&[], &[]).unwrap(), Decision::Tags(vec!["latest".into()]));
    }

    #[test]
    fn what_no_registry_takes_is_an_error() {
        assert!(decide(&["ok", "not/ok"], &[]).is_err());
        assert!(decide(&["ok"], &["short"]).is_err());
    }
}
