//! Making room in the store, by age and by size, beside running builders.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, SystemTime},
};

use cofferdam_cache::LocalCache;
use cofferdam_digest::Digest;
use cofferdam_image::{Item, ItemKind, Store, StoreError, StoredImage};

/// What goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneRequest {
    /// Images that have a name go too.
    pub all: bool,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// What was used last stays up to this room, in bytes.
    pub keep_bytes: Option<u64>,
    /// Nothing goes; what would is answered.
    pub dry_run: bool,
}

/// What went.
#[derive(Debug)]
pub struct Pruned {
    /// What went, or would, the oldest first.
    pub items: Vec<Item>,
    /// Images that are not whole any more, and so in the list no longer.
    pub images: Vec<StoredImage>,
    /// The room of what is left, in bytes.
    pub kept_bytes: u64,
    /// Of these, what builders use that are at work, or what was used since they began.
    pub used_bytes: u64,
    /// How many builders are at work.
    pub builders: usize,
}

impl Pruned {
    /// The room that was made, in bytes.
    pub fn freed_bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    /// For each kind, how many went and how much room that made, in bytes.
    pub fn by_kind(&self) -> BTreeMap<ItemKind, (usize, u64)> {
        let mut kinds = BTreeMap::new();
        for item in &self.items {
            let (count, bytes): &mut (usize, u64) = kinds.entry(item.kind).or_default();
            *count += 1;
            *bytes += item.bytes;
        }
        kinds
    }
}

/// Removes what the request says: without a bound everything that no builder uses, but for images that have a name.
///
/// # Errors
/// The store can't be read, or does not let something go.
pub fn prune(store: &Path, request: &PruneRequest) -> Result<Pruned, StoreError> {
    let store = Store::open(store)?.as_inspector();
    let neighbours = store.neighbours()?;
    let mut items = store.items()?;
    items.sort_by(|one, other| (one.used, &one.path).cmp(&(other.used, &other.path)));
    let named = if request.all { BTreeSet::new() } else { named_blobs(&store)? };
    let is_free = |item: &Item| item.blob().is_none_or(|digest| !named.contains(&digest));
    let mut kept_bytes: u64 = items.iter().map(|item| item.bytes).sum();
    let now = SystemTime::now();
    let is_old = |item: &Item| match request.unused_for {
        Some(limit) => now.duration_since(item.used).unwrap_or_default() >= limit,
        None => true,
    };
    let mut gone = Vec::new();
    for item in items.iter().filter(|item| is_free(item) && is_old(item)) {
        if request.keep_bytes.is_some_and(|keep| kept_bytes <= keep) {
            break;
        }
        let goes = match request.dry_run {
            true => item.used < neighbours.unused_since,
            false => store.remove_item(item, neighbours.unused_since)?,
        };
        if goes {
            kept_bytes -= item.bytes;
            gone.push(item.clone());
        }
    }
    let images = if request.dry_run { Vec::new() } else { store.forget_incomplete_images()? };
    if !request.dry_run {
        store.remove_stale_locks()?;
        // Results that lead to what is gone.
        for item in items.iter().filter(|item| item.kind == ItemKind::CacheRecord && leads_nowhere(&store, &item.path))
        {
            if store.remove_item(item, neighbours.unused_since)? && !gone.iter().any(|gone| gone.path == item.path) {
                kept_bytes -= item.bytes;
                gone.push(item.clone());
            }
        }
    }
    let gone_paths: BTreeSet<&Path> = gone.iter().map(|item| &*item.path).collect();
    let left = items.iter().filter(|item| !gone_paths.contains(&*item.path));
    let used_bytes = left.filter(|item| item.used >= neighbours.unused_since).map(|item| item.bytes).sum();
    Ok(Pruned { items: gone, images, kept_bytes, used_bytes, builders: neighbours.count })
}

/// The blobs of images that have a name.
fn named_blobs(store: &Store) -> Result<BTreeSet<Digest>, StoreError> {
    let images = store.images()?;
    let named = images.iter().filter(|image| image.name.is_some());
    Ok(named.filter_map(|image| store.blobs_of_image(&image.descriptor)).flatten().collect())
}

/// Whether a record can't be read, or names a blob that is not there.
fn leads_nowhere(store: &Store, record: &Path) -> bool {
    match LocalCache::read_record(record) {
        Ok(Some(entry)) => entry.layer.is_some_and(|layer| !store.is_there(&store.blob_path(&layer.digest))),
        // Of a later version.
        Ok(None) => false,
        Err(_) => true,
    }
}
