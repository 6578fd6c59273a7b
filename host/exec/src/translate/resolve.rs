//! From a path that a task names to the file, as the kernel would walk it in the image (path_resolution(7)).
//!
//! Absolute symlinks start at the task's root again, `..` stops there, bindings are crossed on the way, and the magic links
//! of /proc lead to where the task believes them to lead. Each step is taken from an open directory, so that a name which
//! changes meanwhile leads to another file of the image at worst.

use std::{
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    rc::Rc,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    process::Pid,
};

use super::{access, bindings::open_beneath, directories::Directory, identity::Identity, tracee::Task, tracer::Tracer};
use crate::{EntryNumber, journal::Seen};

/// As many symlinks as the kernel follows in one path.
const SYMLINK_LIMIT: usize = 40;

/// NAME_MAX of Linux's file systems.
const NAME_LIMIT_BYTES: usize = 255;

/// What the kernel says behind the name of a file that has none any more (proc(5)).
const DELETED: &[u8] = b" (deleted)";

/// Where a path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The working directory.
    Here,
    /// A directory of the task.
    Descriptor(i32),
}

impl Start {
    /// From an argument.
    pub fn from_argument(argument: u64) -> Self {
        match argument as i32 {
            libc::AT_FDCWD => Self::Here,
            descriptor => Self::Descriptor(descriptor),
        }
    }
}

/// What a path is followed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Anything else.
    Look,
    /// O_CREAT: a name with a slash behind it can only be a directory's, and is not even looked for (fs/namei.c,
    /// lookup_fast_for_open).
    Create,
}

/// How far a path may lead (openat2(2), RESOLVE_*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Not out of the directory that it starts from, which is an error.
    pub beneath: bool,
    /// Likewise, but `/` and what is above are that directory.
    pub in_root: bool,
    /// Not to another file system.
    pub one_device: bool,
    /// Over no symlink.
    pub no_symlinks: bool,
    /// Over no magic link of /proc.
    pub no_magic_links: bool,
}

/// Where a path leads.
pub struct Found {
    /// Resolved path of the image, whether or not something is there.
    pub path: Vec<u8>,
    /// What is there, open for its path.
    pub node: Option<(OwnedFd, Seen)>,
    /// The directory that holds the name, open for its path.
    pub parent: Option<Rc<OwnedFd>>,
    /// The last component; `None` where there is no name to make or remove (`/`, `.`, `..`, the target of a binding).
    pub name: Option<Vec<u8>>,
    /// Why there is none, if there is none.
    pub unnamed: Errno,
    /// The path ended with a slash.
    pub slash: bool,
    /// The kernel goes the same way if the tree is the task's real root: nothing on it is bound, or of /proc.
    pub is_native: bool,
    /// Nothing but directories led there from the one that the path starts from: the kernel goes the same way from there.
    pub is_beneath_start: bool,
    /// A magic link was followed to its end: what the task opens instead, whatever its name is.
    pub magic: Option<Vec<u8>>,
}

impl Found {
    /// What is there.
    ///
    /// # Errors
    /// ENOENT, or ENOTDIR for a file behind whose name a slash was written.
    pub fn existing(&self) -> Result<(&OwnedFd, &Seen), Errno> {
        let (file, seen) = self.node.as_ref().ok_or(Errno::NOENT)?;
        if self.slash && !seen.is_directory() {
            return Err(Errno::NOTDIR);
        }
        Ok((file, seen))
    }

    /// The directory and the name to change in it.
    ///
    /// # Errors
    /// What the kernel answers where there is no name.
    pub fn named(&self) -> Result<(&OwnedFd, &std::ffi::OsStr), Errno> {
        match (&self.parent, &self.name) {
            (Some(parent), Some(name)) => Ok((parent, std::ffi::OsStr::from_bytes(name))),
            _ => Err(self.unnamed),
        }
    }
}

impl Tracer {
    /// Follows a path of a task. With `follow`, a symlink at the end too.
    ///
    /// # Errors
    /// As the kernel: a missing last component is none.
    pub fn resolve(&self, task: &Task, start: Start, path: &[u8], follow: bool) -> Result<Found, Errno> {
        self.resolve_for(task, start, path, follow, Purpose::Look, Scope::default())
    }

