//! Databases that are texts with a stanza for each package.

use cofferdam_plugin_sdk::fs::Tree;

use crate::{
    fields::{Stanza, stanzas},
    files::{self, Trouble},
    inventory::MAX_PACKAGES,
    package::Package,
};

/// The packages of a database, where `package` finds one in a stanza; none if there is no database. `name` is the field that a
/// stanza of such a database has.
///
/// # Errors
/// It has more than `limit` bytes or more stanzas than packages are taken, it has none of that field, or it can't be read.
pub fn read(
    root: &dyn Tree,
    place: &[u8],
    limit: usize,
    name: &str,
    package: impl Fn(&Stanza<'_>) -> Option<Package>,
) -> Result<Vec<Package>, Trouble> {
    let Some(content) = files::read(root, place, limit)? else { return Ok(Vec::new()) };
    let mut is_database = content.trim_ascii().is_empty();
    let mut packages = Vec::new();
    for (number, stanza) in stanzas(&content).enumerate() {
        if number >= MAX_PACKAGES {
            return Err(Trouble::content(format!("it has more than {MAX_PACKAGES} packages")));
        }
        is_database |= stanza.get(name).is_some();
        packages.extend(package(&stanza));
    }
    if is_database { Ok(packages) } else { Err(Trouble::content("it is not a database of packages")) }
}
