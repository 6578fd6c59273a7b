//! A tree over the unpacked layers of a stage in which nothing exists until somebody asks for it.
//!
//! At first there is an empty directory, and a table of what the layers have ([`Below`]). A name is *made* in the tree when a
//! path leads over it, and all names of a directory when it is listed. A file that is made is a *stub*: it has the size, the
//! times and an inode number of its own, but its bytes stay where the layer was unpacked, and are read from there; before
//! something writes, the stub is *filled*. So a command costs what it touches, as on overlayfs, and what it writes to is
//! never the store's: the two share no inode, because whoever may write to one name of a file may write to all of them.
//!
//! What is in the tree and no untouched stub is what the command changed: the tree is its own journal of paths.

use std::{
    cell::{OnceCell, RefCell},
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::File,
    io,
    os::unix::ffi::OsStrExt,
};

use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp, Timespec, Timestamps,
        XattrFlags,
    },
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::{
    Recorded,
    below::{Below, BelowKind, EntryNumber},
    journal::{Birth, Seen, birth_of, mode_on_disk},
};

/// An entry of the layers that was made in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its number in the table.
    pub entry: EntryNumber,
    /// Whether the bytes of a file are here, and not in the layer.
    pub filled: bool,
    /// Whether something other than its name has changed.
    pub changed: bool,
    /// Whether the journal has other owners, modes and the like for it than the layers.
    pub recorded: bool,
    /// The inode number of the layer's file, where that has several names: while they are unchanged they are one file.
    pub shared: Option<u64>,
}

impl Made {
    /// As the layers have it, with all of its bytes.
    fn whole(entry: EntryNumber) -> Self {
        Self { entry, filled: true, changed: false, recorded: false, shared: None }
    }
}

/// The tree.
#[derive(Debug)]
pub struct Lazy {
    below: Below,
    /// Where the layers are unpacked, the base first.
    layers: Vec<Vec<u8>>,
    tree: OwnedFd,
    device: (u32, u32),
    /// What the table says that a disk can't, had once it is asked for.
    records: Vec<OnceCell<Option<Box<Recorded>>>>,
    state: RefCell<State>,
}

/// A file of a layer that was opened.
#[derive(Clone, Copy, Debug)]
struct Opened {
    entry: EntryNumber,
    /// The time of the last change (ctime) of its stub, while nothing but its names changes.
    changed_at: StatxTimestamp,
}

/// A file of this machine: the device's major and minor number, and the inode's.
pub type FileKey = (u32, u32, u64);

/// How many descriptors are kept for what has moved, at first.
const MOVED_LIMIT: usize = 64;

#[derive(Debug, Default)]
struct State {
    /// By inode number.
    made: HashMap<u64, (Birth, Made)>,
    /// The same of what has no name any more.
    nameless: HashMap<u64, (Birth, Made)>,
    /// The inode numbers of entries that were made, 0 where something else had the name.
    inodes: HashMap<EntryNumber, u64>,
    /// The files of layers that were opened.
    opened: HashMap<FileKey, Opened>,
    /// The same, by entry.
    open_entries: HashSet<EntryNumber>,
    /// What is not where it was made, and stands for a layer's file that was opened, or has such files beneath it.
    moved: HashMap<EntryNumber, OwnedFd>,
    /// As many may be in `moved` before it is looked whether somebody still has them open.
    moved_limit: usize,
    /// How many names of a directory wait to be made.
    waiting: HashMap<EntryNumber, u32>,
}

impl Lazy {
    /// Over an empty directory, or one that another [`Lazy`] has worked on: `made` is what that has made.
    ///
    /// # Errors
    /// The directory can't be looked at.
    pub fn new(
        below: Below,
        layers: Vec<Vec<u8>>,
        tree: OwnedFd,
        made: Vec<(u64, Birth, Made)>,
    ) -> Result<Self, Errno> {
        let root = look(tree.as_fd())?;
        let records = (0..below.len()).map(|_| OnceCell::new()).collect();
        let mut state = State { moved_limit: MOVED_LIMIT, ..State::default() };
        let first = (root.stx_ino, birth_of(&root), Made::whole(0));
        let known = made.iter().any(|(_, _, made)| made.entry == 0);
        for (inode, birth, made) in made.into_iter().chain((!known).then_some(first)) {
            state.keep(&below, inode, birth, made);
        }
        let device = (root.stx_dev_major, root.stx_dev_minor);
        Ok(Self { below, layers, tree, device, records, state: RefCell::new(state) })
    }

