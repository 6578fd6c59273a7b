//! What of a file is true in the image but not on the disk: owner, mode, device number, attributes of the system.
//!
//! Kept by inode, so that hard links and renames need no care. A file's birth time tells it from an earlier one that had
//! the same number.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::Path,
};

use rustix::{
    fd::BorrowedFd,
    fs::{AtFlags, StatxFlags, Timespec},
    io::Errno,
};
use serde::{Deserialize, Serialize};

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
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The record of a flat tree, by inode number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    entries: HashMap<u64, (Birth, Recorded)>,
    /// Those without a name: of others that get their number, nothing is recorded, however soon they are born.
    gone: HashSet<u64>,
    /// The file system of the tree, once a tracer works on it: numbers of others mean nothing here.
    device: Option<(u32, u32)>,
}

/// When a file was made; `None` where the file system does not say.
type Birth = Option<(i64, u32)>;

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    inode: u64,
    birth: Birth,
    #[serde(flatten)]
    recorded: Recorded,
}

/// What statx(2) tells, with what is recorded in place of what the disk has.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Inode number.
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

    fn birth(&self) -> Birth {
        let known = self.raw.stx_mask & StatxFlags::BTIME.bits() != 0;
        known.then_some((self.raw.stx_btime.tv_sec, self.raw.stx_btime.tv_nsec))
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
        let mut entries = HashMap::new();
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let Line { inode, birth, recorded } = serde_json::from_slice(line)?;
            entries.insert(inode, (birth, recorded));
        }
        Ok(Self { entries, ..Self::default() })
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        use io::Write;
        let mut out = io::BufWriter::new(std::fs::File::create(path)?);
        for (&inode, (birth, recorded)) in self.entries.iter().filter(|(inode, _)| !self.gone.contains(inode)) {
            serde_json::to_writer(&mut out, &Line { inode, birth: *birth, recorded: recorded.clone() })?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Whether anything is recorded of a number; whose it is now, only [`Journal::look`] tells.
    pub fn mentions(&self, inode: u64) -> bool {
        self.entries.contains_key(&inode)
    }

    /// Looks at an open file, with what is recorded of it. What belongs to nobody in particular (the builder's own user)
    /// belongs to `owner`.
    ///
    /// # Errors
    /// As statx(2).
    pub fn look(&self, file: BorrowedFd<'_>) -> Result<Seen, Errno> {
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        self.seen(rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, flags)?)
    }

    /// As [`Journal::look`], by a path of this machine; a symlink at its end is looked at itself.
    ///
    /// # Errors
    /// As statx(2).
    pub fn look_at(&self, path: &Path) -> io::Result<Seen> {
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        Ok(self.seen(rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, flags)?)?)
    }

    /// As [`Journal::look`], through a link of /proc.
    ///
    /// # Errors
    /// As statx(2).
    pub fn look_through(&self, path: &str) -> Result<Seen, Errno> {
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        self.seen(rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), flags)?)
    }

    fn seen(&self, raw: rustix::fs::Statx) -> Result<Seen, Errno> {
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
        }
        Ok(seen)
    }

    /// What is recorded of a file.
    pub fn get(&self, seen: &Seen) -> Option<&Recorded> {
        let (birth, recorded) = self.entries.get(&seen.inode)?;
        if seen.links > 0 && self.gone.contains(&seen.inode) {
            return None;
        }
        (*birth == seen.birth() && self.device.is_none_or(|device| device == seen.device)).then_some(recorded)
    }

    /// Says on which file system the tree is.
    pub fn settle_on(&mut self, root: &Seen) {
        self.device = Some(root.device);
    }

    /// Whether a file is on the file system of the tree.
    pub fn is_on(&self, seen: &Seen) -> bool {
        self.device.is_none_or(|device| device == seen.device)
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
        // What is recorded of a file without a name must not be taken for the next one's that gets its number.
        if seen.links == 0 {
            self.gone.insert(seen.inode);
        } else {
            self.gone.remove(&seen.inode);
        }
        self.entries.insert(seen.inode, (seen.birth(), recorded));
    }

    /// A file without a name got one (O_TMPFILE of open(2)).
    pub fn regain_name(&mut self, inode: u64) {
        self.gone.remove(&inode);
    }

    /// Forgets a file.
    pub fn forget(&mut self, inode: u64) {
        self.entries.remove(&inode);
        self.gone.remove(&inode);
    }

    /// Keeps what is recorded of a file only for those who have it open: it has no name any more.
    pub fn lose_name(&mut self, inode: u64) {
        if self.entries.contains_key(&inode) {
            self.gone.insert(inode);
        }
    }
}

/// The mode that a file has on the disk, where its owner can always do with it what root could.
pub fn mode_on_disk(mode: u32, directory: bool) -> u32 {
    mode & 0o777 | if directory { 0o700 } else { 0o600 }
}
