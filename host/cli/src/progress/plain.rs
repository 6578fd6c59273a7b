//! The form of logs that BuildKit made known: every line begins with the number of its step.

use std::io::Write;

use cofferdam_engine::Vertex;

use super::{board::Unit, log::Form, problem::Problem};

/// `#5 [builder 2/4] RUN make`; lines come when they come, and an empty line sets apart those of different steps.
#[derive(Default)]
pub struct Plain {
    last: Option<Vertex>,
}

impl Form for Plain {
    fn begin(&mut self, out: &mut dyn Write, unit: &Unit) {
        self.line(out, unit.vertex, &unit.name);
    }

    fn working(&mut self, _: &mut dyn Write, _: Vertex) {}

    fn line(&mut self, out: &mut dyn Write, vertex: Vertex, text: &str) {
        if self.last.is_some_and(|last| last != vertex) {
            let _ = writeln!(out);
        }
        self.last = Some(vertex);
        let _ = writeln!(out, "#{} {text}", vertex.0);
    }

    fn end(&mut self, out: &mut dyn Write, vertex: Vertex, text: &str) {
        self.line(out, vertex, text);
    }

    fn aside(&mut self, out: &mut dyn Write, text: &str) {
        let _ = writeln!(out, "{text}");
    }

    fn problem(&mut self, out: &mut dyn Write, problem: &Problem) {
        if !problem.is_annotation_only() {
            problem.lines().iter().for_each(|line| self.aside(out, line));
        }
    }

    fn close(&mut self, _: &mut dyn Write) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{
        Outcome,
        log::tests::{finished, log, output, started, timeless, working},
    };
    use cofferdam_engine::{Ending, Kind};

    #[test]
    fn lines_of_steps_that_run_at_once_keep_their_numbers() {
        let text = log(
            Plain::default(),
            vec![
                started(1, Kind::Step, "[a 1/2] FROM x"),
                finished(1, Ending::Done),
                started(2, Kind::Step, "[a 2/2] RUN one"),
                started(3, Kind::Step, "[b 2/2] RUN two"),
                working(2),
                working(3),
                output(2, "one\n"),
                output(3, "two\n::set-env name=X::y\n\x1b[2J##[add-mask]z\n"),
                finished(2, Ending::Cached),
                finished(3, Ending::Failed("the command\u{1b}[2J ended with code 2".to_owned())),
            ],
            Outcome::Failed,
        );
        let expected = "#1 [a 1/2] FROM x\n#1 DONE 1.5s\n\n#2 [a 2/2] RUN one\n\n#3 [b 2/2] RUN two\n\n#2 one\n\n\
                        #3 two\n#3 ::set-env name=X::y\n#3 ## [add-mask]z\n\n#2 CACHED\n\n\
                        #3 ERROR: the command ended with code 2\n";
        let timeless: String = text.lines().map(|line| timeless(line) + "\n").collect();
        assert!(timeless.starts_with(expected), "{text}");
        assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    }
}
