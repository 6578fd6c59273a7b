//! The hash of what a step reads of a tree.

use std::collections::HashMap;

use cofferdam_digest::Digest;
use cofferdam_plan::{key::KeyHasher, step::TreeRead};
use cofferdam_plugin_host::{Coverage, CoverageError};
use cofferdam_rootfs::{Kind, Metadata, RootPath, RootfsError, Tree};

use crate::hashed_tree::HashedTree;

/// The reads of a step can't be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// A pattern is none.
    #[error(transparent)]
    Pattern(#[from] CoverageError),
    /// The tree can't be read.
    #[error(transparent)]
    Tree(#[from] RootfsError),
}

/// What a read covers, as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHash {
    /// Of names, kinds, modes, owners, link targets, attributes, contents. Not of the times: a checkout makes new ones.
    pub digest: Digest,
    /// The last change of anything that the read covers, in nanoseconds since 1970; `None` where nothing can change.
    pub changed_ns: Option<i128>,
}

impl TreeHash {
    /// Whether nothing has changed since `start_ns` (nanoseconds since 1970): only then do the hash and what was copied
    /// before it come from the same state.
    pub fn is_steady_since(&self, start_ns: i128) -> bool {
        // The kernel's clock for files is behind by up to a tick.
        const TICK_NS: i128 = 10_000_000;
        self.changed_ns.is_none_or(|changed| changed < start_ns - TICK_NS)
    }
}

/// The hash of everything that a read covers, as this build first found it.
///
/// # Errors
/// See [`HashError`].
pub fn first_hash(tree: &HashedTree, read: &TreeRead) -> Result<TreeHash, HashError> {
    tree.first_hash(read, || hash(tree, read))
}

/// The hash of everything that a read covers, as it is now.
///
/// # Errors
/// See [`HashError`].
pub fn hash(tree: &HashedTree, read: &TreeRead) -> Result<TreeHash, HashError> {
    let mut hasher = KeyHasher::new("entries");
    if let Some(version) = tree.version() {
        hasher.part("version").part(version);
    }
    let mut changed_ns = None;
    let coverage = Coverage::new(read)?;
    let mut links: HashMap<u64, RootPath> = HashMap::new();
    // `COPY --parents` gives what it makes the modes and owners of directories that nothing else of them counts.
    for path in coverage.above(tree)? {
        let Some(entry) = tree.resolve(&path)?.map(|real| tree.entry(&real)).transpose()?.flatten() else { continue };
        // When they changed is not asked: whatever is made in them, read or not, changes that.
        hash_attributes(&mut hasher, "above", &path, &entry.metadata);
    }
    coverage.visit::<HashError>(tree, &mut |covered| {
        let entry = &covered.entry;
        changed_ns = changed_ns.max(entry.changed_ns);
        let metadata = &entry.metadata;
        hash_attributes(&mut hasher, "entry", &covered.path, metadata);
        match &metadata.kind {
            Kind::File { .. } => {
                // Hard links are kept as such, so which names belong together counts.
                if let Some(identity) = entry.identity {
                    let first = links.entry(identity).or_insert_with(|| covered.path.clone());
                    hasher.part("link").part(first.as_bytes());
                }
                hasher.part("file").digest(&tree.digest(&covered.real, entry)?)
            }
            Kind::Directory => hasher.part("directory"),
            Kind::Symlink { target } => hasher.part("symlink").part(target),
            Kind::CharacterDevice { major, minor } => {
                hasher.part("character").part(major.to_le_bytes()).part(minor.to_le_bytes())
            }
            Kind::BlockDevice { major, minor } => {
                hasher.part("block").part(major.to_le_bytes()).part(minor.to_le_bytes())
            }
            Kind::Fifo => hasher.part("fifo"),
            Kind::Socket => hasher.part("socket"),
        };
        Ok(())
    })?;
    Ok(TreeHash { digest: hasher.finish(), changed_ns })
}

fn hash_attributes(hasher: &mut KeyHasher, what: &str, path: &RootPath, metadata: &Metadata) {
    hasher.part(what).part(path.as_bytes()).part(metadata.mode.to_le_bytes());
    hasher.part(metadata.owner.uid.to_le_bytes()).part(metadata.owner.gid.to_le_bytes());
    let attributes: Vec<&Vec<u8>> = metadata.xattrs.iter().flat_map(|(name, value)| [name, value]).collect();
    hasher.list(attributes.into_iter());
}
