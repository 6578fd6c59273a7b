//! Logs with sections that can be folded, one for each step that is carried out.
//!
//! Sections of GitLab and groups of GitHub can't overlap. So one section is open at a time: that of the step that began first
//! shows its lines as they come, what other steps say meanwhile is kept, and follows when it ends: ended steps as a whole,
//! folded; then the next that still runs becomes the one that shows its lines. What is not a step (look-ups, transfers) has no
//! section: its few lines stand between the sections.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use cofferdam_engine::{Kind, Vertex};

use super::{board::Unit, log::Form, problem::Problem};

/// Of a step that can't be shown yet, no more is kept than this, in bytes: the end of what it said.
const KEPT_BYTES: usize = 1 << 20;

/// What opens and closes a section. Titles are one line, cleaned.
pub trait Marks: Send {
    /// Opens the section of a number, which began at a Unix time; ends with a newline.
    fn open(&self, number: u32, unix: u64, folded: bool, title: &str) -> String;
    /// Closes it; what follows may stand on the same line.
    fn close(&self, number: u32, unix: u64) -> String;
    /// A finding; ends with a newline.
    fn problem(&self, problem: &Problem) -> String;
}

/// Lines in sections.
pub struct Sections<M> {
    marks: M,
    open: Option<Vertex>,
    steps: BTreeMap<Vertex, Step>,
    /// Steps that wait for the open section to be closed, in the order in which they were begun to be carried out.
    waiting: VecDeque<Vertex>,
    /// Lines of what has no section, that wait for it too.
    held: Vec<String>,
}

struct Step {
    title: String,
    begun: u64,
    titled: bool,
    working: bool,
    lines: VecDeque<String>,
    bytes: usize,
    left_out: usize,
    ended: Option<(String, u64)>,
}

impl<M: Marks> Sections<M> {
    /// Nothing is open.
    pub fn new(marks: M) -> Self {
        Self { marks, open: None, steps: BTreeMap::new(), waiting: VecDeque::new(), held: Vec::new() }
    }

    /// A line outside of sections.
    fn put(&mut self, out: &mut dyn Write, text: String) {
        match self.open {
            None => drop(writeln!(out, "{text}")),
            Some(_) => self.held.push(text),
        }
    }

    /// Opens the section of a step; a step that ended is shown as a whole.
    fn show(&mut self, out: &mut dyn Write, vertex: Vertex) {
        let Some(step) = self.steps.get_mut(&vertex) else { return };
        let ended = step.ended.take();
        // A failed step's lines are what one looks for.
        let folded = ended.as_ref().is_some_and(|(text, _)| !text.contains("ERROR"));
        let _ = write!(out, "{}", self.marks.open(vertex.0, step.begun, folded, &step.title));
        if step.left_out > 0 {
            let _ = writeln!(out, "#{} … {} bytes are left out", vertex.0, step.left_out);
        }
        step.lines.drain(..).for_each(|line| drop(writeln!(out, "{line}")));
        step.bytes = 0;
        match ended {
            Some((text, unix)) => {
                let _ = writeln!(out, "{}{text}", self.marks.close(vertex.0, unix));
                self.steps.remove(&vertex);
            }
            None => self.open = Some(vertex),
        }
    }

    /// No section is open: what waited is shown.
    fn settle(&mut self, out: &mut dyn Write) {
        self.held.drain(..).for_each(|line| drop(writeln!(out, "{line}")));
        let steps = &self.steps;
        let is_over = |vertex: &Vertex| steps.get(vertex).is_none_or(|step| step.ended.is_some());
        let (over, running): (VecDeque<Vertex>, VecDeque<Vertex>) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_over);
        self.waiting = running;
        over.into_iter().for_each(|vertex| self.show(out, vertex));
        if let Some(next) = self.waiting.pop_front() {
            self.show(out, next);
        }
    }
}

impl<M: Marks> Form for Sections<M> {
    fn begin(&mut self, out: &mut dyn Write, unit: &Unit) {
        let title = format!("#{} {}", unit.vertex.0, unit.name);
        if unit.kind != Kind::Step {
            return self.put(out, title);
        }
        let step = Step {
            title,
            begun: unix(),
            titled: false,
            working: false,
            lines: VecDeque::new(),
            bytes: 0,
            left_out: 0,
            ended: None,
        };
        self.steps.insert(unit.vertex, step);
    }

    fn working(&mut self, out: &mut dyn Write, vertex: Vertex) {
        let Some(step) = self.steps.get_mut(&vertex) else { return };
        step.working = true;
        match self.open {
            None => self.show(out, vertex),
            Some(_) => self.waiting.push_back(vertex),
        }
    }

    fn line(&mut self, out: &mut dyn Write, vertex: Vertex, text: &str) {
        let line = format!("#{} {text}", vertex.0);
        let title = match self.steps.get_mut(&vertex) {
            Some(_) if self.open == Some(vertex) => return drop(writeln!(out, "{line}")),
            Some(step) if step.working => return step.keep(line),
            Some(step) if !step.titled => {
                step.titled = true;
                Some(step.title.clone())
            }
            _ => None,
        };
        title.into_iter().for_each(|title| self.put(out, title));
        self.put(out, line);
    }

