//! Rules and lines, compared with what BuildKit's own check finds in the same files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test reads its data")]

mod common;
#[path = "../../dockerfile/tests/common/mod.rs"]
mod data;
#[path = "../../dockerfile/tests/common/table.rs"]
mod table;

use std::{collections::BTreeSet, fs};

use cofferdam_dockerfile::parse;
use cofferdam_plan::{Planner, lint::rule};

use common::{All, facts, options};

/// The reason why a file may have other findings here.
type Reason = fn(&serde_json::Value) -> Option<&'static str>;

/// Compares a set; what differs must have a reason, and may be at most 3 % of it.
fn compare(set: &str, subfolder: &str, reason: Reason) {
    let Some(folder) = data::conformance(set) else { return };
    let oracle = fs::read_to_string(folder.join("oracle.jsonl")).unwrap();
    let (mut passed, mut messages, mut all_messages) = (0, 0, 0);
    let (mut excepted, mut unexplained) = (Vec::new(), Vec::new());
    for line in oracle.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = row["file"].as_str().unwrap();
        let parsed = parse(&fs::read(folder.join(subfolder).join(name)).unwrap());
        let facts = facts(&parsed);
        let found = Planner::new(&parsed, &All, &options()).check(&facts);
        let found: Vec<_> = found.iter().filter(|finding| rule(&finding.code).is_some()).collect();
        let ours: BTreeSet<(String, u64)> = found
            .iter()
            .map(|finding| (finding.code.clone(), finding.span.map_or(0, |span| span.start.line.into())))
            .collect();
        let lint = row["lint"].as_array().cloned().unwrap_or_default();
        let theirs: BTreeSet<(String, u64)> = lint
            .iter()
            .map(|one| (one["Rule"].as_str().unwrap().to_owned(), one["Lines"][0].as_u64().unwrap_or_default()))
            .collect();
        for one in &lint {
            all_messages += 1;
            let detail = one["Detail"].as_str().unwrap();
            let same = found.iter().any(|finding| finding.message == detail);
            messages += usize::from(same);
            if !same && std::env::var("COFFERDAM_SHOW").is_ok() {
                eprintln!("{name}: {detail}");
            }
        }
        if ours == theirs {
            passed += 1;
            continue;
        }
        let more: Vec<_> = ours.difference(&theirs).collect();
        let less: Vec<_> = theirs.difference(&ours).collect();
        match reason(&row) {
            Some(reason) => excepted.push((name.to_owned(), reason)),
            None => unexplained.push(format!("{name}: too many {more:?}, missing {less:?}")),
        }
    }
    eprintln!("{set}: {messages} of {all_messages} messages equal");
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    assert!(excepted.len() * 100 <= (passed + excepted.len()) * 3, "{excepted:#?}");
    table::record(set, "lint: rules and lines", passed, &excepted);
}

/// A file with a fault ends the other's check, and the reference data was made from builds of the last stage.
fn known(row: &serde_json::Value) -> Option<&'static str> {
    if row["instructionsError"].is_string() {
        return Some("a file with an error: BuildKit ends there, here all findings come at once");
    }
    let unreached = ["dockerfile_check__testAllTargetUnmarshal__1.Dockerfile"];
    unreached.contains(&row["file"].as_str()?).then_some(
        "the finding is in a stage that the last one does not need: a check looks at all stages, as `docker build --check` \
         does; the reference data was made by a build",
    )
}

#[test]
fn real_world_files_have_equal_findings() {
    compare("dockerfiles", ".", known);
}

#[test]
fn integration_files_have_equal_findings() {
    compare("buildkit-integration", "dockerfiles", known);
}
