//! One package.

use std::collections::BTreeSet;

use crate::purl::Purl;

/// One package of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// What it is called everywhere.
    pub purl: Purl,
    /// Its name, as its own world writes it.
    pub name: String,
    /// Its version, as its own world writes it; empty if it has none.
    pub version: String,
    /// What it says of its license, in whatever words.
    pub license: Option<String>,
    /// Who supplies it, with `Person: ` or `Organization: ` in front (SPDX 2.3, 7.5).
    pub supplier: Option<String>,
    /// Where it is described.
    pub homepage: Option<String>,
    /// SHA-256 of the package file that it came from, in hexadecimal.
    pub sha256: Option<String>,
    /// What it is for.
    pub purpose: Purpose,
    /// The files that told of it.
    pub places: BTreeSet<String>,
}

/// What a package is for, as far as that is known (SPDX 2.3, 7.24).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nobody says.
    Unknown,
    /// A program.
    Application,
    /// Linked into or loaded by programs.
    Library,
    /// The distribution.
    OperatingSystem,
}

impl Package {
    /// A package of which only its names are known.
    pub fn new(purl: Purl, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            purl,
            name: name.into(),
            version: version.into(),
            license: None,
            supplier: None,
            homepage: None,
            sha256: None,
            purpose: Purpose::Unknown,
            places: BTreeSet::new(),
        }
    }

    /// A library, of which only its names are known.
    pub fn library(purl: Purl, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { purpose: Purpose::Library, ..Self::new(purl, name, version) }
    }
}

/// The supplier that a maintainer's line (`Name <address>`) is.
pub fn person(line: &str) -> Option<String> {
    let (name, address) = match line.split_once('<') {
        Some((name, rest)) => (name.trim().trim_matches('"'), rest.split('>').next().unwrap_or_default().trim()),
        None => (line.trim(), ""),
    };
    // Round brackets are what SPDX puts around the address.
    let name = name.replace(['(', ')'], "");
    match (name.trim(), address) {
        ("", _) => None,
        (name, "") => Some(format!("Person: {name}")),
        (name, address) => Some(format!("Person: {name} ({address})")),
    }
}
