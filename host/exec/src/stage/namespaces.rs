//! What a command gets of its own beside its root: namespaces, where the machine gives any.

use std::path::{Path, PathBuf};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
    process::DumpableBehavior,
    thread::UnshareFlags,
};
use serde::{Deserialize, Serialize};

use super::{
    mount::{attach, clone_of, make_all_private, open_directory},
    mounts::{memory_mount, restrict},
    surroundings,
};
use crate::{
    EnterError, IdRange, Ids, MapWriter, Network, RunRequest, UsernsKind, enter_user_namespace, sys, userns,
    wire::Failure,
};

/// The namespaces of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespaces {
    /// None but the builder's own.
    Shared,
    /// Of its own, as root of the user namespace that the builder is in.
    Own,
    /// Of its own, in a user namespace with the builder's user as its only id.
    OwnWithOneId,
}

impl Namespaces {
    /// Whether there are any: then the kernel does what else the translator has to.
    pub fn are_own(self) -> bool {
        self != Self::Shared
    }

    /// Leaves the builder's. What is forked afterwards is process 1 of the new ones.
    pub fn enter(self, request: &RunRequest) -> Result<(), Failure> {
        if self == Self::Shared {
            return Ok(());
        }
        match self {
            Self::OwnWithOneId => become_root_of(&UsernsKind::SingleId)?,
            // Handlers for programs are a user namespace's, and the machine's own are not ours to change.
            Self::Own if !request.emulators.is_empty() && userns::mapped_ids() == Ids::All => {
                let all = || vec![IdRange { inside: 0, outside: 0, count: u32::MAX }];
                become_root_of(&UsernsKind::Full { users: all(), groups: all(), writer: MapWriter::Direct })?;
            }
            Self::Own | Self::Shared => {}
        }
        let mut namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
        if request.network == Network::None {
            namespaces |= UnshareFlags::NEWNET;
        }
        sys::unshare(namespaces).map_err(|error| Failure::setup("make namespaces", error))?;
        // Only changes what the command sees of control groups; not every container allows it.
        let _ = sys::unshare(UnshareFlags::NEWCGROUP);
        rustix::system::sethostname(request.hostname.as_bytes())
            .map_err(|error| Failure::setup("set the host name", error))?;
        if request.network == Network::None {
            sys::bring_loopback_up().map_err(|error| Failure::setup("turn the loopback interface on", error))?;
        }
        Ok(())
    }

    /// Shows process 1 its own processes instead of the machine's, at the place where the machine has them.
    pub fn cover_machine(self) -> Result<(), Failure> {
        if !self.are_own() {
            return Ok(());
        }
        make_all_private().map_err(|error| Failure::setup("make the mounts private", error))?;
        let proc = surroundings::new_proc()?;
        open_directory("/proc")
            .and_then(|target| attach(proc, target))
            .map_err(|error| Failure::setup("mount a fresh /proc", error))
    }

    /// Makes an empty directory one in memory that holds no more than `size_bytes`; answers whether that could be had.
    pub fn keep_in_memory(self, directory: &Path, size_bytes: Option<u64>) -> Result<bool, Errno> {
        if self.are_own() {
            attach(memory_mount(size_bytes)?, open_directory(directory)?)?;
        }
        Ok(self.are_own())
    }

    /// Where `source` can be read but not written: itself where nothing can be mounted, else `at`, which is made for it.
    pub fn read_only(self, source: &Path, at: &Path) -> std::io::Result<PathBuf> {
        if !self.are_own() {
            return Ok(source.to_owned());
        }
        let mount = clone_of(CWD, source, true)?;
        restrict(&mount, true)?;
        let target = if source.is_dir() {
            std::fs::create_dir(at)?;
            open_directory(at)?
        } else {
            std::fs::write(at, "")?;
            rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?
        };
        attach(mount, target)?;
        Ok(at.to_owned())
    }
}

/// Enters a user namespace where the user is root.
fn become_root_of(kind: &UsernsKind) -> Result<(), Failure> {
    let dumpable = |behavior| {
        rustix::process::set_dumpable_behavior(behavior)
            .map_err(|error| Failure::setup("protect the stage process", error))
    };
    // Only the owner of a process writes its maps, and of one that nobody may look into that is the machine's root
    // (proc_pid(5)). No command runs yet, and those of other steps are in Landlock domains out of which ptrace does not lead.
    dumpable(DumpableBehavior::Dumpable)?;
    enter_user_namespace(kind).map_err(|error| match error {
        EnterError::Unshare(error) | EnterError::Helper(error) => Failure::setup("make a user namespace", error),
        error => Failure::Request(error.to_string()),
    })?;
    dumpable(DumpableBehavior::NotDumpable)
}
