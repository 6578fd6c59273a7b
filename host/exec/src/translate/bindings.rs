//! What the command sees at another place than the machine has it: the tree itself, and what is bound into it.
//!
//! Nothing can be mounted, so this table is the mount table. It also leads back, from the kernel's paths to the image's.

use std::os::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    unix::ffi::OsStrExt,
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// One binding.
pub struct Binding {
    /// Where the image has it: absolute, resolved, `/` for the tree.
    pub target: Vec<u8>,
    /// Where this machine has it: absolute, resolved.
    pub source: Vec<u8>,
    /// Open for its path.
    pub file: OwnedFd,
    /// Whether names like `self` mean the caller there.
    pub is_proc: bool,
    /// Whether writing is an error of a read-only file system.
    pub read_only: bool,
}

/// All of them; the first is the tree.
pub struct Bindings(Vec<Binding>);

impl Bindings {
    /// With the tree alone.
    pub fn new(tree: Binding) -> Self {
        Self(vec![tree])
    }

    /// Adds one, above those that were there before.
    pub fn add(&mut self, binding: Binding) {
        self.0.retain(|old| old.target != binding.target);
        self.0.push(binding);
    }

    /// All, the tree first.
    pub fn all(&self) -> &[Binding] {
        &self.0
    }

    /// The tree.
    pub fn tree(&self) -> &Binding {
        &self.0[0]
    }

    /// By number.
    pub fn get(&self, number: usize) -> &Binding {
        &self.0[number]
    }

    /// The one with exactly this target.
    pub fn at(&self, target: &[u8]) -> Option<usize> {
        self.0.iter().position(|binding| binding.target == target)
    }

    /// Whether something is bound at a path or beneath it.
    pub fn is_busy(&self, path: &[u8]) -> bool {
        self.0.iter().any(|binding| is_beneath(&binding.target, path))
    }

    /// The one that holds a resolved path.
    pub fn holding(&self, path: &[u8]) -> usize {
        let holding = self.0.iter().enumerate().filter(|(_, binding)| is_beneath(path, &binding.target));
        holding.max_by_key(|(number, binding)| (binding.target.len(), *number)).map_or(0, |(number, _)| number)
    }

    /// The path on this machine of a resolved path of the image.
    pub fn outside(&self, path: &[u8]) -> Vec<u8> {
        let binding = &self.0[self.holding(path)];
        let mut outside = binding.source.clone();
        let rest = relative(path, &binding.target);
        if !rest.is_empty() {
            if outside != b"/" {
                outside.push(b'/');
            }
            outside.extend_from_slice(rest);
        }
        outside
    }

    /// The path in the image of one of this machine; `None` if the image has no name for it.
    pub fn inside(&self, path: &[u8]) -> Option<Vec<u8>> {
        let holding = self.0.iter().filter(|binding| is_beneath(path, &binding.source));
        let binding = holding.max_by_key(|binding| binding.source.len())?;
        let rest = relative(path, &binding.source);
        let mut inside = binding.target.clone();
        if !rest.is_empty() {
            if inside != b"/" {
                inside.push(b'/');
            }
            inside.extend_from_slice(rest);
        }
        Some(inside)
    }

    /// Opens a resolved path for its path, following nothing.
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let binding = &self.0[self.holding(path)];
        let rest = relative(path, &binding.target);
        if rest.is_empty() {
            return rustix::io::fcntl_dupfd_cloexec(&binding.file, 0);
        }
        open_beneath(binding.file.as_fd(), rest, flags)
    }
}

/// Opens something beneath a directory without following any symlink.
pub fn open_beneath(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = std::ffi::OsStr::from_bytes(path);
    loop {
        match rustix::fs::openat2(directory, path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename somewhere in the tree (openat2(2)).
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
}

/// Whether a resolved path is another one or lies beneath it.
pub fn is_beneath(path: &[u8], above: &[u8]) -> bool {
    above == b"/" || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// What a path has beyond another, without the slash between.
fn relative<'p>(path: &'p [u8], above: &[u8]) -> &'p [u8] {
    let rest = if above == b"/" { path } else { &path[above.len()..] };
    rest.strip_prefix(b"/").unwrap_or(rest)
}
