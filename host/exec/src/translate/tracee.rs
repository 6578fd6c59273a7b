//! What is known of each traced task, and what tasks share.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use rustix::process::Pid;

use super::{
    exec::PendingExec,
    handlers::{Newborn, socket::Told},
    identity::Identity,
    registers::Registers,
};
use crate::lazy::FileKey;

/// How many bytes of scratch memory one task has: two paths and a little.
pub const SLOT_BYTES: u64 = 3 * 4096;

/// How many tasks of one memory have a slot of their own.
pub const SLOTS: usize = 512;

/// One thread.
pub struct Task {
    /// Its number.
    pub id: Pid,
    /// The number of its process.
    pub process: Pid,
    /// Who it is.
    pub identity: Identity,
    /// Shared with CLONE_FS.
    pub place: Rc<RefCell<FsPlace>>,
    /// Shared with CLONE_VM.
    pub space: Rc<RefCell<Space>>,
    /// What it runs; shared by threads.
    pub program: Rc<RefCell<Running>>,
    /// It has asked to be translated no more.
    pub is_unchecked: bool,
    /// What is to be done when the call that it is in ends.
    pub after: Option<Box<After>>,
    /// The next filtered call is one of ours.
    pub passthrough: Option<Box<After>>,
    /// An exec that was begun.
    pub exec: Option<Box<PendingExec>>,
}

/// A program that runs.
#[derive(Clone)]
pub struct Running {
    /// As the image names it, resolved.
    pub path: Vec<u8>,
    /// Its file in the tree.
    pub file: FileKey,
}

/// What is to be done at the end of a call.
pub struct After {
    /// As they were before the call was rewritten.
    pub original: Registers,
    /// A descriptor that the translator opened in the task.
    pub close: Option<i32>,
    /// A descriptor of the working directory that the task had before.
    pub back: Option<i32>,
    /// What is to be recorded of the file that the call opens.
    pub born: Option<Newborn>,
    /// A copy that was made for the call alone.
    pub remove: Option<std::path::PathBuf>,
    /// What the call tells of sockets and their owners, to be put right.
    pub told: Option<Told>,
}

/// Root and mask of file system calls (the kernel's fs_struct); the working directory is the kernel's own.
#[derive(Clone)]
pub struct FsPlace {
    /// What chroot(2) chose: a resolved path of the image.
    pub root: Vec<u8>,
    /// The umask.
    pub mask: u32,
    /// The working directory in the tree, once it was asked for, at which state of [`super::directories::Directories::changes`].
    pub here: Option<(u64, Vec<u8>)>,
}

/// Scratch memory in an address space.
#[derive(Clone, Default)]
pub struct Space {
    /// Where it begins, if it was made.
    pub base: Option<u64>,
    /// Whose the slots are.
    pub slots: BTreeMap<i32, usize>,
}

impl Space {
    /// Where a task may have its strings put; `None` before the first exec, and beyond [`SLOTS`] tasks.
    pub fn slot(&mut self, task: Pid) -> Option<u64> {
        let base = self.base?;
        let id = task.as_raw_nonzero().get();
        let slot = match self.slots.get(&id) {
            Some(&slot) => slot,
            None => {
                let free = (0..SLOTS).find(|slot| !self.slots.values().any(|taken| taken == slot))?;
                self.slots.insert(id, free);
                free
            }
        };
        Some(base + slot as u64 * SLOT_BYTES)
    }

    /// A task is gone.
    pub fn release(&mut self, task: Pid) {
        self.slots.remove(&task.as_raw_nonzero().get());
    }
}

impl Task {
    /// The first one.
    pub fn first(id: Pid, identity: Identity) -> Self {
        Self {
            id,
            process: id,
            identity,
            place: Rc::new(RefCell::new(FsPlace { root: b"/".to_vec(), mask: 0o022, here: None })),
            space: Rc::default(),
            program: Rc::new(RefCell::new(Running { path: b"/".to_vec(), file: (0, 0, 0) })),
            is_unchecked: false,
            after: None,
            passthrough: None,
            exec: None,
        }
    }

    /// A new one that `clone` with these flags makes.
    pub fn child(&self, id: Pid, flags: u64) -> Self {
        let has = |flag: i32| flags & flag as u64 != 0;
        let thread = has(libc::CLONE_THREAD);
        let space = if has(libc::CLONE_VM) {
            self.space.clone()
        } else {
            // The memory is a copy, and with it the scratch memory; the slots are all the child's.
            Rc::new(RefCell::new(Space { base: self.space.borrow().base, slots: BTreeMap::new() }))
        };
        Self {
            id,
            process: if thread { self.process } else { id },
            identity: self.identity.clone(),
            place: if has(libc::CLONE_FS) {
                self.place.clone()
            } else {
                Rc::new(RefCell::new(self.place.borrow().clone()))
            },
            space,
            is_unchecked: self.is_unchecked,
            program: if thread { self.program.clone() } else { Rc::new(RefCell::new(self.program.borrow().clone())) },
            after: None,
            passthrough: None,
            exec: None,
        }
    }
}
