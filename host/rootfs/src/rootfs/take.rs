//! From the changes of a step to the input of its layer.

use std::{collections::BTreeMap, mem};

use super::RootFs;
use crate::{
    Change, ChangeSet, Metadata, RootPath,
    pending::{Pending, PendingChange},
};

impl RootFs {
    /// Ends the step: hands out its changes, with the parents of all that changed, and forgets them. Until the engine calls
    /// [`RootFs::push_layer`], the stage is what it was before the step.
    ///
    /// A directory that was put over one with the very same metadata is no change. The root is included only if it was put
    /// itself, as in other builders' layers.
    pub fn take_changes(&mut self) -> ChangeSet {
        let pending = mem::take(&mut self.pending);
        let first_names = pending.first_names();
        let mut changes = BTreeMap::new();
        for (path, change) in pending.iter() {
            let change = match change {
                PendingChange::Remove => Change::Remove,
                PendingChange::Put(entry) => {
                    if entry.metadata.is_directory()
                        && !entry.opaque
                        && self.is_same_below(&pending, path, &entry.metadata)
                    {
                        continue;
                    }
                    let first = entry.link.and_then(|link| first_names.get(&link)).filter(|first| **first != path);
                    Change::Put {
                        metadata: entry.metadata.clone(),
                        content: entry.content.clone().filter(|_| first.is_none()),
                        hard_link: first.map(|first| (*first).clone()),
                        opaque: entry.opaque,
                    }
                }
            };
            self.include_parents(&mut changes, path);
            changes.insert(path.clone(), change);
        }
        ChangeSet { changes }
    }

    fn is_same_below(&self, pending: &Pending, path: &RootPath, metadata: &Metadata) -> bool {
        pending.shows_through(path)
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
