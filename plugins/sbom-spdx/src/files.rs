//! Reading files of an image, within bounds.

use cofferdam_plugin_sdk::{
    fs::{self, CHUNK_BYTES, Kind, Tree},
    sbom::Error,
};

/// Why something was not read.
#[derive(Debug)]
pub enum Trouble {
    /// The image is to blame: a warning, in these words.
    Content(String),
    /// The host or the machine is: there is no document.
    Host(Error),
}

impl Trouble {
    /// The content of a file is not what its name says.
    pub fn content(reason: impl Into<String>) -> Self {
        Self::Content(reason.into())
    }
}

impl From<fs::Error> for Trouble {
    fn from(error: fs::Error) -> Self {
        match error {
            fs::Error::Denied(denial) => Self::Host(Error::Denied(denial)),
            fs::Error::Storage(message) => {
                Self::Host(Error::Invalid(cofferdam_plugin_sdk::diagnostics::error("StorageFailed", message)))
            }
            fs::Error::NotFound(_) => Self::content("it is not there"),
            fs::Error::NotADirectory(_) => Self::content("it is not a directory"),
            fs::Error::IsADirectory(_) => Self::content("it is a directory"),
            fs::Error::Exists(_) => Self::content("it exists already"),
            fs::Error::SymlinkLoop(_) => Self::content("its symbolic links go round in circles"),
            fs::Error::TooLarge(limit) => Self::content(format!("it is larger than {limit} bytes")),
            fs::Error::Invalid(finding) | fs::Error::Unsupported(finding) => Self::Content(finding.message),
        }
    }
}

/// The content of a regular file, symlinks resolved in the image; none if there is no such file.
///
/// # Errors
/// It has more than `limit` bytes, or can't be read.
pub fn read(root: &dyn Tree, path: &[u8], limit: usize) -> Result<Option<Vec<u8>>, Trouble> {
    let size = match root.stat(path, true) {
        Ok(Some(found)) if found.kind == Kind::File => found.size,
        Ok(_) | Err(fs::Error::NotADirectory(_) | fs::Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match usize::try_from(size).ok().filter(|size| *size <= limit) {
        Some(size) => Ok(Some(read_at(root, path, 0, size)?)),
        None => Err(Trouble::content(format!("it has more than {} MiB", limit >> 20))),
    }
}

/// At most `length` bytes of a regular file from `offset` on; fewer where it ends before.
///
/// # Errors
/// It can't be read.
pub fn read_at(root: &dyn Tree, path: &[u8], offset: u64, length: usize) -> Result<Vec<u8>, Trouble> {
    let reader = if offset == 0 { root.open(path)? } else { root.open_at(path, offset)? };
    // At once: a buffer that grows needs twice the memory while it does. Never more than a file may have here.
    let mut content = Vec::with_capacity(length);
    while content.len() < length {
        let limit = u32::try_from(length - content.len()).unwrap_or(u32::MAX).min(CHUNK_BYTES);
        let chunk = reader.read(limit)?;
        if chunk.is_empty() {
            break;
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

/// The names in a directory; none if there is no such directory.
///
/// # Errors
/// It can't be read.
pub fn names(root: &dyn Tree, path: &[u8]) -> Result<Vec<Vec<u8>>, Trouble> {
    match root.stat(path, true) {
        Ok(Some(found)) if found.kind == Kind::Directory => Ok(root.read_directory(path)?),
        Ok(_) | Err(fs::Error::NotADirectory(_) | fs::Error::NotFound(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
