//! Any ignore file and any path: a walk that is cut where nothing can be taken back misses nothing, and says the same as looking
//! at the path alone.
#![no_main]

use cofferdam_dockerfile::{
    glob::Pattern,
    ignore::{IgnorePatterns, ParentMatches},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (file, path) = input;
    let lines: Vec<&str> = file.lines().take(20).collect();
    let components: Vec<&str> = path.split('/').filter(|name| !["", ".", ".."].contains(name)).take(12).collect();
    if components.is_empty() {
        return;
    }
    let path = components.join("/");
    for line in &lines {
        let patterns = [Pattern::parse(line.as_bytes()), Pattern::parse_with_any_depth(line.as_bytes())];
        for pattern in patterns.into_iter().flatten() {
            if pattern.matches(path.as_bytes()) {
                for (end, _) in path.match_indices('/') {
                    assert!(pattern.could_match_below(&path.as_bytes()[..end]), "{line:?} {path:?}");
                }
            }
        }
    }
    let Ok(ignore) = IgnorePatterns::new(&lines) else { return };
    let mut parent = ParentMatches::default();
    let (mut pruned, mut excluded) = (false, false);
    for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
        let place = &path.as_bytes()[..end];
        (excluded, parent) = ignore.excluded_in(&parent, place);
        assert!(excluded || !pruned, "{path:?} was not entered");
        pruned |= excluded && !ignore.might_reinclude_below(place);
    }
    assert_eq!(excluded, ignore.excluded(path.as_bytes()), "{path:?}");
});
