//! Figures that follow from two rows, with the ratios that must hold on any machine.

use std::fmt::Write as _;

use crate::{
    case::Pass,
    native,
    report::verdict,
    results::{Results, Row},
};

/// The section of the report: a further RUN step, and what the builders add to the compiler's time.
pub fn section(results: &Results) -> String {
    let mut text = String::new();
    for builder in ["Cofferdam", "Buildah"] {
        let cpu = |case| Some(seconds(results.get(case, Pass::First, builder)?));
        if let (Some(ten), Some(twenty)) = (cpu("b"), cpu("b20")) {
            let step = (twenty - ten) / 10.0;
            let _ = writeln!(
                text,
                "| a further RUN step: (b20 − b) / 10, CPU s | {builder} | {step:.3} | {} |",
                target(builder, "< 0.04", step < 0.04)
            );
        }
        let alone = results.get("c", Pass::First, native::NAME).map(seconds);
        if let (Some(whole), Some(alone)) = (cpu("c"), alone) {
            let more = (whole / alone - 1.0) * 100.0;
            let _ = writeln!(
                text,
                "| c, more than the compiler alone, % of CPU | {builder} | {more:.1} | {} |",
                target(builder, "< 15", more < 15.0)
            );
        }
        let first = results.get("d", Pass::First, builder).zip(results.context_bytes("d"));
        if let Some((row, context)) = first {
            let times = |bytes: u64| bytes as f64 / context as f64;
            let (read, written) = (times(row.median(|run| run.read_bytes)), times(row.median(|run| run.written_bytes)));
            let _ = writeln!(text, "| d, bytes read for each byte of the context | {builder} | {read:.2} | |");
            let _ = writeln!(text, "| d, bytes written for each byte of the context | {builder} | {written:.2} | |");
        }
    }
    if !text.is_empty() {
        text.insert_str(0, "## What follows\n\n| figure | builder | value | target |\n| --- | --- | --: | --- |\n");
    }
    text
}

fn target(builder: &str, bound: &str, met: bool) -> String {
    if builder == "Cofferdam" { format!("{bound} {}", verdict(met, "met", "**missed**")) } else { String::new() }
}

fn seconds(row: &Row) -> f64 {
    row.median(|run| run.cpu).as_secs_f64()
}

/// Ratios that hold on a busy machine too; what does not hold is returned as a list of sentences. Absolute times are no
/// matter of a test.
pub fn broken_ratios(results: &Results) -> Vec<String> {
    let mut broken = Vec::new();
    for case in ["a", "b"] {
        let cpu = |pass, builder| Some(seconds(results.get(case, pass, builder)?));
        let Some(first) = cpu(Pass::First, "Cofferdam") else { continue };
        if let Some(theirs) = cpu(Pass::First, "Buildah").filter(|theirs| first >= *theirs) {
            broken.push(format!("case {case} takes {first:.3} s of CPU, buildah takes {theirs:.3} s"));
        }
        if let Some(again) = cpu(Pass::Again, "Cofferdam").filter(|again| *again >= first / 4.0) {
            broken.push(format!("case {case} takes {again:.3} s of CPU again, more than a quarter of {first:.3} s"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::Usage;

    fn results(first_ms: u64, again_ms: u64, theirs_ms: u64) -> Results {
        let usage = |ms| Usage { cpu: Duration::from_millis(ms), ..Usage::default() };
        let mut results = Results::default();
        results.add("a", Pass::First, "Cofferdam", usage(first_ms));
        results.add("a", Pass::First, "Buildah", usage(theirs_ms));
        results.add("a", Pass::Again, "Cofferdam", usage(again_ms));
        results
    }

    #[test]
    fn ratios_are_held_within_one_run() {
        assert!(broken_ratios(&results(400, 20, 2000)).is_empty());
        assert_eq!(broken_ratios(&results(400, 100, 2000)).len(), 1);
        assert_eq!(broken_ratios(&results(2000, 20, 2000)).len(), 1);
    }
}
