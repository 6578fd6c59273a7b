//! One JSON object a line, for programs. `docs/progress.md` describes the events.

use std::{
    io::Write,
    sync::Mutex,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use cofferdam_engine::{Event, Observer};

/// Writes events as JSON lines.
pub struct JsonProgress<W> {
    out: Mutex<W>,
    begun: Instant,
}

/// A line: the event, with the moment.
#[derive(serde::Serialize)]
struct Line {
    /// Seconds since 1970.
    time: f64,
    /// Seconds since the build began.
    since_start: f64,
    #[serde(flatten)]
    event: Event,
}

impl<W: Write + Send> JsonProgress<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out: Mutex::new(out), begun: Instant::now() }
    }
}

impl<W: Write + Send> Observer for JsonProgress<W> {
    fn event(&self, event: Event) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let line = Line { time, since_start: self.begun.elapsed().as_secs_f64(), event };
        let Ok(mut text) = serde_json::to_vec(&line) else { return };
        text.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Whoever reads may have gone away; the build goes on.
        let _ = out.write_all(&text).and_then(|()| out.flush());
    }
}
