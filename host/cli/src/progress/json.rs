//! One JSON object a line, for programs. `docs/progress.md` describes the events.

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cofferdam_engine::{Ending, Event, Kind, Observer, Vertex};
use serde::Serialize;

use super::{
    Outcome, View,
    board::{Board, Sum, Unit},
};

/// Writes events as JSON lines.
pub struct JsonView<W> {
    state: Mutex<State<W>>,
    begun: Instant,
}

struct State<W> {
    out: W,
    board: Board,
}

/// A line: the event, with the moment.
#[derive(Serialize)]
struct Line<E> {
    /// Seconds since 1970.
    time: f64,
    /// Seconds since the build began.
    since_start: f64,
    #[serde(flatten)]
    event: E,
}

/// The last event.
#[derive(Serialize)]
#[serde(tag = "event", rename = "summary")]
struct Summary<'b> {
    outcome: &'static str,
    elapsed: f64,
    units: Vec<UnitSummary<'b>>,
    uploaded: Sum,
    mounted: Sum,
    present: Sum,
    downloaded: Sum,
}

#[derive(Serialize)]
struct UnitSummary<'b> {
    vertex: Vertex,
    kind: Kind,
    name: &'b str,
    ending: Option<&'b Ending>,
    elapsed: f64,
    layer_bytes: Option<u64>,
}

impl<W: Write + Send> JsonView<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        let begun = Instant::now();
        Self { state: Mutex::new(State { out, board: Board::new(begun) }), begun }
    }
}

impl<W: Write + Send> Observer for JsonView<W> {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.board.apply(&event, Instant::now());
        state.line(event, self.begun.elapsed());
    }
}

impl<W: Write + Send> View for JsonView<W> {
    fn say(&self, text: &str) {
        self.event(Event::Warning { text: text.to_owned() });
    }

    fn finish(&self, outcome: Outcome) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { out, board } = &mut *state;
        let now = Instant::now();
        let moved = board.moved();
        let summary = Summary {
            outcome: match outcome {
                Outcome::Done => "done",
                Outcome::Failed => "failed",
                Outcome::Interrupted => "interrupted",
            },
            elapsed: self.begun.elapsed().as_secs_f64(),
            units: board.units().iter().map(|unit| summary(unit, now)).collect(),
            uploaded: moved.uploaded,
            mounted: moved.mounted,
            present: moved.present,
            downloaded: moved.downloaded,
        };
        let _ = out.write_all(&encode(summary, self.begun.elapsed())).and_then(|()| out.flush());
    }
}

fn summary(unit: &Unit, now: Instant) -> UnitSummary<'_> {
    UnitSummary {
        vertex: unit.vertex,
        kind: unit.kind,
        name: &unit.name,
        ending: unit.ended.as_ref().map(|(ending, _)| ending),
        elapsed: unit.elapsed(now).as_secs_f64(),
        layer_bytes: unit.layer_bytes,
    }
}

impl<W: Write> State<W> {
    fn line(&mut self, event: impl Serialize, since_start: Duration) {
        let line = encode(event, since_start);
        self.write(&line);
    }

    fn write(&mut self, bytes: &[u8]) {
        // Whoever reads may have gone away; the build goes on.
        let _ = self.out.write_all(bytes).and_then(|()| self.out.flush());
    }
}

/// One line with its newline; empty if the event can't be said in JSON, which none is.
fn encode(event: impl Serialize, since_start: Duration) -> Vec<u8> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let line = Line { time, since_start: since_start.as_secs_f64(), event };
    let Ok(mut text) = serde_json::to_string(&line) else { return Vec::new() };
    // GitHub's runner takes `##[command]` for a command wherever it stands. In JSON it stands in strings only.
    if text.contains("##[") {
        text = text.replace("##[", "#\\u0023[");
    }
    text.push('\n');
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::log::tests::{finished, output, started};

    #[test]
    fn every_line_is_an_event_and_the_last_one_sums_up() {
        let view = JsonView::new(Vec::new());
        view.event(started(1, Kind::LookUp, "x"));
        view.event(output(1, "a\n##[add-mask]b\u{1b}"));
        view.event(finished(1, Ending::Failed("no".to_owned())));
        view.finish(Outcome::Failed);
        let text = String::from_utf8(view.state.into_inner().unwrap().out).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!text.contains("##[") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(lines[0]["kind"], "look-up");
        assert_eq!(lines[1]["bytes"], "a\n##[add-mask]b\u{1b}", "the same text for who reads JSON");
        assert_eq!((&lines[3]["event"], &lines[3]["outcome"]), (&"summary".into(), &"failed".into()));
        assert_eq!(lines[3]["units"][0]["ending"]["failed"], "no");
        assert_eq!(lines[3]["uploaded"], serde_json::json!({"layers": 0, "bytes": 0}));
    }
}
