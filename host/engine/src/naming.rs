//! The names of the image: what the user wrote, and what tagging policies make of it.

use std::collections::BTreeMap;

use cofferdam_context::GitFacts;
use cofferdam_digest::Digest;
use cofferdam_plugin_host::{
    CiFacts, Decision, Facts as TagFacts, GitFacts as TagGitFacts, Naming, PluginHost, PublishedTag, Requested,
};
use cofferdam_registry::{Reference, Repository, Tag};
use cofferdam_rootfs::Timestamp;

use crate::{error::BuildError, request::PolicyUse};

/// What tagging policies are told.
pub struct Facts {
    /// Of the context.
    pub git: Option<GitFacts>,
    /// Variables of the continuous integration system.
    pub variables: BTreeMap<String, String>,
    /// The build's epoch, in seconds since 1970.
    pub epoch: i64,
}

impl Facts {
    /// The facts of a directory, without a build.
    ///
    /// # Errors
    /// It holds a git repository that can't be read.
    pub fn collect(directory: &std::path::Path, variables: BTreeMap<String, String>) -> Result<Self, BuildError> {
        let git = cofferdam_context::git_facts(directory)?;
        let epoch = git.as_ref().map_or(0, |git| git.commit_time);
        Ok(Self { git, variables, epoch })
    }
}

/// A repository and its tags.
#[derive(Debug, Clone)]
pub struct NamedRepository {
    /// Where to push.
    pub repository: Repository,
    /// Sorted as decided, without duplicates.
    pub tags: Vec<Tag>,
}

impl NamedRepository {
    /// The full names.
    pub fn references(&self) -> impl Iterator<Item = Reference> + '_ {
        self.tags.iter().map(|tag| Reference::tagged(self.repository.clone(), tag.clone()))
    }
}

/// What tagging policies decided.
#[derive(Debug, Clone, Default)]
pub struct Decided {
    /// In the order in which the user named them.
    pub repositories: Vec<NamedRepository>,
    /// Of the image.
    pub labels: BTreeMap<String, String>,
    /// Of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// Repositories that are pushed to without a tag: no policy has anything to decide.
///
/// # Errors
/// A name is none.
pub fn by_digest(references: &[String]) -> Result<Decided, BuildError> {
    let named = |text: &String| {
        let reference: Reference = text.parse()?;
        Ok(NamedRepository { repository: reference.repository().clone(), tags: Vec::new() })
    };
    let repositories = references.iter().map(named).collect::<Result<_, BuildError>>()?;
    Ok(Decided { repositories, ..Decided::default() })
}

/// The tags that a repository has, of those that were decided before the build; asked for only where a policy wants to know.
pub type Published<'p> = &'p dyn Fn(&Repository) -> Result<Vec<PublishedTag>, BuildError>;

/// Asks the policies for the tags of each repository. Several policies: the union; any refusal wins. Of labels and annotations
/// with one name, the last policy's counts.
///
/// # Errors
/// A name is none, a policy is unknown, fails, or refuses; the tags that a repository has can't be had.
pub fn decide(
    plugins: &PluginHost,
    policies: &[PolicyUse],
    references: &[String],
    facts: &TagFacts,
    published: Published<'_>,
) -> Result<Decided, BuildError> {
    let mut requested: Vec<(Repository, Vec<String>)> = Vec::new();
    for text in references {
        let reference: Reference = text.parse()?;
        if reference.digest().is_some() {
            return Err(BuildError::DigestAsName(text.clone()));
        }
        let repository = reference.repository().clone();
        let place = match requested.iter().position(|(known, _)| *known == repository) {
            Some(place) => place,
            None => {
                requested.push((repository, Vec::new()));
                requested.len() - 1
            }
        };
        requested[place].1.extend(reference.tag().map(|tag| tag.as_str().to_owned()));
    }
    let explicit = [PolicyUse { name: "explicit".to_owned(), options: Vec::new() }];
    let policies = if policies.is_empty() { &explicit[..] } else { policies };
    let mut all = Decided::default();
    for (repository, tags) in requested {
        let mut decided: Vec<Tag> = Vec::new();
        let mut known: Option<TagFacts> = None;
        for policy in policies {
            let failed = |reason: String| BuildError::TagPolicy { policy: policy.name.clone(), reason };
            let wants = plugins.wants_published_tags(&policy.name).map_err(|error| failed(error.to_string()))?;
            if wants && known.is_none() {
                known = Some(TagFacts { published: published(&repository)?, ..facts.clone() });
            }
            let requested =
                Requested { repository: repository.to_string(), tags: tags.clone(), options: policy.options.clone() };
            let facts = known.as_ref().unwrap_or(facts);
            match plugins.decide(&policy.name, facts, &requested).map_err(|error| failed(error.to_string()))? {
                Decision::Push(Naming { tags, labels, annotations }) => {
                    for text in tags {
                        let tag: Tag = text.parse().map_err(|_| failed(format!("`{text}` is not a tag")))?;
                        if !decided.contains(&tag) {
                            decided.push(tag);
                        }
                    }
                    all.labels.extend(labels);
                    all.annotations.extend(annotations);
                }
                Decision::Refused { reason, help } => {
                    return Err(BuildError::Refused { policy: policy.name.clone(), reason, help });
                }
            }
        }
        if decided.is_empty() {
            let reason = format!("no tag for `{repository}`");
            return Err(BuildError::TagPolicy { policy: policies[0].name.clone(), reason });
        }
        all.repositories.push(NamedRepository { repository, tags: decided });
    }
    Ok(all)
}

/// The facts in the shape that policies see.
pub fn tag_facts(facts: &Facts, digest: Option<&Digest>) -> TagFacts {
    let system = [("GITLAB_CI", "gitlab"), ("GITHUB_ACTIONS", "github"), ("JENKINS_URL", "jenkins")];
    let system = system.iter().find(|(variable, _)| facts.variables.contains_key(*variable)).map(|(_, name)| *name);
    TagFacts {
        git: facts.git.as_ref().map(|git| git_facts(git, &facts.variables)),
        ci: system.map(|system| CiFacts { system: system.to_owned(), variables: facts.variables.clone() }),
        date: Timestamp { seconds: facts.epoch, nanoseconds: 0 },
        digest: digest.map(Digest::to_string),
        published: Vec::new(),
    }
}

/// CI systems check out a commit, not a branch: what their variables say fills the gap.
fn git_facts(git: &GitFacts, variables: &BTreeMap<String, String>) -> TagGitFacts {
    let of_branch = variables.get("GITHUB_REF_TYPE").is_none_or(|kind| kind == "branch");
    let from_ci = variables
        .get("CI_COMMIT_BRANCH")
        .or_else(|| variables.get("GITHUB_REF_NAME").filter(|_| of_branch))
        .or_else(|| variables.get("BRANCH_NAME"))
        .cloned()
        .or_else(|| variables.get("GIT_BRANCH").map(|branch| branch.trim_start_matches("origin/").to_owned()));
    TagGitFacts {
        commit: git.commit.clone(),
        branch: git.branch.clone().or(from_ci),
        tags: git.tags.clone(),
        default_branch: (variables
            .get("CI_DEFAULT_BRANCH")
            .or_else(|| variables.get("event.repository.default_branch")))
        .cloned()
        .or_else(|| git.default_branch.clone()),
        commit_time: Timestamp { seconds: git.commit_time, nanoseconds: 0 },
        dirty: git.dirty,
    }
}
