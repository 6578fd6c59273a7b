//! What a token is asked for.

use std::collections::BTreeSet;

use crate::{Action, Repository};

/// Actions in a repository, and perhaps reading in another one, for a mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    pub(crate) repository: String,
    pub(crate) actions: &'static [Action],
    pub(crate) mount_from: Option<String>,
}

impl Scope {
    /// For the registry as a whole.
    pub(crate) fn none() -> Self {
        Self { repository: String::new(), actions: &[], mount_from: None }
    }

    pub(crate) fn pull(repository: &Repository) -> Self {
        Self { repository: repository.name().to_owned(), actions: &[Action::Pull], mount_from: None }
    }

    /// Pushing asks for reading too: whether a blob exists is a question that needs it.
    pub(crate) fn push(repository: &Repository) -> Self {
        Self { repository: repository.name().to_owned(), actions: &[Action::Pull, Action::Push], mount_from: None }
    }

    pub(crate) fn mount(repository: &Repository, from: &Repository) -> Self {
        Self { mount_from: Some(from.name().to_owned()), ..Self::push(repository) }
    }

    /// The strongest action, for messages.
    pub(crate) fn action(&self) -> Action {
        self.actions.iter().copied().max().unwrap_or(Action::Pull)
    }

    /// The `scope` values of a token request (distribution specification, "Token Scope Documentation").
    pub(crate) fn values(&self) -> BTreeSet<String> {
        let actions = self.actions.iter().map(Action::to_string).collect::<Vec<_>>().join(",");
        if self.actions.is_empty() {
            return BTreeSet::new();
        }
        let own = format!("repository:{}:{actions}", self.repository);
        let from = self.mount_from.iter().map(|from| format!("repository:{from}:pull"));
        std::iter::once(own).chain(from).collect()
    }
}
