//! Tagging policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cofferdam_dockerfile::Diagnostic;
use cofferdam_plan::step::KeyValue;
use cofferdam_plugin_pack::{Capability, Kind};
use cofferdam_rootfs::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    CallError, Fault, FaultKind, PluginHost,
    bindings::{
        instruction::cofferdam::types::{diagnostics::Error, values::KeyValue as WitKeyValue},
        tags::exports::cofferdam::tags::policy as wit,
    },
    instruction::{key_values, timestamp},
    plugin::{Plugin, Ready},
    text, wasi,
};

/// The context's git checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitFacts {
    /// Hexadecimal.
    pub commit: String,
    /// Without `refs/heads/`; `None` on a detached head that no CI variable names.
    pub branch: Option<String>,
    /// Tags that point at the commit, sorted.
    pub tags: Vec<String>,
    /// The repository's default branch, if it is known.
    pub default_branch: Option<String>,
    /// Of the committer.
    pub commit_time: Timestamp,
    /// Whether tracked files differ from the commit.
    pub dirty: bool,
}

/// The continuous integration system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CiFacts {
    /// `gitlab`, `github`, `jenkins`, `tekton`.
    pub system: String,
    /// Variables that name refs, commits, events and projects; never credentials.
    pub variables: BTreeMap<String, String>,
}

/// A tag that a repository has already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedTag {
    /// The tag.
    pub tag: String,
    /// Of its manifest.
    pub digest: String,
}

/// Everything that a policy may decide by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// `None` without a checkout.
    #[serde(default)]
    pub git: Option<GitFacts>,
    /// `None` outside of CI.
    #[serde(default)]
    pub ci: Option<CiFacts>,
    /// The build's epoch.
    pub date: Timestamp,
    /// The manifest's digest; `None` before the build.
    #[serde(default)]
    pub digest: Option<String>,
    /// Those of the tags decided before the build that the repository has; only policies that want `published-tags` see
    /// them.
    #[serde(default)]
    pub published: Vec<PublishedTag>,
}

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// The repository, with its registry's host.
    pub repository: String,
    /// The tags that were written out.
    pub tags: Vec<String>,
    /// Options of the policy.
    pub options: Vec<KeyValue>,
}

/// What is pushed, and what it says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// Valid, none twice, in the policy's order.
    pub tags: Vec<String>,
    /// Of the image.
    pub labels: BTreeMap<String, String>,
    /// Of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// What a policy decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This is pushed.
    Push(Naming),
    /// Nothing may be pushed.
    Refused {
        /// Why.
        reason: String,
        /// What to do about it.
        help: Option<String>,
    },
}

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub enum TagsError {
    /// No such policy.
    #[error("there is no tagging policy `{name}`; there are {}", .known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The policy finds the facts or the options wrong.
    #[error("the tagging policy `{plugin}`: {}", .diagnostic.message)]
    Refused {
        /// Its name.
        plugin: String,
        /// Its finding.
        diagnostic: Diagnostic,
    },
    /// The call came to nothing.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl PluginHost {
    /// The tagging policies, sorted.
    pub fn tag_policies(&self) -> Vec<String> {
        let policies = self.plugins.values().filter(|plugin| plugin.manifest.kind() == Kind::Tags);
        policies.map(|plugin| plugin.name().to_owned()).collect()
    }

    /// Whether a policy is to be told which tags the repository has.
    ///
    /// # Errors
    /// [`TagsError::Unknown`].
    pub fn wants_published_tags(&self, name: &str) -> Result<bool, TagsError> {
        Ok(self.tag_policy(name)?.has(&Capability::PublishedTags))
    }

    fn tag_policy(&self, name: &str) -> Result<&Arc<Plugin>, TagsError> {
        let found = [name.to_owned(), format!("tags-{name}")].into_iter().find_map(|name| self.plugins.get(&name));
        let policy = found.filter(|plugin| plugin.manifest.kind() == Kind::Tags);
        policy.ok_or_else(|| TagsError::Unknown { name: name.to_owned(), known: self.tag_policies() })
    }

    /// Lets a policy decide. `name` is the plugin's, or what follows `tags-` in it.
    ///
    /// # Errors
    /// Any [`TagsError`]; an invalid tag is the plugin's [`Fault`].
    pub fn decide(&self, name: &str, facts: &Facts, requested: &Requested) -> Result<Decision, TagsError> {
        let plugin = self.tag_policy(name)?;
        let mut state = self.state(plugin, self.interrupt.clone());
        if plugin.imports.wasi {
            let world = wasi::world(&state.output, &plugin.digest, None);
            state.wasi = Some(world.map_err(|error| self.protocol(plugin, &error))?);
        }
        let sees_published = plugin.has(&Capability::PublishedTags);
        let (facts, requested) = (to_wit(facts, sees_published), asked(requested));
        let (result, _) = plugin.call(&self.runtime, state, |store, ready| {
            let Ready::Tags(pre) = ready else {
                return Err(wasmtime::Error::msg("the plugin is not a tagging policy"));
            };
            pre.instantiate(&mut *store)?.cofferdam_tags_policy().call_decide(store, &facts, &requested)
        });
        let plugin_name = || plugin.name().to_owned();
        match result? {
            Ok(wit::Decision::Push(naming)) => Ok(Decision::Push(Naming {
                tags: valid(plugin, naming.tags)?,
                labels: texts(plugin, naming.labels)?,
                annotations: texts(plugin, naming.annotations)?,
            })),
            Ok(wit::Decision::Refused(refusal)) => Ok(Decision::Refused {
                reason: text::shown(&refusal.reason),
                help: refusal.help.as_deref().map(text::shown),
            }),
            Err(Error::Denied(denial)) => {
                let message = format!("`{}` was denied: {}", denial.capability, denial.message);
                let diagnostic = text::host_error("PluginDenied", text::shown(&message), None, None);
                Err(TagsError::Refused { plugin: plugin_name(), diagnostic })
            }
            Err(Error::Invalid(found) | Error::Unsupported(found)) => {
                Err(TagsError::Refused { plugin: plugin_name(), diagnostic: text::diagnostic(found) })
            }
        }
    }
}

