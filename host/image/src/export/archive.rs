//! Tar archives: an OCI layout in one file, and what `docker load` reads.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use cofferdam_digest::Digest;
use serde::Serialize;

use super::{Parts, directory::copy, entries};
use crate::{Descriptor, Family, Index, Store, StoreError, json, store::OCI_LAYOUT};

/// Writes an image as a tar archive of an OCI layout. `names` are full references; `image` is a manifest or an index, of
/// the OCI family: other tools find no Docker manifest in such an archive. `copied` hears of the bytes of blobs, piece by piece.
///
/// # Errors
/// A blob is missing or damaged (the archive is cut short then), or writing failed.
pub fn oci_archive(
    store: &Store,
    image: &Descriptor,
    names: &[String],
    to: impl Write,
    copied: &dyn Fn(u64),
) -> Result<(), StoreError> {
    let parts = Parts::collect(store, image)?;
    let mut archive = Archive { store, tar: to, copied };
    archive.blobs(&parts.blobs)?;
    let index = Index::new(Family::Oci, entries(image, names));
    archive.file("index.json", &index.to_json())?;
    archive.file("oci-layout", OCI_LAYOUT)?;
    archive.finish()
}

/// Writes an image as `docker load` reads it: an OCI layout archive with a `manifest.json` that names the configuration and
/// the layers, as `docker save` itself writes since Docker 25; older versions follow `manifest.json` to the same files.
///
/// # Errors
/// [`StoreError::SeveralPlatforms`]; else as [`oci_archive`].
pub fn docker_archive(
    store: &Store,
    image: &Descriptor,
    names: &[String],
    to: impl Write,
    copied: &dyn Fn(u64),
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Item<'a> {
        config: String,
        repo_tags: &'a [String],
        layers: Vec<String>,
    }
    let parts = Parts::collect(store, image)?;
    let [manifest] = &parts.manifests[..] else { return Err(StoreError::SeveralPlatforms(parts.manifests.len())) };
    manifest.check_is_image()?;
    let item = Item {
        config: blob_name(&manifest.config.digest),
        repo_tags: names,
        layers: manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
    };
    let mut archive = Archive { store, tar: to, copied };
    archive.blobs(&parts.blobs)?;
    let index = Index::new(Family::Oci, entries(image, names));
    archive.file("index.json", &index.to_json())?;
    archive.file("manifest.json", &json::canonical(&[item]))?;
    archive.file("oci-layout", OCI_LAYOUT)?;
    archive.finish()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A tar stream with nothing of this machine in it.
struct Archive<'a, W> {
    store: &'a Store,
    tar: W,
    copied: &'a dyn Fn(u64),
}

impl<W: Write> Archive<'_, W> {
    fn blobs(&mut self, blobs: &BTreeMap<Digest, Descriptor>) -> Result<(), StoreError> {
        self.header("blobs/", tar::EntryType::Directory, 0)?;
        self.header("blobs/sha256/", tar::EntryType::Directory, 0)?;
        for (digest, descriptor) in blobs {
            let mut source = self.store.open_verified(descriptor)?;
            self.header(&blob_name(digest), tar::EntryType::Regular, descriptor.size)?;
            let (store, copied) = (self.store, self.copied);
            self.content(&mut source, descriptor.size, copied, |error| store.reading(digest, error))?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        self.header(name, tar::EntryType::Regular, content.len() as u64)?;
        self.content(&mut &content[..], content.len() as u64, &|_| (), writing)
    }

    fn header(&mut self, name: &str, kind: tar::EntryType, size: u64) -> Result<(), StoreError> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(writing)?;
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn content(
        &mut self,
        source: &mut impl Read,
        size: u64,
        copied: &dyn Fn(u64),
        reading: impl FnOnce(io::Error) -> StoreError,
    ) -> Result<(), StoreError> {
        copy(source, &mut self.tar, copied, reading, writing)?;
        let padding = (512 - size % 512) % 512;
        self.write(&[0; 512][..padding as usize])
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.write(&[0; 1024])?;
        self.tar.flush().map_err(writing)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.tar.write_all(bytes).map_err(writing)
    }
}

/// The caller knows the name of the file it handed in, and adds it.
fn writing(error: io::Error) -> StoreError {
    StoreError::io("write", "the archive")(error)
}
