//! Moby's tables of ignore patterns, every row.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test reads its data")]

mod common;
#[path = "common/table.rs"]
mod table;

use std::fs;

use cofferdam_dockerfile::glob;
use cofferdam_dockerfile::ignore::{IgnorePatterns, MatchType, ParentMatches, read_lines, translate};
use serde_json::Value;

fn rows(name: &str) -> Vec<Value> {
    let Some(folder) = common::conformance("patternmatcher") else { return Vec::new() };
    let text = fs::read_to_string(folder.join("patternmatcher-tests.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    match &all[name] {
        Value::Array(rows) => rows.clone(),
        row => vec![row.clone()],
    }
}

fn patterns(row: &Value, key: &str) -> Vec<String> {
    row[key].as_array().unwrap().iter().map(|pattern| pattern.as_str().unwrap().to_owned()).collect()
}

fn record(what: &str, count: usize) {
    if count > 0 {
        table::record("patternmatcher", what, count, &[]);
    }
}

#[test]
fn paths_match_with_and_without_their_parents_results() {
    let rows = [rows("matches"), rows("single")].concat();
    for row in &rows {
        let compiled = IgnorePatterns::new(patterns(row, "patterns")).unwrap();
        let (text, expected) = (row["text"].as_str().unwrap(), row["pass_"].as_bool().unwrap());
        assert_eq!(compiled.excluded(text.as_bytes()), expected, "{row}");

        let mut parent = ParentMatches::default();
        let mut walked = false;
        let slashes = text.match_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
        for end in slashes.chain([text.len()]) {
            (walked, parent) = compiled.excluded_in(&parent, &text.as_bytes()[..end]);
        }
        assert_eq!(walked, expected, "{row}");
    }
    record("paths", rows.len());
}

#[test]
fn single_patterns_match_as_paths_do_in_go() {
    let rows = rows("match");
    for row in &rows {
        let pattern = &patterns(row, "patterns")[0];
        let (text, expected) = (row["text"].as_str().unwrap(), row["pass_"].as_bool().unwrap());
        let ignore = IgnorePatterns::new([pattern]);
        assert_eq!(ignore.is_err(), row["error"].as_bool().unwrap(), "{row}");
        assert_eq!(ignore.is_ok_and(|ignore| ignore.excluded(text.as_bytes())), expected, "{row}");

        // The sources of COPY follow `filepath.Match`, which knows nothing of parents.
        let path = glob::Pattern::parse(pattern.as_bytes());
        assert_eq!(path.is_err(), row["error"].as_bool().unwrap(), "{row}");
        let parent = pattern == "a*" && text == "ab/c";
        assert_eq!(path.is_ok_and(|path| path.matches(text.as_bytes())), expected && !parent, "{row}");
    }
    record("single patterns", rows.len());
}

#[test]
fn patterns_compile_to_the_same_expressions() {
    let rows = rows("compile");
    for row in &rows {
        let kind = match row["matchType"].as_str().unwrap() {
            "exactMatch" => MatchType::Exact,
            "prefixMatch" => MatchType::Prefix,
            "suffixMatch" => MatchType::Suffix,
            _ => MatchType::Regexp,
        };
        let expected = (kind, row["regex"].as_str().unwrap().to_owned());
        assert_eq!(translate(row["pattern"].as_str().unwrap()), expected, "{row}");
    }
    record("compiled forms", rows.len());
}

#[test]
fn lists_are_cleaned() {
    let lists = rows("cleanPatterns");
    for row in &lists {
        let compiled = IgnorePatterns::new(patterns(row, "input"));
        assert_eq!(compiled.is_err(), row["error"].as_bool().unwrap_or(false), "{row}");
        let Ok(compiled) = compiled else { continue };
        if let Some(count) = row["patterns"].as_u64() {
            assert_eq!(compiled.len() as u64, count, "{row}");
        }
        if let Some(exceptions) = row["exclusions"].as_bool() {
            assert_eq!(compiled.has_exceptions(), exceptions, "{row}");
        }
    }
    record("lists", lists.len());
    let files = rows("ignorefile");
    for row in &files {
        let lines = read_lines(row["content"].as_str().unwrap().as_bytes());
        let lines: Vec<String> = lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        assert_eq!(lines, patterns(row, "expected"));
    }
    record("ignore files", files.len());
}
