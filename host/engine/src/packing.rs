//! Layers that only other stages read stand in the store as plain archives, since compressing them would serve nobody. If a
//! later build has such a stage in its image, they are compressed then, to the same bytes as if they always had been.
//!
//! How layers are compressed is no part of a step: the cache has one blob for each, plain or with the default compression. Where
//! a build wants another one, it is made of that blob, and kept under a key of its own.

use std::sync::Arc;

use cofferdam_cache::CacheEntry;
use cofferdam_digest::Digest;
use cofferdam_image::{LayerBlob, Store};
use cofferdam_layer::{Compression, Format, LayerError, compression::Decoder, pack_layer};
use cofferdam_plan::key::KeyHasher;

use crate::{
    builder::Builder,
    layers::{LayerFailure, LayerFiles, StageLayer},
};

/// What the cache has under a key, with a blob of the wanted compression. A layer that can't be compressed is as good as
/// none: its step is carried out again.
pub fn lookup(builder: &Builder, key: &Digest, compression: Compression) -> Option<CacheEntry> {
    let entry = builder.lookup(key)?;
    let Some(layer) = entry.layer.map(LayerBlob::from).filter(|layer| is_to_be_packed(layer, compression)) else {
        return Some(entry);
    };
    match pack(&builder.files.store, &layer, compression) {
        Ok(packed) => {
            let entry = CacheEntry { layer: Some(packed.into()), ..entry };
            builder.remember(&[*key], &entry);
            Some(entry)
        }
        Err(error) => {
            builder.files.store.remove_if_damaged(&layer.digest);
            builder.tell_once(format!("a step is carried out again: {}", crate::chain(&error)));
            None
        }
    }
}

/// The layer of a base as the image has it: as it is, or where that is forced in the format of the build's own layers.
///
/// # Errors
/// The layer can't be had or read, or the new blob can't be written.
pub fn of_base(builder: &Builder, layer: &Arc<StageLayer>) -> Result<Arc<StageLayer>, LayerFailure> {
    let compression = builder.write.compression;
    if !builder.force_compression || layer.blob().compression == image_compression(compression) {
        return Ok(layer.clone());
    }
    packed(builder, layer, compression)
}

/// The layer as the image has it.
///
/// # Errors
/// The layer can't be read, or the new blob can't be written.
pub fn for_image(builder: &Builder, layer: Arc<StageLayer>) -> Result<Arc<StageLayer>, LayerFailure> {
    let compression = builder.write.compression;
    if compression == Compression::default() {
        return Ok(layer);
    }
    packed(builder, &layer, compression)
}

fn packed(
    builder: &Builder,
    layer: &Arc<StageLayer>,
    compression: Compression,
) -> Result<Arc<StageLayer>, LayerFailure> {
    let mut hasher = KeyHasher::new("packed");
    hasher.digest(&layer.blob().diff_id).part(format!("{compression:?}"));
    let key = hasher.finish();
    let packed = match builder.lookup(&key).and_then(|entry| entry.layer) {
        Some(known) => LayerBlob::from(known),
        None => {
            layer.fetch()?;
            let packed = pack(&builder.files.store, layer.blob(), compression)?;
            let entry = CacheEntry { layer: Some(packed.into()), created_by: String::new(), warnings: Vec::new() };
            builder.remember(&[key], &entry);
            packed
        }
    };
    Ok(Arc::new(StageLayer::stored(packed, builder.files.clone())))
}

/// A layer of this build as an image would have it by default.
///
/// # Errors
/// The layer can't be read, or the new blob can't be written.
pub fn by_default(files: &Arc<LayerFiles>, layer: &StageLayer) -> Result<Arc<StageLayer>, LayerFailure> {
    let packed = pack(&files.store, layer.blob(), Compression::default())?;
    Ok(Arc::new(StageLayer::stored(packed, files.clone())))
}

fn is_to_be_packed(layer: &LayerBlob, compression: Compression) -> bool {
    layer.compression == cofferdam_image::Compression::None && compression != Compression::None
}

/// Compresses the archive of one of our own blobs.
fn pack(store: &Store, archive: &LayerBlob, compression: Compression) -> Result<LayerBlob, LayerFailure> {
    let failed = |source| LayerFailure::Layer { digest: archive.digest, of: None, source };
    let blob = store.open_blob(&archive.digest)?;
    let decoder = match archive.compression {
        // An archive may begin with any name, and so with any bytes.
        cofferdam_image::Compression::None => Decoder::plain(blob),
        _ => Decoder::new(blob).map_err(failed)?,
    };
    let (packed, out) = pack_layer(decoder, compression, store.raw_blob_writer()?).map_err(failed)?;
    if packed.diff_id != archive.diff_id {
        return Err(failed(LayerError::DiffId { expected: archive.diff_id, actual: packed.diff_id }));
    }
    out.commit(packed.digest)?;
    let blob = LayerBlob {
        diff_id: packed.diff_id,
        digest: packed.digest,
        size: packed.size_bytes,
        compression: image_compression(compression),
    };
    store.put_layer_blob(&blob)?;
    Ok(blob)
}

/// How media types and records name a compression.
pub fn image_compression(compression: Compression) -> cofferdam_image::Compression {
    match compression.format() {
        Format::Gzip => cofferdam_image::Compression::Gzip,
        Format::Zstd => cofferdam_image::Compression::Zstd,
        Format::Plain => cofferdam_image::Compression::None,
    }
}
