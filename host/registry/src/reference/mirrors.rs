//! Other places that images are pulled from.

use std::{collections::BTreeMap, str::FromStr};

use super::{Reference, ReferenceError, RegistryHost, Repository};
use crate::rules::{self, Found, Rule};

/// A registry, or a path in one, that has the images of another registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    host: RegistryHost,
    /// What stands before the repository's own name, with a slash at its end unless it is empty.
    prefix: String,
}

impl Mirror {
    /// The registry that it is in.
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// An image whose name ends with `rest`, here.
    pub(crate) fn in_place(&self, reference: &Reference, rest: &str) -> Result<Reference, ReferenceError> {
        let name = format!("{}{rest}", self.prefix);
        Ok(reference.in_repository(Repository::new(self.host.clone(), name.trim_end_matches('/'))?))
    }
}

/// `HOST[:PORT][/PATH]`.
impl FromStr for Mirror {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let host: RegistryHost = host.parse()?;
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            return Ok(Self { host, prefix: String::new() });
        }
        // The path has to be one that a repository can begin with.
        Repository::new(host.clone(), path)?;
        Ok(Self { host, prefix: format!("{path}/") })
    }
}

/// The mirrors of registries, in the order in which they are asked.
#[derive(Debug, Clone, Default)]
pub struct Mirrors {
    of: BTreeMap<RegistryHost, Vec<Mirror>>,
    /// What configuration files say. Mirrors that were added one by one are asked first.
    pub rules: Vec<Rule>,
    /// Where names without a host are looked for; empty is Docker Hub.
    pub search: Vec<RegistryHost>,
    /// What names without a host mean before they are looked for anywhere.
    pub aliases: BTreeMap<String, Repository>,
    /// Whether a registry that has mirrors is never asked itself.
    pub instead: bool,
}

impl Mirrors {
    /// Adds a mirror of a registry, to be asked after those that it has.
    pub fn add(&mut self, registry: RegistryHost, mirror: Mirror) {
        self.of.entry(registry).or_default().push(mirror);
    }

    /// The images that a name may mean: one, unless it has no host.
    ///
    /// # Errors
    /// It is no reference.
    pub fn meanings(&self, text: &str) -> Result<Vec<Reference>, ReferenceError> {
        let reference: Reference = text.parse()?;
        // With a host it begins as what was parsed of it does.
        let is_short = reference.repository().host().is_docker_hub() && !text.starts_with("docker.io/");
        if !is_short || text.starts_with("index.docker.io/") {
            return Ok(vec![reference]);
        }
        let name = text.split_once('@').map_or(text, |(name, _)| name);
        // A colon here is a tag's: there is no host.
        if let Some(repository) = self.aliases.get(name.split_once(':').map_or(name, |(name, _)| name)) {
            return Ok(vec![reference.in_repository(repository.clone())]);
        }
        if self.search.is_empty() {
            return Ok(vec![reference]);
        }
        self.search.iter().map(|host| format!("{host}/{text}").parse()).collect()
    }

    /// Where an image may be: what is asked first, in this order, and the place that is asked last. That one is the registry
    /// that the image's name says, unless mirrors stand instead of it.
    ///
    /// # Errors
    /// A mirror's path makes the repository's name too long, or a configuration file says that the image is not to be pulled.
    pub fn places(&self, reference: &Reference) -> Result<(Vec<Reference>, Reference), ReferenceError> {
        let mirrors = self.of.get(reference.host()).map_or(&[][..], Vec::as_slice);
        let moved = |mirror: &Mirror| {
            let name = format!("{}{}", mirror.prefix, reference.repository().name());
            Ok(reference.in_repository(Repository::new(mirror.host.clone(), &name)?))
        };
        let mut first = mirrors.iter().map(moved).collect::<Result<Vec<_>, ReferenceError>>()?;
        let itself = match rules::find(&self.rules, reference)? {
            Found::Nothing => reference.clone(),
            Found::Blocked => return Err(ReferenceError::Blocked { reference: reference.to_string() }),
            Found::Places(places, last) => {
                first.extend(places);
                last
            }
        };
        let last = if self.instead { first.pop() } else { None };
        Ok((first, last.unwrap_or(itself)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mirrors: &Mirrors, reference: &str) -> Vec<String> {
        let (first, last) = mirrors.places(&reference.parse().unwrap()).unwrap();
        first.iter().chain([&last]).map(ToString::to_string).collect()
    }

    #[test]
    fn mirrors_come_first_and_keep_the_whole_name() {
        let mut mirrors = Mirrors::default();
        let hub = RegistryHost::docker_hub();
        mirrors.add(hub.clone(), "mirror.example:5000/hub/".parse().unwrap());
        mirrors.add(hub, "second.example".parse().unwrap());
        let tag = "docker.io/library/alpine:3";
        assert_eq!(
            places(&mirrors, "alpine:3"),
            ["mirror.example:5000/hub/library/alpine:3", "second.example/library/alpine:3", tag]
        );
        assert_eq!(places(&mirrors, "quay.io/a/b"), ["quay.io/a/b:latest"]);
        mirrors.instead = true;
        assert_eq!(places(&mirrors, "alpine:3").len(), 2);
        assert_eq!(places(&mirrors, "quay.io/a/b"), ["quay.io/a/b:latest"]);
        let digest = format!("alpine@sha256:{}", "0".repeat(64));
        assert!(places(&mirrors, &digest)[1].ends_with(&digest));
    }

    #[test]
    fn names_without_a_host_are_looked_for() {
        let mut mirrors = Mirrors::default();
        let meanings = |mirrors: &Mirrors, text: &str| -> Vec<String> {
            mirrors.meanings(text).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!(meanings(&mirrors, "alpine"), ["docker.io/library/alpine:latest"]);
        mirrors.search = vec!["registry.example".parse().unwrap(), RegistryHost::docker_hub()];
        assert_eq!(meanings(&mirrors, "alpine:3"), ["registry.example/alpine:3", "docker.io/library/alpine:3"]);
        assert_eq!(meanings(&mirrors, "team/app"), ["registry.example/team/app:latest", "docker.io/team/app:latest"]);
        mirrors.aliases.insert("team/app".to_owned(), Repository::new("quay.io".parse().unwrap(), "app").unwrap());
        assert_eq!(meanings(&mirrors, "team/app:2"), ["quay.io/app:2"]);
        assert_eq!(meanings(&mirrors, "team/apps").len(), 2);
        for named in
            ["docker.io/team/app:1", "quay.io/a/b:latest", "docker.io/library/alpine:latest", "localhost/x:latest"]
        {
            assert_eq!(meanings(&mirrors, named), [named]);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "/x", "host name", "mirror.example/Upper", "mirror.example:x", "mirror.example//x"] {
            assert!(text.parse::<Mirror>().is_err(), "{text}");
        }
    }
}