    /// As [`Tracer::resolve`], for a certain purpose and within limits.
    ///
    /// # Errors
    /// As [`Tracer::resolve`].
    pub fn resolve_for(
        &self,
        task: &Task,
        start: Start,
        path: &[u8],
        follow: bool,
        purpose: Purpose,
        scope: Scope,
    ) -> Result<Found, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let mut root = task.place.borrow().root.clone();
        let absolute = path[0] == b'/';
        if absolute && scope.beneath {
            return Err(Errno::XDEV);
        }
        let from = if absolute && !scope.in_root { root.clone() } else { self.directory_of(task, start)? };
        if scope.beneath || scope.in_root {
            root = from.clone();
        }
        if access::is_unbounded(&task.identity)
            && root == b"/"
            && scope == Scope::default()
            && let Some(found) = self.resolve_directly(task, &from, path, follow)
        {
            return Ok(found);
        }
        let has_root = absolute || scope.beneath || scope.in_root;
        Walk { root, has_root, ..Walk::of(self, task, purpose, scope) }.run(from, path, follow)
    }

    /// The usual case: nothing on the way is bound, or begins above where it was, and the directory is known.
    fn resolve_directly(&self, task: &Task, from: &[u8], path: &[u8], follow: bool) -> Option<Found> {
        let (mut from, mut path) = (from.to_vec(), path.to_vec());
        let mut is_beneath_start = path[0] != b'/';
        for _ in 0..=SYMLINK_LIMIT {
            let (above, name) = directory_and_name(&from, &path)?;
            let Named { found: directory, is_as_named } = self.directory(task, above)?;
            is_beneath_start &= is_as_named;
            let whole = join(&directory.path, &name);
            if self.bindings.holding(&whole) != 0 {
                return None;
            }
            let node = match self.open_in(&directory.file, directory.entry, &name) {
                Ok(file) => {
                    let seen = self.journal.look(file.as_fd()).ok()?;
                    if follow && seen.is_symlink() {
                        let above = self.journal.look(directory.file.as_fd()).ok()?;
                        self.protected.may_follow(&task.identity, &above, &seen).ok()?;
                        is_beneath_start = false;
                        path = rustix::fs::readlinkat(&file, "", Vec::new()).ok()?.into_bytes();
                        from = if path.first()? == &b'/' { b"/".to_vec() } else { directory.path.clone() };
                        continue;
                    }
                    Some((file, seen))
                }
                Err(Errno::NOENT) => None,
                Err(_) => return None,
            };
            return Some(Found {
                path: whole,
                node,
                parent: Some(directory.file.clone()),
                name: Some(name),
                unnamed: Errno::NOENT,
                slash: false,
                is_native: true,
                is_beneath_start,
                magic: None,
            });
        }
        None
    }

    /// The directory of the tree that a path leads to for somebody who may search all, without `.` and `..` in it. `None` if it
    /// has to be walked each time.
    fn directory(&self, task: &Task, path: Vec<u8>) -> Option<Named> {
        if let Some(found) = self.directories.get(&path) {
            return Some(Named { is_as_named: found.path == path, found });
        }
        if self.bindings.holding(&path) != 0 {
            return None;
        }
        let tree = self.bindings.tree().file.as_fd();
        let (path_found, file) = match path.strip_prefix(b"/")? {
            b"" => (path.clone(), rustix::io::fcntl_dupfd_cloexec(tree, 0).ok()?),
            beneath => match open_beneath(tree, beneath, OFlags::DIRECTORY) {
                Ok(file) => (path.clone(), file),
                // Symlinks, and names that wait to be made.
                Err(Errno::LOOP | Errno::NOENT) => {
                    let found =
                        Walk::of(self, task, Purpose::Look, Scope::default()).run(b"/".to_vec(), &path, true).ok()?;
                    let (file, seen) = found.node.filter(|_| found.is_native)?;
                    (found.path, Some(file).filter(|_| seen.is_directory())?)
                }
                Err(_) => return None,
            },
        };
        let entry = self.journal.lazy().and_then(|lazy| lazy.entry_of(file.as_fd()).ok()?);
        let is_as_named = path_found == path;
        let found = self.directories.keep(path, Directory { path: path_found, file: Rc::new(file), entry });
        Some(Named { found, is_as_named })
    }

    /// The resolved path of a directory that a task has open, or is in.
    ///
    /// # Errors
    /// EBADF, ENOTDIR, or ENOENT if it was removed.
    pub fn directory_of(&self, task: &Task, start: Start) -> Result<Vec<u8>, Errno> {
        // Others who share it might be changing it.
        let is_own = start == Start::Here && Rc::strong_count(&task.place) == 1;
        let changes = self.directories.changes();
        if is_own
            && let Some((known, here)) = &task.place.borrow().here
            && *known == changes
        {
            return Ok(here.clone());
        }
        let link = match start {
            Start::Here => format!("/proc/{}/cwd", task.id.as_raw_nonzero()),
            Start::Descriptor(number) => format!("/proc/{}/fd/{number}", task.id.as_raw_nonzero()),
        };
        let path = match rustix::fs::readlink(&*link, Vec::new()) {
            Err(Errno::NOENT) if start != Start::Here => return Err(Errno::BADF),
            path => path?.into_bytes(),
        };
        if !path.starts_with(b"/") {
            return Err(Errno::NOTDIR);
        }
        // Directories of layers are never open.
        if self.bindings.is_in_layer(&path) {
            return Err(Errno::NOTDIR);
        }
        if path.ends_with(DELETED) {
            // Or its name ends like this.
            let seen = rustix::fs::stat(&*link)?;
            if seen.st_mode & libc::S_IFMT != libc::S_IFDIR {
                return Err(Errno::NOTDIR);
            }
            if seen.st_nlink == 0 {
                return Err(Errno::NOENT);
            }
        }
        let here = self.bindings.inside(&path).ok_or(Errno::NOENT)?;
        // What is bound may have other names any time.
        if is_own && self.bindings.holding(&here) == 0 {
            task.place.borrow_mut().here = Some((changes, here.clone()));
        }
        Ok(here)
    }

    /// The path by which the image knows an open file of a task; what has none keeps the kernel's words for it.
    ///
    /// # Errors
    /// ENOENT.
    pub fn name_of_link(&self, link: &str) -> Result<Vec<u8>, Errno> {
        let path = rustix::fs::readlink(link, Vec::new())?.into_bytes();
        if !path.starts_with(b"/") {
            return Ok(path);
        }
        // Something outside: its name is none of the command's business.
        Ok(self.bindings.inside(&path).unwrap_or_else(|| b"/".to_vec()))
    }
}

