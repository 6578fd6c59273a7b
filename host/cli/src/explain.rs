//! From the libraries' errors to what a person reads: who is to blame, the exit code, what to do. All of it is in this file.

use std::{error::Error, io};

use cofferdam_engine::{
    BASE_IMAGE, BuildError, CommandExit, Diagnostic, LayerError, LayerFailure, RegistryError, Severity, Span,
    StepError, chain, render, render_place,
};
use cofferdam_image::StoreError;

use crate::{exit::Exit, output::tell, progress::Problem, request::UsageError};

/// A wrong command line.
pub fn usage(message: &impl ToString) -> Exit {
    tell(&format!("error: {}", message.to_string()));
    tell("  try `--help`");
    Exit::Usage
}

/// What the user wrote is wrong, or what it would lead to.
pub fn usage_error(error: &UsageError) -> Exit {
    match error {
        UsageError::Store(error) => store_error(error),
        error => usage(error),
    }
}

/// A task other than a build failed.
pub fn failed(message: &impl ToString) -> Exit {
    tell(&format!("error: {}", message.to_string()));
    Exit::Failed
}

/// The store can't be where it would be.
pub fn store_error(error: &StoreError) -> Exit {
    tell(&format!("error: {}", chain(error)));
    remedy(remedy_of(error, Place::Store));
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
        BuildError::Step { source: StepError::Input(inner), .. } => return build_error(inner),
        BuildError::Step { title, file, text, span, source } => {
            let finding = step_finding(title, *span, source);
            tell(&render_place(finding.span.unwrap_or(*span), file, text));
            tell(&format!("error: {}", one_line(title, source)));
            for hint in step_hints(source) {
                tell(&format!("  {hint}"));
            }
            remedy(remedy_of(source, Place::Store));
        }
        BuildError::Source { file, text, span, source, .. } => {
            if let Some(span) = span {
                tell(&render_place(*span, file, text));
            }
            tell(&format!("error: {}", chain(error)));
            remedy(source.remedy().or_else(|| remedy_of(error, Place::Store)));
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
            remedy(remedy_of(source, Place::Store));
            tell("  no tag was moved to an incomplete image");
        }
        BuildError::Foreign { platform, remedy: text, .. } => {
            tell(&format!("error: {}", chain(error)));
            remedy(Some(text));
            remedy(Some(format!(
                "or compile for {platform} on this machine: a stage that starts with `FROM --platform=$BUILDPLATFORM` runs \
                 here, and `ARG TARGETARCH` tells it what to compile for"
            )));
        }
        BuildError::Refused { policy, reason, help } => {
            tell(&format!("error: the tagging policy `{policy}` refuses: {reason}"));
            remedy(help.clone());
        }
        BuildError::Output { .. } => {
            tell(&format!("error: {}", chain(error)));
            remedy(remedy_of(error, Place::Elsewhere));
        }
        other => {
            tell(&format!("error: {}", chain(other)));
            remedy(remedy_of(other, Place::Store));
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
            vec![Problem::of(&step_finding(title, *span, source), file)]
        }
        BuildError::Source { file, span, .. } => {
            let finding = Diagnostic {
                severity: Severity::Error,
                code: BASE_IMAGE.to_owned(),
                message: chain(error),
                span: *span,
                help: None,
            };
            vec![Problem::of(&finding, file)]
        }
        BuildError::Stage { source, .. } => problems(source),
        _ => Vec::new(),
    }
}

/// A failed step as a finding about the Dockerfile.
fn step_finding(title: &str, span: Span, source: &StepError) -> Diagnostic {
    match source {
        StepError::Finding(finding) => Diagnostic { span: finding.span.or(Some(span)), ..finding.clone() },
        other => Diagnostic {
            severity: Severity::Error,
            code: "StepFailed".to_owned(),
            message: one_line(title, other),
            span: Some(span),
            help: None,
        },
    }
}

fn one_line(title: &str, source: &StepError) -> String {
    format!("`{title}` failed: {}", chain(source))
}

fn remedy(text: Option<impl AsRef<str>>) {
    if let Some(text) = text {
        tell(&format!("  {}", text.as_ref()));
    }
}

