//! Layers in and out: tar, whiteouts, compression, both hashes in one pass.
//!
//! - [`write_layer`] turns a [`ChangeSet`](cofferdam_rootfs::ChangeSet) into a blob: tar → DiffID → compression → digest,
//!   in one streaming pass and with the same bytes on any machine.
//! - [`read_layer`] turns a blob, whoever made it, into a [`LayerIndex`](cofferdam_rootfs::LayerIndex) and hands each
//!   entry to a [`LayerSink`]; nothing of the file system is touched here.
//! - [`tar::Writer`] writes plain deterministic archives for whoever needs one.
//! - [`compression`] tells formats apart, decodes and encodes.

mod assembly;
mod blocks;
pub mod compression;
mod cuts;
mod entries;
mod error;
mod gzip;
mod header;
mod incompressible;
mod pack;
mod pax;
mod read;
mod source;
pub mod tar;
mod whiteout;
mod write;

pub use blocks::{BlobBytes, BlockIndex, EarlierBlocks};
pub use compression::{Compression, Format};
pub use error::LayerError;
pub use pack::{PackedLayer, pack_layer};
pub use read::{IndexOnly, LayerSink, ReadLayer, ReadLimits, SinkError, read_archive, read_layer};
pub use write::{WriteOptions, WrittenLayer, archive_size_bytes, write_layer, write_layer_again};
