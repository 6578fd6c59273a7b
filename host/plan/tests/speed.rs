//! How long parsing, checking and planning a Dockerfile of 500 lines takes; what the handlers do is not counted.

mod common;

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use cofferdam_dockerfile::parse;
use cofferdam_plan::{Outcome, Planner};

/// What a user would not notice.
const LIMIT: Duration = Duration::from_millis(5);

#[test]
#[cfg_attr(debug_assertions, ignore = "measured in the release profile")]
fn five_hundred_lines_are_planned_in_five_milliseconds() {
    let mut text = String::from("FROM scratch AS base\nARG B=1\n");
    for number in 0..100 {
        writeln!(text, "ENV A{number}=\"$B x\" C='d'\nRUN <<EOF\necho {number} \\\n\nEOF").expect("it is a string");
        writeln!(text, "RUN --mount=type=cache,target=/x apt-get update \\\n # note\n  && true")
            .expect("it is a string");
        if number % 10 == 9 {
            writeln!(text, "FROM base AS stage{number}\nCOPY --from=base $A1 /$A1").expect("it is a string");
        }
    }
    let facts = common::facts(&parse(text.as_bytes()));
    let options = common::options();
    let once = || {
        let start = Instant::now();
        let parsed = parse(text.as_bytes());
        let parsing = start.elapsed();
        let outcome = Planner::new(&parsed, &common::All, &options).plan(&facts);
        assert!(matches!(outcome, Outcome::Plan(..)), "it can be planned");
        (start.elapsed(), parsing)
    };
    let mut times: Vec<_> = (0..51).map(|_| once()).collect();
    times.sort_unstable();
    let (whole, parsing) = times[times.len() / 2];
    let lines = text.lines().count();
    println!("{lines} lines: {whole:.1?}, of which parsing {parsing:.1?} (median of {})", times.len());
    assert!(lines >= 500, "{lines}");
    // The fastest: the others tell how busy the machine was.
    assert!(times[0].0 < LIMIT, "{:.1?}", times[0].0);
}
