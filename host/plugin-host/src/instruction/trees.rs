//! `cofferdam:fs/trees`: reading what was declared.

use std::io::Read as _;

use cofferdam_digest::HashingWriter;
use cofferdam_plan::step::{TreeRead, TreeSource};
use cofferdam_rootfs::{Metadata as EntryMetadata, Owner, RootPath, RootfsError, Timestamp};
use wasmtime::component::Resource;

use super::{
    convert,
    handles::{ReaderHandle, TreeHandle, denied, finding, path, real},
};
use crate::{
    Coverage,
    bindings::instruction::cofferdam::fs::{
        model::{Error, Metadata},
        trees::{Host, HostReader, HostTree},
    },
    call::CallState,
    coverage::Place,
};

/// The most that one `read` gives, as the WIT package says.
pub(crate) const MAX_CHUNK_BYTES: u32 = 1 << 20;

impl Host for CallState {}

impl HostReader for CallState {
    fn read(&mut self, reader: Resource<ReaderHandle>, limit: u32) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        self.in_host(|state| {
            let ReaderHandle(reader) = state.table.get_mut(&reader)?;
            let mut bytes = Vec::new();
            let read = reader.by_ref().take(limit.min(MAX_CHUNK_BYTES).into()).read_to_end(&mut bytes);
            Ok(match read {
                Ok(_) => Ok(bytes),
                Err(source) => {
                    Err(state.answer(RootfsError::Storage { action: "read a file of a tree".to_owned(), source }))
                }
            })
        })
    }

    fn drop(&mut self, reader: Resource<ReaderHandle>) -> wasmtime::Result<()> {
        self.table.delete(reader)?;
        Ok(())
    }
}

impl HostTree for CallState {
    fn glob(&mut self, tree: Resource<TreeHandle>, pattern: Vec<u8>) -> wasmtime::Result<Result<Vec<Vec<u8>>, Error>> {
        self.in_tree(tree, |state, handle| {
            let read = TreeRead { source: TreeSource::Context, patterns: vec![pattern.clone()], exclude: Vec::new() };
            let asked =
                Coverage::new(&read).map_err(|error| Error::Invalid(finding("BadPattern", error.to_string())))?;
            let found = asked.matches(&*handle.tree).map_err(|error| state.answer(error))?;
            // A declared pattern's matches are all covered; others must not tell what else there is.
            if !handle.coverage.declares(&pattern)
                && let Some(outside) =
                    found.iter().find(|path| !matches!(handle.coverage.classify(path), Place::Covered(_)))
            {
                return Err(handle.undeclared(outside));
            }
            state
                .witness
                .record(&handle.capability.to_string(), || format!("glob {}", String::from_utf8_lossy(&pattern)));
            Ok(found.iter().map(|path| path.to_vec()).collect())
        })
    }

    fn stat(
        &mut self,
        tree: Resource<TreeHandle>,
        at: Vec<u8>,
        follow: bool,
    ) -> wasmtime::Result<Result<Option<Metadata>, Error>> {
        self.in_tree(tree, |state, handle| {
            let at = path(&at)?;
            let Some(real) = handle.reach(state, &at, follow, true)? else { return Ok(None) };
            let metadata = handle.tree.metadata(&real, false).map_err(|error| state.answer(error))?;
            let metadata = metadata.map(|metadata| match handle.coverage.classify(&at) {
                // What a checkout's directory is, is in no key where the read does not cover it.
                Place::Above if at.is_root() => {
                    EntryMetadata { mode: 0o755, owner: Owner::default(), mtime: Timestamp::default(), ..metadata }
                }
                _ => metadata,
            });
            Ok(metadata.as_ref().map(convert::metadata))
        })
    }

    fn read_directory(
        &mut self,
        tree: Resource<TreeHandle>,
        at: Vec<u8>,
    ) -> wasmtime::Result<Result<Vec<Vec<u8>>, Error>> {
        self.in_tree(tree, |state, handle| {
            let at = path(&at)?;
            let real = handle.reach(state, &at, true, false)?.ok_or_else(|| Error::NotFound(at.to_vec()))?;
            let mut names = handle.tree.read_directory(&real).map_err(|error| state.answer(error))?;
            names.retain(|name| {
                at.child(name).is_ok_and(|child| matches!(handle.coverage.classify(&child), Place::Covered(_)))
            });
            state.witness.record(&handle.capability.to_string(), || format!("list {at}"));
            Ok(names)
        })
    }

