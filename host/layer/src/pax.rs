//! PAX records (POSIX.1-2017, pax, "pax Extended Header"): `LENGTH KEY=VALUE\n`.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_rootfs::Timestamp;

/// Before the name of an extended attribute. The value is bytes, as star, GNU tar and Go have it.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the records of one extended header say about an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub path: Option<Vec<u8>>,
    pub link_path: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<Timestamp>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Records about the holes of GNU's or star's sparse files.
    pub sparse: bool,
}

impl Records {
    /// Reads the content of an extended header. Keys that say nothing about an entry in an image (comment, atime, uname,
    /// other vendors') are passed over; an empty value leaves what the header has.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence about the archive. A key that comes twice is an error, since readers
    /// disagree on which one counts.
    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut records = Self::default();
        let mut seen = BTreeSet::new();
        while !bytes.is_empty() {
            let (record, rest) = split_record(bytes)?;
            bytes = rest;
            let (key, value) = split_pair(record)?;
            if !seen.insert(key) {
                return Err("an extended header has a record twice");
            }
            records.set(key, value)?;
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() || name.contains(&0) {
                return Err("an extended header has an extended attribute without a proper name");
            }
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        if key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize" {
            self.sparse = true;
            return Ok(());
        }
        if value.is_empty() {
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link_path = Some(name(value)?),
            b"size" => self.size = Some(decimal(value).ok_or("the size in an extended header is not a number")?),
            b"uid" => self.uid = Some(id(value)?),
            b"gid" => self.gid = Some(id(value)?),
            b"mtime" => self.mtime = Some(time(value).ok_or("the mtime in an extended header is not a time")?),
            _ => {}
        }
        Ok(())
    }
}

const MALFORMED: &str = "a record of an extended header is malformed";

/// `KEY=VALUE` of the first record, and what follows that record.
fn split_record(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    // No length has more than 20 digits.
    let space = bytes.iter().take(21).position(|byte| *byte == b' ').ok_or(MALFORMED)?;
    let length = decimal(&bytes[..space]).and_then(|length| usize::try_from(length).ok()).ok_or(MALFORMED)?;
    if length <= space + 1 || length > bytes.len() {
        return Err(MALFORMED);
    }
    let (record, rest) = bytes.split_at(length);
    Ok((record[space + 1..].strip_suffix(b"\n").ok_or(MALFORMED)?, rest))
}

fn split_pair(record: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    match record.iter().position(|byte| *byte == b'=') {
        None | Some(0) => Err(MALFORMED),
        Some(equals) if record[..equals].contains(&0) => Err(MALFORMED),
        Some(equals) => Ok((&record[..equals], &record[equals + 1..])),
    }
}

fn name(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    if value.contains(&0) {
        return Err("a name in an extended header has a NUL byte");
    }
    Ok(value.to_vec())
}

fn id(value: &[u8]) -> Result<u32, &'static str> {
    decimal(value)
        .and_then(|id| u32::try_from(id).ok())
        .ok_or("the uid or gid in an extended header is not a number of 32 bits")
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })?;
    // Sizes and lengths beyond this overflow every other reader.
    (value <= i64::MAX as u64).then_some(value)
}

/// Seconds with an optional fraction; what is finer than nanoseconds is cut off.
fn time(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut nanoseconds = 0u32;
    let mut unit = 100_000_000;
    for digit in fraction {
        if !digit.is_ascii_digit() {
            return None;
        }
        nanoseconds += u32::from(digit - b'0') * unit;
        unit /= 10;
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// The content of an extended header, its records sorted by key. Empty if there is nothing to say.
#[derive(Debug, Default)]
pub(crate) struct Builder(BTreeMap<Vec<u8>, Vec<u8>>);

impl Builder {
    /// Adds a record; `key` has no `=`.
    pub(crate) fn set(&mut self, key: &[u8], value: impl AsRef<[u8]>) {
        self.0.insert(key.to_vec(), value.as_ref().to_vec());
    }

    /// Adds a name. Names that are not UTF-8 need the record `hdrcharset`, which sorts before all names.
    pub(crate) fn set_name(&mut self, key: &[u8], name: &[u8]) {
        if std::str::from_utf8(name).is_err() {
            self.set(b"hdrcharset", "BINARY");
        }
        self.set(key, name);
    }

    /// Adds an extended attribute.
    pub(crate) fn set_xattr(&mut self, name: &[u8], value: &[u8]) {
        self.set(&[XATTR, name].concat(), value);
    }

    /// The bytes.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, value) in &self.0 {
            // A space, an equals sign and a line feed; the length counts its own digits.
            let body = key.len() + value.len() + 3;
            let mut length = body + 1;
            while length != body + length.to_string().len() {
                length = body + length.to_string().len();
            }
            bytes.extend_from_slice(length.to_string().as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(key);
            bytes.push(b'=');
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_whatever_the_length() {
        for len in [1, 2, 88, 89, 90, 91, 92, 984, 985, 986, 987, 988, 989, 9_979, 9_980, 99_999] {
            let path = vec![b'p'; len];
            let mut builder = Builder::default();
            builder.set_name(b"path", &path);
            builder.set(b"mtime", "-7");
            builder.set_xattr(b"user.x=y", b"\0\n=");
            // A name with an equals sign can't come back: everything after the first one is value.
            let records = Records::parse(&builder.finish()).unwrap();
            assert_eq!(records.path, Some(path));
            assert_eq!(records.mtime, Some(Timestamp { seconds: -7, nanoseconds: 0 }));
        }
    }

    #[test]
    fn the_charset_stands_before_the_names_that_need_it() {
        let mut builder = Builder::default();
        builder.set_name(b"linkpath", b"\xff");
        builder.set_name(b"path", "ä".as_bytes());
        assert_eq!(builder.finish(), b"21 hdrcharset=BINARY\n14 linkpath=\xff\n11 path=\xc3\xa4\n");
    }

    #[test]
    fn malformed_and_repeated_records_are_refused() {
        assert!(Records::parse(b"9 path=a\n10 size=1\n").is_ok(), "both lengths are right");
        for bytes in [
            &b"9 path=a"[..],
            b"8 path=a\n",
            b"11 path=a\n",
            b"9 path=a\n\0",
            b"99999999999999999999999 path=a\n",
            b"-9 path=a\n",
            b" 9 path=a\n",
            b"9path=a\n",
            b"8 patha\n",
            b"5 =a\n",
            b"0 \n",
            b"2 \n",
            b"9 path=a\n9 path=b\n",
            b"9 path=a\n9 path=a\n",
        ] {
            assert!(Records::parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn values_of_the_wrong_form_are_refused() {
        for (key, value) in [
            ("path", "a\0b"),
            ("linkpath", "\0"),
            ("size", "-1"),
            ("size", "1k"),
            ("size", " 1"),
            ("size", "9223372036854775808"),
            ("uid", "4294967296"),
            ("gid", "root"),
            ("mtime", "1e5"),
            ("SCHILY.xattr.", "v"),
        ] {
            let mut builder = Builder::default();
            builder.set(key.as_bytes(), value);
            assert!(Records::parse(&builder.finish()).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, seconds, nanoseconds) in [
            ("12", 12, 0),
            ("12.5", 12, 500_000_000),
            ("12.", 12, 0),
            ("12.0000000019", 12, 1),
            ("-1.5", -2, 500_000_000),
            ("-3", -3, 0),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Timestamp { seconds, nanoseconds }), "{text}");
        }
        for text in ["", "-", ".5", "1.x", "--1", "99999999999999999999"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }
}
