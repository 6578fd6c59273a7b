//! GitHub's groups and annotations (GitHub documentation, "Workflow commands for GitHub Actions").

use std::path::{Component, Path, PathBuf};

use cofferdam_engine::Severity;

use super::{problem::Problem, sections::Marks, text::clean};

/// Marks of GitHub's.
pub struct GitHub {
    places: Places,
}

/// Where files of messages may lie, to name them as they are named in the repository.
#[derive(Debug, Default)]
pub struct Places {
    /// `GITHUB_WORKSPACE`: the checkout.
    pub workspace: Option<PathBuf>,
    /// What the Dockerfile's name is relative to, in the order in which it is looked for.
    pub directories: Vec<PathBuf>,
}

impl GitHub {
    /// Marks for files in these places.
    pub fn new(places: Places) -> Self {
        Self { places }
    }
}

impl Marks for GitHub {
    fn open(&self, _: u32, _: u64, _: bool, title: &str) -> String {
        format!("::group::{}\n", data(title))
    }

    fn close(&self, _: u32, _: u64) -> String {
        "::endgroup::\n".to_owned()
    }

    fn problem(&self, problem: &Problem) -> String {
        let command = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let mut properties = Vec::new();
        if let Some(file) = self.places.in_repository(&problem.file) {
            properties.push(format!("file={}", property(&file)));
            if let Some((first, last)) = problem.lines {
                properties.push(format!("line={first},endLine={last}"));
            }
        }
        properties.push(format!("title={}", property(&problem.code)));
        format!("::{command} {}::{}\n", properties.join(","), data(&problem.message))
    }
}

impl Places {
    /// The path from the root of the repository; as it is where that is unknown.
    fn in_repository(&self, name: &str) -> Option<String> {
        let candidates = || self.directories.iter().map(|directory| directory.join(name));
        let path = candidates().find(|path| path.is_file()).or_else(|| candidates().next())?;
        let path = plain(&path);
        let inside = self.workspace.as_ref().and_then(|root| path.strip_prefix(plain(root)).ok());
        Some(inside.unwrap_or(&path).to_string_lossy().into_owned())
    }
}

/// Without `.` and `..`, which GitHub does not resolve.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// A command's text (`toolkit`, `escapeData`).
fn data(text: &str) -> String {
    clean(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a command's property (`toolkit`, `escapeProperty`).
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{
        Outcome,
        log::tests::{finished, log, output, started, timeless, working},
        sections::Sections,
    };
    use cofferdam_engine::{Diagnostic, Ending, Kind};

    fn places() -> Places {
        Places { workspace: Some("/w/repo".into()), directories: vec!["/w/repo/app/.".into()] }
    }

    fn problem(severity: Severity, message: &str, file: &str) -> Problem {
        let finding =
            Diagnostic { severity, code: "Some,Code".to_owned(), message: message.to_owned(), span: None, help: None };
        let mut problem = Problem::of(&finding, file);
        problem.lines = Some((3, 4));
        problem
    }

    #[test]
    fn findings_become_annotations_at_their_lines() {
        let marks = GitHub::new(places());
        assert_eq!(
            marks.problem(&problem(Severity::Warning, "100% a: b, c", "../Docker,file")),
            "::warning file=Docker%2Cfile,line=3,endLine=4,title=Some%2CCode::100%25 a: b, c\n"
        );
        let error = marks.problem(&problem(Severity::Error, "one\ntwo\r::set-env::x", "/else/where"));
        assert_eq!(error, "::error file=/else/where,line=3,endLine=4,title=Some%2CCode::one two::set-env::x\n");
        let nowhere = GitHub::new(Places::default());
        assert_eq!(nowhere.problem(&problem(Severity::Note, "x", "-")), "::notice title=Some%2CCode::x\n");
    }

    #[test]
    fn a_command_can_not_give_commands_to_the_runner() {
        let hostile =
            "::set-env name=PATH::/evil\n  ::endgroup::\n\x1b[m::add-mask::x\n##[add-path]/evil\nx##[error]y\n";
        let text = log(
            Sections::new(GitHub::new(places())),
            vec![
                started(1, Kind::Step, "[1/1] RUN echo 100%\n::error::x"),
                working(1),
                output(1, hostile),
                finished(1, Ending::Failed("no\n::stop-commands::x".to_owned())),
            ],
            Outcome::Failed,
        );
        let commands: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("::")).collect();
        assert_eq!(commands, ["::group::#1 [1/1] RUN echo 100%25 ::error::x", "::endgroup::"], "{text}");
        assert!(!text.contains("##["), "{text}");
        assert!(text.lines().any(|line| timeless(line) == "#1 ::set-env name=PATH::/evil"), "{text}");
    }
}
