//! Patterns of registry hosts, compared label by label on hosts that were parsed first.

use std::fmt;

/// Which registry hosts a credential helper answers for: `*`, `ghcr.io`, `registry.example:5000`, or `*.azurecr.io`
/// (one or more labels in place of the star, never none).
///
/// A pattern without a port covers the host without a port and with `:443`, the port that HTTPS means (RFC 9110
/// §4.2.2); another port is another server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This host.
    Exact(ParsedHost),
    /// Every host beneath this one.
    Beneath(ParsedHost),
}

/// A registry's host, parsed: a name of labels (RFC 1123 §2.1, plus `_`), or a bracketed IPv6 address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParsedHost {
    labels: Vec<String>,
    port: Option<u16>,
}

/// A text that is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host pattern: write `*`, `registry.example`, `registry.example:5000` or `*.registry.example`")]
pub struct ParseHostPatternError(String);

impl ParsedHost {
    /// Parses `host` or `host:port`. Nothing else: no user, no path, no scheme, no trailing dot, so that no two
    /// readers can disagree on which host is meant.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 260 {
            return None;
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            let port = if port.is_empty() { None } else { Some(parse_port(port.strip_prefix(':')?)?) };
            return Some(Self { labels: vec![format!("[{address}]")], port });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(parse_port(port)?)),
            None => (text, None),
        };
        let labels: Vec<String> = name.split('.').map(str::to_ascii_lowercase).collect();
        let fine = |label: &String| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        labels.iter().all(fine).then_some(Self { labels, port })
    }

    fn port_or_https(&self) -> u16 {
        self.port.unwrap_or(443)
    }
}

impl HostPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// It is none of the four forms.
    pub fn parse(text: &str) -> Result<Self, ParseHostPatternError> {
        let error = || ParseHostPatternError(text.chars().take(100).collect());
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            // A star over a single label would be a star over a whole top-level domain.
            Some(suffix) => {
                ParsedHost::parse(suffix).filter(|host| host.labels.len() > 1).map(Self::Beneath).ok_or_else(error)
            }
            None => ParsedHost::parse(text).map(Self::Exact).ok_or_else(error),
        }
    }

    /// Whether it covers a host.
    pub fn matches(&self, host: &ParsedHost) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.labels == host.labels && exact.port_or_https() == host.port_or_https(),
            Self::Beneath(suffix) => {
                host.labels.len() > suffix.labels.len()
                    && host.labels.ends_with(&suffix.labels)
                    && suffix.port_or_https() == host.port_or_https()
            }
        }
    }
}

impl fmt::Display for ParsedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.labels.join("."))?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => fmt::Display::fmt(host, f),
            Self::Beneath(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, host: &str) -> bool {
        ParsedHost::parse(host).is_some_and(|host| HostPattern::parse(pattern).unwrap().matches(&host))
    }

    #[test]
    fn a_suffix_pattern_covers_what_lies_beneath_it() {
        assert!(matches("*.azurecr.io", "x.azurecr.io"));
        assert!(matches("*.azurecr.io", "X.AzureCR.io"));
        assert!(matches("*.azurecr.io", "a.b.azurecr.io:443"));
        assert!(!matches("*.azurecr.io", "azurecr.io"));
    }

    #[test]
    fn lookalikes_match_nothing() {
        for host in [
            "x.azurecr.io.evil.example",
            "evilazurecr.io",
            "x-azurecr.io",
            "x.azurecr.io@evil.example",
            "evil.example/x.azurecr.io",
            "evil.example#.azurecr.io",
            "evil.example?.azurecr.io",
            "x.azurecr.io.",
            "x.azurecr.io:8443",
            ".azurecr.io",
            "x.azurecr.io:443:1",
            "x.azurecr.io\n",
            "x.azurecr.іo",
        ] {
            assert!(!matches("*.azurecr.io", host), "{host}");
        }
    }

    #[test]
    fn a_port_makes_another_server() {
        assert!(matches("ghcr.io", "ghcr.io:443"));
        assert!(!matches("ghcr.io", "ghcr.io:5000"));
        assert!(matches("localhost:5000", "localhost:5000"));
        assert!(!matches("localhost:5000", "localhost"));
        assert!(matches("[::1]:5000", "[0:0::1]:5000"));
    }

    #[test]
    fn what_is_no_host_does_not_even_match_the_star() {
        assert!(matches("*", "docker.io"));
        assert!(!matches("*", "user@docker.io"));
        assert!(!matches("*", ""));
    }

    #[test]
    fn patterns_over_top_level_domains_and_in_the_middle_are_refused() {
        for pattern in ["*.io", "**", "a*.example", "*", "x.*.example", "*.", ""] {
            assert_eq!(HostPattern::parse(pattern).is_ok(), pattern == "*", "{pattern}");
        }
    }
}
