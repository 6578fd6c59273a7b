//! Files that the image is written to. Each appears whole or not at all.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use cofferdam_image::{Descriptor, Store, StoreError, export};

use crate::{
    error::BuildError,
    request::{Output, OutputKind},
};

/// Writes one output. `copied` hears of the bytes of blobs, piece by piece.
///
/// # Errors
/// The file can't be written, or a blob can't be read.
pub fn write(
    store: &Store,
    image: &Descriptor,
    names: &[String],
    output: &Output,
    copied: &dyn Fn(u64),
) -> Result<(), BuildError> {
    let place = match output.destination.to_str() {
        Some("-") => "standard output".into(),
        _ => output.destination.clone(),
    };
    let failed = |error: StoreError| match error {
        // That it was written is said by the error around it.
        StoreError::Io { action: "create" | "write" | "open", source, .. } => {
            BuildError::Output { path: place.clone(), source: source.into() }
        }
        error => BuildError::Output { path: place.clone(), source: error.into() },
    };
    let archive = |to: &mut dyn Write| match output.kind {
        OutputKind::DockerArchive => export::docker_archive(store, image, names, to, copied),
        _ => export::oci_archive(store, image, names, to, copied),
    };
    if output.kind == OutputKind::OciDirectory {
        return export::oci_directory(store, image, names, &output.destination, copied).map_err(failed);
    }
    if output.destination == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        archive(&mut out).map_err(failed)?;
        return out.flush().map_err(|source| BuildError::Output { path: place.clone(), source: source.into() });
    }
    let mut file = export::NewFile::create(&output.destination).map_err(failed)?;
    archive(&mut file).map_err(failed)?;
    file.persist().map_err(failed)
}
