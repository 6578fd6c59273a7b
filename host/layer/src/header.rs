//! One header block of 512 bytes: its numbers, names and checksum (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar
//! manual, "Basic Tar Format"). The layout of the fields is that of `tar::Header`; everything that decides is here.

use tar::Header;

/// The unit of an archive.
pub(crate) const BLOCK_BYTES: usize = 512;

/// What a header block says, before extended headers change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Prefix and name, joined.
    pub name: Vec<u8>,
    pub link_name: Vec<u8>,
    pub typeflag: u8,
    pub mode: u64,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: i64,
    pub device_major: u64,
    pub device_minor: u64,
}

/// Reads a block that is not all zeros.
///
/// # Errors
/// What is wrong with it, as the end of a sentence about the archive.
pub(crate) fn decode(bytes: &[u8; BLOCK_BYTES]) -> Result<Block, &'static str> {
    let header = Header::from_byte_slice(bytes);
    let old = header.as_old();
    verify_checksum(bytes, &old.cksum)?;
    let mut name = until_nul(&old.name).to_vec();
    let is_ustar = bytes[257..263] == *b"ustar\0";
    // Old GNU archives have other things where POSIX has the prefix.
    if is_ustar {
        // star keeps times in the last 24 bytes of the prefix and says so in the last four of the block.
        let prefix = if bytes.ends_with(b"tar\0") { &bytes[345..476] } else { &bytes[345..500] };
        let prefix = until_nul(prefix);
        if !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
    }
    let has_devices = is_ustar || header.as_gnu().is_some();
    let (device_major, device_minor) =
        if has_devices { (&bytes[329..337], &bytes[337..345]) } else { (&[][..], &[][..]) };
    let unsigned = |field: &[u8], why| number(field).and_then(|value| u64::try_from(value).ok()).ok_or(why);
    Ok(Block {
        name,
        link_name: until_nul(&old.linkname).to_vec(),
        typeflag: old.linkflag[0],
        mode: unsigned(&old.mode, "the mode in a header is not a number")?,
        uid: unsigned(&old.uid, "the uid in a header is not a number")?,
        gid: unsigned(&old.gid, "the gid in a header is not a number")?,
        size: unsigned(&old.size, "the size in a header is not a number")?,
        mtime: number(&old.mtime).ok_or("the mtime in a header is not a number")?,
        device_major: unsigned(device_major, "the device number in a header is not a number")?,
        device_minor: unsigned(device_minor, "the device number in a header is not a number")?,
    })
}

/// POSIX sums unsigned bytes; some old programs summed signed ones, and every reader accepts both.
fn verify_checksum(bytes: &[u8; BLOCK_BYTES], field: &[u8; 8]) -> Result<(), &'static str> {
    // The checksum field itself counts as eight spaces.
    let others = || bytes[..148].iter().chain(&bytes[156..]);
    let unsigned: i64 = others().map(|byte| i64::from(*byte)).sum::<i64>() + 8 * 32;
    let signed: i64 = others().map(|byte| i64::from(*byte as i8)).sum::<i64>() + 8 * 32;
    match number(field) {
        Some(sum) if sum == unsigned || sum == signed => Ok(()),
        _ => Err("the checksum of a header is wrong"),
    }
}

/// Octal digits between spaces and NULs, or GNU's base 256 (first bit set, big endian, two's complement). An empty field
/// is 0. Nothing else is accepted: readers disagree about what they make of the rest.
fn number(field: &[u8]) -> Option<i64> {
    if let [first @ (0x80..), rest @ ..] = field {
        // The first bit is the mark, the second the sign.
        let negative = first & 0x40 != 0;
        let head = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
        let wide = rest.iter().try_fold(head, |value, byte| value.checked_mul(256)?.checked_add(i128::from(*byte)))?;
        return i64::try_from(wide).ok();
    }
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_padding).unwrap_or(digits.len());
    if !digits[end..].iter().all(is_padding) {
        return None;
    }
    digits[..end].iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// The largest number of a field of 8 bytes (seven octal digits).
