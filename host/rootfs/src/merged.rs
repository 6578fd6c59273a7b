//! The stack of layer indexes as one file system.

use std::{
    collections::HashMap,
    ops::Bound,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{
    IndexEntry, Kind, LayerIndex, Metadata, RootPath, RootfsError,
    resolve::{Node, Resolved, resolve},
};

/// Directories whose state is remembered. A walk needs its ancestors only, so it could be far smaller; bounded so that a
/// walk over a huge image stays flat.
const REMEMBERED_DIRECTORIES: usize = 4096;

/// The indexes of a stack of layers, read as one file system: whiteouts, opaque directories, implicit parents and entries
/// that replace others of another kind are honoured (OCI image specification, layer.md, "Applying Changesets"). Nothing
/// is merged ahead: a look-up costs a few searches for each layer.
pub struct MergedIndex {
    /// The base is first.
    layers: Vec<Arc<LayerIndex>>,
    directories: Mutex<HashMap<RootPath, Option<usize>>>,
    links: OnceLock<HashMap<(usize, RootPath), u64>>,
}

/// What the stack has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Number of the layer that the entry comes from, counted from the base. For a directory that no layer mentions, the
    /// topmost layer with something beneath it.
    pub layer: usize,
    /// `None` for a directory that no layer mentions: see [`Found::to_metadata`].
    pub metadata: Option<Metadata>,
    /// For a hard link: the path, in the same layer, of the file that it is another name of.
    pub hard_link: Option<RootPath>,
}

impl Found {
    /// The metadata; for a directory that no layer mentions: 0755, owner 0:0, the epoch.
    pub fn to_metadata(&self) -> Metadata {
        self.metadata.clone().unwrap_or_else(implicit_directory)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.metadata.as_ref().is_none_or(Metadata::is_directory)
    }
}

/// What a directory has that a layer implies without mentioning it.
pub(crate) fn implicit_directory() -> Metadata {
    Metadata {
        kind: Kind::Directory,
        mode: 0o755,
        owner: Default::default(),
        mtime: Default::default(),
        xattrs: Default::default(),
    }
}

/// An entry, and for a directory the lowest layer that shows through in it.
struct State {
    found: Found,
    floor: usize,
}

impl MergedIndex {
    /// Stacks layers, the base first.
    pub fn new(layers: Vec<Arc<LayerIndex>>) -> Self {
        Self { layers, directories: Mutex::default(), links: OnceLock::new() }
    }

    /// The layers, the base first.
    pub fn layers(&self) -> &[Arc<LayerIndex>] {
        &self.layers
    }

    /// What is at a path whose parents hold no symlink; `None` if nothing is.
    pub fn lookup(&self, path: &RootPath) -> Option<Found> {
        self.state(path).map(|state| state.found)
    }

