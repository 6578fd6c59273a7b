//! Tags after GitLab's habits.
//!
//! | what is built | tags |
//! | --- | --- |
//! | the default branch | commit, `<slug>`, `latest` |
//! | another branch | commit, `<slug>` |
//! | a merge request | commit, `mr-<number>` |
//! | a git tag | commit, the tag |
//!
//! Tags that were written out come first and are kept. `latest` is the default branch's alone.

use cofferdam_plugin_sdk::{
    TagPolicy,
    source::{Reference, Source},
    tags::{self, Decision, Error, Facts, Requested, push, refused, slug, unknown_option},
};

/// The policy.
pub struct GitLab;

cofferdam_plugin_sdk::export_tags!(crate::GitLab);

/// Hexadecimal digits of `CI_COMMIT_SHORT_SHA`.
const SHORT_DIGITS: usize = 8;

const LATEST: &str = "latest";

impl TagPolicy for GitLab {
    fn decide(facts: &Facts, requested: &Requested) -> Result<Decision, Error> {
        let (mut short, mut latest) = (false, true);
        for option in &requested.options {
            match option.key.as_str() {
                "short" => short = tags::boolean("short", &option.value)?,
                LATEST => latest = tags::boolean(LATEST, &option.value)?,
                key => return Err(unknown_option("tags-gitlab", key, "it takes `short=true` and `latest=false`")),
            }
        }
        let source = Source::of(facts);
        let is_default = source.is_default_branch();
        if requested.tags.iter().any(|tag| tag == LATEST) && !is_default {
            let what = match &source.reference {
                Some(Reference::Branch(name)) => format!("the branch `{name}`"),
                Some(Reference::Tag(name)) => format!("the tag `{name}`"),
                Some(Reference::Proposal(number)) => format!("the merge request {number}"),
                None => "something that is no branch".to_owned(),
            };
            return Ok(refused(
                format!("`latest` is the default branch's, and this is {what}"),
                "leave the tag out: on the default branch it is added",
            ));
        }
        let mut all = Vec::new();
        tags::add(&mut all, requested.tags.iter().cloned())?;
        let Some(commit) = &source.commit else {
            let reason = "neither a checkout nor CI_COMMIT_SHA says what is built";
            return Ok(refused(reason, "build from a checkout with its `.git`, or use the policy `tags-explicit`"));
        };
        tags::add(&mut all, [if short { commit.chars().take(SHORT_DIGITS).collect() } else { commit.clone() }])?;
        let name = match &source.reference {
            Some(Reference::Branch(name)) => slug(name),
            Some(Reference::Proposal(number)) => format!("mr-{number}"),
            // As it was written where that is a tag: `v1.2.3` must not become `v1-2-3`.
            Some(Reference::Tag(name)) if tags::is_valid_tag(name) => name.clone(),
            Some(Reference::Tag(name)) => slug(name),
            None => String::new(),
        };
        // A name without any letter or digit leaves nothing to make a tag of.
        tags::add(&mut all, Some(name).filter(|name| !name.is_empty()))?;
        tags::add(&mut all, (is_default && latest).then(|| LATEST.to_owned()))?;
        Ok(push(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::{COMMIT, FactsBuilder, requested};

    fn gitlab(variables: &[(&str, &str)]) -> FactsBuilder {
        let common = [("CI_COMMIT_SHA", COMMIT), ("CI_DEFAULT_BRANCH", "main")];
        FactsBuilder::default().default_branch("main").system("gitlab", &[&common[..], variables].concat())
    }

    fn decide(facts: FactsBuilder, tags: &[&str], options: &[(&str, &str)]) -> Vec<String> {
        match GitLab::decide(&facts.build(), &requested(tags, options)).unwrap() {
            Decision::Push(naming) => naming.tags,
            Decision::Refused(refusal) => panic!("{}", refusal.reason),
        }
    }

    #[test]
    fn each_kind_of_pipeline_has_its_tags() {
        let branch = |name| gitlab(&[("CI_COMMIT_BRANCH", name)]);
        assert_eq!(decide(branch("main"), &[], &[]), [COMMIT, "main", "latest"]);
        assert_eq!(decide(branch("main"), &["latest", "x"], &[("latest", "false")]), ["latest", "x", COMMIT, "main"]);
        assert_eq!(decide(branch("feature/A"), &[], &[("short", "true")]), [&COMMIT[..8], "feature-a"]);
        assert_eq!(decide(gitlab(&[("CI_COMMIT_TAG", "v1.2")]), &[], &[]), [COMMIT, "v1.2"]);
        assert_eq!(decide(gitlab(&[("CI_COMMIT_TAG", "rel/1")]), &[], &[]), [COMMIT, "rel-1"]);
        assert_eq!(decide(gitlab(&[("CI_MERGE_REQUEST_IID", "7")]), &[], &[]), [COMMIT, "mr-7"]);
        assert_eq!(decide(FactsBuilder::default().branch("main"), &[], &[]), [COMMIT, "main", "latest"]);
    }

    #[test]
    fn latest_is_the_default_branchs() {
        for variables in [[("CI_COMMIT_BRANCH", "dev")], [("CI_COMMIT_TAG", "v1")], [("CI_MERGE_REQUEST_IID", "7")]] {
            let decision = GitLab::decide(&gitlab(&variables).build(), &requested(&["latest"], &[])).unwrap();
            assert!(matches!(decision, Decision::Refused(refusal) if refusal.reason.contains("default branch")));
        }
    }

    #[test]
    fn misspelt_options_are_errors_and_no_checkout_is_refused() {
        assert!(GitLab::decide(&gitlab(&[]).build(), &requested(&[], &[("shrt", "true")])).is_err());
        let nothing = FactsBuilder::default().no_checkout().build();
        assert!(matches!(GitLab::decide(&nothing, &requested(&["x"], &[])), Ok(Decision::Refused(_))));
    }
}
