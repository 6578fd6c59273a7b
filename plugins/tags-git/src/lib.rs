//! Tags from the git checkout.
//!
//! | where | tags |
//! | --- | --- |
//! | default branch | commit, `<branch>`, `latest` |
//! | other branches | commit, `<branch>`, `<branch>-dev` |
//! | detached head | commit |
//!
//! Tags that were written out come first and are kept. The branch is written as GitLab's `CI_COMMIT_REF_SLUG`.

use cofferdam_plugin_sdk::{
    TagPolicy,
    tags::{self, Decision, Error, Facts, GitFacts, Requested, push, refused, slug, unknown_option},
};

/// The policy.
pub struct Git;

cofferdam_plugin_sdk::export_tags!(crate::Git);

/// Hexadecimal digits of a shortened commit: enough to stay unique in the largest public repositories.
const SHORT_DIGITS: usize = 12;

impl TagPolicy for Git {
    fn decide(facts: &Facts, requested: &Requested) -> Result<Decision, Error> {
        let options = Options::parse(requested)?;
        let Some(git) = &facts.git else {
            return Ok(refused(
                "the context is not a git checkout, so there is nothing to make tags of",
                "build from a checkout with its `.git`, or use the policy `tags-explicit`",
            ));
        };
        let mut tags = Vec::new();
        tags::add(&mut tags, requested.tags.iter().cloned().chain(of(git, &options)))?;
        Ok(push(tags))
    }
}

#[derive(Default)]
struct Options {
    short: bool,
    default_branch: Option<String>,
}

impl Options {
    fn parse(requested: &Requested) -> Result<Self, Error> {
        let mut options = Self::default();
        for option in &requested.options {
            match (option.key.as_str(), option.value.as_str()) {
                ("short", value) => options.short = tags::boolean("short", value)?,
                ("default-branch", name) if !name.is_empty() => options.default_branch = Some(name.to_owned()),
                (key, _) => {
                    return Err(unknown_option("tags-git", key, "it takes `short=true` and `default-branch=NAME`"));
                }
            }
        }
        Ok(options)
    }
}

fn of(git: &GitFacts, options: &Options) -> Vec<String> {
    let commit = match options.short {
        true => git.commit.chars().take(SHORT_DIGITS).collect(),
        false => git.commit.clone(),
    };
    let mut tags = vec![commit];
    if let Some(branch) = &git.branch {
        let slug = slug(branch);
        // A name without any letter or digit leaves nothing to make a tag of.
        if !slug.is_empty() {
            tags.push(slug.clone());
            match is_default(branch, git, options) {
                true => tags.push("latest".to_owned()),
                false => tags.push(format!("{slug}-dev")),
            }
        }
    }
    tags
}

/// A checkout without a remote does not know its default branch: then it is one of the two usual names.
fn is_default(branch: &str, git: &GitFacts, options: &Options) -> bool {
    match options.default_branch.as_ref().or(git.default_branch.as_ref()) {
        Some(default) => branch == default,
        None => matches!(branch, "main" | "master"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::diagnostics::{KeyValue, Timestamp};

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const NOW: Timestamp = Timestamp { seconds: 0, nanoseconds: 0 };

    fn decide(branch: Option<&str>, default: Option<&str>, tags: &[&str], options: &[(&str, &str)]) -> Vec<String> {
        let git = GitFacts {
            commit: COMMIT.into(),
            branch: branch.map(str::to_owned),
            tags: Vec::new(),
            default_branch: default.map(str::to_owned),
            commit_time: NOW,
            dirty: false,
        };
        match Git::decide(&facts(Some(git)), &requested(tags, options)).unwrap() {
            Decision::Push(naming) => naming.tags,
            Decision::Refused(refusal) => panic!("{}", refusal.reason),
        }
    }

    fn facts(git: Option<GitFacts>) -> Facts {
        Facts { git, ci: None, date: NOW, digest: None, published: Vec::new() }
    }

    fn requested(tags: &[&str], options: &[(&str, &str)]) -> Requested {
        let option = |(key, value): &(&str, &str)| KeyValue { key: (*key).to_owned(), value: (*value).to_owned() };
        Requested {
            repository: "registry.example/x".into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            options: options.iter().map(option).collect(),
        }
    }

    #[test]
    fn the_default_branch_is_latest() {
        assert_eq!(decide(Some("trunk"), Some("trunk"), &[], &[]), [COMMIT, "trunk", "latest"]);
        assert_eq!(decide(Some("main"), None, &[], &[]), [COMMIT, "main", "latest"]);
        assert_eq!(decide(Some("x"), Some("y"), &[], &[("default-branch", "x")]), [COMMIT, "x", "latest"]);
    }

    #[test]
    fn other_branches_are_dev() {
        assert_eq!(decide(Some("feature/A_b"), Some("main"), &[], &[]), [COMMIT, "feature-a-b", "feature-a-b-dev"]);
        assert_eq!(decide(Some("main"), Some("trunk"), &[], &[]), [COMMIT, "main", "main-dev"]);
    }

    #[test]
    fn a_detached_head_has_its_commit_only() {
        assert_eq!(decide(None, Some("main"), &[], &[]), [COMMIT]);
        assert_eq!(decide(None, None, &[], &[("short", "true")]), ["0123456789ab"]);
        assert_eq!(decide(Some("///"), None, &[], &[]), [COMMIT]);
    }

    #[test]
    fn written_tags_are_kept_once() {
        assert_eq!(decide(Some("main"), None, &["v1", "latest"], &[]), ["v1", "latest", COMMIT, "main"]);
    }

    #[test]
    fn without_git_nothing_is_pushed() {
        let decision = Git::decide(&facts(None), &requested(&["v1"], &[])).unwrap();
        assert!(matches!(decision, Decision::Refused(refusal) if refusal.help.is_some()));
    }

    #[test]
    fn misspelt_options_are_errors() {
        for option in [("shrt", "true"), ("short", "yes"), ("default-branch", "")] {
            assert!(Git::decide(&facts(None), &requested(&[], &[option])).is_err(), "{option:?}");
        }
    }
}