pub(crate) const MAX_SHORT: u64 = 0o777_7777;

/// The largest number of a field of 12 bytes (eleven octal digits): 8 GiB - 1.
pub(crate) const MAX_LONG: u64 = 0o777_7777_7777;

/// Writes a ustar block. Names must fit ([`split_name`]), numbers must be within [`MAX_SHORT`] (mode, owner, device) and
/// [`MAX_LONG`] (size, mtime); what is larger is cut off, so the caller puts it into an extended header.
pub(crate) fn encode(block: &Block, prefix: &[u8]) -> [u8; BLOCK_BYTES] {
    let mut header = Header::new_ustar();
    // `new_ustar` gives the magic and the version.
    if let Some(ustar) = header.as_ustar_mut() {
        copy(&mut ustar.name, &block.name);
        copy(&mut ustar.prefix, prefix);
        copy(&mut ustar.linkname, &block.link_name);
        ustar.typeflag = [block.typeflag];
        octal(&mut ustar.mode, block.mode);
        octal(&mut ustar.uid, block.uid);
        octal(&mut ustar.gid, block.gid);
        octal(&mut ustar.size, block.size);
        octal(&mut ustar.mtime, block.mtime.unsigned_abs());
        octal(&mut ustar.dev_major, block.device_major);
        octal(&mut ustar.dev_minor, block.device_minor);
        ustar.cksum = [b' '; 8];
    }
    let sum = header.as_bytes().iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut header.as_old_mut().cksum[..7], sum);
    *header.as_bytes()
}

fn copy(field: &mut [u8], bytes: &[u8]) {
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
}

/// Digits with leading zeros and a NUL behind them.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    field[digits] = 0;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// The prefix (at most 155 bytes) and name (at most 100) of a ustar header, or `None` if the name needs an extended one.
pub(crate) fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    // The slash between them is not stored; the name must not become empty (a directory's ends with a slash).
    let last_slash = name[..name.len() - 1].iter().take(156).rposition(|byte| *byte == b'/')?;
    let (prefix, rest) = (&name[..last_slash], &name[last_slash + 1..]);
    (!prefix.is_empty() && rest.len() <= 100).then_some((prefix, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Block {
        Block {
            name: b"a/b".to_vec(),
            link_name: b"target".to_vec(),
            typeflag: b'2',
            mode: 0o4755,
            uid: 1000,
            gid: MAX_SHORT,
            size: MAX_LONG,
            mtime: 1_700_000_000,
            device_major: 8,
            device_minor: 1,
        }
    }

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(decode(&encode(&block(), b"")).unwrap(), block());
        assert_eq!(decode(&encode(&block(), b"dir")).unwrap().name, b"dir/a/b");
    }

    #[test]
    fn a_flipped_bit_breaks_the_checksum() {
        for byte in [0, 100, 124, 148, 156, 257, 400] {
            let mut bytes = encode(&block(), b"");
            bytes[byte] ^= 1;
            assert!(decode(&bytes).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn numbers_are_octal_or_base_256_and_nothing_else() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"644\0\0\0\0\0", Some(0o644)),
            (b"77777777", Some(0o7777_7777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\x80\0\0\0\0\0\x01\x02", Some(258)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"00006448", None),
            (b"-000644\0", None),
            (b"64 64\0\0\0", None),
            (b"0x1a\0\0\0\0", None),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn names_are_split_at_a_slash_where_both_parts_fit() {
        let (dir, file) = ("d".repeat(150), "f".repeat(100));
        assert_eq!(
            split_name(format!("{dir}/{file}").as_bytes()),
            Some((dir.as_bytes(), file.as_bytes())),
            "as long as it gets"
        );
        assert_eq!(split_name(file.as_bytes()), Some((&b""[..], file.as_bytes())));
        for long in [format!("{dir}/{file}x"), format!("{dir}123456/f"), format!("{dir}/"), "n".repeat(101)] {
            assert_eq!(split_name(long.as_bytes()), None, "{long}");
        }
    }
}
