//! Unpacks an archive into the root file system as its bytes stream by.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use cofferdam_archive::{Archive, Entry, EntryKind, Error as ArchiveError};
use cofferdam_plugin_sdk::{
    DiagnosticExt,
    diagnostics::{Timestamp, error},
    fs::{Attributes, CHUNK_BYTES, Error as FsError, Kind, Owner, ROOT, Reader, RootFs},
    instruction::Error,
    paths,
};
use cofferdam_transfer::Arrival;

/// Unpacks the file if it is an archive, and says whether it was.
///
/// # Errors
/// The archive is damaged, climbs, or uses what is not supported; or the host's.
pub fn unpack(arrival: &Arrival) -> Result<bool, Error> {
    let source = Chunks { reader: arrival.tree.open(arrival.path)?, chunk: Vec::new(), position: 0 };
    let failed = |error| explain(&arrival.shown, error);
    let Some(mut archive) = cofferdam_archive::open(source).map_err(|error| failed(error.into()))? else {
        return Ok(false);
    };
    if arrival.destination != b"/" {
        let owner = arrival.owner.unwrap_or(ROOT);
        arrival.rootfs.create_directories(arrival.destination, Attributes { mode: 0o755, owner, mtime: None })?;
    }
    let mut links = Links::default();
    while let Some(entry) = archive.next_entry().map_err(failed)? {
        // The archive's own root says nothing about the destination.
        if !entry.name.is_empty() {
            put(arrival, &mut archive, &entry, &mut links).map_err(|error| match error {
                PutError::Loop(name) => explain(&arrival.shown, ArchiveError::Malformed(loops(&name))),
                PutError::Other(error) => error,
            })?;
        }
    }
    Ok(true)
}

/// As many symlinks as the kernel follows.
const SYMLINK_LIMIT: usize = 40;

fn loops(name: &[u8]) -> String {
    format!("too many symbolic links lead to the entry `{}`", String::from_utf8_lossy(name))
}

enum PutError {
    /// The symlinks of the archive lead in a circle.
    Loop(Vec<u8>),
    Other(Error),
}

impl<E: Into<Error>> From<E> for PutError {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// The symlinks that the archive made so far, by their names relative to the destination. To what is unpacked the destination
/// is the root: `..` stops there, and an absolute link starts there.
#[derive(Default)]
struct Links(BTreeMap<Vec<u8>, Vec<u8>>);

impl Links {
    /// Where an entry really goes: its parents followed, the last component not.
    fn place(&self, name: &[u8]) -> Result<Vec<u8>, PutError> {
        let split = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut ahead: Vec<Vec<u8>> = split(name);
        ahead.reverse();
        let mut place: Vec<Vec<u8>> = Vec::new();
        let mut followed = 0;
        while let Some(component) = ahead.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    place.pop();
                    continue;
                }
                _ => place.push(component),
            }
            if ahead.is_empty() {
                break;
            }
            let Some(target) = self.0.get(&place.join(&b'/')) else { continue };
            followed += 1;
            if followed > SYMLINK_LIMIT {
                return Err(PutError::Loop(name.to_vec()));
            }
            place.pop();
            if target.starts_with(b"/") {
                place.clear();
            }
            ahead.extend(split(target).into_iter().rev());
        }
        Ok(place.join(&b'/'))
    }
}

fn put<R: Read>(arrival: &Arrival, archive: &mut Archive<R>, entry: &Entry, links: &mut Links) -> Result<(), PutError> {
    let rootfs = arrival.rootfs;
    let place = links.place(&entry.name)?;
    if place.is_empty() {
        return Ok(());
    }
    let path = paths::join(arrival.destination, &place);
    links.0.remove(&place);
    let (seconds, nanoseconds) = entry.mtime;
    let attributes = Attributes {
        mode: entry.mode,
        owner: arrival.owner.unwrap_or(Owner { uid: entry.uid, gid: entry.gid }),
        mtime: Some(Timestamp { seconds, nanoseconds }),
    };
    match &entry.kind {
        EntryKind::File(_) => put_file(arrival, archive, &path, attributes)?,
        EntryKind::Directory => rootfs.put_directory(&path, attributes)?,
        EntryKind::Symlink(target) => {
            rootfs.put_symlink(&path, target, attributes)?;
            links.0.insert(place, target.clone());
        }
        EntryKind::HardLink(target) => {
            let target = paths::join(arrival.destination, &links.place(target)?);
            return Ok(rootfs.put_hard_link(&path, &target)?);
        }
        EntryKind::CharacterDevice(major, minor) => {
            rootfs.put_node(&path, Kind::CharacterDevice, *major, *minor, attributes)?;
        }
        EntryKind::BlockDevice(major, minor) => {
            rootfs.put_node(&path, Kind::BlockDevice, *major, *minor, attributes)?
        }
        EntryKind::Fifo => rootfs.put_node(&path, Kind::Fifo, 0, 0, attributes)?,
    }
    Ok(set_xattrs(rootfs, &path, entry)?)
}

fn put_file<R: Read>(
    arrival: &Arrival,
    archive: &mut Archive<R>,
    path: &[u8],
    attributes: Attributes,
) -> Result<(), Error> {
    let writer = arrival.rootfs.put_file(path, attributes)?;
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    loop {
        // Whole chunks, since decoders hand out small pieces and each call to the host has its price.
        let mut filled = 0;
        while filled < buffer.len() {
            match archive.read(&mut buffer[filled..]).map_err(|error| explain(&arrival.shown, error.into()))? {
                0 => break,
                length => filled += length,
            }
        }
        if filled == 0 {
            return Ok(writer.finish()?);
        }
        writer.write(&buffer[..filled])?;
    }
}

/// Attributes that the host does not take (labels of a security module, for example) are left out, as Docker leaves
/// them out.
fn set_xattrs(rootfs: &dyn RootFs, path: &[u8], entry: &Entry) -> Result<(), Error> {
    for (name, value) in &entry.xattrs {
        match rootfs.set_xattr(path, name, value) {
            Ok(()) | Err(FsError::Unsupported(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn explain(shown: &str, problem: ArchiveError) -> Error {
    let message = format!("`{shown}` can't be unpacked: {problem}");
    let help = "write `ADD --unpack=false` to copy the file as it is";
    match problem {
        ArchiveError::Unsupported(_) => Error::Unsupported(error("UnsupportedArchive", message).help(help)),
        _ => Error::Invalid(error("MalformedArchive", message).help(help)),
    }
}

/// A file of a tree as a stream.
struct Chunks {
    reader: Box<dyn Reader>,
    chunk: Vec<u8>,
    position: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.chunk.len() {
            self.chunk = self.reader.read(CHUNK_BYTES).map_err(|error| io::Error::other(format!("{error:?}")))?;
            self.position = 0;
        }
        let length = buffer.len().min(self.chunk.len() - self.position);
        buffer[..length].copy_from_slice(&self.chunk[self.position..self.position + length]);
        self.position += length;
        Ok(length)
    }
}
