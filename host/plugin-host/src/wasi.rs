//! The WASI of a plugin that imports it: no arguments, no variables, no network, no time that passes, no randomness that
//! differs between two runs of the same step.
//!
//! A plugin in Python or JavaScript imports all of WASI because its runtime does; it gets a world in which there is
//! nothing.

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use cofferdam_digest::{Digest, Sha256};
use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::{
    Deterministic, FsPerms, HostMonotonicClock, HostWallClock, ResourceTable, WasiCtx, WasiCtxBuilder,
    cli::{IsTerminal, StdoutStream},
    p2::{DynPollable, OutputStream, Pollable, StreamResult, bindings::clocks::monotonic_clock, subscribe},
};

use crate::call::CallState;

/// Where the context's declared entries appear.
pub(crate) const CONTEXT_MOUNT: &str = "/context";

/// All of WASI 0.2 but a clock that could be waited for.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<_, StoppedClock>(linker, |state| StoppedClockView(&mut state.table))?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A world with nothing in it but, maybe, the context. `seed` decides what its randomness gives.
pub(crate) fn world(output: &Output, seed: &Digest, context: Option<&Path>) -> wasmtime::Result<WasiCtx> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(output.clone())
        .stderr(output.clone())
        .allow_blocking_current_thread(true)
        .wall_clock(Epoch)
        .monotonic_clock(Epoch)
        .secure_random(randomness(seed, b"secure"))
        .insecure_random(randomness(seed, b"insecure"))
        .insecure_random_seed(u128::from_le_bytes(*seed.as_bytes().first_chunk().expect("32 bytes")))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    if let Some(directory) = context {
        builder.preopened_dir(directory, CONTEXT_MOUNT, FsPerms::ReadOnly)?;
    }
    Ok(builder.build())
}

/// 4 KiB that follow from the seed, over and over: enough for hash tables and for names of temporary things; nothing that
/// a plugin makes may need secrecy.
fn randomness(seed: &Digest, purpose: &[u8]) -> Deterministic {
    let block = |counter: u32| {
        let mut hasher = Sha256::new();
        hasher.update(seed.as_bytes());
        hasher.update(purpose);
        hasher.update(&counter.to_le_bytes());
        *hasher.finish().as_bytes()
    };
    Deterministic::new((0..128).flat_map(block).collect())
}

/// The time is always 1970-01-01T00:00:00Z.
struct Epoch;

impl HostWallClock for Epoch {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Epoch {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

/// A clock that stands still. Whoever waits for it has waited at once: a real sleep could not be interrupted, as the
/// deadline counts only what the guest itself computes.
struct StoppedClock;

struct StoppedClockView<'a>(&'a mut ResourceTable);

impl HasData for StoppedClock {
    type Data<'a> = StoppedClockView<'a>;
}

impl monotonic_clock::Host for StoppedClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(0)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000_000_000)
    }

    fn subscribe_instant(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.passed()
    }

    fn subscribe_duration(&mut self, _duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.passed()
    }
}

impl StoppedClockView<'_> {
    fn passed(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let moment = self.0.push(Passed)?;
        subscribe(self.0, moment)
    }
}

/// A moment that lies behind.
struct Passed;

impl Pollable for Passed {
    fn ready<'a, 'f>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async {})
    }
}

/// What a plugin prints, up to a bound; the rest is dropped without the plugin's noticing.
#[derive(Clone)]
pub(crate) struct Output {
    limit_bytes: usize,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Output {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, bytes: Arc::default() }
    }

    /// As text without control characters but line ends: it may end up on a terminal.
    pub(crate) fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        crate::text::printable(&String::from_utf8_lossy(&bytes))
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl OutputStream for Output {
    fn write(&mut self, written: Bytes) -> StreamResult<()> {
        let mut bytes = self.bytes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let room = self.limit_bytes.saturating_sub(bytes.len()).min(written.len());
        bytes.extend_from_slice(&written[..room]);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl Pollable for Output {
    fn ready<'a, 'f>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async {})
    }
}