    fn end(&mut self, out: &mut dyn Write, vertex: Vertex, text: &str) {
        let line = format!("#{} {text}", vertex.0);
        if self.open == Some(vertex) {
            let _ = writeln!(out, "{}{line}", self.marks.close(vertex.0, unix()));
            self.open = None;
            self.steps.remove(&vertex);
            return self.settle(out);
        }
        match self.steps.get_mut(&vertex) {
            Some(step) if step.working => step.ended = Some((line, unix())),
            _ => {
                self.line(out, vertex, text);
                self.steps.remove(&vertex);
            }
        }
    }

    fn aside(&mut self, out: &mut dyn Write, text: &str) {
        self.put(out, text.to_owned());
    }

    fn problem(&mut self, out: &mut dyn Write, problem: &Problem) {
        let text = self.marks.problem(problem);
        self.put(out, text.trim_end_matches('\n').to_owned());
    }

    fn close(&mut self, out: &mut dyn Write) {
        while let Some(vertex) = self.open.take() {
            let _ = writeln!(out, "{}#{} STOPPED", self.marks.close(vertex.0, unix()), vertex.0);
            self.settle(out);
        }
    }
}

impl Step {
    fn keep(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > KEPT_BYTES
            && let Some(line) = self.lines.pop_front()
        {
            self.bytes -= line.len();
            self.left_out += line.len();
        }
    }
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{
        Outcome,
        log::tests::{finished, log, output, started, timeless, working},
    };
    use cofferdam_engine::{Ending, Event};

    struct Brackets;

    impl Marks for Brackets {
        fn open(&self, _: u32, _: u64, folded: bool, title: &str) -> String {
            format!("{{{} {title}\n", if folded { "folded" } else { "open" })
        }

        fn close(&self, number: u32, _: u64) -> String {
            format!("}} {number} ")
        }

        fn problem(&self, problem: &Problem) -> String {
            format!("problem {}\n", problem.message)
        }
    }

    fn lines(events: Vec<Event>, outcome: Outcome) -> Vec<String> {
        let text = log(Sections::new(Brackets), events, outcome);
        text.lines().map(timeless).take_while(|line| !line.is_empty()).collect()
    }

    #[test]
    fn only_what_is_carried_out_has_a_section() {
        let lines = lines(
            vec![
                started(1, Kind::LookUp, "looking up x"),
                finished(1, Ending::Done),
                started(2, Kind::Step, "[1/3] FROM x"),
                Event::Note { vertex: Vertex(2), text: "sha256:1".to_owned() },
                finished(2, Ending::Done),
                started(3, Kind::Step, "[2/3] RUN a"),
                finished(3, Ending::Cached),
                started(4, Kind::Step, "[3/3] RUN b"),
                working(4),
                output(4, "b\n"),
                finished(4, Ending::Done),
            ],
            Outcome::Done,
        );
        let expected = [
            "#1 looking up x",
            "#1 DONE 1.5s",
            "#2 [1/3] FROM x",
            "#2 sha256:1",
            "#2 DONE 1.5s",
            "#3 [2/3] RUN a",
            "#3 CACHED",
            "{open #4 [3/3] RUN b",
            "#4 b",
            "} 4 #4 DONE 1.5s",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn sections_of_steps_that_run_at_once_do_not_overlap() {
        let lines = lines(
            vec![
                started(1, Kind::Step, "[a 2/2] RUN a"),
                working(1),
                started(2, Kind::Step, "[b 2/2] RUN b"),
                working(2),
                started(3, Kind::Step, "[c 2/2] RUN c"),
                working(3),
                output(2, "b\n"),
                started(4, Kind::Push, "pushing to x"),
                output(3, "c1\n"),
                output(1, "a\n"),
                finished(2, Ending::Done),
                finished(1, Ending::Done),
                output(3, "c2\n"),
                finished(4, Ending::Done),
                finished(3, Ending::Failed("no".to_owned())),
            ],
            Outcome::Failed,
        );
        let expected = [
            "{open #1 [a 2/2] RUN a",
            "#1 a",
            "} 1 #1 DONE 1.5s",
            "#4 pushing to x",
            "{folded #2 [b 2/2] RUN b",
            "#2 b",
            "} 2 #2 DONE 1.5s",
            "{open #3 [c 2/2] RUN c",
            "#3 c1",
            "#3 c2",
            "} 3 #3 ERROR: no",
            "#4 DONE 1.5s",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn an_interrupted_build_leaves_no_section_open() {
        let lines = lines(
            vec![
                started(1, Kind::Step, "[a 2/2] RUN a"),
                working(1),
                started(2, Kind::Step, "[b 2/2] RUN b"),
                working(2),
                output(2, "b\n"),
            ],
            Outcome::Interrupted,
        );
        assert_eq!(lines.iter().filter(|line| line.starts_with('{')).count(), 2, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with('}')).count(), 2, "{lines:?}");
    }

    #[test]
    fn what_waits_for_another_step_is_bounded() {
        let mut events = vec![
            started(1, Kind::Step, "[a 2/2] RUN a"),
            working(1),
            started(2, Kind::Step, "[b 2/2] RUN b"),
            working(2),
        ];
        events.extend((0..300).map(|_| output(2, &("x".repeat(10_000) + "\n"))));
        events.extend([output(2, "last\n"), finished(2, Ending::Done), finished(1, Ending::Done)]);
        let text = log(Sections::new(Brackets), events, Outcome::Done);
        assert!(text.len() < KEPT_BYTES * 2 && text.contains("bytes are left out") && text.contains(" last\n"));
    }
}