impl Tracer {
    /// Opens a name for its path, following nothing; what the layers have of that name is made in the tree now.
    fn open_name(&self, directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        match (open_here(directory, name), self.journal.lazy()) {
            (Err(Errno::NOENT), Some(lazy)) if lazy.make(directory.as_fd(), name)? => open_here(directory, name),
            (opened, _) => opened,
        }
    }

    /// As [`Tracer::open_name`], in a directory that was made of an entry of the layers, or of none.
    fn open_in(&self, directory: &OwnedFd, entry: Option<EntryNumber>, name: &[u8]) -> Result<OwnedFd, Errno> {
        match (open_here(directory, name), self.journal.lazy(), entry) {
            (Err(Errno::NOENT), Some(lazy), Some(entry)) if lazy.make_in(directory.as_fd(), entry, name)? => {
                open_here(directory, name)
            }
            (opened, ..) => opened,
        }
    }
}

fn open_here(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, std::ffi::OsStr::from_bytes(name), flags, Mode::empty())
}

/// A directory that a path led to.
struct Named {
    found: Rc<Directory>,
    /// Whether no symlink was on the way.
    is_as_named: bool,
}

struct Walk<'t> {
    tracer: &'t Tracer,
    task: &'t Task,
    root: Vec<u8>,
    links: usize,
    purpose: Purpose,
    scope: Scope,
    /// Whether the root had to be known so far.
    has_root: bool,
    /// See [`Found::is_native`].
    is_native: bool,
}

/// What a name of /proc is, if it is one of those that mean something else to the task.
enum ProcName {
    /// An ordinary name.
    Ordinary,
    /// A symlink with this target.
    Link(Vec<u8>),
    /// A magic link to this directory or file: the way there is not searched.
    Jump(Vec<u8>),
    /// A magic link: what it is called, and where it leads if that has a name here.
    Magic { outside: String, target: Option<Vec<u8>> },
}

