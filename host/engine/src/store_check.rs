//! Whether a store is sound: every blob against its name, every layer against its DiffID, indexes and unpacked layers against their
//! layers, records against their checksums. It may be done beside running builders: what vanishes meanwhile was no finding.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cofferdam_cache::LocalCache;
use cofferdam_digest::{Digest, HashingReader};
use cofferdam_image::{Compression, Item, ItemKind, LayerBlob, Store, StoreError};
use cofferdam_layer::{LayerError, ReadLayer, ReadLimits, read_archive, read_layer};

use crate::{attest, chain, fetched, unpacked_check::Comparison};

/// A check of a store.
#[derive(Debug)]
pub struct CheckedStore {
    /// How many things of each kind there are, and the room that they take, in bytes.
    pub kinds: BTreeMap<ItemKind, (usize, u64)>,
    /// Unpacked layers that could not be compared, because the layer itself is not there.
    pub not_compared: usize,
    /// What is wrong.
    pub findings: Vec<StoreFinding>,
}

/// Something that is not what it should be. No build uses it, or it finds out itself.
#[derive(Debug)]
pub struct StoreFinding {
    /// Where.
    pub path: PathBuf,
    /// What is wrong.
    pub why: String,
    /// Whether it is removed, and so will be made or fetched again.
    pub repaired: bool,
}

impl CheckedStore {
    /// Whether nothing is wrong, or nothing is any more.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.repaired)
    }
}

/// Looks at everything in a store; removes what is wrong if it is to `repair`.
///
/// # Errors
/// The store can't be read.
pub fn check_store(store: &Path, repair: bool) -> Result<CheckedStore, StoreError> {
    let store = Store::open(store)?.as_inspector();
    let mut checked = CheckedStore { kinds: BTreeMap::new(), not_compared: 0, findings: Vec::new() };
    for path in store.take_repaired() {
        checked.findings.push(StoreFinding { path, why: "was damaged: it begins anew".to_owned(), repaired: true });
    }
    let items = store.items()?;
    for item in &items {
        let (count, bytes) = checked.kinds.entry(item.kind).or_default();
        *count += 1;
        *bytes += item.bytes;
    }
    let mut check = Check { store: &store, repair, findings: &mut checked.findings, diff_ids: BTreeMap::new() };
    let mut unpacked = check.unpacked(&items)?;
    for item in items.iter().filter(|item| item.kind == ItemKind::Blob) {
        check.blob(item, &mut unpacked)?;
    }
    for item in &items {
        check.small(item)?;
    }
    for image in store.images()? {
        if store.blobs_of_image(&image.descriptor).is_none() {
            let name = image.name.unwrap_or_else(|| image.descriptor.digest.to_string());
            let why = format!("lists `{name}`, of which something is missing");
            let repaired = repair;
            check.findings.push(StoreFinding { path: store.root().join("index.json"), why, repaired });
        }
    }
    if repair {
        store.forget_incomplete_images()?;
    }
    checked.not_compared = unpacked.values().map(Vec::len).sum();
    Ok(checked)
}

struct Check<'s> {
    store: &'s Store,
    repair: bool,
    findings: &'s mut Vec<StoreFinding>,
    /// What blobs of layers really hold.
    diff_ids: BTreeMap<Digest, Digest>,
}

/// Unpacked layers that were not compared yet, by DiffID.
type Waiting = BTreeMap<Digest, Vec<PathBuf>>;

