//! Platforms: `os/architecture[/variant]`.

use std::{fmt, str::FromStr};

use crate::step::KeyValue;

/// What an image runs on (OCI image specification, image-index.md, "platform").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// Go's GOOS: `linux`.
    pub os: String,
    /// Go's GOARCH: `amd64`, `arm64`.
    pub architecture: String,
    /// For arm: `v7`; `None` where it says nothing more.
    pub variant: Option<String>,
}

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform (os/architecture, for example linux/amd64)")]
pub struct ParsePlatformError(String);

impl Platform {
    /// The one that this program runs on.
    pub fn current() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// The build arguments that describe it, with `TARGET` or `BUILD` as prefix.
    pub fn arguments(&self, prefix: &str) -> [KeyValue; 4] {
        let pair = |name: &str, value: String| KeyValue { key: format!("{prefix}{name}"), value };
        [
            pair("PLATFORM", self.to_string()),
            pair("OS", self.os.clone()),
            pair("ARCH", self.architecture.clone()),
            pair("VARIANT", self.variant.clone().unwrap_or_default()),
        ]
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// Normalises as containerd does: `x86_64` is `amd64`, `aarch64` and `arm64/v8` are `arm64`, `arm` is `arm/v7`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePlatformError(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let parts: Vec<&str> = lower.split('/').collect();
        if parts.len() > 3 || !parts.iter().all(|part| word(part)) {
            return Err(error());
        }
        let (os, architecture, variant) = match parts[..] {
            ["linux"] => return Ok(Self::current()),
            ["windows" | "darwin"] => return Err(error()),
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(error()),
        };
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("amd64", Some("v1")) => ("amd64", None),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("i386" | "386", _) => ("386", None),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            other => other,
        };
        Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_the_names_of_other_tools() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("amd64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("Linux/AMD64", "linux/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
        for text in ["", "linux/", "a/b/c/d", "linux/amd64;rm"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
