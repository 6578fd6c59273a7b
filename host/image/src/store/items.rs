//! What can go without harm: a build that misses it makes it again, or fetches it.

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use cofferdam_digest::Digest;
use serde::Serialize;

use super::{
    Store,
    session::{lock_file, move_directory, remove_tree},
    unpacked::NOTE,
};
use crate::StoreError;

/// The kinds of things in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// A layer, a manifest, a configuration, or a file that was fetched.
    Blob,
    /// What is in a layer, but for content.
    LayerIndex,
    /// The compressed blocks of the last layer of a recipe.
    BlockIndex,
    /// The files of a layer.
    UnpackedLayer,
    /// The outcome of a step.
    CacheRecord,
    /// What is known of a file that was fetched.
    Download,
    /// What an image is made of, as a scanner found it.
    BillOfMaterials,
    /// Digests of files of contexts.
    FileHashes,
    /// What a reference led to.
    Reference,
    /// What commands keep between builds.
    CacheMount,
    /// The machine code of a plugin.
    CompiledPlugin,
}

/// Something in the store that can go.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Where it is.
    pub path: PathBuf,
    /// The room that it takes on the disk, in bytes.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

impl Item {
    /// Of a blob.
    pub fn blob(&self) -> Option<Digest> {
        (self.kind == ItemKind::Blob).then(|| digest_of(&self.path)).flatten()
    }
}

/// The digest that a file's name is.
pub(super) fn digest_of(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?).parse().ok()
}

impl Store {
    /// Everything that can go, in no order. What vanishes meanwhile is left out.
    ///
    /// # Errors
    /// A directory of the store can't be read.
    pub fn items(&self) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        for (directory, kind) in [
            ("blobs/sha256", ItemKind::Blob),
            ("indexes", ItemKind::LayerIndex),
            ("block-indexes", ItemKind::BlockIndex),
            ("images", ItemKind::Reference),
            ("compiled-plugins", ItemKind::CompiledPlugin),
        ] {
            self.add_files(&self.root.join(directory), |_| Some(kind), &mut items)?;
        }
        let cache = self.cache_directory();
        self.add_files(&cache, kind_in_cache, &mut items)?;
        for records in list(&cache)? {
            if records.is_dir() {
                self.add_files(&records, |_| Some(ItemKind::CacheRecord), &mut items)?;
            }
        }
        for form in list(&self.root.join("unpacked"))? {
            for layer in list_directories(&form)? {
                items.extend(locked_item(
                    ItemKind::UnpackedLayer,
                    &layer.with_extension("lock"),
                    layer.clone(),
                    &[&layer],
                ));
            }
        }
        for slot in self.cache_mount_slots()? {
            let (data, journal) = (slot.join("data"), slot.join("journal"));
            items.extend(locked_item(ItemKind::CacheMount, &slot.join("lock"), slot.clone(), &[&data, &journal]));
        }
        Ok(items)
    }

    /// The directories of all slots of all cache mounts.
    pub(super) fn cache_mount_slots(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut slots = Vec::new();
        for form in list(&self.root.join("cache-mounts"))? {
            for cache in list_directories(&form)? {
                slots.extend(list_directories(&cache)?);
            }
        }
        Ok(slots)
    }

    fn add_files(
        &self,
        directory: &Path,
        kind: impl Fn(&Path) -> Option<ItemKind>,
        items: &mut Vec<Item>,
    ) -> Result<(), StoreError> {
        for path in list(directory)? {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if let Some(kind) = kind(&path).filter(|_| metadata.is_file()) {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                items.push(Item { kind, bytes: room(&metadata), used, path });
            }
        }
        Ok(())
    }

    /// Whether something is at a place.
    pub fn is_there(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    /// Removes something, and answers whether it is gone: what was used since a moment stays ([`Store::neighbours`]).
    ///
    /// # Errors
    /// The machine refused.
    pub fn remove_item(&self, item: &Item, unused_since: SystemTime) -> Result<bool, StoreError> {
        let removing = |error| StoreError::io("remove", &item.path)(error);
        match item.kind {
            ItemKind::UnpackedLayer => {
                let lock = lock_file(&item.path.with_extension("lock"))?;
                if !is_ours(&lock).map_err(removing)?
                    || Self::was_used_since(&item.path.with_extension("lock"), unused_since)
                {
                    return Ok(false);
                }
                let aside = self.session.fresh_path("pruned");
                match move_directory(&item.path, &aside) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    moved => moved.map_err(removing)?,
                }
                remove_file(&item.path.with_extension(NOTE)).map_err(removing)?;
                drop(lock);
                remove_tree(&aside).map_err(removing)?;
            }
            ItemKind::CacheMount => {
                let lock = lock_file(&item.path.join("lock"))?;
                if !is_ours(&lock).map_err(removing)? || Self::was_used_since(&item.path.join("lock"), unused_since) {
                    return Ok(false);
                }
                let aside = self.session.fresh_path("pruned");
                match move_directory(&item.path.join("data"), &aside) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    moved => moved.map_err(removing)?,
                }
                remove_file(&item.path.join("journal")).map_err(removing)?;
                drop(lock);
                remove_tree(&aside).map_err(removing)?;
            }
            _ => {
                let aside = self.session.fresh_path("pruned");
                {
                    let _usage = self.lock_usage()?;
                    if Self::was_used_since(&item.path, unused_since) {
                        return Ok(false);
                    }
                    match fs::rename(&item.path, &aside) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                        renamed => renamed.map_err(removing)?,
                    }
                }
                remove_file(&aside).map_err(removing)?;
                if let Some(digest) = item.blob() {
                    self.forget_layer_blob(&digest)?;
                }
            }
        }
        Ok(true)
    }

    /// Removes the records of layers whose blob is gone.
    fn forget_layer_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        if let Some(layer) = self.layer_blob(digest)? {
            // The directory stays: somebody may be about to write there.
            let record = self.root.join("layer-blobs").join(layer.diff_id.hex()).join(digest.hex());
            remove_file(&record).map_err(StoreError::io("remove", &record))?;
        }
        let record = self.root.join("diff-ids").join(digest.hex());
        remove_file(&record).map_err(StoreError::io("remove", &record))
    }
}

