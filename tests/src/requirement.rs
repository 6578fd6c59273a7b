//! What a test needs of the machine. A test that can't run says so; `COFFERDAM_REQUIRE_ALL=1` makes that a failure.

use std::path::PathBuf;

use crate::cargo;

/// Reports that a test can't run here.
///
/// # Panics
/// With `COFFERDAM_REQUIRE_ALL=1`.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("COFFERDAM_REQUIRE_ALL").is_none_or(|value| value != "1"), "skipped: {reason}");
    // Past the test runner's capture, so that it is seen in a log of passed tests too.
    use std::io::Write;
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    if let Ok(mut terminal) = std::fs::OpenOptions::new().write(true).open("/proc/self/fd/2") {
        let _ = writeln!(terminal, "skipped: {name}: {reason}");
    }
}

/// A program of the machine; `None` (reported as a skip) if there is none.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.map(|place| place.join(name)).find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("`{name}` is not installed (scripts/install-test-tools.sh)"));
    }
    found
}

/// The directory of an emulator of a cloud, which scripts/install-test-tools.sh fills; `None` (reported as a skip) where it is
/// missing.
pub fn emulator(name: &str) -> Option<PathBuf> {
    let (_, target) = cargo();
    let place = target.join("tools").join(name);
    if !place.join("complete").is_file() {
        skip(&format!("{name} is not installed (scripts/install-test-tools.sh)"));
        return None;
    }
    Some(place)
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
