//! Layers that only other stages read stand in the store as plain archives, since compressing them would serve nobody. If a
//! later build has such a stage in its image, they are compressed then, to the same bytes as if they always had been.

use cofferdam_cache::CacheEntry;
use cofferdam_digest::Digest;
use cofferdam_image::{LayerBlob, Store};
use cofferdam_layer::{Compression, Format, LayerError, pack_layer};

use crate::{builder::Builder, layers::LayerFailure};

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

fn is_to_be_packed(layer: &LayerBlob, compression: Compression) -> bool {
    layer.compression == cofferdam_image::Compression::None && compression != Compression::None
}

fn pack(store: &Store, archive: &LayerBlob, compression: Compression) -> Result<LayerBlob, LayerFailure> {
    let failed = |source| LayerFailure::Layer { digest: archive.digest, of: None, source };
    let (packed, out) =
        pack_layer(store.open_blob(&archive.digest)?, compression, store.raw_blob_writer()?).map_err(failed)?;
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
