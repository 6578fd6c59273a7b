//! Loading native code: the one place of this crate that the compiler can't check.

#![allow(unsafe_code, reason = "wasmtime can't verify machine code; the type below says where it may come from")]

use wasmtime::{Engine, component::Component};

/// Machine code that this very program, or its build script, made with wasmtime.
pub(crate) struct OwnCode<'a>(&'a [u8]);

impl<'a> OwnCode<'a> {
    /// Code that the build script put into this binary.
    pub(crate) fn embedded(code: &'static [u8]) -> OwnCode<'static> {
        OwnCode(code)
    }

    /// Code from the compile cache: a directory that only this user can write, and a file whose checksum fits
    /// (`compile_cache.rs` checks both).
    pub(crate) fn from_private_cache(code: &'a [u8]) -> Self {
        Self(code)
    }
}

/// Loads machine code.
///
/// # Errors
/// It was made for another processor, another version of wasmtime, or another configuration.
pub(crate) fn load(engine: &Engine, code: OwnCode<'_>) -> wasmtime::Result<Component> {
    // SAFETY: `Component::deserialize` runs what it is given, so it must be the output of wasmtime's compiler, unchanged.
    // `OwnCode` is only made of that. A mismatch of version, processor or configuration is found by wasmtime itself.
    unsafe { Component::deserialize(engine, code.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_for_another_engine_is_refused() {
        let component = b"\0asm\x0d\0\x01\0";
        let engine = Engine::new(&crate::engine_config::shared()).unwrap();
        let code = engine.precompile_component(component).unwrap();
        load(&engine, OwnCode::from_private_cache(&code)).unwrap();
        let mut other = crate::engine_config::shared();
        other.epoch_interruption(false);
        let other = Engine::new(&other).unwrap();
        assert!(load(&other, OwnCode::from_private_cache(&code)).is_err());
        assert!(load(&engine, OwnCode::embedded(b"no code")).is_err());
    }
}
