//! Which distribution an image is of (os-release(5)).

use std::collections::BTreeMap;

use cofferdam_plugin_sdk::{fs::Tree, sbom::Error};

use crate::{
    files,
    inventory::Inventory,
    package::{Package, Purpose},
    purl::Purl,
};

/// What os-release says.
#[derive(Debug, Default)]
pub struct System {
    /// `ID`: `debian`, `alpine`, `fedora`.
    id: String,
    /// `VERSION_ID`; empty for a rolling release.
    version: String,
}

const LIMIT_BYTES: usize = 1 << 20;

impl System {
    /// Reads it, and notes the system as a package.
    ///
    /// # Errors
    /// The host's.
    pub fn read(root: &dyn Tree, inventory: &mut Inventory) -> Result<Self, Error> {
        for place in ["/etc/os-release", "/usr/lib/os-release"] {
            let place = place.as_bytes();
            let Some(Some(content)) = inventory.settle(files::read(root, place, LIMIT_BYTES), place)? else { continue };
            let values = values(&String::from_utf8_lossy(&content));
            let value = |key: &str| values.get(key).cloned().unwrap_or_default();
            let system = Self { id: value("ID").to_ascii_lowercase(), version: value("VERSION_ID") };
            if !system.id.is_empty() {
                let mut package =
                    Package::new(Purl::new("generic", &system.id, &system.version), &system.id, &system.version);
                package.purpose = Purpose::OperatingSystem;
                package.homepage = values.get("HOME_URL").cloned();
                inventory.add(package, place);
                return Ok(system);
            }
        }
        Ok(Self::default())
    }

    /// The namespace of its packages' URLs, or what is usual where nothing names it.
    pub fn namespace<'s>(&'s self, usual: &'s str) -> &'s str {
        if self.id.is_empty() { usual } else { &self.id }
    }

    /// The qualifier `distro` of its packages' URLs: `debian-12`.
    pub fn distro(&self) -> String {
        match self.version.is_empty() {
            true => self.id.clone(),
            false => format!("{}-{}", self.id, self.version),
        }
    }
}

/// Assignments of a shell without expansion: the value may stand in quotes, and a backslash takes a character as it is.
fn values(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((key, raw)) = line.split_once('=') else { continue };
        let quoted = |mark: char| raw.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
        let inner = quoted('"').or_else(|| quoted('\'')).unwrap_or(raw);
        let mut value = String::new();
        let mut characters = inner.chars();
        while let Some(character) = characters.next() {
            value.extend(if character == '\\' { characters.next() } else { Some(character) });
        }
        if !value.is_empty() {
            values.insert(key.to_owned(), value);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_the_shells() {
        let values = values("ID=debian\nVERSION_ID=\"12\"\n# ID=x\nA='b c'\nB=\"d\\\"e\"\nC=\n");
        assert_eq!(values["ID"], "debian");
        assert_eq!(values["VERSION_ID"], "12");
        assert_eq!((values["A"].as_str(), values["B"].as_str()), ("b c", "d\"e"));
        assert!(!values.contains_key("C"));
    }
}
