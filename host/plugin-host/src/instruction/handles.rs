//! What a handler holds while `apply` runs.

use std::{
    collections::BTreeSet,
    io::Read,
    sync::{Arc, Mutex, MutexGuard},
};

use cofferdam_plugin_pack::Capability;
use cofferdam_rootfs::{FileWriter, RootFs, RootPath, RootfsError, Tree};

use crate::{
    Coverage, RunCommand, RunNetwork,
    bindings::instruction::cofferdam::{
        fs::model::Error,
        types::diagnostics::{Denial, Diagnostic, Severity},
    },
    call::CallState,
};

/// A tree, seen through what `plan` declared of it.
pub struct TreeHandle {
    pub(crate) tree: Arc<dyn Tree>,
    pub(crate) coverage: Arc<Coverage>,
    pub(crate) capability: Capability,
}

/// An open file of a tree.
pub struct ReaderHandle(pub(crate) Box<dyn Read + Send>);

/// The stage's root file system, seen through what `plan` declared of it and what the step itself made.
pub struct RootHandle {
    pub(crate) rootfs: Arc<Mutex<RootFs>>,
    pub(crate) access: Arc<Mutex<RootAccess>>,
}

/// A file that is being written. The content goes into the root file system when it is finished.
pub struct WriterHandle {
    /// `None` once it is finished.
    pub(crate) writer: Option<FileWriter>,
    pub(crate) path: RootPath,
    pub(crate) rootfs: Arc<Mutex<RootFs>>,
    pub(crate) access: Arc<Mutex<RootAccess>>,
}

/// Runs commands, within what the policy allows.
pub struct ExecutorHandle {
    pub(crate) runner: Box<dyn RunCommand>,
    pub(crate) network: RunNetwork,
    /// What was declared of each tree.
    pub(crate) parts: Vec<Arc<Coverage>>,
    /// Whether secrets were granted.
    pub(crate) secrets: bool,
}

/// What of the root file system the step may look at.
#[derive(Default)]
pub(crate) struct RootAccess {
    /// `whole-rootfs` was declared.
    pub(crate) whole: bool,
    /// Writing was granted.
    pub(crate) write: bool,
    /// Paths that `plan` declared.
    pub(crate) declared: BTreeSet<RootPath>,
    /// Where those were before the step, symlinks followed and not.
    pub(crate) found: BTreeSet<RootPath>,
    /// Where the step itself put something.
    pub(crate) written: BTreeSet<RootPath>,
}

impl RootAccess {
    /// The access that a plan's declarations give, on the root file system as it is before the step.
    pub(crate) fn new(rootfs: &RootFs, declared: BTreeSet<RootPath>, whole: bool, write: bool) -> Self {
        let mut found = BTreeSet::new();
        for path in &declared {
            // What can't be resolved now is not readable then either.
            found.extend(real(rootfs, path, false).ok().flatten());
            found.extend(real(rootfs, path, true).ok().flatten());
        }
        Self { whole, write, declared, found, written: BTreeSet::new() }
    }

    /// Whether a path may be looked at.
    pub(crate) fn allows(&self, rootfs: &RootFs, path: &RootPath, follow: bool) -> Result<bool, RootfsError> {
        if self.whole {
            return Ok(true);
        }
        // By where it really is: a symlink that the step made must not lead to what was not declared.
        Ok(match real(rootfs, path, follow)? {
            None => self.declared.contains(path) || self.written.contains(path),
            Some(real) if self.found.contains(&real) || self.written.contains(&real) => true,
            Some(_) => self.declared.iter().any(|declared| declared != path && declared.starts_with(path)),
        })
    }
}

/// Where an entry really is: symlinks in its parents are resolved, the last component if `follow`. `None` if there is
/// nothing.
pub(crate) fn real(tree: &dyn Tree, path: &RootPath, follow: bool) -> Result<Option<RootPath>, RootfsError> {
    let name = match path.file_name() {
        Some(name) if !follow => name,
        _ => return tree.resolve(path),
    };
    let parent = path.parent().expect("a path with a name has a parent");
    let Some(parent) = tree.resolve(&parent)? else { return Ok(None) };
    let real = parent.child(name)?;
    Ok(tree.metadata(&real, false)?.map(|_| real))
}

impl CallState {
    /// An answer to the guest for a failure of a tree or of the root file system.
    pub(crate) fn answer(&mut self, error: RootfsError) -> Error {
        match error {
            RootfsError::NotFound(path) => Error::NotFound(path.to_vec()),
            RootfsError::NotADirectory(path) => Error::NotADirectory(path.to_vec()),
            RootfsError::IsADirectory(path) => Error::IsADirectory(path.to_vec()),
            RootfsError::SymlinkLoop(path) => Error::SymlinkLoop(path.to_vec()),
            RootfsError::TooLarge { limit, .. } => Error::TooLarge(limit),
            RootfsError::NotAFile(_) | RootfsError::Unsupported { .. } => {
                Error::Unsupported(finding("UnsupportedEntry", error.to_string()))
            }
            RootfsError::Path(_) => Error::Invalid(finding("InvalidPath", error.to_string())),
            RootfsError::Storage { ref source, .. } => {
                let text = source.to_string();
                self.storage.get_or_insert(error);
                Error::Storage(text)
            }
        }
    }
}

pub(crate) fn finding(code: &str, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Error, code: code.to_owned(), message, span: None, help: None }
}

pub(crate) fn denied(capability: &Capability, message: String) -> Error {
    Error::Denied(Denial { capability: capability.to_string(), message })
}

/// A path that a guest gave.
pub(crate) fn path(bytes: &[u8]) -> Result<RootPath, Error> {
    RootPath::new(bytes).map_err(|error| Error::Invalid(finding("InvalidPath", error.to_string())))
}

pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held came from this process, not from a plugin; the changes are only taken if the step succeeds.
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