impl<'t> Walk<'t> {
    /// From the root of a task.
    fn of(tracer: &'t Tracer, task: &'t Task, purpose: Purpose, scope: Scope) -> Self {
        let root = task.place.borrow().root.clone();
        Self { tracer, task, root, links: 0, purpose, scope, has_root: true, is_native: true }
    }

    fn run(mut self, from: Vec<u8>, path: &[u8], follow: bool) -> Result<Found, Errno> {
        self.is_native = self.root == b"/" && self.tracer.bindings.holding(&from) == 0;
        let mut ahead: Vec<Vec<u8>> = components(path);
        let mut slash = path.ends_with(b"/") || path.ends_with(b"/.") || path == b"." || path == b"..";
        // Whether a slash is the end of the string that the last name is from.
        let mut trailing = path.ends_with(b"/");
        let mut at = from;
        let mut directory = self.open_directory(&at)?;
        let mut unnamed = Errno::BUSY;
        while let Some(name) = ahead.pop() {
            let last = ahead.is_empty();
            if name.len() > NAME_LIMIT_BYTES {
                return Err(Errno::NAMETOOLONG);
            }
            self.may_search(&at, &directory)?;
            match name.as_slice() {
                b"." => {
                    unnamed = Errno::INVAL;
                    continue;
                }
                b".." => {
                    unnamed = Errno::NOTEMPTY;
                    self.has_root = true;
                    if at == self.root && self.scope.beneath {
                        return Err(Errno::XDEV);
                    }
                    if at != self.root {
                        self.check_device(&at, parent_of(&at))?;
                        at.truncate(parent_of(&at).len());
                        directory = self.open_directory(&at)?;
                    }
                    continue;
                }
                _ => {}
            }
            unnamed = Errno::BUSY;
            if last && trailing && self.purpose == Purpose::Create {
                return Err(Errno::ISDIR);
            }
            let child = join(&at, &name);
            self.check_device(&at, &child)?;
            let holder = self.tracer.bindings.get(self.tracer.bindings.holding(&at));
            let bound = self.tracer.bindings.at(&child);
            self.is_native &= bound.is_none() && self.tracer.bindings.holding(&at) == 0;
            let special =
                if holder.is_proc && bound.is_none() { self.proc_name(&at, &name)? } else { ProcName::Ordinary };
            let target = match special {
                ProcName::Ordinary => None,
                ProcName::Link(target) => Some(target),
                ProcName::Jump(target) if !last || follow || slash => {
                    self.count_link()?;
                    self.check_jump(&at, Some(&target))?;
                    // To a file: nothing of the walk is left.
                    if last && !self.is_directory(&target)? {
                        return self.at_file(target, slash);
                    }
                    at = target;
                    directory = self.open_directory(&at)?;
                    continue;
                }
                ProcName::Jump(target) => Some(target),
                ProcName::Magic { outside, target } if !last || follow || slash => match target {
                    target if self.check_jump(&at, target.as_deref()) != Ok(()) => {
                        return self.check_jump(&at, target.as_deref()).and(Err(Errno::LOOP));
                    }
                    // To the end of the path: the task itself opens what the link stands for.
                    _ if last => return self.magic(outside, target, slash),
                    Some(target) => Some(target),
                    None => return Err(Errno::NOTDIR),
                },
                ProcName::Magic { .. } => None,
            };
            let node = match (&target, bound) {
                (Some(_), _) => None,
                (None, Some(number)) => {
                    Some(rustix::io::fcntl_dupfd_cloexec(&self.tracer.bindings.get(number).file, 0)?)
                }
                (None, None) => match self.tracer.open_name(&directory, &name) {
                    Ok(file) => Some(file),
                    Err(Errno::NOENT) if last => None,
                    Err(error) => return Err(error),
                },
            };
            let node = match node {
                Some(file) => {
                    let mut seen = self.tracer.journal.look(file.as_fd())?;
                    if let Some(who) = self.process_behind(&child) {
                        (seen.uid, seen.gid) = (who.user.effective, who.group.effective);
                    }
                    Some((file, seen))
                }
                None => None,
            };
            let target = match (target, &node) {
                (Some(target), _) if !last || follow || slash => Some(target),
                (Some(_), _) => {
                    // The link itself: the machine has one of the same name and kind.
                    let file = self.tracer.open_name(&directory, &name)?;
                    let seen = self.tracer.journal.look(file.as_fd())?;
                    return Ok(self.found(child, Some((file, seen)), Some(directory), Some(name), slash));
                }
                (None, Some((file, seen))) if seen.is_symlink() && (!last || follow || slash) => {
                    Some(rustix::fs::readlinkat(file, "", Vec::new())?.into_bytes())
                }
                (None, _) => None,
            };
            if let Some(target) = target {
                self.count_link()?;
                if self.scope.no_symlinks {
                    return Err(Errno::LOOP);
                }
                if last && let Some((_, seen)) = &node {
                    let above = self.tracer.journal.look(directory.as_fd())?;
                    self.tracer.protected.may_follow(&self.task.identity, &above, seen)?;
                }
                if target.is_empty() {
                    return Err(Errno::NOENT);
                }
                // A slash at the end of the last link counts as one of the path.
                if last {
                    trailing = target.ends_with(b"/");
                    slash |= trailing;
                }
                if target.starts_with(b"/") {
                    if self.scope.beneath {
                        return Err(Errno::XDEV);
                    }
                    // Where the kernel has not asked for the root yet, it takes that for another device (fs/namei.c,
                    // nd_jump_root).
                    if self.scope.one_device && !self.has_root {
                        return Err(Errno::XDEV);
                    }
                    self.check_device(&at, &self.root)?;
                    at = self.root.clone();
                    directory = self.open_directory(&at)?;
                }
                ahead.extend(components(&target));
                continue;
            }
            if last {
                let name = bound.is_none().then_some(name);
                return Ok(self.found(child, node, Some(directory), name, slash));
            }
            let Some((file, seen)) = node else { return Err(Errno::NOENT) };
            if !seen.is_directory() {
                return Err(Errno::NOTDIR);
            }
            at = child;
            directory = file;
        }
        let seen = self.tracer.journal.look(directory.as_fd())?;
        Ok(Found { unnamed, ..self.found(at, Some((directory, seen)), None, None, true) })
    }

