//! Headers of RPM packages, as databases hold them (RPM's "package format", header structure, without its magic): the number of
//! entries, the number of bytes, entries of 16 bytes (tag, type, offset, count), bytes. All numbers have the highest byte first.

use super::bytes::be32;
use crate::{files::Trouble, package::Package, purl::Purl, system::System};

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const URL: u32 = 1020;
const ARCHITECTURE: u32 = 1022;
const SOURCE_PACKAGE: u32 = 1044;

const INT32: u32 = 4;
const STRING: u32 = 6;
const TRANSLATED_STRING: u32 = 9;

/// More entries than any header has.
const MAX_ENTRIES: usize = 100_000;

/// The package that a header describes; none for the keys that the database holds as packages.
///
/// # Errors
/// It is no header.
pub fn package(blob: &[u8], system: &System) -> Result<Option<Package>, Trouble> {
    let header = Header::read(blob).ok_or_else(|| Trouble::content("a header in it is malformed"))?;
    let (Some(name), Some(version), Some(release)) = (header.text(NAME), header.text(VERSION), header.text(RELEASE))
    else {
        return Err(Trouble::content("a header in it has no name, version and release"));
    };
    if name == "gpg-pubkey" {
        return Ok(None);
    }
    let epoch = header.number(EPOCH).map(|epoch| epoch.to_string()).unwrap_or_default();
    let full = format!("{version}-{release}");
    let purl = Purl::new("rpm", &name, &full)
        .namespace(system.namespace(""))
        .qualifier("arch", &header.text(ARCHITECTURE).unwrap_or_default())
        .qualifier("distro", &system.distro())
        .qualifier("epoch", &epoch)
        .qualifier("upstream", &header.text(SOURCE_PACKAGE).unwrap_or_default());
    let shown = if epoch.is_empty() { full } else { format!("{epoch}:{full}") };
    let mut package = Package::new(purl, name, shown);
    package.license = header.text(LICENSE);
    package.homepage = header.text(URL);
    package.supplier = header.text(VENDOR).map(|vendor| format!("Organization: {vendor}"));
    Ok(Some(package))
}

struct Header<'b> {
    entries: &'b [u8],
    data: &'b [u8],
}

impl<'b> Header<'b> {
    fn read(blob: &'b [u8]) -> Option<Self> {
        let (count, length) = (be32(blob, 0)? as usize, be32(blob, 4)? as usize);
        if count > MAX_ENTRIES {
            return None;
        }
        let (entries, data) = blob.get(8..)?.split_at_checked(count * 16)?;
        Some(Self { entries, data: data.get(..length)? })
    }

    /// The data of a tag of one of these types, from its first byte to the header's last.
    fn find(&self, tag: u32, types: &[u32]) -> Option<&'b [u8]> {
        let entry = self.entries.chunks_exact(16).find(|entry| be32(entry, 0) == Some(tag))?;
        types.contains(&be32(entry, 4)?).then(|| self.data.get(be32(entry, 8)? as usize..))?
    }

    fn text(&self, tag: u32) -> Option<String> {
        let data = self.find(tag, &[STRING, TRANSLATED_STRING])?;
        let text = String::from_utf8_lossy(data.split(|byte| *byte == 0).next()?);
        Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text != "(none)")
    }

    fn number(&self, tag: u32) -> Option<u32> {
        be32(self.find(tag, &[INT32])?, 0)
    }
}
