//! What a plugin declares of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use cofferdam_plan::step::{StateField, Syntax};
use serde::{Deserialize, Serialize};

use crate::{
    ApiVersion, Capability, HostPattern, OFFERED, capability::ParseCapabilityError, host_pattern::ParseHostPatternError,
};

/// What a plugin declares of itself: the content of `plugin.toml` and of the custom section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The version of the interface that it was written for.
    pub api: ApiVersion,
    /// Lower-case letters, digits and dashes; what policies and messages call it.
    pub name: String,
    /// Of the plugin itself.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// What it wants; without the operator's grant it is not loaded.
    pub capabilities: BTreeSet<Capability>,
    /// What it does.
    pub role: Role,
}

/// The kind of a plugin and what only this kind declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Carries out Dockerfile instructions.
    Instruction {
        /// The keywords that it claims, upper case, and how their arguments are taken apart.
        keywords: BTreeMap<String, Syntax>,
        /// The state that it sees; everything else is empty and so outside of the cache key.
        sees: BTreeSet<StateField>,
    },
    /// Produces registry credentials.
    Credentials {
        /// The hosts that it is asked for.
        hosts: Vec<HostPattern>,
    },
    /// Decides tags.
    Tags,
    /// Says what an image is made of.
    Sbom,
}

/// The kinds of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A handler of instructions.
    Instruction,
    /// A credential helper.
    Credentials,
    /// A tagging policy.
    Tags,
    /// A scanner of finished images.
    Sbom,
}

/// A manifest that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML or JSON, an unknown or missing key, a wrong type. The text names the key.
    #[error("{0}")]
    Syntax(String),
    /// `api` is not `MAJOR.MINOR`.
    #[error("`api` must be a version such as \"{OFFERED}\"")]
    Api,
    /// Written for an interface that this host doesn't have.
    #[error("needs {needed}, this host offers {OFFERED}")]
    Version {
        /// What the manifest says.
        needed: ApiVersion,
    },
    /// The value of a key is outside of its bounds.
    #[error("`{key}` {why}")]
    Value {
        /// The key, dotted.
        key: String,
        /// What is wrong, with the remedy.
        why: String,
    },
    /// A key that belongs to another kind.
    #[error("`{key}` has no meaning for a plugin of kind `{kind}`: take it out")]
    Foreign {
        /// The key.
        key: &'static str,
        /// The manifest's kind.
        kind: Kind,
    },
    /// An unknown capability.
    #[error("`capabilities`: {0}")]
    Capability(#[from] ParseCapabilityError),
    /// A capability that this kind has no use for.
    #[error("`capabilities`: a plugin of kind `{kind}` can't have `{capability}`")]
    Unfit {
        /// The capability.
        capability: Capability,
        /// The manifest's kind.
        kind: Kind,
    },
    /// A wrong host pattern.
    #[error("`hosts`: {0}")]
    Host(#[from] ParseHostPatternError),
}

impl Manifest {
    /// Reads `plugin.toml`.
    ///
    /// # Errors
    /// Any [`ManifestError`].
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        let syntax = |error: toml::de::Error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            ManifestError::Syntax(format!("{line}{}", error.message().trim_end()))
        };
        // The version first: a manifest of another version may have keys that this host doesn't know.
        check_api(&toml::from_str::<ApiOnly>(text).map_err(syntax)?.api)?;
        toml::from_str::<Raw>(text).map_err(syntax)?.check()
    }

    /// Reads the custom section's JSON.
    ///
    /// # Errors
    /// Any [`ManifestError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        let syntax = |error: serde_json::Error| ManifestError::Syntax(error.to_string());
        check_api(&serde_json::from_slice::<ApiOnly>(bytes).map_err(syntax)?.api)?;
        serde_json::from_slice::<Raw>(bytes).map_err(syntax)?.check()
    }

    /// The custom section's JSON: keys in a fixed order, lists sorted, no white space.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&Raw::of(self)).expect("a manifest has only strings and lists of strings")
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self.role {
            Role::Instruction { .. } => Kind::Instruction,
            Role::Credentials { .. } => Kind::Credentials,
            Role::Tags => Kind::Tags,
            Role::Sbom => Kind::Sbom,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instruction => "instruction",
            Self::Credentials => "credentials",
            Self::Tags => "tags",
            Self::Sbom => "sbom",
        })
    }
}

