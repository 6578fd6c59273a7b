//! Syntax trees, line numbers and refusals, compared with what BuildKit's parser makes of the same files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test reads its data")]

mod common;
#[path = "common/table.rs"]
mod table;
#[path = "common/tree.rs"]
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_dockerfile::{KEYWORDS, Severity, check, parse};

fn keywords() -> Vec<&'static str> {
    KEYWORDS.into_iter().filter(|keyword| !["FROM", "ARG"].contains(keyword)).collect()
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn trees_of_the_parser_cases_are_equal() {
    let Some(folder) = common::conformance("buildkit-parser/testfiles") else { return };
    let cases = cases(&folder);
    for case in &cases {
        let parsed = parse(&fs::read(case.join("Dockerfile")).unwrap());
        let expected = fs::read_to_string(case.join("result")).unwrap();
        assert_eq!(tree::tree(&parsed), expected.trim_end(), "{}", case.display());
        // The cases of the parser alone have no FROM; no other fault may be found in them.
        let found = parsed.diagnostics.iter().filter(|finding| finding.severity == Severity::Error).collect::<Vec<_>>();
        assert!(found.is_empty(), "{}: {found:?}", case.display());
    }
    table::record("buildkit-parser", "syntax trees", cases.len(), &[]);
}

#[test]
fn faulty_files_are_refused() {
    let Some(folder) = common::conformance("buildkit-parser/testfiles-negative") else { return };
    let cases = cases(&folder);
    for case in &cases {
        let parsed = parse(&fs::read(case.join("Dockerfile")).unwrap());
        let found = check(&parsed, &keywords());
        // A missing FROM is a fault of many of the good cases too, so it does not count.
        let faults = found.iter().filter(|fault| fault.severity == Severity::Error && fault.code != "MissingFrom");
        assert!(faults.count() > 0, "{} is accepted", case.display());
    }
    table::record("buildkit-parser", "refusals", cases.len(), &[]);
}

#[test]
fn instructions_know_their_lines() {
    let Some(folder) = common::conformance("buildkit-parser/testfile-line") else { return };
    let parsed = parse(&fs::read(folder.join("Dockerfile")).unwrap());
    let lines: Vec<_> = parsed.instructions.iter().map(|instruction| instruction.lines.clone()).collect();
    assert_eq!(lines, [5..=5, 11..=12, 17..=31]);
    table::record("buildkit-parser", "line numbers", lines.len(), &[]);
}

/// The trees of a folder of whole files, and whether exactly those are refused that BuildKit refuses for their syntax.
fn compare_with_oracle(folder: &str, subfolder: &str, count: usize) {
    let set = folder;
    let Some(folder) = common::conformance(set) else { return };
    let oracle = fs::read_to_string(folder.join("oracle.jsonl")).unwrap();
    let mut different = Vec::new();
    let mut seen = 0;
    for line in oracle.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = row["file"].as_str().unwrap();
        let parsed = parse(&fs::read(folder.join(subfolder).join(name)).unwrap());
        seen += 1;
        if tree::tree(&parsed) != row["ast"].as_str().unwrap() {
            different.push(format!("{name}: tree"));
        }
        if parsed.directives.escape.to_string() != row["escape"].as_str().unwrap() {
            different.push(format!("{name}: escape"));
        }
        let found = check(&parsed, &keywords());
        let errors: Vec<_> = found.iter().filter(|finding| finding.severity == Severity::Error).collect();
        // What only the conversion refuses needs values of variables, or the handlers' knowledge of flags.
        let wanted = row["instructionsError"].as_str().filter(|wanted| !wanted.contains("variable expansion"));
        match (wanted, errors.first()) {
            (None, None) => {}
            (None, Some(error)) => different.push(format!("{name}: refused: {error:?}")),
            (Some(wanted), None) => different.push(format!("{name}: accepted in spite of: {wanted}")),
            (Some(wanted), Some(_)) => {
                // The suggestion is picked at random there where several are equally near.
                let wanted = wanted.split_once(": ").map_or(wanted, |(_, message)| message);
                let wanted = wanted.split(" (did you mean").next().unwrap();
                if !errors.iter().any(|error| error.message.starts_with(wanted)) {
                    different.push(format!("{name}: {errors:?} instead of: {wanted}"));
                }
            }
        }
    }
    assert!(different.is_empty(), "{} differences:\n{}", different.len(), different.join("\n"));
    assert_eq!(seen, count);
    table::record(set, "syntax trees, escape characters and refusals", seen, &[]);
}

#[test]
fn real_world_files_have_equal_trees() {
    compare_with_oracle("dockerfiles", ".", 337);
}

#[test]
fn integration_files_have_equal_trees() {
    compare_with_oracle("buildkit-integration", "dockerfiles", 234);
}
