//! What of a file is true in the image but not on the disk: owner, mode, device number, attributes of the system.
//!
//! Kept by inode, so that hard links and renames need no care. A file's birth time tells it from an earlier one that had
//! the same number.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    path::Path,
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, Mode, OFlags, StatxFlags, Timespec},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::{
    acl::{self, AccessList},
    below::Below,
    lazy::{FileKey, Lazy, Made},
};

/// A device node that is an empty file on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// A block device, else a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What is recorded of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits with setuid, setgid and sticky: 0o7777 at most.
    pub mode: u32,
    /// What it is, if it is a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceNode>,
    /// Extended attributes that the user can't set on the disk.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "pairs")]
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A map whose keys are no text, which JSON has no other form for.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    pub fn serialize<S: Serializer>(map: &Map, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map, D::Error> {
        Ok(Vec::<(Vec<u8>, Vec<u8>)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// The record of a flat tree, by inode number.
#[derive(Debug, Default)]
pub struct Journal {
    entries: HashMap<u64, (Birth, Recorded)>,
    /// Those without a name: of others that get their number, nothing is recorded, however soon they are born.
    gone: HashSet<u64>,
    /// Files of other file systems that are bound into the tree, by device and number; not kept.
    bound: HashMap<((u32, u32), u64), Recorded>,
    /// The records of other file systems that are bound into the tree as long as the command runs; not kept.
    beside: Vec<Journal>,
    /// The file system of the tree, once a tracer works on it: numbers of others mean nothing here.
    device: Option<(u32, u32)>,
    /// What of the tree is made when somebody asks for it.
    lazy: Option<Lazy>,
    /// What was made, as the file says, until [`Journal::put_on`] needs it.
    made: Vec<(u64, Birth, Made)>,
}

/// When a file was made; `None` where the file system does not say.
pub type Birth = Option<(i64, u32)>;

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    inode: u64,
    birth: Birth,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<Recorded>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<Made>,
}

/// What is asked for whenever a file is looked at.
const LOOK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// When a file was made.
pub fn birth_of(raw: &rustix::fs::Statx) -> Birth {
    let known = raw.stx_mask & StatxFlags::BTIME.bits() != 0;
    known.then_some((raw.stx_btime.tv_sec, raw.stx_btime.tv_nsec))
}

/// What statx(2) tells, with what is recorded in place of what the disk has.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Inode number, as the command sees it.
    pub inode: u64,
    /// Device that holds it.
    pub device: (u32, u32),
    /// Kind and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// If it is a device, its numbers.
    pub node: (u32, u32),
    /// Names.
    pub links: u32,
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Preferred size of reads.
    pub block_size: u32,
    /// The list that access is checked against, if the mode does not say it all.
    pub acl: Option<Box<AccessList>>,
    /// Times: access, modification, change, birth.
    pub times: [Timespec; 4],
    /// As the kernel gave it, for statx(2) itself.
    pub raw: Box<rustix::fs::Statx>,
}

impl Seen {
    /// The kind alone (S_IFMT).
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// Whether it is a symlink.
    pub fn is_symlink(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// When it was made.
    pub fn birth(&self) -> Birth {
        birth_of(&self.raw)
    }

    /// The file on the disk.
    pub fn key(&self) -> FileKey {
        (self.device.0, self.device.1, self.number())
    }

    /// The inode number on the disk, by which the journal knows it.
    pub fn number(&self) -> u64 {
        self.raw.stx_ino
    }
}

impl Journal {
    /// Reads a file that [`Journal::save`] wrote; a missing one is an empty journal.
    ///
    /// # Errors
    /// It can't be read, or is not one.
    pub fn load(path: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            bytes => bytes?,
        };
        let mut journal = Self::default();
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let Line { inode, birth, recorded, made } = serde_json::from_slice(line)?;
            if let Some(recorded) = recorded {
                journal.entries.insert(inode, (birth, recorded));
            }
            journal.made.extend(made.map(|made| (inode, birth, made)));
        }
        Ok(journal)
    }

    /// Says that the tree is made of these layers when somebody asks for it: `layers` are where they are unpacked, the base
    /// first.
    ///
    /// # Errors
    /// The tree can't be looked at.
    pub fn put_on(&mut self, below: Below, layers: Vec<Vec<u8>>, tree: &Path) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tree = rustix::fs::open(tree, flags, Mode::empty())?;
        self.lazy = Some(Lazy::new(below, layers, tree, std::mem::take(&mut self.made))?);
        Ok(())
    }

    /// What of the tree is made when somebody asks for it.
    pub fn lazy(&self) -> Option<&Lazy> {
        self.lazy.as_ref()
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        use io::Write;
        let mut out = io::BufWriter::new(std::fs::File::create(path)?);
        for (&inode, (birth, recorded)) in
            self.entries.iter().filter(|(inode, _)| !self.gone.contains(inode) && self.is_own(**inode))
        {
            let mut recorded = recorded.clone();
            // Not of the image.
            recorded.xattrs.retain(|name, _| name != acl::ACCESS && name != acl::DEFAULT);
            let line = Line { inode, birth: *birth, recorded: Some(recorded), made: None };
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
        let made = self.lazy.as_ref().map_or_else(|| self.made.clone(), Lazy::made);
        for (inode, birth, made) in made {
            serde_json::to_writer(&mut out, &Line { inode, birth, recorded: None, made: Some(made) })?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Whether anything is recorded of a number; whose it is now, only [`Journal::look`] tells.
    pub fn mentions(&self, inode: u64) -> bool {
        self.entries.contains_key(&inode) || self.lazy.as_ref().is_some_and(|lazy| lazy.mentions(inode))
    }

    /// Looks at an open file, with what is recorded of it. What belongs to nobody in particular (the builder's own user)
    /// belongs to `owner`.
    ///
    /// # Errors
    /// As statx(2).
    pub fn look(&self, file: BorrowedFd<'_>) -> Result<Seen, Errno> {
        self.seen(rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, LOOK)?)
    }

    /// As [`Journal::look`], by a path of this machine; a symlink at its end is looked at itself.
    ///
    /// # Errors
    /// As statx(2).
    pub fn look_at(&self, path: &Path) -> io::Result<Seen> {
        Ok(self.seen(rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, LOOK)?)?)
    }

    /// As [`Journal::look`], through a link of /proc; and whether what is open is a layer's own file.
    ///
    /// # Errors
    /// As statx(2).
    pub fn look_through(&self, path: &str) -> Result<(Seen, bool), Errno> {
        let raw = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), LOOK)?;
        let is_of_layer = self.lazy.as_ref().is_some_and(|lazy| lazy.is_opened(&raw));
        Ok((self.seen(raw)?, is_of_layer))
    }

    fn seen(&self, mut raw: rustix::fs::Statx) -> Result<Seen, Errno> {
        if let Some(lazy) = &self.lazy {
            lazy.show_stub(&mut raw);
        }
        let time = |time: &rustix::fs::StatxTimestamp| Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec as _ };
        let mut seen = Seen {
            inode: raw.stx_ino,
            device: (raw.stx_dev_major, raw.stx_dev_minor),
            mode: u32::from(raw.stx_mode),
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            node: (raw.stx_rdev_major, raw.stx_rdev_minor),
            links: raw.stx_nlink,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            block_size: raw.stx_blksize,
            acl: None,
            times: [time(&raw.stx_atime), time(&raw.stx_mtime), time(&raw.stx_ctime), time(&raw.stx_btime)],
            raw: Box::new(raw),
        };
        // Nobody else's files are in reach, and what the machine's root owns belongs to root here too.
        (seen.uid, seen.gid) = (0, 0);
        if let Some(recorded) = self.get(&seen) {
            (seen.uid, seen.gid) = (recorded.uid, recorded.gid);
            let mut kind = seen.kind();
            if let Some(device) = recorded.device {
                kind = if device.block { libc::S_IFBLK } else { libc::S_IFCHR };
                seen.node = (device.major, device.minor);
            }
            if kind != libc::S_IFLNK {
                seen.mode = kind | recorded.mode;
            }
            let list = recorded.xattrs.get(acl::ACCESS).and_then(|value| AccessList::parse(value).ok()?);
            seen.acl = list.map(Box::new);
        }
        if let Some(lazy) = &self.lazy {
            lazy.show(&mut seen);
        }
        Ok(seen)
    }

    /// What is recorded of a file.
    pub fn get(&self, seen: &Seen) -> Option<&Recorded> {
        if let Some(recorded) = self.bound.get(&(seen.device, seen.number())) {
            return Some(recorded);
        }
        if let Some(beside) = self.beside.iter().find(|beside| beside.is_on(seen)) {
            return beside.get(seen);
        }
        if !self.is_on(seen) {
            return None;
        }
        let nameless = seen.raw.stx_nlink == 0;
        let own = self.entries.get(&seen.number()).filter(|(birth, _)| *birth == seen.birth());
        let own = own.filter(|_| nameless || !self.gone.contains(&seen.number()) && self.is_own(seen.number()));
        let below = || self.lazy.as_ref()?.recorded(seen.number(), seen.birth());
        own.map(|(_, recorded)| recorded).or_else(below)
    }

    /// Whether names of a directory wait to be made; see [`Lazy::has_waiting`].
    pub fn has_waiting(&self, directory: &Seen) -> bool {
        self.lazy.as_ref().is_some_and(|lazy| lazy.has_waiting(directory))
    }

    /// Makes all names of a directory.
    ///
    /// # Errors
    /// The machine refused.
    pub fn complete(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        self.lazy.as_ref().map_or(Ok(()), |lazy| lazy.complete(directory))
    }

    /// Makes all names of a directory and of what is beneath it; see [`Lazy::complete_tree`].
    ///
    /// # Errors
    /// The machine refused.
    pub fn complete_tree(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        self.lazy.as_ref().map_or(Ok(()), |lazy| lazy.complete_tree(directory))
    }

    /// Makes all names that a path goes over, symlinks not followed.
    ///
    /// # Errors
    /// The machine refused.
    pub fn make_path(&self, path: &[u8]) -> io::Result<()> {
        Ok(self.lazy.as_ref().map_or(Ok(()), |lazy| lazy.make_path(path))?)
    }

    /// What stands in the tree for an open file, which is itself, but for files of the layers; and a look at it.
    ///
    /// # Errors
    /// As [`Lazy::stub_of`].
    pub fn in_tree(&self, file: OwnedFd) -> Result<(OwnedFd, Seen), Errno> {
        let raw = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, LOOK)?;
        match self.lazy.as_ref().map_or(Ok(None), |lazy| lazy.stub_for(&raw))? {
            Some(stub) => {
                let seen = self.look(stub.as_fd())?;
                Ok((stub, seen))
            }
            None => Ok((file, self.seen(raw)?)),
        }
    }

    /// Whether what the journal has of a number is about the file that has it now. One of the layers may have got it from an
    /// earlier file, and been born as soon.
    fn is_own(&self, number: u64) -> bool {
        self.lazy.as_ref().and_then(|lazy| lazy.by_number(number)).is_none_or(|made| made.recorded)
    }

    /// Says on which file system the tree is.
    pub fn settle_on(&mut self, root: &Seen) {
        self.device = Some(root.device);
    }

    /// Whether a file is on the file system of the tree, or on one of those that [`Journal::keep_beside`] added.
    pub fn is_on(&self, seen: &Seen) -> bool {
        self.device.is_none_or(|device| device == seen.device) || self.beside.iter().any(|beside| beside.is_on(seen))
    }

    /// Says that another file system is bound into the tree, with this root: its files are the command's too.
    pub fn keep_beside(&mut self, root: &Seen) {
        self.beside.push(Self { device: Some(root.device), ..Self::default() });
    }

    /// The journal that has the files of the file system on which this one is.
    fn of(&mut self, seen: &Seen) -> &mut Self {
        match self.beside.iter().position(|beside| beside.is_on(seen)) {
            Some(number) => &mut self.beside[number],
            None => self,
        }
    }

    /// Records something of a file, beginning with what it looks like now.
    pub fn change(&mut self, seen: &Seen, change: impl FnOnce(&mut Recorded)) {
        let mut recorded = self.get(seen).cloned().unwrap_or_else(|| Recorded {
            uid: seen.uid,
            gid: seen.gid,
            mode: seen.mode & 0o7777,
            device: None,
            xattrs: BTreeMap::new(),
        });
        change(&mut recorded);
        self.set(seen, recorded);
    }

    /// Records all of a file.
    pub fn set(&mut self, seen: &Seen, recorded: Recorded) {
        self.of(seen).set_own(seen, recorded);
    }

    fn set_own(&mut self, seen: &Seen, recorded: Recorded) {
        // What is recorded of a file without a name must not be taken for the next one's that gets its number.
        if seen.raw.stx_nlink == 0 {
            self.gone.insert(seen.number());
        } else {
            self.gone.remove(&seen.number());
        }
        self.entries.insert(seen.number(), (seen.birth(), recorded));
        if let Some(lazy) = &self.lazy {
            lazy.set_recorded(seen.number());
        }
    }

    /// Says that something of a file has changed that is on the disk.
    pub fn touch(&self, seen: &Seen) {
        if let Some(lazy) = &self.lazy {
            lazy.touch(seen.number());
        }
    }

    /// Records all of a file that is bound into the tree from anywhere, as long as the command runs.
    pub fn set_bound(&mut self, seen: &Seen, recorded: Recorded) {
        self.bound.insert((seen.device, seen.number()), recorded);
    }

    /// As [`Journal::change`], of a file that is bound and has a record of its own; answers whether it has.
    pub fn change_bound(&mut self, seen: &Seen, change: impl FnOnce(&mut Recorded)) -> bool {
        self.bound.get_mut(&(seen.device, seen.number())).map(change).is_some()
    }

    /// Takes over what another journal says.
    pub fn extend(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// What is recorded of these numbers.
    #[must_use]
    pub fn only(&self, inodes: &BTreeSet<u64>) -> Self {
        let wanted = self.entries.iter().filter(|(inode, _)| inodes.contains(inode));
        Self { entries: wanted.map(|(inode, entry)| (*inode, entry.clone())).collect(), ..Self::default() }
    }

    /// A file without a name got one (O_TMPFILE of open(2)).
    pub fn regain_name(&mut self, seen: &Seen) {
        self.of(seen).gone.remove(&seen.number());
    }

    /// A file was made: what is recorded of an earlier one with its number is forgotten.
    pub fn is_born(&mut self, seen: &Seen) {
        self.of(seen).forget(seen.number());
    }

    /// Forgets a file of the tree.
    pub fn forget(&mut self, inode: u64) {
        self.entries.remove(&inode);
        self.gone.remove(&inode);
        if let Some(lazy) = &self.lazy {
            lazy.forget(inode);
        }
    }

    /// Keeps what is recorded of a file only for those who have it open: it has no name any more.
    pub fn lose_name(&mut self, seen: &Seen) {
        self.of(seen).lose_own_name(seen.number());
    }

    fn lose_own_name(&mut self, inode: u64) {
        if let Some((birth, Some(recorded))) = self.lazy.as_ref().and_then(|lazy| lazy.lose_name(inode)) {
            self.entries.entry(inode).or_insert((birth, recorded));
        }
        if self.entries.contains_key(&inode) {
            self.gone.insert(inode);
        }
    }
}

/// The mode that a file has on the disk, where its owner can always do with it what root could.
pub fn mode_on_disk(mode: u32, directory: bool) -> u32 {
    mode & 0o777 | if directory { 0o700 } else { 0o600 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_what_is_loaded() {
        let place = std::env::temp_dir().join(format!("cofferdam-journal-{}", std::process::id()));
        std::fs::write(&place, "").unwrap();
        let mut journal = Journal::default();
        let seen = journal.look_at(&place).unwrap();
        let xattrs = BTreeMap::from([(b"security.capability".to_vec(), vec![1, 0, 0, 2, 0xff])]);
        let device = Some(DeviceNode { block: true, major: 8, minor: 1 });
        let recorded = Recorded { uid: 7, gid: 8, mode: 0o4750, device, xattrs };
        journal.set(&seen, recorded.clone());
        let file = place.with_extension("saved");
        journal.save(&file).unwrap();
        assert_eq!(Journal::load(&file).unwrap().get(&seen), Some(&recorded));
        for path in [place, file] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