    fn found(
        &self,
        path: Vec<u8>,
        node: Option<(OwnedFd, Seen)>,
        parent: Option<OwnedFd>,
        name: Option<Vec<u8>>,
        slash: bool,
    ) -> Found {
        let parent = parent.map(Rc::new);
        let (is_native, is_beneath_start) = (self.is_native, false);
        Found { path, node, parent, name, unnamed: Errno::BUSY, slash, is_native, is_beneath_start, magic: None }
    }

    fn magic(&self, outside: String, target: Option<Vec<u8>>, slash: bool) -> Result<Found, Errno> {
        let file = rustix::fs::open(&*outside, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let seen = self.tracer.journal.look(file.as_fd())?;
        let path = target.unwrap_or_else(|| outside.clone().into_bytes());
        Ok(Found { magic: Some(outside.into_bytes()), ..self.found(path, Some((file, seen)), None, None, slash) })
    }

    /// Whether a step stays on its file system, if it has to.
    fn check_device(&self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        let bindings = &self.tracer.bindings;
        if self.scope.one_device && bindings.holding(from) != bindings.holding(to) { Err(Errno::XDEV) } else { Ok(()) }
    }

    /// Whether a magic link may be followed (fs/namei.c, nd_jump_link).
    fn check_jump(&self, from: &[u8], to: Option<&[u8]>) -> Result<(), Errno> {
        if self.scope.no_symlinks || self.scope.no_magic_links {
            return Err(Errno::LOOP);
        }
        if self.scope.one_device && to.is_none() {
            return Err(Errno::XDEV);
        }
        self.check_device(from, to.unwrap_or(from))?;
        if self.scope.beneath || self.scope.in_root { Err(Errno::XDEV) } else { Ok(()) }
    }

    fn count_link(&mut self) -> Result<(), Errno> {
        self.links += 1;
        if self.links > SYMLINK_LIMIT { Err(Errno::LOOP) } else { Ok(()) }
    }

    fn is_directory(&self, path: &[u8]) -> Result<bool, Errno> {
        let file = self.tracer.bindings.open(path, OFlags::NOFOLLOW)?;
        Ok(self.tracer.journal.look(file.as_fd())?.is_directory())
    }

    /// What a magic link leads to, by its resolved path.
    fn at_file(&self, path: Vec<u8>, slash: bool) -> Result<Found, Errno> {
        let file = self.tracer.bindings.open(&path, OFlags::NOFOLLOW)?;
        let seen = self.tracer.journal.look(file.as_fd())?;
        Ok(self.found(path, Some((file, seen)), None, None, slash))
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        match self.tracer.bindings.open(path, OFlags::DIRECTORY) {
            // A descriptor that is open on a symlink itself is no directory.
            Err(Errno::LOOP) => Err(Errno::NOTDIR),
            directory => directory,
        }
    }

    fn may_search(&self, path: &[u8], directory: &OwnedFd) -> Result<(), Errno> {
        // What of /proc is there for the command belongs to it.
        let in_proc = self.tracer.bindings.get(self.tracer.bindings.holding(path)).is_proc;
        if in_proc || access::is_unbounded(&self.task.identity) {
            return Ok(());
        }
        let seen = self.tracer.journal.look(directory.as_fd())?;
        access::check(&self.task.identity, &seen, access::EXECUTE)
    }

    /// Who the process is that something of /proc belongs to (proc_pid(5)).
    fn process_behind(&self, path: &[u8]) -> Option<&Identity> {
        let holder = self.tracer.bindings.get(self.tracer.bindings.holding(path));
        if !holder.is_proc {
            return None;
        }
        let below = &path[holder.target.len()..];
        let number = below.split(|&byte| byte == b'/').find(|name| !name.is_empty())?;
        let id = std::str::from_utf8(number).ok()?.parse().ok()?;
        if [self.task.process, self.task.id].iter().any(|own| own.as_raw_nonzero().get() == id) {
            return Some(&self.task.identity);
        }
        self.tracer.task_of(id).map(|task| &task.identity)
    }

    /// The names of /proc that mean the caller, lead somewhere, or are nobody's business.
    fn proc_name(&self, at: &[u8], name: &[u8]) -> Result<ProcName, Errno> {
        let holder = self.tracer.bindings.get(self.tracer.bindings.holding(at));
        let below: Vec<&[u8]> =
            at[holder.target.len()..].split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let number = |name: &[u8]| -> Option<i32> { std::str::from_utf8(name).ok()?.parse().ok() };
        let (process, thread) = (self.task.process.as_raw_nonzero(), self.task.id.as_raw_nonzero());
        if below.is_empty() {
            return Ok(match name {
                b"self" => ProcName::Link(process.to_string().into_bytes()),
                b"thread-self" => ProcName::Link(format!("{process}/task/{thread}").into_bytes()),
                // The files in there would show the builder's mounts and keys.
                b"keys" | b"kcore" | b"kpagecount" | b"kpageflags" | b"sysrq-trigger" => return Err(Errno::NOENT),
                _ => match number(name) {
                    // Other processes of the pod do not exist for the command.
                    Some(id) if !self.tracer.knows(id) => return Err(Errno::NOENT),
                    _ => ProcName::Ordinary,
                },
            });
        }
        let Some(id) = number(below[0]) else { return Ok(ProcName::Ordinary) };
        let outside = || {
            let mut path = b"/proc/".to_vec();
            path.extend_from_slice(&below.join(&b'/'));
            path.push(b'/');
            path.extend_from_slice(name);
            String::from_utf8_lossy(&path).into_owned()
        };
        let in_process = below.len() == 1 || (below.len() == 3 && below[1] == b"task");
        if in_process {
            let task = self.tracer.task_of(if below.len() == 3 { number(below[2]).unwrap_or(id) } else { id });
            return Ok(match name {
                b"exe" => {
                    let target = if id == process.get() {
                        Some(self.task.program.borrow().path.clone())
                    } else {
                        task.map(|task| task.program.borrow().path.clone())
                    };
                    // What runs is the loader: the file is opened by its name instead.
                    match target {
                        Some(target) => ProcName::Jump(target),
                        None => return Err(Errno::NOENT),
                    }
                }
                b"root" => {
                    let root = if id == process.get() {
                        self.root.clone()
                    } else {
                        task.map_or_else(|| b"/".to_vec(), |task| task.place.borrow().root.clone())
                    };
                    ProcName::Jump(root)
                }
                b"cwd" => match self.tracer.name_of_link(&outside()) {
                    Ok(target) => ProcName::Jump(target),
                    Err(error) => return Err(error),
                },
                b"map_files" | b"mountstats" => return Err(Errno::NOENT),
                _ => ProcName::Ordinary,
            });
        }
        let is_of_descriptors = matches!(below.last(), Some(&(b"fd" | b"fdinfo")));
        if is_of_descriptors && number(name).is_some_and(|number| Some(number) == self.tracer.footing.door()) {
            return Err(Errno::NOENT);
        }
        if below.last() == Some(&b"fd".as_slice()) && number(name).is_some() {
            let outside = outside();
            let target = rustix::fs::readlink(&*outside, Vec::new())?.into_bytes();
            let target = if target.starts_with(b"/") { self.tracer.bindings.inside(&target) } else { None };
            return Ok(ProcName::Magic { outside, target });
        }
        Ok(ProcName::Ordinary)
    }
}

impl Tracer {
    /// Whether a number is that of a process or thread of the command.
    pub fn knows(&self, id: i32) -> bool {
        Pid::from_raw(id).is_some_and(|id| {
            self.current == Some(id) || self.current_process == Some(id) || self.tasks.contains_key(&id)
        })
    }

