//! The table of the conformance runs, which each run keeps true: with `COFFERDAM_BLESS=1` a test writes its row, without
//! it compares.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

const HEAD: &str = "# Conformance

What the tests that compare with other builders' data found, written by themselves (`COFFERDAM_BLESS=1`); a test whose
figures differ from its row fails. The data is shared beside the project and not part of it: where it is absent, the tests
are skipped and say so.

| set | what is compared | passed | excepted | total |
| --- | --- | --- | --- | --- |
";

static LOCK: Mutex<()> = Mutex::new(());

/// Notes the figures of a set. `exceptions` are the rows that differ, with the reason for each.
pub fn record(set: &str, what: &str, passed: usize, exceptions: &[(String, &str)]) {
    let _guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let file = repository_root().join("tests/conformance/README.md");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let (mut rows, mut lists) = read(&text);
    let key = format!("| {set} | {what} |");
    let total = passed + exceptions.len();
    let row = format!("{key} {passed} | {} | {total} |", exceptions.len());
    let list: String = exceptions.iter().map(|(name, reason)| format!("- `{name}`: {reason}\n")).collect();
    eprintln!("{set}, {what}: {passed} of {total}");
    let title = format!("{set}: {what}");
    if std::env::var("COFFERDAM_BLESS").as_deref() != Ok("1") {
        assert_eq!(rows.get(&key), Some(&row), "bless the table if this is meant");
        assert_eq!(lists.get(&title).cloned().unwrap_or_default(), list, "bless the table if this is meant");
        return;
    }
    rows.insert(key, row);
    lists.insert(title, list);
    let mut text = HEAD.to_owned();
    for row in rows.values() {
        text.push_str(row);
        text.push('\n');
    }
    for (title, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        text.push_str(&format!("\n## Excepted: {title}\n\n{list}"));
    }
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// The directory above this crate that has the lock file.
fn repository_root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().find(|place| place.join("Cargo.lock").is_file()).expect("crates lie in the repository").to_owned()
}

/// Rows by their first two cells, lists of exceptions by their titles.
fn read(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let mut rows = BTreeMap::new();
    let mut lists: BTreeMap<String, String> = BTreeMap::new();
    let mut title = None;
    for line in text.lines() {
        if let Some(next) = line.strip_prefix("## Excepted: ") {
            title = Some(next.to_owned());
        } else if line.starts_with("- ")
            && let Some(title) = &title
        {
            lists.entry(title.clone()).or_default().push_str(&format!("{line}\n"));
        } else if line.starts_with("| ") && !line.starts_with("| set ") && !line.starts_with("| ---") {
            let end = line.match_indices(" |").nth(1).map_or(line.len(), |(index, _)| index + 2);
            rows.insert(line[..end].to_owned(), line.to_owned());
        }
    }
    (rows, lists)
}
