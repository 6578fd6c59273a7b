//! Unpacked layers: made once, used by every builder.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use cofferdam_digest::Digest;

use super::{
    Store, TempDir,
    items::digest_of,
    read_small,
    session::{Session, lock_file, move_directory},
    usage::touch,
};
use crate::StoreError;

/// What [`Store::begin_unpack`] found.
pub enum Unpacking {
    /// It is there already; nothing is to be done.
    Ready(PathBuf),
    /// It is this caller's to do.
    Started(UnpackGuard),
}

/// How the name of a file ends that says which layer a directory has.
pub(super) const NOTE: &str = "layer";

/// It has a digest.
const NOTE_LIMIT_BYTES: u64 = 100;

/// How long a builder waits for another one that unpacks the same layer. That one may be stopped, or wait for a registry
/// that does not answer: then both do the work, and the first one's result is used.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it looks whether the other one has finished.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A shorter wait is not worth a word.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// A layer that is being unpacked. Dropped without [`UnpackGuard::commit`], it leaves nothing.
pub struct UnpackGuard {
    directory: TempDir,
    place: PathBuf,
    /// Lets others wait; none where this builder has lost its patience with the one that has it.
    _lock: Option<File>,
}

impl Store {
    /// The directory of an unpacked layer. `form` tells apart ways of unpacking whose results differ on disk: `overlay` has
    /// whiteouts of the kernel's kind, `flat` has none, ids may be mapped.
    ///
    /// # Errors
    /// `form` is not a name.
    pub fn unpacked(&self, form: &str, diff_id: &Digest) -> Result<Option<PathBuf>, StoreError> {
        let place = self.unpacked_place(form, diff_id)?;
        Ok(is_directory(&place).then_some(place))
    }

    /// Starts to unpack a layer, or waits until the builder or thread that is at it has finished, but not for ever. `waits`
    /// is called once if that takes long. The same thread must not ask twice.
    ///
    /// # Errors
    /// `form` is not a name, or the machine refused.
    pub fn begin_unpack(&self, form: &str, diff_id: &Digest, waits: &dyn Fn()) -> Result<Unpacking, StoreError> {
        let (place, lock) = self.lock_unpacked(form, diff_id, waits)?;
        if is_directory(&place) {
            return Ok(Unpacking::Ready(place));
        }
        Ok(Unpacking::Started(UnpackGuard { directory: self.temp_dir("unpack")?, place, _lock: lock }))
    }

    /// Takes a directory that already holds a layer unpacked in this form, such as the upper directory from which the layer
    /// was made, and returns where it is now. It must lie on the store's file system ([`Store::temp_dir`]) and not be
    /// mounted. If another builder was first, theirs is used and `directory` stays where it is.
    ///
    /// # Errors
    /// `form` is not a name, or the machine refused.
    pub fn adopt_unpacked(&self, form: &str, diff_id: &Digest, directory: &Path) -> Result<PathBuf, StoreError> {
        let (place, _lock) = self.lock_unpacked(form, diff_id, &|| ())?;
        put(directory, &place)?;
        Ok(place)
    }

    /// Notes which layer is unpacked under a key that is not its DiffID.
    ///
    /// # Errors
    /// `form` is not a name, or the machine refused.
    pub fn note_unpacked_layer(&self, form: &str, key: &Digest, diff_id: &Digest) -> Result<(), StoreError> {
        let note = self.unpacked_place(form, key)?.with_extension(NOTE);
        self.write_atomically(&note, diff_id.to_string().as_bytes())
    }

    /// The DiffID of what is unpacked in a directory.
    ///
    /// # Errors
    /// The machine refused.
    pub fn unpacked_layer(&self, directory: &Path) -> Result<Option<Digest>, StoreError> {
        let note = read_small(&directory.with_extension(NOTE), NOTE_LIMIT_BYTES)?;
        let noted = note.and_then(|note| String::from_utf8(note).ok()?.parse().ok());
        Ok(noted.or_else(|| digest_of(directory)))
    }

    fn unpacked_place(&self, form: &str, diff_id: &Digest) -> Result<PathBuf, StoreError> {
        if form.is_empty() || !form.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return Err(StoreError::Form(form.to_owned()));
        }
        Ok(self.root.join("unpacked").join(form).join(diff_id.hex()))
    }

    fn lock_unpacked(
        &self,
        form: &str,
        diff_id: &Digest,
        waits: &dyn Fn(),
    ) -> Result<(PathBuf, Option<File>), StoreError> {
        let place = self.unpacked_place(form, diff_id)?;
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
        }
        // The lock file stays: removing it would let two builders lock two files of one name.
        let lock_path = place.with_extension("lock");
        let lock = lock_file(&lock_path)?;
        let begun = Instant::now();
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => {
                    touch(&lock);
                    return Ok((place, Some(lock)));
                }
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                    if !told && begun.elapsed() >= WORTH_TELLING {
                        waits();
                        told = true;
                    }
                    thread::sleep(LOOK_AGAIN);
                }
                Err(TryLockError::WouldBlock) => {
                    touch(&lock);
                    return Ok((place, None));
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &lock_path)(error)),
            }
        }
    }
}

/// Moves an unpacked layer to its place, unless another builder was first.
fn put(directory: &Path, place: &Path) -> Result<(), StoreError> {
    if is_directory(place) {
        return Ok(());
    }
    if fs::symlink_metadata(place).is_ok() {
        // None of the store's, and rename(2) would not replace it.
        fs::remove_file(place).map_err(StoreError::io("remove", place))?;
    }
    match move_directory(directory, place) {
        // rename(2) replaces no directory that has something in it: it is the same, and may be in use.
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => Ok(()),
        moved => moved.map_err(StoreError::io("move an unpacked layer to", place)),
    }
}

/// Whether it is one itself: a link would lead to what is not the store's.
fn is_directory(place: &Path) -> bool {
    fs::symlink_metadata(place).is_ok_and(|place| place.is_dir())
}

/// Puts aside what was unpacked before the machine was started anew: some of it may never have reached the disk, and
/// nothing tells. Its removal is the session's, as for everything temporary.
///
/// To be called while no other builder is at work: it would use what is there.
pub(super) fn forget_unpacked_of_another_boot(root: &Path, session: &Session) -> Result<(), StoreError> {
    // Without it (no /proc), what is there is trusted, as it may be when there was no power failure.
    let Some(boot) = read_small(Path::new("/proc/sys/kernel/random/boot_id"), 100).ok().flatten() else {
        return Ok(());
    };
    let unpacked = root.join("unpacked");
    let marker = unpacked.join("boot");
    if read_small(&marker, 100)?.as_deref() == Some(&boot) {
        return Ok(());
    }
    for form in fs::read_dir(&unpacked).map_err(StoreError::io("list", &unpacked))? {
        let form = form.map_err(StoreError::io("list", &unpacked))?.path();
        if form.is_dir() {
            let aside = session.fresh_path("unpacked");
            move_directory(&form, &aside).map_err(StoreError::io("move", &form))?;
        }
    }
    let (mut file, temporary) = session.create_file("write")?;
    let written = file.write_all(&boot).and_then(|()| fs::rename(&temporary, &marker));
    written.map_err(StoreError::io("write", &marker))
}

impl UnpackGuard {
    /// Where to unpack: an empty directory of mode 0700.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Puts the directory into its place and returns it.
    ///
    /// # Errors
    /// The machine refused.
    pub fn commit(self) -> Result<PathBuf, StoreError> {
        put(self.directory.path(), &self.place)?;
        Ok(self.place)
    }
}
