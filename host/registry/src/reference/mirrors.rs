//! Other places that images are pulled from.

use std::{collections::BTreeMap, str::FromStr};

use super::{Reference, ReferenceError, RegistryHost, Repository};

/// A registry, or a path in one, that has the images of another registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    host: RegistryHost,
    /// What stands before the repository's own name, with a slash at its end unless it is empty.
    prefix: String,
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
    /// Whether a registry that has mirrors is never asked itself.
    pub instead: bool,
}

impl Mirrors {
    /// Adds a mirror of a registry, to be asked after those that it has.
    pub fn add(&mut self, registry: RegistryHost, mirror: Mirror) {
        self.of.entry(registry).or_default().push(mirror);
    }

    /// Where an image may be: what is asked first, in this order, and the place that is asked last. That one is the registry
    /// that the image's name says, unless mirrors stand instead of it.
    ///
    /// # Errors
    /// A mirror's path makes the repository's name too long.
    pub fn places(&self, reference: &Reference) -> Result<(Vec<Reference>, Reference), ReferenceError> {
        let mirrors = self.of.get(reference.host()).map_or(&[][..], Vec::as_slice);
        let moved = |mirror: &Mirror| {
            let name = format!("{}{}", mirror.prefix, reference.repository().name());
            Ok(reference.in_repository(Repository::new(mirror.host.clone(), &name)?))
        };
        let mut first = mirrors.iter().map(moved).collect::<Result<Vec<_>, ReferenceError>>()?;
        let last = if self.instead { first.pop() } else { None };
        Ok((first, last.unwrap_or_else(|| reference.clone())))
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
    fn what_is_no_place_is_refused() {
        for text in ["", "/x", "host name", "mirror.example/Upper", "mirror.example:x", "mirror.example//x"] {
            assert!(text.parse::<Mirror>().is_err(), "{text}");
        }
    }
}
