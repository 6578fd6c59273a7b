//! Semantic versions (semver.org 2.0.0), as far as tags can hold them: no build metadata.

/// A version; the order is that of releases, a pre-release before its release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    numbers: [u64; 3],
    /// Behind the numbers, so that it decides only among equal ones; `true` is a release.
    is_release: bool,
    pre_release: String,
}

impl Version {
    /// Reads `1.2.3` or `1.2.3-rc.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (numbers, pre_release) = match text.split_once('-') {
            Some((numbers, pre_release)) if is_plain(pre_release) => (numbers, pre_release),
            Some(_) => return None,
            None => (text, ""),
        };
        let mut parsed = [0; 3];
        let mut parts = numbers.split('.');
        for number in &mut parsed {
            let part = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
            *number = part.parse().ok()?;
        }
        parts.next().is_none().then(|| Self {
            numbers: parsed,
            is_release: pre_release.is_empty(),
            pre_release: pre_release.to_owned(),
        })
    }

    /// The tags of an image of this version.
    pub fn tags(&self) -> Vec<String> {
        let [major, minor, patch] = self.numbers;
        if !self.is_release {
            return vec![format!("{major}.{minor}.{patch}-{}", self.pre_release)];
        }
        let mut tags = vec![format!("{major}.{minor}.{patch}"), format!("{major}.{minor}")];
        // Below 1.0 a minor version may break everything, so there is no tag that follows them.
        if major > 0 {
            tags.push(major.to_string());
        }
        tags.push("latest".to_owned());
        tags
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_are_versions() {
        for text in ["1.2", "1.2.3.4", "1.2.x", "1.2.3-", "1.2.3-a b", "", "-1.2.3", "1..3", "+1.2.3"] {
            assert!(Version::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn versions_are_ordered_as_releases() {
        let ordered =
            ["0.9.9", "1.2.3-alpha", "1.2.3-rc.1", "1.2.3", "1.10.0"].map(|text| Version::parse(text).unwrap());
        assert!(ordered.is_sorted());
    }

    #[test]
    fn a_release_moves_the_short_tags() {
        let tags = |text: &str| Version::parse(text).unwrap().tags();
        assert_eq!(tags("1.2.3"), ["1.2.3", "1.2", "1", "latest"]);
        assert_eq!(tags("0.2.3"), ["0.2.3", "0.2", "latest"]);
        assert_eq!(tags("1.2.3-rc.1"), ["1.2.3-rc.1"]);
    }
}
