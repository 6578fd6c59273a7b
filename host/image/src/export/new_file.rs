//! A file of the user's that appears whole or not at all.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::StoreError;

/// How the names of files end that are on their way.
const SUFFIX: &str = ".partial";

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
        name.push(".");
        remove_abandoned(place, &name);
        // In containers everybody's process id is 1, and they may share a directory.
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        name.push(format!("{}{moment}{SUFFIX}", std::process::id()));
        let temporary = place.with_file_name(name);
        let file = File::create(&temporary).map_err(StoreError::io("create", place))?;
        // Shows that somebody is at work on it. Where files can't be locked, nobody takes them for abandoned either.
        let _ = file.try_lock();
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

/// Removes what killed builders left beside a place: files that begin so, and that nobody has locked.
fn remove_abandoned(place: &Path, begin: &OsStr) {
    let directory = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.as_bytes().strip_prefix(begin.as_bytes());
        let number = number.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
        if number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_file(entry.path());
        }
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

    #[test]
    fn what_a_killed_builder_left_is_removed_and_what_another_one_writes_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(directory.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let at_work = File::create(directory.path().join("out.tar.7.partial")).unwrap();
        at_work.try_lock().unwrap();
        for name in ["out.tar.8.partial", "out.tar.x.partial", "out.tar..partial", "other.9.partial"] {
            fs::write(directory.path().join(name), "half").unwrap();
        }
        write_file(&directory.path().join("out.tar"), b"new").unwrap();
        let left = ["other.9.partial", "out.tar", "out.tar..partial", "out.tar.7.partial", "out.tar.x.partial"];
        assert_eq!(names(), left);
    }
}
