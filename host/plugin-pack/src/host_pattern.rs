//! Patterns of hosts, compared label by label on hosts that were parsed first.

use std::fmt;

/// Which hosts are meant: `*`, `ghcr.io`, `registry.example:5000`, `*.azurecr.io` (one or more labels in place of a leading
/// star, never none), or `api.ecr.*.amazonaws.com` (exactly one label in place of an inner star).
///
/// A pattern without a port covers the host without a port and with `:443`, the port that HTTPS means (RFC 9110
/// §4.2.2); another port is another server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// Hosts with these labels.
    Labels(HostLabels),
}

/// The labels of a pattern that is not the star alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostLabels {
    /// Whether one or more labels stand before these.
    beneath: bool,
    /// From the left; none is any label.
    labels: Vec<Option<String>>,
    port: Option<u16>,
}

/// A registry's host, parsed: a name of labels (RFC 1123 §2.1, plus `_`), or a bracketed IPv6 address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParsedHost {
    labels: Vec<String>,
    port: Option<u16>,
}

/// A text that is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host pattern: write `*`, `registry.example`, `registry.example:5000`, `*.registry.example` or \
     `api.*.registry.example`"
)]
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
}

impl HostPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// It is none of the forms.
    pub fn parse(text: &str) -> Result<Self, ParseHostPatternError> {
        let error = || ParseHostPatternError(text.chars().take(100).collect());
        if text == "*" {
            return Ok(Self::Any);
        }
        let (beneath, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        // A label that no star stands for takes its place while the rest is parsed; the places are those of the text.
        let stars: Vec<bool> = rest.split('.').map(|label| label == "*").collect();
        let filled: Vec<&str> = rest.split('.').map(|label| if label == "*" { "star" } else { label }).collect();
        let host = ParsedHost::parse(&filled.join(".")).ok_or_else(error)?;
        let labels: Vec<Option<String>> =
            host.labels.into_iter().zip(&stars).map(|(label, &star)| (!star).then_some(label)).collect();
        if beneath || stars.contains(&true) {
            // A star before a single label would be a star over a whole top-level domain, and one before a number covers
            // addresses, which are only ever meant one by one.
            let [.., Some(_), Some(last)] = labels.as_slice() else { return Err(error()) };
            if last.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(error());
            }
        }
        Ok(Self::Labels(HostLabels { beneath, labels, port: host.port }))
    }

    /// Whether it covers a host.
    pub fn matches(&self, host: &ParsedHost) -> bool {
        self.covers(&Self::from(host.clone()))
    }

    /// Whether it covers every host that the other one covers.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Labels(_), Self::Any) => false,
            (Self::Labels(ours), Self::Labels(theirs)) => ours.cover(theirs),
        }
    }
}

impl From<ParsedHost> for HostPattern {
    fn from(host: ParsedHost) -> Self {
        let labels = host.labels.into_iter().map(Some).collect();
        Self::Labels(HostLabels { beneath: false, labels, port: host.port })
    }
}

impl HostLabels {
    fn cover(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.labels.len(), other.labels.len());
        let long_enough = match self.beneath {
            true => theirs + usize::from(other.beneath) > ours,
            false => theirs == ours && !other.beneath,
        };
        let covered = |(ours, theirs): (&Option<String>, &Option<String>)| ours.is_none() || ours == theirs;
        long_enough
            && self.port.unwrap_or(443) == other.port.unwrap_or(443)
            && self.labels.iter().zip(&other.labels[theirs - ours..]).all(covered)
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
        let Self::Labels(HostLabels { beneath, labels, port }) = self else { return f.write_str("*") };
        let labels: Vec<&str> = labels.iter().map(|label| label.as_deref().unwrap_or("*")).collect();
        write!(f, "{}{}", if *beneath { "*." } else { "" }, labels.join("."))?;
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
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
    fn an_inner_star_is_one_label() {
        assert!(matches("api.ecr.*.amazonaws.com", "api.ecr.eu-west-1.amazonaws.com"));
        assert!(matches("*.dkr.ecr.*.amazonaws.com", "123456789012.dkr.ecr.eu-west-1.amazonaws.com"));
        for host in [
            "api.ecr.amazonaws.com",
            "api.ecr.a.b.amazonaws.com",
            "api.ecr.x.amazonaws.com.evil.example",
            "x.api.ecr.eu-west-1.amazonaws.com",
        ] {
            assert!(!matches("api.ecr.*.amazonaws.com", host), "{host}");
        }
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let covers =
            |wide: &str, narrow: &str| HostPattern::parse(wide).unwrap().covers(&HostPattern::parse(narrow).unwrap());
        for (wide, narrow) in [
            ("*", "*.amazonaws.com"),
            ("*.amazonaws.com", "*.amazonaws.com"),
            ("*.amazonaws.com", "api.ecr.*.amazonaws.com"),
            ("*.amazonaws.com", "*.s3.amazonaws.com"),
            ("sts.*.amazonaws.com", "sts.eu-west-1.amazonaws.com:443"),
        ] {
            assert!(covers(wide, narrow) && (wide == narrow || !covers(narrow, wide)), "{wide} {narrow}");
        }
        assert!(!covers("sts.*.amazonaws.com", "*.amazonaws.com") && !covers("a.example", "a.example:8443"));
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
    fn patterns_over_top_level_domains_and_addresses_are_refused() {
        for pattern in ["*.io", "**", "a*.example", "*", "x.*.example", "*.", "", "*.0.1", "10.*.0.1", "*.*.io", "[*]"]
        {
            assert_eq!(HostPattern::parse(pattern).is_ok(), pattern == "*", "{pattern}");
        }
    }
}