    /// Everything that was made and still has its inode.
    pub fn made(&self) -> Vec<(u64, Birth, Made)> {
        let state = self.state.borrow();
        let mut made: Vec<(u64, Birth, Made)> =
            state.made.iter().map(|(&inode, &(birth, made))| (inode, birth, made)).collect();
        // Names that are gone must not come again.
        for (&entry, &inode) in &state.inodes {
            if state.made.get(&inode).is_none_or(|(_, made)| made.entry != entry) {
                made.push((0, None, Made::whole(entry)));
            }
        }
        made.sort_unstable_by_key(|(_, _, made)| made.entry);
        made
    }

    /// What the layers have.
    pub fn below(&self) -> &Below {
        &self.below
    }

    /// What was made with this inode number, and born then.
    pub fn get(&self, inode: u64, birth: Birth) -> Option<Made> {
        self.state.borrow().made.get(&inode).filter(|(born, _)| *born == birth).map(|(_, made)| *made)
    }

    /// What was made and has this inode number now.
    pub fn by_number(&self, inode: u64) -> Option<Made> {
        self.state.borrow().made.get(&inode).map(|(_, made)| *made)
    }

    /// Whether a name of a directory that was made is not made itself.
    pub fn is_waiting(&self, directory: EntryNumber, name: &[u8]) -> bool {
        let child = self.below.child(directory, name);
        child.is_some_and(|child| !self.state.borrow().inodes.contains_key(&child))
    }

    /// Whether names of this directory wait to be made. Then nobody but the tracer may make names there: the time of its
    /// last change is set back afterwards.
    pub fn has_waiting(&self, seen: &Seen) -> bool {
        let Some(made) = self.get(seen.raw.stx_ino, birth_of(&seen.raw)) else { return false };
        self.state.borrow().waiting.get(&made.entry).is_some_and(|&count| count > 0)
    }

    /// Makes a name in a directory, if it waits for that; answers whether it did.
    ///
    /// # Errors
    /// The machine refused.
    pub fn make(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
        self.entry_of(directory)?.map_or(Ok(false), |parent| self.make_in(directory, parent, name))
    }

    /// As [`Lazy::make`], in a directory that is known to be this one of the layers.
    ///
    /// # Errors
    /// The machine refused.
    pub fn make_in(&self, directory: BorrowedFd<'_>, parent: EntryNumber, name: &[u8]) -> Result<bool, Errno> {
        let child = self.below.child(parent, name);
        let Some(entry) = child.filter(|child| !self.state.borrow().inodes.contains_key(child)) else {
            return Ok(false);
        };
        let before = look(directory)?;
        self.make_entry(directory, entry)?;
        set_back(directory, &before)?;
        Ok(true)
    }

    /// Which entry of the layers an open directory was made of.
    ///
    /// # Errors
    /// It can't be looked at.
    pub fn entry_of(&self, directory: BorrowedFd<'_>) -> Result<Option<EntryNumber>, Errno> {
        let seen = look(directory)?;
        Ok(self.get(seen.stx_ino, birth_of(&seen)).map(|made| made.entry))
    }

    /// Makes all names of a directory, before it is listed or removed.
    ///
    /// # Errors
    /// The machine refused.
    pub fn complete(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        let before = look(directory)?;
        let Some(parent) = self.get(before.stx_ino, birth_of(&before)) else { return Ok(()) };
        if self.state.borrow().waiting.get(&parent.entry).is_none_or(|&count| count == 0) {
            return Ok(());
        }
        for entry in self.below.children(parent.entry) {
            if !self.state.borrow().inodes.contains_key(&entry) {
                self.make_entry(directory, entry)?;
            }
        }
        set_back(directory, &before)
    }

