//! `cofferdam:fs/root`: the stage's root file system.

use cofferdam_dockerfile::ignore::IgnorePatterns;
use cofferdam_plugin_pack::Capability;
use cofferdam_rootfs::{CopyOptions, RootFs, RootPath, RootfsError, Tree as _};
use wasmtime::component::Resource;

use super::{
    convert,
    handles::{RootHandle, TreeHandle, WriterHandle, denied, finding, lock, path, real},
    trees::MAX_CHUNK_BYTES,
};
use crate::{
    bindings::instruction::cofferdam::fs::{
        model::{Attributes, Error, Kind, Metadata},
        root::{self, Copied, Host, HostRootfs, HostWriter},
    },
    call::CallState,
    coverage::Place,
};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for CallState {}

impl HostWriter for CallState {
    fn write(&mut self, writer: Resource<WriterHandle>, bytes: Vec<u8>) -> Answer<()> {
        self.in_host(|state| {
            if bytes.len() > MAX_CHUNK_BYTES as usize {
                return Ok(Err(Error::TooLarge(MAX_CHUNK_BYTES.into())));
            }
            let handle = state.table.get_mut(&writer)?;
            let written = match &mut handle.writer {
                Some(writer) => writer.write(&bytes),
                None => return Ok(Err(finished(&handle.path))),
            };
            Ok(written.map_err(|error| state.answer(error)))
        })
    }

    fn finish(&mut self, writer: Resource<WriterHandle>) -> Answer<()> {
        self.in_host(|state| {
            let handle = state.table.get_mut(&writer)?;
            let Some(writer) = handle.writer.take() else { return Ok(Err(finished(&handle.path))) };
            let mut rootfs = lock(&handle.rootfs);
            let done = rootfs.finish_file(writer).and_then(|()| real(&*rootfs, &handle.path, false));
            let done = done.map(|written| lock(&handle.access).written.extend(written));
            drop(rootfs);
            Ok(done.map_err(|error| state.answer(error)))
        })
    }

    fn drop(&mut self, writer: Resource<WriterHandle>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        Ok(())
    }
}

impl HostRootfs for CallState {
    fn stat(&mut self, root: Resource<RootHandle>, at: Vec<u8>, follow: bool) -> Answer<Option<Metadata>> {
        self.reading(root, &at, follow, |rootfs, at| Ok(rootfs.stat(at, follow)?.as_ref().map(convert::metadata)))
    }

    fn read_file(&mut self, root: Resource<RootHandle>, at: Vec<u8>, limit: u32) -> Answer<Vec<u8>> {
        let limit = limit.min(MAX_CHUNK_BYTES).into();
        self.reading(root, &at, true, |rootfs, at| rootfs.read_file(at, limit))
    }

    fn create_directories(&mut self, root: Resource<RootHandle>, at: Vec<u8>, attributes: Attributes) -> Answer<()> {
        self.writing(root, "make", &at, |rootfs, at| {
            rootfs.create_directories(at, &convert::attributes(&attributes))?;
            Ok(rootfs.resolve(at)?.into_iter().collect())
        })
    }

    fn stand_alone(&mut self, root: Resource<RootHandle>) -> Answer<()> {
        self.in_host(|state| {
            let handle = state.table.get(&root)?;
            if !lock(&handle.access).write {
                let message = "the step's effect is the configuration alone".to_owned();
                return Ok(Err(denied(&Capability::Rootfs, message)));
            }
            let mut rootfs = lock(&handle.rootfs);
            if rootfs.is_changed() {
                let message = "a root that was changed can't stand alone any more".to_owned();
                return Ok(Err(Error::Invalid(finding("InvalidCall", message))));
            }
            rootfs.stand_alone();
            Ok(Ok(()))
        })
    }

    fn put_directory(&mut self, root: Resource<RootHandle>, at: Vec<u8>, attributes: Attributes) -> Answer<()> {
        self.putting(root, &at, |rootfs, at| rootfs.put_directory(at, &convert::attributes(&attributes)))
    }

