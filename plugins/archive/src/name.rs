//! Names of entries.

use crate::Error;

/// The most bytes of a name (PATH_MAX of Linux).
const LIMIT_BYTES: usize = 4096;

/// How a file is called that removes another one in a layer (OCI image specification, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// The name relative to the archive's root, without a slash at either end; empty for the root itself.
///
/// # Errors
/// The name climbs out of the archive, is reserved, or is no name at all.
pub fn relative(name: &[u8]) -> Result<Vec<u8>, Error> {
    let shown = || String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned();
    if name.is_empty() || name.contains(&0) || name.len() > LIMIT_BYTES {
        return Err(Error::Malformed(format!(
            "an entry has a name that is empty, too long, or holds a zero byte: `{}`",
            shown()
        )));
    }
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if components.pop().is_none() => {
                return Err(Error::Malformed(format!("the entry `{}` climbs out of the archive", shown())));
            }
            b".." => {}
            reserved if reserved.starts_with(WHITEOUT) => {
                let message =
                    format!("the entry `{}` is named like a whiteout, which no layer can hold as a file", shown());
                return Err(Error::Malformed(message));
            }
            component => components.push(component),
        }
    }
    Ok(components.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (name, relative_name) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/x", "etc/x"),
            ("a/../b", "b"),
            ("./", ""),
            ("/", ""),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(relative(name.as_bytes()).unwrap(), relative_name.as_bytes(), "{name}");
        }
    }

    #[test]
    fn climbing_and_reserved_names_are_refused() {
        for name in ["..", "../x", "a/../../x", "/../x", "", "a\0b", ".wh.x", "a/.wh..wh..opq", &"x".repeat(5000)] {
            assert!(relative(name.as_bytes()).is_err(), "{name}");
        }
    }
}
