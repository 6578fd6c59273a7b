//! Alpine's database of packages.

use cofferdam_plugin_sdk::{fs::Tree, sbom::Error};

use crate::{
    database,
    fields::Stanza,
    inventory::Inventory,
    package::{Package, person},
    purl::Purl,
    system::System,
};

/// It lists the files of all packages.
const LIMIT_BYTES: usize = 32 << 20;

/// Adds the packages that are installed.
///
/// # Errors
/// The host's.
pub fn collect(root: &dyn Tree, system: &System, inventory: &mut Inventory) -> Result<(), Error> {
    // The first one is a link to the second where /lib is part of /usr: what is found twice counts once.
    for place in ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"] {
        let place = place.as_bytes();
        let found = database::read(root, place, LIMIT_BYTES, "P", |stanza| package(stanza, system));
        inventory.add_all(found, place)?;
    }
    Ok(())
}

/// Fields have one letter: package, version, architecture, origin, license, maintainer, URL.
fn package(stanza: &Stanza<'_>, system: &System) -> Option<Package> {
    let (name, version) = (stanza.exact("P")?, stanza.exact("V")?);
    let origin = stanza.exact("o").filter(|origin| *origin != name).unwrap_or_default();
    let purl = Purl::new("apk", &name.to_ascii_lowercase(), version)
        .namespace(system.namespace("alpine"))
        .qualifier("arch", stanza.exact("A").unwrap_or_default())
        .qualifier("distro", &system.distro())
        .qualifier("upstream", origin);
    let mut package = Package::new(purl, name, version);
    package.license = stanza.exact("L").map(str::to_owned);
    package.supplier = stanza.exact("m").and_then(person);
    package.homepage = stanza.exact("U").map(str::to_owned);
    Some(package)
}