    fn task_of(&self, id: i32) -> Option<&Task> {
        self.tasks.get(&Pid::from_raw(id)?)
    }

    /// What a link of /proc says, if a path names one of those that say something else here.
    pub fn proc_link(&self, task: &Task, found: &Found) -> Result<Option<Vec<u8>>, Errno> {
        let Some(name) = &found.name else { return Ok(None) };
        let at = &found.path[..found.path.len() - name.len() - 1];
        if at.is_empty() || !self.bindings.get(self.bindings.holding(at)).is_proc {
            return Ok(None);
        }
        let walk = Walk::of(self, task, Purpose::Look, Scope::default());
        Ok(match walk.proc_name(at, name)? {
            ProcName::Ordinary => None,
            ProcName::Link(target) | ProcName::Jump(target) => Some(target),
            ProcName::Magic { outside, .. } => Some(self.name_of_link(&outside)?),
        })
    }
}

/// The directory and the last name of a path that starts from a resolved one, in a form without `.` and empty names. `None` if
/// the path is no name in a directory, or goes upwards.
fn directory_and_name(from: &[u8], path: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if path.is_empty() || path.ends_with(b"/") || path.ends_with(b"/.") || path == b"." {
        return None;
    }
    let mut whole = if path[0] == b'/' || from == b"/" { Vec::new() } else { from.to_vec() };
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return None,
            name if name.len() > NAME_LIMIT_BYTES => return None,
            name => {
                whole.push(b'/');
                whole.extend_from_slice(name);
            }
        }
    }
    let slash = whole.iter().rposition(|&byte| byte == b'/')?;
    let name = whole[slash + 1..].to_vec();
    whole.truncate(slash.max(1));
    Some((whole, name))
}

/// The components of a path, the last first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let components = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    components.rev().map(<[u8]>::to_vec).collect()
}

/// The directory above a resolved path.
fn parent_of(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0).max(1)]
}

/// A name in a directory.
fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if path != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The path by which this process reaches a file that it has open.
pub fn own_path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_name_in_a_directory_is_walked() {
        let split = |from: &str, path: &str| {
            let (directory, name) = directory_and_name(from.as_bytes(), path.as_bytes())?;
            Some(format!("{} {}", String::from_utf8(directory).unwrap(), String::from_utf8(name).unwrap()))
        };
        assert_eq!(split("/srv", "a"), Some("/srv a".into()));
        assert_eq!(split("/srv", ".//a/./b"), Some("/srv/a b".into()));
        assert_eq!(split("/", "a"), Some("/ a".into()));
        assert_eq!(split("/srv", "//bin/true"), Some("/bin true".into()));
        for path in ["", "/", ".", "..", "a/", "a/.", "a/..", "../a", "a/../b"] {
            assert_eq!(split("/srv", path), None, "{path}");
        }
        assert_eq!(split("/srv", &"x".repeat(NAME_LIMIT_BYTES + 1)), None);
    }
}
