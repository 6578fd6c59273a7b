//! The hash of what a step reads of a tree.

use std::{collections::HashMap, sync::Arc};

use cofferdam_digest::Digest;
use cofferdam_plan::{key::KeyHasher, step::TreeRead};
use cofferdam_plugin_host::{Coverage, CoverageError};
use cofferdam_rootfs::{Kind, RootPath, RootfsError, Tree};

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

/// The hash of everything that a read covers: names, kinds, modes, owners, link targets, attributes, contents. Not the
/// times: a checkout makes new ones.
///
/// # Errors
/// See [`HashError`].
pub fn hash(tree: &Arc<HashedTree>, read: &TreeRead) -> Result<Digest, HashError> {
    let mut hasher = KeyHasher::new("entries");
    let coverage = Coverage::new(read)?;
    let mut links: HashMap<u64, RootPath> = HashMap::new();
    coverage.visit::<HashError>(&**tree, &mut |entry| {
        let metadata = &entry.metadata;
        hasher.part("entry").part(entry.path.as_bytes()).part(metadata.mode.to_le_bytes());
        hasher.part(metadata.owner.uid.to_le_bytes()).part(metadata.owner.gid.to_le_bytes());
        let attributes: Vec<&Vec<u8>> = metadata.xattrs.iter().flat_map(|(name, value)| [name, value]).collect();
        hasher.list(attributes.into_iter());
        match &metadata.kind {
            Kind::File { .. } => {
                // Hard links are kept as such, so which names belong together counts.
                if let Some(identity) = tree.identity(&entry.real)? {
                    let first = links.entry(identity).or_insert_with(|| entry.path.clone());
                    hasher.part("link").part(first.as_bytes());
                }
                hasher.part("file").digest(&tree.digest(&entry.real)?)
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
    Ok(hasher.finish())
}

/// Whether nothing that a read covers has changed since `start_ns` (nanoseconds since 1970): only then do the hash and what
/// was copied come from the same state.
///
/// # Errors
/// See [`HashError`].
pub fn is_steady(tree: &Arc<HashedTree>, read: &TreeRead, start_ns: i128) -> Result<bool, HashError> {
    // The kernel's clock for files is behind by up to a tick.
    const TICK_NS: i128 = 10_000_000;
    let mut steady = true;
    Coverage::new(read)?.visit::<HashError>(&**tree, &mut |entry| {
        let changed = tree.changed_ns(&entry.real)?;
        steady &= changed.is_none_or(|changed| changed < start_ns - TICK_NS);
        Ok(())
    })?;
    Ok(steady)
}
