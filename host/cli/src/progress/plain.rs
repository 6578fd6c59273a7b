//! Lines for logs, in the form that users of Docker know: `#5 [builder 2/4] RUN make`.

use std::{collections::BTreeMap, io::Write, sync::Mutex, time::Instant};

use cofferdam_engine::{Ending, Event, Observer, Transfer, Vertex};

use super::{bytes, short};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing but errors.
    Quiet,
    /// Steps, output of commands, transfers.
    Normal,
}

/// Writes plain lines.
pub struct PlainProgress<W> {
    verbosity: Verbosity,
    state: Mutex<State<W>>,
}

struct State<W> {
    out: W,
    /// For each running command, what it wrote after its last newline, and when it began.
    running: BTreeMap<Vertex, (Vec<u8>, Instant)>,
    last: Option<Vertex>,
}

/// The longest line of a command's output that is held back for its end, in bytes.
const LINE_LIMIT: usize = 16 << 10;

impl<W: Write + Send> PlainProgress<W> {
    /// Writes to `out`.
    pub fn new(out: W, verbosity: Verbosity) -> Self {
        Self { verbosity, state: Mutex::new(State { out, running: BTreeMap::new(), last: None }) }
    }
}

impl<W: Write + Send> Observer for PlainProgress<W> {
    fn event(&self, event: Event) {
        let warning = matches!(event, Event::Warning { .. } | Event::Warnings { .. });
        if self.verbosity == Verbosity::Quiet && !warning {
            return;
        }
        // A panic of another thread while it wrote a line must not end the talk.
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.event(event);
    }
}

impl<W: Write> State<W> {
    fn line(&mut self, vertex: Vertex, text: &str) {
        // Blocks of different steps are kept apart by an empty line, as in Docker's logs.
        if self.last.is_some_and(|last| last != vertex) {
            let _ = writeln!(self.out);
        }
        self.last = Some(vertex);
        let _ = writeln!(self.out, "#{} {}", vertex.0, text);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Started { vertex, name } => {
                self.running.insert(vertex, (Vec::new(), Instant::now()));
                self.line(vertex, &name);
            }
            Event::Output { vertex, bytes, .. } => self.output(vertex, &bytes),
            Event::Note { vertex, text } => self.line(vertex, &text),
            Event::Layer { vertex, digest, size_bytes } => {
                self.line(vertex, &format!("layer {} {}", short(&digest), bytes(size_bytes)));
            }
            Event::Progress { .. } => {}
            Event::Transferred { vertex, digest, size_bytes, transfer } => {
                let what = match transfer {
                    Transfer::Uploaded => "uploaded",
                    Transfer::Mounted => "mounted from another repository",
                    Transfer::Present => "already there",
                    Transfer::Downloaded => "downloaded",
                };
                self.line(vertex, &format!("{} {} {what}", short(&digest), bytes(size_bytes)));
            }
            Event::Finished { vertex, ending, elapsed } => {
                if let Some((rest, _)) = self.running.remove(&vertex)
                    && !rest.is_empty()
                {
                    self.output_line(vertex, None, &rest);
                }
                match ending {
                    Ending::Done => self.line(vertex, &format!("DONE {:.1}s", elapsed.as_secs_f64())),
                    Ending::Cached => self.line(vertex, "CACHED"),
                    Ending::Failed(reason) => self.line(vertex, &format!("ERROR: {reason}")),
                }
            }
            Event::Warnings { .. } => {}
            Event::Warning { text } => {
                let _ = writeln!(self.out, "warning: {text}");
            }
        }
        let _ = self.out.flush();
    }

    fn output(&mut self, vertex: Vertex, bytes: &[u8]) {
        let Some((held, begun)) = self.running.get_mut(&vertex) else { return };
        held.extend_from_slice(bytes);
        let seconds = begun.elapsed().as_secs_f64();
        let mut text = std::mem::take(held);
        let mut start = 0;
        while let Some(end) = text[start..].iter().position(|byte| *byte == b'\n') {
            self.output_line(vertex, Some(seconds), &text[start..start + end]);
            start += end + 1;
        }
        text.drain(..start);
        if text.len() > LINE_LIMIT {
            self.output_line(vertex, Some(seconds), &text);
            text.clear();
        }
        if let Some((held, _)) = self.running.get_mut(&vertex) {
            *held = text;
        }
    }

    fn output_line(&mut self, vertex: Vertex, seconds: Option<f64>, line: &[u8]) {
        let text = printable(line);
        match seconds {
            Some(seconds) => self.line(vertex, &format!("{seconds:.3} {text}")),
            None => self.line(vertex, &text),
        }
    }
}

/// A line of a command's output without what would move a cursor: a log stays a log. Of a line that overwrites itself
/// with carriage returns, the last state is shown.
fn printable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line);
    let text = String::from_utf8_lossy(last);
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                // An escape sequence: a control sequence ends with a letter; everything else is one character more.
                if characters.peek() == Some(&'[') {
                    characters.next();
                    while characters.next().is_some_and(|next| !next.is_ascii_alphabetic()) {}
                } else {
                    characters.next();
                }
            }
            '\t' => out.push('\t'),
            other if other.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_engine::Stream;
    use std::time::Duration;

    fn lines(events: Vec<Event>) -> Vec<String> {
        let progress = PlainProgress::new(Vec::new(), Verbosity::Normal);
        events.into_iter().for_each(|event| progress.event(event));
        let out = progress.state.into_inner().unwrap().out;
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn output_is_cut_at_newlines_and_the_rest_is_not_lost() {
        let vertex = Vertex(5);
        let output = |text: &str| Event::Output { vertex, stream: Stream::Stdout, bytes: text.as_bytes().to_vec() };
        let lines = lines(vec![
            Event::Started { vertex, name: "[1/1] RUN x".to_owned() },
            output("one\ntw"),
            output("o\nthree"),
            Event::Finished { vertex, ending: Ending::Done, elapsed: Duration::from_millis(1500) },
        ]);
        assert_eq!(lines[0], "#5 [1/1] RUN x");
        assert!(lines[1].ends_with(" one") && lines[2].ends_with(" two"), "{lines:?}");
        assert_eq!(lines[3..], ["#5 three", "#5 DONE 1.5s"]);
    }

    #[test]
    fn escape_sequences_and_carriage_returns_do_not_reach_the_log() {
        assert_eq!(printable(b"\x1b[31mred\x1b[0m \x1b]x"), "red x".to_owned());
        assert_eq!(printable(b"10%\r20%\r"), "20%");
    }
}
