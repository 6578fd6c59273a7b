//! A directory that is filled from an untrusted source: an archive, a git tree.
//!
//! Every name is looked up from the directory's own handle, component by component, and no symlink is followed on the way:
//! whatever the source says, nothing outside is written. Everything is bounded.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use crate::{FetchError, FetchLimits, archive::unreadable};

/// The mode of directories that nobody says anything about.
const DIRECTORY_MODE: u32 = 0o755;

/// More directories in each other than any path has room for.
const DEPTH_LIMIT: usize = 2048;

/// A directory being filled. Paths are relative, their components separated by `/`, none of them empty, `.` or `..`.
pub(crate) struct Filling {
    root: Arc<OwnedFd>,
    /// How messages call the source.
    source: String,
    limits: FetchLimits,
    entries: u64,
    bytes: u64,
    /// Whether a later entry takes the place of an earlier one of its name, as in archives.
    replaces: bool,
    /// The last directory that something was put into: mostly the next is there too.
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
    /// Modes of directories, set at the end: one that can't be written to may hold something.
    modes: BTreeMap<Vec<u8>, u32>,
}

impl Filling {
    /// For a source in which no name is there twice.
    pub(crate) fn new(directory: &Path, source: &str, limits: FetchLimits) -> Result<Self, FetchError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty());
        let root = root.map_err(|error| storage(format!("open `{}`", directory.display()), error.into()))?;
        Ok(Self {
            root: Arc::new(root),
            source: source.to_owned(),
            limits,
            entries: 0,
            bytes: 0,
            replaces: false,
            last: None,
            modes: BTreeMap::new(),
        })
    }

    /// For a source in which later entries replace earlier ones.
    pub(crate) fn replacing(self) -> Self {
        Self { replaces: true, ..self }
    }

    /// Makes a directory; one that exists keeps its content.
    pub(crate) fn directory(&mut self, path: &[u8], mode: u32) -> Result<(), FetchError> {
        self.count()?;
        if !path.is_empty() {
            let (parent, name) = self.parent(path)?;
            let exists = match rustix::fs::mkdirat(&*parent, &name, Mode::RWXU) {
                Ok(()) => false,
                Err(Errno::EXIST) if self.replaces => true,
                Err(error) => return Err(self.failed(path, error)),
            };
            if exists && !is_directory(&parent, &name) {
                rustix::fs::unlinkat(&*parent, &name, AtFlags::empty()).map_err(|error| self.failed(path, error))?;
                rustix::fs::mkdirat(&*parent, &name, Mode::RWXU).map_err(|error| self.failed(path, error))?;
            }
        }
        self.modes.insert(path.to_vec(), mode);
        Ok(())
    }

    /// Makes a regular file.
    pub(crate) fn file(&mut self, path: &[u8], mode: u32, content: &mut dyn Read) -> Result<(), FetchError> {
        self.count()?;
        let (parent, name) = self.vacant(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&*parent, &name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(made.map_err(|error| self.failed(path, error))?);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let length = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&self.source, error)),
            };
            self.bytes += length as u64;
            if self.bytes > self.limits.unpacked_bytes {
                let limit = self.limits.unpacked_bytes;
                return Err(FetchError::TooLarge { url: self.source.clone(), limit, unit: "bytes, unpacked" });
            }
            file.write_all(&buffer[..length]).map_err(|error| storage(format!("write `{}`", shown(path)), error))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|error| self.failed(path, error))
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), FetchError> {
        self.count()?;
        let (parent, name) = self.vacant(path)?;
        let target = CString::new(target).map_err(|_| self.damaged("a symbolic link holds a zero byte"))?;
        rustix::fs::symlinkat(&target, &*parent, &name).map_err(|error| self.failed(path, error))
    }

    /// Makes a hard link to a file that is there.
    pub(crate) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), FetchError> {
        self.count()?;
        let (from, from_name) = self.parent(target)?;
        let (parent, name) = if path == target { return Ok(()) } else { self.vacant(path)? };
        match rustix::fs::linkat(&*from, &from_name, &*parent, &name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::PERM) => {
                let text = format!("`{}` is a hard link to `{}`, which is no file of it", shown(path), shown(target));
                Err(self.damaged(&text))
            }
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// Makes a named pipe.
    pub(crate) fn fifo(&mut self, path: &[u8], mode: u32) -> Result<(), FetchError> {
        self.count()?;
        let (parent, name) = self.vacant(path)?;
        let made = rustix::fs::mknodat(&*parent, &name, FileType::Fifo, Mode::from_raw_mode(mode), 0);
        made.map_err(|error| self.failed(path, error))
    }

    /// Gives directories their modes.
    pub(crate) fn finish(mut self) -> Result<(), FetchError> {
        for (path, mode) in std::mem::take(&mut self.modes).into_iter().rev() {
            let directory = self.reach(&path)?;
            rustix::fs::fchmod(&*directory, Mode::from_raw_mode(mode)).map_err(|error| self.failed(&path, error))?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), FetchError> {
        self.entries += 1;
        match self.entries > self.limits.entries {
            true => {
                let limit = self.limits.entries;
                Err(FetchError::TooLarge { url: self.source.clone(), limit, unit: "entries" })
            }
            false => Ok(()),
        }
    }

    /// The directory that holds `path`, and its name there, which nothing has.
    fn vacant(&mut self, path: &[u8]) -> Result<(Arc<OwnedFd>, CString), FetchError> {
        let (parent, name) = self.parent(path)?;
        if self.replaces {
            let flags = if is_directory(&parent, &name) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match rustix::fs::unlinkat(&*parent, &name, flags) {
                Ok(()) => drop(self.modes.remove(path)),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(self.failed(path, error)),
            }
            self.last = None;
        }
        Ok((parent, name))
    }

    fn parent(&mut self, path: &[u8]) -> Result<(Arc<OwnedFd>, CString), FetchError> {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let name = match name {
            b"" | b"." | b".." => Err(()),
            name => CString::new(name).map_err(|_| ()),
        };
        let name = name.map_err(|()| self.damaged(&format!("`{}` is no name", shown(path))))?;
        Ok((self.reach(parent)?, name))
    }

    /// Opens a directory; what is missing on the way is made.
    fn reach(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, FetchError> {
        if let Some((last, directory)) = self.last.as_ref().filter(|(last, _)| last == path) {
            debug_assert_eq!(last, path);
            return Ok(directory.clone());
        }
        let mut directory = self.root.clone();
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        if names.clone().count() > DEPTH_LIMIT {
            return Err(self.damaged(&format!("it has more than {DEPTH_LIMIT} directories in each other")));
        }
        let mut so_far = Vec::new();
        for component in names {
            if !so_far.is_empty() {
                so_far.push(b'/');
            }
            so_far.extend_from_slice(component);
            let name = match component {
                b"." | b".." => None,
                name => CString::new(name).ok(),
            };
            let name = name.ok_or_else(|| self.damaged(&format!("`{}` is no name", shown(path))))?;
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
            let opened = match rustix::fs::openat(&*directory, &name, flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    self.count()?;
                    let made = rustix::fs::mkdirat(&*directory, &name, Mode::RWXU);
                    made.map_err(|error| self.failed(&so_far, error))?;
                    self.modes.insert(so_far.clone(), DIRECTORY_MODE);
                    rustix::fs::openat(&*directory, &name, flags, Mode::empty())
                }
                opened => opened,
            };
            directory = Arc::new(opened.map_err(|error| self.failed(path, error))?);
        }
        self.last = Some((path.to_vec(), directory.clone()));
        Ok(directory)
    }

    fn damaged(&self, what: &str) -> FetchError {
        FetchError::Archive { url: self.source.clone(), reason: what.to_owned() }
    }

    fn failed(&self, path: &[u8], error: Errno) -> FetchError {
        let path = shown(path);
        match error {
            Errno::EXIST => self.damaged(&format!("it has `{path}` twice")),
            // Not followed (`O_NOFOLLOW`), or no directory at all.
            Errno::LOOP | Errno::NOTDIR => {
                self.damaged(&format!("`{path}` is beneath something that is no directory, or is a symbolic link"))
            }
            Errno::NOTEMPTY => self.damaged(&format!("`{path}` takes the place of a directory that is not empty")),
            error => storage(format!("write `{path}`"), error.into()),
        }
    }
}

fn is_directory(parent: &impl AsFd, name: &CString) -> bool {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory)
}

