//! Paths inside a root: normalised bytes that cannot climb out.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A normalised path relative to a root: components separated by single `/`, none empty, `.` or `..`, no leading or
/// trailing `/`, no NUL. The root itself is the empty path. Bytes, because names need not be UTF-8.
///
/// The order is that of the bytes with `/` lowest, so that a directory is directly followed by what it contains.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RootPath(Vec<u8>);

impl RootPath {
    /// The root.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Normalises as the kernel would walk without symlinks: `..` goes to the parent and stops at the root.
    ///
    /// # Errors
    /// A NUL byte, or a component longer than 255 bytes, or a path longer than 4096.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, InvalidPath> {
        let path = path.as_ref();
        let invalid =
            |why| InvalidPath { path: String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned(), why };
        if path.contains(&0) {
            return Err(invalid("has a NUL byte"));
        }
        if path.len() > 4096 {
            return Err(invalid("is longer than 4096 bytes"));
        }
        let mut components: Vec<&[u8]> = Vec::new();
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    components.pop();
                }
                name if name.len() > 255 => return Err(invalid("has a component longer than 255 bytes")),
                name => components.push(name),
            }
        }
        Ok(Self(components.join(&b'/')))
    }

    /// A path that was one before; `None` if the bytes were none.
    pub(crate) fn from_normalised(path: &[u8]) -> Option<Self> {
        Self::is_normalised(path).then(|| Self(path.to_vec()))
    }

    /// Whether the bytes are a path as they stand.
    pub(crate) fn is_normalised(path: &[u8]) -> bool {
        let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= 255;
        path.is_empty() || (path.len() <= 4096 && !path.contains(&0) && path.split(|byte| *byte == b'/').all(is_name))
    }

    /// The bytes, without a leading `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components from the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// The directory that holds it; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// `name` is not a single ordinary component.
    pub fn child(&self, name: &[u8]) -> Result<Self, InvalidPath> {
        let single = Self::new(name)?;
        if single.0 != name || single.0.is_empty() {
            return Err(InvalidPath { path: String::from_utf8_lossy(name).into_owned(), why: "is not a single name" });
        }
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self::new(path)
    }

    /// This path with another one beneath it.
    ///
    /// # Errors
    /// The result would be too long.
    pub fn join(&self, below: &Self) -> Result<Self, InvalidPath> {
        Self::new([&self.0[..], b"/", &below.0[..]].concat())
    }

    /// A bound for ranges: after `path` and all that lies beneath it, before everything else that comes later. Not a path
    /// itself, since it ends in the NUL that sorts between `/` and all that names are made of.
    pub(crate) fn after_everything_beneath(path: &[u8]) -> Self {
        Self([path, b"\0"].concat())
    }

    /// Whether it is `ancestor` or lies beneath it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.strip_prefix(ancestor).is_some()
    }

    /// The rest beneath `ancestor`, if it is `ancestor` or lies beneath it.
    pub fn strip_prefix(&self, ancestor: &Self) -> Option<Self> {
        if ancestor.0.is_empty() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(&ancestor.0[..])?;
        match rest {
            [] => Some(Self::root()),
            [b'/', below @ ..] => Some(Self(below.to_vec())),
            _ => None,
        }
    }
}

/// A path that cannot name anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path `{path}` {why}")]
pub struct InvalidPath {
    path: String,
    why: &'static str,
}

impl PartialOrd for RootPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RootPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        order(&self.0, &other.0)
    }
}

/// The order of paths, also of what follows a common beginning.
pub(crate) fn order(left: &[u8], right: &[u8]) -> std::cmp::Ordering {
    // Only the first difference counts, and the search for it is what an index spends its time with.
    let common = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    let rank = |path: &[u8]| path.get(common).map(|byte| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 });
    rank(left).cmp(&rank(right))
}

impl Deref for RootPath {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// For people: control characters, which a name may have to deceive a reader, are escaped.
impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        f.write_str("/")?;
        if !text.contains(char::is_control) {
            return f.write_str(&text);
        }
        text.chars().try_for_each(|character| match character.is_control() {
            true => write!(f, "{}", character.escape_default()),
            false => write!(f, "{character}"),
        })
    }
}

impl fmt::Debug for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// Names that are not UTF-8 are written as the array of their bytes, all others as a string.
impl Serialize for RootPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for RootPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = RootPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path as a string or an array of bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RootPath, E> {
                RootPath::new(text).map_err(E::custom)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut bytes: A) -> Result<RootPath, A::Error> {
                let mut path = Vec::new();
                while let Some(byte) = bytes.next_element::<u8>()? {
                    path.push(byte);
                }
                RootPath::new(path).map_err(serde::de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::new(text).unwrap()
    }

    #[test]
    fn a_name_can_neither_break_a_line_nor_steer_a_terminal() {
        assert_eq!(RootPath::new(b"a\nb\x1b[2Jc").unwrap().to_string(), "/a\\nb\\u{1b}[2Jc");
        assert_eq!(RootPath::new("grüße".as_bytes()).unwrap().to_string(), "/grüße");
    }

    #[test]
    fn normalises_and_stops_at_the_root() {
        for (text, normal) in
            [("/a//b/./c/", "/a/b/c"), ("../../etc", "/etc"), ("a/../..", "/"), ("", "/"), ("/..", "/")]
        {
            assert_eq!(path(text).to_string(), normal, "{text}");
        }
        assert!(RootPath::new("a\0b").is_err());
    }

    #[test]
    fn a_directory_is_directly_followed_by_what_it_contains() {
        let mut paths = [path("a-b"), path("a/c"), path("a"), path("a.b")];
        paths.sort();
        assert_eq!(paths.map(|path| path.to_string()), ["/a", "/a/c", "/a-b", "/a.b"]);
    }

    #[test]
    fn prefixes_end_at_components() {
        assert!(path("a/b").starts_with(&path("a")));
        assert!(!path("ab").starts_with(&path("a")));
        assert_eq!(path("a/b").strip_prefix(&path("a")), Some(path("b")));
    }
}
