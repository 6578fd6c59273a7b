//! The crates that `cargo auditable` wrote into a program (the section `.dep-v0`: JSON, compressed with zlib).

use std::io::Read;

use cofferdam_plugin_sdk::json::{self, Value};

use crate::{
    cargo,
    files::Trouble,
    package::{Package, Purpose},
};

/// Of 1,000 crates the list has some 100 KB. What is parsed takes up to fifty times its memory.
pub const LIMIT_BYTES: usize = 1 << 20;

/// The crates that are in the program; those that only built it are not.
///
/// # Errors
/// The section is not what it should be.
pub fn packages(section: &[u8]) -> Result<Vec<Package>, Trouble> {
    let broken = || Trouble::content("its list of Rust crates is malformed");
    let mut text = Vec::new();
    let inflated = flate2::read::ZlibDecoder::new(section).take(LIMIT_BYTES as u64 + 1).read_to_end(&mut text);
    inflated.map_err(|_| broken())?;
    if text.len() > LIMIT_BYTES {
        return Err(Trouble::content("its list of Rust crates is too long"));
    }
    let value = json::parse(std::str::from_utf8(&text).map_err(|_| broken())?).map_err(|_| broken())?;
    let Some(Value::Array(crates)) = value.get("packages") else { return Err(broken()) };
    Ok(crates.iter().filter_map(package).collect())
}

fn package(value: &Value) -> Option<Package> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    if text("kind") == Some("build") {
        return None;
    }
    let (name, version) = (text("name")?, text("version")?);
    let mut package = Package::library(cargo::purl(name, version, ""), name, version);
    if value.get("root") == Some(&Value::Boolean(true)) {
        package.purpose = Purpose::Application;
    }
    Some(package)
}
