//! Numbers for people.

use std::time::Duration;

use cofferdam_engine::Digest;

/// The start of a digest.
pub fn short(digest: &Digest) -> String {
    format!("sha256:{}", &digest.hex()[..12])
}

/// A size.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count}B"),
        1_000..1_000_000 => format!("{:.1}kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}MB", count as f64 / 1e6),
        _ => format!("{:.2}GB", count as f64 / 1e9),
    }
}

/// A time.
pub fn seconds(elapsed: Duration) -> String {
    format!("{:.1}s", elapsed.as_secs_f64())
}

/// A number of things.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