    fn put_file(
        &mut self,
        root: Resource<RootHandle>,
        at: Vec<u8>,
        attributes: Attributes,
    ) -> Answer<Resource<WriterHandle>> {
        let handle = self.table.get(&root)?;
        let (rootfs, access) = (handle.rootfs.clone(), handle.access.clone());
        let mut begun = None;
        let answer = self.writing(root, "write", &at, |rootfs, at| {
            let writer = rootfs.put_file(at, &convert::attributes(&attributes))?;
            begun = Some((writer, at.clone()));
            Ok(Vec::new())
        })?;
        let (writer, path) = match (answer, begun) {
            (Ok(()), Some(begun)) => begun,
            (Err(error), _) => return Ok(Err(error)),
            (Ok(()), None) => unreachable!("the closure ran"),
        };
        Ok(Ok(self.table.push(WriterHandle { writer: Some(writer), path, rootfs, access })?))
    }

    fn put_symlink(
        &mut self,
        root: Resource<RootHandle>,
        at: Vec<u8>,
        target: Vec<u8>,
        attributes: Attributes,
    ) -> Answer<()> {
        self.putting(root, &at, |rootfs, at| rootfs.put_symlink(at, &target, &convert::attributes(&attributes)))
    }

    fn put_hard_link(&mut self, root: Resource<RootHandle>, at: Vec<u8>, target: Vec<u8>) -> Answer<()> {
        let target = match path(&target) {
            Ok(target) => target,
            Err(error) => return Ok(Err(error)),
        };
        // The new name shows the target's content, so it must be readable.
        if let Err(error) = self.reading(Resource::new_borrow(root.rep()), &target, false, |_, _| Ok(()))? {
            return Ok(Err(error));
        }
        self.putting(root, &at, |rootfs, at| rootfs.put_hard_link(at, &target))
    }

    fn put_node(
        &mut self,
        root: Resource<RootHandle>,
        at: Vec<u8>,
        kind: Kind,
        major: u32,
        minor: u32,
        attributes: Attributes,
    ) -> Answer<()> {
        let Some(kind) = convert::node(kind, major, minor) else {
            let message = "only fifos and devices are made this way".to_owned();
            return Ok(Err(Error::Invalid(finding("InvalidNode", message))));
        };
        self.putting(root, &at, |rootfs, at| rootfs.put_node(at, kind, &convert::attributes(&attributes)))
    }

    fn set_xattr(&mut self, root: Resource<RootHandle>, at: Vec<u8>, name: Vec<u8>, value: Vec<u8>) -> Answer<()> {
        // The entry must be the step's own, so that it is readable to it.
        if let Err(error) = self.reading(Resource::new_borrow(root.rep()), &at, false, |_, _| Ok(()))? {
            return Ok(Err(error));
        }
        self.putting(root, &at, |rootfs, at| rootfs.set_xattr(at, &name, &value))
    }

    fn remove(&mut self, root: Resource<RootHandle>, at: Vec<u8>) -> Answer<()> {
        self.writing(root, "remove", &at, |rootfs, at| {
            rootfs.remove(at)?;
            Ok(Vec::new())
        })
    }

    fn copy_tree(
        &mut self,
        root: Resource<RootHandle>,
        from: Resource<TreeHandle>,
        source_name: Vec<u8>,
        destination: Vec<u8>,
        options: root::CopyOptions,
    ) -> Answer<Copied> {
        let prepared = self.in_host(|state| {
            let handle = state.table.get(&from)?.share();
            let prepared = copy_source(state, &handle, &source_name, &options);
            Ok::<_, wasmtime::Error>(prepared.map(|(source, left_out)| (handle.tree, source, left_out)))
        })?;
        let (tree, source, left_out) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        // The name is the one that was asked for, wherever a symlink of that name leads.
        let into_directory = match destination.ends_with(b"/").then(|| path(&source_name)).transpose() {
            Ok(named) => named,
            Err(error) => return Ok(Err(error)),
        };
        let mut copied = Copied { entries: 0, bytes: 0 };
        let answer = self.writing(root, "copy to", &destination, |rootfs, at| {
            let options = CopyOptions {
                owner: options.owner.map(convert::owner),
                mode: options.mode.as_ref().map(convert::mode_change),
                keep_owner: options.keep_owner,
                exclude: Some(&left_out),
            };
            let (done, made) = match into_directory {
                Some(named) => rootfs.copy_into(&tree, &named, at, &options)?,
                None => (rootfs.copy_tree(&tree, &source, at, &options)?, at.clone()),
            };
            copied = Copied { entries: done.entries, bytes: done.bytes };
            // What lay in the destination before is still not declared: only the entry itself is the step's.
            Ok(rootfs.resolve(&made)?.into_iter().collect())
        })?;
        Ok(answer.map(|()| copied))
    }

