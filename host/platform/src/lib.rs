//! Platforms: what an image runs on, and which of several fits.

use std::{fmt, str::FromStr};

use oci_spec::image::{Arch, Os};
use serde::{Deserialize, Serialize};

/// An operating system, an architecture, and a variant of it, in Go's words (OCI image specification, image-index.md,
/// "platform"). Made by parsing, or as an index has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH.
    pub architecture: String,
    /// GOOS.
    pub os: String,
    /// The operating system's version; only Windows images have one.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The version of the instruction set: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform (os/architecture[/variant], for example linux/amd64)")]
pub struct ParsePlatformError(String);

impl Platform {
    /// Normalised: aliases become Go's names, a default variant is left out or filled in as registries have it.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match &*os.to_ascii_lowercase() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (&*architecture.to_ascii_lowercase(), variant.as_deref()) {
            ("i386" | "i486" | "i586" | "i686", _) => ("386", None),
            ("x86_64" | "x86-64" | "amd64", None | Some("v1" | "1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", Some(variant)) => ("amd64", Some(variant)),
            ("aarch64" | "arm64", None | Some("v8" | "8")) => ("arm64", None),
            ("aarch64" | "arm64", Some(variant)) => ("arm64", Some(variant)),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            (other, variant) => {
                return Self {
                    os,
                    architecture: other.to_owned(),
                    variant: variant.map(str::to_owned),
                    os_version: None,
                };
            }
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.map(str::to_owned), os_version: None }
    }

    /// The machine's own: Linux on the architecture that this program was compiled for.
    pub fn current() -> Self {
        Self::new("linux", &Arch::default().to_string(), None)
    }

    /// How well an image for `self` runs where `wanted` is asked for: 0 is best, `None` not at all. An older variant of
    /// the same architecture runs on a newer one.
    fn distance(&self, wanted: &Self) -> Option<u32> {
        let (mine, theirs) = (self.normalised(), wanted.normalised());
        if (&mine.os, &mine.architecture) != (&theirs.os, &theirs.architecture) {
            return None;
        }
        if mine.variant == theirs.variant {
            return Some(0);
        }
        let level = |platform: &Self| match (&*platform.architecture, platform.variant.as_deref()) {
            ("amd64", None) => Some(1),
            ("arm64", None) => Some(8),
            (_, Some(variant)) => variant.strip_prefix('v')?.parse::<u32>().ok(),
            _ => None,
        };
        level(&theirs)?.checked_sub(level(&mine)?)
    }

    /// Whether an image for `self` may be used where `wanted` is asked for.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.distance(wanted).is_some()
    }

    /// The position of the best of these platforms; the first of equals.
    pub fn best<'a>(&self, offered: impl Iterator<Item = Option<&'a Self>>) -> Option<usize> {
        offered
            .enumerate()
            .filter_map(|(position, platform)| Some((platform?.distance(self)?, position)))
            .min()
            .map(|(_, position)| position)
    }

    fn normalised(&self) -> Self {
        Self::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// `os/architecture[/variant]`; or one of the two alone, the other being the machine's.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePlatformError(text.chars().take(100).collect());
        let parts: Vec<&str> = text.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        if text.len() > 100 || !parts.iter().all(plain) {
            return Err(error());
        }
        let current = Self::current();
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            [os] if !matches!(Os::from(&*Self::new(os, "", None).os), Os::Other(_)) => {
                Ok(Self::new(os, &current.architecture, current.variant.as_deref()))
            }
            [architecture] => {
                let platform = Self::new(&current.os, architecture, None);
                match Arch::from(&*platform.architecture) {
                    Arch::Other(_) => Err(error()),
                    _ => Ok(platform),
                }
            }
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn aliases_become_the_registries_names() {
        for (text, name) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i686", "linux/386"),
            ("s390x", "linux/s390x"),
        ] {
            assert_eq!(platform(text).to_string(), name, "{text}");
        }
        assert_eq!(platform("linux"), Platform::current());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "linux/", "/amd64", "linux/amd64/v1/x", "linux/am d64", "nosuch", "linux/amd64\n"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_nearest_older_variant_is_taken_and_never_a_newer_one() {
        let offered = ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4", "linux/arm/v6", "linux/arm64"].map(platform);
        let best = |wanted: &str| {
            platform(wanted).best(offered.iter().map(Some)).map(|position| offered[position].to_string())
        };
        assert_eq!(best("linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(best("linux/amd64/v3").as_deref(), Some("linux/amd64/v2"));
        assert_eq!(best("linux/arm/v7").as_deref(), Some("linux/arm/v6"));
        assert_eq!(best("linux/arm/v5"), None);
        assert_eq!(best("linux/arm64/v9").as_deref(), Some("linux/arm64"));
        assert_eq!(best("windows/amd64"), None);
    }
}
