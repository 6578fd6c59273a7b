//! What compilers left in programs: Go's build information, and the crates of `cargo auditable`.

mod elf;
pub(crate) mod go;
mod rust;

use cofferdam_plugin_sdk::fs::{Metadata, Tree};

use crate::{files::Trouble, package::Package};

/// Whether a file may be a program. Shared libraries are looked at where they may be executed, as most are.
pub fn may_be_one(found: &Metadata) -> bool {
    found.mode & 0o111 != 0 && found.size >= elf::HEADER_BYTES as u64
}

/// What a program was built from; nothing if it is none, or does not say.
///
/// # Errors
/// It says something that can't be read.
pub fn read(root: &dyn Tree, path: &[u8]) -> Result<Vec<Package>, Trouble> {
    let Some(elf) = elf::Elf::open(root, path)? else { return Ok(Vec::new()) };
    let mut packages = Vec::new();
    if let Some(section) = elf.section(".go.buildinfo", go::LIMIT_BYTES)? {
        packages.extend(go::packages(&section)?);
    }
    if let Some(section) = elf.section(".dep-v0", rust::LIMIT_BYTES)? {
        packages.extend(rust::packages(&section)?);
    }
    Ok(packages)
}
