//! From the libraries' errors to what a person reads: who is to blame, the exit code, what to do. All of it is in this file.

use cofferdam_engine::{BuildError, CommandExit, Diagnostic, Severity, StepError, chain, render};

use crate::{exit::Exit, output::tell, progress::Problem};

/// A wrong command line.
pub fn usage(message: &impl ToString) -> Exit {
    tell(&format!("error: {}", message.to_string()));
    tell("  try `--help`");
    Exit::Usage
}

/// A task other than a build failed.
pub fn failed(message: &impl ToString) -> Exit {
    tell(&format!("error: {}", message.to_string()));
    Exit::Failed
}

/// A build failed.
pub fn build_error(error: &BuildError) -> Exit {
    match error {
        BuildError::Dockerfile { file, text, diagnostics } => {
            tell(&render(diagnostics, file, text));
            let count = diagnostics.iter().filter(|finding| finding.severity == Severity::Error).count();
            tell(&format!("error: {file} has {count} {}", if count == 1 { "error" } else { "errors" }));
        }
        BuildError::Step { title, file, text, span, source } => {
            let diagnostic = step_diagnostic(title, source);
            let diagnostic = Diagnostic { span: diagnostic.span.or(Some(*span)), ..diagnostic };
            tell(&render(&[diagnostic], file, text));
            tell(&format!("error: {}", one_line(title, source)));
            for hint in step_hints(source) {
                tell(&format!("  {hint}"));
            }
            if let StepError::Input(inner) = source {
                return build_error(inner);
            }
        }
        BuildError::Stage { source, .. } => return build_error(source),
        BuildError::Plugins(errors) => {
            for error in errors {
                tell(&format!("error: {}", chain(error)));
            }
        }
        BuildError::NoExecutor { instruction, findings } => {
            tell(&format!("error: `{instruction}` can't be run here, and nothing was built"));
            for finding in findings.iter().filter(|finding| !finding.works) {
                tell(&format!("  {}: {}", finding.name, finding.why));
                if !finding.remedy.is_empty() {
                    tell(&format!("      {}", finding.remedy));
                }
            }
            tell("  a Dockerfile without RUN builds here; `cofferdam doctor` says more");
        }
        BuildError::Push { destination, source } => {
            tell(&format!("error: pushing to `{destination}` failed: {}", chain(source)));
            remedy(source.remedy());
            tell("  no tag was moved to an incomplete image");
        }
        BuildError::Refused { policy, reason, help } => {
            tell(&format!("error: the tagging policy `{policy}` refuses: {reason}"));
            remedy(help.clone());
        }
        other => {
            tell(&format!("error: {}", chain(other)));
        }
    }
    match error.command_exit() {
        Some(CommandExit::Code(code)) => Exit::Command(u8::try_from(code).unwrap_or(1)),
        Some(CommandExit::Signal(signal)) => Exit::Command(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        None => Exit::Failed,
    }
}

/// A build was interrupted by a signal.
pub fn interrupted(signal: usize) -> Exit {
    tell("error: interrupted; no tag was moved to an incomplete image");
    Exit::Command(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

/// The places in the Dockerfile that a build failed at.
pub fn problems(error: &BuildError) -> Vec<Problem> {
    match error {
        BuildError::Dockerfile { file, diagnostics, .. } => {
            diagnostics.iter().map(|finding| Problem::of(finding, file)).collect()
        }
        BuildError::Step { source: StepError::Input(inner), .. } => problems(inner),
        BuildError::Step { title, file, span, source, .. } => {
            let diagnostic = step_diagnostic(title, source);
            vec![Problem::of(&Diagnostic { span: diagnostic.span.or(Some(*span)), ..diagnostic }, file)]
        }
        BuildError::Stage { source, .. } => problems(source),
        _ => Vec::new(),
    }
}

fn remedy(text: Option<impl AsRef<str>>) {
    if let Some(text) = text {
        tell(&format!("  {}", text.as_ref()));
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
