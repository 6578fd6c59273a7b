//! npm: the `package.json` of what lies in `node_modules`.

use cofferdam_plugin_sdk::{
    fs::Tree,
    json::{self, Value},
};

use crate::{files, files::Trouble, package::Package, purl::Purl};

/// What is parsed takes up to fifty times its memory.
const LIMIT_BYTES: usize = 1 << 20;

/// Whether a file describes a package: `node_modules/NAME/package.json`, or with a scope before the name. Others are parts of
/// packages, which have their own for Node's sake.
pub fn is_package_file(path: &[u8]) -> bool {
    let mut components = path.rsplit(|byte| *byte == b'/');
    if components.next() != Some(b"package.json") || components.next().is_none() {
        return false;
    }
    match components.next() {
        Some(b"node_modules") => true,
        Some(scope) => scope.starts_with(b"@") && components.next() == Some(b"node_modules"),
        None => false,
    }
}

/// The package of a file; none if it has neither name nor version, as templates.
///
/// # Errors
/// It is not JSON.
pub fn read(root: &dyn Tree, path: &[u8]) -> Result<Option<Package>, Trouble> {
    let Some(content) = files::read(root, path, LIMIT_BYTES)? else { return Ok(None) };
    let text = std::str::from_utf8(&content).map_err(|_| Trouble::content("it is not UTF-8"))?;
    let value = json::parse(text.trim_start_matches('\u{feff}'))
        .map_err(|error| Trouble::content(format!("it is not JSON (byte {})", error.offset)))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let (Some(name), Some(version)) = (text("name"), text("version")) else { return Ok(None) };
    let purl = match name.split_once('/') {
        Some((scope, rest)) => Purl::new("npm", rest, version).namespace(scope),
        None => Purl::new("npm", name, version),
    };
    let mut package = Package::library(purl, name, version);
    // Before SPDX expressions it was an object with a type.
    let license = value.get("license").and_then(|license| license.as_str().or_else(|| license.get("type")?.as_str()));
    package.license = license.map(str::to_owned);
    package.homepage = text("homepage").map(str::to_owned);
    Ok(Some(package))
}
