//! A long Dockerfile is nothing to wait for.

use std::fmt::Write;
use std::time::{Duration, Instant};

use cofferdam_dockerfile::{KEYWORDS, check, parse};

#[test]
fn five_hundred_lines_take_less_than_five_milliseconds() {
    let mut text = String::from("FROM a\n");
    for number in 0..100 {
        writeln!(text, "ENV A{number}=\"$B x\" C='d'\nRUN <<EOF\necho {number} \\\n\nEOF").unwrap();
        writeln!(text, "RUN --mount=type=cache,target=/x apt-get update \\\n # note\n  && true").unwrap();
    }
    assert!(text.lines().count() > 500);
    // The least of several: other work on the machine is not what is measured.
    let least = (0..20).map(|_| {
        let start = Instant::now();
        let found = check(&parse(text.as_bytes()), &KEYWORDS);
        assert_eq!(found, []);
        start.elapsed()
    });
    let least = least.min().unwrap();
    eprintln!("{} lines in {least:?}", text.lines().count());
    assert!(least < Duration::from_millis(5), "{least:?}");
}
