//! The rows of one table of an SQLite database ("Database File Format", sqlite.org/fileformat2): all that an RPM database needs
//! of it, without the C library that has the rest.

use std::collections::BTreeMap;

use super::{
    HEADER_LIMIT_BYTES, Visitor,
    bytes::{be16, be32, le32},
};
use crate::files::Trouble;

const MAGIC: &[u8] = b"SQLite format 3\0";

/// Of the file; the first page's tree begins behind it.
const HEADER_BYTES: usize = 100;

const INTERIOR_TABLE: u8 = 5;
const LEAF_TABLE: u8 = 13;

/// A tree of the largest database is not as high.
const MAX_DEPTH: usize = 20;

/// Visits the column `blob` of each row of the table `Packages`, the log's pages in the place of those of the file.
///
/// # Errors
/// It is no such database, or the visitor's.
pub fn rows(database: Vec<u8>, log: &[u8], visit: Visitor<'_>) -> Result<(), Trouble> {
    let database = Database::open(&database, log).ok_or_else(|| Trouble::content("it is not an SQLite database"))?;
    let mut root = None;
    database.walk(1, &mut |payload| {
        // type, name, tbl_name, rootpage, sql
        let Some(row) = columns(payload) else { return Err(malformed()) };
        if let [Column::Text(b"table"), Column::Text(b"Packages"), _, Column::Number(page), ..] = row[..] {
            root = u32::try_from(page).ok();
        }
        Ok(())
    })?;
    let root = root.ok_or_else(|| Trouble::content("it has no table of packages"))?;
    database.walk(root, &mut |payload| match columns(payload).as_deref() {
        // hnum, blob: the first is the row's number, and stands as NULL in the row.
        Some([_, Column::Blob(blob), ..]) => visit(blob),
        _ => Err(malformed()),
    })
}

fn malformed() -> Trouble {
    Trouble::content("it is a malformed SQLite database")
}

struct Database<'b> {
    bytes: &'b [u8],
    /// Pages of the log that stand for those of the file, by number.
    newer: BTreeMap<u32, &'b [u8]>,
    page_bytes: usize,
    /// Of a page, without what extensions keep at its end.
    usable_bytes: usize,
}

impl<'b> Database<'b> {
    fn open(bytes: &'b [u8], log: &'b [u8]) -> Option<Self> {
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let page_bytes = match be16(bytes, 16)? {
            1 => 65_536,
            bytes => usize::from(bytes),
        };
        let usable_bytes = page_bytes.checked_sub(usize::from(*bytes.get(20)?))?;
        if !page_bytes.is_power_of_two() || page_bytes < 512 || usable_bytes < 480 {
            return None;
        }
        let mut database = Self { bytes, newer: BTreeMap::new(), page_bytes, usable_bytes };
        database.apply(log);
        Some(database)
    }

    /// Takes over the transactions of a write-ahead log that were committed ("The Write-Ahead Log"). What follows the first
    /// frame that is not of this log, or was cut short, is of no transaction.
    fn apply(&mut self, log: &'b [u8]) -> Option<()> {
        const LOG_HEADER_BYTES: usize = 32;
        const FRAME_HEADER_BYTES: usize = 24;
        let big_endian = match be32(log, 0)? {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        if be32(log, 8)? as usize != self.page_bytes {
            return None;
        }
        let salts = log.get(16..24)?;
        let mut sum = checksum([0, 0], log.get(..24)?, big_endian);
        if sum != [be32(log, 24)?, be32(log, 28)?] {
            return None;
        }
        let mut pending = Vec::new();
        for frame in log.get(LOG_HEADER_BYTES..)?.chunks_exact(FRAME_HEADER_BYTES + self.page_bytes) {
            let (header, page) = frame.split_at(FRAME_HEADER_BYTES);
            sum = checksum(checksum(sum, &header[..8], big_endian), page, big_endian);
            if header[8..16] != *salts || sum != [be32(header, 16)?, be32(header, 20)?] {
                break;
            }
            pending.push((be32(header, 0)?, page));
            // The number of pages after the transaction, in its last frame only.
            if be32(header, 4)? > 0 {
                self.newer.extend(pending.drain(..));
            }
        }
        Some(())
    }

    fn page(&self, number: u32) -> Result<&'b [u8], Trouble> {
        if let Some(page) = self.newer.get(&number) {
            return Ok(page);
        }
        let at = (number as usize).checked_sub(1).and_then(|before| before.checked_mul(self.page_bytes));
        at.and_then(|at| self.bytes.get(at..at + self.page_bytes)).ok_or_else(malformed)
    }

    /// Visits the payload of each row of the table whose tree begins at a page.
    fn walk(&self, root: u32, visit: Visitor<'_>) -> Result<(), Trouble> {
        let pages = self.bytes.len() / self.page_bytes + self.newer.len();
        self.walk_page(root, 0, &mut Left { pages, bytes: pages * self.page_bytes }, visit)
    }

