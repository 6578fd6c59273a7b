//! The tags that were asked for, or `latest`.

use cofferdam_plugin_sdk::{
    TagPolicy,
    tags::{self, Decision, Error, Facts, Requested, push, unknown_option},
};

/// The policy.
pub struct Explicit;

cofferdam_plugin_sdk::export_tags!(crate::Explicit);

impl TagPolicy for Explicit {
    fn decide(_facts: &Facts, requested: &Requested) -> Result<Decision, Error> {
        if let Some(option) = requested.options.first() {
            return Err(unknown_option("tags-explicit", &option.key, "it takes no options"));
        }
        let mut tags = Vec::new();
        tags::add(&mut tags, requested.tags.iter().cloned())?;
        if tags.is_empty() {
            tags.push("latest".to_owned());
        }
        Ok(push(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::diagnostics::{KeyValue, Timestamp};

    fn decide(tags: &[&str], options: &[&str]) -> Result<Decision, Error> {
        let date = Timestamp { seconds: 0, nanoseconds: 0 };
        let facts = Facts { git: None, ci: None, date, digest: None, published: Vec::new() };
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
        assert_eq!(decide(&["b", "a", "b"], &[]).unwrap(), push(vec!["b".into(), "a".into()]));
        assert_eq!(decide(&[], &[]).unwrap(), push(vec!["latest".into()]));
    }

    #[test]
    fn what_no_registry_takes_is_an_error() {
        assert!(decide(&["ok", "not/ok"], &[]).is_err());
        assert!(decide(&["ok"], &["short"]).is_err());
    }
}
