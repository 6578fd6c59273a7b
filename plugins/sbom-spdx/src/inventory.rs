//! What was found so far, and what could not be read.

use std::collections::BTreeMap;

use cofferdam_plugin_sdk::{Diagnostic, diagnostics::warning, paths, sbom::Error};

use crate::{files::Trouble, package::Package};

/// Packages and warnings.
#[derive(Default)]
pub struct Inventory {
    /// By package URL: what is found twice is one package in two places.
    packages: BTreeMap<String, Package>,
    /// About as many bytes as the document has of them.
    bytes: usize,
    warnings: Vec<Diagnostic>,
    /// Warnings beyond the limit.
    more: usize,
    full: bool,
}

/// The largest trees of npm have some ten thousand. Memory and the document are bounded by this and by the next.
pub const MAX_PACKAGES: usize = 50_000;

/// The host takes no document of more than 24 MiB.
const MAX_BYTES: usize = 20 << 20;

/// What the document has of a package beside its texts, in bytes.
const FRAME_BYTES: usize = 800;

/// A name or version that is longer is none.
const MAX_TEXT_BYTES: usize = 1024;

/// More would only hide the first ones.
const MAX_WARNINGS: usize = 20;

/// A package that lies in more places names the first ones.
const MAX_PLACES: usize = 16;

impl Inventory {
    /// Adds a package that was found in a file.
    pub fn add(&mut self, mut package: Package, place: &[u8]) {
        if package.name.len().max(package.version.len()) > MAX_TEXT_BYTES {
            self.warn(place, "it has a name or a version that is too long to be one");
            return;
        }
        for text in [&mut package.license, &mut package.supplier, &mut package.homepage] {
            text.take_if(|text| text.len() > MAX_TEXT_BYTES);
        }
        let (purl, place) = (package.purl.to_string(), shown(place));
        let is_new = !self.packages.contains_key(&purl);
        let cost = place.len() + if is_new { package_bytes(&package, &purl) } else { 0 };
        if self.bytes + cost > MAX_BYTES || is_new && self.packages.len() >= MAX_PACKAGES {
            if !std::mem::replace(&mut self.full, true) {
                let text = "the image has more packages than an SBOM can have: the rest is left out".to_owned();
                self.warnings.push(warning("TooManyPackages", text));
            }
            return;
        }
        let known = self.packages.entry(purl).or_insert(package);
        if known.places.len() < MAX_PLACES && known.places.insert(place) || is_new {
            self.bytes += cost;
        }
    }

    /// Adds packages that were found in a file; what is wrong with the file becomes a warning.
    ///
    /// # Errors
    /// The host's.
    pub fn add_all(
        &mut self,
        found: Result<impl IntoIterator<Item = Package>, Trouble>,
        place: &[u8],
    ) -> Result<(), Error> {
        if let Some(packages) = self.settle(found, place)? {
            packages.into_iter().for_each(|package| self.add(package, place));
        }
        Ok(())
    }

    /// What was read of a file, or a warning that it could not be.
    ///
    /// # Errors
    /// The host's.
    pub fn settle<T>(&mut self, read: Result<T, Trouble>, place: &[u8]) -> Result<Option<T>, Error> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Trouble::Host(error)) => Err(error),
            Err(Trouble::Content(reason)) => {
                self.warn(place, &reason);
                Ok(None)
            }
        }
    }

    /// Notes that the packages of a file are missing.
    pub fn warn(&mut self, place: &[u8], reason: &str) {
        match self.warnings.len() < MAX_WARNINGS {
            true => {
                let text = format!("the SBOM has nothing of `{}`: {reason}", shown(place));
                self.warnings.push(warning("UnreadablePackages", text));
            }
            false => self.more += 1,
        }
    }

    /// The packages, sorted by package URL, and the warnings.
    pub fn finish(mut self) -> (Vec<Package>, Vec<Diagnostic>) {
        if self.more > 0 {
            let text = format!("the SBOM has nothing of {} more files either, which can't be read", self.more);
            self.warnings.push(warning("UnreadablePackages", text));
        }
        (self.packages.into_values().collect(), self.warnings)
    }
}

/// About as many bytes as the document has of a package.
fn package_bytes(package: &Package, purl: &str) -> usize {
    let texts = [&package.license, &package.supplier, &package.homepage, &package.sha256];
    let texts: usize = texts.iter().filter_map(|text| text.as_ref()).map(String::len).sum();
    FRAME_BYTES + purl.len() + package.name.len() * 2 + package.version.len() + texts
}

/// A path for people, from the image's root.
fn shown(place: &[u8]) -> String {
    format!("/{}", paths::shown(place).trim_start_matches('/'))
}
