//! The only door to the file system: confined directories and image root file systems.
//!
//! - [`ConfinedDir`] is a directory of this machine as a handle: nothing above it can be reached, no symlink is followed.
//! - [`Tree`] is anything that COPY reads: [`DirectoryTree`] (a context, a git checkout), [`LayerStack`] (an image),
//!   [`RootFs`] (a stage).
//! - [`RootFs`] is the file system of the stage being built: layers below, the step's changes on top. What a step did comes
//!   out as a [`ChangeSet`]; what a RUN did, as [`upper::changes`].
//! - [`Unpacker`] writes a layer into a directory, for overlayfs or for reading its files.
//!
//! Paths inside a root are [`RootPath`]s, which cannot climb out; symlinks resolve in the root as chroot would.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this crate owns the file system")]

mod changes;
mod confined;
mod directory_tree;
mod entry;
mod error;
pub mod flat;
mod index;
mod merged;
mod mode;
mod named_file;
mod path;
mod pending;
#[cfg(test)]
mod random;
mod resolve;
mod rootfs;
mod spool;
mod squash;
mod stack;
mod tree;
mod unpack;
pub mod upper;

pub use changes::{Change, ChangeSet, Content, Spool};
pub use confined::{ConfinedDir, HostEntry, is_image_xattr};
pub use directory_tree::{DirectoryTree, Filter};
pub use entry::{Kind, Metadata, Owner, Timestamp};
pub use error::RootfsError;
pub use index::{IndexEntries, IndexEntry, InvalidBlock, LayerIndex};
pub use merged::{Found, MergedIndex};
pub use mode::{ModeChange, ModeClause, ModeOperator, ModePermissions, Who};
pub use named_file::{open_named_file, read_named_file};
pub use path::{InvalidPath, RootPath};
pub use rootfs::{Attributes, Copied, CopyOptions, FileWriter, RootFs};
pub use spool::{FileSpools, OpenSpoolFile, SpoolFactory, SpoolWriter};
pub use squash::squash;
pub use stack::{Layer, LayerContents, LayerStack};
pub use tree::{Fingerprint, IsPlain, OpenFile, Tree, TreeEntry};
pub use unpack::{UnpackForm, Unpacker};
