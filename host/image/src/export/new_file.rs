//! A file of the user's that appears whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::StoreError;

/// A file on its way. It is written beside its place and moved there by [`NewFile::persist`]; dropped without that, it
/// leaves nothing. A place that is no regular file (a named pipe, `/dev/stdout`) is written to directly.
pub struct NewFile {
    place: PathBuf,
    temporary: Option<PathBuf>,
    out: BufWriter<File>,
}

impl NewFile {
    /// Begins a file; what is there now stays until the new one is complete.
    ///
    /// # Errors
    /// The directory does not exist or can't be written.
    pub fn create(place: &Path) -> Result<Self, StoreError> {
        let special = fs::metadata(place).is_ok_and(|there| !there.is_file());
        if special {
            let file = OpenOptions::new().write(true).open(place).map_err(StoreError::io("open", place))?;
            return Ok(Self { place: place.to_path_buf(), temporary: None, out: BufWriter::new(file) });
        }
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let temporary = place.with_file_name(name);
        let file = File::create(&temporary).map_err(StoreError::io("create", place))?;
        Ok(Self { place: place.to_path_buf(), temporary: Some(temporary), out: BufWriter::new(file) })
    }

    /// Puts the file into its place.
    ///
    /// # Errors
    /// The disk is full, or the machine refused.
    pub fn persist(mut self) -> Result<(), StoreError> {
        self.out.flush().map_err(StoreError::io("write", &self.place))?;
        if let Some(temporary) = self.temporary.take() {
            let renamed = fs::rename(&temporary, &self.place);
            if renamed.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            renamed.map_err(StoreError::io("write", &self.place))?;
        }
        Ok(())
    }
}

/// Writes a small file whole or not at all.
///
/// # Errors
/// As [`NewFile`].
pub fn write_file(place: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = NewFile::create(place)?;
    file.write_all(bytes).map_err(StoreError::io("write", place))?;
    file.persist()
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_file_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("out.tar");
        write_file(&place, b"old").unwrap();
        NewFile::create(&place).unwrap().write_all(b"half of the n").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"old");
        write_file(&place, b"new").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
