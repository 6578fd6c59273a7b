//! The engine's configuration: the part that the build script, which compiles ahead of time, and the program must have
//! in common. Included by both.

use wasmtime::{Config, OptLevel};

/// What every engine of ours has. A difference in any of these makes precompiled code unloadable.
pub(crate) fn shared() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Guests are synchronous: without it a call needs no task bookkeeping.
        .concurrency_support(false)
        // Deadlines (`call.rs`).
        .epoch_interruption(true)
        .max_wasm_stack(MAX_STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed)
        // The same step gives the same bytes on every processor: NaN payloads and relaxed SIMD are the two places where
        // WebAssembly leaves a choice.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    config
}

/// Calls happen on threads with the usual 2 MiB of stack; half of it is left for the host functions that a guest calls.
const MAX_STACK_BYTES: usize = 1 << 20;
