//! `policy.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use cofferdam_digest::Digest;
use cofferdam_plugin_pack::{Capability, HostPattern};
use serde::Deserialize;

use super::Allowance;
use crate::Limits;

/// A policy that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It can't be read.
    #[error("can't read the policy `{path}`")]
    Storage {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Its content is wrong: the message names the key.
    #[error("the policy `{path}`: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// How much of the network a RUN may have. The order is from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunNetwork {
    /// Nothing.
    None,
    /// What the executor gives to a RUN that doesn't ask.
    Default,
    /// The builder's own.
    #[default]
    Host,
}

/// The content of one file.
#[derive(Debug, Clone, Default)]
pub(super) struct PolicyFile {
    pub(super) require_pinned: bool,
    pub(super) plugins: BTreeMap<String, PluginRule>,
    pub(super) pull: Option<Vec<HostPattern>>,
    pub(super) push: Option<Vec<HostPattern>>,
    pub(super) fetch: Option<Vec<HostPattern>>,
    pub(super) network: RunNetwork,
    memory_mib: Option<u32>,
    deadline_ms: Option<u32>,
}

/// What is said of one plugin.
#[derive(Debug, Clone, Default)]
pub(super) struct PluginRule {
    /// The exact grant; without it the default.
    pub(super) allow: Option<BTreeSet<Capability>>,
    /// Added, by `also` or by flags, to whatever else is granted.
    pub(super) extra: BTreeSet<Capability>,
    pub(super) sha256: Option<Digest>,
}

/// More than any policy.
const MAX_BYTES: u64 = 1 << 20;

impl PolicyFile {
    pub(super) fn read(path: &Path) -> Result<Self, PolicyError> {
        let storage = |source| PolicyError::Storage { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(storage)?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(storage)?;
        if text.len() as u64 > MAX_BYTES {
            let message = format!("it has more than {MAX_BYTES} bytes");
            return Err(PolicyError::Content { path: path.to_owned(), message });
        }
        Self::parse(&text, path)
    }

    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, PolicyError> {
        let content = |message: String| PolicyError::Content { path: path.to_owned(), message };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            content(format!("{line}{}", error.message().trim_end()))
        })?;
        raw.check().map_err(content)
    }

    pub(super) fn allow(&mut self, allowance: Allowance) {
        let rule = self.plugins.entry(allowance.plugin).or_default();
        rule.extra.extend(allowance.capability);
    }

    pub(super) fn narrow(&self, limits: Limits) -> Limits {
        Limits {
            memory_bytes: self
                .memory_mib
                .map_or(limits.memory_bytes, |mib| limits.memory_bytes.min((mib as usize) << 20)),
            deadline: self
                .deadline_ms
                .map_or(limits.deadline, |ms| limits.deadline.min(Duration::from_millis(ms.into()))),
            ..limits
        }
    }
}

/// Whether this user could change the file or put another in its place.
pub(super) fn user_can_write(path: &Path) -> bool {
    let writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    writable(path) || path.parent().is_some_and(writable)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    plugins: toml::Table,
    #[serde(default)]
    registries: RawRegistries,
    #[serde(default)]
    sources: RawSources,
    #[serde(default)]
    run: RawRun,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlugin {
    allow: Option<Vec<String>>,
    #[serde(default)]
    also: Vec<String>,
    sha256: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawRegistries {
    pull: Option<Vec<String>>,
    push: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawSources {
    fetch: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawRun {
    network: Option<RunNetwork>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLimits {
    memory_mib: Option<u32>,
    deadline_ms: Option<u32>,
}

impl Raw {
    fn check(self) -> Result<PolicyFile, String> {
        let mut file = PolicyFile {
            pull: hosts("registries.pull", self.registries.pull)?,
            push: hosts("registries.push", self.registries.push)?,
            fetch: hosts("sources.fetch", self.sources.fetch)?,
            network: self.run.network.unwrap_or_default(),
            memory_mib: self.limits.memory_mib,
            deadline_ms: self.limits.deadline_ms,
            ..PolicyFile::default()
        };
        for (name, value) in self.plugins {
            match value {
                toml::Value::Boolean(pinned) if name == "require-pinned" => file.require_pinned = pinned,
                toml::Value::Table(table) if name != "require-pinned" => {
                    let raw: RawPlugin = table.try_into().map_err(|error| {
                        format!("`plugins.{name}`: {}", toml::de::Error::message(&error).trim_end())
                    })?;
                    file.plugins.insert(name.clone(), raw.check(&name)?);
                }
                _ if name == "require-pinned" => {
                    return Err("`plugins.require-pinned` must be true or false".to_owned());
                }
                _ => return Err(format!("`plugins.{name}` is no key: write `[plugins.{name}]` for a plugin")),
            }
        }
        Ok(file)
    }
}

impl RawPlugin {
    fn check(self, name: &str) -> Result<PluginRule, String> {
        let parse = |key: &str, texts: &[String]| {
            let parsed = texts.iter().map(|text| text.parse()).collect::<Result<BTreeSet<Capability>, _>>();
            parsed.map_err(|error| format!("`plugins.{name}.{key}`: {error}"))
        };
        let allow = self.allow.map(|texts| parse("allow", &texts)).transpose()?;
        let extra = parse("also", &self.also)?;
        let digest = |text: String| {
            let text = if text.starts_with("sha256:") { text } else { format!("sha256:{text}") };
            text.parse::<Digest>().map_err(|error| format!("`plugins.{name}.sha256`: {error}"))
        };
        Ok(PluginRule { allow, extra, sha256: self.sha256.map(digest).transpose()? })
    }
}

fn hosts(key: &str, texts: Option<Vec<String>>) -> Result<Option<Vec<HostPattern>>, String> {
    let parse = |text: &String| HostPattern::parse(text).map_err(|error| format!("`{key}`: {error}"));
    texts.map(|texts| texts.iter().map(parse).collect()).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        PolicyFile::parse(text, Path::new("policy.toml")).unwrap_err().to_string()
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named() {
        assert!(error("[plugin.greet]\n").contains("plugin"));
        assert!(error("[plugins]\nrequire-pin = true\n").contains("plugins.require-pin"));
        assert!(error("[plugins.greet]\nalow = []\n").contains("alow"));
        assert!(error("[plugins.greet]\nallow = [\"execute\"]\n").contains("`execute` is not a capability"));
        assert!(error("[plugins.greet]\nalso = [\"http:*\"]\n").contains("plugins.greet.also"));
        assert!(error("[plugins.greet]\nsha256 = \"abc\"\n").contains("plugins.greet.sha256"));
        assert!(error("[registries]\npull = [\"*.io\"]\n").contains("registries.pull"));
        assert!(error("[run]\nnetwork = \"some\"\n").contains("line 2"));
        assert!(error("[limits]\nmemory = 1\n").contains("memory"));
    }

    #[test]
    fn an_empty_policy_forbids_nothing() {
        let file = PolicyFile::parse("", Path::new("p")).unwrap();
        assert!(!file.require_pinned && file.pull.is_none() && file.network == RunNetwork::Host);
    }
}
