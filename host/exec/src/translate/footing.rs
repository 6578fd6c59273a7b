//! Where a task stands: how its own calls reach the files that the tracer found for it.
//!
//! Where the kernel lets the tree be the real root of a command (chroot(2)), it finds by itself what is in the tree, loaders of
//! programs among it, and such calls go on untouched. Everything else (/proc, devices, mounts, files of layers) lies outside
//! of that root: to there leads a *door*, a descriptor of the machine's root that every task has. It gives nothing that a
//! path of the machine would not give to tasks without such a root: what may be reached is the Landlock domain's to say.

use std::path::Path;

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
};

use super::{
    registers::Registers,
    resolve::Found,
    tracee::{After, Task},
    tracer::Tracer,
};
use crate::sys;

/// As many descriptors as a process may have almost everywhere; the door is the last of them, so that tables stay small.
const USUAL_DESCRIPTORS: u64 = 1024;

/// Where all tasks of a command stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footing {
    /// On the machine's root: they are given the machine's paths.
    Machine,
    /// On the tree.
    Tree {
        /// The descriptor of the machine's root.
        door: i32,
    },
}

/// What a call is to be given in place of a path.
pub enum Aim {
    /// Nothing: the kernel goes the same way.
    AsIs,
    /// This path.
    Path(Vec<u8>),
    /// This path from the door.
    Door(i32, Vec<u8>),
}

impl Footing {
    /// On the tree (`real_root`), or on the machine's root.
    pub fn new(real_root: bool) -> Self {
        if !real_root {
            return Self::Machine;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Self::Tree { door: limit.unwrap_or(USUAL_DESCRIPTORS).clamp(8, USUAL_DESCRIPTORS) as i32 - 1 }
    }

    /// Takes this process there. Needs CAP_SYS_CHROOT for a tree.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(self, tree: &Path) -> Result<(), Errno> {
        let Self::Tree { door } = self else { return Ok(()) };
        let root = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        sys::keep_open_as(&root, door)?;
        rustix::process::chroot(tree)?;
        rustix::process::chdir("/")
    }

    /// The descriptor that no task may close.
    pub fn door(self) -> Option<i32> {
        match self {
            Self::Machine => None,
            Self::Tree { door } => Some(door),
        }
    }

    /// Whether the kernel finds what a program of the tree names, in the image.
    pub fn finds(self, found: &Found) -> bool {
        self != Self::Machine && found.is_native && found.magic.is_none()
    }

    /// How something is reached that has this path on the machine.
    pub fn outside(self, path: Vec<u8>) -> Aim {
        match self {
            Self::Machine => Aim::Path(path),
            Self::Tree { door } => {
                let relative = path.strip_prefix(b"/").unwrap_or(&path);
                Aim::Door(door, if relative.is_empty() { b".".to_vec() } else { relative.to_vec() })
            }
        }
    }
}

impl Aim {
    /// As the two arguments of openat(2) and its kin: a directory, and a path from there.
    pub fn directory_of(self, original: (u64, Vec<u8>)) -> (u64, Vec<u8>) {
        match self {
            Self::AsIs => original,
            Self::Path(path) => (libc::AT_FDCWD as u64, path),
            Self::Door(door, path) => (door as u64, path),
        }
    }
}

impl Tracer {
    /// How a task gets to what was found for it.
    pub fn aim(&self, found: &Found) -> Aim {
        let mut aim = match (&found.magic, self.footing) {
            (Some(link), footing) => return footing.outside(link.clone()),
            (None, Footing::Tree { .. }) if found.is_native => return Aim::AsIs,
            (None, Footing::Tree { .. }) if self.bindings.holding(&found.path) == 0 => Aim::Path(found.path.clone()),
            (None, footing) => footing.outside(self.bindings.outside(&found.path)),
        };
        if found.slash
            && let Aim::Path(path) | Aim::Door(_, path) = &mut aim
        {
            path.push(b'/');
        }
        aim
    }

    /// What a call of a task is to be given in place of the path that was found, from the directory that the task gave.
    pub fn exchange(&self, found: &Found) -> Aim {
        if found.is_beneath_start && found.magic.is_none() { Aim::AsIs } else { self.aim(found) }
    }

    /// Makes the call that a task has begun into the opening of something of this machine, for its path, and answers the
    /// descriptor. Afterwards the task is at the end of that call, from where [`Tracer::call_again`] leads on.
    ///
    /// # Errors
    /// As open(2), or ESRCH.
    pub fn open_for(&mut self, task: &Task, registers: &mut Registers, path: &[u8]) -> Result<i32, Errno> {
        let (directory, path) = self.footing.outside(path.to_vec()).directory_of((0, Vec::new()));
        let address = self.lend_path(task, registers, 0, &path)?;
        let mut opening = registers.clone();
        opening.set_number(libc::SYS_openat);
        let flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
        for (index, value) in [directory, address, flags, 0].into_iter().enumerate() {
            opening.set_argument(index, value);
        }
        opening.write(task.id)?;
        let opened = self.run_to_end_of_call(task.id, true)?;
        if opened < 0 {
            registers.set_result(opened);
            return Err(Errno::from_raw_os_error(-opened as i32));
        }
        Ok(opened as i32)
    }

    /// Lets a task that is at the end of a call go back to its instruction and make the call that is in `registers`, which
    /// the filter stops again and `after` ends.
    ///
    /// # Errors
    /// ESRCH.
    pub fn call_again(&self, task: &mut Task, registers: &mut Registers, after: Box<After>) -> Result<(), Errno> {
        let (number, arguments) = (registers.number(), std::array::from_fn(|index| registers.argument(index)));
        let gadget = registers.call_instruction();
        registers.prepare_call(gadget, number, arguments);
        task.passthrough = Some(after);
        registers.write(task.id)
    }

    /// Lets a task make the call in `registers` from another working directory, a directory of this machine, for a call that
    /// takes no path from a descriptor. Answers nothing when the call is on its way.
    ///
    /// # Errors
    /// As openat(2) and fchdir(2), or ESRCH.
    pub fn call_from(
        &mut self,
        task: &mut Task,
        registers: &mut Registers,
        directory: &[u8],
        original: &Registers,
    ) -> Result<(), Errno> {
        let there = self.open_for(task, &mut registers.clone(), directory)?;
        let gadget = registers.call_instruction();
        let dot = self.lend_path(task, registers, 0, b".")?;
        let flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
        let here = [libc::AT_FDCWD as u64, dot, flags, 0, 0, 0];
        let here = self.inject(task.id, registers, gadget, libc::SYS_openat, here)?;
        self.inject(task.id, registers, gadget, libc::SYS_fchdir, [there as u64, 0, 0, 0, 0, 0])?;
        let after = After { close: Some(there), back: Some(here as i32), ..*After::restore(original) };
        self.call_again(task, registers, Box::new(after))
    }
}
