//! Pseudo-terminals (pty(7)), without any right to the machine's: only those that the command made exist for it.
//!
//! The tracer opens both ends and passes them to tasks. The domain has no rule for /dev/pts, where terminals of the builder's
//! user may be, whose input and output would be the command's for the asking.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{
    bindings::Binding,
    calls::Outcome,
    registers::Registers,
    resolve::{Found, own_path},
    tracee::Task,
    tracer::Tracer,
};
use crate::{
    Journal, Recorded,
    journal::Seen,
    lazy::FileKey,
    sys::trace::{terminal_number, terminal_of},
};

/// Where the command has the file that makes a terminal each time when it is opened.
pub const MULTIPLEXER: &str = "/dev/pts/ptmx";

/// As /dev/pts is mounted in containers: terminals belong to whoever makes them, and to the group `tty`.
const GROUP: u32 = 5;
const MODE: u32 = 0o620;

/// The terminals of a command.
#[derive(Default)]
pub struct Terminals {
    multiplexer: Option<FileKey>,
    made: Vec<Terminal>,
}

struct Terminal {
    /// The end that programs run on, open for its path: it is the same terminal even if another one gets its number.
    file: OwnedFd,
    key: FileKey,
    target: Vec<u8>,
}

/// Which end of a terminal a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It makes a new one.
    Multiplexer,
    /// The one that programs run on.
    Terminal,
}

impl Terminals {
    /// With what the machine has for making terminals, if it is bound.
    pub fn new(multiplexer: Option<&Binding>, journal: &mut Journal) -> Self {
        let seen = multiplexer.and_then(|binding| journal.look(binding.file.as_fd()).ok());
        if let Some(seen) = &seen {
            let recorded = Recorded { uid: 0, gid: 0, mode: 0o666, device: None, xattrs: Default::default() };
            journal.set_bound(seen, recorded);
        }
        Self { multiplexer: seen.as_ref().map(Seen::key), made: Vec::new() }
    }

    fn end(&self, seen: &Seen) -> Option<End> {
        if seen.kind() != libc::S_IFCHR {
            return None;
        }
        let key = seen.key();
        if self.multiplexer == Some(key) {
            return Some(End::Multiplexer);
        }
        self.made.iter().any(|terminal| terminal.key == key).then_some(End::Terminal)
    }
}

impl Tracer {
    /// Opens what was found, if it is an end of a terminal of the command.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_terminal(
        &mut self,
        task: &Task,
        registers: &Registers,
        found: &Found,
        flags: i32,
    ) -> Result<Option<Outcome>, Errno> {
        let Some((file, seen)) = &found.node else { return Ok(None) };
        let Some(end) = self.terminals.end(seen) else { return Ok(None) };
        let kept = flags & (libc::O_ACCMODE | libc::O_NONBLOCK);
        let how = OFlags::from_bits_retain(kept as u32) | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.forget_dead_terminals();
        if end == End::Terminal && self.terminals.end(seen).is_none() {
            return Err(Errno::NOENT);
        }
        let opened = rustix::fs::open(own_path(file), how, Mode::empty())?;
        if end == End::Multiplexer {
            self.add_terminal(task, &opened)?;
        }
        let number = self.pass(task, registers, &opened, flags & libc::O_CLOEXEC != 0)?;
        if end == End::Terminal && flags & libc::O_NOCTTY == 0 {
            // The kernel's conditions are the same as those of open(2): else nothing happens.
            match self.call_in(task, registers, libc::SYS_ioctl, [number as u64, libc::TIOCSCTTY, 0]) {
                Err(Errno::SRCH) => return Err(Errno::SRCH),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(Some(Outcome::Return(number.into())))
    }

    /// Makes the other end of a new terminal known by its name.
    fn add_terminal(&mut self, task: &Task, master: &OwnedFd) -> Result<(), Errno> {
        let number = terminal_number(master.as_fd())?;
        let file = terminal_of(master.as_fd())?;
        let target = format!("/dev/pts/{number}").into_bytes();
        let source = rustix::fs::readlink(own_path(&file), Vec::new())?.into_bytes();
        let seen = self.journal.look(file.as_fd())?;
        let uid = task.identity.user.file;
        let recorded = Recorded { uid, gid: GROUP, mode: MODE, device: None, xattrs: Default::default() };
        self.journal.set_bound(&seen, recorded);
        // For those who list the directory.
        let _ = std::fs::write(self.placeholder(&target), "");
        let binding = Binding {
            target: target.clone(),
            source,
            file: rustix::io::fcntl_dupfd_cloexec(&file, 0)?,
            is_proc: false,
            read_only: false,
        };
        self.bindings.add(binding);
        self.terminals.made.push(Terminal { file, key: seen.key(), target });
        Ok(())
    }

    /// Terminals whose first end is closed have no name any more.
    fn forget_dead_terminals(&mut self) {
        let made = std::mem::take(&mut self.terminals.made);
        for terminal in made {
            if rustix::fs::fstat(&terminal.file).is_ok_and(|stat| stat.st_nlink > 0) {
                self.terminals.made.push(terminal);
            } else {
                self.bindings.remove(&terminal.target);
                let _ = std::fs::remove_file(self.placeholder(&terminal.target));
            }
        }
    }

    /// The name in the command's own /dev/pts, which the terminal is bound over.
    fn placeholder(&self, target: &[u8]) -> std::path::PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let name = target.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let directory = self.bindings.outside(b"/dev/pts");
        std::path::Path::new(std::ffi::OsStr::from_bytes(&directory)).join(std::ffi::OsStr::from_bytes(name))
    }
}
