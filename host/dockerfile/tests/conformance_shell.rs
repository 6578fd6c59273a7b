//! BuildKit's tables of word expansion, every row.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test reads its data")]

mod common;
#[path = "common/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cofferdam_dockerfile::expand::Expander;

#[test]
fn single_words_expand_as_the_table_says() {
    let Some(folder) = common::conformance("buildkit-shell") else { return };
    let table = fs::read_to_string(folder.join("envVarTest")).unwrap();
    let values = [("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")];
    let mut rows = 0;
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty() && !row.starts_with('#')) {
        let fields: Vec<&str> = row.split('|').map(str::trim).collect();
        let [platform, source, expected] = fields[..] else { panic!("{row}") };
        // Names are case-insensitive on Windows; there, the lookup is the caller's.
        let equal =
            |one: &str, other: &str| if platform == "W" { one.eq_ignore_ascii_case(other) } else { one == other };
        let get = |name: &str| values.iter().find(|(key, _)| equal(key, name)).map(|(_, value)| (*value).to_owned());
        match Expander::new('\\').word(source, &get) {
            Ok(text) => assert_eq!(text, expected, "{row}"),
            Err(error) => assert_eq!(expected, "error", "{row}: {error}"),
        }
        rows += 1;
    }
    assert!(rows > 190, "{rows}");
    table::record("buildkit-shell", "single words", rows, &[]);
}

#[test]
fn lists_of_words_split_as_the_table_says() {
    let Some(folder) = common::conformance("buildkit-shell") else { return };
    let table = fs::read_to_string(folder.join("wordsTest")).unwrap();
    let mut values = BTreeMap::new();
    let mut rows = 0;
    for row in table.lines().filter(|row| !row.starts_with('#') && !row.trim().is_empty()) {
        if let Some(pair) = row.strip_prefix("ENV ") {
            let (name, value) = pair.trim_start().split_once('=').unwrap();
            values.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (source, expected) = row.split_once('|').unwrap();
        let (source, expected) = (source.trim(), expected.trim_start());
        match Expander::new('\\').words(source, &values) {
            Ok(words) => assert_eq!(words, expected.split(',').collect::<Vec<_>>(), "{row}"),
            Err(error) => assert_eq!(expected, "error", "{row}: {error}"),
        }
        rows += 1;
    }
    table::record("buildkit-shell", "lists of words", rows, &[]);
}

#[test]
fn looked_up_names_are_told_apart() {
    let Some(folder) = common::conformance("buildkit-shell") else { return };
    let rows = fs::read_to_string(folder.join("process-with-matches.jsonl")).unwrap();
    for row in rows.lines() {
        let value: serde_json::Value = serde_json::from_str(row).unwrap();
        let strings = |key: &str| -> BTreeSet<String> {
            value[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let values: BTreeMap<String, String> = serde_json::from_value(value["envs"].clone()).unwrap();
        let outcome = Expander::new('\\').expand(value["input"].as_str().unwrap(), &values);
        assert_eq!(outcome.is_err(), value["error"].as_bool().unwrap(), "{row}: {outcome:?}");
        match outcome {
            Ok(expansion) => {
                assert_eq!(expansion.text, value["expected"].as_str().unwrap(), "{row}");
                assert_eq!(expansion.lookups.set, strings("matched"), "{row}");
                assert_eq!(expansion.lookups.unset, strings("unmatched"), "{row}");
            }
            // The table gives the names that are set only for what succeeds.
            Err(error) => assert_eq!(error.lookups.unset, strings("unmatched"), "{row}"),
        }
    }
    table::record("buildkit-shell", "names that are looked up", rows.lines().count(), &[]);
}

#[test]
fn a_variable_can_be_demanded_with_a_message() {
    let message = |word: &str, value: Option<&str>| {
        let get = |name: &str| match name {
            "VAR" => value.map(str::to_owned),
            "ARG" => Some("x".to_owned()),
            _ => None,
        };
        Expander::new('\\').word(word, &get).map_err(|error| error.to_string())
    };
    for word in ["${VAR:?message here$ARG}", "${VAR?message here$ARG}"] {
        assert_eq!(message(word, Some("plain")).unwrap(), "plain");
        assert!(message(word, None).unwrap_err().contains("message herex"));
    }
    assert!(message("${VAR:?message here$ARG}", Some("")).unwrap_err().contains("message herex"));
    assert_eq!(message("${VAR?message here$ARG}", Some("")).unwrap(), "");
}
