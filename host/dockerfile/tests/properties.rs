//! What must hold for any input.

#[path = "common/spans.rs"]
mod places;

use cofferdam_dockerfile::expand::Expander;
use cofferdam_dockerfile::glob::Pattern;
use cofferdam_dockerfile::ignore::{IgnorePatterns, ParentMatches};
use cofferdam_dockerfile::{JsonForm, KEYWORDS, check, json_form, parse, render};
use places::{inside, spans};
use proptest::prelude::*;

/// Lines made of the pieces that mean something, so that they meet.
fn dockerfile() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "FROM",
        "RUN",
        "COPY",
        "ENV",
        "ARG",
        "ONBUILD",
        "HEALTHCHECK",
        "CUSTOM",
        " ",
        " ",
        " ",
        "\t",
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\\\n",
        "\\ \n",
        "`\n",
        "# escape=`\n",
        "# check=skip=all\n",
        "#!x\n",
        "# note",
        "<<EOF",
        "<<-'E'",
        "EOF",
        "\nEOF\n",
        "\tE\n",
        "E",
        "--a=b",
        "--",
        "--x",
        "\"",
        "'",
        "\\",
        "`",
        "[",
        "]",
        ",",
        "\"a\"",
        "=",
        "a=b",
        "$",
        "${",
        "}",
        ":-",
        "AS",
        "é",
        "\u{a0}",
        "\u{feff}",
        "\u{2028}",
        "\x0b",
        "\x00",
    ];
    let piece = prop_oneof![
        20 => proptest::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..4),
    ];
    proptest::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

proptest! {
    // PROPTEST_CASES sets the number of cases: campaigns take many.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_file_is_taken_apart_and_every_place_is_in_it(bytes in dockerfile()) {
        let parsed = parse(&bytes);
        let source = String::from_utf8_lossy(&bytes);
        for instruction in &parsed.instructions {
            for span in spans(instruction) {
                prop_assert!(inside(span, &source), "{span:?} of {instruction:?}");
            }
            prop_assert!(!instruction.keyword.is_empty());
        }
        let found = check(&parsed, &KEYWORDS);
        for finding in &found {
            prop_assert!(finding.span.is_none_or(|span| inside(span, &source)), "{finding:?}");
        }
        prop_assert!(!parsed.instructions.is_empty() || !found.is_empty());
        let shown = render(&found, "Dockerfile", &source);
        prop_assert_eq!(shown.find('\u{1b}'), None);
    }

    #[test]
    fn random_bytes_are_taken_apart(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let found = check(&parse(&bytes), &KEYWORDS);
        render(&found, "Dockerfile", &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_line_ending_of_windows_changes_no_instruction(text in "(FROM a|RUN b \\\\|ENV c=d|# e|  f|)(\n(FROM a|RUN b \\\\|# e|  f|)){0,6}") {
        let unix = parse(text.as_bytes());
        let windows = parse(text.replace('\n', "\r\n").as_bytes());
        prop_assert_eq!(unix.instructions, windows.instructions);
    }

    #[test]
    fn quoting_protects_any_text(text in "[^'\u{feff}]{0,40}") {
        let get = |name: &str| Some(format!("<{name}>"));
        let expander = Expander::new('\\');
        prop_assert_eq!(expander.word(&format!("'{text}'"), &get).unwrap(), text);
    }

    #[test]
    fn expansion_ends_in_a_word_or_an_error(word in "[$a-c{}:+?#%/\\\\*'\"` <-]{0,40}") {
        let get = |name: &str| (name != "c").then(|| format!("{name}/x*"));
        for expander in [Expander::new('\\'), Expander::new('`'), Expander::for_content()] {
            for expander in [expander, expander.keep_quotes(), expander.keep_escapes().keep_unset()] {
                if let Ok(expansion) = expander.expand(&word, &get) {
                    prop_assert_eq!(expansion.words.len(), expansion.ranges.len());
                    prop_assert!(expansion.ranges.iter().all(|range| word.get(range.clone()).is_some()));
                }
            }
        }
    }

    #[test]
    fn json_is_what_the_field_takes_for_json(text in r#"\[[\[\]{}", \\a:1n-]{0,12}\]?"#) {
        let field: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let expected = match field {
            None => JsonForm::NotJson,
            Some(value) => {
                let strings = value.as_array().unwrap().iter().map(|element| element.as_str().map(str::to_owned));
                strings.collect::<Option<Vec<_>>>().map_or(JsonForm::OtherElements, JsonForm::Strings)
            }
        };
        prop_assert_eq!(json_form(&text), expected);
    }

    #[test]
    fn patterns_match_or_are_refused(pattern in "[a-c/*?\\[\\]^!\\\\.-]{0,12}", path in "[a-c]{1,3}(/[a-c]{1,3}){0,3}") {
        let _ = Pattern::parse_with_any_depth(pattern.as_bytes()).map(|pattern| pattern.matches(path.as_bytes()));
        if let Ok(ignore) = IgnorePatterns::new(["**", "!b", &pattern, "!a/**/c", "b/a*"]) {
            let mut parent = ParentMatches::default();
            let mut pruned = false;
            for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
                let directory = &path.as_bytes()[..end];
                let excluded;
                (excluded, parent) = ignore.excluded_in(&parent, directory);
                prop_assert!(excluded || !pruned, "{} was not entered", path);
                pruned |= excluded && !ignore.might_reinclude_below(directory);
            }
        }
    }

    #[test]
    fn a_walk_that_is_cut_misses_no_match(pattern in "[ab*?/]{1,8}", path in "[ab]{1,2}(/[ab]{1,2}){0,3}") {
        let pattern = Pattern::parse_with_any_depth(pattern.as_bytes()).unwrap();
        if pattern.matches(path.as_bytes()) {
            for (end, _) in path.match_indices('/') {
                prop_assert!(pattern.could_match_below(&path.as_bytes()[..end]));
            }
        }
    }
}

#[test]
fn hostile_files_cost_neither_time_nor_memory_without_end() {
    let many = |line: &str, count: usize| line.repeat(count).into_bytes();
    let numbered: String = (0..60_000).map(|number| format!("RUN <<E{number}\n E{number}\n")).collect();
    for bytes in [
        many("RUN <<E\n E\n", 60_000),
        numbered.into_bytes(),
        many("ENV a b=c\n", 60_000),
        [b"ENV a=b".to_vec(), many(" c", 500_000)].concat(),
        [b"FROM".to_vec(), many(" --x", 200_000)].concat(),
        [b"FROM x\nRUN a".to_vec(), many(" \\\n b", 500_000)].concat(),
        [b"CMD ".to_vec(), many("[", 1_000_000)].concat(),
        [b"RUN <<A ".to_vec(), many("${a:-", 150_000)].concat(),
        many("\n", 16 << 20),
        vec![b'x'; (16 << 20) + 1],
    ] {
        let start = std::time::Instant::now();
        let found = check(&parse(&bytes), &KEYWORDS);
        assert!(found.len() <= 501 && !found.is_empty());
        assert!(start.elapsed().as_secs() < 10, "{:?}", &bytes[..20]);
    }
}
