//! Versions of both schemes, taken apart for patterns.

use std::str::FromStr;

use cofferdam_plugin_sdk::Diagnostic;

use crate::{
    expression::{fill, is_only},
    rule::Scheme,
};

/// A version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    raw: String,
    /// Without what stands in front of it or is a matter of spelling.
    normal: String,
    numbers: [u64; 3],
    /// A pre-release, or what else gives nothing but itself.
    is_special: bool,
}

impl Version {
    /// Reads a text; `None` if it is no version of this scheme.
    pub fn parse(scheme: Scheme, text: &str) -> Option<Self> {
        match scheme {
            Scheme::Semver => {
                let bare = text.trim().trim_start_matches(['v', '=']);
                let version = semver::Version::parse(bare).ok()?;
                // Build metadata is no part of a version's name.
                let normal = semver::Version { build: semver::BuildMetadata::EMPTY, ..version.clone() }.to_string();
                let numbers = [version.major, version.minor, version.patch];
                Some(Self { raw: text.to_owned(), normal, numbers, is_special: !version.pre.is_empty() })
            }
            Scheme::Pep440 => {
                let version = pep440_rs::Version::from_str(text.trim()).ok()?;
                let number = |place: usize| version.release().get(place).copied().unwrap_or(0);
                let numbers = [number(0), number(1), number(2)];
                let is_special = version.any_prerelease() || version.is_post();
                Some(Self { raw: text.to_owned(), normal: version.to_string(), numbers, is_special })
            }
        }
    }

    /// The pattern, filled in; of a special version only the whole. Says also whether the version is an ordinary one.
    ///
    /// # Errors
    /// The pattern has something that versions have not.
    pub fn fill(&self, pattern: &str) -> Result<(String, bool), Diagnostic> {
        let [major, minor, patch] = self.numbers;
        let filled = fill(pattern, |expression| {
            Ok(match expression.name.as_str() {
                "raw" => Some(self.raw.clone()),
                "version" => Some(self.normal.clone()),
                "major" => Some(major.to_string()),
                "minor" => Some(minor.to_string()),
                "patch" => Some(patch.to_string()),
                _ => None,
            })
        })?;
        Ok(match self.is_special {
            false => (filled, true),
            true if is_only(pattern, "raw") => (self.raw.clone(), false),
            true => (self.normal.clone(), false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_versions_apart() {
        for (scheme, text, pattern, expected) in [
            (Scheme::Semver, "v1.2.3", "{{version}}", Some("1.2.3")),
            (Scheme::Semver, "v1.2.3", "{{major}}.{{minor}}", Some("1.2")),
            (Scheme::Semver, "v1.2.3", "{{raw}}", Some("v1.2.3")),
            (Scheme::Semver, "v2.0.0-rc.1", "{{major}}", Some("2.0.0-rc.1")),
            (Scheme::Semver, "v2.0.0-rc.1", "{{raw}}", Some("v2.0.0-rc.1")),
            (Scheme::Semver, "1.2", "{{version}}", None),
            (Scheme::Pep440, "1.2", "v{{major}}.{{minor}}.{{patch}}", Some("v1.2.0")),
            (Scheme::Pep440, "1.0.0-ALPHA1", "{{major}}", Some("1.0.0a1")),
            (Scheme::Pep440, "1.2.3.post1", "{{major}}", Some("1.2.3.post1")),
            (Scheme::Pep440, "latest", "{{version}}", None),
        ] {
            let filled = Version::parse(scheme, text).map(|version| version.fill(pattern).unwrap().0);
            assert_eq!(filled.as_deref(), expected, "{text} {pattern}");
        }
        assert!(Version::parse(Scheme::Semver, "1.2.3").unwrap().fill("{{micro}}").is_err());
    }
}
