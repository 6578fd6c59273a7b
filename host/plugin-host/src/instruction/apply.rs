//! Carrying a step out.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};

use cofferdam_dockerfile::Diagnostic;
use cofferdam_plan::step::{Effect, Planned, Read, Step, TreeRead, TreeSource};
use cofferdam_plugin_pack::Capability;
use cofferdam_rootfs::{RootFs, RootPath, RootfsError, Tree};
use tempfile::TempDir;
use wasmtime::component::Resource;

use super::{
    Exit, RunCommand, convert, declared,
    handles::{ExecutorHandle, RootAccess, RootHandle, TreeHandle, lock},
};
use crate::{
    ApplyError, CallError, Coverage, Fault, FaultKind, Interrupt, PluginHost,
    bindings::instruction::cofferdam::{fs::execution, instruction::steps},
    call::CallState,
    plugin::{Plugin, Ready},
    preopen, seed, text, wasi,
};

/// What a step is carried out on.
pub struct ApplyHandles {
    /// Of the stage. The caller takes the changes if the step succeeds, and discards them if not.
    pub rootfs: Arc<Mutex<RootFs>>,
    /// One for each [`Read::Tree`], [`Read::Url`] and [`Read::Git`] of the plan, in their order.
    pub trees: Vec<Arc<dyn Tree>>,
    /// What runs commands. The plugin gets it only if its manifest wants `exec` and the plan declared the whole root file
    /// system.
    pub executor: Option<Box<dyn RunCommand>>,
    /// Asked some twenty times a second while the plugin computes.
    pub interrupt: Option<Interrupt>,
}

/// What a step left behind, apart from its changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Findings that don't stop the build.
    pub diagnostics: Vec<Diagnostic>,
    /// What the plugin printed through WASI, cut to size.
    pub output: String,
}

impl PluginHost {
    /// Carries a step out. `planned` is what [`Handlers::plan`](cofferdam_plan::step::Handlers::plan) said of it.
    ///
    /// Blocks until the handler is done, so call it on a thread for blocking work.
    ///
    /// # Errors
    /// Any [`ApplyError`]; the changes made so far are then to be discarded.
    ///
    /// # Panics
    /// `handles` has not one tree for each read of a tree, URL or repository of `planned`.
    pub fn apply(&self, step: &Step, planned: &Planned, handles: ApplyHandles) -> Result<Applied, ApplyError> {
        let Some(plugin) = self.handler(&step.keyword) else {
            let message = format!("no plugin handles {}", step.keyword);
            return Err(ApplyError::Invalid(text::host_error("UnknownInstruction", message, Some(step.span), None)));
        };
        let ApplyHandles { rootfs, trees, executor, interrupt } = handles;
        let mut state = self.state(plugin, interrupt.or_else(|| self.interrupt.clone()));
        let trees = tree_handles(plugin, planned, trees)?;
        let context = self.context_world(plugin, step, &trees, &mut state)?;
        let root = RootHandle { access: Arc::new(Mutex::new(root_access(plugin, planned, &rootfs))), rootfs };
        let whole = planned.reads.contains(&Read::WholeRootfs);
        let executor = executor.filter(|_| whole && plugin.has(&Capability::Exec));
        let executor = executor.map(|runner| ExecutorHandle {
            runner,
            network: self.policy.run_network(),
            parts: trees.iter().map(|(handle, _)| handle.coverage.clone()).collect(),
            secrets: plugin.has(&Capability::Secrets),
        });
        let sees = declared(plugin, &step.keyword).map(|(_, sees)| sees).unwrap_or_default();
        let seen = convert::step(step, &sees);

        let (result, mut state) = plugin.call(&self.runtime, state, |store, ready| {
            let Ready::Instruction(pre) = ready else { return Err(super::wrong_kind()) };
            let table = &mut store.data_mut().table;
            let root = table.push(root)?;
            let borrowed = Resource::new_borrow(root.rep());
            let trees = trees.into_iter().map(|(handle, _)| table.push(handle)).collect::<Result<Vec<_>, _>>()?;
            let executor = executor.map(|handle| table.push(handle)).transpose()?;
            let executor = executor.map(|executor| Resource::new_borrow(executor.rep()));
            let instance = pre.instantiate(&mut *store)?;
            instance.cofferdam_instruction_handler().call_apply(store, &seen, borrowed, &trees, executor)
        });
        // Only now: the guest read from it.
        drop(context);
        match result? {
            Ok(found) => Ok(Applied { diagnostics: text::diagnostics(found), output: state.output.text() }),
            Err(error) => Err(answered(plugin, error, &mut state)),
        }
    }

