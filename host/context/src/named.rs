//! Named contexts: `--build-context NAME=VALUE`.

use crate::{ContextError, ContextSource, source::redacted};

/// A tree or image that `FROM NAME` and `COPY --from=NAME` mean instead of a stage or a registry's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// As written.
    pub name: String,
    /// What it stands for.
    pub source: NamedSource,
}

/// What a named context stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedSource {
    /// A directory, here or fetched.
    Tree(ContextSource),
    /// An image in an OCI layout, as written: `oci-layout://DIR[:TAG|@DIGEST]`.
    OciLayout(String),
    /// An image in a registry: the reference after `docker-image://`.
    Image(String),
}

impl NamedContext {
    /// `NAME=VALUE`, where VALUE is whatever a context may be, `oci-layout://…` or `docker-image://REFERENCE`.
    ///
    /// # Errors
    /// Not of this form, or of a kind that is not supported yet.
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        let expected = "of the form NAME=PATH, NAME=oci-layout://DIR[:TAG] or NAME=docker-image://REFERENCE";
        let invalid = || ContextError::Invalid { text: redacted(text), expected };
        let (name, value) = text.split_once('=').ok_or_else(invalid)?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || value.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(invalid());
        }
        let source = if value.starts_with("oci-layout://") {
            NamedSource::OciLayout(value.to_owned())
        } else if let Some(reference) = value.strip_prefix("docker-image://") {
            match reference {
                "" => return Err(invalid()),
                reference => NamedSource::Image(reference.to_owned()),
            }
        } else if value.starts_with("target:") {
            return Err(ContextError::Unsupported { kind: "`target:`", text: value.to_owned() });
        } else {
            NamedSource::Tree(ContextSource::parse(value)?)
        };
        Ok(Self { name: name.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_recognised() {
        let source = |text| NamedContext::parse(text).unwrap().source;
        let directory = |path: &str| NamedSource::Tree(ContextSource::Directory(path.into()));
        assert_eq!(source("lib=../lib"), directory("../lib"));
        assert_eq!(source("lib=dir:///a=b"), directory("/a=b"));
        let git = source("lib=https://example.org/x.git#v1:d");
        assert!(matches!(git, NamedSource::Tree(ContextSource::Git(git)) if git.directory.as_deref() == Some("d")));
        assert_eq!(source("base=oci-layout:///b:1"), NamedSource::OciLayout("oci-layout:///b:1".to_owned()));
        assert_eq!(
            source("golang:1.23=docker-image://example.org/go@sha256:0"),
            NamedSource::Image("example.org/go@sha256:0".to_owned())
        );
        assert_eq!(NamedContext::parse("golang:1.23=x").unwrap().name, "golang:1.23");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["lib", "=x", "lib=", "a b=x", "x=docker-image://"] {
            assert!(matches!(NamedContext::parse(text), Err(ContextError::Invalid { .. })), "{text}");
        }
        let error = NamedContext::parse("x=s3://me:secret@example.org/x").unwrap_err().to_string();
        assert!(error.contains("names no bucket") && !error.contains("secret"), "{error}");
    }
}
