//! What a plugin may want.

use std::{fmt, str::FromStr};

use crate::{HostPattern, Kind};

/// One capability, spelled the same in a plugin's manifest, in the operator's policy and on the command line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// `context`: reading what `plan` declared of the build context.
    Context,
    /// `stages`: reading what `plan` declared of other stages, images and named contexts.
    Stages,
    /// `fetch`: reading what `plan` declared of URLs and git repositories. The host fetches it; the plugin has no network.
    Fetch,
    /// `rootfs`: reading what `plan` declared of the stage's root file system, and writing to it.
    Rootfs,
    /// `finished-rootfs`: reading the whole file system of the finished image.
    FinishedRootfs,
    /// `exec`: running native commands in the stage's root file system.
    Exec,
    /// `secrets`: handing secrets and SSH agents of the build to commands. Their content is never the plugin's.
    Secrets,
    /// `published-tags`: being told which of the tags that were decided the repository has, and their digests.
    PublishedTags,
    /// `file:NAME`: reading the file that the host knows by this name, for example `file:docker-config`.
    File(String),
    /// `env:NAME`: reading one variable of the builder's environment; `env:PREFIX*`: all whose names start so.
    Variable(String),
    /// `http:HOST-PATTERN`: requests over TLS to these servers, which the host makes. Without TLS only to this machine itself.
    Http(HostPattern),
    /// `metadata`: requests to the address at which a cloud tells a machine its credentials. Granted or denied when it is
    /// used, so that a helper with other sources works without.
    Metadata,
}

/// A text that names no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a capability: there are `context`, `stages`, `fetch`, `rootfs`, `finished-rootfs`, `exec`, `secrets`, \
     `published-tags`, `file:NAME`, `env:NAME`, `env:PREFIX*`, `http:HOST-PATTERN` and `metadata`"
)]
pub struct ParseCapabilityError(String);

impl Capability {
    /// Whether who holds this one may also use `other`: the same, a variable of a prefix, or hosts of a wider pattern.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Variable(held), Self::Variable(name)) => match held.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => held == name,
            },
            (Self::Http(held), Self::Http(other)) => held.covers(other),
            _ => self == other,
        }
    }

    /// Whether a plugin of this kind has a use for it, and may therefore want it.
    pub fn fits(&self, kind: Kind) -> bool {
        match self {
            Self::Context | Self::Stages | Self::Fetch | Self::Rootfs | Self::Exec | Self::Secrets => {
                kind == Kind::Instruction
            }
            Self::File(_) | Self::Variable(_) | Self::Http(_) | Self::Metadata => kind == Kind::Credentials,
            Self::PublishedTags => kind == Kind::Tags,
            Self::FinishedRootfs => kind == Kind::Sbom,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context => f.write_str("context"),
            Self::Stages => f.write_str("stages"),
            Self::Fetch => f.write_str("fetch"),
            Self::Rootfs => f.write_str("rootfs"),
            Self::FinishedRootfs => f.write_str("finished-rootfs"),
            Self::Exec => f.write_str("exec"),
            Self::Secrets => f.write_str("secrets"),
            Self::PublishedTags => f.write_str("published-tags"),
            Self::File(name) => write!(f, "file:{name}"),
            Self::Variable(name) => write!(f, "env:{name}"),
            Self::Http(pattern) => write!(f, "http:{pattern}"),
            Self::Metadata => f.write_str("metadata"),
        }
    }
}

impl FromStr for Capability {
    type Err = ParseCapabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseCapabilityError(text.chars().take(100).collect());
        let plain = |name: &str, extra: &[u8]| {
            let fine = |byte: u8| byte.is_ascii_alphanumeric() || extra.contains(&byte);
            (1..=128).contains(&name.len()) && name.bytes().all(fine)
        };
        match text {
            "context" => Ok(Self::Context),
            "stages" => Ok(Self::Stages),
            "fetch" => Ok(Self::Fetch),
            "rootfs" => Ok(Self::Rootfs),
            "finished-rootfs" => Ok(Self::FinishedRootfs),
            "published-tags" => Ok(Self::PublishedTags),
            "exec" => Ok(Self::Exec),
            "secrets" => Ok(Self::Secrets),
            "metadata" => Ok(Self::Metadata),
            _ => match text.split_once(':') {
                Some(("file", name)) if plain(name, b"-_.") && !name.starts_with('.') => {
                    Ok(Self::File(name.to_owned()))
                }
                // A star alone would be the whole environment.
                Some(("env", name)) if plain(name.strip_suffix('*').unwrap_or(name), b"_") => {
                    Ok(Self::Variable(name.to_owned()))
                }
                // A star alone would be the whole network.
                Some(("http", pattern)) if pattern != "*" => {
                    HostPattern::parse(pattern).map(Self::Http).map_err(|_| error())
                }
                _ => Err(error()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints_and_nothing_else() {
        for text in [
            "context",
            "stages",
            "rootfs",
            "finished-rootfs",
            "exec",
            "secrets",
            "file:docker-config",
            "env:AWS_REGION",
            "env:KANIKO_*",
            "http:sts.*.amazonaws.com",
            "http:[::1]:5000",
            "metadata",
        ] {
            assert_eq!(text.parse::<Capability>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "Exec",
            "exec ",
            "file:",
            "file:../etc/passwd",
            "file:/etc",
            "file:a*",
            "env:A=B",
            "env:*",
            "env:A**",
            "env:A*B",
            "network",
            "http:",
            "http:*",
            "http:*.com",
            "http:https://x.example",
            "http:x.example/path",
            "metadata:x",
        ] {
            assert!(text.parse::<Capability>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_covers_the_variables_that_start_so_and_nothing_else() {
        let covers =
            |held: &str, other: &str| held.parse::<Capability>().unwrap().covers(&other.parse::<Capability>().unwrap());
        assert!(covers("env:KANIKO_*", "env:KANIKO_R_EXAMPLE_USER") && covers("env:KANIKO_*", "env:KANIKO_*"));
        assert!(covers("env:A", "env:A") && covers("exec", "exec"));
        assert!(!covers("env:KANIKO_*", "env:KANIK") && !covers("env:KANIKO_*", "env:XKANIKO_A"));
        assert!(!covers("env:A", "env:AB") && !covers("env:A", "env:A*") && !covers("env:AB*", "env:A*"));
        assert!(covers("http:*.x.example", "http:a.x.example") && !covers("http:a.x.example", "http:*.x.example"));
        assert!(!covers("env:A*", "file:A") && !covers("exec", "secrets"));
    }
}
