//! Several layers as one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{Change, ChangeSet, Content, IndexEntry, LayerStack, MergedIndex, RootPath, Tree};

/// What a stack of layers does to the layers below, as the changes of a single step. What one of them adds and another removes
/// is not in it. `base` is what lies below; it is asked for only where something of it may be hidden.
///
/// # Errors
/// Those of `base`.
pub fn squash<E>(layers: &Arc<LayerStack>, base: impl FnOnce() -> Result<MergedIndex, E>) -> Result<ChangeSet, E> {
    let index = layers.index();
    let mut changes = present(layers);
    let hidden = hidden(index);
    if hidden.is_empty() {
        return Ok(ChangeSet { changes });
    }
    let base = base()?;
    // Sorted, so that what an ancestor hides is known.
    for path in hidden {
        let Some(below) = base.lookup(&path).filter(|_| !is_hidden(&changes, &path)) else { continue };
        match changes.get_mut(&path) {
            Some(Change::Put { metadata, opaque, .. }) => *opaque = metadata.is_directory() && below.is_directory(),
            Some(Change::Remove) => {}
            None => drop(changes.insert(path, Change::Remove)),
        }
    }
    Ok(ChangeSet { changes })
}

/// Everything that the layers have in the end.
fn present(layers: &Arc<LayerStack>) -> BTreeMap<RootPath, Change> {
    let mut changes = BTreeMap::new();
    // The first of the names of a file has its content, the others are links to that one.
    let mut files: HashMap<(usize, RootPath), RootPath> = HashMap::new();
    layers.index().for_each(|path, found| {
        // A directory that no layer mentions is the base's.
        let Some(metadata) = found.metadata.clone() else { return };
        let file = (found.layer, found.hard_link.clone().unwrap_or_else(|| path.clone()));
        let first = if metadata.is_directory() { path } else { &*files.entry(file).or_insert_with(|| path.clone()) };
        let hard_link = (first != path).then(|| first.clone());
        let content = (metadata.is_file() && hard_link.is_none()).then(|| {
            let tree: Arc<dyn Tree> = layers.clone();
            Content::Tree { tree, path: path.clone() }
        });
        changes.insert(path.clone(), Change::Put { metadata, content, hard_link, opaque: false });
    });
    changes
}

/// The paths at which one of the layers cuts off what lies below it.
fn hidden(index: &MergedIndex) -> BTreeSet<RootPath> {
    let mut hidden = BTreeSet::new();
    for (path, entry) in index.layers().iter().flat_map(|layer| &layer.entries) {
        let cuts = match entry {
            IndexEntry::Whiteout | IndexEntry::Present { opaque: true, .. } => true,
            // A file in the place of a directory, in whose place is a directory again.
            IndexEntry::Present { metadata, .. } => {
                !metadata.is_directory() && index.lookup(&path).is_some_and(|found| found.is_directory())
            }
        };
        if cuts {
            hidden.insert(path);
        }
    }
    hidden
}

