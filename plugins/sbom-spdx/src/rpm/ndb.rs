//! RPM's own database, `Packages.db` (rpm's lib/backend/ndb/rpmpkg.c): pages of slots, each of which says where a blob is. All
//! numbers have the lowest byte first.

use super::{HEADER_LIMIT_BYTES, Visitor, bytes::le32};
use crate::files::Trouble;

const DATABASE: &[u8] = b"RpmP";
const SLOT: &[u8] = b"Slot";
const BLOB: &[u8] = b"BlbS";

const SLOT_BYTES: usize = 16;
const SLOT_PAGE_BYTES: usize = 4096;

/// Offsets are counted in these.
const BLOCK_BYTES: usize = 16;

/// The two slots that the file's header takes the place of.
const FIRST_SLOT: usize = 2;

/// Visits each blob, in the sequence of the slots.
///
/// # Errors
/// It is no such database, or the visitor's.
pub fn blobs(database: &[u8], visit: Visitor<'_>) -> Result<(), Trouble> {
    let malformed = || Trouble::content("it is a malformed database of RPM");
    if !database.starts_with(DATABASE) || le32(database, 4) != Some(0) {
        return Err(Trouble::content("it is not a database of RPM"));
    }
    let pages = le32(database, 12).ok_or_else(malformed)? as usize;
    let slots = pages.checked_mul(SLOT_PAGE_BYTES).and_then(|bytes| database.get(..bytes)).ok_or_else(malformed)?;
    for slot in slots.chunks_exact(SLOT_BYTES).skip(FIRST_SLOT) {
        let number = le32(slot, 4);
        if !slot.starts_with(SLOT) || number == Some(0) {
            continue;
        }
        let blob = le32(slot, 8).and_then(|block| database.get((block as usize).checked_mul(BLOCK_BYTES)?..));
        let blob = blob.filter(|blob| blob.starts_with(BLOB) && le32(blob, 4) == number).ok_or_else(malformed)?;
        let length = le32(blob, 12).map(|length| length as usize).filter(|length| *length <= HEADER_LIMIT_BYTES);
        let content = length.and_then(|length| blob.get(16..16 + length)).ok_or_else(malformed)?;
        visit(content)?;
    }
    Ok(())
}
