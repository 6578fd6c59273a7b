//! The content store: one directory for blobs, layers, and images, shared by any number of builders at once.
//!
//! | path | what | who trusts it |
//! | --- | --- | --- |
//! | `oci-layout`, `index.json`, `blobs/sha256/` | an OCI layout that every tool reads | readers verify digests |
//! | `indexes/HEX` | the [`LayerIndex`](cofferdam_rootfs::LayerIndex) of a DiffID | a checksum in the file |
//! | `block-indexes/HEX` | the compressed blocks of the last layer of a recipe | a checksum in the file |
//! | `diff-ids/HEX`, `layer-blobs/HEX/HEX` | blob → DiffID and back | read with bounds |
//! | `unpacked/FORM/HEX/` | a layer's files | only this user can write there |
//! | `cache/` | records of the layer cache (`cofferdam-cache`) | a checksum in the file |
//! | `images/HEX` | what a reference led to when it was last looked up | read with bounds |
//! | `cache-mounts/FORM/HEX/N/` | what commands keep in their cache mounts | the commands alone |
//! | `compiled-plugins/` | the machine code of plugins (`cofferdam-plugin-host`) | the plugin host |
//! | `tmp/` | one directory for each living builder | nobody |
//!
//! **Sharing.** Everything is written beside its place and renamed into it, so a reader sees all or nothing. Two builders
//! that make the same thing at once both succeed; the first one's stays. Only unpacking takes a lock, to save work.
//!
//! **Making room.** Everything can go at any time, but for what a living builder has seen ([`Store::neighbours`]); a build that misses
//! it makes or fetches it again. [`Store::items`] lists what there is, [`Store::remove_item`] removes.
//!
//! **After a crash.** A killed builder leaves nothing but its directory in `tmp/`, which the next builder removes. When
//! the *machine* stops, a file that was just written may be short, empty, or full of zeros. Only `index.json` is synced: for a
//! builder, waiting for the disk costs more than building again. So nothing is trusted that was not looked at: records
//! and indexes have checksums; [`Store::has_blob`] compares the size, every reader verifies the digest (or the DiffID), and a
//! blob that turns out to be damaged is removed; unpacked layers, of which nobody can tell, are used in the boot of
//! the machine in which they were unpacked (`unpacked/boot`), and made anew after that.

mod blob;
mod block_index;
mod cache_mount;
mod images;
mod items;
mod layer_blob;
mod layer_index;
mod location;
mod session;
mod unpacked;
mod usage;

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_digest::{Digest, HashingReader, VerifyError, VerifyingReader};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{Descriptor, ImageError, MediaType, StoreError, json};
use session::{Session, move_directory};
use unpacked::forget_unpacked_of_another_boot;

pub use blob::{BlobInfo, BlobWriter, RawBlobWriter};
pub use block_index::StoredBlocks;
pub use cache_mount::{CacheMount, CacheSharing};
pub use images::StoredImage;
pub use items::{Item, ItemKind};
pub use layer_blob::LayerBlob;
pub use location::StoreLocation;
pub use session::TempDir;
pub use unpacked::{UnpackGuard, Unpacking};
pub use usage::Neighbours;

pub(crate) use session::sync_directory;

/// What `oci-layout` holds (OCI image specification, image-layout.md).
pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// With less room than this a disk counts as full.
const FULL_BELOW_BYTES: u64 = 1 << 20;

/// A handle to the content store; clones share it. Temporary files vanish when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    root: Arc<Path>,
    session: Arc<Session>,
    /// What was damaged and begun anew: told once.
    repaired: Arc<Mutex<Vec<PathBuf>>>,
    /// Whether what is looked at counts as used.
    is_user: bool,
}

