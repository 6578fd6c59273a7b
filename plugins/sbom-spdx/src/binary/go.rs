//! Go's build information (the section `.go.buildinfo`, as Go's package debug/buildinfo reads it).

use crate::{
    files::Trouble,
    package::{Package, Purpose},
    purl::Purl,
};

/// The largest programs name some thousand modules, with 100 bytes each.
pub const LIMIT_BYTES: usize = 1 << 20;

const MAX_MODULES: usize = 10_000;

const MAGIC: &[u8] = b"\xff Go buildinf:";

/// The two texts stand in the section itself, from here on.
const TEXTS_AT: usize = 32;

/// The flag that says so. Before Go 1.18 there are pointers to them instead.
const INLINE: u8 = 2;

/// The modules that a program was built from, and Go's own library.
///
/// # Errors
/// The section is not what Go writes.
pub fn packages(section: &[u8]) -> Result<Vec<Package>, Trouble> {
    let broken = || Trouble::content("its Go build information is malformed");
    // It stands at a multiple of 16; the linker puts it first.
    let info = section.strip_prefix(MAGIC).map(|_| section).ok_or_else(broken)?;
    if info.get(15).ok_or_else(broken)? & INLINE == 0 {
        return Err(Trouble::content("it was built with a Go older than 1.18, which says elsewhere of what"));
    }
    let (version, rest) = text(info.get(TEXTS_AT..).ok_or_else(broken)?).ok_or_else(broken)?;
    let (modules, _) = text(rest).ok_or_else(broken)?;
    let version = std::str::from_utf8(version).map_err(|_| broken())?;
    let mut packages = Vec::new();
    if let Some(number) = version.split_whitespace().next().and_then(|version| version.strip_prefix("go")) {
        packages.push(Package::library(Purl::new("golang", "stdlib", number), "stdlib", number));
    }
    let modules = String::from_utf8_lossy(without_marks(modules)).into_owned();
    packages.extend(read_modules(&modules));
    Ok(packages)
}

/// A length (as encoding/binary writes unsigned numbers) and so many bytes.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length: u64 = 0;
    for (number, byte) in bytes.iter().enumerate().take(10) {
        length |= u64::from(byte & 0x7f).checked_shl(7 * number as u32)?;
        if byte & 0x80 == 0 {
            return bytes[number + 1..].split_at_checked(usize::try_from(length).ok()?);
        }
    }
    None
}

/// The text of modules stands between two marks of 16 bytes.
fn without_marks(text: &[u8]) -> &[u8] {
    match text.len() {
        length if length >= 33 && text[length - 17] == b'\n' => &text[16..length - 16],
        _ => b"",
    }
}

/// `mod`, `dep` and `=>` lines: path, version, and a sum that is Go's own. `=>` stands for the one before it.
fn read_modules(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for line in text.lines() {
        if packages.len() > MAX_MODULES {
            break;
        }
        let mut fields = line.split('\t');
        let (kind, path, version) = (fields.next(), fields.next(), fields.next().unwrap_or_default());
        let Some(path) = path.filter(|path| !path.is_empty()) else { continue };
        match kind {
            Some("mod") => packages.push(Package { purpose: Purpose::Application, ..module(path, version) }),
            Some("dep") => packages.push(module(path, version)),
            Some("=>") => {
                // A directory has no version: what it holds is known by the name that it stands for.
                let replaced = packages.pop();
                let is_directory = version.is_empty() || path.starts_with(['.', '/']);
                packages.extend(if is_directory { replaced } else { Some(module(path, version)) });
            }
            _ => {}
        }
    }
    packages
}

fn module(path: &str, version: &str) -> Package {
    // What was built from a checkout.
    let version = if version == "(devel)" { "" } else { version };
    // The purl type golang has lower case only.
    let lower = path.to_lowercase();
    let purl = match lower.rsplit_once('/') {
        Some((namespace, name)) => Purl::new("golang", name, version).namespace(namespace),
        None => Purl::new("golang", &lower, version),
    };
    Package::library(purl, path, version)
}
