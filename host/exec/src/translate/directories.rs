//! Directories of the tree that paths led to lately, held open: most paths begin like the last ones, and many of them go over
//! symlinks (`/bin`, `/lib`), which would be walked name by name each time.
//!
//! Names of the tree are changed by the tracer alone, in [`super::handlers::names`], so it knows when one of these is not what
//! its path leads to any more. Others change names too in what is bound (caches of other builds): nothing of that is here.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    os::fd::OwnedFd,
    rc::Rc,
};

use crate::EntryNumber;

/// As many are held.
const LIMIT: usize = 64;

/// One of them.
pub struct Directory {
    /// Its resolved path.
    pub path: Vec<u8>,
    /// Open for its path.
    pub file: Rc<OwnedFd>,
    /// Which directory of the layers it is.
    pub entry: Option<EntryNumber>,
}

/// All of them.
#[derive(Default)]
pub struct Directories {
    /// By the paths that led to them, absolute and without `.` and `..`, but maybe over symlinks.
    known: RefCell<HashMap<Vec<u8>, Rc<Directory>>>,
    changes: Cell<u64>,
}

impl Directories {
    /// The one that a path leads to.
    pub fn get(&self, path: &[u8]) -> Option<Rc<Directory>> {
        self.known.borrow().get(path).cloned()
    }

    /// Keeps one.
    pub fn keep(&self, path: Vec<u8>, directory: Directory) -> Rc<Directory> {
        let directory = Rc::new(directory);
        let mut known = self.known.borrow_mut();
        if known.len() == LIMIT {
            known.clear();
        }
        known.insert(path, directory.clone());
        directory
    }

    /// Another number each time when the path of a directory may have changed.
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// A directory has another name, or two have exchanged theirs.
    pub fn renamed(&self) {
        self.known.borrow_mut().clear();
        self.changes.set(self.changes.get() + 1);
    }

    /// The directory with this resolved path is gone.
    pub fn removed(&self, path: &[u8]) {
        self.known.borrow_mut().retain(|_, directory| directory.path != path);
        self.changes.set(self.changes.get() + 1);
    }

    /// A symlink is not where it was: what was found without one is still there.
    pub fn link_changed(&self) {
        self.known.borrow_mut().retain(|path, directory| *path == directory.path);
    }
}
