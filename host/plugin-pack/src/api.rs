//! Versions of the plugin interface.

use std::{fmt, str::FromStr};

/// The version of the plugin interface that this host offers: that of every package under `wit/`.
pub const OFFERED: ApiVersion = ApiVersion { major: 0, minor: 1 };

/// A version of the plugin interface, `MAJOR.MINOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Changes with a break, from 1.0 on.
    pub major: u32,
    /// Before 1.0 a change is a break; from 1.0 on it only adds functions.
    pub minor: u32,
}

impl ApiVersion {
    /// Whether a host that offers `self` can run a plugin that needs `needed` (semantic versioning 2.0.0, item 4: below
    /// 1.0 every minor version stands alone).
    pub fn runs(self, needed: Self) -> bool {
        self.major == needed.major
            && if self.major == 0 { self.minor == needed.minor } else { self.minor >= needed.minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse().map_err(|_| ()) } else { Err(()) }
        };
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_one_every_minor_version_stands_alone() {
        let version = |text: &str| text.parse::<ApiVersion>().unwrap();
        assert!(version("0.1").runs(version("0.1")));
        assert!(!version("0.2").runs(version("0.1")));
        assert!(version("1.3").runs(version("1.1")));
        assert!(!version("1.1").runs(version("1.3")));
        assert!("0.1.2".parse::<ApiVersion>().is_err());
        assert!("+0.1".parse::<ApiVersion>().is_err());
    }
}
