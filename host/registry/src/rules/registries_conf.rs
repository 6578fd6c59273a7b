//! registries.conf, version 2 (containers-registries.conf(5)).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Prefix, References, Rule, RuleError, RuleMirror};
use crate::{Mirror, Reference, RegistryHost, Repository};

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistriesConf {
    /// In the order of the file.
    pub rules: Vec<Rule>,
    /// Where short names are looked for, in this order; `None` if the file says nothing of it.
    pub search: Option<Vec<RegistryHost>>,
    /// What short names mean (containers-registries.conf(5), "Short-Name Aliasing").
    pub aliases: BTreeMap<String, Repository>,
    /// Registries that may be used over plain HTTP, and with any certificate.
    pub insecure: Vec<RegistryHost>,
}

/// Other keys are for other tools.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<Registry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Version 1.
    registries: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<FileMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FileMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

impl RegistriesConf {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not TOML, is of version 1, or a value is none.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let file: File = toml::from_str(text).map_err(|error| RuleError(error.message().to_owned()))?;
        if file.registries.is_some() {
            return Err(RuleError(
                "it has version 1 of the format (`[registries.…]`): write `[[registry]]`".to_owned(),
            ));
        }
        let mut conf = Self::default();
        if let Some(names) = file.unqualified_search_registries {
            let hosts = names.iter().map(|name| parse("unqualified-search-registries", name));
            conf.search = Some(hosts.collect::<Result<_, _>>()?);
        }
        // With an empty value it takes back what another file said.
        for (short, name) in file.aliases.into_iter().filter(|(_, name)| !name.is_empty()) {
            let reference: Reference = parse(&format!("aliases.{short}"), &name)?;
            conf.aliases.insert(short, reference.repository().clone());
        }
        for registry in file.registry {
            conf.add(&registry)?;
        }
        Ok(conf)
    }

    fn add(&mut self, registry: &Registry) -> Result<(), RuleError> {
        let prefix = match (registry.prefix.as_str(), registry.location.as_str()) {
            ("", "") => return Err(RuleError("a `[[registry]]` has neither `prefix` nor `location`".to_owned())),
            ("", location) => parse::<Prefix>("location", location)?,
            (prefix, _) => parse("prefix", prefix)?,
        };
        let location: Option<Mirror> = match registry.location.as_str() {
            "" => None,
            location => Some(parse("location", location)?),
        };
        if prefix.is_wildcard() && location.is_some() {
            return Err(RuleError(format!("`location` can't stand beside the prefix `{}`", registry.prefix)));
        }
        if registry.insecure {
            let place = if registry.location.is_empty() { &registry.prefix } else { &registry.location };
            let host = place.split('/').next().unwrap_or_default();
            self.insecure.push(parse("location", host)?);
        }
        let mut mirrors = Vec::with_capacity(registry.mirror.len());
        for mirror in &registry.mirror {
            let location: Mirror = parse("location", &mirror.location)?;
            if mirror.insecure {
                self.insecure.push(location.host().clone());
            }
            let references = match (mirror.pull_from_mirror.as_str(), registry.mirror_by_digest_only) {
                ("" | "all", false) => References::All,
                ("digest-only", _) | ("", true) => References::Digests,
                ("tag-only", _) => References::Tags,
                (other, _) => return Err(RuleError(format!("`pull-from-mirror = \"{other}\"` is not known"))),
            };
            mirrors.push(RuleMirror { location, references });
        }
        self.rules.push(Rule { prefix, blocked: registry.blocked, location, mirrors });
        Ok(())
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(key: &str, text: &str) -> Result<T, RuleError> {
    text.parse().map_err(|error| RuleError(format!("`{key} = \"{text}\"`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Found, find};

    fn places(text: &str, reference: &str) -> Vec<String> {
        let conf = RegistriesConf::parse(text).unwrap();
        match find(&conf.rules, &reference.parse().unwrap()).unwrap() {
            Found::Nothing => vec!["nothing".to_owned()],
            Found::Blocked => vec!["blocked".to_owned()],
            Found::Places(first, last) => first.iter().chain([&last]).map(ToString::to_string).collect(),
        }
    }

    const CONF: &str = r#"
unqualified-search-registries = ["registry.example", "docker.io"]
short-name-mode = "enforcing"

[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000/hub"
insecure = true
[[registry.mirror]]
location = "digests.example"
pull-from-mirror = "digest-only"

[[registry]]
prefix = "old.example/team"
location = "new.example/archive/team"
insecure = true

[[registry]]
prefix = "old.example/team/secret"
blocked = true

[[registry]]
prefix = "*.internal.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "cache.example/internal"
"#;

    #[test]
    fn the_longest_prefix_counts() {
        let digest = format!("alpine@sha256:{}", "0".repeat(64));
        assert_eq!(
            places(CONF, "alpine:3"),
            ["mirror.example:5000/hub/library/alpine:3", "docker.io/library/alpine:3"]
        );
        assert_eq!(places(CONF, &digest).len(), 3);
        assert_eq!(places(CONF, "old.example/team/app:1"), ["new.example/archive/team/app:1"]);
        assert_eq!(places(CONF, "old.example/team"), ["new.example/archive/team:latest"]);
        assert_eq!(places(CONF, "old.example/teams/app"), ["nothing"]);
        assert_eq!(places(CONF, "old.example/team/secret/x"), ["blocked"]);
        assert_eq!(places(CONF, "a.b.internal.example/x:1"), ["a.b.internal.example/x:1"]);
        let by_digest = format!("a.internal.example/x@sha256:{}", "0".repeat(64));
        assert!(places(CONF, &by_digest)[0].starts_with("cache.example/internal/x@"));
        assert_eq!(places(CONF, "internal.example/x"), ["nothing"]);
        let conf = RegistriesConf::parse(CONF).unwrap();
        assert_eq!(conf.search.unwrap().len(), 2);
        let insecure: Vec<String> = conf.insecure.iter().map(ToString::to_string).collect();
        assert_eq!(insecure, ["mirror.example:5000", "new.example"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("x", "expected"),
            ("[registries.search]\nregistries = []", "version 1"),
            ("[[registry]]\ninsecure = true", "neither"),
            ("[[registry]]\nlocation = \"Bad Host\"", "location"),
            ("[[registry]]\nprefix = \"*.x.example\"\nlocation = \"y.example\"", "beside"),
            (
                "[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"b.example\"\npull-from-mirror = \"x\"",
                "pull-from-mirror",
            ),
            ("unqualified-search-registries = [\"a b\"]", "unqualified-search-registries"),
            ("[aliases]\n\"app\" = \"Bad Name\"", "aliases.app"),
        ] {
            let error = RegistriesConf::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert_eq!(RegistriesConf::parse("# nothing\n[aliases]\n").unwrap(), RegistriesConf::default());
    }
}
