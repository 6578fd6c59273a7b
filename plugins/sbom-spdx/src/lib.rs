//! A bill of materials in SPDX 2.3, from what an image's file system says of itself.
//!
//! | what | where it is read |
//! | --- | --- |
//! | the system | `/etc/os-release`, `/usr/lib/os-release` |
//! | Debian's packages | [`dpkg`]: `/var/lib/dpkg/status`, `/var/lib/dpkg/status.d/*` |
//! | Alpine's packages | [`apk`]: `/lib/apk/db/installed`, `/usr/lib/apk/db/installed` |
//! | RPM packages | [`rpm`]: `rpmdb.sqlite` with its write-ahead log, `Packages.db`, `Packages` |
//! | Go modules, Rust crates | [`binary`]: what compilers left in ELF files |
//! | npm | [`npm`]: `node_modules/**/package.json` |
//! | Python | [`python`]: `*.dist-info/METADATA`, `*.egg-info` |
//! | Cargo | [`cargo`]: `Cargo.lock` |
//!
//! Everything that is read comes from the image and may be made to do harm: each read has a bound, and what is malformed is
//! a warning that names the file whose packages are missing.

mod apk;
mod binary;
mod cargo;
mod database;
mod document;
mod dpkg;
mod fields;
mod files;
mod inventory;
mod npm;
mod package;
mod purl;
mod python;
mod rpm;
mod system;
mod walk;

use cofferdam_plugin_sdk::{
    DiagnosticExt, Scanner,
    diagnostics::error,
    fs::Tree,
    sbom::{Document, Error, Report, Subject},
};
use inventory::Inventory;
use system::System;

/// The scanner.
pub struct Spdx;

cofferdam_plugin_sdk::export_scanner!(crate::Spdx);

impl Scanner for Spdx {
    fn scan(subject: &Subject, rootfs: &dyn Tree) -> Result<Report, Error> {
        if let Some(option) = subject.options.first() {
            let message = format!("the scanner `sbom-spdx` has no option `{}`", option.key);
            return Err(Error::Invalid(error("UnknownOption", message).help("leave it out: there are none")));
        }
        let mut inventory = Inventory::default();
        let system = System::read(rootfs, &mut inventory)?;
        dpkg::collect(rootfs, &system, &mut inventory)?;
        apk::collect(rootfs, &system, &mut inventory)?;
        rpm::collect(rootfs, &system, &mut inventory)?;
        walk::collect(rootfs, &mut inventory)?;
        let (packages, warnings) = inventory.finish();
        let content = document::write(subject, &packages).into_bytes();
        Ok(Report {
            documents: vec![Document { predicate_type: document::PREDICATE_TYPE.to_owned(), content }],
            warnings,
        })
    }
}

#[cfg(test)]
mod tests;
