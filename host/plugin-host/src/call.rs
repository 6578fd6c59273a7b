//! One call of a plugin: a fresh store, its limits, and what became of it.

use std::{sync::Arc, time::Instant};

use wasmtime::{Store, Trap, UpdateDeadline};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use crate::{
    AuditLog, CallError, Fault, FaultKind, Limits,
    limits::{Meter, Stopwatch},
    plugin::Plugin,
    wasi::Output,
};

/// Asked now and then whether the build goes on.
pub type Interrupt = Arc<dyn Fn() -> bool + Send + Sync>;

/// Everything that the host keeps for one call.
pub(crate) struct CallState {
    pub(crate) table: ResourceTable,
    /// Only for components that import WASI.
    pub(crate) wasi: Option<WasiCtx>,
    pub(crate) output: Output,
    pub(crate) witness: Witness,
    /// A failure of the host's own, which ends the call; it counts, not the trap that it becomes.
    pub(crate) failure: Option<CallError>,
    /// The first failure of the machine. The guest only sees its text and may answer anything; if the call fails then, this
    /// was why.
    pub(crate) storage: Option<cofferdam_rootfs::RootfsError>,
    meter: Meter,
    stopwatch: Stopwatch,
    limits: Limits,
    interrupt: Option<Interrupt>,
    ended: Option<Ended>,
}

/// Why the clock ended a call.
#[derive(Clone, Copy)]
enum Ended {
    Timeout,
    Interrupted,
}

/// Who uses a capability: writes the audit log.
#[derive(Clone)]
pub(crate) struct Witness {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) audit: Option<Arc<AuditLog>>,
}

impl Witness {
    /// Records a use. `detail` is only made if there is a log.
    pub(crate) fn record(&self, capability: &str, detail: impl FnOnce() -> String) {
        if let Some(audit) = &self.audit {
            audit.record(&self.plugin.manifest.name, &self.plugin.digest, capability, &detail());
        }
    }
}

/// Handles that a guest can hold at the same time; each costs the host some memory.
const MAX_HANDLES: usize = 10_000;

/// What a guest may hand over in one call, answers included: chunks are at most 1 MiB, a here-document some more.
const MAX_TRANSFER_BYTES: usize = 32 << 20;

/// Between two looks at the clock; [`crate::runtime::TICK`] is their unit.
const CHECK_EVERY_TICKS: u64 = 5;

impl CallState {
    /// The state of a call, without WASI.
    pub(crate) fn new(witness: Witness, limits: Limits, interrupt: Option<Interrupt>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            table,
            wasi: None,
            output: Output::new(limits.output_bytes),
            witness,
            failure: None,
            storage: None,
            meter: Meter::new(&limits),
            stopwatch: Stopwatch::start(),
            limits,
            interrupt,
            ended: None,
        }
    }

    /// Runs a host function; its time is not the guest's.
    pub(crate) fn in_host<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let begun = Instant::now();
        let result = work(self);
        self.stopwatch.resume(begun);
        result
    }

    /// Ends the call because of the host.
    pub(crate) fn fail(&mut self, failure: CallError) -> wasmtime::Error {
        let message = wasmtime::Error::msg(failure.to_string());
        self.failure = Some(failure);
        message
    }
}

/// Makes a store for a call.
pub(crate) fn store(state: CallState, engine: &wasmtime::Engine) -> Store<CallState> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.meter);
    store.set_hostcall_fuel(MAX_TRANSFER_BYTES);
    store.set_max_component_handles(MAX_HANDLES);
    store.set_epoch_deadline(CHECK_EVERY_TICKS);
    store.epoch_deadline_callback(|mut context| {
        let state = context.data_mut();
        if state.interrupt.as_ref().is_some_and(|interrupted| interrupted()) {
            state.ended = Some(Ended::Interrupted);
            return Ok(UpdateDeadline::Interrupt);
        }
        if state.stopwatch.is_over(&state.limits) {
            state.ended = Some(Ended::Timeout);
            return Ok(UpdateDeadline::Interrupt);
        }
        Ok(UpdateDeadline::Continue(CHECK_EVERY_TICKS))
    });
    store
}

/// What a failed call really died of.
pub(crate) fn explain(state: &mut CallState, error: &wasmtime::Error) -> CallError {
    if let Some(failure) = state.failure.take() {
        return failure;
    }
    let (kind, mut message) = match state.ended {
        Some(Ended::Interrupted) => return CallError::Interrupted,
        Some(Ended::Timeout) => {
            let seconds = state.limits.deadline.as_secs_f64();
            (FaultKind::Timeout, format!("more than {seconds} s of its own time without a result"))
        }
        None if state.meter.exceeded => {
            let mib = state.limits.memory_bytes >> 20;
            (FaultKind::Memory, format!("more than the limit of {mib} MiB (`memory-mib` of the policy's [limits])"))
        }
        None => match error.downcast_ref::<Trap>() {
            Some(trap) => (FaultKind::Trap, trap.to_string()),
            None => (FaultKind::Protocol, error.root_cause().to_string()),
        },
    };
    // A panic's message is the last thing that a guest with WASI prints.
    let printed = state.output.text();
    let last: Vec<&str> = printed.lines().filter(|line| !line.trim().is_empty()).rev().take(5).collect();
    if !last.is_empty() {
        let last: Vec<&str> = last.into_iter().rev().collect();
        message = format!("{message}; it printed: {}", last.join(" / "));
    }
    CallError::Fault(Fault { plugin: state.witness.plugin.manifest.name.clone(), kind, message })
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // The linker of components without WASI has no function that comes here.
        let ctx = self.wasi.as_mut().expect("a component that imports WASI was given one");
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// The interfaces that only hold types.
mod types {
    use super::CallState;
    use crate::bindings::instruction::cofferdam::{fs, instruction, types};

    impl types::diagnostics::Host for CallState {}
    impl types::values::Host for CallState {}
    impl fs::model::Host for CallState {}
    impl instruction::steps::Host for CallState {}
}
