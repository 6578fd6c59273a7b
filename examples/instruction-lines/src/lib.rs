//! `COUNT_LINES PATTERN… DESTINATION` writes how many lines the matching files of the build context have.
//!
//! The three functions of a handler: `check` finds mistakes before anything runs, `plan` says what the step reads, and
//! `apply` does it. The files that `plan` declared are in `/context`, so `std::fs` reads them; everything else of the
//! context is not there. The result goes into the image through the `rootfs` handle, the only way to write anything.

mod count;

wit_bindgen::generate!({
    path: ["wit/types", "wit/fs", "wit/instruction"],
    world: "cofferdam:instruction/instruction",
    generate_all,
});

use cofferdam::{
    fs::{
        execution::Executor,
        model::{Attributes, Owner},
        root::Rootfs,
        trees::Tree,
    },
    instruction::steps::{Effect, Error, Planned, Read, Step, TreeRead, TreeSource},
    types::diagnostics::{Diagnostic, Severity},
};
use exports::cofferdam::instruction::handler::Guest;

struct CountLines;

#[cfg(target_arch = "wasm32")]
export!(CountLines);

impl Guest for CountLines {
    fn check(step: Step) -> Vec<Diagnostic> {
        let mut findings: Vec<Diagnostic> = step
            .flags
            .iter()
            .map(|flag| Diagnostic {
                span: Some(flag.span),
                ..error(format!("`--{}` is not a flag of `COUNT_LINES`", flag.name))
            })
            .collect();
        if step.arguments.words.len() < 2 {
            findings.push(Diagnostic {
                help: Some("write `COUNT_LINES PATTERN… DESTINATION`".to_owned()),
                ..error("`COUNT_LINES` needs a pattern and a destination".to_owned())
            });
        }
        findings
    }

    fn plan(step: Step) -> Result<Planned, Error> {
        let (patterns, _) = arguments(&step)?;
        let patterns = patterns.iter().map(|pattern| pattern.clone().into_bytes()).collect();
        // What is declared here is what the cache key covers, and what `apply` finds in /context.
        let read = Read::Tree(TreeRead { source: TreeSource::Context, patterns, exclude: Vec::new() });
        Ok(Planned { reads: vec![read], changes: Vec::new(), effect: Effect::RootFileSystem })
    }

    fn apply(
        step: Step,
        rootfs: &Rootfs,
        _trees: Vec<Tree>,
        _executor: Option<&Executor>,
    ) -> Result<Vec<Diagnostic>, Error> {
        let (_, destination) = arguments(&step)?;
        let files = count::files(std::path::Path::new("/context"))
            .map_err(|problem| Error::Invalid(error(format!("the context can't be read: {problem}"))))?;
        let path = count::resolve(&step.state.working_directory, destination);
        let attributes = Attributes { mode: 0o644, owner: Owner { uid: 0, gid: 0 }, mtime: None };
        let writer = rootfs.put_file(path.as_bytes(), attributes).map_err(failed)?;
        writer.write(count::report(&files).as_bytes()).map_err(failed)?;
        writer.finish().map_err(failed)?;
        if files.is_empty() {
            return Ok(vec![Diagnostic {
                severity: Severity::Warning,
                ..error("no file of the context matches; the result says 0".to_owned())
            }]);
        }
        Ok(Vec::new())
    }
}

/// The patterns and the destination.
fn arguments(step: &Step) -> Result<(&[String], &str), Error> {
    match step.arguments.words.as_slice() {
        [patterns @ .., destination] if !patterns.is_empty() && step.flags.is_empty() => Ok((patterns, destination)),
        _ => Err(Error::Invalid(CountLines::check(step.clone()).remove(0))),
    }
}

fn error(message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Error, code: "CountLines".to_owned(), message, span: None, help: None }
}

/// A failure of the host keeps its kind where the kinds have the same meaning.
fn failed(problem: cofferdam::fs::model::Error) -> Error {
    use cofferdam::fs::model::Error as Fs;
    match problem {
        Fs::Denied(denial) => Error::Denied(denial),
        Fs::Invalid(finding) => Error::Invalid(finding),
        Fs::Unsupported(finding) => Error::Unsupported(finding),
        other => Error::Invalid(error(format!("the result can't be written: {other:?}"))),
    }
}
