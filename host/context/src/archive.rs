//! Contexts that come as a tar archive, or as nothing but a Dockerfile: from a file, standard input, a URL or a cloud's
//! store, unpacked as they arrive.

use std::{
    fs::{self, File},
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
};

use cofferdam_archive::{BLOCK_BYTES, Compression, Entry, EntryKind, Error as ArchiveError};

use crate::{FetchError, FetchLimits, ObjectSource, Remote, Requested, download, filling::Filling, source::redacted};

/// The largest Dockerfile that is read.
const DOCKERFILE_LIMIT_BYTES: u64 = 4 << 20;

/// Where an archive comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveSource {
    /// A file of this machine.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// A URL.
    Url(String),
    /// An object in a cloud's store.
    Object(ObjectSource),
}

/// What came.
pub(crate) enum Received {
    /// An archive, unpacked into this directory.
    Unpacked(PathBuf),
    /// A text, which is the Dockerfile of an empty context.
    Dockerfile(Vec<u8>),
}

impl ArchiveSource {
    /// How messages call it.
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
            Self::Url(url) => redacted(url),
            Self::Object(source) => source.shown(),
        }
    }

    /// Reads and unpacks it.
    pub(crate) fn receive(&self, working_directory: &Path, remote: &Remote) -> Result<Received, FetchError> {
        let shown = self.shown();
        match self {
            Self::File(path) => {
                let path = working_directory.join(path);
                let reading = |source| FetchError::Storage { action: format!("read `{}`", path.display()), source };
                let file = File::open(&path).map_err(reading)?;
                if !file.metadata().map_err(reading)?.is_file() {
                    let reason = "it is no regular file; give a directory, or an archive".to_owned();
                    return Err(FetchError::Archive { url: shown, reason });
                }
                receive(&mut { file }, &shown, remote)
            }
            Self::Stdin => receive(&mut io::stdin().lock(), &shown, remote),
            Self::Object(source) => receive(&mut source.open(remote)?, &shown, remote),
            Self::Url(url) => match download(remote, url, None)? {
                Requested::Coming(mut coming) => receive(&mut *coming, &shown, remote),
                Requested::Unchanged => unreachable!("nothing was known of it"),
            },
        }
    }
}

/// The text behind a URL, for a Dockerfile.
pub(crate) fn fetch_text(remote: &Remote, url: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
    let Requested::Coming(mut coming) = download(remote, url, None)? else { unreachable!("nothing was known of it") };
    let shown = coming.shown();
    read_text(&mut *coming, &shown, Vec::new(), limit)
}

fn receive(source: &mut dyn Read, shown: &str, remote: &Remote) -> Result<Received, FetchError> {
    let mut head = Vec::new();
    let read = source.take(BLOCK_BYTES as u64).read_to_end(&mut head);
    read.map_err(|error| unreadable(shown, error))?;
    if Compression::detect(&head).is_none() && !cofferdam_archive::is_header(&head) {
        if head.is_empty() {
            return Err(FetchError::Archive { url: shown.to_owned(), reason: "it is empty".to_owned() });
        }
        let is_text = std::str::from_utf8(&head).map_or_else(|error| error.error_len().is_none(), |_| true);
        if !is_text || head.contains(&0) {
            let reason = "it is neither a tar archive (plain, gzip, bzip2, xz, zstd) nor a Dockerfile".to_owned();
            return Err(FetchError::Archive { url: shown.to_owned(), reason });
        }
        return read_text(source, shown, head, DOCKERFILE_LIMIT_BYTES).map(Received::Dockerfile);
    }
    let directory = remote.scratch()?.join("files");
    let made = fs::create_dir(&directory);
    made.map_err(|source| FetchError::Storage { action: format!("make `{}`", directory.display()), source })?;
    let whole = Cursor::new(head).chain(source);
    unpack(whole, shown, &directory, remote.limits(), &|| remote.is_stopped())?;
    Ok(Received::Unpacked(directory))
}

fn read_text(source: &mut dyn Read, shown: &str, mut text: Vec<u8>, limit: u64) -> Result<Vec<u8>, FetchError> {
    let left = (limit + 1).saturating_sub(text.len() as u64);
    source.take(left).read_to_end(&mut text).map_err(|error| unreadable(shown, error))?;
    match text.len() as u64 > limit {
        true => Err(FetchError::TooLarge { url: shown.to_owned(), limit, unit: "bytes" }),
        false => Ok(text),
    }
}

/// Writes the entries of an archive. Owners are not kept: everything in a context belongs to root.
fn unpack(
    source: impl Read,
    shown: &str,
    into: &Path,
    limits: FetchLimits,
    stopped: &dyn Fn() -> bool,
) -> Result<(), FetchError> {
    let failed = |error: ArchiveError| match error {
        ArchiveError::Read(error) => unreadable(shown, error),
        other => FetchError::Archive { url: shown.to_owned(), reason: other.to_string() },
    };
    let not_tar = || {
        let reason = "it is compressed, but no tar archive".to_owned();
        FetchError::Archive { url: shown.to_owned(), reason }
    };
    let opened = cofferdam_archive::open(source).map_err(|error| unreadable(shown, error))?;
    let mut archive = opened.ok_or_else(not_tar)?;
    let mut filling = Filling::new(into, shown, limits)?.replacing();
    while let Some(Entry { name, kind, mode, .. }) = archive.next_entry().map_err(failed)? {
        if stopped() {
            return Err(FetchError::Stopped);
        }
        match kind {
            EntryKind::Directory => filling.directory(&name, mode)?,
            // The root is a directory, whatever an archive says of it.
            _ if name.is_empty() => {}
            EntryKind::File(_) => filling.file(&name, mode, &mut archive)?,
            EntryKind::Symlink(target) => filling.symlink(&name, &target)?,
            EntryKind::HardLink(target) => filling.hard_link(&name, &target)?,
            EntryKind::Fifo => filling.fifo(&name, mode)?,
            EntryKind::CharacterDevice(..) | EntryKind::BlockDevice(..) => {
                let name = String::from_utf8_lossy(&name).into_owned();
                let reason = format!("`{name}` is a device, which no context can hold; leave it out");
                return Err(FetchError::Archive { url: shown.to_owned(), reason });
            }
        }
    }
    filling.finish()
}

/// A reader's error is the network's where that caused it, however often it was wrapped.
pub(crate) fn unreadable(shown: &str, error: io::Error) -> FetchError {
    error.downcast::<FetchError>().unwrap_or_else(|error| {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
            _ => format!("it can't be read: {error}"),
        };
        FetchError::Archive { url: shown.to_owned(), reason }
    })
}
