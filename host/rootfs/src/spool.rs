//! Where what a plugin writes waits for its layer.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Content, RootfsError, Spool};

/// Makes places for contents that are too large for memory.
pub trait SpoolFactory: Send + Sync {
    /// A place for one content.
    ///
    /// # Errors
    /// The machine failed.
    fn create(&self) -> Result<Box<dyn SpoolWriter>, RootfsError>;
}

/// One content on its way into a spool. Dropped unfinished, it leaves nothing.
pub trait SpoolWriter: Send {
    /// Appends.
    ///
    /// # Errors
    /// The machine failed (the disk is full, for example).
    fn append(&mut self, bytes: &[u8]) -> Result<(), RootfsError>;

    /// Ends the content.
    ///
    /// # Errors
    /// The machine failed.
    fn finish(self: Box<Self>) -> Result<Content, RootfsError>;
}

/// Opens a new file that nobody else can reach, for reading and writing: an unlinked temporary file.
pub type OpenSpoolFile = Box<dyn Fn() -> io::Result<File> + Send + Sync>;

/// A spool in files: contents one behind another, one file for each content that is being written at the same time.
pub struct FileSpools {
    open: OpenSpoolFile,
    /// Files that nobody is writing to, with their ends.
    idle: Arc<Mutex<Vec<FileSpool>>>,
}

/// A file of contents, of which everything before `end` is taken.
#[derive(Clone)]
struct FileSpool {
    file: Arc<File>,
    end: u64,
}

impl FileSpools {
    /// `open` is called when a file is needed.
    pub fn new(open: OpenSpoolFile) -> Self {
        Self { open, idle: Arc::default() }
    }
}

impl SpoolFactory for FileSpools {
    fn create(&self) -> Result<Box<dyn SpoolWriter>, RootfsError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let spool = match idle {
            Some(spool) => spool,
            None => FileSpool { file: Arc::new((self.open)().map_err(failed("create a spool file"))?), end: 0 },
        };
        Ok(Box::new(FileWriter { start: spool.end, size: 0, spool, idle: self.idle.clone() }))
    }
}

struct FileWriter {
    spool: FileSpool,
    start: u64,
    size: u64,
    idle: Arc<Mutex<Vec<FileSpool>>>,
}

impl SpoolWriter for FileWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), RootfsError> {
        let at = self.start + self.size;
        self.spool.file.write_all_at(bytes, at).map_err(failed("write to a spool file"))?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Content, RootfsError> {
        // Dropping hands the file on, from here.
        self.spool.end = self.start + self.size;
        Ok(Content::Spool { spool: Arc::new(self.spool.clone()), offset: self.start, size: self.size })
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        // Unfinished, `end` still is `start`: the next content overwrites.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.spool.clone());
    }
}

impl Spool for FileSpool {
    fn open(&self, offset: u64, size: u64) -> Result<Box<dyn Read + Send>, RootfsError> {
        Ok(Box::new(FileRange { file: self.file.clone(), offset, left: size }))
    }
}

struct FileRange {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for FileRange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.file.read_at(&mut buffer[..limit], self.offset)?;
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> RootfsError {
    move |source| RootfsError::Storage { action: action.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &Content) -> Vec<u8> {
        let mut bytes = Vec::new();
        content.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn contents_written_at_the_same_time_stay_apart() {
        let spools = FileSpools::new(Box::new(tempfile::tempfile));
        let (mut one, mut two) = (spools.create().unwrap(), spools.create().unwrap());
        one.append(b"on").unwrap();
        two.append(b"two").unwrap();
        one.append(b"e").unwrap();
        let (one, two) = (one.finish().unwrap(), two.finish().unwrap());
        assert_eq!((read(&one), read(&two)), (b"one".to_vec(), b"two".to_vec()));
    }

    #[test]
    fn files_are_used_again_and_dropped_contents_leave_nothing() {
        let spools = FileSpools::new(Box::new(tempfile::tempfile));
        for round in 0..3 {
            spools.create().unwrap().append(b"dropped, and longer than the next").unwrap();
            let mut kept = spools.create().unwrap();
            kept.append(format!("kept {round}").as_bytes()).unwrap();
            assert_eq!(read(&kept.finish().unwrap()), format!("kept {round}").into_bytes());
        }
        let idle = spools.idle.lock().unwrap();
        assert_eq!((idle.len(), idle[0].end), (1, 18));
    }
}