/// What a file directly in `cache/` is.
fn kind_in_cache(path: &Path) -> Option<ItemKind> {
    let name = path.file_name()?.to_str()?;
    match name {
        "file-hashes" => Some(ItemKind::FileHashes),
        _ if !name.ends_with(".json") => None,
        _ if name.starts_with("url-") => Some(ItemKind::Download),
        _ => name.starts_with("sbom-").then_some(ItemKind::BillOfMaterials),
    }
}

/// A directory that a lock file stands for; none where nothing is left of it.
fn locked_item(kind: ItemKind, lock: &Path, path: PathBuf, parts: &[&PathBuf]) -> Option<Item> {
    if !parts.iter().any(|part| part.exists()) {
        return None;
    }
    let used = fs::symlink_metadata(lock).and_then(|lock| lock.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut seen = BTreeSet::new();
    let bytes = parts.iter().map(|part| room_beneath(part, &mut seen)).sum();
    Some(Item { kind, path, bytes, used })
}

fn is_ours(lock: &File) -> io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The room that a file takes: `st_blocks` counts 512 bytes, whatever the file system's blocks are.
fn room(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// The room that a tree takes, each inode counted once. What can't be listed counts as nothing.
fn room_beneath(path: &Path, seen: &mut BTreeSet<(u64, u64)>) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let mut bytes = if seen.insert((metadata.dev(), metadata.ino())) { room(&metadata) } else { 0 };
    if metadata.is_dir()
        && let Ok(entries) = fs::read_dir(path)
    {
        bytes += entries.flatten().map(|entry| room_beneath(&entry.path(), seen)).sum::<u64>();
    }
    bytes
}

/// Removes a file; none is fine.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is in a directory; nothing if there is none.
pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(StoreError::io("list", directory))?,
    };
    entries.map(|entry| Ok(entry.map_err(StoreError::io("list", directory))?.path())).collect()
}

fn list_directories(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let is_directory = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|path| path.is_dir());
    Ok(list(directory)?.into_iter().filter(is_directory).collect())
}
