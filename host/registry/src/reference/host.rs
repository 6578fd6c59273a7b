//! A registry's host and port.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::ReferenceError;

/// A registry's host as people write it, in lower case, with a port unless it is the scheme's own: `docker.io`,
/// `localhost:5000`, `[::1]:5000`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryHost {
    name: String,
    port: Option<u16>,
}

impl RegistryHost {
    /// Docker Hub, where references without a host lead.
    pub fn docker_hub() -> Self {
        Self { name: "docker.io".to_owned(), port: None }
    }

    /// The name or address without a port; an IPv6 address stands in brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, if one was written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether this is Docker Hub, whose API has another host name than its images.
    pub fn is_docker_hub(&self) -> bool {
        self.name == "docker.io"
    }

    /// Whether this is the machine itself (`localhost`, 127.0.0.0/8, `::1`), which Docker trusts without TLS.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.name)
    }

    /// Host and port of the registry's API.
    pub(crate) fn api_authority(&self) -> String {
        if self.is_docker_hub() { "registry-1.docker.io".to_owned() } else { self.to_string() }
    }
}

/// Whether a host name, with brackets for IPv6, is the machine itself.
pub(crate) fn is_loopback(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Ok(IpAddr::V6(address)) => address == Ipv6Addr::LOCALHOST,
        Err(_) => name == "localhost",
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RegistryHost {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |reason| ReferenceError::Host { host: text.to_owned(), reason };
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or_else(|| error("an IPv6 address ends with `]`"))?;
                let address: Ipv6Addr =
                    address.parse().map_err(|_| error("between brackets stands an IPv6 address"))?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if after.is_empty() => None,
                    None => return Err(error("after `]` comes a port or nothing")),
                };
                (format!("[{address}]"), port)
            }
            None => {
                let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
                check_name(name).map_err(error)?;
                (name.to_ascii_lowercase(), port)
            }
        };
        let port = port.map(|port| parse_port(port).ok_or_else(|| error("its port is not a number from 1 to 65535")));
        let name = if name == "index.docker.io" { "docker.io".to_owned() } else { name };
        Ok(Self { name, port: port.transpose()? })
    }
}

fn parse_port(text: &str) -> Option<u16> {
    // `u16::from_str` would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    // RFC 1035 section 2.3.4.
    if name.len() > 253 {
        return Err("a host name has at most 253 characters");
    }
    for label in name.split('.') {
        let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if label.is_empty() || !letters || label.starts_with('-') || label.ends_with('-') {
            return Err(
                "the labels of a host name are letters, digits and inner hyphens, with single dots between them",
            );
        }
    }
    // Resolvers read `127.1` or `0177.0.0.1` as addresses: a lookalike of something else.
    let numeric = name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && name.parse::<Ipv4Addr>().is_err() {
        return Err("an IPv4 address has four decimal numbers");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_hosts_are_the_machine_itself() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.10", true),
            ("[::1]:5000", true),
            ("[::2]", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("128.0.0.1", false),
        ] {
            assert_eq!(host.parse::<RegistryHost>().unwrap().is_loopback(), expected, "{host}");
        }
    }

    #[test]
    fn short_and_octal_addresses_are_no_hosts() {
        for host in ["127.1", "0177.0.0.1", "2130706433", "1.2.3.4.5"] {
            assert!(host.parse::<RegistryHost>().is_err(), "{host}");
        }
    }
}
