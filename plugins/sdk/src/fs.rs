//! Trees, root file systems and executors, as traits.
//!
//! The methods are those of `wit/fs`, where each is described; the host's handles implement them, and so do the fakes of
//! `testing`.

use std::any::Any;

use crate::bindings::instruction::cofferdam::fs::{execution, root, trees};
pub use crate::bindings::instruction::cofferdam::fs::{
    execution::{
        Bind, Cache, CacheMount, Command, Error as ExecutionError, Exit, FileMount, MemoryMount, Mount, Network,
        Secret, Sharing, SshAgent, TreePart,
    },
    model::{Attributes, Error, Kind, Metadata, Owner},
    root::{Copied, CopyOptions, ModeChange, ModeClause, Operator, Permissions, Who},
};

/// Names need not be UTF-8, so paths are bytes; components are separated by `/`.
pub type Path = Vec<u8>;

/// The most bytes that one call carries.
pub const CHUNK_BYTES: u32 = 1 << 20;

/// Root's, which is the owner of everything that nobody else was named for.
pub const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// An open file.
pub trait Reader {
    /// The next bytes, at most `limit` and at most [`CHUNK_BYTES`]; an empty answer is the end.
    ///
    /// # Errors
    /// The host's.
    fn read(&self, limit: u32) -> Result<Vec<u8>, Error>;
}

/// What one declared read opened.
pub trait Tree: Any {
    /// The paths that match a pattern of the COPY kind, sorted by bytes.
    ///
    /// # Errors
    /// The host's, `denied` for what `plan` did not declare.
    fn glob(&self, pattern: &[u8]) -> Result<Vec<Path>, Error>;
    /// The entry at a path, if there is one.
    ///
    /// # Errors
    /// As [`Tree::glob`].
    fn stat(&self, path: &[u8], follow: bool) -> Result<Option<Metadata>, Error>;
    /// The names in a directory, sorted by bytes.
    ///
    /// # Errors
    /// As [`Tree::glob`].
    fn read_directory(&self, path: &[u8]) -> Result<Vec<Path>, Error>;
    /// Opens a regular file.
    ///
    /// # Errors
    /// As [`Tree::glob`].
    fn open(&self, path: &[u8]) -> Result<Box<dyn Reader>, Error>;
    /// Opens a regular file so many bytes behind its beginning.
    ///
    /// # Errors
    /// As [`Tree::glob`].
    fn open_at(&self, path: &[u8], offset: u64) -> Result<Box<dyn Reader>, Error>;
    /// The digest of a regular file's content: `sha256:…`.
    ///
    /// # Errors
    /// As [`Tree::glob`].
    fn digest(&self, path: &[u8]) -> Result<String, Error>;
    /// The commit of a git repository.
    ///
    /// # Errors
    /// The host's.
    fn revision(&self) -> Result<Option<String>, Error>;
    /// The tree itself, for the root file system of the same kind to recognise.
    fn as_any(&self) -> &dyn Any;
}

/// Content for a file being made.
pub trait Writer {
    /// Appends at most [`CHUNK_BYTES`].
    ///
    /// # Errors
    /// The host's.
    fn write(&self, bytes: &[u8]) -> Result<(), Error>;
    /// Ends the file; without it there is none.
    ///
    /// # Errors
    /// The host's.
    fn finish(&self) -> Result<(), Error>;
}

/// The file system of the stage being built. Errors are the host's throughout.
#[allow(clippy::missing_errors_doc, reason = "said above, once")]
pub trait RootFs {
    /// The entry at a path, if there is one.
    fn stat(&self, path: &[u8], follow: bool) -> Result<Option<Metadata>, Error>;
    /// The content of a small file.
    fn read_file(&self, path: &[u8], limit: u32) -> Result<Vec<u8>, Error>;
    /// Makes a directory and its missing parents.
    fn create_directories(&self, path: &[u8], attributes: Attributes) -> Result<(), Error>;
    /// Makes a directory, or gives an existing one these attributes.
    fn put_directory(&self, path: &[u8], attributes: Attributes) -> Result<(), Error>;
    /// Makes or replaces a regular file.
    fn put_file(&self, path: &[u8], attributes: Attributes) -> Result<Box<dyn Writer>, Error>;
    /// Makes or replaces a symbolic link.
    fn put_symlink(&self, path: &[u8], target: &[u8], attributes: Attributes) -> Result<(), Error>;
    /// Makes or replaces an entry by a hard link.
    fn put_hard_link(&self, path: &[u8], target: &[u8]) -> Result<(), Error>;
    /// Makes or replaces a fifo or a device.
    fn put_node(&self, path: &[u8], kind: Kind, major: u32, minor: u32, attributes: Attributes) -> Result<(), Error>;
    /// Sets an extended attribute of an entry that this step made.
    fn set_xattr(&self, path: &[u8], name: &[u8], value: &[u8]) -> Result<(), Error>;
    /// From here on the root is empty, whatever is below.
    fn stand_alone(&self) -> Result<(), Error>;
    /// Removes an entry and everything beneath it.
    fn remove(&self, path: &[u8]) -> Result<(), Error>;
    /// Copies by the host.
    fn copy_tree(
        &self,
        from: &dyn Tree,
        source: &[u8],
        destination: &[u8],
        options: &CopyOptions,
    ) -> Result<Copied, Error>;
}

