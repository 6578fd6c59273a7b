//! What the image is written to on this machine. Each file appears whole or not at all.

use std::{
    cell::Cell,
    io::{self, BufWriter, Write},
    path::Path,
};

use cofferdam_image::{Descriptor, Store, StoreError, export};

use crate::{
    builder::Builder,
    error::BuildError,
    events::{Ending, Event, Kind},
    file_system::{FileSystem, FileSystemError},
    image_set::ImageSet,
    request::{Output, OutputKind},
    work::Meter,
};

/// What a build has made.
pub struct Finished<'i> {
    /// Of the manifest or index, which is in the store with all that it names.
    pub root: &'i Descriptor,
    /// Full references.
    pub names: &'i [String],
    /// The images.
    pub set: &'i ImageSet,
}

/// Writes all outputs, one after the other.
///
/// # Errors
/// The first one that can't be written, or a layer that can't be read.
pub fn write_all(builder: &Builder, image: &Finished<'_>, outputs: &[Output]) -> Result<(), BuildError> {
    for output in outputs {
        let work = builder.talk.begin(Kind::Output, format!("writing {}", output.destination.display()));
        let (meter, done) = (Meter::new(), Cell::new(0));
        let watch = |total_bytes: u64, bytes: u64| {
            done.set(done.get() + bytes);
            if meter.is_due() {
                let (digest, done_bytes, total_bytes) = (image.root.digest, done.get(), total_bytes.max(done.get()));
                work.event(|vertex| Event::Progress { vertex, digest, done_bytes, total_bytes });
            }
        };
        let written = match output.kind {
            OutputKind::FileSystemArchive | OutputKind::FileSystemDirectory => {
                write_file_system(builder, image, output, &watch)
            }
            _ => {
                let total_bytes = image.set.layers().map(|layer| layer.blob().size).sum();
                write_image(&builder.files.store, image, output, &|bytes| watch(total_bytes, bytes))
            }
        };
        match written {
            Ok(()) => work.end(Ending::Done),
            Err(error) => {
                work.end(Ending::Failed(crate::chain(&error)));
                return Err(error);
            }
        }
    }
    Ok(())
}

fn write_file_system(
    builder: &Builder,
    image: &Finished<'_>,
    output: &Output,
    watch: &dyn Fn(u64, u64),
) -> Result<(), BuildError> {
    let write = || -> Result<(), FileSystemError> {
        let files = FileSystem::of(image.set, builder)?;
        let total_bytes = files.size_bytes();
        let copied = |bytes| watch(total_bytes, bytes);
        match output.kind {
            OutputKind::FileSystemDirectory => files.write_directory(&output.destination, &copied),
            _ => files.write_archive(&output.destination, &copied),
        }
    };
    write().map_err(|source| BuildError::Output { path: shown(output), source: source.into() })
}

/// `copied` hears of the bytes of blobs, piece by piece.
fn write_image(store: &Store, image: &Finished<'_>, output: &Output, copied: &dyn Fn(u64)) -> Result<(), BuildError> {
    let Finished { root, names, .. } = image;
    let failed = |error: StoreError| match error {
        // That it was written is said by the error around it.
        StoreError::Io { action: "create" | "write" | "open", source, .. } => {
            BuildError::Output { path: shown(output), source: source.into() }
        }
        error => BuildError::Output { path: shown(output), source: error.into() },
    };
    // What is said about the image has no place in an archive for Docker.
    let loaded = match image.set.images() {
        [only] => only.descriptor(),
        _ => (*root).clone(),
    };
    let archive = |to: &mut dyn Write| match output.kind {
        OutputKind::DockerArchive => export::docker_archive(store, &loaded, names, to, copied),
        _ => export::oci_archive(store, root, names, to, copied),
    };
    if output.kind == OutputKind::OciDirectory {
        return export::oci_directory(store, root, names, &output.destination, copied).map_err(failed);
    }
    if output.destination == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        archive(&mut out).map_err(failed)?;
        return out.flush().map_err(|source| BuildError::Output { path: shown(output), source: source.into() });
    }
    let mut file = export::NewFile::create(&output.destination).map_err(failed)?;
    archive(&mut file).map_err(failed)?;
    file.persist().map_err(failed)
}

/// The destination as it is named in errors.
fn shown(output: &Output) -> std::path::PathBuf {
    match output.destination.to_str() {
        Some("-") => "standard output".into(),
        _ => output.destination.clone(),
    }
}
