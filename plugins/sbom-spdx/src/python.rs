//! Python: the core metadata of installed distributions (`*.dist-info/METADATA`, and the older `*.egg-info`).

use cofferdam_plugin_sdk::fs::Tree;

use crate::{fields::stanzas, files, files::Trouble, package::Package, purl::Purl};

/// The metadata has the whole description in it.
const LIMIT_BYTES: usize = 4 << 20;

/// Whether a file is metadata of a distribution.
pub fn is_metadata_file(path: &[u8]) -> bool {
    let mut components = path.rsplit(|byte| *byte == b'/');
    let (name, directory) = (components.next().unwrap_or_default(), components.next().unwrap_or_default());
    match name {
        b"METADATA" => directory.ends_with(b".dist-info"),
        b"PKG-INFO" => directory.ends_with(b".egg-info"),
        name => name.ends_with(b".egg-info"),
    }
}

/// The distribution of a file.
///
/// # Errors
/// It has no name and version.
pub fn read(root: &dyn Tree, path: &[u8]) -> Result<Option<Package>, Trouble> {
    let Some(content) = files::read(root, path, LIMIT_BYTES)? else { return Ok(None) };
    // What follows the first blank line is the description.
    let Some(head) = stanzas(&content).next() else { return Err(Trouble::content("it is empty")) };
    let (Some(name), Some(version)) = (head.get("Name"), head.get("Version")) else {
        return Err(Trouble::content("it has no name and version"));
    };
    // The purl type pypi: no case, and dashes for underscores.
    let mut package =
        Package::library(Purl::new("pypi", &name.to_lowercase().replace('_', "-"), version), name, version);
    package.license = head.get("License-Expression").or_else(|| head.get("License")).map(str::to_owned);
    package.license = package.license.filter(|license| license != "UNKNOWN");
    package.homepage = head.get("Home-page").map(str::to_owned);
    Ok(Some(package))
}