/// The one key that is read before all others.
#[derive(Deserialize)]
struct ApiOnly {
    api: String,
}

/// The manifest as written. One flat shape for all kinds: serde's tagged enums give messages that don't name the
/// unknown key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    api: String,
    kind: Kind,
    name: String,
    version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sees: Option<BTreeSet<StateField>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hosts: Option<Vec<String>>,
    #[serde(default)]
    capabilities: Vec<String>,
    // Last: TOML wants tables behind plain values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keywords: Option<BTreeMap<String, RawKeyword>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeyword {
    syntax: Syntax,
}

impl Raw {
    fn of(manifest: &Manifest) -> Self {
        let (keywords, sees, hosts) = match &manifest.role {
            Role::Instruction { keywords, sees } => {
                let raw = |(keyword, syntax): (&String, &Syntax)| (keyword.clone(), RawKeyword { syntax: *syntax });
                (Some(keywords.iter().map(raw).collect()), Some(sees.clone()), None)
            }
            Role::Credentials { hosts } => (None, None, Some(hosts.iter().map(ToString::to_string).collect())),
            Role::Tags | Role::Sbom => (None, None, None),
        };
        Self {
            api: manifest.api.to_string(),
            kind: manifest.kind(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            sees,
            hosts,
            capabilities: manifest.capabilities.iter().map(ToString::to_string).collect(),
            keywords,
        }
    }

    fn check(self) -> Result<Manifest, ManifestError> {
        let api = check_api(&self.api)?;
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(lower) || self.name.starts_with('-') {
            return Err(value("name", "must be 1 to 64 lower-case letters, digits and dashes"));
        }
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=64).contains(&self.version.len()) || !visible(&self.version) {
            return Err(value("version", "must be 1 to 64 visible characters"));
        }
        if self.description.len() > 500 || self.description.chars().any(char::is_control) {
            return Err(value("description", "must be one line of at most 500 bytes"));
        }
        let kind = self.kind;
        let foreign = |key, present: bool, owner| match present && kind != owner {
            true => Err(ManifestError::Foreign { key, kind }),
            false => Ok(()),
        };
        foreign("keywords", self.keywords.is_some(), Kind::Instruction)?;
        foreign("sees", self.sees.is_some(), Kind::Instruction)?;
        foreign("hosts", self.hosts.is_some(), Kind::Credentials)?;
        let role = match kind {
            Kind::Instruction => instruction(self.keywords.unwrap_or_default(), self.sees.unwrap_or_default())?,
            Kind::Credentials => credentials(&self.hosts.unwrap_or_default())?,
            Kind::Tags => Role::Tags,
            Kind::Sbom => Role::Sbom,
        };
        let mut capabilities = BTreeSet::new();
        for text in self.capabilities.iter().take(MAX_ITEMS + 1) {
            let capability: Capability = text.parse()?;
            if !capability.fits(kind) {
                return Err(ManifestError::Unfit { capability, kind });
            }
            capabilities.insert(capability);
        }
        if self.capabilities.len() > MAX_ITEMS {
            return Err(value("capabilities", &format!("has more than {MAX_ITEMS} items")));
        }
        let Self { name, version, description, .. } = self;
        Ok(Manifest { api, name, version, description, capabilities, role })
    }
}

/// More than any plugin needs; the section's size bounds the rest.
const MAX_ITEMS: usize = 256;

