//! Writing archives: ustar headers, with a PAX header before those that need one, and the same bytes whenever the same
//! members are appended. No user or group names, no GNU extensions.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

use cofferdam_rootfs::Owner;

use crate::{
    LayerError,
    compression::BUFFER_BYTES,
    error::printable,
    header::{self, BLOCK_BYTES, Block, MAX_LONG, MAX_SHORT},
    pax,
    whiteout::is_overlay_private,
};

/// Readers in the field take no longer extended headers (Go's archive/tar), in bytes.
pub(crate) const MAX_PAX_BYTES: usize = 1 << 20;

/// What a member of an archive is. Names and targets are bytes without NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind<'a> {
    /// A regular file.
    File {
        /// Bytes of content.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: &'a [u8],
    },
    /// Another name of a file that the archive has already.
    HardLink {
        /// The path of that file in the archive.
        target: &'a [u8],
    },
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A member of an archive, without its content.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Relative, without a slash at the end; empty for the root of the archive.
    pub path: &'a [u8],
    /// What it is.
    pub kind: MemberKind<'a>,
    /// Permission bits, setuid, setgid, sticky; other bits are cut off.
    pub mode: u32,
    /// Numeric owner.
    pub owner: Owner,
    /// Seconds since 1970, may be negative.
    pub mtime_seconds: i64,
    /// Extended attributes. Those of overlayfs itself are left out.
    pub xattrs: Option<&'a BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// Writes an archive. [`Writer::finish`] must be called for a whole one.
pub struct Writer<W> {
    inner: W,
    /// Reused for the content of every file.
    buffer: Box<[u8]>,
}

impl<W: Write> Writer<W> {
    /// An archive without members. `inner` gets headers in pieces of 512 bytes: it should be buffered.
    pub fn new(inner: W) -> Self {
        Self { inner, buffer: vec![0; BUFFER_BYTES].into_boxed_slice() }
    }

