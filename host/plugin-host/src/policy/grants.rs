//! *Wanted ⊆ granted*, decided when a plugin is loaded.

use std::collections::BTreeSet;

use cofferdam_digest::Digest;
use cofferdam_plugin_pack::{Capability, Kind, Manifest, Role};

use super::{Layer, Policy, file::PluginRule};
use crate::PluginError;

/// What a plugin from a plugin directory has if nobody says anything: what every handler needs to be one, and nothing
/// that reaches beyond the build (no commands, files, variables).
const DEFAULT: [Capability; 5] = [
    Capability::Context,
    Capability::Stages,
    Capability::Rootfs,
    Capability::FinishedRootfs,
    Capability::PublishedTags,
];

impl Policy {
    /// Checks a plugin against its pin and what it wants against what it is granted. A first-party one is granted what it
    /// wants where a policy doesn't list other capabilities for it.
    ///
    /// # Errors
    /// [`PluginError::Pin`] and [`PluginError::Denied`], with the line that would mend it.
    pub(crate) fn admit(&self, manifest: &Manifest, digest: &Digest, first_party: bool) -> Result<(), PluginError> {
        for layer in self.layers() {
            self.check_pin(layer, manifest, digest, first_party)?;
            let rule = layer.file.plugins.get(&manifest.name);
            let missing = manifest.capabilities.iter().find(|wanted| {
                **wanted != Capability::Metadata && !grants(rule, wanted, self.has_by_default(wanted, first_party))
            });
            if let Some(capability) = missing {
                return Err(self.denial(manifest, capability));
            }
        }
        let claims_hosts = matches!(manifest.role, Role::Credentials { .. });
        if claims_hosts && !first_party && !self.lists(&manifest.name) {
            return Err(PluginError::Denied {
                plugin: manifest.name.clone(),
                capability: "registry hosts".to_owned(),
                why: format!(
                    "only a plugin that is listed may have: in {}, write\n{}",
                    self.decisive_path(),
                    section(manifest)
                ),
            });
        }
        Ok(())
    }

    /// Whether a plugin may claim a keyword that a first-party one has.
    ///
    /// # Errors
    /// [`PluginError::Denied`] if nobody listed it.
    pub(crate) fn admit_claim(&self, manifest: &Manifest, keyword: &str) -> Result<(), PluginError> {
        if self.lists(&manifest.name) {
            return Ok(());
        }
        Err(PluginError::Denied {
            plugin: manifest.name.clone(),
            capability: format!("keyword {keyword}"),
            why: format!(
                "belongs to a plugin of cofferdam's own and may only be claimed by one that is listed: in {}, write\n{}",
                self.decisive_path(),
                section(manifest)
            ),
        })
    }

    /// Decides on what was not decided when the plugin was loaded: `metadata`, and servers that its manifest does not name. The
    /// former needs a word of the operator where there is one; the latter needs a word of whoever decides, that names them.
    ///
    /// # Errors
    /// The lines that would allow it.
    pub(crate) fn admit_use(
        &self,
        manifest: &Manifest,
        capability: &Capability,
        first_party: bool,
    ) -> Result<(), String> {
        let wanted = manifest.capabilities.iter().any(|held| held.covers(capability));
        if !wanted && !matches!(capability, Capability::Http(_)) {
            return Err("its manifest doesn't want it".to_owned());
        }
        let decisive = self.operator.as_ref().unwrap_or(&self.user);
        let allows = |layer: &Layer| {
            // Beside an operator the user can only take away.
            let default = !std::ptr::eq(layer, decisive) || wanted && self.has_by_default(capability, first_party);
            grants(layer.file.plugins.get(&manifest.name), capability, default)
        };
        if self.layers().all(allows) { Ok(()) } else { Err(self.remedy(manifest, capability)) }
    }

    /// What a plugin has of which nobody says anything.
    fn has_by_default(&self, capability: &Capability, first_party: bool) -> bool {
        match capability {
            // A runner with an operator is a shared one: what the machine itself may do is not every build's.
            Capability::Metadata => first_party && self.operator.is_none(),
            _ => first_party || DEFAULT.contains(capability),
        }
    }

    /// Whether the operator, or where there is none the user, names the plugin.
    fn lists(&self, name: &str) -> bool {
        self.operator.as_ref().unwrap_or(&self.user).file.plugins.contains_key(name)
    }

    fn check_pin(&self, layer: &Layer, manifest: &Manifest, digest: &Digest, first: bool) -> Result<(), PluginError> {
        let rule = layer.file.plugins.get(&manifest.name);
        let why = match rule.and_then(|rule| rule.sha256) {
            Some(pinned) if pinned != *digest => {
                format!("has the digest {digest}, and the policy pins {pinned}: it is not the file that was allowed")
            }
            // The binary itself vouches for what is embedded in it.
            None if layer.file.require_pinned && !first => format!(
                "must be pinned: in {}, write\n[plugins.{}]\nsha256 = \"{}\"",
                self.decisive_path(),
                manifest.name,
                digest.hex()
            ),
            _ => return Ok(()),
        };
        Err(PluginError::Pin { plugin: manifest.name.clone(), why })
    }

