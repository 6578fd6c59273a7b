//! A repository in a registry, and the tags in it.

use std::{fmt, str::FromStr};

use super::{ReferenceError, RegistryHost};

/// A registry's host and a path in it: `docker.io/library/alpine`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    host: RegistryHost,
    name: String,
}

impl Repository {
    /// The most characters that a name may have, as in Docker's registry.
    pub const MAX_NAME_BYTES: usize = 255;

    /// From a host and a name, which is checked.
    pub fn new(host: RegistryHost, name: &str) -> Result<Self, ReferenceError> {
        check_name(name)?;
        Ok(Self { host, name: name.to_owned() })
    }

    /// The registry's host.
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// The path in the registry, without the host: `library/alpine`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The short form that people write.
    pub fn familiar(&self) -> String {
        if !self.host.is_docker_hub() {
            return self.to_string();
        }
        match self.name.strip_prefix("library/") {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.name.clone(),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        super::error::check_whole(text)?;
        // Docker's rule: the first component is a host if it has a dot or a colon, or is `localhost`.
        let (host, name) = match text.split_once('/') {
            Some((host, name)) if host.contains(['.', ':']) || host == "localhost" => (host.parse()?, name),
            _ => (RegistryHost::docker_hub(), text),
        };
        if host == RegistryHost::docker_hub() && !name.contains('/') {
            if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
                let reason = "64 hexadecimal digits are an image ID, which no registry knows; write a repository name";
                return Err(ReferenceError::Repository { name: name.to_owned(), reason: reason.to_owned() });
            }
            check_name(name)?;
            return Self::new(host, &format!("library/{name}"));
        }
        Self::new(host, name)
    }
}

fn check_name(name: &str) -> Result<(), ReferenceError> {
    let error = |reason: String| Err(ReferenceError::Repository { name: name.to_owned(), reason });
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase { name: name.to_owned(), lower: name.to_ascii_lowercase() });
    }
    if name.len() > Repository::MAX_NAME_BYTES {
        return error(format!("it has {} characters, at most {} are allowed", name.len(), Repository::MAX_NAME_BYTES));
    }
    for component in name.split('/') {
        if component.is_empty() {
            return error("there is nothing before, between or after its `/`".to_owned());
        }
        if let Some(other) = component.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')) {
            return error(format!("`{other}` is not one of a-z, 0-9, `.`, `_`, `-`"));
        }
        let ends = [component.chars().next(), component.chars().next_back()];
        if ends.into_iter().flatten().any(|c| !c.is_ascii_alphanumeric()) {
            return error(format!("its part `{component}` has to begin and end with a letter or a digit"));
        }
        let separators = component.split(|c: char| c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
        for separator in separators {
            if !matches!(separator, "." | "_" | "__") && separator.bytes().any(|byte| byte != b'-') {
                return error(format!(
                    "`{separator}` is not a separator (one dot, one or two underscores, or hyphens)"
                ));
            }
        }
    }
    Ok(())
}

/// A name for an image in a repository, which can be moved to another image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The most characters that a tag may have (distribution specification, "Pulling manifests").
    pub const MAX_BYTES: usize = 128;

    /// `latest`, which is meant when none is written.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |reason| Err(ReferenceError::Tag { tag: text.chars().take(160).collect(), reason });
        if text.is_empty() {
            return error("after `:` a tag has to follow");
        }
        if text.len() > Self::MAX_BYTES {
            return error("a tag has at most 128 characters");
        }
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !word(text.as_bytes()[0]) {
            return error("a tag begins with a letter, a digit or `_`");
        }
        if !text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-') {
            return error("a tag has only letters, digits, `_`, `.` and `-`");
        }
        Ok(Self(text.to_owned()))
    }
}
