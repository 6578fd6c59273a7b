//! COPY of what the ignore file hides.

use cofferdam_dockerfile::{
    HeredocMarker, Instruction,
    ignore::IgnorePatterns,
    lint::{Findings, Reach, Rule, quoted},
};

/// A source that is not in the context, because an ignore pattern says so.
pub static COPY_IGNORED_FILE: Rule = Rule {
    name: "CopyIgnoredFile",
    description: "Attempting to Copy file that is excluded by .dockerignore",
    format: "Attempting to {} file {} that is excluded by .dockerignore",
    help: "copy something else, or make an exception (`!…`) in the ignore file",
    experimental: true,
    reach: Reach::Stage,
    bad: "# check=experimental=CopyIgnoredFile\nFROM scratch\nCOPY ignored.txt /\n",
    good: "# check=experimental=CopyIgnoredFile\nFROM scratch\nCOPY other.txt /\n",
};

/// `words` are the expanded arguments, the destination last.
pub(super) fn check(
    instruction: &Instruction,
    words: &[String],
    patterns: &IgnorePatterns,
    findings: &mut Findings<'_>,
) {
    // With exceptions a directory may be ignored and still have something to copy.
    if patterns.is_empty() || patterns.has_exceptions() || instruction.flag("from").is_some() {
        return;
    }
    let Some((_, sources)) = words.split_last() else { return };
    let verb = if instruction.keyword == "ADD" { "Add" } else { "Copy" };
    for source in sources {
        let remote = instruction.keyword == "ADD" && (source.contains("://") || source.starts_with("git@"));
        if remote || HeredocMarker::parse(source).is_some() {
            continue;
        }
        let path = clean(source);
        if path != "." && patterns.excluded(path.as_bytes()) {
            findings.report(&COPY_IGNORED_FILE, instruction, &[verb, &quoted(&path)]);
        }
    }
}

/// The path without `.`, `..` and doubled slashes, as far as the text alone allows.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (path.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_cleaned_by_their_text() {
        for (path, cleaned) in
            [("./a//b/", "a/b"), ("a/../b", "b"), ("../a", "../a"), (".", "."), ("", "."), ("/a/./b", "/a/b")]
        {
            assert_eq!(clean(path), cleaned);
        }
    }
}