fn is_hidden(changes: &BTreeMap<RootPath, Change>, path: &RootPath) -> bool {
    let mut next = path.parent();
    while let Some(ancestor) = next {
        match changes.get(&ancestor) {
            Some(Change::Remove | Change::Put { opaque: true, .. }) => return true,
            Some(Change::Put { metadata, .. }) if !metadata.is_directory() => return true,
            _ => next = ancestor.parent(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfinedDir, Kind, Layer, LayerContents, LayerIndex, Metadata, RootfsError};

    /// Contents that are never read.
    struct Nothing;

    impl LayerContents for Nothing {
        fn directory(&self) -> Result<Arc<ConfinedDir>, RootfsError> {
            Err(RootfsError::NotFound(RootPath::root()))
        }
    }

    fn path(text: &str) -> RootPath {
        RootPath::new(text).unwrap()
    }

    /// `d` is a directory, `d!` an opaque one, `f` a file, `-` a whiteout, anything else a hard link to it.
    fn layer(entries: &[(&str, &str)]) -> Layer {
        let metadata = |kind| Metadata {
            kind,
            mode: 0o644,
            owner: Default::default(),
            mtime: Default::default(),
            xattrs: Default::default(),
        };
        let file = || metadata(Kind::File { size: 1 });
        let entry = |what: &str| match what {
            "-" => IndexEntry::Whiteout,
            "d" | "d!" => {
                IndexEntry::Present { metadata: metadata(Kind::Directory), hard_link: None, opaque: what == "d!" }
            }
            "f" => IndexEntry::Present { metadata: file(), hard_link: None, opaque: false },
            link => IndexEntry::Present { metadata: file(), hard_link: Some(path(link)), opaque: false },
        };
        let entries = entries.iter().map(|(name, what)| (path(name), entry(what))).collect();
        let index = LayerIndex { entries, ..LayerIndex::default() };
        Layer { index: Arc::new(index), contents: Arc::new(Nothing) }
    }

    fn squashed(base: &[(&str, &str)], layers: &[&[(&str, &str)]]) -> Vec<String> {
        let stack = Arc::new(LayerStack::new(layers.iter().map(|entries| layer(entries)).collect()));
        let base = MergedIndex::new(vec![layer(base).index]);
        let Ok(changes) = squash(&stack, || Ok::<_, std::convert::Infallible>(base));
        let said = |(path, change): (&RootPath, &Change)| {
            let what = match change {
                Change::Remove => "-".to_owned(),
                Change::Put { hard_link: Some(link), .. } => format!("= {}", link),
                Change::Put { opaque: true, .. } => "d!".to_owned(),
                Change::Put { content: None, .. } => "d".to_owned(),
                Change::Put { .. } => "f".to_owned(),
            };
            format!("{} {what}", path)
        };
        changes.changes.iter().map(said).collect()
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let layers: [&[_]; 2] = [&[("a", "d"), ("a/new", "f"), ("a/kept", "f")], &[("a", "d"), ("a/new", "-")]];
        assert_eq!(squashed(&[("a", "d")], &layers), ["/a d", "/a/kept f"]);
    }

    #[test]
    fn what_the_base_has_is_removed() {
        let base = [("a", "d"), ("a/old", "f"), ("a/more", "d"), ("a/more/x", "f")];
        let layers: [&[_]; 2] = [&[("a", "d"), ("a/old", "f")], &[("a", "d"), ("a/old", "-"), ("a/more", "-")]];
        assert_eq!(squashed(&base, &layers), ["/a d", "/a/more -", "/a/old -"]);
    }

    #[test]
    fn a_directory_that_was_made_anew_hides_the_old_one() {
        let base = [("a", "d"), ("a/old", "f")];
        let whiteout: [&[_]; 2] = [&[("a", "-")], &[("a", "d"), ("a/new", "f")]];
        let opaque: [&[_]; 1] = [&[("a", "d!"), ("a/new", "f")]];
        let file: [&[_]; 2] = [&[("a", "f")], &[("a", "d"), ("a/new", "f")]];
        for layers in [&whiteout[..], &opaque, &file] {
            assert_eq!(squashed(&base, layers), ["/a d!", "/a/new f"]);
        }
        // Nothing beneath it is removed one by one, and nothing is opaque that hides nothing.
        let inside: [&[_]; 2] = [&[("a", "d"), ("a/old", "-")], &[("a", "d!")]];
        assert_eq!(squashed(&base, &inside), ["/a d!"]);
        assert_eq!(squashed(&[], &whiteout), ["/a d", "/a/new f"]);
    }

    #[test]
    fn the_names_of_a_file_stay_together_when_the_first_one_goes() {
        let layers: [&[_]; 2] = [&[("a", "f"), ("b", "a"), ("c", "a")], &[("a", "-")]];
        assert_eq!(squashed(&[], &layers), ["/b f", "/c = /b"]);
        let replaced: [&[_]; 2] = [&[("a", "f"), ("b", "a")], &[("a", "f")]];
        assert_eq!(squashed(&[], &replaced), ["/a f", "/b f"]);
    }
}
