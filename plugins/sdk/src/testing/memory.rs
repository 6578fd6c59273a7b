//! A tree and a root file system in memory.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use crate::{
    diagnostics::Timestamp,
    fs::{
        Attributes, Copied, CopyOptions, Error, Kind, Metadata, ModeChange, Owner, Path, ROOT, Reader, RootFs, Tree,
        Writer,
    },
    paths,
};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// As it was set; absent where the build's epoch would stand.
    pub mtime: Option<Timestamp>,
    /// Content of a file, target of a symlink.
    pub content: Vec<u8>,
    /// Numbers of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    fn new(kind: Kind, attributes: &Attributes, content: &[u8]) -> Self {
        Self {
            kind,
            mode: attributes.mode,
            owner: attributes.owner,
            mtime: attributes.mtime,
            content: content.to_vec(),
            device: (0, 0),
            xattrs: BTreeMap::new(),
        }
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            kind: self.kind,
            mode: self.mode,
            owner: self.owner,
            size: if self.kind == Kind::File { self.content.len() as u64 } else { 0 },
            mtime: self.mtime.unwrap_or(Timestamp { seconds: 0, nanoseconds: 0 }),
            link_target: if self.kind == Kind::Symlink { self.content.clone() } else { Vec::new() },
        }
    }
}

type Entries = BTreeMap<Path, Entry>;

const DIRECTORY: Attributes = Attributes { mode: 0o755, owner: ROOT, mtime: None };

/// A read-only tree.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    entries: Entries,
    /// What every file's digest is said to be.
    digest: String,
    revision: Option<String>,
}

impl MemoryTree {
    /// Adds a file of mode 0644 and its parents.
    pub fn add_file(&mut self, path: &[u8], content: &[u8]) -> &mut Self {
        self.add(path, Entry::new(Kind::File, &Attributes { mode: 0o644, owner: ROOT, mtime: None }, content))
    }

    /// Adds a directory and its parents.
    pub fn add_directory(&mut self, path: &[u8]) -> &mut Self {
        self.add(path, Entry::new(Kind::Directory, &DIRECTORY, b""))
    }

    /// Adds a symlink and its parents.
    pub fn add_symlink(&mut self, path: &[u8], target: &[u8]) -> &mut Self {
        self.add(path, Entry::new(Kind::Symlink, &Attributes { mode: 0o777, owner: ROOT, mtime: None }, target))
    }

    /// Adds anything.
    pub fn add(&mut self, path: &[u8], entry: Entry) -> &mut Self {
        put(&mut self.entries, path, entry);
        self
    }

    /// Says what the digest of every file is.
    pub fn set_digest(&mut self, digest: &str) -> &mut Self {
        self.digest = digest.to_owned();
        self
    }

    /// Says which commit the tree is.
    pub fn set_revision(&mut self, revision: &str) -> &mut Self {
        self.revision = Some(revision.to_owned());
        self
    }

    /// The entry at a path, symlinks not followed.
    pub fn entry(&self, path: &[u8]) -> Option<Entry> {
        self.entries.get(&paths::clean(path)).cloned()
    }

    fn find(&self, path: &[u8], follow: bool) -> Option<(Path, &Entry)> {
        let mut path = paths::clean(path);
        for _ in 0..40 {
            if path == b"/" {
                return self.entries.get(&path).map(|entry| (path, entry));
            }
            let entry = self.entries.get(&path)?;
            if !follow || entry.kind != Kind::Symlink {
                return Some((path, entry));
            }
            path = paths::resolve(parent(&path), &entry.content);
        }
        None
    }
}

impl Tree for MemoryTree {
    fn glob(&self, pattern: &[u8]) -> Result<Vec<Path>, Error> {
        let pattern = paths::clean(pattern);
        let wanted: Vec<&[u8]> = pattern.split(|byte| *byte == b'/').collect();
        let fits = |path: &&Path| {
            let found: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
            all_match(&wanted, &found)
        };
        if pattern == b"/" {
            return Ok(vec![pattern]);
        }
        Ok(self.entries.keys().filter(fits).cloned().collect())
    }

    fn stat(&self, path: &[u8], follow: bool) -> Result<Option<Metadata>, Error> {
        if paths::clean(path) == b"/" {
            return Ok(Some(Entry::new(Kind::Directory, &DIRECTORY, b"").metadata()));
        }
        Ok(self.find(path, follow).map(|(_, entry)| entry.metadata()))
    }

