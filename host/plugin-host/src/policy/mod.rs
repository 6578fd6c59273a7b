//! What the operator and the user allow.
//!
//! A policy is one or two layers: the operator's file, and what the user says by `--policy` and flags. Something is allowed
//! if every layer allows it, so that the user can only narrow what the operator decided.

mod file;
mod grants;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use cofferdam_plugin_pack::{Capability, HostPattern, ParsedHost};

use file::PolicyFile;
pub use file::{PolicyError, RunNetwork};

use crate::Limits;

/// Where the operator's policy is, if there is one.
pub const OPERATOR_POLICY: &str = "/etc/cofferdam/policy.toml";

/// What is allowed in this run.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    operator: Option<Layer>,
    user: Layer,
}

/// One source of rules.
#[derive(Debug, Clone, Default)]
struct Layer {
    /// For messages: which file to change.
    path: Option<PathBuf>,
    file: PolicyFile,
}

/// A plugin's name, or its name and a capability: the value of `--allow-plugin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// The plugin.
    pub plugin: String,
    /// Without it the plugin is only listed: it may then claim first-party keywords and registry hosts.
    pub capability: Option<Capability>,
}

impl Policy {
    /// Reads the operator's policy, if this user can't write it, and the one given by `--policy`, if any.
    ///
    /// An operator's file that this user can write is the user's own: it counts where `--policy` doesn't name another.
    ///
    /// # Errors
    /// A file that can't be read, or whose content is wrong.
    pub fn load(given: Option<&Path>) -> Result<Self, PolicyError> {
        Self::load_from(Path::new(OPERATOR_POLICY), given)
    }

    /// As [`Policy::load`], with the operator's policy somewhere else: for tests.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn load_from(operator: &Path, given: Option<&Path>) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        match std::fs::symlink_metadata(operator) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(PolicyError::Storage { path: operator.to_owned(), source }),
            Ok(_) if file::user_can_write(operator) => policy.user = Layer::read(operator)?,
            Ok(_) => policy.operator = Some(Layer::read(operator)?),
        }
        if let Some(path) = given {
            policy.user = Layer::read(path)?;
        }
        Ok(policy)
    }

    /// One file alone, as if there were no operator's.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        Ok(Self { operator: None, user: Layer::read(path)? })
    }

    /// A policy from the text of a file, without an operator's.
    ///
    /// # Errors
    /// The content is wrong.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let user = Layer { path: None, file: PolicyFile::parse(text, Path::new("policy.toml"))? };
        Ok(Self { operator: None, user })
    }

    /// Whether there is an operator's policy that this user can't write.
    pub fn has_operator(&self) -> bool {
        self.operator.is_some()
    }

    /// The plugins that the policies name, with the capabilities that they list for each.
    pub fn listed(&self) -> BTreeMap<String, BTreeSet<Capability>> {
        let mut listed: BTreeMap<String, BTreeSet<Capability>> = BTreeMap::new();
        for (name, rule) in self.layers().flat_map(|layer| &layer.file.plugins) {
            listed.entry(name.clone()).or_default().extend(rule.allow.iter().flatten().chain(&rule.extra).cloned());
        }
        listed
    }

    /// Adds what `--allow-plugin` says to the user's own rules. Where an operator's policy exists, it still decides.
    pub fn allow(&mut self, allowance: Allowance) {
        self.user.file.allow(allowance);
    }

    /// Whether images and layers may be pulled from a registry host (`host` or `host:port`; Docker Hub is `docker.io`).
    pub fn may_pull(&self, host: &str) -> bool {
        self.layers().all(|layer| covers(layer.file.pull.as_deref(), host))
    }

    /// Whether images may be pushed to a registry host.
    pub fn may_push(&self, host: &str) -> bool {
        self.layers().all(|layer| covers(layer.file.push.as_deref(), host))
    }

    /// Whether the host may fetch what steps name from a server (`host` or `host:port`).
    pub fn may_fetch(&self, host: &str) -> bool {
        self.layers().all(|layer| covers(layer.file.fetch.as_deref(), host))
    }

    /// The most that RUN may have of the network.
    pub fn run_network(&self) -> RunNetwork {
        self.layers().map(|layer| layer.file.network).min().unwrap_or(RunNetwork::Host)
    }

    /// The limits of plugins: the smaller of `wanted` and what the policies cap.
    pub fn limits(&self, wanted: Limits) -> Limits {
        self.layers().fold(wanted, |limits, layer| layer.file.narrow(limits))
    }

    /// The file that a denial should point at.
    fn decisive_path(&self) -> String {
        let layer = self.operator.as_ref().unwrap_or(&self.user);
        match &layer.path {
            Some(path) => format!("`{}`", path.display()),
            None => "a policy (`--policy FILE`)".to_owned(),
        }
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.operator.iter().chain([&self.user])
    }
}

