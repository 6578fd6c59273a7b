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
pub struct Bindings {
    all: Vec<Binding>,
    /// Where the layers are unpacked from which the tree is made: files of the tree are read there.
    layers: Vec<Vec<u8>>,
}

impl Bindings {
    /// With the tree alone.
    pub fn new(tree: Binding) -> Self {
        Self { all: vec![tree], layers: Vec::new() }
    }

    /// Adds one, above those that were there before.
    pub fn add(&mut self, binding: Binding) {
        self.all.retain(|old| old.target != binding.target);
        self.all.push(binding);
    }

    /// Takes one away.
    pub fn remove(&mut self, target: &[u8]) {
        self.all.retain(|binding| binding.target != target);
    }

    /// Says where the layers are unpacked from which the tree is made.
    pub fn made_of(&mut self, layers: Vec<Vec<u8>>) {
        self.layers = layers;
    }

    /// All, the tree first.
    pub fn all(&self) -> &[Binding] {
        &self.all
    }

    /// The tree.
    pub fn tree(&self) -> &Binding {
        &self.all[0]
    }

    /// By number.
    pub fn get(&self, number: usize) -> &Binding {
        &self.all[number]
    }

    /// The one with exactly this target.
    pub fn at(&self, target: &[u8]) -> Option<usize> {
        self.all.iter().position(|binding| binding.target == target)
    }

    /// Whether something is bound at a path or beneath it.
    pub fn is_busy(&self, path: &[u8]) -> bool {
        self.all.iter().any(|binding| is_beneath(&binding.target, path))
    }

    /// The one that holds a resolved path.
    pub fn holding(&self, path: &[u8]) -> usize {
        let holding = self.all.iter().enumerate().filter(|(_, binding)| is_beneath(path, &binding.target));
        holding.max_by_key(|(number, binding)| (binding.target.len(), *number)).map_or(0, |(number, _)| number)
    }

    /// The path on this machine of a resolved path of the image.
    pub fn outside(&self, path: &[u8]) -> Vec<u8> {
        let binding = &self.all[self.holding(path)];
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
        let in_layer = self.layers.iter().find(|layer| is_beneath(path, layer));
        let holding = self.all.iter().filter(|binding| is_beneath(path, &binding.source));
        let binding = match (holding.max_by_key(|binding| binding.source.len()), in_layer) {
            (Some(binding), _) => binding,
            (None, Some(layer)) => return Some([b"/", relative(path, layer)].concat()),
            (None, None) => return None,
        };
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
        let binding = &self.all[self.holding(path)];
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