/// Where something could not be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Store,
    Elsewhere,
}

/// What to do about the first cause that tells: a full disk before everything that it led to.
fn remedy_of(error: &(dyn Error + 'static), place: Place) -> Option<String> {
    let causes = causes(error);
    let machine = causes.iter().find_map(|cause| machine_remedy(cause.downcast_ref::<io::Error>()?.kind(), place));
    machine.or_else(|| causes.iter().find_map(|cause| library_remedy(*cause)))
}

/// An error and its causes. `source` passes over some: what an `io::Error` was made from, and what is told as it is.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        next = hidden(cause).or_else(|| cause.source());
    }
    causes
}

fn hidden<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    }
    if let Some(error) = error.downcast_ref::<BuildError>() {
        return Some(match error {
            BuildError::Store(inner) => inner,
            BuildError::Layer(inner) => inner,
            BuildError::Rootfs(inner) => inner,
            _ => return None,
        });
    }
    if let Some(error) = error.downcast_ref::<StepError>() {
        return Some(match error {
            StepError::Store(inner) => inner,
            StepError::Layer(inner) => inner,
            StepError::Rootfs(inner) => inner,
            StepError::Exec(inner) => inner,
            _ => return None,
        });
    }
    if let Some(error) = error.downcast_ref::<LayerFailure>() {
        return Some(match error {
            LayerFailure::Store(inner) => inner,
            LayerFailure::Registry(inner) => inner,
            LayerFailure::Bucket(inner) => inner,
            LayerFailure::Rootfs(inner) => inner,
            LayerFailure::Layer { .. } => return None,
        });
    }
    None
}

fn machine_remedy(kind: io::ErrorKind, place: Place) -> Option<String> {
    let elsewhere = match place {
        Place::Store => "choose another place with `--store` or COFFERDAM_STORE",
        Place::Elsewhere => "write to another place",
    };
    Some(match kind {
        io::ErrorKind::StorageFull => format!("the disk is full: free some space, or {elsewhere}"),
        io::ErrorKind::QuotaExceeded => format!("this user's quota is used up: free some space, or {elsewhere}"),
        io::ErrorKind::ReadOnlyFilesystem => format!("it can only be read there: {elsewhere}"),
        io::ErrorKind::FileTooLarge => format!("files of this size are not allowed there (`ulimit -f`): {elsewhere}"),
        _ => return None,
    })
}

const DAMAGED_LAYER: &str = "the image's layer is damaged, or was made to do harm: nothing of it was used";

fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

fn library_remedy(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<RegistryError>() {
        return error.remedy();
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return error.remedy().map(str::to_owned);
    }
    match cause.downcast_ref::<LayerError>()? {
        LayerError::Limit { what, .. } if what.starts_with("uncompressed bytes") => {
            Some("it may be a bomb; if you trust the image, allow more with `--layer-limit SIZE`".to_owned())
        }
        // Of bytes that arrived as they were sent, and yet can't be decompressed.
        LayerError::Read(source) if is_damage(source) => Some(DAMAGED_LAYER.to_owned()),
        LayerError::Read(_)
        | LayerError::SourceSize { .. }
        | LayerError::SourceRead { .. }
        | LayerError::Sink { .. } => None,
        LayerError::Write(_) | LayerError::Source { .. } | LayerError::ReservedName(_) => None,
        _ => Some(DAMAGED_LAYER.to_owned()),
    }
}

fn step_hints(source: &StepError) -> Vec<String> {
    match source {
        StepError::Command { notes, disk_is_full, .. } => {
            let full = disk_is_full.then(|| machine_remedy(io::ErrorKind::StorageFull, Place::Store)).flatten();
            notes.iter().map(ToString::to_string).chain(full).collect()
        }
        StepError::Finding(finding) => finding.help.clone().into_iter().collect(),
        // What the policy withholds was told when the plugin was loaded, or stands in the message.
        StepError::Denied { plugin, capability, .. } if capability != "network" => {
            vec![format!("`{plugin}` has to declare it, in its manifest or when it plans the step: tell its author")]
        }
        _ => Vec::new(),
    }
}
