//! Spellings that Kaniko has given up.

use std::ffi::OsString;

/// The old spelling and the one that took its place.
const SPELLINGS: &[(&str, &str)] = &[
    ("--customPlatform", "--custom-platform"),
    ("--snapshotMode", "--snapshot-mode"),
    ("--tarPath", "--tar-path"),
    ("--whitelist-var-run", "--ignore-var-run"),
];

/// What is said about a command line, once for each spelling.
pub fn warnings(arguments: &[OsString]) -> Vec<String> {
    let is = |argument: &OsString, name: &str| {
        argument
            .to_str()
            .and_then(|text| text.strip_prefix(name))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let used = SPELLINGS.iter().filter(|(old, _)| arguments.iter().any(|argument| is(argument, old)));
    used.map(|(old, new)| format!("warning: `{old}` is deprecated: write `{new}`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_old_spelling_is_told_once() {
        let arguments = ["executor", "--tarPath=x", "--tarPath", "y", "--snapshotModes", "--tar-path", "z"];
        let warned = warnings(&arguments.map(OsString::from));
        assert_eq!(warned, ["warning: `--tarPath` is deprecated: write `--tar-path`"]);
    }
}
