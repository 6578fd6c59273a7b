//! Cargo: `Cargo.lock`, of images that have their sources.

use cofferdam_plugin_sdk::fs::Tree;
use toml::{Table, Value};

use crate::{files, files::Trouble, package::Package, purl::Purl};

/// That of a compiler has some 200 KB. What is parsed takes up to a hundred times its memory.
const LIMIT_BYTES: usize = 1 << 20;

/// The crates of a lock file, those of the workspace itself included.
///
/// # Errors
/// It is not one.
pub fn read_lock(root: &dyn Tree, path: &[u8]) -> Result<Vec<Package>, Trouble> {
    let Some(content) = files::read(root, path, LIMIT_BYTES)? else { return Ok(Vec::new()) };
    let text = std::str::from_utf8(&content).map_err(|_| Trouble::content("it is not UTF-8"))?;
    let table: Table = text.parse().map_err(|_| Trouble::content("it is not TOML"))?;
    let crates = table.get("package").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Ok(crates.iter().filter_map(package).collect())
}

fn package(value: &Value) -> Option<Package> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (name, version) = (text("name")?, text("version")?);
    let mut package = Package::library(purl(name, version, text("source").unwrap_or_default()), name, version);
    let is_digest = |sum: &&str| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    package.sha256 = text("checksum").filter(is_digest).map(str::to_ascii_lowercase);
    Some(package)
}

/// The package URL of a crate: what does not come from crates.io says where it comes from.
pub fn purl(name: &str, version: &str, source: &str) -> Purl {
    let purl = Purl::new("cargo", name, version);
    match source.split_once('+') {
        Some(("git", url)) => purl.qualifier("vcs_url", source_url("git", url).as_str()),
        Some(("registry" | "sparse", url)) if !is_crates_io(url) => purl.qualifier("repository_url", url),
        _ => purl,
    }
}

fn is_crates_io(url: &str) -> bool {
    matches!(url.trim_end_matches('/'), "https://github.com/rust-lang/crates.io-index" | "https://index.crates.io")
}

/// `git+URL@COMMIT`, of Cargo's `URL?branch=…#COMMIT`.
fn source_url(kind: &str, url: &str) -> String {
    let (place, commit) = url.split_once('#').unwrap_or((url, ""));
    let place = place.split('?').next().unwrap_or_default();
    match commit {
        "" => format!("{kind}+{place}"),
        commit => format!("{kind}+{place}@{commit}"),
    }
}
