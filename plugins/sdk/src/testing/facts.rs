//! Facts for tagging policies.

use crate::{
    bindings::instruction::cofferdam::types::values::{KeyValue, Timestamp},
    tags::{CiFacts, Facts, GitFacts, PublishedTag, Requested},
};

/// The commit of every fake checkout.
pub const COMMIT: &str = "860c1904a1ce19322e91ac35af1ab07466440c37";

/// 2020-01-10T00:30:00Z.
pub const MOMENT: Timestamp = Timestamp { seconds: 1_578_616_200, nanoseconds: 0 };

/// Facts with a checkout, from which a test departs.
#[derive(Debug, Clone)]
pub struct FactsBuilder(Facts);

impl Default for FactsBuilder {
    /// A detached head without tags, outside of any system.
    fn default() -> Self {
        let git = GitFacts {
            commit: COMMIT.to_owned(),
            branch: None,
            tags: Vec::new(),
            default_branch: None,
            commit_time: MOMENT,
            dirty: false,
        };
        Self(Facts { git: Some(git), ci: None, date: MOMENT, digest: None, published: Vec::new() })
    }
}

impl FactsBuilder {
    /// On this branch.
    #[must_use]
    pub fn branch(self, name: &str) -> Self {
        self.git(|git| git.branch = Some(name.to_owned()))
    }

    /// With this tag on the commit.
    #[must_use]
    pub fn tag(self, name: &str) -> Self {
        self.git(|git| git.tags.push(name.to_owned()))
    }

    /// In a repository with this default branch.
    #[must_use]
    pub fn default_branch(self, name: &str) -> Self {
        self.git(|git| git.default_branch = Some(name.to_owned()))
    }

    /// Changes the facts of the checkout.
    #[must_use]
    pub fn git(mut self, change: impl FnOnce(&mut GitFacts)) -> Self {
        if let Some(git) = &mut self.0.git {
            change(git);
        }
        self
    }

    /// Without a checkout.
    #[must_use]
    pub fn no_checkout(mut self) -> Self {
        self.0.git = None;
        self
    }

    /// In a system with these variables.
    #[must_use]
    pub fn system(mut self, name: &str, variables: &[(&str, &str)]) -> Self {
        self.0.ci = Some(CiFacts { system: name.to_owned(), variables: pairs(variables) });
        self
    }

    /// After the build, with tags that the repository has.
    #[must_use]
    pub fn built(mut self, digest: &str, published: &[(&str, &str)]) -> Self {
        let published =
            published.iter().map(|(tag, digest)| PublishedTag { tag: (*tag).to_owned(), digest: (*digest).to_owned() });
        (self.0.digest, self.0.published) = (Some(digest.to_owned()), published.collect());
        self
    }

    /// The facts.
    pub fn build(self) -> Facts {
        self.0
    }
}

/// What a user asked for.
pub fn requested(tags: &[&str], options: &[(&str, &str)]) -> Requested {
    Requested {
        repository: "registry.example/team/app".to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        options: pairs(options),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, value)| KeyValue { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
}
