//! One engine for all plugins, its clock, and the linkers.

use std::{
    sync::{Mutex, Once, OnceLock},
    thread,
    time::Duration,
};

use cofferdam_plugin_pack::Kind;
use wasmtime::{
    Engine,
    component::{HasSelf, Linker},
};

use crate::{bindings, call::CallState, compile_cache::CompileCache, engine_config, wasi};

/// How often the epoch advances. Deadlines are counted in it.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// What all plugins share.
pub(crate) struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) cache: Option<CompileCache>,
    /// For each kind, without and with WASI: made when the first plugin of that sort is called.
    linkers: [OnceLock<Linker<CallState>>; 8],
    making: Mutex<()>,
    ticking: Once,
}

impl Runtime {
    /// An engine; nothing is compiled or started.
    pub(crate) fn new(cache: Option<CompileCache>) -> wasmtime::Result<Self> {
        let engine = Engine::new(&engine_config::shared())?;
        Ok(Self { engine, cache, linkers: Default::default(), making: Mutex::default(), ticking: Once::new() })
    }

    /// What a plugin of this kind may import.
    pub(crate) fn linker(&self, kind: Kind, with_wasi: bool) -> wasmtime::Result<&Linker<CallState>> {
        let slot = &self.linkers[kind as usize * 2 + usize::from(with_wasi)];
        if let Some(linker) = slot.get() {
            return Ok(linker);
        }
        let _making = self.making.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if slot.get().is_none() {
            let _ = slot.set(link(&self.engine, kind, with_wasi)?);
        }
        Ok(slot.get().expect("set above, under the lock"))
    }

    /// Starts the clock that deadlines need, once. The thread ends with the engine.
    pub(crate) fn start_clock(&self) {
        self.ticking.call_once(|| {
            let engine = self.engine.weak();
            let tick = move || {
                while let Some(engine) = engine.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    thread::sleep(TICK);
                }
            };
            thread::Builder::new().name("plugin-clock".to_owned()).spawn(tick).expect("a thread can be started");
        });
    }
}

fn link(engine: &Engine, kind: Kind, with_wasi: bool) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    type State = HasSelf<CallState>;
    match kind {
        Kind::Instruction => bindings::instruction::Instruction::add_to_linker::<_, State>(&mut linker, |state| state)?,
        Kind::Credentials => {
            add_types(&mut linker)?;
            bindings::credentials::Credentials::add_to_linker::<_, State>(&mut linker, |state| state)?;
        }
        Kind::Tags => add_types(&mut linker)?,
        Kind::Sbom => {
            use bindings::instruction::cofferdam::fs;
            add_types(&mut linker)?;
            fs::model::add_to_linker::<_, State>(&mut linker, |state| state)?;
            fs::trees::add_to_linker::<_, State>(&mut linker, |state| state)?;
        }
    }
    if with_wasi {
        wasi::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}

fn add_types(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    use bindings::instruction::cofferdam::types;
    types::diagnostics::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)?;
    types::values::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)
}
