//! Paths as the instructions write them: bytes, `/` between components.

use crate::fs::Path;

/// The absolute path without `.`, `..` and double slashes; `..` stops at the root, as it does in `/`.
pub fn clean(path: &[u8]) -> Path {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    if components.is_empty() {
        return b"/".to_vec();
    }
    let mut cleaned = Vec::with_capacity(path.len() + 1);
    for component in components {
        cleaned.push(b'/');
        cleaned.extend_from_slice(component);
    }
    cleaned
}

/// `path` if it is absolute, else `path` beneath `base`; cleaned.
pub fn resolve(base: &[u8], path: &[u8]) -> Path {
    if path.starts_with(b"/") { clean(path) } else { clean(&[base, b"/", path].concat()) }
}

/// `name` beneath `directory`.
pub fn join(directory: &[u8], name: &[u8]) -> Path {
    let separator: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, separator, name].concat()
}

/// The last component; empty for the root.
pub fn base_name(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &path[start..end]
}

/// Whether a destination is written as a directory: `x/`, `x/.`, `.`, or nothing.
pub fn names_directory(path: &[u8]) -> bool {
    matches!(path, b"" | b"." | b"..") || path.ends_with(b"/") || path.ends_with(b"/.") || path.ends_with(b"/..")
}

/// Whether a source is a pattern, which may match nothing; any other must exist.
pub fn has_wildcards(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// A pattern that matches this path and nothing else.
pub fn escape_wildcards(path: &[u8]) -> Path {
    let mut pattern = Vec::with_capacity(path.len());
    for byte in path {
        if has_wildcards(&[*byte]) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern
}

/// A path for a message, without the leading slash that a context has no use for.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path.strip_prefix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(path)).into_owned()
}

/// Whether a single name matches a pattern of the ignore kind without a slash: `*`, `?`, `[a-z]`, `\x`, and a leading
/// `**/`, which matches no directory as well.
pub fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut pattern = pattern.strip_prefix(b"/").unwrap_or(pattern);
    while let Some(rest) = pattern.strip_prefix(b"**/") {
        pattern = rest;
    }
    matches(pattern.strip_suffix(b"/").unwrap_or(pattern), name)
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Backtracks to the last star only, which is enough for patterns of a single component.
    let (mut at, mut position, mut star) = (0, 0, None);
    while position < name.len() || at < pattern.len() {
        if at < pattern.len() && pattern[at] == b'*' {
            star = Some((at, position));
            at += 1;
            continue;
        }
        if position < name.len()
            && let Some(length) = matches_one(&pattern[at..], name[position])
        {
            at += length;
            position += 1;
            continue;
        }
        match star {
            Some((star_at, from)) if from < name.len() => {
                star = Some((star_at, from + 1));
                (at, position) = (star_at + 1, from + 1);
            }
            _ => return false,
        }
    }
    true
}

/// How many bytes of the pattern matched this byte.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'\\' => (*pattern.get(1)? == byte).then_some(2),
        b'[' => {
            let end = pattern.iter().skip(2).position(|byte| *byte == b']')? + 2;
            let (negated, set) = match pattern[1] {
                b'^' => (true, &pattern[2..end]),
                _ => (false, &pattern[1..end]),
            };
            let mut found = false;
            let mut index = 0;
            while index < set.len() {
                if index + 2 < set.len() && set[index + 1] == b'-' {
                    found |= (set[index]..=set[index + 2]).contains(&byte);
                    index += 3;
                } else {
                    found |= set[index] == byte;
                    index += 1;
                }
            }
            (found != negated).then_some(end + 1)
        }
        literal => (literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_never_leaves_the_root() {
        assert_eq!(clean(b"../../etc/./passwd/"), b"/etc/passwd");
        assert_eq!(clean(b"a//b/../c"), b"/a/c");
        assert_eq!(clean(b".."), b"/");
        assert_eq!(clean(b""), b"/");
    }

    #[test]
    fn relative_paths_are_beneath_the_base() {
        assert_eq!(resolve(b"/app", b"x/../y"), b"/app/y");
        assert_eq!(resolve(b"/app", b"/y"), b"/y");
        assert_eq!(resolve(b"/", b"../y"), b"/y");
    }

    #[test]
    fn base_names_ignore_trailing_slashes() {
        assert_eq!(base_name(b"/a/b//"), b"b");
        assert_eq!(base_name(b"/"), b"");
        assert_eq!(base_name(b"a"), b"a");
    }

    #[test]
    fn destinations_name_directories_by_their_end() {
        for path in [&b"x/"[..], b"x/.", b".", b"", b"/", b"x/.."] {
            assert!(names_directory(path));
        }
        assert!(!names_directory(b"x/.y"));
        assert!(!names_directory(b"x.."));
    }

    #[test]
    fn single_names_match_ignore_patterns() {
        for (pattern, name) in [
            ("*.txt", "a.txt"),
            ("**/*.txt", "a.txt"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[^a]x", "bx"),
            ("*", ""),
            ("a*b*c", "aXbYc"),
            ("\\*", "*"),
            ("dir/", "dir"),
        ] {
            assert!(name_matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.txt", "a.txtx"), ("a?c", "ac"), ("[a-c]x", "dx"), ("[^a]x", "ax"), ("", "a"), ("a/b", "b"), ("[", "[")]
        {
            assert!(!name_matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }
}