    /// Makes all names of a directory and of those of the layers that are still beneath it, before it gets another name:
    /// what waits is looked for where the layers have it.
    ///
    /// # Errors
    /// The machine refused.
    pub fn complete_tree(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        self.complete(directory)?;
        let Some(parent) = self.entry_of(directory)? else { return Ok(()) };
        for entry in self.below.children(parent).filter(|&entry| !self.below.children(entry).is_empty()) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(directory, OsStr::from_bytes(self.below.name(entry)), flags, Mode::empty()) {
                // Another one may have the name by now.
                Ok(child) if self.entry_of(child.as_fd())? == Some(entry) => self.complete_tree(child.as_fd())?,
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn make_entry(&self, directory: BorrowedFd<'_>, number: EntryNumber) -> Result<(), Errno> {
        let name = OsStr::from_bytes(self.below.name(number));
        let entry = self.below.entry(number);
        let is_directory = entry.kind == BelowKind::Directory;
        let mode = Mode::from_raw_mode(mode_on_disk(entry.mode, is_directory));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let done = match &entry.kind {
            BelowKind::Directory => rustix::fs::mkdirat(directory, name, mode),
            BelowKind::Symlink(target) => rustix::fs::symlinkat(OsStr::from_bytes(target), directory, name),
            BelowKind::Fifo => rustix::fs::mknodat(directory, name, FileType::Fifo, mode, 0),
            BelowKind::Device(_) => rustix::fs::mknodat(directory, name, FileType::RegularFile, mode, 0),
            BelowKind::File { size, .. } => rustix::fs::openat(directory, name, flags, mode).and_then(|file| {
                for (name, value) in entry.xattrs.iter().filter(|(name, _)| name.starts_with(b"user.")) {
                    // Where the file system has none, the journal of the image has them anyway.
                    let _ = rustix::fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty());
                }
                rustix::fs::ftruncate(&file, *size)
            }),
        };
        match done {
            Ok(()) => {}
            // Something that went round the tracer has the name: the layers' file is gone.
            Err(Errno::EXIST) => {
                self.state.borrow_mut().keep(&self.below, 0, None, Made::whole(number));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let seen = rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, flags)?;
        if !matches!(entry.kind, BelowKind::Symlink(_)) && u32::from(seen.stx_mode) & 0o7777 != mode.as_raw_mode() {
            rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?;
        }
        // An empty file is whole.
        let filled = !matches!(entry.kind, BelowKind::File { size: 1.., .. });
        let shared = match entry.kind {
            BelowKind::File { .. } if entry.links > 1 => self.content_of(number).and_then(|path| inode_of(&path)),
            _ => None,
        };
        let made = Made { filled, shared, ..Made::whole(number) };
        self.state.borrow_mut().keep(&self.below, seen.stx_ino, birth_of(&seen), made);
        Ok(())
    }

    /// Makes all names that a path goes over, symlinks not followed; what the layers do not have is left out.
    ///
    /// # Errors
    /// The machine refused.
    pub fn make_path(&self, path: &[u8]) -> Result<(), Errno> {
        let mut directory = None;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let at = directory.as_ref().map_or_else(|| self.tree.as_fd(), OwnedFd::as_fd);
            self.make(at, name)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(at, OsStr::from_bytes(name), flags, Mode::empty()) {
                Ok(next) => directory = Some(next),
                Err(Errno::NOENT | Errno::NOTDIR) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What a disk can't say of something that was made.
    pub fn recorded(&self, inode: u64, birth: Birth) -> Option<&Recorded> {
        let entry = self.get(inode, birth)?.entry;
        let record = self.records.get(entry as usize)?;
        record.get_or_init(|| self.below.entry(entry).recorded().map(Box::new)).as_deref()
    }

    /// Where the bytes of a stub are; `None` if they are in the tree.
    pub fn content(&self, seen: &Seen) -> Option<Vec<u8>> {
        let made = self.get(seen.raw.stx_ino, birth_of(&seen.raw)).filter(|made| !made.filled)?;
        self.content_of(made.entry)
    }

    /// As [`Lazy::content`], for somebody who opens it: the descriptor is known by it later. `file` is open on the stub for
    /// its path, and `path` is that, absolute in the image.
    pub fn open_content(&self, file: BorrowedFd<'_>, seen: &Seen, path: &[u8]) -> Option<Vec<u8>> {
        let made = self.get(seen.raw.stx_ino, birth_of(&seen.raw)).filter(|made| !made.filled)?;
        let content = self.content_of(made.entry)?;
        let key = key_of(&look_at(&content)?);
        let mut state = self.state.borrow_mut();
        state.opened.insert(key, Opened { entry: made.entry, changed_at: seen.raw.stx_ctime });
        state.open_entries.insert(made.entry);
        let in_place = path.strip_prefix(b"/").is_some_and(|path| path == self.below.path(made.entry));
        if !in_place && !state.moved.contains_key(&made.entry) {
            state.keep_hold(made.entry, file, seen);
        }
        Some(content)
    }

    /// Something has lost a name, or has another one now: `file` is open on it for its path. What a task has open of the
    /// layers' files can be found by names that are as they were made; what is elsewhere is held.
    pub fn moves(&self, file: BorrowedFd<'_>, seen: &Seen) {
        let mut state = self.state.borrow_mut();
        let inode = seen.raw.stx_ino;
        let Some(&(birth, made)) = state.made.get(&inode).or_else(|| state.nameless.get(&inode)) else { return };
        let concerned = if seen.is_directory() {
            state.open_entries.iter().any(|&entry| self.is_beneath(entry, made.entry))
        } else {
            state.open_entries.contains(&made.entry)
        };
        if concerned && birth == birth_of(&seen.raw) {
            state.keep_hold(made.entry, file, seen);
            if let Some(now) = look(file).ok().filter(|now| now.stx_ino == inode) {
                let opened = state.opened.values_mut().filter(|opened| opened.entry == made.entry);
                opened.for_each(|opened| opened.changed_at = now.stx_ctime);
            }
        }
    }

    fn is_beneath(&self, mut entry: EntryNumber, above: EntryNumber) -> bool {
        while entry != 0 && entry != above {
            entry = self.below.parent(entry);
        }
        entry == above
    }

    /// Whether so much has moved that it should be looked what of it is still open.
    pub fn holds_many(&self) -> bool {
        let state = self.state.borrow();
        state.moved.len() > state.moved_limit
    }

    /// Lets go of files that nobody has open: `open` is what tasks have.
    pub fn let_go(&self, open: &HashSet<FileKey>) {
        let mut state = self.state.borrow_mut();
        let State { opened, open_entries, moved, moved_limit, .. } = &mut *state;
        opened.retain(|key, opened| open.contains(key) || !moved.contains_key(&opened.entry));
        *open_entries = opened.values().map(|opened| opened.entry).collect();
        moved.retain(|&number, _| open_entries.iter().any(|&entry| self.is_beneath(entry, number)));
        *moved_limit = MOVED_LIMIT.max(2 * moved.len());
    }

    /// Whether the layer's own file can be run: its mode is the one that it was unpacked with.
    pub fn is_executable_below(&self, seen: &Seen) -> bool {
        let made = self.get(seen.raw.stx_ino, birth_of(&seen.raw));
        made.is_some_and(|made| self.below.entry(made.entry).mode & 0o100 != 0)
    }

    fn content_of(&self, entry: EntryNumber) -> Option<Vec<u8>> {
        let (_, layer) = self.below.file(entry)?;
        let layer = self.layers.get(layer as usize)?;
        Some([layer.as_slice(), b"/", &self.below.path(entry)].concat())
    }

    /// Brings the bytes of a stub into the tree because something is about to change them. `file` is open on it, if only for
    /// its path.
    ///
    /// # Errors
    /// The machine refused: the stub is what it was.
    pub fn fill(&self, file: BorrowedFd<'_>, seen: &Seen) -> Result<(), Errno> {
        self.bring(file, seen)?;
        if self.get(seen.raw.stx_ino, birth_of(&seen.raw)).is_some() {
            self.touch(seen.raw.stx_ino);
        }
        Ok(())
    }

    /// Brings the bytes of a stub into the tree, if they are not there: the file stays what the layers have.
    ///
    /// # Errors
    /// As [`Lazy::fill`].
    pub fn bring(&self, file: BorrowedFd<'_>, seen: &Seen) -> Result<(), Errno> {
        let inode = seen.raw.stx_ino;
        let made = self.get(inode, birth_of(&seen.raw)).filter(|made| !made.filled);
        let Some(path) = made.and_then(|made| self.content_of(made.entry)) else { return Ok(()) };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let from = rustix::fs::open(OsStr::from_bytes(&path), flags, Mode::empty())?;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let before = look(file)?;
        // Never the layer's own.
        if before.stx_ino != inode {
            return Err(Errno::ACCESS);
        }
        let to = rustix::fs::open(&*link, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        copy(&from, &to, before.stx_size)?;
        rustix::fs::futimens(&to, &times_of(&before))?;
        self.mark(inode, |made| made.filled = true);
        Ok(())
    }

    /// Says that something of a file has changed.
    pub fn touch(&self, inode: u64) {
        self.mark(inode, |made| made.changed = true);
    }

    /// Says that the journal has its own record of a file now.
    pub fn set_recorded(&self, inode: u64) {
        self.mark(inode, |made| (made.recorded, made.changed) = (true, true));
    }

    fn mark(&self, inode: u64, mark: impl FnOnce(&mut Made)) {
        let State { made, nameless, .. } = &mut *self.state.borrow_mut();
        if let Some((_, made)) = made.get_mut(&inode).or_else(|| nameless.get_mut(&inode)) {
            mark(made);
        }
    }

    /// Says that something has no name any more, and answers what was known of it. Who has it open still sees that.
    pub fn lose_name(&self, inode: u64) -> Option<(Birth, Option<Recorded>)> {
        let birth = self.state.borrow().made.get(&inode).map(|(birth, _)| *birth)?;
        let recorded = self.recorded(inode, birth).cloned();
        let mut state = self.state.borrow_mut();
        if let Some(made) = state.made.remove(&inode) {
            state.nameless.insert(inode, made);
        }
        Some((birth, recorded))
    }

    /// Forgets an inode number: another file has got it.
    pub fn forget(&self, inode: u64) {
        let mut state = self.state.borrow_mut();
        state.made.remove(&inode);
        state.nameless.remove(&inode);
    }

    /// Whether something that was made has this number.
    pub fn mentions(&self, inode: u64) -> bool {
        self.state.borrow().made.contains_key(&inode)
    }

    /// If this is a layer's file, which a task has open: shows the stub that stands for it.
    pub fn show_stub(&self, raw: &mut Statx) {
        let key = key_of(raw);
        let state = self.state.borrow();
        let Some(&Opened { entry, changed_at }) = state.opened.get(&key) else { return };
        let Some(&inode) = state.inodes.get(&entry) else { return };
        let named = state.made.get(&inode);
        let Some(&(birth, made)) = named.or_else(|| state.nameless.get(&inode)) else { return };
        if made.changed
            && let Some(now) = self.open_entry(&state, entry, inode).and_then(|file| look(file.as_fd()).ok())
        {
            *raw = now;
            return;
        }
        (raw.stx_dev_major, raw.stx_dev_minor) = self.device;
        raw.stx_ino = inode;
        raw.stx_nlink = u32::from(named.is_some());
        raw.stx_ctime = changed_at;
        if let Some((seconds, nanoseconds)) = birth {
            (raw.stx_btime.tv_sec, raw.stx_btime.tv_nsec) = (seconds, nanoseconds);
        }
    }

    /// Whether this is a layer's own file that was opened.
    pub fn is_opened(&self, raw: &Statx) -> bool {
        self.state.borrow().opened.contains_key(&key_of(raw))
    }

    /// The stub that stands for a layer's file, if that is what a task has open.
    ///
    /// # Errors
    /// EACCES: it is not to be found, because something went round the tracer.
    pub fn stub_of(&self, file: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
        self.stub_for(&look(file)?)
    }

    /// As [`Lazy::stub_of`], of what was looked at.
    ///
    /// # Errors
    /// As [`Lazy::stub_of`].
    pub fn stub_for(&self, raw: &Statx) -> Result<Option<OwnedFd>, Errno> {
        let state = self.state.borrow();
        let Some(&Opened { entry, .. }) = state.opened.get(&key_of(raw)) else { return Ok(None) };
        let inode = state.inodes.get(&entry).copied().unwrap_or(0);
        self.open_entry(&state, entry, inode).ok_or(Errno::ACCESS).map(Some)
    }

    /// Opens what was made of an entry, for its path: where it was made, unless it or something above has moved.
    fn open_entry(&self, state: &State, entry: EntryNumber, inode: u64) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut names = Vec::new();
        let mut at = entry;
        let from = loop {
            match state.moved.get(&at) {
                Some(held) => break held,
                None if at == 0 => break &self.tree,
                None => names.push(self.below.name(at)),
            }
            at = self.below.parent(at);
        };
        let file = if names.is_empty() {
            rustix::io::fcntl_dupfd_cloexec(from, 0).ok()?
        } else {
            names.reverse();
            let path = names.join(&b'/');
            rustix::fs::openat2(from, OsStr::from_bytes(&path), flags, Mode::empty(), resolve).ok()?
        };
        (look(file.as_fd()).ok()?.stx_ino == inode).then_some(file)
    }

    /// Changes what stat(2) tells of something that was made to what the whole tree would have.
    pub fn show(&self, seen: &mut Seen) {
        let Some(made) = self.get(seen.raw.stx_ino, birth_of(&seen.raw)) else { return };
        if seen.is_directory() {
            // As of merged directories of overlayfs: what is not made is not counted.
            if self.state.borrow().waiting.get(&made.entry).is_some_and(|&count| count > 0) {
                seen.links = 1;
            }
            return;
        }
        if !made.filled {
            seen.blocks = seen.size.div_ceil(4096) * 8;
        }
        if let (Some(inode), false) = (made.shared, made.changed) {
            seen.inode = inode;
            seen.links = self.below.links(made.entry);
        }
    }
}

impl State {
    /// Keeps a descriptor for something that has moved, unless `file` is not open on it but on the layer's file.
    fn keep_hold(&mut self, entry: EntryNumber, file: BorrowedFd<'_>, seen: &Seen) {
        if look(file).is_ok_and(|raw| raw.stx_ino == seen.raw.stx_ino)
            && let Ok(held) = rustix::io::fcntl_dupfd_cloexec(file, 0)
        {
            self.moved.insert(entry, held);
        }
    }

    fn keep(&mut self, below: &Below, inode: u64, birth: Birth, made: Made) {
        self.inodes.insert(made.entry, inode);
        let parent = below.parent(made.entry);
        if made.entry != 0 {
            let left = self.waiting.entry(parent).or_insert_with(|| below.children(parent).len() as u32);
            *left = left.saturating_sub(1);
        }
        self.waiting.entry(made.entry).or_insert_with(|| below.children(made.entry).len() as u32);
        if inode != 0 {
            self.made.insert(inode, (birth, made));
            self.nameless.remove(&inode);
        }
    }
}

fn key_of(raw: &Statx) -> FileKey {
    (raw.stx_dev_major, raw.stx_dev_minor, raw.stx_ino)
}

fn look(file: BorrowedFd<'_>) -> Result<Statx, Errno> {
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

fn look_at(path: &[u8]) -> Option<Statx> {
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(rustix::fs::CWD, OsStr::from_bytes(path), AtFlags::SYMLINK_NOFOLLOW, flags).ok()
}

fn inode_of(path: &[u8]) -> Option<u64> {
    look_at(path).map(|raw| raw.stx_ino)
}

fn times_of(raw: &Statx) -> Timestamps {
    let time = |time: &rustix::fs::StatxTimestamp| Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() };
    Timestamps { last_access: time(&raw.stx_atime), last_modification: time(&raw.stx_mtime) }
}

/// Sets the times of a directory back to what they were before names were made in it.
fn set_back(directory: BorrowedFd<'_>, before: &Statx) -> Result<(), Errno> {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    rustix::fs::utimensat(rustix::fs::CWD, &*link, &times_of(before), AtFlags::empty())
}

/// Copies a whole file: by sharing its blocks where the file system can, else inside the kernel where that can.
fn copy(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Errno> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut left = size;
    while left > 0 {
        match rustix::fs::copy_file_range(from, None, to, None, left.min(1 << 30) as usize) {
            Ok(0) => return Ok(()),
            Ok(count) => left -= count as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => break,
            Err(error) => return Err(error),
        }
    }
    if left == 0 {
        return Ok(());
    }
    let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let (mut from, mut to) = (File::from(rustix::io::dup(from)?), File::from(rustix::io::dup(to)?));
    io::copy(&mut from, &mut to).map_err(failed).map(drop)
}