    fn drop(&mut self, root: Resource<RootHandle>) -> wasmtime::Result<()> {
        self.table.delete(root)?;
        Ok(())
    }
}

impl CallState {
    fn reading<T>(
        &mut self,
        root: Resource<RootHandle>,
        at: &[u8],
        follow: bool,
        work: impl FnOnce(&RootFs, &RootPath) -> Result<T, RootfsError>,
    ) -> Answer<T> {
        self.in_host(|state| {
            let at = match path(at) {
                Ok(at) => at,
                Err(error) => return Ok(Err(error)),
            };
            let handle = state.table.get(&root)?;
            let rootfs = lock(&handle.rootfs);
            let result = match lock(&handle.access).allows(&rootfs, &at, follow) {
                Ok(true) => work(&rootfs, &at),
                Ok(false) => {
                    let message = format!("reading `{at}` of the root file system, which `plan` did not declare");
                    return Ok(Err(denied(&Capability::Rootfs, message)));
                }
                Err(error) => Err(error),
            };
            drop(rootfs);
            state.witness.record("rootfs", || format!("read {at}"));
            Ok(result.map_err(|error| state.answer(error)))
        })
    }

    /// Changes the root file system. `work` answers where the step put something.
    fn writing(
        &mut self,
        root: Resource<RootHandle>,
        verb: &str,
        at: &[u8],
        work: impl FnOnce(&mut RootFs, &RootPath) -> Result<Vec<RootPath>, RootfsError>,
    ) -> Answer<()> {
        self.in_host(|state| {
            let at = match path(at) {
                Ok(at) => at,
                Err(error) => return Ok(Err(error)),
            };
            let handle = state.table.get(&root)?;
            if !lock(&handle.access).write {
                return Ok(Err(denied(&Capability::Rootfs, format!("to {verb} `{at}` in the root file system"))));
            }
            let result = work(&mut lock(&handle.rootfs), &at);
            let result = result.map(|written| lock(&handle.access).written.extend(written));
            state.witness.record("rootfs", || format!("{verb} {at}"));
            Ok(result.map_err(|error| state.answer(error)))
        })
    }

    /// [`CallState::writing`] of one entry.
    fn putting(
        &mut self,
        root: Resource<RootHandle>,
        at: &[u8],
        work: impl FnOnce(&mut RootFs, &RootPath) -> Result<(), RootfsError>,
    ) -> Answer<()> {
        self.writing(root, "put", at, |rootfs, at| {
            work(rootfs, at)?;
            Ok(real(rootfs, at, false)?.into_iter().collect())
        })
    }
}

/// Where the source really is, and which paths relative to it are left out: by the call, or by the read.
fn copy_source(
    state: &mut CallState,
    handle: &TreeHandle,
    source: &[u8],
    options: &root::CopyOptions,
) -> Result<(RootPath, impl Fn(&RootPath) -> bool + use<>), Error> {
    let source = path(source)?;
    let bad = |error: String| Error::Invalid(finding("BadPattern", error));
    let exclude = IgnorePatterns::new(&options.exclude).map_err(|error| bad(error.to_string()))?;
    if options.keep_owner && options.owner.is_some() {
        return Err(bad("`owner` and `keep-owner` exclude each other".to_owned()));
    }
    let real = handle.reach(state, &source, true, false)?.ok_or_else(|| Error::NotFound(source.to_vec()))?;
    state.witness.record(&handle.capability.to_string(), || format!("copy {source}"));
    let Place::Covered(matched) = handle.coverage.classify(&source) else {
        unreachable!("`reach` lets only covered sources through")
    };
    let base = handle.tree.resolve(&matched).map_err(|error| state.answer(error))?.unwrap_or(matched);
    let (coverage, from) = (handle.coverage.clone(), real.clone());
    let left_out = move |relative: &RootPath| {
        exclude.excluded(relative) || from.join(relative).map_or(true, |path| coverage.leaves_out(&path, &base))
    };
    Ok((real, left_out))
}

fn finished(at: &RootPath) -> Error {
    Error::Invalid(finding("FinishedWriter", format!("`{at}` was finished before")))
}
