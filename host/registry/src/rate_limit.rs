//! How many images a registry still gives (the headers of draft-ietf-httpapi-ratelimit-headers, as Docker Hub sends them).

use std::{fmt, time::Duration};

use reqwest::header::HeaderMap;

/// A limit, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Images in each window.
    pub limit: u64,
    /// Those that are left.
    pub remaining: u64,
    /// How long a window is; zero where the registry does not say it.
    pub window: Duration,
}

impl RateLimit {
    /// From `RateLimit-Limit: 100;w=21600` and `RateLimit-Remaining: 76;w=21600`.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let field = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?;
            let mut parts = text.split(';').map(str::trim);
            let count: u64 = parts.next()?.parse().ok()?;
            let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok());
            Some((count, window.unwrap_or_default()))
        };
        let (limit, window) = field("ratelimit-limit")?;
        let (remaining, _) = field("ratelimit-remaining")?;
        (limit > 0).then_some(Self { limit, remaining, window: Duration::from_secs(window) })
    }

    /// Whether a tenth of it or less is left.
    pub fn is_near(&self) -> bool {
        self.remaining.saturating_mul(10) <= self.limit
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} images are left", self.remaining, self.limit)?;
        match self.window.as_secs() {
            0 => Ok(()),
            seconds if seconds.is_multiple_of(3600) => write!(f, " in {} h", seconds / 3600),
            seconds => write!(f, " in {seconds} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limit: &str, remaining: &str) -> Option<RateLimit> {
        let mut headers = HeaderMap::new();
        headers.insert("RateLimit-Limit", limit.parse().unwrap());
        headers.insert("RateLimit-Remaining", remaining.parse().unwrap());
        RateLimit::of(&headers)
    }

    #[test]
    fn docker_hubs_headers_are_read() {
        let limit = of("100;w=21600", "76;w=21600").unwrap();
        assert_eq!((limit.limit, limit.remaining, limit.is_near()), (100, 76, false));
        assert_eq!(limit.to_string(), "76 of 100 images are left in 6 h");
        assert!(of("100;w=21600", "10;w=21600").unwrap().is_near());
        assert_eq!(of("5", "0").unwrap().to_string(), "0 of 5 images are left");
        for (limit, remaining) in [("", "1"), ("x;w=1", "1"), ("0;w=1", "0"), ("-1", "1"), ("1", "y")] {
            assert_eq!(of(limit, remaining), None, "{limit} {remaining}");
        }
        assert_eq!(RateLimit::of(&HeaderMap::new()), None);
    }
}
