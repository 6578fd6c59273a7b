//! What is being built, in the words that every continuous integration system has: a branch, a tag, or a proposal to merge.
//!
//! | system | proposal | tag | branch | default branch |
//! | --- | --- | --- | --- | --- |
//! | GitLab | `CI_MERGE_REQUEST_IID` | `CI_COMMIT_TAG` | `CI_COMMIT_BRANCH` | `CI_DEFAULT_BRANCH` |
//! | GitHub | `GITHUB_REF` | `GITHUB_REF` | `GITHUB_REF` | `event.repository.default_branch` |
//! | Jenkins | `CHANGE_ID` | `TAG_NAME` | `BRANCH_NAME`, `GIT_BRANCH` | |
//!
//! Where no system says it, the checkout does.

use crate::tags::Facts;

/// What is being built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A branch's name.
    Branch(String),
    /// A git tag's name.
    Tag(String),
    /// The number of a pull request or merge request.
    Proposal(String),
}

/// A build's source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// Absent on a detached head that nothing names.
    pub reference: Option<Reference>,
    /// Hexadecimal.
    pub commit: Option<String>,
    /// The repository's default branch, if it is known.
    pub default_branch: Option<String>,
    /// The branch that a proposal is to be merged into.
    pub base: Option<String>,
    /// Whether a schedule started the build.
    pub scheduled: bool,
}

impl Source {
    /// Reads the facts.
    pub fn of(facts: &Facts) -> Self {
        let git = facts.git.as_ref();
        let variable = |name: &str| variable(facts, name);
        let system = facts.ci.as_ref().map(|ci| ci.system.as_str());
        let (reference, commit, base, event) = match system {
            Some("gitlab") => (
                variable("CI_MERGE_REQUEST_IID")
                    .map(Reference::Proposal)
                    .or_else(|| variable("CI_COMMIT_TAG").map(Reference::Tag))
                    .or_else(|| variable("CI_COMMIT_BRANCH").map(Reference::Branch)),
                variable("CI_COMMIT_SHA"),
                variable("CI_MERGE_REQUEST_TARGET_BRANCH_NAME"),
                variable("CI_PIPELINE_SOURCE"),
            ),
            Some("github") => (
                variable("GITHUB_REF").and_then(|name| of_github(&name)),
                variable("GITHUB_SHA"),
                variable("GITHUB_BASE_REF"),
                variable("GITHUB_EVENT_NAME"),
            ),
            Some("jenkins") => (
                variable("CHANGE_ID")
                    .map(Reference::Proposal)
                    .or_else(|| variable("TAG_NAME").map(Reference::Tag))
                    .or_else(|| variable("BRANCH_NAME").map(Reference::Branch))
                    .or_else(|| {
                        Some(Reference::Branch(variable("GIT_BRANCH")?.trim_start_matches("origin/").to_owned()))
                    }),
                variable("GIT_COMMIT"),
                variable("CHANGE_TARGET"),
                None,
            ),
            _ => (None, None, None, None),
        };
        let of_checkout = || {
            let git = git?;
            let branch = git.branch.clone().map(Reference::Branch);
            branch.or_else(|| git.tags.first().cloned().map(Reference::Tag))
        };
        Self {
            reference: reference.or_else(of_checkout),
            commit: commit.or_else(|| git.map(|git| git.commit.clone())),
            default_branch: git.and_then(|git| git.default_branch.clone()),
            base,
            scheduled: event.as_deref() == Some("schedule"),
        }
    }

    /// The branch, if one is built.
    pub fn branch(&self) -> Option<&str> {
        match &self.reference {
            Some(Reference::Branch(name)) => Some(name),
            _ => None,
        }
    }

    /// The git tag, if one is built.
    pub fn tag(&self) -> Option<&str> {
        match &self.reference {
            Some(Reference::Tag(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether the default branch is built. A checkout without a remote does not know its name: then it is one of the two
    /// usual ones.
    pub fn is_default_branch(&self) -> bool {
        self.branch().is_some_and(|branch| match &self.default_branch {
            Some(default) => branch == default,
            None => matches!(branch, "main" | "master"),
        })
    }
}

/// A variable of the continuous integration system, if it is set to something.
pub fn variable(facts: &Facts, name: &str) -> Option<String> {
    let pair = facts.ci.as_ref()?.variables.iter().find(|pair| pair.key == name)?;
    Some(pair.value.clone()).filter(|value| !value.is_empty())
}

/// `refs/pull/7/merge` and its kin.
fn of_github(name: &str) -> Option<Reference> {
    let pull = || name.strip_prefix("refs/pull/").and_then(|rest| rest.split('/').next()).map(str::to_owned);
    let branch = || name.strip_prefix("refs/heads/").map(|name| Reference::Branch(name.to_owned()));
    let tag = || name.strip_prefix("refs/tags/").map(|name| Reference::Tag(name.to_owned()));
    pull().map(Reference::Proposal).or_else(branch).or_else(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FactsBuilder;

    #[test]
    fn systems_say_it_each_in_its_words() {
        for (system, variables, expected) in [
            ("gitlab", &[("CI_COMMIT_TAG", "v1")][..], Some(Reference::Tag("v1".into()))),
            ("gitlab", &[("CI_COMMIT_BRANCH", "dev"), ("CI_COMMIT_TAG", "")], Some(Reference::Branch("dev".into()))),
            ("gitlab", &[("CI_MERGE_REQUEST_IID", "7")], Some(Reference::Proposal("7".into()))),
            ("github", &[("GITHUB_REF", "refs/heads/a/b")], Some(Reference::Branch("a/b".into()))),
            ("github", &[("GITHUB_REF", "refs/tags/v1")], Some(Reference::Tag("v1".into()))),
            ("github", &[("GITHUB_REF", "refs/pull/7/merge")], Some(Reference::Proposal("7".into()))),
            ("jenkins", &[("CHANGE_ID", "7"), ("BRANCH_NAME", "PR-7")], Some(Reference::Proposal("7".into()))),
            ("jenkins", &[("GIT_BRANCH", "origin/dev")], Some(Reference::Branch("dev".into()))),
            ("tekton", &[], None),
        ] {
            let facts = FactsBuilder::default().system(system, variables).build();
            assert_eq!(Source::of(&facts).reference, expected, "{system} {variables:?}");
        }
    }

    #[test]
    fn a_checkout_says_what_nothing_else_does() {
        let facts = FactsBuilder::default().branch("main").build();
        let source = Source::of(&facts);
        assert!(source.is_default_branch() && source.branch() == Some("main"));
        let facts = FactsBuilder::default().tag("v2").build();
        assert_eq!(Source::of(&facts).tag(), Some("v2"));
        let facts = FactsBuilder::default().branch("main").default_branch("trunk").build();
        assert!(!Source::of(&facts).is_default_branch());
    }
}
