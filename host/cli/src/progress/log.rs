//! A build as lines of a log, in the words that users of Docker know. How lines of different steps are set apart is up to a
//! [`Form`].

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use cofferdam_engine::{Digest, Ending, Event, Observer, Transfer, Vertex};

use super::{
    Outcome, Verbosity, View,
    board::{Board, Unit},
    lines::LineBuffer,
    problem::Problem,
    summary,
    text::{clean, clean_line, printable},
    units::{bytes, seconds, short},
};

/// A log hears of bytes that move no more often: it is to show that something goes on.
const STILL_MOVING: Duration = Duration::from_secs(5);

/// How lines are set apart. Texts are one line each, cleaned.
pub trait Form: Send {
    /// A unit of work begins.
    fn begin(&mut self, out: &mut dyn Write, unit: &Unit);
    /// The cache does not have the step: it is carried out.
    fn working(&mut self, out: &mut dyn Write, vertex: Vertex);
    /// A line about a unit of work.
    fn line(&mut self, out: &mut dyn Write, vertex: Vertex, text: &str);
    /// Its last line.
    fn end(&mut self, out: &mut dyn Write, vertex: Vertex, text: &str);
    /// A line about the build.
    fn aside(&mut self, out: &mut dyn Write, text: &str);
    /// A finding.
    fn problem(&mut self, out: &mut dyn Write, problem: &Problem);
    /// Nothing comes any more but the summary.
    fn close(&mut self, out: &mut dyn Write);
}

/// Writes lines to a log.
pub struct LogView<W, F> {
    verbosity: Verbosity,
    state: Mutex<State<W, F>>,
}

struct State<W, F> {
    out: W,
    form: F,
    board: Board,
    talks: BTreeMap<Vertex, Talk>,
}

/// What was said of a unit of work.
struct Talk {
    buffer: LineBuffer,
    begun: Instant,
    /// Whether it was carried out.
    working: bool,
    /// When something was said of a blob (or of the layer that is written: `None`).
    told: BTreeMap<Option<Digest>, Instant>,
}

impl<W: Write + Send, F: Form> LogView<W, F> {
    /// Writes to `out`.
    pub fn new(out: W, form: F, verbosity: Verbosity) -> Self {
        let board = Board::new(Instant::now());
        Self { verbosity, state: Mutex::new(State { out, form, board, talks: BTreeMap::new() }) }
    }

    fn with(&self, act: impl FnOnce(&mut State<W, F>)) {
        // A panic of another thread while it wrote a line must not end the talk.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut state);
        // Whoever reads may have gone away; the build goes on.
        let _ = state.out.flush();
    }
}

impl<W: Write + Send, F: Form> Observer for LogView<W, F> {
    fn event(&self, event: Event) {
        if self.verbosity == Verbosity::Quiet && !matches!(event, Event::Warning { .. }) {
            return;
        }
        self.with(|state| state.event(&event, Instant::now()));
    }
}

impl<W: Write + Send, F: Form> View for LogView<W, F> {
    fn say(&self, text: &str) {
        self.with(|state| state.form.aside(&mut state.out, &clean_line(text)));
    }

    fn finish(&self, outcome: Outcome) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        self.with(|state| {
            state.form.close(&mut state.out);
            for line in summary::lines(&state.board, outcome, Instant::now()) {
                let _ = writeln!(state.out, "{line}");
            }
        });
    }

    fn problem(&self, problem: &Problem) {
        if problem.is_annotation_only() {
            self.with(|state| state.form.problem(&mut state.out, problem));
        }
    }
}

impl<W: Write, F: Form> State<W, F> {
    fn event(&mut self, event: &Event, now: Instant) {
        self.board.apply(event, now);
        match event {
            Event::Started { vertex, .. } => {
                let talk = Talk { buffer: LineBuffer::default(), begun: now, working: false, told: BTreeMap::new() };
                self.talks.insert(*vertex, talk);
                if let Some(unit) = self.board.unit(*vertex) {
                    self.form.begin(&mut self.out, unit);
                }
            }
            Event::Working { vertex } => {
                if let Some(talk) = self.talks.get_mut(vertex) {
                    talk.working = true;
                    talk.begun = now;
                }
                self.form.working(&mut self.out, *vertex);
            }
            Event::Output { vertex, bytes, .. } => {
                let Some(talk) = self.talks.get_mut(vertex) else { return };
                let elapsed = now.saturating_duration_since(talk.begun).as_secs_f64();
                let (form, out) = (&mut self.form, &mut self.out);
                talk.buffer.push(bytes, |line| form.line(out, *vertex, &format!("{elapsed:.3} {}", printable(line))));
            }
            Event::Note { vertex, text } => self.line(*vertex, &clean(text)),
            Event::Unpacking { vertex, digest, done_bytes, total_bytes } => {
                if self.is_time_to_tell(*vertex, Some(*digest), now) {
                    let text = format!("unpacking {} {} / {}", short(digest), bytes(*done_bytes), bytes(*total_bytes));
                    self.line(*vertex, &text);
                }
            }
            Event::Writing { vertex, done_bytes, total_bytes } => {
                if self.is_time_to_tell(*vertex, None, now) {
                    let text = format!("writing layer {} / {}", bytes(*done_bytes), bytes(*total_bytes));
                    self.line(*vertex, &text);
                }
            }
            // A cached layer is in the summary.
            Event::Layer { vertex, digest, size_bytes } => {
                if self.talks.get(vertex).is_some_and(|talk| talk.working) {
                    self.line(*vertex, &format!("layer {} {}", short(digest), bytes(*size_bytes)));
                }
            }
            Event::Progress { vertex, digest, done_bytes, total_bytes } => {
                if self.is_time_to_tell(*vertex, Some(*digest), now) {
                    let text = format!("{} {} / {}", short(digest), bytes(*done_bytes), bytes(*total_bytes));
                    self.line(*vertex, &text);
                }
            }
            Event::Transferred { vertex, digest, size_bytes, transfer } => {
                self.line(*vertex, &format!("{} {} {}", short(digest), bytes(*size_bytes), arrival(*transfer)));
            }
            Event::Finished { vertex, ending, elapsed } => {
                let rest = self.talks.remove(vertex).and_then(|mut talk| talk.buffer.take_rest());
                if let Some(rest) = rest {
                    self.line(*vertex, &printable(&rest));
                }
                let text = match ending {
                    Ending::Done => format!("DONE {}", seconds(*elapsed)),
                    Ending::Cached => "CACHED".to_owned(),
                    Ending::Stopped => "STOPPED".to_owned(),
                    Ending::Failed(reason) => format!("ERROR: {}", clean(reason)),
                };
                self.form.end(&mut self.out, *vertex, &text);
            }
            Event::Warnings { file, diagnostics } => {
                for diagnostic in diagnostics {
                    self.form.problem(&mut self.out, &Problem::of(diagnostic, file));
                }
            }
            Event::Warning { text } => self.form.aside(&mut self.out, &format!("warning: {}", clean(text))),
        }
    }