impl Layer {
    fn read(path: &Path) -> Result<Self, PolicyError> {
        Ok(Self { path: Some(path.to_owned()), file: PolicyFile::read(path)? })
    }
}

impl std::str::FromStr for Allowance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (plugin, capability) = match text.split_once(':') {
            Some((plugin, capability)) => (plugin, Some(capability.parse().map_err(|error| format!("{error}"))?)),
            None => (text, None),
        };
        if plugin.is_empty() {
            return Err("must be `NAME` or `NAME:CAPABILITY`, for example `greet:exec`".to_owned());
        }
        Ok(Self { plugin: plugin.to_owned(), capability })
    }
}

/// No list allows every host; a text that is no host is never allowed by a list.
fn covers(patterns: Option<&[HostPattern]>, host: &str) -> bool {
    let Some(patterns) = patterns else { return true };
    ParsedHost::parse(host).is_some_and(|host| patterns.iter().any(|pattern| pattern.matches(&host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_matched_as_hosts() {
        let policy = Policy::parse("[registries]\npull = [\"docker.io\", \"*.corp.example\"]\npush = []\n").unwrap();
        assert!(policy.may_pull("docker.io") && policy.may_pull("a.corp.example"));
        assert!(!policy.may_pull("a.corp.example.evil.example") && !policy.may_pull("ghcr.io"));
        assert!(!policy.may_push("docker.io"));
        assert!(Policy::default().may_push("docker.io"));
        let policy = Policy::parse("[sources]\nfetch = [\"*.corp.example\"]\n").unwrap();
        assert!(policy.may_fetch("git.corp.example") && !policy.may_fetch("corp.example.evil.example"));
        assert!(Policy::default().may_fetch("example.org"));
    }

    #[test]
    fn the_narrower_of_two_layers_decides() {
        let layer = |text: &str| Layer { path: None, file: PolicyFile::parse(text, Path::new("p")).unwrap() };
        let policy = Policy {
            operator: Some(layer("[run]\nnetwork = \"default\"\n[limits]\nmemory-mib = 64\n")),
            user: layer("[run]\nnetwork = \"host\"\n[limits]\nmemory-mib = 512\ndeadline-ms = 5\n"),
        };
        assert_eq!(policy.run_network(), RunNetwork::Default);
        let limits = policy.limits(Limits::default());
        assert_eq!(limits.memory_bytes, 64 << 20);
        assert_eq!(limits.deadline.as_millis(), 5);
    }

    #[test]
    fn allowances_name_a_plugin_and_maybe_a_capability() {
        let greet = |capability| Ok(Allowance { plugin: "greet".to_owned(), capability });
        assert_eq!("greet:exec".parse(), greet(Some(Capability::Exec)));
        assert_eq!("greet:env:HOME".parse(), greet(Some(Capability::Variable("HOME".to_owned()))));
        assert_eq!("greet".parse(), greet(None));
        assert!("greet:everything".parse::<Allowance>().is_err());
        assert!(":exec".parse::<Allowance>().is_err());
    }
}
