//! Files that the image is written to. Each appears whole or not at all.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use cofferdam_image::{Descriptor, Store, export};

use crate::{
    error::BuildError,
    request::{Output, OutputKind},
};

/// Writes one output.
///
/// # Errors
/// The file can't be written, or a blob can't be read.
pub fn write(store: &Store, image: &Descriptor, names: &[String], output: &Output) -> Result<(), BuildError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| BuildError::Output {
        path: output.destination.clone(),
        source,
    };
    let archive = |to: &mut dyn Write| match output.kind {
        OutputKind::DockerArchive => export::docker_archive(store, image, names, to),
        _ => export::oci_archive(store, image, names, to),
    };
    if output.kind == OutputKind::OciDirectory {
        return export::oci_directory(store, image, names, &output.destination).map_err(|error| failed(error.into()));
    }
    if output.destination == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        archive(&mut out).map_err(|error| failed(error.into()))?;
        return out.flush().map_err(|error| failed(error.into()));
    }
    let mut file = export::NewFile::create(&output.destination).map_err(|error| failed(error.into()))?;
    archive(&mut file).map_err(|error| failed(error.into()))?;
    file.persist().map_err(|error| failed(error.into()))
}
