//! Extended headers (POSIX.1-2017, pax, "pax Extended Header").

use std::collections::BTreeMap;

use crate::Error;

/// What an extended header changes in the header after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    pub path: Option<Vec<u8>>,
    pub link_path: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Keys that a header for all entries may not have: they would move every name and every boundary after it.
const NEVER_GLOBAL: [&[u8]; 3] = [b"path", b"linkpath", b"size"];

impl Extended {
    /// Reads the records of a header for the next entry.
    ///
    /// # Errors
    /// A record is malformed, a key comes twice, or asks for something unsupported.
    pub fn parse(content: &[u8]) -> Result<Self, Error> {
        let mut extended = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        for record in Records(content) {
            let (key, value) = record?;
            // Readers disagree on which of two equal keys counts, which is how one archive becomes two.
            if seen.contains(&key) {
                return Err(malformed(&format!("the key `{}` twice", String::from_utf8_lossy(key))));
            }
            seen.push(key);
            extended.set(key, value)?;
        }
        Ok(extended)
    }

    /// Checks a header for all entries, whose remaining keys (comments, times, owners) have no effect here.
    ///
    /// # Errors
    /// A record is malformed, or would move names or boundaries.
    pub fn check_global(content: &[u8]) -> Result<(), Error> {
        for record in Records(content) {
            let (key, _) = record?;
            if NEVER_GLOBAL.contains(&key) || key.starts_with(b"GNU.sparse.") {
                return Err(malformed(&format!("`{}` for all entries", String::from_utf8_lossy(key))));
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link_path = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::Unsupported("the archive has a sparse file, which is not supported".to_owned()));
            }
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                }
            }
        }
        Ok(())
    }
}

/// `LENGTH KEY=VALUE\n`, the length counting the whole record.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = split_record(self.0);
        self.0 = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(|| malformed("a broken record")))
    }
}

fn split_record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = content.iter().take(10).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&content[..blank]).ok()?).ok()?;
    if length > content.len() || length < blank + 4 {
        return None;
    }
    let (record, rest) = content.split_at(length);
    let record = record[blank + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|equals| *equals > 0)?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn decimal(value: &[u8]) -> Result<u64, Error> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| plain).and_then(|digits| digits.parse().ok());
    number.filter(|number| *number <= i64::MAX as u64).ok_or_else(|| malformed("a value that is not a number"))
}

/// Seconds with a fraction, rounded down to nanoseconds.
fn time(value: &[u8]) -> Result<(i64, u32), Error> {
    let text = std::str::from_utf8(value).map_err(|_| malformed("a value that is not a time"))?;
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let seconds = decimal(whole.as_bytes())? as i64;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("a value that is not a time"));
    }
    let nanoseconds = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = nanoseconds.fold(0, |total, digit| total * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

fn malformed(what: &str) -> Error {
    Error::Malformed(format!("an extended tar header has {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while length.to_string().len() + rest.len() != length {
            length += 1;
        }
        format!("{length}{rest}").into_bytes()
    }

    #[test]
    fn records_change_the_next_entry() {
        let content = [
            record("path", "a/ü\nb"),
            record("size", "12"),
            record("mtime", "-1.25"),
            record("SCHILY.xattr.user.x", "=\n"),
            record("comment", "no effect"),
        ]
        .concat();
        let extended = Extended::parse(&content).unwrap();
        assert_eq!(extended.path.unwrap(), "a/ü\nb".as_bytes());
        assert_eq!(extended.size, Some(12));
        assert_eq!(extended.mtime, Some((-2, 750_000_000)));
        assert_eq!(extended.xattrs[&b"user.x"[..]], b"=\n");
    }

    #[test]
    fn records_that_two_readers_could_take_differently_are_refused() {
        for content in [
            &b"30 path=a\n"[..],
            b"x path=a\n",
            b"10 path=a\nx",
            b"8 path=a\n",
            b"-9 path=a\n",
            b"6 =ab\n",
            b"5 ab\n",
            &[record("path", "a"), record("path", "b")].concat(),
            &record("size", "-1"),
            &record("size", "1x"),
            &record("mtime", "1.x"),
            &record("size", "99999999999999999999"),
        ] {
            assert!(Extended::parse(content).is_err(), "{:?}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn sparse_files_are_named() {
        assert!(matches!(Extended::parse(&record("GNU.sparse.major", "1")), Err(Error::Unsupported(_))));
    }

    #[test]
    fn a_global_header_moves_nothing() {
        assert!(Extended::check_global(&record("comment", "0123")).is_ok());
        for key in ["path", "linkpath", "size", "GNU.sparse.size"] {
            assert!(Extended::check_global(&record(key, "1")).is_err(), "{key}");
        }
    }
}
