//! `cofferdam build --check` and `--call …`: answers about a Dockerfile instead of an image. The texts and the JSON are in
//! the form of `docker buildx build --call`, so that what reads one reads the other.

use std::fmt::Write;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cofferdam_engine::{
    BuildError, BuildRequest, Diagnostic, Inspected, Severity, Span, lint,
    outlines::{Mount, Outline, Target},
    render_place,
};
use serde_json::{Map, Value, json};

use crate::{
    exit::Exit,
    explain,
    output::{say, tell},
    request::UsageError,
};

/// What is wanted of a Dockerfile, other than an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    method: Method,
    json: bool,
    /// Findings are no reason to fail.
    ignore_status: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Check,
    Outline,
    Targets,
}

impl Call {
    /// `--check` and `--call METHOD[,format=json]`; `None` is an ordinary build.
    ///
    /// # Errors
    /// The method or an option is unknown.
    pub fn parse(check: bool, call: Option<&str>) -> Result<Option<Self>, UsageError> {
        const FORM: &str = "build, check, outline or targets, with `,format=json` if that is wanted";
        let text = match (call, check) {
            (Some(text), _) => text,
            (None, true) => "check",
            (None, false) => return Ok(None),
        };
        let wrong = || UsageError::Form { flag: "--call", value: text.to_owned(), form: FORM };
        let mut parts = text.split(',').map(str::trim);
        let mut parsed = Self { method: Method::Check, json: false, ignore_status: false };
        match parts.next().map(|method| method.strip_prefix("method=").unwrap_or(method)) {
            // The more special of the two wins.
            Some("build" | "") if check => {}
            Some("build" | "") => return Ok(None),
            Some("check" | "lint") => {}
            Some("outline") => parsed.method = Method::Outline,
            Some("targets") => parsed.method = Method::Targets,
            _ => return Err(wrong()),
        }
        for option in parts {
            match option {
                "format=json" => parsed.json = true,
                "format=" | "format=text" => parsed.json = false,
                "ignorestatus" | "ignorestatus=true" => parsed.ignore_status = true,
                "ignorestatus=false" => parsed.ignore_status = false,
                _ => return Err(wrong()),
            }
        }
        Ok(Some(parsed))
    }
}

/// Answers on standard output.
pub fn run(request: &BuildRequest, call: Call) -> Exit {
    let answered = match call.method {
        Method::Check => cofferdam_engine::check(request).map(|found| check(&found, call)),
        Method::Outline => cofferdam_engine::outline(request).map(|found| outline(&found, call)),
        Method::Targets => cofferdam_engine::targets(request).map(|found| targets(&found, call)),
    };
    answered.unwrap_or_else(|error| explain::build_error(&error))
}

fn check(found: &Inspected<Vec<Diagnostic>>, call: Call) -> Exit {
    let is_error = |finding: &&Diagnostic| finding.severity == Severity::Error;
    let errors: Vec<Diagnostic> = found.answer.iter().filter(is_error).cloned().collect();
    let others: Vec<&Diagnostic> = found.answer.iter().filter(|finding| !is_error(finding)).collect();
    let warnings = others.iter().filter(|finding| finding.severity == Severity::Warning).count();
    let said = if call.json {
        say_json(&check_json(found, &others, errors.first()))
    } else {
        say(&check_text(found, &others, errors.is_empty()))
    };
    if !errors.is_empty() && !call.json {
        let (file, text) = (found.file.clone(), found.text.clone());
        explain::build_error(&BuildError::Dockerfile { file, text, diagnostics: errors });
        return Exit::Failed;
    }
    match said {
        Exit::Success if (warnings > 0 || !errors.is_empty()) && !call.ignore_status => Exit::Failed,
        said => said,
    }
}

