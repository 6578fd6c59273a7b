//! One tar header (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").

use crate::{BLOCK_BYTES, Error};

/// A header block, its fields as numbers and bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub type_flag: u8,
    pub name: Vec<u8>,
    pub link_name: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: i64,
    pub major: u32,
    pub minor: u32,
}

/// Whether a block is a tar header: its checksum is right, and it is not a block of zeros.
pub fn is_header(block: &[u8]) -> bool {
    block.len() == BLOCK_BYTES && block[0] != 0 && checksum_fits(block)
}

impl Header {
    /// Reads a block that is not all zeros.
    ///
    /// # Errors
    /// The checksum is wrong, or a field is not a number.
    pub fn parse(block: &[u8; BLOCK_BYTES]) -> Result<Self, Error> {
        if !checksum_fits(block) {
            return Err(Error::Malformed("a tar header has a wrong checksum".to_owned()));
        }
        let ustar = &block[257..263] == b"ustar\0";
        let name = text(&block[..100]);
        // The prefix belongs to POSIX headers only: GNU's have times there.
        let prefix = if ustar { text(&block[345..500]) } else { &[] };
        let name = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
        let device = |field: &[u8]| -> Result<u32, Error> {
            // Old headers have no magic and nothing to be read here.
            if &block[257..262] == b"ustar" {
                bounded(number(field, "a device number")?, "a device number")
            } else {
                Ok(0)
            }
        };
        Ok(Self {
            type_flag: block[156],
            name,
            link_name: text(&block[157..257]).to_vec(),
            mode: (number(&block[100..108], "a mode")? & 0o7777) as u32,
            uid: unsigned(number(&block[108..116], "a user id")?, "a user id")?,
            gid: unsigned(number(&block[116..124], "a group id")?, "a group id")?,
            size: unsigned(number(&block[124..136], "a size")?, "a size")?,
            mtime: number(&block[136..148], "a time")?,
            major: device(&block[329..337])?,
            minor: device(&block[337..345])?,
        })
    }
}

/// The field without its end.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// Octal digits between blanks, or GNU's binary form (high bit set, big endian, two's complement).
fn number(field: &[u8], what: &str) -> Result<i64, Error> {
    let malformed = || Error::Malformed(format!("a tar header has {what} that is not a number"));
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (index, byte) in field.iter().enumerate() {
            // The mark itself is not part of the value; the bit below it is the sign.
            let byte = if index == 0 && !negative { byte & 0x7f } else { *byte };
            value = value.checked_mul(256).ok_or_else(malformed)? + i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| malformed());
    }
    let digits = text(field);
    let digits = digits.trim_ascii();
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err(malformed());
        }
        value = value.checked_mul(8).ok_or_else(malformed)? + i64::from(digit - b'0');
    }
    Ok(value)
}

fn unsigned(value: i64, what: &str) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::Malformed(format!("a tar header has {what} below zero")))
}

fn bounded(value: i64, what: &str) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::Malformed(format!("a tar header has {what} out of range")))
}

/// The sum of all bytes, the checksum's own taken as blanks. Some old writers summed signed bytes.
fn checksum_fits(block: &[u8]) -> bool {
    let Ok(stored) = number(&block[148..156], "a checksum") else { return false };
    let counted = |index: usize, byte: u8| if (148..156).contains(&index) { b' ' } else { byte };
    let unsigned: i64 = block.iter().enumerate().map(|(index, byte)| i64::from(counted(index, *byte))).sum();
    let signed: i64 = block.iter().enumerate().map(|(index, byte)| i64::from(counted(index, *byte) as i8)).sum();
    stored == unsigned || stored == signed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, value) in [
            (&b"0000755\0"[..], 0o755),
            (b" 755 \0\0\0", 0o755),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777", 0o77777777),
            (b"\x80\0\0\0\x01\0\0\0", 1 << 24),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
        ] {
            assert_eq!(number(field, "x").unwrap(), value, "{field:?}");
        }
        for field in [&b"0000855\0"[..], b"-1\0\0\0\0\0\0", b"7 5\0\0\0\0\0", b"\x80\x01\0\0\0\0\0\0\0\0\0\0"] {
            assert!(number(field, "x").is_err(), "{field:?}");
        }
    }

    #[test]
    fn zeros_and_text_are_not_headers() {
        assert!(!is_header(&[0; BLOCK_BYTES]));
        assert!(!is_header(&[b' '; BLOCK_BYTES]));
        assert!(!is_header(b"short"));
    }
}