fn storage(action: String, source: io::Error) -> FetchError {
    FetchError::Storage { action, source }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn limits() -> FetchLimits {
        FetchLimits { download_bytes: 100, unpacked_bytes: 100, entries: 10 }
    }

    fn filling(place: &Path) -> Filling {
        Filling::new(place, "x.tar", limits()).unwrap()
    }

    #[test]
    fn modes_come_out_as_they_are_whatever_the_umask() {
        let place = tempfile::tempdir().unwrap();
        let mut filling = filling(place.path());
        filling.directory(b"locked", 0o555).unwrap();
        filling.file(b"locked/file", 0o666, &mut &b"x"[..]).unwrap();
        filling.file(b"made/on/the/way", 0o4711, &mut &b"y"[..]).unwrap();
        filling.finish().unwrap();
        let mode = |path: &str| fs::metadata(place.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("locked"), mode("locked/file")), (0o555, 0o666));
        assert_eq!((mode("made/on"), mode("made/on/the/way")), (0o755, 0o4711));
        fs::set_permissions(place.path().join("locked"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = outside.path().as_os_str().as_encoded_bytes();
        for replaces in [false, true] {
            let mut filling = Filling { replaces, ..filling(place.path()) };
            filling.symlink(format!("out-{replaces}").as_bytes(), target).unwrap();
            let inside = format!("out-{replaces}/pwned");
            assert!(filling.file(inside.as_bytes(), 0o644, &mut &b"x"[..]).is_err());
            assert!(filling.directory(inside.as_bytes(), 0o755).is_err());
            assert!(filling.file(b"../pwned", 0o644, &mut &b"x"[..]).is_err());
            assert!(filling.hard_link(b"link", inside.as_bytes()).is_err());
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_is_there_once_or_the_last_counts() {
        let place = tempfile::tempdir().unwrap();
        let mut once = filling(place.path());
        once.symlink(b"a", b"elsewhere").unwrap();
        let error = once.directory(b"a", 0o755).unwrap_err().to_string();
        assert!(error.contains("it has `a` twice"), "{error}");
        let mut last = filling(place.path()).replacing();
        last.directory(b"a", 0o755).unwrap();
        last.file(b"a/b", 0o644, &mut &b"1"[..]).unwrap();
        last.file(b"a/b", 0o644, &mut &b"2"[..]).unwrap();
        assert_eq!(fs::read(place.path().join("a/b")).unwrap(), b"2");
        assert!(last.file(b"a", 0o644, &mut &b"3"[..]).is_err(), "a directory with something in it stays");
    }

    #[test]
    fn bounds_hold() {
        let place = tempfile::tempdir().unwrap();
        let mut full = filling(place.path());
        let error = full.file(b"a", 0o644, &mut io::repeat(0)).unwrap_err().to_string();
        assert!(error.contains("more than 100 bytes"), "{error}");
        let mut full = filling(place.path());
        let error = (0..20).find_map(|n| full.symlink(format!("l{n}").as_bytes(), b"x").err()).unwrap();
        assert!(error.to_string().contains("more than 10 entries"), "{error}");
    }
}
