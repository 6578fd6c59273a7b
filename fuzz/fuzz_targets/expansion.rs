//! Any word: expanded or refused; every part of the answer comes from a part of the word.
#![no_main]

use cofferdam_dockerfile::expand::Expander;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &str)| {
    let (form, word) = input;
    let expander = match form % 3 {
        0 => Expander::new('\\'),
        1 => Expander::new('`'),
        _ => Expander::for_content(),
    };
    let expander = match form / 3 % 3 {
        0 => expander,
        1 => expander.keep_quotes(),
        _ => expander.keep_escapes().keep_unset(),
    };
    // Values that look like patterns and like variables; some names are not set.
    let get = |name: &str| match name.len() % 4 {
        0 => None,
        1 => Some(String::new()),
        2 => Some(format!("{name}/x*${{a}}")),
        _ => Some("é \t'\"\\".to_owned()),
    };
    let first = expander.expand(word, &get);
    if let Ok(expansion) = &first {
        assert_eq!(expansion.words.len(), expansion.ranges.len());
        assert!(expansion.ranges.iter().all(|range| word.get(range.clone()).is_some()));
    }
    let again = expander.expand(word, &get);
    assert_eq!(first.ok().map(|it| (it.text, it.words)), again.ok().map(|it| (it.text, it.words)));
});