/// The summary first, then each finding with its lines.
fn check_text(found: &Inspected<Vec<Diagnostic>>, others: &[&Diagnostic], complete: bool) -> String {
    let warnings = others.iter().filter(|finding| finding.severity == Severity::Warning).count();
    let mut text = match (complete, warnings) {
        (false, _) => String::new(),
        (true, 0) => "Check complete, no warnings found.\n".to_owned(),
        (true, 1) => "Check complete, 1 warning has been found!\n".to_owned(),
        (true, count) => format!("Check complete, {count} warnings have been found!\n"),
    };
    for finding in others {
        let severity = if finding.severity == Severity::Warning { "WARNING" } else { "NOTE" };
        let page = lint::rule(&finding.code).map(|rule| format!(" - {}", rule.url())).unwrap_or_default();
        let message = crate::progress::clean_line(&finding.message);
        let _ = write!(text, "\n{severity}: {}{page}\n{message}\n", finding.code);
        if let Some(span) = finding.span {
            text.push_str(&render_place(span, &found.file, &found.text));
        }
        if let Some(help) = &finding.help {
            let _ = writeln!(text, "help: {}", crate::progress::clean_line(help));
        }
    }
    text
}

fn check_json(found: &Inspected<Vec<Diagnostic>>, others: &[&Diagnostic], error: Option<&Diagnostic>) -> Value {
    let warning = |finding: &&Diagnostic| {
        let mut object = Map::new();
        object.insert("ruleName".to_owned(), json!(finding.code));
        if let Some(rule) = lint::rule(&finding.code) {
            object.insert("description".to_owned(), json!(rule.description));
            object.insert("url".to_owned(), json!(rule.url()));
        }
        object.insert("detail".to_owned(), json!(finding.message));
        object.insert("location".to_owned(), finding.span.map_or_else(|| json!({}), location));
        Value::Object(object)
    };
    let mut answer = Map::new();
    answer.insert("warnings".to_owned(), others.iter().map(warning).collect());
    let source = json!({ "filename": found.file, "language": "Dockerfile", "data": encoded(&found.text) });
    answer.insert("sources".to_owned(), json!([source]));
    if let Some(error) = error {
        let location = error.span.map_or_else(|| json!({}), location);
        answer.insert("buildError".to_owned(), json!({ "message": error.message, "location": location }));
    }
    Value::Object(answer)
}

fn targets(found: &Inspected<Vec<Target>>, call: Call) -> Exit {
    if call.json {
        let target = |target: &Target| {
            let mut object = Map::new();
            let mut text = |key: &str, value: Option<&String>| {
                if let Some(value) = value {
                    object.insert(key.to_owned(), json!(value));
                }
            };
            text("name", target.name.as_ref());
            text("description", target.description.as_ref());
            text("base", Some(&target.base));
            text("platform", target.platform.as_ref());
            if target.is_default {
                object.insert("default".to_owned(), json!(true));
            }
            object.insert("location".to_owned(), location(target.span));
            Value::Object(object)
        };
        let targets: Vec<Value> = found.answer.iter().map(target).collect();
        return say_json(&json!({ "targets": targets, "sources": [encoded(&found.text)] }));
    }
    let row = |target: &Target| {
        let name = target.name.clone().unwrap_or_default();
        let name = match (target.is_default, name.is_empty()) {
            (false, _) => name,
            (true, true) => "(default)".to_owned(),
            (true, false) => format!("{name} (default)"),
        };
        vec![name, target.description.clone().unwrap_or_default()]
    };
    say(&table(&["TARGET", "DESCRIPTION"], found.answer.iter().map(row).collect()))
}

