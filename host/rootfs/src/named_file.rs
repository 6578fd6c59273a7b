//! Files of this machine that the user or the operator named.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Opens a file that the user named.
///
/// # Errors
/// There is none, or it is no regular file. A fifo or a device is never waited for.
pub fn open_named_file(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// The bytes of a file that the user named; `None` if there is none.
///
/// # Errors
/// It is no regular file, is larger than `limit_bytes`, or can't be read. A fifo or a device is never waited for.
pub fn read_named_file(path: &Path, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open_named_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit_bytes} bytes")));
    }
    Ok(Some(bytes))
}