fn instruction(raw: BTreeMap<String, RawKeyword>, sees: BTreeSet<StateField>) -> Result<Role, ManifestError> {
    if raw.is_empty() || raw.len() > MAX_ITEMS {
        return Err(value("keywords", &format!("must name 1 to {MAX_ITEMS} instructions, for example `GREET`")));
    }
    let mut keywords = BTreeMap::new();
    for (keyword, RawKeyword { syntax }) in raw {
        let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let fine = (1..=32).contains(&keyword.len()) && keyword.bytes().all(upper);
        if !fine || !keyword.starts_with(|first: char| first.is_ascii_uppercase()) {
            let shown: String = keyword.chars().take(40).collect();
            return Err(value(&format!("keywords.{shown}"), "must be 1 to 32 upper-case letters, digits and `_`"));
        }
        if ["FROM", "ARG"].contains(&keyword.as_str()) {
            return Err(value(&format!("keywords.{keyword}"), "belongs to the planner and can't be claimed"));
        }
        keywords.insert(keyword, syntax);
    }
    Ok(Role::Instruction { keywords, sees })
}

fn credentials(raw: &[String]) -> Result<Role, ManifestError> {
    if raw.is_empty() || raw.len() > MAX_ITEMS {
        return Err(value(
            "hosts",
            &format!("must name 1 to {MAX_ITEMS} registry hosts, for example `*.registry.example`"),
        ));
    }
    let mut hosts = raw.iter().map(|text| HostPattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
    hosts.sort();
    hosts.dedup();
    Ok(Role::Credentials { hosts })
}

fn check_api(text: &str) -> Result<ApiVersion, ManifestError> {
    let needed: ApiVersion = text.parse().map_err(|()| ManifestError::Api)?;
    if OFFERED.runs(needed) { Ok(needed) } else { Err(ManifestError::Version { needed }) }
}

fn value(key: &str, why: &str) -> ManifestError {
    ManifestError::Value { key: key.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREET: &str = r#"
api = "0.1"
kind = "instruction"
name = "greet"
version = "1.0.0"
description = "greets"
sees = ["environment"]
capabilities = ["rootfs", "context"]

[keywords]
GREET = { syntax = "words" }
"#;

    fn error(text: &str) -> String {
        Manifest::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn toml_and_json_give_the_same_manifest() {
        let manifest = Manifest::from_toml(GREET).unwrap();
        assert_eq!(Manifest::from_json(&manifest.to_json()), Ok(manifest.clone()));
        assert_eq!(manifest.capabilities, [Capability::Context, Capability::Rootfs].into());
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert!(error(&GREET.replace("description", "descripton")).contains("descripton"));
        assert!(error(&GREET.replace("syntax = ", "syntaxes = ")).contains("syntaxes"));
        assert!(error(&GREET.replace("\"environment\"", "\"environ\"")).contains("environ"));
    }

    #[test]
    fn an_unknown_or_unfit_capability_is_named() {
        assert!(error(&GREET.replace("\"context\"", "\"network\"")).contains("`network` is not a capability"));
        assert!(error(&GREET.replace("\"context\"", "\"env:HOME\"")).contains("can't have `env:HOME`"));
    }

    #[test]
    fn another_version_is_named_before_its_unknown_keys() {
        let text = GREET.replace("0.1", "0.3").replace("description", "novelty");
        assert_eq!(error(&text), "needs 0.3, this host offers 0.1");
    }

    #[test]
    fn keys_of_another_kind_are_refused() {
        assert_eq!(
            error(&GREET.replace("instruction", "tags")),
            "`keywords` has no meaning for a plugin of kind `tags`: take it out"
        );
    }

    #[test]
    fn the_planners_keywords_and_odd_names_are_refused() {
        for keyword in ["FROM", "ARG", "greet", "1A", "\"A-B\""] {
            assert!(Manifest::from_toml(&GREET.replace("GREET =", &format!("{keyword} ="))).is_err(), "{keyword}");
        }
        for name in ["", "Greet", "a b", "-a", "../a"] {
            assert!(Manifest::from_toml(&GREET.replace("\"greet\"", &format!("{name:?}"))).is_err(), "{name}");
        }
    }
}
