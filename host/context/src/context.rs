//! An opened context.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_rootfs::{ConfinedDir, DirectoryTree, Filter, Owner, Tree};

use crate::{ContextError, DockerfileText, FetchError, FetchedGit, GitFacts, git::beneath, git_facts};

/// Which entries of a context exist for the build: the meaning of the ignore file, which somebody else reads.
#[derive(Clone)]
pub struct Visibility {
    /// Whether a path is there; the second argument tells whether it is a directory.
    pub visible: Filter,
    /// Whether something beneath an excluded directory may be visible; `false` spares looking.
    pub may_hold_visible: Filter,
}

/// A directory of this machine, opened. Nothing outside it can be reached, wherever its symlinks point.
pub struct Context {
    directory: PathBuf,
    root: Arc<ConfinedDir>,
    /// Of what was fetched, whose files have no repository beside them.
    facts: Option<GitFacts>,
    warnings: Vec<String>,
    /// The Dockerfile, of a context that is nothing else.
    only_dockerfile: Option<DockerfileText>,
    is_fetched: bool,
}

impl Context {
    /// Opens a directory.
    ///
    /// # Errors
    /// It does not exist, is no directory, or can't be read.
    pub fn open(directory: &Path) -> Result<Self, ContextError> {
        let real = fs::canonicalize(directory).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ContextError::NoContext(directory.to_path_buf()),
            io::ErrorKind::NotADirectory => ContextError::NotADirectory(directory.to_path_buf()),
            _ => ContextError::Read { path: directory.to_path_buf(), source },
        })?;
        if !real.is_dir() {
            return Err(ContextError::NotADirectory(directory.to_path_buf()));
        }
        let root = ConfinedDir::open(&real)
            .map_err(|source| ContextError::InContext { name: directory.display().to_string(), source })?;
        Ok(Self {
            directory: real,
            root: Arc::new(root),
            facts: None,
            warnings: Vec::new(),
            only_dockerfile: None,
            is_fetched: false,
        })
    }

    pub(crate) fn of_git(fetched: FetchedGit) -> Result<Self, ContextError> {
        let FetchedGit { directory, facts, warnings } = fetched;
        Ok(Self { facts: Some(facts), warnings, is_fetched: true, ..Self::open(&directory)? })
    }

    pub(crate) fn of_archive(directory: &Path) -> Result<Self, ContextError> {
        Ok(Self { is_fetched: true, ..Self::open(directory)? })
    }

    /// An empty directory with this as its Dockerfile.
    pub(crate) fn of_dockerfile(directory: &Path, name: String, bytes: Vec<u8>) -> Result<Self, ContextError> {
        let only_dockerfile = Some(DockerfileText { name, bytes, ignore: None });
        Ok(Self { only_dockerfile, is_fetched: true, ..Self::open(directory)? })
    }

    pub(crate) fn only_dockerfile(&self) -> Option<&DockerfileText> {
        self.only_dockerfile.as_ref()
    }

    /// Whether it came from elsewhere, so that paths of the command line mean what is in it.
    pub(crate) fn is_fetched(&self) -> bool {
        self.is_fetched
    }

    /// The directory of this name in it, as a context of its own; symlinks in the path resolve in the context.
    pub(crate) fn beneath(self, path: &str, source: &str) -> Result<Self, ContextError> {
        let missing = || FetchError::NoDirectory { url: source.to_owned(), directory: path.to_owned() };
        let directory = beneath(&self.directory, path).ok_or_else(missing)?;
        Ok(Self { facts: self.facts, warnings: self.warnings, is_fetched: true, ..Self::open(&directory)? })
    }

    /// What git says of the context: of the commit that was fetched, or of the checkout that the directory lies in.
    ///
    /// # Errors
    /// As [`git_facts`].
    pub fn git_facts(&self) -> Result<Option<GitFacts>, ContextError> {
        match &self.facts {
            Some(facts) => Ok(Some(facts.clone())),
            // It lies in a directory of the build's own.
            None if self.is_fetched => Ok(None),
            None => git_facts(&self.directory),
        }
    }

    /// What a person should know of it.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The directory, absolute and without symlinks.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory as a handle.
    pub fn root(&self) -> &Arc<ConfinedDir> {
        &self.root
    }

    /// What COPY and ADD see. Everything belongs to root: who owns a checkout is an accident of the machine, and must not
    /// show in the image (Dockerfile reference, COPY, "--chown": files are created with UID and GID 0).
    pub fn tree(&self, visibility: Option<Visibility>) -> Arc<dyn Tree> {
        let whole = self.whole_tree();
        match visibility {
            Some(visibility) => Arc::new(whole.filtered(visibility.visible).pruned(visibility.may_hold_visible)),
            None => Arc::new(whole),
        }
    }

    pub(crate) fn whole_tree(&self) -> DirectoryTree {
        DirectoryTree::new(Arc::clone(&self.root)).owned_by(Owner { uid: 0, gid: 0 })
    }
}