    fn denial(&self, manifest: &Manifest, capability: &Capability) -> PluginError {
        PluginError::Denied {
            plugin: manifest.name.clone(),
            capability: capability.to_string(),
            why: format!("is not granted: {}\n{}", self.place(manifest, capability), section(manifest)),
        }
    }

    /// What to write so that a plugin has a capability beside what it is granted already.
    fn remedy(&self, manifest: &Manifest, capability: &Capability) -> String {
        let place = self.place(manifest, capability);
        format!("{place}\n[plugins.{}]\nalso = [\"{capability}\"]", manifest.name)
    }

    /// Where a grant is written.
    fn place(&self, manifest: &Manifest, capability: &Capability) -> String {
        let flag = match &self.operator {
            Some(_) => String::new(),
            None => format!(" (or give `--allow-plugin {}:{capability}`)", manifest.name),
        };
        format!("in {}, write{flag}", self.decisive_path())
    }
}

fn grants(rule: Option<&PluginRule>, wanted: &Capability, default: bool) -> bool {
    let covers = |list: &BTreeSet<Capability>| list.iter().any(|granted| granted.covers(wanted));
    rule.is_some_and(|rule| covers(&rule.extra)) || rule.and_then(|rule| rule.allow.as_ref()).map_or(default, covers)
}

