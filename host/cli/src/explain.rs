//! From the libraries' errors to what a person reads: who is to blame, the exit code, what to do. All of it is in this file.

use cofferdam_engine::{BuildError, CommandExit, Diagnostic, Severity, StepError, chain, render};

use crate::exit::Exit;

/// A wrong command line.
pub fn usage(message: &impl ToString) -> Exit {
    eprintln!("error: {}", message.to_string());
    eprintln!("  try `--help`");
    Exit::Usage
}

/// A task other than a build failed.
pub fn failed(message: &impl ToString) -> Exit {
    eprintln!("error: {}", message.to_string());
    Exit::Failed
}

/// A build failed.
pub fn build_error(error: &BuildError) -> Exit {
    match error {
        BuildError::Dockerfile { file, text, diagnostics } => {
            eprint!("{}", render(diagnostics, file, text));
            let count = diagnostics.iter().filter(|finding| finding.severity == Severity::Error).count();
            eprintln!("error: {file} has {count} {}", if count == 1 { "error" } else { "errors" });
        }
        BuildError::Step { title, file, text, span, source } => {
            let diagnostic = step_diagnostic(title, source);
            let diagnostic = Diagnostic { span: diagnostic.span.or(Some(*span)), ..diagnostic };
            eprint!("{}", render(&[diagnostic], file, text));
            eprintln!("error: {}", one_line(title, source));
            for hint in step_hints(source) {
                eprintln!("  {hint}");
            }
            if let StepError::Input(inner) = source {
                return build_error(inner);
            }
        }
        BuildError::Stage { source, .. } => return build_error(source),
        BuildError::Plugins(errors) => {
            for error in errors {
                eprintln!("error: {}", chain(error));
            }
        }
        BuildError::NoExecutor { instruction, findings } => {
            eprintln!("error: `{instruction}` can't be run here, and nothing was built");
            for finding in findings.iter().filter(|finding| !finding.works) {
                eprintln!("  {}: {}", finding.name, finding.why);
                if !finding.remedy.is_empty() {
                    eprintln!("      {}", finding.remedy);
                }
            }
            eprintln!("  a Dockerfile without RUN builds here; `cofferdam doctor` says more");
        }
        BuildError::Push { destination, source } => {
            eprintln!("error: pushing to `{destination}` failed: {}", chain(source));
            remedy(source.remedy());
            eprintln!("  no tag was moved to an incomplete image");
        }
        BuildError::Refused { policy, reason, help } => {
            eprintln!("error: the tagging policy `{policy}` refuses: {reason}");
            remedy(help.clone());
        }
        other => {
            eprintln!("error: {}", chain(other));
        }
    }
    match error.command_exit() {
        Some(CommandExit::Code(code)) => Exit::Command(u8::try_from(code).unwrap_or(1)),
        Some(CommandExit::Signal(signal)) => Exit::Command(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        None => Exit::Failed,
    }
}

fn remedy(text: Option<impl AsRef<str>>) {
    if let Some(text) = text {
        eprintln!("  {}", text.as_ref());
    }
}

fn step_diagnostic(title: &str, source: &StepError) -> Diagnostic {
    match source {
        StepError::Finding(finding) => finding.clone(),
        other => Diagnostic {
            severity: Severity::Error,
            code: "StepFailed".to_owned(),
            message: one_line(title, other),
            span: None,
            help: None,
        },
    }
}

fn one_line(title: &str, source: &StepError) -> String {
    format!("`{title}` failed: {}", chain(source))
}

fn step_hints(source: &StepError) -> Vec<String> {
    match source {
        StepError::Command { notes, .. } => notes.iter().map(ToString::to_string).collect(),
        StepError::Finding(finding) => finding.help.clone().into_iter().collect(),
        StepError::Denied { plugin, capability, .. } => {
            vec![format!("the operator's policy can allow it: [plugins.{plugin}] allow = [\"{capability}\"]")]
        }
        _ => Vec::new(),
    }
}