impl Check<'_> {
    fn unpacked(&mut self, items: &[Item]) -> Result<Waiting, StoreError> {
        let mut waiting = Waiting::new();
        for item in items.iter().filter(|item| item.kind == ItemKind::UnpackedLayer) {
            match self.store.unpacked_layer(&item.path)? {
                Some(diff_id) => waiting.entry(diff_id).or_default().push(item.path.clone()),
                None => self.found(item, "has no layer's name".to_owned())?,
            }
        }
        Ok(waiting)
    }

    fn blob(&mut self, item: &Item, unpacked: &mut Waiting) -> Result<(), StoreError> {
        let Some(name) = item.blob() else { return self.found(item, "has no digest's name".to_owned()) };
        let Ok(file) = self.store.open_blob(&name) else { return Ok(()) };
        let mut hashing = HashingReader::new(file);
        let layer = self.store.layer_blob(&name)?;
        let directories = layer.and_then(|layer| unpacked.get(&layer.diff_id).cloned()).unwrap_or_default();
        let mut comparison = Comparison::of(&directories);
        let read = layer.map(|layer| read(&mut hashing, &layer, &mut comparison));
        let drained = io::copy(&mut hashing, &mut io::sink());
        let (digest, _) = hashing.finish();
        if drained.is_err() || digest != name {
            let why = drained
                .err()
                .map_or_else(|| "has other bytes than its name says".to_owned(), |error| error.to_string());
            return self.found(item, why);
        }
        let (Some(layer), Some(read)) = (layer, read) else { return Ok(()) };
        match read {
            // The bytes are right, so it is the record that is not.
            Err(error) => self.found(item, format!("is not the layer {}: {}", layer.diff_id, chain(&error))),
            Ok(read) => {
                self.diff_ids.insert(name, read.diff_id);
                self.index(&layer, &read)?;
                unpacked.remove(&layer.diff_id);
                for (directory, wrong) in comparison.finish(&read.index) {
                    if let Some(why) = wrong {
                        let used = SystemTime::UNIX_EPOCH;
                        let item = Item { kind: ItemKind::UnpackedLayer, path: directory, bytes: 0, used };
                        self.found(&item, why)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// The stored index of a layer must be what the layer itself gives.
    fn index(&mut self, layer: &LayerBlob, read: &ReadLayer) -> Result<(), StoreError> {
        match self.store.layer_index(&layer.diff_id)? {
            Some(index) if index != read.index => {
                let path = self.store.layer_index_path(&layer.diff_id);
                let used = SystemTime::UNIX_EPOCH;
                let item = Item { kind: ItemKind::LayerIndex, path, bytes: 0, used };
                self.found(&item, "is not that of its layer".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// What has a checksum, or is a document.
    fn small(&mut self, item: &Item) -> Result<(), StoreError> {
        let name =
            || format!("sha256:{}", item.path.file_name().unwrap_or_default().to_string_lossy()).parse::<Digest>();
        let is_damaged = match item.kind {
            ItemKind::CacheRecord => match LocalCache::read_record(&item.path) {
                Ok(entry) => {
                    let layer = entry.and_then(|entry| entry.layer);
                    let real =
                        layer.and_then(|layer| self.diff_ids.get(&layer.digest).map(|real| (layer.diff_id, *real)));
                    real.is_some_and(|(said, real)| said != real)
                }
                Err(_) => true,
            },
            ItemKind::LayerIndex => {
                name().map_or(Ok(true), |key| self.store.layer_index(&key).map(|index| index.is_none()))?
            }
            ItemKind::BlockIndex => {
                name().map_or(Ok(true), |key| self.store.block_index(&key).map(|index| index.is_none()))?
            }
            ItemKind::Download => fetched::blob_of_record(&item.path).is_none(),
            ItemKind::BillOfMaterials => attest::read_kept(self.store, &item.path).is_none(),
            _ => false,
        };
        match is_damaged {
            true => self.found(item, "is damaged".to_owned()),
            false => Ok(()),
        }
    }

    fn found(&mut self, item: &Item, why: String) -> Result<(), StoreError> {
        if !self.store.is_there(&item.path) {
            return Ok(());
        }
        // Whatever uses it, it is wrong.
        let ever = SystemTime::now() + Duration::from_secs(1 << 32);
        let repaired = self.repair && self.store.remove_item(item, ever)?;
        self.findings.push(StoreFinding { path: item.path.clone(), why, repaired });
        Ok(())
    }
}

fn read(blob: impl Read, layer: &LayerBlob, comparison: &mut Comparison) -> Result<ReadLayer, LayerError> {
    let limits = ReadLimits::default();
    match layer.compression {
        // An archive of our own may begin with any name, and so with any bytes.
        Compression::None => read_archive(blob, Some(layer.diff_id), &limits, comparison),
        _ => read_layer(blob, Some(layer.diff_id), &limits, comparison),
    }
}