    /// For a plugin that imports WASI: its world, with the context in it if it may see that.
    fn context_world(
        &self,
        plugin: &Arc<Plugin>,
        step: &Step,
        trees: &[(TreeHandle, TreeRead)],
        state: &mut CallState,
    ) -> Result<Option<TempDir>, CallError> {
        if !plugin.imports.wasi {
            return Ok(None);
        }
        let context: Vec<(&dyn Tree, &Coverage)> = trees
            .iter()
            .filter(|(_, read)| read.source == TreeSource::Context)
            .map(|(handle, _)| (&*handle.tree, &*handle.coverage))
            .collect();
        let directory = match plugin.imports.preopens && plugin.has(&Capability::Context) && !context.is_empty() {
            true => Some(preopen::materialise(&self.scratch, &context)?),
            false => None,
        };
        if directory.is_some() {
            let patterns = || context.iter().map(|(_, it)| it.describe()).collect::<Vec<_>>().join(", ");
            state.witness.record("context", || format!("mount {} with {}", wasi::CONTEXT_MOUNT, patterns()));
        }
        let mount = directory.as_ref().map(|directory| -> &Path { directory.path() });
        let world = wasi::world(&state.output, &seed::of_step(step), mount);
        state.wasi = Some(world.map_err(|error| self.protocol(plugin, &error))?);
        Ok(directory)
    }
}

fn tree_handles(
    plugin: &Plugin,
    planned: &Planned,
    trees: Vec<Arc<dyn Tree>>,
) -> Result<Vec<(TreeHandle, TreeRead)>, ApplyError> {
    let reads = planned.reads.iter().filter_map(|read| match read {
        Read::Tree(read) => {
            let capability = match read.source {
                TreeSource::Context => Capability::Context,
                TreeSource::Named(_) => Capability::Stages,
            };
            Some((read.clone(), capability))
        }
        Read::Url(url) | Read::Git(url) => Some((TreeRead::whole(url), Capability::Fetch)),
        Read::RootfsPath(_) | Read::WholeRootfs => None,
    });
    let reads: Vec<(TreeRead, Capability)> = reads.collect();
    assert_eq!(reads.len(), trees.len(), "one tree for each read of a tree, URL or repository");
    let handle = |((read, capability), tree): ((TreeRead, Capability), Arc<dyn Tree>)| {
        if !plugin.has(&capability) {
            let message = "its manifest doesn't want it".to_owned();
            return Err(ApplyError::Denied {
                plugin: plugin.name().to_owned(),
                capability: capability.to_string(),
                message,
            });
        }
        let coverage = Coverage::new(&read)
            .map_err(|error| ApplyError::Invalid(text::host_error("BadPattern", error.to_string(), None, None)))?;
        Ok((TreeHandle { tree, coverage: Arc::new(coverage), capability }, read))
    };
    reads.into_iter().zip(trees).map(handle).collect()
}

fn root_access(plugin: &Plugin, planned: &Planned, rootfs: &Mutex<RootFs>) -> RootAccess {
    if !plugin.has(&Capability::Rootfs) {
        return RootAccess::default();
    }
    let declared: BTreeSet<RootPath> = planned
        .reads
        .iter()
        .filter_map(|read| match read {
            Read::RootfsPath(path) => RootPath::new(path).ok(),
            _ => None,
        })
        .collect();
    let whole = planned.reads.contains(&Read::WholeRootfs);
    RootAccess::new(&lock(rootfs), declared, whole, planned.effect == Effect::RootFileSystem)
}

/// What the handler's own error means for the build.
fn answered(plugin: &Plugin, error: steps::Error, state: &mut CallState) -> ApplyError {
    // The disk was full, or the like: whatever the guest made of it, this is what to tell.
    if let Some(storage) = state.storage.take() {
        return CallError::Storage(storage).into();
    }
    match error {
        steps::Error::Denied(denial) => ApplyError::Denied {
            plugin: plugin.name().to_owned(),
            capability: text::shown(&denial.capability),
            message: text::shown(&denial.message),
        },
        steps::Error::Invalid(found) => ApplyError::Invalid(text::diagnostic(found)),
        steps::Error::Unsupported(found) => ApplyError::Unsupported(text::diagnostic(found)),
        steps::Error::CommandFailed(exit) => match exit {
            // The build's exit code is made of it: nothing but what a process can end with.
            execution::Exit::Code(code @ 1..=255) => ApplyError::CommandFailed(Exit::Code(code)),
            execution::Exit::Signal(signal @ 1..=64) => ApplyError::CommandFailed(Exit::Signal(signal)),
            execution::Exit::Code(number) | execution::Exit::Signal(number) => CallError::Fault(Fault {
                plugin: plugin.name().to_owned(),
                kind: FaultKind::Protocol,
                message: format!("it answered that a command failed with {number}, which is no failure"),
            })
            .into(),
        },
    }
}

impl From<RootfsError> for ApplyError {
    fn from(error: RootfsError) -> Self {
        CallError::Storage(error).into()
    }
}