impl Store {
    /// Opens a store, and makes it if there is none. Removes what killed builders left behind, as far as this user can.
    ///
    /// The directory is made for its owner alone: unpacked layers hold setuid programs that no other user should reach.
    ///
    /// # Errors
    /// The directory can't be made or written; the error names it and the remedy.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(path).map_err(StoreError::io("create the store's directory", path))?;
        let root = fs::canonicalize(path).map_err(StoreError::io("open the store's directory", path))?;
        for name in [
            "blobs/sha256",
            "indexes",
            "block-indexes",
            "diff-ids",
            "layer-blobs",
            "cache",
            "images",
            "unpacked",
            "cache-mounts",
            "tmp",
        ] {
            let directory = root.join(name);
            if !directory.is_dir() {
                private.create(&directory).map_err(StoreError::io("create the store's directory", &directory))?;
            }
        }
        for name in ["unpacked", "cache-mounts", "tmp"] {
            let directory = root.join(name);
            let metadata =
                fs::metadata(&directory).map_err(StoreError::io("open the store's directory", &directory))?;
            // Whatever the umask, or the tool that restored the directory from a CI cache, made of it.
            if metadata.permissions().mode() & 0o777 != 0o700 {
                let private = Permissions::from_mode(0o700);
                fs::set_permissions(&directory, private).map_err(StoreError::io("make private", &directory))?;
            }
            // A default ACL would stand in for the umask of every command and give images other modes.
            match rustix::fs::removexattr(&directory, "system.posix_acl_default") {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::ROFS) => {}
                Err(errno) => return Err(StoreError::io("remove the default ACL of", &directory)(errno.into())),
            }
        }
        let session = Session::begin(&root.join("tmp"), |session| forget_unpacked_of_another_boot(&root, session))?;
        let store = Self { root: root.into(), session: Arc::new(session), repaired: Arc::default(), is_user: true };
        let layout = store.root.join("oci-layout");
        if read_small(&layout, json::DOCUMENT_LIMIT_BYTES)?.as_deref() != Some(OCI_LAYOUT) {
            store.write_atomically(&layout, OCI_LAYOUT)?;
        }
        store.ensure_image_list()?;
        Ok(store)
    }

    /// For whoever looks at everything and builds nothing: what it sees does not count as used, and may go at any time.
    #[must_use]
    pub fn as_inspector(self) -> Self {
        Self { is_user: false, ..self }
    }

    /// Lists of the store that were damaged and began anew since the last call, for a warning.
    pub fn take_repaired(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.repaired.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The store's directory, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there is next to no room left, so that a command that failed may have failed for that.
    pub fn is_full(&self) -> bool {
        rustix::fs::statvfs(&*self.root)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL_BELOW_BYTES)
    }

    /// Where the records of the layer cache are.
    pub fn cache_directory(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Whether a blob is there, with this size in bytes if it is known. It stays for as long as this builder is at work.
    pub fn has_blob(&self, digest: &Digest, size: Option<u64>) -> bool {
        let path = self.blob_path(digest);
        fs::symlink_metadata(&path).is_ok_and(|file| {
            let is_it = file.is_file() && size.is_none_or(|size| file.len() == size);
            is_it && self.mark_used(&path, file.modified().ok())
        })
    }

    /// Opens a file beneath the store's directory; `None` if there is none, or something that is no regular file.
    ///
    /// # Errors
    /// The machine refused.
    pub fn open_own_file(&self, path: &Path) -> Result<Option<File>, StoreError> {
        let file = open_regular(path)?;
        if let Some(file) = &file {
            self.mark_used(path, file.metadata().and_then(|file| file.modified()).ok());
        }
        Ok(file)
    }

    /// Opens a blob; nothing is verified.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or the machine refused.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let missing = || StoreError::Missing { digest: *digest, store: self.root.to_path_buf() };
        self.open_own_file(&self.blob_path(digest))?.ok_or_else(missing)
    }

    /// Opens a blob for a reader that ends with an error (`InvalidData`) unless the bytes are those of the descriptor.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or the machine refused.
    pub fn open_verified(&self, descriptor: &Descriptor) -> Result<VerifyingReader<File>, StoreError> {
        Ok(descriptor.verify(self.open_blob(&descriptor.digest)?))
    }

    /// Reads a manifest, index or configuration whole, verified.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`], larger than a document may be, or the machine refused.
    pub fn read_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError> {
        if descriptor.size > json::DOCUMENT_LIMIT_BYTES {
            let what = format!("the document {}", descriptor.digest);
            return Err(ImageError::TooLarge { what, limit: json::DOCUMENT_LIMIT_BYTES }.into());
        }
        let mut bytes = Vec::new();
        let read = self.open_verified(descriptor)?.read_to_end(&mut bytes);
        read.map_err(|source| self.reading(&descriptor.digest, source))?;
        Ok(bytes)
    }

    /// Stores a manifest, index or configuration.
    ///
    /// # Errors
    /// The machine refused.
    pub fn put_document(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, StoreError> {
        let descriptor = Descriptor::of(media_type, bytes);
        let path = self.blob_path(&descriptor.digest);
        // Not by its size alone: after a power failure a file may have its length, and zeros for its content.
        let is_there = self.has_blob(&descriptor.digest, Some(descriptor.size))
            && read_small(&path, json::DOCUMENT_LIMIT_BYTES).ok().flatten().as_deref() == Some(bytes);
        if !is_there {
            self.write_atomically(&path, bytes)?;
        }
        Ok(descriptor)
    }

    /// Removes a blob if its bytes are not those of its name, and says whether it did: so the next build makes or fetches
    /// it again. For whoever met something that can't be, as all of it is read.
    pub fn remove_if_damaged(&self, digest: &Digest) -> bool {
        let Ok(file) = self.open_blob(digest) else { return false };
        let mut hashing = HashingReader::new(file);
        match io::copy(&mut hashing, &mut io::sink()) {
            Ok(_) => hashing.finish().0 != *digest && self.remove_blob(digest).is_ok(),
            Err(_) => false,
        }
    }

    /// The error for a blob that [`Store::remove_if_damaged`] has removed.
    pub fn damaged(&self, digest: &Digest) -> StoreError {
        StoreError::Damaged { digest: *digest, path: self.blob_path(digest), removed: true, source: None }
    }

    /// Removes a blob; one that is not there is fine.
    ///
    /// # Errors
    /// The machine refused.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// A directory for this process's own use, on the store's file system, removed with the handle.
    ///
    /// # Errors
    /// The machine refused.
    pub fn temp_dir(&self, purpose: &str) -> Result<TempDir, StoreError> {
        TempDir::new(Arc::clone(&self.session), purpose)
    }

    /// A directory beneath one that [`Store::temp_dir`] made, for its owner alone.
    ///
    /// # Errors
    /// The machine refused.
    pub fn make_directory(&self, path: &Path) -> Result<(), StoreError> {
        fs::DirBuilder::new().mode(0o700).create(path).map_err(StoreError::io("create", path))
    }

    /// Removes everything temporary of this process at once, for a program that ends without dropping its handles. What is
    /// being written fails afterwards.
    pub fn remove_temporary(&self) {
        self.session.remove();
    }

    /// A file without a name: gone when it is closed, whatever happens.
    ///
    /// # Errors
    /// The machine refused.
    pub fn spool_file(&self) -> Result<File, StoreError> {
        let (file, path) = self.session.create_file("spool")?;
        fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
        Ok(file)
    }

    /// Writes a small file so that readers see the old content or the new, never a part. Not synced.
    ///
    /// # Errors
    /// The machine refused.
    pub fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.replace_file(path, false, |file| file.write_all(bytes))
    }

    pub(super) fn replace_file(
        &self,
        path: &Path,
        synced: bool,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let (mut file, temporary) = self.session.create_file("write")?;
        let written = write(&mut file).and_then(|()| if synced { file.sync_all() } else { Ok(()) });
        let renamed = written
            .map_err(StoreError::io("write", path))
            .and_then(|()| self.put_in_place(&temporary, path).map_err(StoreError::io("write", path)));
        if renamed.is_err() {
            drop(fs::remove_file(&temporary));
        } else if synced && let Some(parent) = path.parent() {
            sync_directory(parent)?;
        }
        renamed
    }

    /// Renames a finished file to its name. A directory that stands there, which a store does not have, gives way; anything
    /// else is replaced by rename(2) itself.
    pub(super) fn put_in_place(&self, temporary: &Path, path: &Path) -> io::Result<()> {
        match fs::rename(temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                move_directory(path, &self.session.fresh_path("misplaced"))?;
                fs::rename(temporary, path)
            }
            renamed => renamed,
        }
    }

    /// The error of a reader of [`Store::open_verified`]. What is damaged is removed, so that the next build does not meet
    /// it again.
    pub(crate) fn reading(&self, digest: &Digest, source: io::Error) -> StoreError {
        let path = self.blob_path(digest);
        match source.get_ref().is_some_and(|inner| inner.is::<VerifyError>()) {
            true => {
                let removed = self.remove_blob(digest).is_ok();
                StoreError::Damaged { digest: *digest, path, removed, source: Some(source) }
            }
            false => StoreError::Io { action: "read", path, source },
        }
    }
}

/// Reads a small file of the store's own; `None` if there is none or it is larger than the limit.
pub(crate) fn read_small(path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(file) = open_regular(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    Ok((bytes.len() as u64 <= limit_bytes).then_some(bytes))
}

/// Opens a file of the store's own. What is no regular file counts as none: a pipe would be waited for, and a link leads
/// to what is not the store's. Whoever writes a file of that name replaces it.
pub(crate) fn open_regular(path: &Path) -> Result<Option<File>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A link, a socket, a device without a driver.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(None),
        Err(errno) => return Err(StoreError::io("open", path)(errno.into())),
    };
    let metadata = file.metadata().map_err(StoreError::io("open", path))?;
    Ok(metadata.is_file().then_some(file))
}
