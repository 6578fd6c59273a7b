//! From the changes of a step to the input of its layer.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    iter, mem,
};

use super::RootFs;
use crate::{
    Change, ChangeSet, Metadata, RootPath,
    pending::{LinkId, PendingChange, PendingEntry},
};

impl RootFs {
    /// Ends the step: hands out its changes, with the parents of all that changed, and forgets them. Until the engine calls
    /// [`RootFs::push_layer`], the stage is what it was before the step.
    ///
    /// A directory that was put over one with the very same metadata is no change. The root is included only if it was put
    /// itself, as in other builders' layers.
    pub fn take_changes(&mut self) -> ChangeSet {
        let mut first_names: HashMap<LinkId, RootPath> = HashMap::new();
        let mut changes = BTreeMap::new();
        // One by one, so that a million of them are not in memory twice.
        for (path, change) in mem::take(&mut self.pending).into_iter() {
            let change = match change {
                PendingChange::Remove => Change::Remove,
                PendingChange::Put(PendingEntry { metadata, content, link, opaque }) => {
                    if metadata.is_directory() && !opaque && self.is_same_below(&changes, &path, &metadata) {
                        continue;
                    }
                    let first = link.and_then(|link| match first_names.entry(link) {
                        Entry::Occupied(first) => Some(first.get().clone()),
                        Entry::Vacant(none) => {
                            none.insert(path.clone());
                            None
                        }
                    });
                    let content = content.filter(|_| first.is_none());
                    Change::Put { metadata, content, hard_link: first, opaque }
                }
            };
            self.include_parents(&mut changes, &path);
            changes.insert(path, change);
        }
        ChangeSet { changes }
    }

    fn is_same_below(&self, changes: &BTreeMap<RootPath, Change>, path: &RootPath, metadata: &Metadata) -> bool {
        shows_through(changes, path)
            && self.below.index().lookup(path).is_some_and(|found| found.to_metadata() == *metadata)
    }

    /// Parents that the step did not change itself come from the layers below, with a content that changed now.
    fn include_parents(&self, changes: &mut BTreeMap<RootPath, Change>, path: &RootPath) {
        let mut next = path.parent();
        while let Some(parent) = next.filter(|parent| !parent.is_root() && !changes.contains_key(parent)) {
            if let Some(found) = self.below.index().lookup(&parent) {
                let metadata = Metadata { mtime: self.now, ..found.to_metadata() };
                changes.insert(parent.clone(), Change::Put { metadata, content: None, hard_link: None, opaque: false });
            }
            next = parent.parent();
        }
    }
}

/// Whether none of the parents, all of whose changes are known, hides what the layers below have at `path`.
fn shows_through(changes: &BTreeMap<RootPath, Change>, path: &RootPath) -> bool {
    let mut parents = iter::successors(path.parent(), RootPath::parent);
    parents.all(|parent| match changes.get(&parent) {
        None => true,
        Some(Change::Put { metadata, opaque, .. }) => metadata.is_directory() && !opaque,
        Some(Change::Remove) => false,
    })
}
