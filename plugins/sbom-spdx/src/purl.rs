//! Package URLs: `pkg:TYPE/NAMESPACE/NAME@VERSION?QUALIFIERS` (purl specification, ECMA-427).

use std::{collections::BTreeMap, fmt};

/// A package URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purl {
    kind: &'static str,
    namespace: Vec<String>,
    name: String,
    version: Option<String>,
    qualifiers: BTreeMap<&'static str, String>,
}

impl Purl {
    /// One without namespace and qualifiers; an empty version is none.
    pub fn new(kind: &'static str, name: &str, version: &str) -> Self {
        let version = Some(version.to_owned()).filter(|version| !version.is_empty());
        Self { kind, namespace: Vec::new(), name: name.to_owned(), version, qualifiers: BTreeMap::new() }
    }

    /// With a namespace, whose segments stand between slashes.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        self
    }

    /// With a qualifier, unless its value is empty.
    pub fn qualifier(mut self, key: &'static str, value: &str) -> Self {
        if !value.is_empty() {
            self.qualifiers.insert(key, value.to_owned());
        }
        self
    }

    /// Its type.
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl fmt::Display for Purl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pkg:{}/", self.kind)?;
        for segment in &self.namespace {
            write!(f, "{}/", Encoded(segment))?;
        }
        write!(f, "{}", Encoded(&self.name))?;
        if let Some(version) = &self.version {
            write!(f, "@{}", Encoded(version))?;
        }
        for (number, (key, value)) in self.qualifiers.iter().enumerate() {
            write!(f, "{}{key}={}", if number == 0 { '?' } else { '&' }, Encoded(value))?;
        }
        Ok(())
    }
}

/// Everything but letters, digits, `.-_~:` is percent-encoded (ECMA-427, 5.4).
struct Encoded<'t>(&'t str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                    write!(f, "{}", char::from(byte))?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_specification_shows() {
        let deb = Purl::new("deb", "curl", "7.50.3-1").namespace("debian").qualifier("arch", "i386");
        assert_eq!(
            deb.qualifier("distro", "jessie").to_string(),
            "pkg:deb/debian/curl@7.50.3-1?arch=i386&distro=jessie"
        );
        assert_eq!(
            Purl::new("npm", "animation", "12.3.1").namespace("@angular").to_string(),
            "pkg:npm/%40angular/animation@12.3.1"
        );
        assert_eq!(
            Purl::new("golang", "api", "v0.1.0").namespace("google.golang.org/x").to_string(),
            "pkg:golang/google.golang.org/x/api@v0.1.0"
        );
        assert_eq!(Purl::new("deb", "a", "1:2.0+x~3").qualifier("arch", "").to_string(), "pkg:deb/a@1:2.0%2Bx~3");
        assert_eq!(Purl::new("pypi", "ä b", "").to_string(), "pkg:pypi/%C3%A4%20b");
    }
}