    fn walk_page(&self, number: u32, depth: usize, left: &mut Left, visit: Visitor<'_>) -> Result<(), Trouble> {
        left.pages = left.pages.checked_sub(1).filter(|_| depth < MAX_DEPTH).ok_or_else(malformed)?;
        let page = self.page(number)?;
        let start = if number == 1 { HEADER_BYTES } else { 0 };
        let cells = be16(page, start + 3).ok_or_else(malformed)?;
        let kind = *page.get(start).ok_or_else(malformed)?;
        let pointers = start + if kind == INTERIOR_TABLE { 12 } else { 8 };
        for cell in 0..usize::from(cells) {
            let at = usize::from(be16(page, pointers + cell * 2).ok_or_else(malformed)?);
            match kind {
                INTERIOR_TABLE => {
                    let child = be32(page, at).ok_or_else(malformed)?;
                    self.walk_page(child, depth + 1, left, visit)?;
                }
                LEAF_TABLE => visit(&self.payload(page, at, left).ok_or_else(malformed)?)?,
                _ => return Err(malformed()),
            }
        }
        match kind {
            INTERIOR_TABLE => {
                let last = be32(page, start + 8).ok_or_else(malformed)?;
                self.walk_page(last, depth + 1, left, visit)
            }
            LEAF_TABLE => Ok(()),
            _ => Err(malformed()),
        }
    }

    /// The row of a cell, with what of it lies on overflow pages ("B-tree Pages": how much stays here).
    fn payload(&self, page: &[u8], at: usize, left: &mut Left) -> Option<Vec<u8>> {
        let (length, rest) = varint(page.get(at..self.usable_bytes)?)?;
        let (_row, rest) = varint(rest)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= HEADER_LIMIT_BYTES)?;
        left.bytes = left.bytes.checked_sub(length)?;
        let most = self.usable_bytes - 35;
        if length <= most {
            return Some(rest.get(..length)?.to_vec());
        }
        let least = (self.usable_bytes - 12) * 32 / 255 - 23;
        let fitting = least + (length - least) % (self.usable_bytes - 4);
        let here = if fitting <= most { fitting } else { least };
        let mut payload = rest.get(..here)?.to_vec();
        let mut next = be32(rest, here)?;
        while payload.len() < length {
            // Each page brings something, so this ends.
            let page = self.page(next).ok()?;
            let part = page.get(4..self.usable_bytes)?;
            payload.extend_from_slice(&part[..part.len().min(length - payload.len())]);
            next = be32(page, 0)?;
        }
        Some(payload)
    }
}

/// What a walk may still look at. A tree that has a page or an overflow page twice goes in circles, or has more rows than fit.
struct Left {
    pages: usize,
    bytes: usize,
}

/// One column of a row, as far as it is asked for here.
enum Column<'p> {
    Number(i64),
    Text(&'p [u8]),
    Blob(&'p [u8]),
    Other,
}

/// The columns of a row ("Record Format").
fn columns(payload: &[u8]) -> Option<Vec<Column<'_>>> {
    let (header_bytes, _) = varint(payload)?;
    let (mut types, mut values) = payload.split_at_checked(usize::try_from(header_bytes).ok()?)?;
    types = varint(types)?.1;
    let mut columns = Vec::new();
    while !types.is_empty() {
        let (serial, rest) = varint(types)?;
        types = rest;
        let bytes: u64 = match serial {
            0 | 8 | 9 => 0,
            1..=4 => serial,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (serial - 12) / 2,
        };
        let (value, rest) = values.split_at_checked(usize::try_from(bytes).ok()?)?;
        values = rest;
        columns.push(match serial {
            1..=6 => {
                let sign: i64 = if value[0] & 0x80 == 0 { 0 } else { -1 };
                Column::Number(value.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte)))
            }
            8 | 9 => Column::Number(serial as i64 - 8),
            0 | 7 => Column::Other,
            _ if serial % 2 == 0 => Column::Blob(value),
            _ => Column::Text(value),
        });
    }
    Some(columns)
}

/// Seven bits a byte, the highest first, and eight in the ninth.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (number, byte) in bytes.iter().enumerate().take(9) {
        if number == 8 {
            return Some((value << 8 | u64::from(*byte), &bytes[9..]));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[number + 1..]));
        }
    }
    None
}

/// Of a log, over pairs of words ("Checksum Algorithm").
fn checksum([mut first, mut second]: [u32; 2], bytes: &[u8], big_endian: bool) -> [u32; 2] {
    let word = |at: usize| if big_endian { be32(bytes, at) } else { le32(bytes, at) }.unwrap_or_default();
    for at in (0..bytes.len()).step_by(8) {
        first = first.wrapping_add(word(at)).wrapping_add(second);
        second = second.wrapping_add(word(at + 4)).wrapping_add(first);
    }
    [first, second]
}
