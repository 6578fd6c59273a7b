//! What files of other tools say about where images are: registries.conf (containers-registries.conf(5)) and containerd's
//! hosts.toml. Read from text; whoever reads the files says which.

mod hosts_toml;
mod registries_conf;

use std::str::FromStr;

use crate::{Mirror, Reference, ReferenceError, RegistryHost, Repository};

pub use hosts_toml::{HostFiles, HostsToml};
pub use registries_conf::RegistriesConf;

/// A file that can't be used. The message names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(pub(crate) String);

/// What is done with images whose names begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whose images.
    pub prefix: Prefix,
    /// Whether they are not to be pulled.
    pub blocked: bool,
    /// Where they really are, in the place of the prefix.
    pub location: Option<Mirror>,
    /// Where they are looked for first, in the place of the prefix.
    pub mirrors: Vec<RuleMirror>,
}

/// A mirror that may be for some references only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMirror {
    /// In the place of the prefix.
    pub location: Mirror,
    /// For which references.
    pub references: References,
}

impl RuleMirror {
    /// For every reference.
    pub fn for_all(location: Mirror) -> Self {
        Self { location, references: References::All }
    }
}

/// `pull-from-mirror`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum References {
    /// All of them.
    All,
    /// Those with a digest.
    Digests,
    /// Those without one.
    Tags,
}

impl References {
    fn has(self, reference: &Reference) -> bool {
        match self {
            Self::All => true,
            Self::Digests => reference.digest().is_some(),
            Self::Tags => reference.digest().is_none(),
        }
    }
}

/// What the names of images begin with: a host or all beneath a domain (`*.example.com`), and perhaps a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    host: HostPattern,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    One(RegistryHost),
    /// With its first dot.
    Beneath(String),
}

impl Prefix {
    /// One registry.
    pub fn host(host: RegistryHost) -> Self {
        Self { host: HostPattern::One(host), path: String::new() }
    }

    /// Whether it names a whole domain.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host, HostPattern::Beneath(_))
    }

    /// What of a repository's name stands behind the prefix; `None` if it begins otherwise.
    fn rest<'r>(&self, repository: &'r Repository) -> Option<&'r str> {
        let is_meant = match &self.host {
            HostPattern::One(host) => host == repository.host(),
            HostPattern::Beneath(domain) => repository.host().to_string().ends_with(domain.as_str()),
        };
        let name = Some(repository.name()).filter(|_| is_meant)?;
        match self.path.as_str() {
            "" => Some(name),
            path => {
                let rest = name.strip_prefix(path)?;
                if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
            }
        }
    }

    /// Of two that fit, the longer one counts.
    fn length(&self) -> usize {
        let host = match &self.host {
            HostPattern::One(host) => host.to_string().len(),
            HostPattern::Beneath(domain) => domain.len(),
        };
        host + self.path.len()
    }
}

impl FromStr for Prefix {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let host = match host.strip_prefix('*') {
            Some(domain) if domain.starts_with('.') => {
                // What follows is a host's own syntax.
                domain[1..].parse::<RegistryHost>()?;
                HostPattern::Beneath(domain.to_ascii_lowercase())
            }
            _ => HostPattern::One(host.parse()?),
        };
        Ok(Self { host, path: path.trim_end_matches('/').to_owned() })
    }
}

/// Where an image is looked for, by rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// No rule is about it.
    Nothing,
    /// It is not to be pulled.
    Blocked,
    /// First, and last.
    Places(Vec<Reference>, Reference),
}

/// What the rules say about a reference: the one with the longest prefix counts, of equals the first.
pub(crate) fn find(rules: &[Rule], reference: &Reference) -> Result<Found, ReferenceError> {
    let fitting = rules.iter().filter_map(|rule| Some((rule, rule.prefix.rest(reference.repository())?)));
    // The last of equals is what `max_by_key` takes.
    let Some((rule, rest)) = fitting.rev().max_by_key(|(rule, _)| rule.prefix.length()) else {
        return Ok(Found::Nothing);
    };
    if rule.blocked {
        return Ok(Found::Blocked);
    }
    let mirrors = rule.mirrors.iter().filter(|mirror| mirror.references.has(reference));
    let first = mirrors.map(|mirror| mirror.location.in_place(reference, rest)).collect::<Result<Vec<_>, _>>()?;
    let last = match &rule.location {
        Some(location) => location.in_place(reference, rest)?,
        None => reference.clone(),
    };
    Ok(Found::Places(first, last))
}
