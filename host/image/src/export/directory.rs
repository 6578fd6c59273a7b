//! An OCI layout directory.

use std::{fs, io, path::Path};

use oci_spec::image::ANNOTATION_REF_NAME;

use super::{NewDirectory, NewFile, Parts, entries, write_file};
use crate::{Descriptor, Family, Index, OciLayout, Store, StoreError, store::OCI_LAYOUT};

/// Writes an image as an OCI layout directory (OCI image specification, image-layout.md), or adds it to the layout that is
/// there. A tag that another image of that layout had moves to this one.
///
/// `names` are full references; `image` is a manifest or an index in the store. `copied` hears of the bytes of blobs, piece by
/// piece.
///
/// # Errors
/// A blob is missing or damaged, `directory` holds something else, or the machine refused.
pub fn oci_directory(
    store: &Store,
    image: &Descriptor,
    names: &[String],
    directory: &Path,
    copied: &dyn Fn(u64),
) -> Result<(), StoreError> {
    let new = NewDirectory::create(directory)?;
    write_directory(store, image, names, directory, copied)?;
    new.keep();
    Ok(())
}

fn write_directory(
    store: &Store,
    image: &Descriptor,
    names: &[String],
    directory: &Path,
    copied: &dyn Fn(u64),
) -> Result<(), StoreError> {
    let parts = Parts::collect(store, image)?;
    let existing = OciLayout::is_at(directory);
    let mut index =
        if existing { OciLayout::open(directory)?.index().clone() } else { Index::new(Family::Oci, Vec::new()) };
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(StoreError::io("create", &blobs))?;
    for descriptor in parts.blobs.values() {
        copy_blob(store, descriptor, &blobs, copied)?;
    }
    let new = entries(image, names);
    let tag = |entry: &Descriptor| entry.annotations.get(ANNOTATION_REF_NAME).cloned();
    index
        .manifests
        .retain(|old| !new.iter().any(|new| tag(new) == tag(old) && (tag(old).is_some() || old.digest == new.digest)));
    index.manifests.extend(new);
    if !existing {
        let path = directory.join("oci-layout");
        fs::write(&path, OCI_LAYOUT).map_err(StoreError::io("write", &path))?;
    }
    // Last, so that a reader never finds a name without its blobs.
    let path = directory.join("index.json");
    write_file(&path, &index.to_json())
}

/// A copy, not a link: whoever changes the export must not change the store.
fn copy_blob(store: &Store, descriptor: &Descriptor, blobs: &Path, copied: &dyn Fn(u64)) -> Result<(), StoreError> {
    let path = blobs.join(descriptor.digest.hex());
    if fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() == descriptor.size) {
        copied(descriptor.size);
        return Ok(());
    }
    let mut source = store.open_verified(descriptor)?;
    let mut file = NewFile::create(&path)?;
    let reading = |source| store.reading(&descriptor.digest, source);
    copy(&mut source, &mut file, copied, reading, StoreError::io("write", &path))?;
    file.persist()
}

/// Copies to the end, tells of each piece, and keeps the two sides' errors apart.
pub(super) fn copy(
    source: &mut impl io::Read,
    target: &mut impl io::Write,
    copied: &dyn Fn(u64),
    reading: impl FnOnce(io::Error) -> StoreError,
    writing: impl FnOnce(io::Error) -> StoreError,
) -> Result<(), StoreError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if let Err(error) = target.write_all(&buffer[..count]) {
                    return Err(writing(error));
                }
                copied(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(reading(error)),
        }
    }
}