/// What runs native commands.
pub trait Executor {
    /// Runs a command to its end.
    ///
    /// # Errors
    /// It could not be run at all.
    fn run(&self, command: &Command) -> Result<Exit, ExecutionError>;
    /// The same with mounts.
    ///
    /// # Errors
    /// It could not be run at all.
    fn run_with_mounts(&self, command: &Command, mounts: &[Mount]) -> Result<Exit, ExecutionError>;
}

/// Makes or replaces a regular file with this content.
///
/// # Errors
/// The host's.
pub fn write_file(rootfs: &dyn RootFs, path: &[u8], attributes: Attributes, content: &[u8]) -> Result<(), Error> {
    let writer = rootfs.put_file(path, attributes)?;
    for chunk in content.chunks(CHUNK_BYTES as usize) {
        writer.write(chunk)?;
    }
    writer.finish()
}

impl Reader for trees::Reader {
    fn read(&self, limit: u32) -> Result<Vec<u8>, Error> {
        trees::Reader::read(self, limit)
    }
}

impl Tree for trees::Tree {
    fn glob(&self, pattern: &[u8]) -> Result<Vec<Path>, Error> {
        trees::Tree::glob(self, pattern)
    }

    fn stat(&self, path: &[u8], follow: bool) -> Result<Option<Metadata>, Error> {
        trees::Tree::stat(self, path, follow)
    }

    fn read_directory(&self, path: &[u8]) -> Result<Vec<Path>, Error> {
        trees::Tree::read_directory(self, path)
    }

    fn open(&self, path: &[u8]) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(trees::Tree::open(self, path)?))
    }

    fn open_at(&self, path: &[u8], offset: u64) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(trees::Tree::open_at(self, path, offset)?))
    }

    fn digest(&self, path: &[u8]) -> Result<String, Error> {
        trees::Tree::digest(self, path)
    }

    fn revision(&self) -> Result<Option<String>, Error> {
        trees::Tree::revision(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Writer for root::Writer {
    fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        root::Writer::write(self, bytes)
    }

    fn finish(&self) -> Result<(), Error> {
        root::Writer::finish(self)
    }
}

impl RootFs for root::Rootfs {
    fn stat(&self, path: &[u8], follow: bool) -> Result<Option<Metadata>, Error> {
        root::Rootfs::stat(self, path, follow)
    }

    fn read_file(&self, path: &[u8], limit: u32) -> Result<Vec<u8>, Error> {
        root::Rootfs::read_file(self, path, limit)
    }

    fn create_directories(&self, path: &[u8], attributes: Attributes) -> Result<(), Error> {
        root::Rootfs::create_directories(self, path, attributes)
    }

    fn put_directory(&self, path: &[u8], attributes: Attributes) -> Result<(), Error> {
        root::Rootfs::put_directory(self, path, attributes)
    }

    fn put_file(&self, path: &[u8], attributes: Attributes) -> Result<Box<dyn Writer>, Error> {
        Ok(Box::new(root::Rootfs::put_file(self, path, attributes)?))
    }

    fn put_symlink(&self, path: &[u8], target: &[u8], attributes: Attributes) -> Result<(), Error> {
        root::Rootfs::put_symlink(self, path, target, attributes)
    }

    fn put_hard_link(&self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        root::Rootfs::put_hard_link(self, path, target)
    }

    fn put_node(&self, path: &[u8], kind: Kind, major: u32, minor: u32, attributes: Attributes) -> Result<(), Error> {
        root::Rootfs::put_node(self, path, kind, major, minor, attributes)
    }

    fn set_xattr(&self, path: &[u8], name: &[u8], value: &[u8]) -> Result<(), Error> {
        root::Rootfs::set_xattr(self, path, name, value)
    }

    fn stand_alone(&self) -> Result<(), Error> {
        root::Rootfs::stand_alone(self)
    }

    fn remove(&self, path: &[u8]) -> Result<(), Error> {
        root::Rootfs::remove(self, path)
    }

    fn copy_tree(
        &self,
        from: &dyn Tree,
        source: &[u8],
        destination: &[u8],
        options: &CopyOptions,
    ) -> Result<Copied, Error> {
        let from = from.as_any().downcast_ref::<trees::Tree>().expect("the host's root copies from the host's trees");
        root::Rootfs::copy_tree(self, from, source, destination, options)
    }
}

impl Executor for execution::Executor {
    fn run(&self, command: &Command) -> Result<Exit, ExecutionError> {
        execution::Executor::run(self, command)
    }

    fn run_with_mounts(&self, command: &Command, mounts: &[Mount]) -> Result<Exit, ExecutionError> {
        execution::Executor::run_with_mounts(self, command, mounts)
    }
}
