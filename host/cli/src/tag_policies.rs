//! Tagging policies on the command line: which ones decide, and by what options.

use clap::Args;
use cofferdam_engine::{KeyValue, PolicyUse};

use crate::request::{Result, UsageError, form};

/// Who decides the tags.
#[derive(Debug, Args, Clone, Default)]
pub struct TagPolicyArguments {
    /// Policy that decides the tags, with its options: `git` or `git:short=true,default-branch=main`; may be repeated,
    /// the result is the union and any refusal wins [default: explicit]
    #[arg(long = "tag-policy", value_name = "POLICY[:KEY=VALUE,…]")]
    policies: Vec<String>,

    /// Option of a policy whose value is taken as it is, with its commas and lines:
    /// `metadata:tags=type=semver,pattern={{version}}`; may be repeated
    #[arg(long = "tag-option", value_name = "POLICY:KEY=VALUE")]
    options: Vec<String>,
}

impl TagPolicyArguments {
    /// One policy, which may have options behind its name.
    pub fn of(policy: String) -> Self {
        Self { policies: vec![policy], options: Vec::new() }
    }

    /// The policies with their options, in the order of the command line.
    ///
    /// # Errors
    /// A text has another form, or an option is for a policy that is not asked.
    pub fn uses(&self) -> Result<Vec<PolicyUse>> {
        let mut uses = self.policies.iter().map(|text| policy(text)).collect::<Result<Vec<_>>>()?;
        for text in &self.options {
            let wrong = || form("--tag-option", text, "POLICY:KEY=VALUE");
            let (name, option) = text.split_once(':').ok_or_else(wrong)?;
            let option = key_value(option).ok_or_else(wrong)?;
            let short = |name: &str| name.trim_start_matches("tags-").to_owned();
            let Some(used) = uses.iter_mut().find(|used| short(&used.name) == short(name)) else {
                let text =
                    format!("`--tag-option {name}:…` is for a policy that is not asked: add `--tag-policy {name}`");
                return Err(UsageError::Combination(text));
            };
            used.options.push(option);
        }
        Ok(uses)
    }
}

fn policy(text: &str) -> Result<PolicyUse> {
    let (name, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options.split(',').filter(|option| !option.is_empty()).map(key_value).collect::<Option<Vec<_>>>();
    match options {
        Some(options) if !name.is_empty() => Ok(PolicyUse { name: name.to_owned(), options }),
        _ => Err(form("--tag-policy", text, "NAME or NAME:KEY=VALUE,…")),
    }
}

fn key_value(text: &str) -> Option<KeyValue> {
    let (key, value) = text.split_once('=')?;
    (!key.is_empty()).then(|| KeyValue { key: key.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(policies: &[&str], options: &[&str]) -> Result<Vec<PolicyUse>> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        TagPolicyArguments { policies: owned(policies), options: owned(options) }.uses()
    }

    #[test]
    fn policies_take_options() {
        let policy = &uses(&["git:short=true,default-branch=trunk"], &[]).unwrap()[0];
        assert_eq!((policy.name.as_str(), policy.options.len()), ("git", 2));
        assert!(uses(&["git:short"], &[]).is_err());
    }

    #[test]
    fn long_options_are_taken_as_they_are() {
        let rules = "tags-metadata:tags=type=ref,event=branch\ntype=sha";
        let used = &uses(&["git", "metadata"], &[rules]).unwrap()[1];
        assert_eq!(used.options[0].value, "type=ref,event=branch\ntype=sha");
        for wrong in ["metadata", "metadata:tags", "semver:latest=false", "metadata:=x"] {
            assert!(uses(&["metadata"], &[wrong]).is_err(), "{wrong}");
        }
    }
}