    fn line(&mut self, vertex: Vertex, text: &str) {
        self.form.line(&mut self.out, vertex, text);
    }

    fn is_time_to_tell(&mut self, vertex: Vertex, what: Option<Digest>, now: Instant) -> bool {
        let Some(talk) = self.talks.get_mut(&vertex) else { return false };
        let told = talk.told.entry(what).or_insert(now);
        let due = now.saturating_duration_since(*told) >= STILL_MOVING;
        if due {
            *told = now;
        }
        due
    }
}

fn arrival(transfer: Transfer) -> &'static str {
    match transfer {
        Transfer::Uploaded => "uploaded",
        Transfer::Mounted => "mounted from another repository",
        Transfer::Present => "already there",
        Transfer::Downloaded => "downloaded",
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::progress::plain::Plain;
    use cofferdam_engine::{Kind, Stream};

    /// What a log in this form says of these events.
    pub fn log(form: impl Form, events: Vec<Event>, outcome: Outcome) -> String {
        let view = LogView::new(Vec::new(), form, Verbosity::Normal);
        events.into_iter().for_each(|event| view.event(event));
        view.finish(outcome);
        String::from_utf8(view.state.into_inner().unwrap().out).unwrap()
    }

    pub fn started(vertex: u32, kind: Kind, name: &str) -> Event {
        Event::Started { vertex: Vertex(vertex), kind, name: name.to_owned() }
    }

    pub fn working(vertex: u32) -> Event {
        Event::Working { vertex: Vertex(vertex) }
    }

    pub fn output(vertex: u32, text: &str) -> Event {
        Event::Output { vertex: Vertex(vertex), stream: Stream::Stdout, bytes: text.as_bytes().to_vec() }
    }

    pub fn finished(vertex: u32, ending: Ending) -> Event {
        Event::Finished { vertex: Vertex(vertex), ending, elapsed: Duration::from_millis(1500) }
    }

    /// A line of output without its time, which no test can know.
    pub fn timeless(line: &str) -> String {
        let is_time = |word: &&str| word.len() > 4 && word.split_once('.').is_some_and(|(_, rest)| rest.len() == 3);
        line.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn output_is_cut_at_newlines_and_the_rest_is_not_lost() {
        let text = log(
            Plain::default(),
            vec![
                started(5, Kind::Step, "[1/1] RUN x"),
                working(5),
                output(5, "one\ntw"),
                output(5, "o\nthree"),
                finished(5, Ending::Done),
            ],
            Outcome::Done,
        );
        let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!(lines[0], "#5 [1/1] RUN x");
        assert!(lines[1].ends_with(" one") && lines[2].ends_with(" two"), "{lines:?}");
        assert_eq!(lines[3..], ["#5 three", "#5 DONE 1.5s"]);
    }

    #[test]
    fn long_transfers_show_a_sign_of_life_and_short_ones_do_not() {
        let digest = Digest::of(b"blob");
        let view = LogView::new(Vec::new(), Plain::default(), Verbosity::Normal);
        let mut state = view.state.into_inner().unwrap();
        let begun = Instant::now();
        state.event(&started(1, Kind::Push, "pushing to x"), begun);
        for second in 0..12 {
            let event =
                Event::Progress { vertex: Vertex(1), digest, done_bytes: second * 1_000_000, total_bytes: 20_000_000 };
            state.event(&event, begun + Duration::from_secs(second));
        }
        let text = String::from_utf8(state.out).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains(&format!("#1 {} 5.0MB / 20.0MB\n", short(&digest))), "{text}");
    }
}
