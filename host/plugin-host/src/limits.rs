//! How much a call may use.

use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;

/// Bounds of one call of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories of the instance together.
    pub memory_bytes: usize,
    /// The guest's own time between two calls of the host: a host call that returns (a ten-minute RUN) starts it anew.
    pub deadline: Duration,
    /// The guest's own time altogether, so that a loop of cheap host calls ends too.
    pub total: Duration,
    /// What is kept of the plugin's standard output and error together; the rest is dropped.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            deadline: Duration::from_secs(10),
            total: Duration::from_secs(3600),
            output_bytes: 64 << 10,
        }
    }
}

impl Limits {
    /// The smaller of each.
    pub fn narrowed_to(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            deadline: self.deadline.min(other.deadline),
            total: self.total.min(other.total),
            output_bytes: self.output_bytes.min(other.output_bytes),
        }
    }
}

/// Elements of all tables together: a Python or JavaScript engine has some 60,000.
const TABLE_ELEMENTS: usize = 200_000;

/// Counts what an instance takes.
pub(crate) struct Meter {
    memory_limit_bytes: usize,
    memory_bytes: usize,
    table_elements: usize,
    /// Memory was refused; the trap that follows has this reason.
    pub(crate) exceeded: bool,
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { memory_limit_bytes: limits.memory_bytes, memory_bytes: 0, table_elements: 0, exceeded: false }
    }
}

impl ResourceLimiter for Meter {
    // An error, not `false`: most languages turn a memory.grow that failed into an abort without a reason.
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.memory_limit_bytes {
            self.exceeded = true;
            return Err(wasmtime::Error::msg("the memory limit is reached"));
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS {
            self.exceeded = true;
            return Err(wasmtime::Error::msg("the table limit is reached"));
        }
        self.table_elements = total;
        Ok(true)
    }

    // A component of a big language is some dozen core modules.
    fn instances(&self) -> usize {
        100
    }

    fn tables(&self) -> usize {
        100
    }

    fn memories(&self) -> usize {
        16
    }
}

/// Measures the guest's own time.
pub(crate) struct Stopwatch {
    started: Instant,
    /// The end of the last host call.
    resumed: Instant,
    in_host: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, resumed: now, in_host: Duration::ZERO }
    }

    /// A host call that began at `begun` ends now.
    pub(crate) fn resume(&mut self, begun: Instant) {
        self.resumed = Instant::now();
        self.in_host += self.resumed.saturating_duration_since(begun);
    }

    pub(crate) fn is_over(&self, limits: &Limits) -> bool {
        let now = Instant::now();
        now.saturating_duration_since(self.resumed) > limits.deadline
            || now.saturating_duration_since(self.started).saturating_sub(self.in_host) > limits.total
    }
}