/// A push of more tags than this is a mistake.
const MAX_TAGS: usize = 1000;

fn valid(plugin: &Arc<Plugin>, tags: Vec<String>) -> Result<Vec<String>, CallError> {
    let fault = |message: String| {
        CallError::Fault(Fault { plugin: plugin.name().to_owned(), kind: FaultKind::Protocol, message })
    };
    if tags.len() > MAX_TAGS {
        return Err(fault(format!("it answered {} tags", tags.len())));
    }
    if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
        return Err(fault(format!(
            "it answered `{}`, which is not a tag",
            text::shown(&tag[..tag.floor_char_boundary(200)])
        )));
    }
    let mut seen = BTreeSet::new();
    Ok(tags.into_iter().filter(|tag| seen.insert(tag.clone())).collect())
}

/// Labels and annotations of more bytes than this are a mistake: registries take manifests of 4 MiB.
const MAX_TEXT_BYTES: usize = 1 << 20;

fn texts(plugin: &Arc<Plugin>, pairs: Vec<WitKeyValue>) -> Result<BTreeMap<String, String>, CallError> {
    let bytes: usize = pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
    let message = match pairs.iter().any(|pair| pair.key.is_empty()) {
        true => "it answered a label or annotation without a name".to_owned(),
        false if bytes > MAX_TEXT_BYTES => format!("it answered {bytes} bytes of labels or annotations"),
        false => return Ok(pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()),
    };
    Err(CallError::Fault(Fault { plugin: plugin.name().to_owned(), kind: FaultKind::Protocol, message }))
}

/// OCI distribution specification, "Pulling manifests": `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fine = |byte: u8| word(byte) || byte == b'.' || byte == b'-';
    (1..=128).contains(&text.len()) && word(text.as_bytes()[0]) && text.bytes().all(fine)
}

fn to_wit(facts: &Facts, sees_published: bool) -> wit::Facts {
    wit::Facts {
        git: facts.git.as_ref().map(|git| wit::GitFacts {
            commit: git.commit.clone(),
            branch: git.branch.clone(),
            tags: git.tags.clone(),
            default_branch: git.default_branch.clone(),
            commit_time: timestamp(git.commit_time),
            dirty: git.dirty,
        }),
        ci: facts
            .ci
            .as_ref()
            .map(|ci| wit::CiFacts { system: ci.system.clone(), variables: ci.variables.iter().map(pair).collect() }),
        date: timestamp(facts.date),
        digest: facts.digest.clone(),
        published: (facts.published.iter().filter(|_| sees_published))
            .map(|known| wit::PublishedTag { tag: known.tag.clone(), digest: known.digest.clone() })
            .collect(),
    }
}

fn pair((key, value): (&String, &String)) -> WitKeyValue {
    WitKeyValue { key: key.clone(), value: value.clone() }
}

fn asked(requested: &Requested) -> wit::Requested {
    wit::Requested {
        repository: requested.repository.clone(),
        tags: requested.tags.clone(),
        options: key_values(&requested.options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_the_distribution_specification() {
        for tag in ["latest", "v1.2.3", "_x", &"a".repeat(128)] {
            assert!(is_tag(tag), "{tag}");
        }
        for tag in ["", ".x", "-x", "a/b", "a:b", "ä", "a b", &"a".repeat(129)] {
            assert!(!is_tag(tag), "{tag}");
        }
    }
}