/// The section that allows a plugin everything that it wants.
fn section(manifest: &Manifest) -> String {
    let wanted: BTreeSet<String> = manifest.capabilities.iter().map(|capability| format!("\"{capability}\"")).collect();
    let wanted: Vec<String> = wanted.into_iter().collect();
    let pin = match manifest.kind() {
        Kind::Credentials => "\n# and, since it handles secrets, better with: sha256 = \"…\"",
        _ => "",
    };
    format!("[plugins.{}]\nallow = [{}]{pin}", manifest.name, wanted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Allowance, policy::file::PolicyFile};

    fn manifest(capabilities: &str) -> Manifest {
        let head = "api = \"0.1\"\nkind = \"instruction\"\nname = \"greet\"\nversion = \"1\"\n";
        Manifest::from_toml(&format!(
            "{head}capabilities = {capabilities}\n[keywords]\nGREET = {{ syntax = \"words\" }}\n"
        ))
        .unwrap()
    }

    fn layer(text: &str) -> Layer {
        let path = std::path::Path::new("/etc/cofferdam/policy.toml");
        Layer { path: Some(path.to_owned()), file: PolicyFile::parse(text, path).unwrap() }
    }

    fn admit(policy: &Policy, capabilities: &str) -> Result<(), String> {
        policy.admit(&manifest(capabilities), &Digest::of(b"greet"), false).map_err(|error| error.to_string())
    }

    #[test]
    fn a_denial_prints_lines_that_allow_it() {
        let error = admit(&Policy::default(), r#"["rootfs", "exec"]"#).unwrap_err();
        assert!(error.contains("wants `exec`"), "{error}");
        assert!(error.contains("--allow-plugin greet:exec"), "{error}");
        let lines = &error[error.find("[plugins").unwrap()..];
        let policy = Policy { operator: None, user: layer(lines) };
        admit(&policy, r#"["rootfs", "exec"]"#).unwrap();
    }

    #[test]
    fn reading_and_writing_the_build_needs_no_grant() {
        admit(&Policy::default(), r#"["context", "stages", "rootfs"]"#).unwrap();
        let narrowed = Policy { operator: None, user: layer("[plugins.greet]\nallow = [\"rootfs\"]\n") };
        assert!(admit(&narrowed, r#"["context"]"#).is_err());
    }

    #[test]
    fn flags_widen_only_what_no_operator_decided() {
        let mut policy = Policy::default();
        policy.allow("greet:exec".parse::<Allowance>().unwrap());
        admit(&policy, r#"["context", "exec"]"#).unwrap();
        policy.operator = Some(layer("[limits]\nmemory-mib = 1\n"));
        let error = admit(&policy, r#"["context", "exec"]"#).unwrap_err();
        assert!(error.contains("/etc/cofferdam/policy.toml") && !error.contains("--allow-plugin"), "{error}");
        policy.operator = Some(layer("[plugins.greet]\nallow = [\"context\", \"exec\"]\n"));
        admit(&policy, r#"["context", "exec"]"#).unwrap();
    }

    #[test]
    fn a_grant_of_a_prefix_covers_its_variables_but_no_wider_wish() {
        let helper = |wanted: &str| {
            let head = "api = \"0.1\"\nkind = \"credentials\"\nname = \"greet\"\nversion = \"1\"\nhosts = [\"*\"]\n";
            Manifest::from_toml(&format!("{head}capabilities = [\"{wanted}\"]\n")).unwrap()
        };
        let policy = Policy { operator: None, user: layer("[plugins.greet]\nallow = [\"env:VAULT_*\"]\n") };
        let admit = |wanted: &str| policy.admit(&helper(wanted), &Digest::of(b"greet"), false);
        admit("env:VAULT_TOKEN").unwrap();
        admit("env:VAULT_*").unwrap();
        let error = admit("env:V*").unwrap_err().to_string();
        assert!(error.contains("allow = [\"env:V*\"]"), "{error}");
        assert!(admit("env:HOME").is_err());
    }

    #[test]
    fn servers_beyond_the_manifest_need_a_word_that_names_them() {
        let head = "api = \"0.1\"\nkind = \"credentials\"\nname = \"greet\"\nversion = \"1\"\nhosts = [\"*\"]\n";
        let wants = "capabilities = [\"http:*.cloud.example\", \"metadata\"]\n";
        let greet = Manifest::from_toml(&format!("{head}{wants}")).unwrap();
        let may = |policy: &Policy, capability: &str| {
            policy.admit_use(&greet, &capability.parse().unwrap(), true).map_err(|why| why.to_string())
        };
        let flags = |texts: &[&str]| {
            let mut policy = Policy::default();
            texts.iter().for_each(|text| policy.allow(text.parse::<Allowance>().unwrap()));
            policy
        };
        may(&Policy::default(), "http:a.cloud.example").unwrap();
        let error = may(&Policy::default(), "http:127.0.0.1:5000").unwrap_err();
        assert!(error.contains("--allow-plugin greet:http:127.0.0.1:5000"), "{error}");
        may(&flags(&["greet:http:127.0.0.1:5000"]), "http:127.0.0.1:5000").unwrap();
        // With an operator only the operator's word counts, and the user's takes away.
        let operator = |text: &str, user: &str| Policy { operator: Some(layer(text)), user: layer(user) };
        let none = operator("", "[plugins.greet]\nallow = [\"http:127.0.0.1:5000\"]\n");
        let error = may(&none, "http:127.0.0.1:5000").unwrap_err();
        let lines = error[error.find("[plugins").unwrap()..].to_owned();
        may(&operator(&lines, ""), "http:127.0.0.1:5000").unwrap();
        may(&operator(&lines, ""), "http:a.cloud.example").unwrap();
        let error = may(&operator(&lines, "[plugins.greet]\nallow = []\n"), "http:127.0.0.1:5000");
        assert!(error.is_err());
    }

    #[test]
    fn metadata_is_everybodys_only_where_there_is_no_operator() {
        let manifest = |wants: &str| {
            let head = "api = \"0.1\"\nkind = \"credentials\"\nname = \"greet\"\nversion = \"1\"\nhosts = [\"*\"]\n";
            Manifest::from_toml(&format!("{head}capabilities = [{wants}]\n")).unwrap()
        };
        let greet = manifest("\"metadata\"");
        let operator = |text: &str| Policy { operator: Some(layer(text)), user: Layer::default() };
        Policy::default().admit_use(&greet, &Capability::Metadata, true).unwrap();
        assert!(Policy::default().admit_use(&greet, &Capability::Metadata, false).is_err());
        assert!(Policy::default().admit_use(&manifest(""), &Capability::Metadata, true).is_err());
        let policy = operator("");
        // Not a reason to leave the helper out: it may have other sources.
        policy.admit(&greet, &Digest::of(b"greet"), true).unwrap();
        let error = policy.admit_use(&greet, &Capability::Metadata, true).unwrap_err();
        operator(&error[error.find("[plugins").unwrap()..]).admit_use(&greet, &Capability::Metadata, true).unwrap();
    }

    #[test]
    fn a_pin_holds_and_can_be_demanded() {
        let digest = Digest::of(b"greet");
        let pinned = |digest: &Digest| layer(&format!("[plugins.greet]\nsha256 = \"{}\"\n", digest.hex()));
        admit(&Policy { operator: None, user: pinned(&digest) }, "[]").unwrap();
        let error = admit(&Policy { operator: None, user: pinned(&Digest::of(b"other")) }, "[]").unwrap_err();
        assert!(error.contains(&digest.to_string()), "{error}");
        let demanded = Policy { operator: None, user: layer("[plugins]\nrequire-pinned = true\n") };
        assert!(admit(&demanded, "[]").unwrap_err().contains(&digest.hex()));
        demanded.admit(&manifest("[]"), &digest, true).unwrap();
    }

    #[test]
    fn strangers_claim_neither_hosts_nor_our_keywords() {
        let helper = "api = \"0.1\"\nkind = \"credentials\"\nname = \"greet\"\nversion = \"1\"\nhosts = [\"*\"]\n";
        let helper = Manifest::from_toml(helper).unwrap();
        let digest = Digest::of(b"");
        let mut policy = Policy::default();
        assert!(policy.admit(&helper, &digest, false).is_err());
        assert!(policy.admit_claim(&manifest("[]"), "COPY").is_err());
        policy.allow("greet".parse::<Allowance>().unwrap());
        policy.admit(&helper, &digest, false).unwrap();
        policy.admit_claim(&manifest("[]"), "COPY").unwrap();
        // With an operator, only the operator lists.
        policy.operator = Some(layer(""));
        assert!(policy.admit(&helper, &digest, false).is_err());
        assert!(policy.admit_claim(&manifest("[]"), "COPY").is_err());
    }
}
