//! How a build is shown while it runs. All of it goes to standard error: standard output is for data.

mod json;
mod plain;

use std::{io, sync::Arc};

use cofferdam_engine::{Digest, Observer};

pub use json::JsonProgress;
pub use plain::{PlainProgress, Verbosity};

/// The observer for a `--progress` value.
///
/// # Errors
/// The value is unknown.
pub fn observer(mode: &str, verbosity: Verbosity) -> Result<Arc<dyn Observer>, String> {
    match mode {
        "auto" | "plain" | "tty" => Ok(Arc::new(PlainProgress::new(io::stderr(), verbosity))),
        "json" | "rawjson" => Ok(Arc::new(JsonProgress::new(io::stderr()))),
        "quiet" | "none" => Ok(Arc::new(PlainProgress::new(io::stderr(), Verbosity::Quiet))),
        other => Err(format!("`--progress {other}` is unknown; auto, plain and json are known")),
    }
}

/// The start of a digest, for people.
fn short(digest: &Digest) -> String {
    format!("sha256:{}", &digest.hex()[..12])
}

/// A size for people.
fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count}B"),
        1_000..1_000_000 => format!("{:.1}kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}MB", count as f64 / 1e6),
        _ => format!("{:.2}GB", count as f64 / 1e9),
    }
}