    /// The names in a directory, sorted by bytes; empty if there is no directory at `path`.
    pub fn children(&self, path: &RootPath) -> Vec<Vec<u8>> {
        let Some(floor) = self.floor(path) else {
            return Vec::new();
        };
        let mut names: Vec<Vec<u8>> = Vec::new();
        for layer in self.layers[floor..].iter().rev() {
            let mut following = layer.entries.range(Bound::Excluded(path));
            while let Some((below, _)) = following.next() {
                let Some(name) = child_name(path, &below) else { break };
                names.push(name.to_vec());
                let end = if path.is_root() { name.len() } else { path.len() + 1 + name.len() };
                if end < below.len() {
                    // Jumps over what the child contains.
                    let beyond = RootPath::after_everything_beneath(&below[..end]);
                    following = layer.entries.range(Bound::Included(&beyond));
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        names.retain(|name| path.child(name).is_ok_and(|child| self.beneath(&child, floor).is_some()));
        names
    }

    /// Calls `visit` for everything in the stack but the root, sorted.
    pub fn for_each(&self, mut visit: impl FnMut(&RootPath, &Found)) {
        let mut ahead = vec![RootPath::root()];
        while let Some(path) = ahead.pop() {
            if !path.is_root() {
                let Some(found) = self.lookup(&path) else { continue };
                visit(&path, &found);
                if !found.is_directory() {
                    continue;
                }
            }
            ahead.extend(self.children(&path).iter().rev().filter_map(|name| path.child(name).ok()));
        }
    }

    /// The real path of an entry after resolving every symlink in the root; `None` if there is nothing.
    ///
    /// # Errors
    /// Symlinks loop.
    pub fn resolve(&self, path: &RootPath) -> Result<Option<RootPath>, RootfsError> {
        let found = self.walk(path, true)?;
        Ok(found.exists.then_some(found.path))
    }

    /// The bytes that the indexes keep of a file: /etc/passwd and /etc/group. No symlink is followed.
    pub fn kept_content(&self, path: &RootPath) -> Option<&[u8]> {
        let found = self.lookup(path)?;
        let contents = &self.layers[found.layer].contents;
        contents.get(path).or_else(|| contents.get(found.hard_link.as_ref()?)).map(Vec::as_slice)
    }

    /// A number that all names of one file share; `None` for what has no second name.
    pub(crate) fn identity(&self, path: &RootPath) -> Option<u64> {
        let links = self.links.get_or_init(|| {
            let mut links = HashMap::new();
            for (number, layer) in self.layers.iter().enumerate() {
                for (_, entry) in &layer.entries {
                    if let IndexEntry::Present { hard_link: Some(target), .. } = entry {
                        let next = links.len() as u64;
                        links.entry((number, target)).or_insert(next);
                    }
                }
            }
            links
        });
        let found = self.lookup(path)?;
        links.get(&(found.layer, found.hard_link.unwrap_or_else(|| path.clone()))).copied()
    }

    pub(crate) fn walk(&self, path: &RootPath, follow: bool) -> Result<Resolved, RootfsError> {
        resolve(path, follow, |path| Ok(node(self.lookup(path).as_ref())))
    }

    fn state(&self, path: &RootPath) -> Option<State> {
        let Some(parent) = path.parent() else {
            let root = self.beneath(path, 0);
            // The root exists even in an empty image.
            let empty = Found { layer: self.layers.len().saturating_sub(1), metadata: None, hard_link: None };
            return Some(root.unwrap_or(State { found: empty, floor: 0 }));
        };
        self.beneath(path, self.floor(&parent)?)
    }

    /// The lowest layer that shows through in a directory; `None` if there is no directory.
    fn floor(&self, directory: &RootPath) -> Option<usize> {
        let remembered = || self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(floor) = remembered().get(directory) {
            return *floor;
        }
        // From the root down, so that neither the stack of calls nor the work grows with the square of the depth.
        let mut unknown = vec![directory.clone()];
        let mut floor = None;
        while let Some(parent) = unknown.last().and_then(RootPath::parent) {
            if let Some(known) = remembered().get(&parent) {
                floor = Some(*known);
                break;
            }
            unknown.push(parent);
        }
        let mut above: Option<usize> = floor.unwrap_or(Some(0));
        while let Some(path) = unknown.pop() {
            above = above.and_then(|floor| {
                let state = if path.is_root() { self.state(&path) } else { self.beneath(&path, floor) };
                state.filter(|state| state.found.is_directory()).map(|state| state.floor)
            });
            let mut remembered = remembered();
            if remembered.len() >= REMEMBERED_DIRECTORIES {
                remembered.clear();
            }
            remembered.insert(path, above);
        }
        above
    }

    /// What is at a path if the layers from `floor` up show through in its parent.
    fn beneath(&self, path: &RootPath, floor: usize) -> Option<State> {
        let mut directory: Option<State> = None;
        for number in (floor..self.layers.len()).rev() {
            let layer = &self.layers[number];
            let (metadata, hard_link, opaque) = match layer.entries.get(path) {
                Some(IndexEntry::Present { metadata, hard_link, opaque }) => (Some(metadata), hard_link, opaque),
                // The layer removes what is below and has something of its own beneath.
                Some(IndexEntry::Whiteout) if has_present_beneath(layer, path) => (None, None, true),
                Some(IndexEntry::Whiteout) => return directory,
                None if has_present_beneath(layer, path) => (None, None, false),
                None => continue,
            };
            match (&mut directory, metadata) {
                // What is not a directory hides all below, and is itself hidden by a directory above.
                (Some(_), Some(metadata)) if !metadata.is_directory() => return directory,
                (None, Some(metadata)) if !metadata.is_directory() => {
                    let found = Found { layer: number, metadata: Some(metadata), hard_link };
                    return Some(State { found, floor: number });
                }
                (Some(state), metadata) => {
                    state.floor = number;
                    if state.found.metadata.is_none() && metadata.is_some() {
                        state.found = Found { layer: number, metadata, hard_link: None };
                    }
                }
                (none, metadata) => {
                    *none = Some(State { found: Found { layer: number, metadata, hard_link: None }, floor: number });
                }
            }
            if opaque {
                return directory;
            }
        }
        directory
    }
}

/// What a look-up means for a walk.
pub(crate) fn node(found: Option<&Found>) -> Node {
    match found.map(|found| found.metadata.as_ref().map(|metadata| &metadata.kind)) {
        None => Node::Missing,
        Some(None | Some(Kind::Directory)) => Node::Directory,
        Some(Some(Kind::Symlink { target })) => Node::Symlink(target.clone()),
        Some(Some(_)) => Node::Other,
    }
}

/// The name of the child of `directory` that `path` is or lies beneath.
fn child_name<'p>(directory: &RootPath, path: &'p RootPath) -> Option<&'p [u8]> {
    let rest = match directory.is_root() {
        true => path.as_bytes(),
        false => path.as_bytes().strip_prefix(directory.as_bytes())?.strip_prefix(b"/")?,
    };
    rest.split(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
}

fn has_present_beneath(layer: &LayerIndex, directory: &RootPath) -> bool {
    let below = layer.entries.range(Bound::Excluded(directory));
    below
        .take_while(|(path, _)| child_name(directory, path).is_some())
        .any(|(_, entry)| matches!(entry, IndexEntry::Present { .. }))
}

#[cfg(test)]
mod tests;