fn outline(found: &Inspected<Outline>, call: Call) -> Exit {
    let outline = &found.answer;
    if call.json {
        return say_json(&outline_json(outline, &found.text));
    }
    let mut text = String::new();
    let mut line = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<13}{value}");
        }
    };
    line("TARGET:", &outline.name);
    line("DESCRIPTION:", &outline.description);
    let required = |mount: &Mount| vec![mount.id.clone(), if mount.required { "true" } else { "" }.to_owned()];
    let arguments: Vec<Vec<String>> = outline
        .arguments
        .iter()
        .map(|one| vec![one.name.clone(), one.value.clone(), one.description.clone().unwrap_or_default()])
        .collect();
    let tables = [
        table(&["BUILD ARG", "VALUE", "DESCRIPTION"], arguments),
        table(&["SECRET", "REQUIRED"], outline.secrets.iter().map(required).collect()),
        table(&["SSH", "REQUIRED"], outline.ssh.iter().map(required).collect()),
        table(&["CACHE"], outline.caches.iter().map(|mount| vec![mount.id.clone()]).collect()),
    ];
    for table in tables.iter().filter(|table| table.lines().count() > 1) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(table);
    }
    if text.is_empty() {
        tell("nothing can be passed to this build");
    }
    say(&text)
}

fn outline_json(outline: &Outline, source: &str) -> Value {
    let mut answer = Map::new();
    for (key, value) in [("name", &outline.name), ("description", &outline.description)] {
        if let Some(value) = value {
            answer.insert(key.to_owned(), json!(value));
        }
    }
    let arguments: Vec<Value> = outline
        .arguments
        .iter()
        .map(|one| {
            let mut object = Map::from_iter([("name".to_owned(), json!(one.name))]);
            if let Some(description) = &one.description {
                object.insert("description".to_owned(), json!(description));
            }
            if !one.value.is_empty() {
                object.insert("value".to_owned(), json!(one.value));
            }
            object.insert("location".to_owned(), location(one.span));
            Value::Object(object)
        })
        .collect();
    let mounts = |mounts: &[Mount], key: &str| -> Vec<Value> {
        let object = |mount: &Mount| {
            let mut object = Map::from_iter([(key.to_owned(), json!(mount.id))]);
            if mount.required {
                object.insert("required".to_owned(), json!(true));
            }
            object.insert("location".to_owned(), location(mount.span));
            Value::Object(object)
        };
        mounts.iter().map(object).collect()
    };
    let lists = [
        ("args", arguments),
        ("secrets", mounts(&outline.secrets, "name")),
        ("ssh", mounts(&outline.ssh, "name")),
        ("cache", mounts(&outline.caches, "ID")),
    ];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        answer.insert(key.to_owned(), json!(list));
    }
    answer.insert("sources".to_owned(), json!([encoded(source)]));
    Value::Object(answer)
}

/// Lines only: BuildKit's positions have no columns either.
fn location(span: Span) -> Value {
    json!({ "ranges": [{ "start": { "line": span.start.line }, "end": { "line": span.end.line } }] })
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

fn say_json(value: &Value) -> Exit {
    say(&format!("{value:#}\n"))
}

/// Columns as wide as what they hold; what a Dockerfile says does not steer a terminal.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|&cell| cell.to_owned()).collect())
        .chain(
            rows.into_iter().map(|row: Vec<String>| row.iter().map(|cell| crate::progress::clean_line(cell)).collect()),
        )
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_a_method_and_options() {
        let call = |text| Call::parse(false, Some(text));
        assert_eq!(call("build").unwrap(), None);
        assert_eq!(Call::parse(true, Some("build")).unwrap().unwrap().method, Method::Check);
        assert_eq!(Call::parse(false, None).unwrap(), None);
        let json = call("targets,format=json").unwrap().unwrap();
        assert_eq!((json.method, json.json, json.ignore_status), (Method::Targets, true, false));
        assert!(call("check,ignorestatus=true").unwrap().unwrap().ignore_status);
        assert!(call("nothing").is_err() && call("check,format=xml").is_err());
    }

    #[test]
    fn tables_are_aligned() {
        let rows = vec![vec!["long name".to_owned(), "x".to_owned()], vec!["n".to_owned(), String::new()]];
        assert_eq!(table(&["A", "B"], rows), "A           B\nlong name   x\nn\n");
    }
}
