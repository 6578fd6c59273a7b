//! The table of `docs/runners.md`, which the tests keep true: with `COFFERDAM_BLESS=1` a test writes its cell, without it
//! compares.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::{Environment, repository_root};

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What carries out RUN.
    Executor,
    /// A Dockerfile without RUN.
    WithoutRun,
    /// A Dockerfile whose RUNs do what may be done to files.
    Run,
    /// The tutorials of two published Dockerfiles.
    Tutorials,
    /// The integration tests.
    Tests,
    /// Packages and compilers.
    Packages,
}

impl Column {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Executor, "executor"),
        (Self::WithoutRun, "no RUN"),
        (Self::Run, "RUN"),
        (Self::Tutorials, "tutorials"),
        (Self::Tests, "integration tests"),
        (Self::Packages, "packages"),
    ];

    fn title(self) -> &'static str {
        Self::ALL.iter().find(|(column, _)| *column == self).map_or("", |(_, title)| title)
    }
}

/// The page, in which these marks enclose what is written here.
const PAGE: &str = "docs/runners.md";
const TABLE: (&str, &str) = ("<!-- table: written by the tests -->\n", "<!-- end of the table -->\n");
const LISTS: (&str, &str) = ("<!-- exceptions: written by the tests -->\n", "<!-- end of the exceptions -->\n");

/// Notes in a cell that everything is as under native root, but for `exceptions`: what differs, and why.
///
/// # Panics
/// The page says something else.
#[track_caller]
pub fn record_same(environment: Environment, column: Column, exceptions: &[(&str, &str)]) {
    let cell = if exceptions.is_empty() { "same".to_owned() } else { format!("all but {}", exceptions.len()) };
    record(environment, column, &cell, exceptions);
}

/// Notes what a cell has to say.
///
/// # Panics
/// The page says something else.
#[track_caller]
pub fn record(environment: Environment, column: Column, cell: &str, exceptions: &[(&str, &str)]) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let file = repository_root().join(PAGE);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{PAGE}: {error}"));
    let mut page = Page::read(&text);
    let key = (environment.name().to_owned(), column.title().to_owned());
    let list: Vec<String> = exceptions.iter().map(|(what, reason)| format!("`{what}`: {reason}")).collect();
    if std::env::var("COFFERDAM_BLESS").as_deref() == Ok("1") {
        page.cells.insert(key.clone(), cell.to_owned());
        page.lists.insert(key, list);
        std::fs::write(&file, page.write(&text)).expect("writable");
        return;
    }
    let (said, listed) = (page.cells.get(&key).map(String::as_str), page.lists.get(&key).cloned().unwrap_or_default());
    let advice = "write it with COFFERDAM_BLESS=1 if this is meant";
    assert_eq!((said, &listed), (Some(cell), &list), "{PAGE}, {key:?} (left): {advice}");
}

/// What the page says, by row and column.
#[derive(Default)]
struct Page {
    cells: BTreeMap<(String, String), String>,
    lists: BTreeMap<(String, String), Vec<String>>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        for line in enclosed(text, TABLE).lines().skip(2) {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let row = cells.next().unwrap_or_default().trim_matches('`').to_owned();
            for ((_, column), cell) in Column::ALL.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
                page.cells.insert((row.clone(), (*column).to_owned()), cell.to_owned());
            }
        }
        let mut key = None;
        for line in enclosed(text, LISTS).lines() {
            if let Some((row, column)) = line.strip_prefix("### ").and_then(|title| title.split_once(", ")) {
                key = Some((row.to_owned(), column.to_owned()));
            } else if let (Some(item), Some(key)) = (line.strip_prefix("- "), &key) {
                page.lists.entry(key.clone()).or_default().push(item.to_owned());
            }
        }
        page
    }

    /// The page's text with these cells and lists.
    fn write(&self, text: &str) -> String {
        let titles: Vec<&str> = Column::ALL.iter().map(|(_, title)| *title).collect();
        let mut table = format!("| runner | {} |\n| --- |{}\n", titles.join(" | "), " --- |".repeat(titles.len()));
        let mut lists = String::new();
        for environment in Environment::ALL {
            let row = environment.name();
            table.push_str(&format!("| `{row}` |"));
            for title in &titles {
                let key = (row.to_owned(), (*title).to_owned());
                table.push_str(&format!(" {} |", self.cells.get(&key).map_or("", String::as_str)));
                let items = self.lists.get(&key).map_or(&[][..], Vec::as_slice);
                if !items.is_empty() {
                    lists.push_str(&format!("\n### {row}, {title}\n\n"));
                    lists.extend(items.iter().map(|item| format!("- {item}\n")));
                }
            }
            table.push('\n');
        }
        if !lists.is_empty() {
            lists.push('\n');
        }
        let text = with_enclosed(text, TABLE, &table);
        with_enclosed(&text, LISTS, &lists)
    }
}

/// A text with another part between two marks.
fn with_enclosed(text: &str, marks: (&str, &str), part: &str) -> String {
    let end = text.find(marks.1).expect("the page has this mark");
    let begin = text.find(marks.0).expect("the page has this mark") + marks.0.len();
    [&text[..begin], part, &text[end..]].concat()
}

/// The part of a text between two marks.
#[track_caller]
fn enclosed<'t>(text: &'t str, (begin, end): (&str, &str)) -> &'t str {
    let inner = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
    inner.unwrap_or_else(|| panic!("{PAGE} has no {begin:?} … {end:?}")).0
}
