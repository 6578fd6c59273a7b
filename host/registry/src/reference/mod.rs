//! References to images: `[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]`, read as Docker reads them.
//!
//! The grammar is that of the distribution project's `reference` package; the defaults (`docker.io`, `library/`,
//! `latest`) are Docker's. Host names are compared without regard to case, so they are kept in lower case.

mod error;
mod host;
mod mirrors;
mod repository;

use std::{fmt, str::FromStr};

use cofferdam_digest::Digest;

pub use error::ReferenceError;
pub use host::RegistryHost;
pub(crate) use host::is_loopback;
pub use mirrors::{Mirror, Mirrors};
pub use repository::{Repository, Tag};

/// An image in a registry: a repository, and a tag or a digest in it, or both (then the digest decides).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// The image with this tag.
    pub fn tagged(repository: Repository, tag: Tag) -> Self {
        Self { repository, tag: Some(tag), digest: None }
    }

    /// The image with this digest.
    pub fn by_digest(repository: Repository, digest: Digest) -> Self {
        Self { repository, tag: None, digest: Some(digest) }
    }

    /// The registry and the path in it.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The registry's host.
    pub fn host(&self) -> &RegistryHost {
        self.repository.host()
    }

    /// The tag as it was written; none when it was left out.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest as it was written.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The tag, or `latest` when neither a tag nor a digest was written; none when only a digest was.
    pub fn tag_or_latest(&self) -> Option<Tag> {
        match (&self.tag, self.digest) {
            (Some(tag), _) => Some(tag.clone()),
            (None, None) => Some(Tag::latest()),
            (None, Some(_)) => None,
        }
    }

    /// The last segment of a manifest's URL: the digest if there is one, else the tag, else `latest`.
    pub fn identifier(&self) -> String {
        match self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag.as_ref().map_or("latest", Tag::as_str).to_owned(),
        }
    }

    /// The same image by its digest, keeping the tag for people.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { repository: self.repository.clone(), tag: self.tag.clone(), digest: Some(digest) }
    }

    /// The same tag and digest in another repository.
    pub(crate) fn in_repository(&self, repository: Repository) -> Self {
        Self { repository, ..self.clone() }
    }

    /// The short form that people write: `alpine`, `user/app:1`; other hosts are always written out.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.repository.familiar(), Suffix(self))
    }
}

/// `:TAG@DIGEST`, as far as they are there.
struct Suffix<'a>(&'a Reference);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.0.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The canonical form: host and repository written out, and `:latest` when nothing else was said.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository, Suffix(self))?;
        if self.tag.is_none() && self.digest.is_none() { f.write_str(":latest") } else { Ok(()) }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        error::check_whole(text)?;
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| ReferenceError::Digest { text: without_user(text) })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to a port.
        let (name, tag) = match rest.rfind(':') {
            Some(colon) if !rest[colon..].contains(['/', ']']) => (&rest[..colon], Some(rest[colon + 1..].parse()?)),
            _ => (rest, None),
        };
        Ok(Self { repository: name.parse()?, tag, digest })
    }
}

/// What follows the last `@`, behind an ellipsis: what stands before it may be a password that does not belong there.
fn without_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("…@{}", rest.chars().take(200).collect::<String>()),
        None => text.chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parse(text: &str) -> Reference {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn reads_references_as_docker_does() {
        for (text, canonical, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("user/app", "docker.io/user/app:latest", "user/app"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine"),
            ("index.docker.io/user/app:1", "docker.io/user/app:1", "user/app:1"),
            ("localhost/app", "localhost/app:latest", "localhost/app"),
            ("localhost:5000/a/b/c:x_Y.z-1", "localhost:5000/a/b/c:x_Y.z-1", "localhost:5000/a/b/c:x_Y.z-1"),
            ("Registry.Example/app", "registry.example/app:latest", "registry.example/app"),
            ("10.0.0.1:5000/app", "10.0.0.1:5000/app:latest", "10.0.0.1:5000/app"),
            ("[::1]:5000/app:v1", "[::1]:5000/app:v1", "[::1]:5000/app:v1"),
            ("[2001:DB8::1]/app", "[2001:db8::1]/app:latest", "[2001:db8::1]/app"),
            (
                "registry.example/a__b/c---d/e.f",
                "registry.example/a__b/c---d/e.f:latest",
                "registry.example/a__b/c---d/e.f",
            ),
        ] {
            let reference = parse(text);
            assert_eq!(reference.to_string(), canonical, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(parse(canonical).to_string(), canonical);
        }
    }

    #[test]
    fn a_digest_decides_and_keeps_the_tag_for_people() {
        let text = format!("registry.example:5000/app:v1@sha256:{HEX}");
        let reference = parse(&text);
        assert_eq!(reference.to_string(), text);
        assert_eq!(reference.identifier(), format!("sha256:{HEX}"));
        assert_eq!(reference.tag().map(Tag::as_str), Some("v1"));
        assert_eq!(parse(&format!("app@sha256:{HEX}")).tag_or_latest(), None);
        assert_eq!(parse("app").identifier(), "latest");
    }

    #[test]
    fn refuses_what_docker_refuses_and_says_what_to_write() {
        let long_repository = format!("registry.example/{}", "a".repeat(256));
        let long_tag = format!("app:{}", "t".repeat(129));
        for (text, teaches) in [
            ("", "empty"),
            ("Alpine", "alpine"),
            ("user/App", "user/app"),
            ("https://registry.example/app", "registry.example/app"),
            ("app:", "tag"),
            ("app:-x", "tag"),
            ("app:a b", "white space"),
            ("a//b", "`/`"),
            ("/app", "`/`"),
            ("app/", "`/`"),
            ("-app", "`-app`"),
            ("a.-b/c", "host"),
            ("registry.example:port/app", "port"),
            ("registry.example:99999/app", "port"),
            ("registry.example", ""),
            ("a___b", "separator"),
            ("[::1/app", "]"),
            ("[::g]/app", "IPv6"),
            ("app@sha512:00", "sha256"),
            (HEX, "64"),
            (&long_repository, "255"),
            (&long_tag, "128"),
            ("app:1@latest", "digest"),
            ("äpp", "ä"),
        ] {
            if text == "registry.example" {
                // A name with dots but no slash is a repository of Docker Hub.
                assert_eq!(parse(text).to_string(), "docker.io/library/registry.example:latest");
                continue;
            }
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains(teaches), "{text}: {error}");
        }
    }

    #[test]
    fn the_bounds_are_inclusive() {
        parse(&format!("registry.example/{}", "a".repeat(255)));
        parse(&format!("app:{}", "t".repeat(128)));
    }
}
