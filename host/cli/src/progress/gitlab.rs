//! GitLab's collapsible sections (GitLab documentation, "Job logs", "Custom collapsible sections").

use super::{problem::Problem, sections::Marks};

/// Marks of GitLab's.
pub struct GitLab {
    prefix: String,
}

impl GitLab {
    /// Names of sections are unique in a job, and a job may build several images: `prefix` tells them apart. Letters, digits,
    /// and `_`, `.`, `-`.
    pub fn new(prefix: String) -> Self {
        Self { prefix }
    }
}

impl Marks for GitLab {
    fn open(&self, number: u32, unix: u64, folded: bool, title: &str) -> String {
        let options = if folded { "[collapsed=true]" } else { "" };
        format!("\x1b[0Ksection_start:{unix}:{}_{number}{options}\r\x1b[0K{title}\n", self.prefix)
    }

    fn close(&self, number: u32, unix: u64) -> String {
        format!("\x1b[0Ksection_end:{unix}:{}_{number}\r\x1b[0K", self.prefix)
    }

    fn problem(&self, problem: &Problem) -> String {
        match problem.is_annotation_only() {
            true => String::new(),
            false => problem.lines().join("\n") + "\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{
        Outcome,
        log::tests::{finished, log, output, started, working},
        sections::Sections,
    };
    use cofferdam_engine::{Ending, Kind};

    #[test]
    fn sections_are_marked_as_gitlab_reads_them() {
        let marks = GitLab::new("cofferdam_7".to_owned());
        assert_eq!(
            marks.open(5, 1_764_050_000, true, "#5 [2/2] RUN make"),
            "\x1b[0Ksection_start:1764050000:cofferdam_7_5[collapsed=true]\r\x1b[0K#5 [2/2] RUN make\n"
        );
        assert_eq!(marks.close(5, 1_764_050_009), "\x1b[0Ksection_end:1764050009:cofferdam_7_5\r\x1b[0K");
    }

    #[test]
    fn a_command_can_neither_close_its_section_nor_open_another() {
        let hostile = "\x1b[0Ksection_end:1:cofferdam_7_1\r\x1b[0K\n\x1b[0Ksection_start:1:x\r\x1b[0Khidden\n";
        let text = log(
            Sections::new(GitLab::new("cofferdam_7".to_owned())),
            vec![
                started(1, Kind::Step, "[1/1] RUN \x1b[0Ksection_end:1:cofferdam_7_1\r\x1b[0K"),
                working(1),
                output(1, hostile),
                finished(1, Ending::Done),
            ],
            Outcome::Done,
        );
        // GitLab reads `section_(start|end):TIME:NAME[OPTIONS]`, CR, ESC `[0K`.
        assert_eq!(text.matches('\r').count(), 2, "{text:?}");
        assert_eq!(text.matches('\u{1b}').count(), 4, "{text:?}");
    }
}
