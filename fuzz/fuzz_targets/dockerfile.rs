//! Any bytes as a Dockerfile: taken apart, checked and shown; every place that is told lies in the file.
#![no_main]

#[path = "../../host/dockerfile/tests/common/spans.rs"]
mod places;

use cofferdam_dockerfile::{KEYWORDS, MAX_DIAGNOSTICS, check, json_form, parse, render};
use libfuzzer_sys::fuzz_target;
use places::{inside, spans};

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse(bytes);
    let source = String::from_utf8_lossy(bytes);
    for instruction in &parsed.instructions {
        assert!(!instruction.keyword.is_empty());
        for span in spans(instruction) {
            assert!(inside(span, &source), "{span:?} of {instruction:?}");
        }
        json_form(instruction.text.as_str());
    }
    let found = check(&parsed, &KEYWORDS);
    // One more says that there are more.
    assert!(found.len() <= MAX_DIAGNOSTICS + 1);
    assert!(found.iter().all(|finding| finding.span.is_none_or(|span| inside(span, &source))), "{found:?}");
    assert!(!parsed.instructions.is_empty() || !found.is_empty());
    assert!(!render(&found, "Dockerfile", &source).contains('\u{1b}'));
});
