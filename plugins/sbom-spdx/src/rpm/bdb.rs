//! Berkeley DB's hash tables (db-5.3's src/dbinc/db_page.h): pages of keys and values, of which the long ones lie on overflow
//! pages.

use super::{
    HEADER_LIMIT_BYTES, Visitor,
    bytes::{be16, be32, le16, le32},
};
use crate::files::Trouble;

const HASH_MAGIC: u32 = 0x0006_1561;

const UNSORTED_HASH_PAGE: u8 = 2;
const OVERFLOW_PAGE: u8 = 7;
const HASH_PAGE: u8 = 13;

/// Kinds of items: in the page, and elsewhere.
const KEY_DATA: u8 = 1;
const OFF_PAGE: u8 = 3;

/// Of every page but the first.
const PAGE_HEADER_BYTES: usize = 26;

/// Visits each value whose key is the number of a package.
///
/// # Errors
/// It is no such database, or the visitor's.
pub fn values(database: &[u8], visit: Visitor<'_>) -> Result<(), Trouble> {
    let malformed = || Trouble::content("it is a malformed hash table of Berkeley DB");
    let table = Table::open(database).ok_or_else(|| Trouble::content("it is not a hash table of Berkeley DB"))?;
    for page in database.chunks_exact(table.page_bytes).skip(1) {
        if !matches!(page[25], HASH_PAGE | UNSORTED_HASH_PAGE) {
            continue;
        }
        let items = table.items(page).ok_or_else(malformed)?;
        for pair in items.chunks_exact(2) {
            // The number 0 has the highest number that was given away.
            if pair[0].get(1..) == Some(&[0; 4]) {
                continue;
            }
            match pair[1].split_first() {
                Some((&KEY_DATA, value)) => visit(value)?,
                Some((&OFF_PAGE, _)) => visit(&table.elsewhere(pair[1]).ok_or_else(malformed)?)?,
                _ => return Err(malformed()),
            }
        }
    }
    Ok(())
}

struct Table<'d> {
    database: &'d [u8],
    page_bytes: usize,
    /// Numbers are those of the machine that wrote the file.
    big_endian: bool,
}

impl<'d> Table<'d> {
    fn open(database: &'d [u8]) -> Option<Self> {
        let big_endian = match [le32(database, 12)?, be32(database, 12)?] {
            [HASH_MAGIC, _] => false,
            [_, HASH_MAGIC] => true,
            _ => return None,
        };
        let mut table = Self { database, page_bytes: 0, big_endian };
        table.page_bytes = table.long(database, 20)? as usize;
        (table.page_bytes.is_power_of_two() && (512..=65_536).contains(&table.page_bytes)).then_some(table)
    }

    /// Keys and values in turn, each with its kind in front. They fill a page from its end: each ends where the one before
    /// it begins.
    fn items<'p>(&self, page: &'p [u8]) -> Option<Vec<&'p [u8]>> {
        let count = usize::from(self.short(page, 20)?);
        let mut end = self.page_bytes;
        let mut items = Vec::new();
        for number in 0..count {
            let start = usize::from(self.short(page, PAGE_HEADER_BYTES + number * 2)?);
            items.push(page.get(start..end)?);
            end = start;
        }
        Some(items)
    }

    /// What an item says lies on overflow pages: after three bytes without meaning the first page, and how many bytes.
    fn elsewhere(&self, item: &[u8]) -> Option<Vec<u8>> {
        let (mut next, length) = (self.long(item, 4)? as usize, self.long(item, 8)? as usize);
        if length > HEADER_LIMIT_BYTES {
            return None;
        }
        let mut content = Vec::new();
        while content.len() < length {
            let page = self.database.get(next.checked_mul(self.page_bytes)?..)?.get(..self.page_bytes)?;
            let used = usize::from(self.short(page, 22)?);
            // A page without anything would be one to go round on.
            if page[25] != OVERFLOW_PAGE || used == 0 {
                return None;
            }
            content.extend_from_slice(page.get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + used)?);
            next = self.long(page, 16)? as usize;
        }
        content.truncate(length);
        Some(content)
    }

    fn short(&self, bytes: &[u8], at: usize) -> Option<u16> {
        if self.big_endian { be16(bytes, at) } else { le16(bytes, at) }
    }

    fn long(&self, bytes: &[u8], at: usize) -> Option<u32> {
        if self.big_endian { be32(bytes, at) } else { le32(bytes, at) }
    }
}
