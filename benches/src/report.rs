//! The report, in Markdown.

use std::fmt::Write;

use crate::{
    case::{CASES, Pass},
    machine::{self, Machine},
    native,
    results::{Results, Row},
};

/// Peak memory in all cases, in bytes.
const PEAK_TARGET_BYTES: u64 = 100 << 20;

/// The report of a run.
pub fn report(machine: &Machine, versions: &[String], results: &Results, extra: &[String]) -> String {
    let mut text = format!(
        "# Benchmark of commit {}\n\n| | |\n| --- | --- |\n| date | {} |\n| machine | {} |\n| file system | {} |\n| load at the start | {} |\n| load at the end | {} |\n",
        machine.commit,
        machine.date,
        machine.hardware,
        machine.file_system,
        machine.load,
        machine::load()
    );
    for version in versions {
        let _ = writeln!(text, "| builder | {version} |");
    }
    text.push_str("\nWhat the columns mean is in `benches/README.md`. Targets are of CPU seconds, of Cofferdam, for the median.\n");
    for case in CASES {
        let rows: Vec<&Row> = results.rows().iter().filter(|row| row.case == case.key).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "\n## {}: {}\n\nContext: {:.1} MB.\n\n| builder | pass | runs | CPU s, min | CPU s, median | target | wall s, median | peak MiB | read MB | passed to write MB | written MB |\n| --- | --- | --: | --: | --: | --- | --: | --: | --: | --: | --: |\n",
            case.key,
            case.title,
            results.context_bytes(case.key).unwrap_or_default() as f64 / 1e6
        );
        for row in rows {
            text.push_str(&line(row));
        }
    }
    for section in extra.iter().filter(|section| !section.is_empty()) {
        text.push('\n');
        text.push_str(section);
    }
    text
}

fn line(row: &Row) -> String {
    let cpu = row.median(|run| run.cpu).as_secs_f64();
    let ours = row.builder == "Cofferdam";
    let target = target(row.case, row.pass).filter(|_| ours);
    // The compiler's own memory is not what is compared.
    let mut peak = match row.builder {
        native::NAME => "–".to_owned(),
        _ => (row.peak_bytes() >> 20).to_string(),
    };
    if ours {
        peak += verdict(row.peak_bytes() < PEAK_TARGET_BYTES, " (met)", " (**missed**)");
    }
    format!(
        "| {} | {} | {} | {:.3} | {cpu:.3} | {} | {:.3} | {peak} | {:.1} | {:.1} | {:.1} |\n",
        row.builder,
        row.pass.title(),
        row.runs.len(),
        row.least_cpu().as_secs_f64(),
        target.map(|target| format!("< {target} {}", verdict(cpu < target, "met", "**missed**"))).unwrap_or_default(),
        row.median(|run| run.wall).as_secs_f64(),
        row.median(|run| run.read_bytes) as f64 / 1e6,
        row.median(|run| run.passed_bytes) as f64 / 1e6,
        row.median(|run| run.written_bytes) as f64 / 1e6,
    )
}

/// CPU seconds.
fn target(case: &str, pass: Pass) -> Option<f64> {
    Some(match (case, pass) {
        ("a", Pass::First) => 0.5,
        ("b", Pass::First) => 1.2,
        ("d", Pass::First) => 8.0,
        ("d", Pass::Again) => 0.1,
        ("a" | "b" | "b20" | "c", Pass::Again) => 0.03,
        ("d", Pass::SameSize | Pass::OtherSize) => 1.5,
        _ => return None,
    })
}

/// One of two words.
pub fn verdict(met: bool, yes: &'static str, no: &'static str) -> &'static str {
    if met { yes } else { no }
}
