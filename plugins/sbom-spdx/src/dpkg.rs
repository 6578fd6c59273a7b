//! Debian's database of packages: `/var/lib/dpkg/status`, and `status.d` of images without dpkg (distroless).

use cofferdam_plugin_sdk::{fs::Tree, paths, sbom::Error};

use crate::{
    database,
    fields::Stanza,
    files,
    inventory::Inventory,
    package::{Package, person},
    purl::Purl,
    system::System,
};

/// Of 5,000 packages it has some 8 MB.
const STATUS_LIMIT_BYTES: usize = 32 << 20;
const PART_LIMIT_BYTES: usize = 4 << 20;

/// Adds the packages that are installed.
///
/// # Errors
/// The host's.
pub fn collect(root: &dyn Tree, system: &System, inventory: &mut Inventory) -> Result<(), Error> {
    let read = |place: &[u8], limit| database::read(root, place, limit, "Package", |stanza| package(stanza, system));
    let place = b"/var/lib/dpkg/status";
    inventory.add_all(read(place, STATUS_LIMIT_BYTES), place)?;
    let directory = b"/var/lib/dpkg/status.d";
    let names = inventory.settle(files::names(root, directory), directory)?.unwrap_or_default();
    for name in names.iter().filter(|name| !name.ends_with(b".md5sums")) {
        let place = paths::join(directory, name);
        inventory.add_all(read(&place, PART_LIMIT_BYTES), &place)?;
    }
    Ok(())
}

/// A package that is installed; those whose configuration files alone are there are not.
fn package(stanza: &Stanza<'_>, system: &System) -> Option<Package> {
    let name = stanza.get("Package")?;
    let version = stanza.get("Version")?;
    // deb-control(5): want, error flag and state. The files of status.d have none.
    let is_installed = |status: &str| status.split_whitespace().nth(2) == Some("installed");
    if !stanza.get("Status").is_none_or(is_installed) {
        return None;
    }
    let purl = Purl::new("deb", &name.to_ascii_lowercase(), version)
        .namespace(system.namespace("debian"))
        .qualifier("arch", stanza.get("Architecture").unwrap_or_default())
        .qualifier("distro", &system.distro())
        .qualifier("upstream", &upstream(stanza.get("Source")));
    let mut package = Package::new(purl, name, version);
    package.supplier = stanza.get("Maintainer").and_then(person);
    package.homepage = stanza.get("Homepage").map(str::to_owned);
    Some(package)
}

/// The source package where it has another name or version, as those who look for flaws want it: `glibc`, `gcc@12.2.0`.
fn upstream(source: Option<&str>) -> String {
    let Some(source) = source else { return String::new() };
    match source.split_once('(') {
        Some((name, version)) => format!("{}@{}", name.trim(), version.trim_end_matches(')').trim()),
        None => source.to_owned(),
    }
}
