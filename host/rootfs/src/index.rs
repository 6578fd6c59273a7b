//! The index of a layer: everything about its entries but the content of files.

mod block;
mod entries;
mod record;

use std::collections::BTreeMap;

use crate::{Metadata, RootPath};

pub use entries::{IndexEntries, InvalidBlock};

/// One path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexEntry {
    /// The layer has an entry here.
    Present {
        /// What is known without reading the content. Hard links carry the metadata of the file that they name.
        metadata: Metadata,
        /// For a hard link: the path, in the same layer, of the file it is another name of.
        hard_link: Option<RootPath>,
        /// For a directory: nothing of the layers below shows through (OCI image specification, layer.md, "Opaque Whiteout").
        opaque: bool,
    },
    /// The layer removes what the layers below have here (layer.md, "Whiteouts").
    Whiteout,
}

/// Everything about a layer but the content of its files, made while the layer streams by.
///
/// Every parent of an entry that the layer itself does not mention is absent here too: it comes from the layers below,
/// or is a directory of mode 0755, owner 0:0, epoch 0 if they have none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerIndex {
    /// Sorted, so that a directory is directly followed by what it contains.
    pub entries: IndexEntries,
    /// The bytes of the small files that are looked up by name: /etc/passwd and /etc/group, at most 1 MiB each.
    pub contents: BTreeMap<RootPath, Vec<u8>>,
}

impl LayerIndex {
    /// The files whose bytes an index keeps, so that names of owners resolve without unpacking anything.
    pub const KEPT_CONTENTS: [&'static str; 2] = ["etc/passwd", "etc/group"];

    /// The largest file whose bytes an index keeps, in bytes.
    pub const KEPT_CONTENT_LIMIT: u64 = 1 << 20;
}
