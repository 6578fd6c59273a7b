//! The hash of what a step reads of a tree.

use std::sync::Arc;

use cofferdam_digest::Digest;
use cofferdam_plan::{key::KeyHasher, step::TreeRead};
use cofferdam_plugin_host::{Coverage, CoverageError};
use cofferdam_rootfs::{Kind, RootfsError};

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
    coverage.visit::<HashError>(&**tree, &mut |entry| {
        let metadata = &entry.metadata;
        hasher.part("entry").part(entry.path.as_bytes()).part(metadata.mode.to_le_bytes());
        hasher.part(metadata.owner.uid.to_le_bytes()).part(metadata.owner.gid.to_le_bytes());
        let attributes: Vec<&Vec<u8>> = metadata.xattrs.iter().flat_map(|(name, value)| [name, value]).collect();
        hasher.list(attributes.into_iter());
        match &metadata.kind {
            Kind::File { .. } => hasher.part("file").digest(&tree.digest(&entry.real)?),
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