    fn read_directory(&self, path: &[u8]) -> Result<Vec<Path>, Error> {
        let path = paths::clean(path);
        let inside = self.entries.keys().filter(|entry| **entry != path && parent(entry) == path);
        Ok(inside.map(|entry| paths::base_name(entry).to_vec()).collect())
    }

    fn open(&self, path: &[u8]) -> Result<Box<dyn Reader>, Error> {
        self.open_at(path, 0)
    }

    fn open_at(&self, path: &[u8], offset: u64) -> Result<Box<dyn Reader>, Error> {
        let (_, entry) = self.find(path, true).ok_or_else(|| Error::NotFound(path.to_vec()))?;
        match entry.kind {
            Kind::File => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(entry.content.len());
                Ok(Box::new(MemoryReader { content: entry.content[start..].to_vec(), position: Cell::new(0) }))
            }
            _ => Err(Error::IsADirectory(path.to_vec())),
        }
    }

    fn digest(&self, path: &[u8]) -> Result<String, Error> {
        self.open(path).map(|_| self.digest.clone())
    }

    fn revision(&self) -> Result<Option<String>, Error> {
        Ok(self.revision.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct MemoryReader {
    content: Vec<u8>,
    position: Cell<usize>,
}

impl Reader for MemoryReader {
    fn read(&self, limit: u32) -> Result<Vec<u8>, Error> {
        let start = self.position.get();
        let end = self.content.len().min(start + limit as usize);
        self.position.set(end);
        Ok(self.content[start..end].to_vec())
    }
}

/// The root file system of a stage.
#[derive(Debug, Clone, Default)]
pub struct MemoryRoot {
    entries: Rc<RefCell<Entries>>,
}

impl MemoryRoot {
    /// Adds a file of mode 0644 and its parents.
    pub fn add_file(&self, path: &[u8], content: &[u8]) {
        let attributes = Attributes { mode: 0o644, owner: ROOT, mtime: None };
        put(&mut self.entries.borrow_mut(), path, Entry::new(Kind::File, &attributes, content));
    }

    /// The entry at a path, symlinks not followed.
    pub fn entry(&self, path: &[u8]) -> Option<Entry> {
        self.entries.borrow().get(&paths::clean(path)).cloned()
    }

    /// The content of a file.
    pub fn content(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.entry(path).map(|entry| entry.content)
    }

    /// All paths, sorted, without the root.
    pub fn paths(&self) -> Vec<String> {
        let entries = self.entries.borrow();
        entries.keys().filter(|path| *path != b"/").map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    fn put(&self, path: &[u8], entry: Entry) {
        put(&mut self.entries.borrow_mut(), path, entry);
    }
}

impl RootFs for MemoryRoot {
    fn stand_alone(&self) -> Result<(), Error> {
        self.entries.borrow_mut().clear();
        Ok(())
    }

    fn stat(&self, path: &[u8], follow: bool) -> Result<Option<Metadata>, Error> {
        MemoryTree { entries: self.entries.borrow().clone(), ..MemoryTree::default() }.stat(path, follow)
    }

    fn read_file(&self, path: &[u8], limit: u32) -> Result<Vec<u8>, Error> {
        let tree = MemoryTree { entries: self.entries.borrow().clone(), ..MemoryTree::default() };
        let (_, entry) = tree.find(path, true).ok_or_else(|| Error::NotFound(path.to_vec()))?;
        match entry.content.len() as u64 > u64::from(limit) {
            true => Err(Error::TooLarge(u64::from(limit))),
            false => Ok(entry.content.clone()),
        }
    }

    fn create_directories(&self, path: &[u8], attributes: Attributes) -> Result<(), Error> {
        let path = paths::clean(path);
        let mut made = Vec::new();
        for component in path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
            made.push(b'/');
            made.extend_from_slice(component);
            match RootFs::stat(self, &made, true)? {
                Some(metadata) if metadata.kind == Kind::Directory => {}
                Some(_) => return Err(Error::NotADirectory(made)),
                None => self.put(&made, Entry::new(Kind::Directory, &attributes, b"")),
            }
        }
        Ok(())
    }

    fn put_directory(&self, path: &[u8], attributes: Attributes) -> Result<(), Error> {
        self.put(path, Entry::new(Kind::Directory, &attributes, b""));
        Ok(())
    }

    fn put_file(&self, path: &[u8], attributes: Attributes) -> Result<Box<dyn Writer>, Error> {
        let entry = RefCell::new(Entry::new(Kind::File, &attributes, b""));
        Ok(Box::new(MemoryWriter { root: self.clone(), path: path.to_vec(), entry }))
    }

    fn put_symlink(&self, path: &[u8], target: &[u8], attributes: Attributes) -> Result<(), Error> {
        self.put(path, Entry::new(Kind::Symlink, &attributes, target));
        Ok(())
    }

    fn put_hard_link(&self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        let entry = self.entry(target).ok_or_else(|| Error::NotFound(target.to_vec()))?;
        self.put(path, entry);
        Ok(())
    }

    fn put_node(&self, path: &[u8], kind: Kind, major: u32, minor: u32, attributes: Attributes) -> Result<(), Error> {
        self.put(path, Entry { device: (major, minor), ..Entry::new(kind, &attributes, b"") });
        Ok(())
    }

    fn set_xattr(&self, path: &[u8], name: &[u8], value: &[u8]) -> Result<(), Error> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(&paths::clean(path)).ok_or_else(|| Error::NotFound(path.to_vec()))?;
        entry.xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&self, path: &[u8]) -> Result<(), Error> {
        let path = paths::clean(path);
        let beneath = paths::join(&path, b"");
        self.entries.borrow_mut().retain(|entry, _| *entry != path && !entry.starts_with(&beneath));
        Ok(())
    }

    fn copy_tree(
        &self,
        from: &dyn Tree,
        source: &[u8],
        destination: &[u8],
        options: &CopyOptions,
    ) -> Result<Copied, Error> {
        let tree = from.as_any().downcast_ref::<MemoryTree>().expect("fakes copy from fakes");
        let mut copied = Copied { entries: 0, bytes: 0 };
        let changed = |entry: &Entry| {
            let mut entry = entry.clone();
            if !options.keep_owner {
                entry.owner = options.owner.unwrap_or(ROOT);
            }
            if let (Some(ModeChange::Exact(mode)), true) = (&options.mode, entry.kind != Kind::Symlink) {
                entry.mode = *mode;
            }
            entry
        };
        let mut copy = |to: &[u8], entry: &Entry| {
            copied.entries += 1;
            copied.bytes += entry.metadata().size;
            self.put(to, changed(entry));
        };
        let found = tree.find(source, true);
        match found {
            Some((_, entry)) if entry.kind != Kind::Directory => match destination.ends_with(b"/") {
                true => {
                    let owner = options.owner.unwrap_or(ROOT);
                    self.create_directories(destination, Attributes { owner, ..DIRECTORY })?;
                    copy(&paths::join(destination, paths::base_name(source)), entry);
                }
                false => copy(destination, entry),
            },
            None if paths::clean(source) != b"/" => return Err(Error::NotFound(source.to_vec())),
            found => {
                self.create_directories(destination, Attributes { owner: options.owner.unwrap_or(ROOT), ..DIRECTORY })?;
                let beneath = paths::join(&found.map_or_else(|| b"/".to_vec(), |(path, _)| path), b"");
                for (path, entry) in tree.entries.iter().filter(|(path, _)| path.starts_with(&beneath)) {
                    let relative = &path[beneath.len()..];
                    let excluded =
                        |name: &[u8]| options.exclude.iter().any(|e| paths::name_matches(e.as_bytes(), name));
                    if !relative.is_empty() && !relative.split(|byte| *byte == b'/').any(excluded) {
                        copy(&paths::join(destination, relative), entry);
                    }
                }
            }
        }
        Ok(copied)
    }
}

struct MemoryWriter {
    root: MemoryRoot,
    path: Path,
    entry: RefCell<Entry>,
}

impl Writer for MemoryWriter {
    fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        self.entry.borrow_mut().content.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        self.root.put(&self.path, self.entry.borrow().clone());
        Ok(())
    }
}

/// Whether the names match component by component; `**` is any number of directories, and anything in them at the end.
fn all_match(wanted: &[&[u8]], found: &[&[u8]]) -> bool {
    match (wanted.split_first(), found.split_first()) {
        (None, _) => found.is_empty(),
        (Some((&b"**", [])), _) => !found.is_empty(),
        (Some((&b"**", rest)), _) => (0..=found.len()).any(|skipped| all_match(rest, &found[skipped..])),
        (Some((want, rest)), Some((name, names))) => paths::name_matches(want, name) && all_match(rest, names),
        (Some(_), None) => false,
    }
}

fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) | None => b"/",
        Some(slash) => &path[..slash],
    }
}

fn put(entries: &mut Entries, path: &[u8], entry: Entry) {
    let path = paths::clean(path);
    let mut above = parent(&path);
    while above != b"/" {
        entries.entry(above.to_vec()).or_insert_with(|| Entry::new(Kind::Directory, &DIRECTORY, b""));
        above = parent(above);
    }
    entries.insert(path, entry);
}
