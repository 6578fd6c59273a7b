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