    fn open(
        &mut self,
        tree: Resource<TreeHandle>,
        at: Vec<u8>,
    ) -> wasmtime::Result<Result<Resource<ReaderHandle>, Error>> {
        self.open_at(tree, at, 0)
    }

    fn open_at(
        &mut self,
        tree: Resource<TreeHandle>,
        at: Vec<u8>,
        offset_bytes: u64,
    ) -> wasmtime::Result<Result<Resource<ReaderHandle>, Error>> {
        let opened = self.in_tree(tree, |state, handle| {
            let at = path(&at)?;
            let real = handle.reach(state, &at, true, false)?.ok_or_else(|| Error::NotFound(at.to_vec()))?;
            state.witness.record(&handle.capability.to_string(), || format!("read {at}"));
            handle.tree.open_at(&real, offset_bytes).map_err(|error| state.answer(error))
        })?;
        Ok(match opened {
            Ok(reader) => Ok(self.table.push(ReaderHandle(reader))?),
            Err(error) => Err(error),
        })
    }

    fn digest(&mut self, tree: Resource<TreeHandle>, at: Vec<u8>) -> wasmtime::Result<Result<String, Error>> {
        self.in_tree(tree, |state, handle| {
            let at = path(&at)?;
            let real = handle.reach(state, &at, true, false)?.ok_or_else(|| Error::NotFound(at.to_vec()))?;
            state.witness.record(&handle.capability.to_string(), || format!("digest {at}"));
            let mut file = handle.tree.open(&real).map_err(|error| state.answer(error))?;
            let mut hashing = HashingWriter::new(std::io::sink());
            let read = std::io::copy(&mut file, &mut hashing);
            read.map_err(|source| state.answer(RootfsError::Storage { action: format!("read `{at}`"), source }))?;
            Ok(hashing.finish().1.to_string())
        })
    }

    fn revision(&mut self, tree: Resource<TreeHandle>) -> wasmtime::Result<Result<Option<String>, Error>> {
        self.in_tree(tree, |_, handle| Ok(handle.tree.revision()))
    }

    fn drop(&mut self, tree: Resource<TreeHandle>) -> wasmtime::Result<()> {
        self.table.delete(tree)?;
        Ok(())
    }
}

impl TreeHandle {
    /// Where an entry really is, if the read covers it there. `metadata_only` lets directories above a match through.
    pub(super) fn reach(
        &self,
        state: &mut CallState,
        at: &RootPath,
        follow: bool,
        metadata_only: bool,
    ) -> Result<Option<RootPath>, Error> {
        let matched = match self.coverage.classify(at) {
            Place::Covered(matched) => Some(matched),
            Place::Above if metadata_only => None,
            Place::Above | Place::Outside => return Err(self.undeclared(at)),
        };
        let found = real(&*self.tree, at, follow).map_err(|error| state.answer(error))?;
        let (Some(found), Some(matched)) = (&found, matched) else { return Ok(found) };
        // The match itself is covered whatever it is; symlinks beneath it must not lead out.
        let itself = *at == matched;
        if itself || self.coverage.follows(&*self.tree, &matched, found).map_err(|error| state.answer(error))? {
            return Ok(Some(found.clone()));
        }
        let message = format!("`{at}` leads to `{found}`; `plan` declared {}", self.coverage.describe());
        Err(denied(&self.capability, message))
    }

    fn undeclared(&self, at: &RootPath) -> Error {
        denied(&self.capability, format!("reading `{at}`; `plan` declared {}", self.coverage.describe()))
    }

    /// The same handle for the host's own use.
    pub(super) fn share(&self) -> Self {
        let Self { tree, coverage, capability } = self;
        Self { tree: tree.clone(), coverage: coverage.clone(), capability: capability.clone() }
    }
}

impl CallState {
    fn in_tree<T>(
        &mut self,
        tree: Resource<TreeHandle>,
        work: impl FnOnce(&mut Self, &TreeHandle) -> Result<T, Error>,
    ) -> wasmtime::Result<Result<T, Error>> {
        self.in_host(|state| {
            let handle = state.table.get(&tree)?.share();
            Ok(work(state, &handle))
        })
    }
}
