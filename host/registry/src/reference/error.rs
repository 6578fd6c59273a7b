//! What is wrong with a reference, and what to write instead.

/// A text that is not a reference. Each message names the part and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was written.
    #[error(
        "an image reference is empty; write [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST], such as `registry.example/team/app:1.0`"
    )]
    Empty,
    /// Longer than any reference can be.
    #[error("`{start}…` is too long for an image reference ({bytes} bytes, at most {limit})")]
    TooLong {
        /// Its first characters.
        start: String,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A URL instead of a reference.
    #[error("`{text}` is a URL, not an image reference; leave out the scheme: `{without}`")]
    Scheme {
        /// What was written.
        text: String,
        /// The same without its scheme.
        without: String,
    },
    /// White space or a control character.
    #[error("the image reference `{text}` contains white space or a control character")]
    WhiteSpace {
        /// What was written, escaped.
        text: String,
    },
    /// Not a host.
    #[error("`{host}` is not a registry host: {reason}")]
    Host {
        /// The part before the first slash.
        host: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Upper case in a repository.
    #[error("the repository name `{name}` has upper-case letters, which registries refuse; write `{lower}`")]
    UpperCase {
        /// What was written.
        name: String,
        /// The same in lower case.
        lower: String,
    },
    /// Not a repository name.
    #[error("`{name}` is not a repository name: {reason}")]
    Repository {
        /// What was written.
        name: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// `blocked = true` in a registries.conf.
    #[error("`{reference}` is not to be pulled: a registries.conf blocks it")]
    Blocked {
        /// The image.
        reference: String,
    },
    /// Not a tag.
    #[error("`{tag}` is not a tag: {reason}")]
    Tag {
        /// What was written.
        tag: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Not a digest after `@`.
    #[error("after `@` in `{text}` comes no digest; write sha256: and 64 hexadecimal digits in lower case")]
    Digest {
        /// The whole reference.
        text: String,
    },
}

/// Longer than the longest host, repository, tag and digest together.
const MAX_REFERENCE_BYTES: usize = 1024;

/// The checks that need no parts.
pub(super) fn check_whole(text: &str) -> Result<(), ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    if text.len() > MAX_REFERENCE_BYTES {
        let start = text.chars().take(40).collect();
        return Err(ReferenceError::TooLong { start, bytes: text.len(), limit: MAX_REFERENCE_BYTES });
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ReferenceError::WhiteSpace { text: text.escape_debug().collect() });
    }
    if let Some((_, without)) = text.split_once("://") {
        return Err(ReferenceError::Scheme { text: text.to_owned(), without: without.to_owned() });
    }
    Ok(())
}
