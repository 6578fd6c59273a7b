//! Instruction handlers: `check`, `plan`, `apply`.

mod apply;
mod convert;
mod execution;
pub(crate) mod handles;
mod root;
mod trees;

use std::sync::Arc;

use cofferdam_dockerfile::{Diagnostic, Span};
use cofferdam_plan::step::{Effect, HandlerFacts, Handlers, Planned, Read, StateField, Step, Syntax, TreeSource};
use cofferdam_plugin_pack::{Capability, Role};
use cofferdam_rootfs::RootPath;

pub use apply::{Applied, ApplyHandles};
pub(crate) use convert::{key_values, timestamp};
pub use execution::{
    Command, CommandMount, CommandMountSource, Exit, Network, RunCommand, RunCommandError, Sharing, TreePart,
};

use crate::{
    CallError, Coverage, PluginHost,
    bindings::instruction::cofferdam::instruction::steps,
    call::CallState,
    error::PlanResult,
    plugin::{Plugin, Ready},
    seed, text, wasi,
};

/// What a plan may declare; more than any Dockerfile's line needs.
const MAX_READS: usize = 10_000;

/// As many changes of the configuration.
const MAX_CHANGES: usize = 10_000;

impl Handlers for PluginHost {
    fn facts(&self, keyword: &str) -> Option<HandlerFacts> {
        let plugin = self.handler(keyword)?;
        let (syntax, sees) = declared(plugin, keyword)?;
        Some(HandlerFacts { plugin: plugin.name().to_owned(), digest: plugin.digest, syntax, sees })
    }

    fn keywords(&self) -> Vec<String> {
        self.claimed_keywords()
    }

    fn check(&self, step: &Step) -> Vec<Diagnostic> {
        let Some(plugin) = self.handler(&step.keyword) else {
            return vec![unclaimed(step)];
        };
        let result = self.pure(plugin, step, |store, ready, step| {
            let Ready::Instruction(pre) = ready else { return Err(wrong_kind()) };
            pre.instantiate(&mut *store)?.cofferdam_instruction_handler().call_check(store, step)
        });
        match result {
            Ok(found) => text::diagnostics(found),
            Err(error) => vec![failed(&error, step.span)],
        }
    }

    fn plan(&self, step: &Step) -> PlanResult {
        let Some(plugin) = self.handler(&step.keyword) else {
            return Err(vec![unclaimed(step)]);
        };
        let result = self.pure(plugin, step, |store, ready, step| {
            let Ready::Instruction(pre) = ready else { return Err(wrong_kind()) };
            pre.instantiate(&mut *store)?.cofferdam_instruction_handler().call_plan(store, step)
        });
        match result {
            Ok(Ok(planned)) => allowed(plugin, convert::planned(planned), step.span),
            Ok(Err(error)) => Err(vec![refused(plugin, error, step.span)]),
            Err(error) => Err(vec![failed(&error, step.span)]),
        }
    }
}

impl PluginHost {
    /// A call that is handed nothing but the step.
    fn pure<T>(
        &self,
        plugin: &Arc<Plugin>,
        step: &Step,
        work: impl FnOnce(&mut wasmtime::Store<CallState>, &Ready, &steps::Step) -> wasmtime::Result<T>,
    ) -> Result<T, CallError> {
        let mut state = self.state(plugin, self.interrupt.clone());
        if plugin.imports.wasi {
            let world = wasi::world(&state.output, &seed::of_step(step), None);
            state.wasi = Some(world.map_err(|error| self.protocol(plugin, &error))?);
        }
        let sees = declared(plugin, &step.keyword).map(|(_, sees)| sees).unwrap_or_default();
        let step = convert::step(step, &sees);
        plugin.call(&self.runtime, state, |store, ready| work(store, ready, &step)).0
    }
}

/// The syntax of a keyword and the state that its handler sees.
fn declared(plugin: &Plugin, keyword: &str) -> Option<(Syntax, Vec<StateField>)> {
    match &plugin.manifest.role {
        Role::Instruction { keywords, sees } => Some((*keywords.get(keyword)?, sees.iter().copied().collect())),
        Role::Credentials { .. } | Role::Tags | Role::Sbom => None,
    }
}

/// A plan, if the plugin may have what it declares.
fn allowed(plugin: &Plugin, planned: Planned, span: Span) -> PlanResult {
    let mut findings = Vec::new();
    let mut error = |code: &str, message: String| findings.push(text::host_error(code, message, Some(span), None));
    if planned.reads.len() > MAX_READS || planned.changes.len() > MAX_CHANGES {
        error(
            "PluginFailed",
            format!("the plugin `{}` declares more than {MAX_READS} reads or changes", plugin.name()),
        );
        return Err(findings);
    }
    let mut wants = |capability: Capability, what: &str| {
        if !plugin.has(&capability) {
            let name = plugin.name();
            error(
                "PluginDenied",
                format!("the plugin `{name}` declares {what}, but its manifest doesn't want `{capability}`"),
            );
        }
    };
    for read in &planned.reads {
        match read {
            Read::Tree(tree) if tree.source == TreeSource::Context => {
                wants(Capability::Context, "a read of the context")
            }
            Read::Tree(_) => wants(Capability::Stages, "a read of a stage or an image"),
            Read::RootfsPath(_) | Read::WholeRootfs => wants(Capability::Rootfs, "a read of the root file system"),
            Read::Url(_) => wants(Capability::Fetch, "a read of a URL"),
            Read::Git(_) => wants(Capability::Fetch, "a read of a git repository"),
        }
    }
    if planned.effect == Effect::RootFileSystem {
        wants(Capability::Rootfs, "a change of the root file system");
    }
    for read in &planned.reads {
        let wrong = match read {
            Read::Tree(tree) => Coverage::new(tree).err().map(|error| error.to_string()),
            Read::RootfsPath(path) => RootPath::new(path).err().map(|error| error.to_string()),
            Read::WholeRootfs | Read::Url(_) | Read::Git(_) => None,
        };
        if let Some(message) = wrong {
            error("BadPattern", message);
        }
    }
    if findings.is_empty() { Ok(planned) } else { Err(findings) }
}

/// A plugin's own answer that it can't.
fn refused(plugin: &Plugin, error: steps::Error, span: Span) -> Diagnostic {
    match error {
        steps::Error::Invalid(found) | steps::Error::Unsupported(found) => text::diagnostic(found),
        steps::Error::Denied(denial) => {
            let (capability, message) = (text::shown(&denial.capability), text::shown(&denial.message));
            let message = format!("the plugin `{}` was denied `{capability}`: {message}", plugin.name());
            text::host_error("PluginDenied", message, Some(span), None)
        }
        steps::Error::CommandFailed(_) => {
            let message = format!("the plugin `{}` speaks of a command although none was run", plugin.name());
            text::host_error("PluginFailed", message, Some(span), None)
        }
    }
}

/// A call that came to nothing, as a finding.
fn failed(error: &CallError, span: Span) -> Diagnostic {
    let code = match error {
        CallError::Withheld(_) => "PluginDenied",
        _ => "PluginFailed",
    };
    text::host_error(code, error.to_string(), Some(span), None)
}

fn unclaimed(step: &Step) -> Diagnostic {
    text::host_error("UnknownInstruction", format!("no plugin handles {}", step.keyword), Some(step.span), None)
}

fn wrong_kind() -> wasmtime::Error {
    wasmtime::Error::msg("the plugin is not a handler of instructions")
}
