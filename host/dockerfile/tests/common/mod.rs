//! Finding the shared conformance data.

use std::path::PathBuf;

/// A folder of the shared conformance data. Where it is absent, the test is skipped with a line that says so, or fails
/// if `COFFERDAM_REQUIRE_ALL=1` asks for everything.
pub fn conformance(folder: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    assert!(
        std::env::var("COFFERDAM_REQUIRE_ALL").as_deref() != Ok("1"),
        "COFFERDAM_REQUIRE_ALL=1, but the conformance data {folder} is not there"
    );
    eprintln!("SKIPPED: the conformance data {folder} is not there");
    None
}
