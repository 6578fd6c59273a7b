//! From an instruction's text to a step: the arguments taken apart, variables expanded, state limited to what is seen.

use cofferdam_dockerfile::{Diagnostic, Instruction, Severity, Span, expand::Expander};

use crate::{
    Config, Platform, Scope,
    step::{Arguments, HandlerFacts, KeyValue, State, StateField, Step, StepFlag, StepHeredoc, Syntax},
};

/// Flags whose values are taken as they are: the graph of stages must not depend on what is known only while it is
/// walked (BuildKit decides the same).
const UNEXPANDED_FLAGS: [&str; 1] = ["from"];

/// Flags whose values are `KEY=VALUE` fields: each value is expanded for itself, and a key that is an unexpanded flag's
/// name is treated like that flag.
const FIELD_FLAGS: [&str; 1] = ["mount"];

/// Longer titles are cut in progress, in characters.
const TITLE_LIMIT: usize = 200;

type Findings = Vec<Diagnostic>;

/// The instruction on one line, for people.
pub(crate) fn title(instruction: &Instruction) -> String {
    let line: String = instruction.original.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TITLE_LIMIT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Expands a text as one word.
pub(crate) fn expand(text: &str, escape: char, scope: &Scope, span: Span) -> Result<String, Findings> {
    let lookup = |name: &str| scope.lookup(name).map(str::to_owned);
    Expander::new(escape).word(text, &lookup).map_err(|error| vec![failed(error.to_string(), span)])
}

/// The variables that ARG declares, defaults expanded.
pub(crate) fn arguments(instruction: &Instruction, scope: &Scope) -> Result<Vec<(String, Option<String>)>, Findings> {
    let mut findings = Vec::new();
    let mut declared = Vec::new();
    // A later declaration of the same line sees the earlier ones.
    let mut scope = scope.clone();
    for declaration in instruction.arg_declarations()? {
        let name = expand(&declaration.name, instruction.escape, &scope, declaration.span);
        let default = declaration.default.map(|text| expand(&text, instruction.escape, &scope, declaration.span));
        match (name, default.transpose()) {
            (Ok(name), Ok(default)) => {
                if let Some(default) = &default {
                    scope.assume(&name, default);
                }
                declared.push((name, default));
            }
            (name, default) => findings.extend(name.err().into_iter().chain(default.err()).flatten()),
        }
    }
    if findings.is_empty() { Ok(declared) } else { Err(findings) }
}

/// A trigger of a base image as instructions; findings are placed at the FROM.
pub(crate) fn trigger(text: &str, span: Span) -> Result<Vec<Instruction>, Findings> {
    let parsed = cofferdam_dockerfile::parse(text.as_bytes());
    let banned =
        parsed.instructions.iter().find(|one| matches!(one.keyword.as_str(), "FROM" | "ONBUILD" | "MAINTAINER"));
    let mut findings: Findings = parsed
        .diagnostics
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| Diagnostic {
            message: format!("trigger `{text}` of the base image: {}", finding.message),
            span: Some(span),
            ..finding
        })
        .collect();
    if let Some(banned) = banned {
        let message = format!("{} is not allowed as a trigger, but the base image has one", banned.keyword);
        findings.push(failed_with(message, "InvalidTrigger", span, "use another base image"));
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let here = |instruction: Instruction| Instruction { span, ..instruction };
    Ok(parsed.instructions.into_iter().map(here).collect())
}

/// The step that a handler is told.
pub(crate) fn step(
    instruction: &Instruction,
    handler: &HandlerFacts,
    scope: &Scope,
    config: &Config,
    platform: &Platform,
) -> Result<Step, Findings> {
    let mut findings = Vec::new();
    let mut keep =
        |result: Result<String, Findings>| result.map_err(|found| findings.extend(found)).unwrap_or_default();
    let escape = instruction.escape;
    let mut flags = Vec::new();
    for flag in &instruction.flags {
        let value = flag.value.as_ref().map(|value| match flag.name.as_str() {
            name if UNEXPANDED_FLAGS.contains(&name) => value.clone(),
            name if FIELD_FLAGS.contains(&name) => keep(fields(value, escape, scope, flag.span)),
            _ => keep(expand(value, escape, scope, flag.span)),
        });
        flags.push(StepFlag { name: flag.name.clone(), value, span: flag.span });
    }
    let mut heredocs = Vec::new();
    for heredoc in &instruction.heredocs {
        let text = heredoc.text();
        // What a shell reads, it expands itself.
        let content = match heredoc.expand && handler.syntax == Syntax::Words {
            true => keep(content(&text, scope, heredoc.span)),
            false => text.into_owned(),
        };
        heredocs.push(StepHeredoc { name: heredoc.name.clone(), content, expand: heredoc.expand });
    }
    let arguments = taken_apart(instruction, handler.syntax, scope);
    let arguments = arguments.map_err(|found| findings.extend(found)).unwrap_or_default();
    if !findings.is_empty() {
        return Err(findings);
    }
    let state = limited(handler, scope, config, platform);
    Ok(Step { keyword: instruction.keyword.clone(), flags, arguments, heredocs, state, span: instruction.span })
}

/// Fields, each expanded for itself: what a variable holds never makes a new field.
fn fields(value: &str, escape: char, scope: &Scope, span: Span) -> Result<String, Findings> {
    // What is no list of fields is the handler's to refuse.
    let Some(fields) = cofferdam_dockerfile::split_fields(value) else { return Ok(value.to_owned()) };
    let field = |field: &String| match field.split_once('=') {
        Some((key, value)) if !UNEXPANDED_FLAGS.contains(&key.to_ascii_lowercase().as_str()) => {
            Ok(format!("{key}={}", expand(value, escape, scope, span)?))
        }
        _ => Ok(field.clone()),
    };
    Ok(cofferdam_dockerfile::join_fields(&expanded(fields.iter().map(field))?))
}

fn taken_apart(instruction: &Instruction, syntax: Syntax, scope: &Scope) -> Result<Arguments, Findings> {
    let text = instruction.text.as_str().to_owned();
    let escape = instruction.escape;
    let one = |finding| vec![finding];
    match syntax {
        // A trigger keeps the here-documents that belong to it.
        Syntax::Text if !instruction.heredocs.is_empty() => {
            Ok(Arguments { text: instruction.trigger_text(), ..Arguments::default() })
        }
        Syntax::Text => Ok(Arguments { text, ..Arguments::default() }),
        Syntax::Command => {
            let arguments = instruction.command().map_err(one)?;
            let words = arguments.words.into_iter().map(|word| word.text).collect();
            Ok(Arguments {
                words: if arguments.json { words } else { Vec::new() },
                json: arguments.json,
                text,
                pairs: Vec::new(),
            })
        }
        Syntax::Word => {
            let words = match text.is_empty() {
                true => Vec::new(),
                false => vec![expand(&text, escape, scope, instruction.text.whole())?],
            };
            Ok(Arguments { text, words, ..Arguments::default() })
        }
        Syntax::Words => {
            let arguments = instruction.list().map_err(one)?;
            let words = expanded(arguments.words.iter().map(|word| expand(&word.text, escape, scope, word.span)))?;
            Ok(Arguments { text, words, json: arguments.json, pairs: Vec::new() })
        }
        Syntax::Pairs => {
            // All of a line sees the values from before the line.
            let pairs = instruction.pairs()?.into_iter().map(|pair| {
                let key = expand(&pair.key, escape, scope, pair.span);
                let value = expand(&pair.value, escape, scope, pair.span);
                match (key, value) {
                    (Ok(key), Ok(value)) => Ok(KeyValue { key, value }),
                    (key, value) => Err(key.err().into_iter().chain(value.err()).flatten().collect()),
                }
            });
            Ok(Arguments { text, pairs: expanded(pairs)?, ..Arguments::default() })
        }
    }
}

/// All results, or all findings.
fn expanded<T>(results: impl Iterator<Item = Result<T, Findings>>) -> Result<Vec<T>, Findings> {
    let (mut values, mut findings) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(found) => findings.extend(found),
        }
    }
    if findings.is_empty() { Ok(values) } else { Err(findings) }
}

fn content(text: &str, scope: &Scope, span: Span) -> Result<String, Findings> {
    let lookup = |name: &str| scope.lookup(name).map(str::to_owned);
    Expander::for_content().word(text, &lookup).map_err(|error| vec![failed(error.to_string(), span)])
}

fn limited(handler: &HandlerFacts, scope: &Scope, config: &Config, platform: &Platform) -> State {
    let mut state = State::default();
    for field in &handler.sees {
        match field {
            StateField::Environment => state.environment.clone_from(&config.environment),
            StateField::BuildArguments => state.build_arguments = scope.arguments().to_vec(),
            StateField::WorkingDirectory => state.working_directory = config.directory().to_owned(),
            StateField::User => state.user.clone_from(&config.user),
            StateField::Shell => state.shell = config.shell(),
            StateField::Platform => state.platform = platform.to_string(),
        }
    }
    state
}

fn failed(message: String, span: Span) -> Diagnostic {
    failed_with(message, "InvalidExpansion", span, "see the variable's value and the form of `${…}`")
}

fn failed_with(message: String, code: &str, span: Span, help: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: code.to_owned(),
        message,
        span: Some(span),
        help: Some(help.to_owned()),
    }
}
