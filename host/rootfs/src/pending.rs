//! The changes of a step while it is being made.

use std::{collections::BTreeMap, ops::Bound};

use crate::{Content, Metadata, RootPath};

/// Changes on top of a stack of layers, sorted. Every parent of an entry is a directory, here or in the stack below.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    changes: BTreeMap<RootPath, PendingChange>,
    links: u64,
}

/// One changed path.
#[derive(Clone)]
pub(crate) enum PendingChange {
    Put(PendingEntry),
    /// The stack below has something here, and the step removed it.
    Remove,
}

/// An entry that the step made or changed.
#[derive(Clone)]
pub(crate) struct PendingEntry {
    pub metadata: Metadata,
    /// The bytes of a regular file; each name of a hard-linked file has them.
    pub content: Option<Content>,
    /// Entries with the same number are names of one file.
    pub link: Option<LinkId>,
    /// For a directory: nothing of the stack below shows through.
    pub opaque: bool,
}

/// Names the names of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(pub u64);

/// What the changes say of a path.
pub(crate) enum Verdict<'p> {
    /// There is an entry.
    Put(&'p PendingEntry),
    /// There is nothing.
    Nothing,
    /// What the stack below has.
    Below,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn into_iter(self) -> impl Iterator<Item = (RootPath, PendingChange)> {
        self.changes.into_iter()
    }

    pub fn new_link(&mut self) -> LinkId {
        self.links += 1;
        LinkId(self.links)
    }

    pub fn verdict(&self, path: &RootPath) -> Verdict<'_> {
        match self.changes.get(path) {
            Some(PendingChange::Put(entry)) => Verdict::Put(entry),
            Some(PendingChange::Remove) => Verdict::Nothing,
            None if self.shows_through(path) => Verdict::Below,
            None => Verdict::Nothing,
        }
    }

    /// Whether no change of a parent hides what the stack below has at `path`.
    pub fn shows_through(&self, path: &RootPath) -> bool {
        let mut parent = path.parent().filter(|_| !self.changes.is_empty());
        while let Some(path) = parent {
            match self.changes.get(&path) {
                None => {}
                Some(PendingChange::Put(entry)) if entry.metadata.is_directory() && !entry.opaque => {}
                Some(_) => return false,
            }
            parent = path.parent();
        }
        true
    }

    pub fn get_mut(&mut self, path: &RootPath) -> Option<&mut PendingEntry> {
        match self.changes.get_mut(path) {
            Some(PendingChange::Put(entry)) => Some(entry),
            _ => None,
        }
    }

    /// The entries that are names of one file.
    pub fn linked(&mut self, link: LinkId) -> impl Iterator<Item = &mut PendingEntry> {
        self.changes.values_mut().filter_map(move |change| match change {
            PendingChange::Put(entry) if entry.link == Some(link) => Some(entry),
            _ => None,
        })
    }

    /// What is directly in a directory.
    pub fn children(&self, directory: &RootPath) -> Vec<(Vec<u8>, &PendingChange)> {
        let mut children = Vec::new();
        let mut after = Bound::Excluded(directory.clone());
        while let Some((path, change)) = self.changes.range((after, Bound::Unbounded)).next() {
            let Some(rest) = path.strip_prefix(directory) else { break };
            let name = rest.components().next().unwrap_or_default().to_vec();
            let Ok(child) = directory.child(&name) else { break };
            // Jumps over what the child contains.
            after = Bound::Included(RootPath::after_everything_beneath(&child));
            if child == *path {
                children.push((name, change));
            }
        }
        children
    }

    /// Puts an entry. What is not a directory has nothing beneath it.
    pub fn put(&mut self, path: RootPath, entry: PendingEntry) {
        if !entry.metadata.is_directory() {
            self.drop_beneath(&path);
        }
        self.changes.insert(path, PendingChange::Put(entry));
    }

    /// Takes away what is at a path and beneath it; `hides` tells whether the stack below has something there.
    pub fn remove(&mut self, path: &RootPath, hides: bool) {
        self.drop_beneath(path);
        if hides {
            self.changes.insert(path.clone(), PendingChange::Remove);
        } else {
            self.changes.remove(path);
        }
    }

    fn drop_beneath(&mut self, path: &RootPath) {
        let end = RootPath::after_everything_beneath(path);
        let beneath = self.changes.range((Bound::Excluded(path), Bound::Excluded(&end)));
        let beneath: Vec<RootPath> = beneath.map(|(path, _)| path.clone()).collect();
        for path in beneath {
            self.changes.remove(&path);
        }
    }
}
