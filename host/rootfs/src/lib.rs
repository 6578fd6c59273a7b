//! The only door to the file system: confined directories and image root file systems

mod changes;
mod entry;
mod error;
mod index;
mod path;
mod tree;

pub use changes::{Change, ChangeSet, Content, Spool};
pub use entry::{Kind, Metadata, Owner, Timestamp};
pub use error::RootfsError;
pub use index::{IndexEntry, LayerIndex};
pub use path::{InvalidPath, RootPath};
pub use tree::Tree;