    /// The inner writer, which has all bytes of the members so far.
    pub(crate) fn inner_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    /// Appends a regular file of mode `mode`, owner 0:0, with exactly `size_bytes` bytes of `content`.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn append_file(
        &mut self,
        path: &str,
        mode: u32,
        size_bytes: u64,
        mtime_seconds: i64,
        content: impl Read,
    ) -> Result<(), LayerError> {
        let kind = MemberKind::File { size: size_bytes };
        let member = Member { path: path.as_bytes(), kind, mode, owner: Owner::default(), mtime_seconds, xattrs: None };
        self.append(&member, content)
    }

    /// Appends a directory of mode `mode`, owner 0:0.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn append_directory(&mut self, path: &str, mode: u32, mtime_seconds: i64) -> Result<(), LayerError> {
        let kind = MemberKind::Directory;
        let member = Member { path: path.as_bytes(), kind, mode, owner: Owner::default(), mtime_seconds, xattrs: None };
        self.append(&member, std::io::empty())
    }

    /// Appends a member. `content` is read for regular files only.
    ///
    /// # Errors
    /// [`LayerError::SourceSize`] if `content` has not exactly the announced size, [`LayerError::SourceRead`] if it can't
    /// be read, [`LayerError::Unrepresentable`] if a name is empty or has a NUL byte, or a number is too large, and
    /// [`LayerError::Write`].
    pub fn append(&mut self, member: &Member<'_>, content: impl Read) -> Result<(), LayerError> {
        self.header(member)?;
        match member.kind {
            MemberKind::File { size } => self.content(member.path, size, content),
            _ => Ok(()),
        }
    }

    /// Writes the end of the archive: two blocks of zeros.
    ///
    /// # Errors
    /// [`LayerError::Write`].
    pub fn finish(mut self) -> Result<W, LayerError> {
        self.write(&[0; 2 * BLOCK_BYTES])?;
        Ok(self.inner)
    }

    fn header(&mut self, member: &Member<'_>) -> Result<(), LayerError> {
        let unrepresentable = |why| LayerError::Unrepresentable { path: printable(member.path), why };
        let mut name = member.path.to_vec();
        if member.kind == MemberKind::Directory {
            // The archive's root is `./`.
            name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
        }
        if name.is_empty() || name.contains(&0) {
            return Err(unrepresentable("its name is empty or has a NUL byte"));
        }
        let mut records = pax::Builder::default();
        let (prefix, short_name) = match header::split_name(&name).filter(|_| !needs_charset(&name)) {
            Some(split) => split,
            None => {
                records.set_name(b"path", &name);
                (&b""[..], &name[..])
            }
        };
        let (typeflag, link_name) = match member.kind {
            MemberKind::File { .. } => (b'0', &b""[..]),
            MemberKind::HardLink { target } => (b'1', target),
            MemberKind::Symlink { target } => (b'2', target),
            MemberKind::CharacterDevice { .. } => (b'3', &b""[..]),
            MemberKind::BlockDevice { .. } => (b'4', &b""[..]),
            MemberKind::Directory => (b'5', &b""[..]),
            MemberKind::Fifo => (b'6', &b""[..]),
        };
        if matches!(typeflag, b'1' | b'2') {
            if link_name.is_empty() || link_name.contains(&0) {
                return Err(unrepresentable("the target of the link is empty or has a NUL byte"));
            }
            if link_name.len() > 100 || needs_charset(link_name) {
                records.set_name(b"linkpath", link_name);
            }
        }
        let (device_major, device_minor) = match member.kind {
            MemberKind::CharacterDevice { major, minor } | MemberKind::BlockDevice { major, minor } => {
                (u64::from(major), u64::from(minor))
            }
            _ => (0, 0),
        };
        if device_major > MAX_SHORT || device_minor > MAX_SHORT {
            return Err(unrepresentable("its device number has more than 21 bits"));
        }
        let size = if let MemberKind::File { size } = member.kind { size } else { 0 };
        if size > i64::MAX as u64 {
            return Err(unrepresentable("it has more than 8 EiB"));
        }
        let mtime = member.mtime_seconds;
        if !(0..=MAX_LONG as i64).contains(&mtime) {
            records.set(b"mtime", mtime.to_string());
        }
        for (name, value) in member.xattrs.into_iter().flatten().filter(|(name, _)| !is_overlay_private(name)) {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
                return Err(unrepresentable("the name of an extended attribute is empty or has `=` or NUL in it"));
            }
            records.set_xattr(name, value);
        }
        let mut fit = |key: &[u8], value: u64, limit: u64| {
            if value <= limit {
                return value;
            }
            records.set(key, value.to_string());
            0
        };
        let block = Block {
            name: short_name.to_vec(),
            link_name: link_name.to_vec(),
            typeflag,
            mode: u64::from(member.mode & 0o7777),
            uid: fit(b"uid", u64::from(member.owner.uid), MAX_SHORT),
            gid: fit(b"gid", u64::from(member.owner.gid), MAX_SHORT),
            size: fit(b"size", size, MAX_LONG),
            mtime: if (0..=MAX_LONG as i64).contains(&mtime) { mtime } else { 0 },
            device_major,
            device_minor,
        };
        self.extended_header(member.path, &records)?;
        self.write(&header::encode(&block, prefix))
    }

    fn extended_header(&mut self, path: &[u8], records: &pax::Builder) -> Result<(), LayerError> {
        let bytes = records.finish();
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() > MAX_PAX_BYTES {
            let why = "its name and extended attributes have more than 1 MiB";
            return Err(LayerError::Unrepresentable { path: printable(path), why });
        }
        // Readers without PAX unpack the records as a file of this name; all others ignore it.
        let block = Block {
            name: b"PaxHeaders/entry".to_vec(),
            link_name: Vec::new(),
            typeflag: b'x',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: bytes.len() as u64,
            mtime: 0,
            device_major: 0,
            device_minor: 0,
        };
        self.write(&header::encode(&block, b""))?;
        self.write(&bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn content(&mut self, path: &[u8], size: u64, mut content: impl Read) -> Result<(), LayerError> {
        let size_error = |found_bytes| LayerError::SourceSize {
            path: format!("/{}", printable(path)),
            announced_bytes: size,
            found_bytes,
        };
        let mut copied = 0u64;
        loop {
            // Asks for more than is announced, so that a file that grew is seen by the read that ends a whole one.
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(LayerError::SourceRead { path: format!("/{}", printable(path)), source });
                }
            };
            copied += count as u64;
            if copied > size {
                return Err(size_error(copied));
            }
            self.inner.write_all(&self.buffer[..count]).map_err(LayerError::Write)?;
        }
        if copied < size {
            return Err(size_error(copied));
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<(), LayerError> {
        let over = (size % BLOCK_BYTES as u64) as usize;
        if over == 0 { Ok(()) } else { self.write(&[0; BLOCK_BYTES][over..]) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.inner.write_all(bytes).map_err(LayerError::Write)
    }
}

/// Names in ustar headers are ASCII; UTF-8 belongs into a PAX header. Names that are neither have no place where all
/// readers agree on them, so they stand as they are.
fn needs_charset(name: &[u8]) -> bool {
    !name.is_ascii() && std::str::from_utf8(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64) -> Member<'static> {
        let kind = MemberKind::File { size };
        Member { path: b"dir/file", kind, mode: 0o644, owner: Owner::default(), mtime_seconds: 0, xattrs: None }
    }

    #[test]
    fn a_source_that_shrinks_or_grows_is_an_error_that_names_the_file() {
        for (announced, content, says) in [(5, &b"four"[..], "now has only 4"), (3, b"four", "now has at least 4")] {
            let error = Writer::new(Vec::new()).append(&file(announced), content).unwrap_err().to_string();
            assert!(error.contains("`/dir/file`") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn an_archive_has_whole_blocks_and_ends_with_two_of_zeros() {
        let mut writer = Writer::new(Vec::new());
        writer.append_directory("dir", 0o755, 0).unwrap();
        writer.append(&file(513), &[7; 513][..]).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len(), 512 + 512 + 1024 + 1024);
        assert!(bytes[bytes.len() - 1024..].iter().all(|byte| *byte == 0));
        assert_eq!(&bytes[..5], b"dir/\0");
    }

    #[test]
    fn what_tar_cannot_hold_is_refused_by_name() {
        let xattrs = BTreeMap::from([(b"user.a=b".to_vec(), Vec::new())]);
        let large = BTreeMap::from([(b"user.a".to_vec(), vec![0; 1 << 20])]);
        let device = MemberKind::BlockDevice { major: 1, minor: 1 << 21 };
        for member in [
            Member { path: b"", ..file(0) },
            Member { path: b"a\0b", ..file(0) },
            Member { kind: MemberKind::Symlink { target: b"" }, ..file(0) },
            Member { kind: device, ..file(0) },
            Member { xattrs: Some(&xattrs), ..file(0) },
            Member { xattrs: Some(&large), ..file(0) },
        ] {
            let error = Writer::new(Vec::new()).append(&member, std::io::empty()).unwrap_err();
            assert!(matches!(error, LayerError::Unrepresentable { .. }), "{error}");
        }
    }
}
