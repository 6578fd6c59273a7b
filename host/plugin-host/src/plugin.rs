//! A loaded plugin: its manifest, its code, and the way to an instance.

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use cofferdam_digest::Digest;
use cofferdam_plugin_pack::{Capability, Kind, Manifest};
use wasmtime::{
    Store,
    component::{Component, Linker},
};

use crate::{
    CallError, Fault, FaultKind, PluginFacts,
    bindings::{credentials::CredentialsPre, instruction::InstructionPre, sbom::SbomPre, tags::TagsPre},
    call::{self, CallState},
    imports::Imports,
    native::{self, OwnCode},
    runtime::Runtime,
};

/// A loaded plugin. Its code is compiled, or its compiled code loaded, when it is first called.
pub(crate) struct Plugin {
    pub(crate) manifest: Manifest,
    /// Of the component's bytes.
    pub(crate) digest: Digest,
    pub(crate) imports: Imports,
    pub(crate) origin: Origin,
    pub(crate) code: Code,
    /// For one of our own: the policy's denial of something that it wants. It then answers nothing else.
    pub(crate) withheld: Option<String>,
    pub(crate) ready: OnceLock<Result<Ready, Fault>>,
    pub(crate) preparing: Mutex<()>,
}

/// Where a plugin came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is part of this program.
    Embedded,
    /// A file of a plugin directory.
    File(PathBuf),
}

/// A component and, maybe, what it was compiled to.
pub(crate) struct Code {
    pub(crate) wasm: Cow<'static, [u8]>,
    pub(crate) native: Option<&'static [u8]>,
}

/// A component, linked and type-checked: an instance is microseconds away.
pub(crate) enum Ready {
    Instruction(InstructionPre<CallState>),
    Credentials(CredentialsPre<CallState>),
    Tags(TagsPre<CallState>),
    Sbom(SbomPre<CallState>),
}

impl Plugin {
    /// Whether it wants, and so was granted, a capability.
    pub(crate) fn has(&self, capability: &Capability) -> bool {
        self.manifest.capabilities.iter().any(|held| held.covers(capability))
    }

    /// What is known of it, for people.
    pub(crate) fn facts(&self) -> PluginFacts {
        PluginFacts {
            manifest: self.manifest.clone(),
            digest: self.digest,
            origin: self.origin.clone(),
            withheld: self.withheld.clone(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Calls it in a fresh store.
    ///
    /// # Errors
    /// The plugin can't be made ready, or the call ended without an answer.
    pub(crate) fn call<T>(
        self: &Arc<Self>,
        runtime: &Runtime,
        state: CallState,
        work: impl FnOnce(&mut Store<CallState>, &Ready) -> wasmtime::Result<T>,
    ) -> (Result<T, CallError>, CallState) {
        if let Some(denial) = &self.withheld {
            return (Err(CallError::Withheld(denial.clone())), state);
        }
        let ready = match self.ready(runtime) {
            Ok(ready) => ready,
            Err(fault) => return (Err(fault.clone().into()), state),
        };
        runtime.start_clock();
        let mut store = call::store(state, &runtime.engine);
        let result = work(&mut store, ready);
        let result = result.map_err(|error| call::explain(store.data_mut(), &error));
        (result, store.into_data())
    }

    fn ready(&self, runtime: &Runtime) -> Result<&Ready, &Fault> {
        if self.ready.get().is_none() {
            // One thread compiles; a big language's runtime takes seconds.
            let _preparing = self.preparing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.ready.get_or_init(|| {
                self.prepare(runtime).map_err(|error| Fault {
                    plugin: self.name().to_owned(),
                    kind: FaultKind::Protocol,
                    message: format!("{error:#}"),
                })
            });
        }
        self.ready.get().expect("set above").as_ref()
    }

    fn prepare(&self, runtime: &Runtime) -> wasmtime::Result<Ready> {
        let component = self.component(runtime)?;
        let linker: &Linker<CallState> = runtime.linker(self.manifest.kind(), self.imports.wasi)?;
        let pre = linker.instantiate_pre(&component)?;
        Ok(match self.manifest.kind() {
            Kind::Instruction => Ready::Instruction(InstructionPre::new(pre)?),
            Kind::Credentials => Ready::Credentials(CredentialsPre::new(pre)?),
            Kind::Tags => Ready::Tags(TagsPre::new(pre)?),
            Kind::Sbom => Ready::Sbom(SbomPre::new(pre)?),
        })
    }

    fn component(&self, runtime: &Runtime) -> wasmtime::Result<Component> {
        let engine = &runtime.engine;
        // A processor without what the code was compiled for refuses it; then it is compiled here like any other.
        if let Some(component) = self.code.native.and_then(|code| native::load(engine, OwnCode::embedded(code)).ok()) {
            return Ok(component);
        }
        if let Some(component) = runtime.cache.as_ref().and_then(|cache| cache.load(engine, &self.digest)) {
            return Ok(component);
        }
        let component = Component::from_binary(engine, &self.code.wasm)?;
        if let Some(cache) = &runtime.cache {
            cache.store(engine, &self.digest, &component);
        }
        Ok(component)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded => f.write_str("cofferdam's own"),
            Self::File(path) => write!(f, "`{}`", path.display()),
        }
    }
}
