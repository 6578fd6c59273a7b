//! What the user wrote for the context.

use std::path::{Path, PathBuf};

use crate::{Context, ContextError};

/// Where the context comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory of this machine.
    Directory(PathBuf),
}

impl ContextSource {
    /// A path, or `dir://PATH`. The kinds that Docker and Kaniko know beyond that are recognised and refused by name.
    ///
    /// A directory whose name looks like another kind can be written with `./` or `dir://` in front.
    ///
    /// # Errors
    /// Empty, or [`ContextError::Unsupported`].
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        if let Some(path) = text.strip_prefix("dir://") {
            return Self::directory(path, text);
        }
        match remote_kind(text) {
            Some(kind) => Err(ContextError::Unsupported { kind, text: redacted(text) }),
            None => Self::directory(text, text),
        }
    }

    /// Opens the context. A relative path is resolved against `working_directory`.
    ///
    /// # Errors
    /// It does not exist, is no directory, or can't be read.
    pub fn open(&self, working_directory: &Path) -> Result<Context, ContextError> {
        match self {
            Self::Directory(path) => Context::open(&working_directory.join(path)),
        }
    }

    fn directory(path: &str, text: &str) -> Result<Self, ContextError> {
        if path.is_empty() || path.contains('\0') {
            return Err(ContextError::Invalid {
                text: text.to_owned(),
                expected: "a path; write `.` for the current directory",
            });
        }
        Ok(Self::Directory(path.into()))
    }
}

/// The name of a kind of context that is not a directory, if the text is of one.
pub(crate) fn remote_kind(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| lower.starts_with(prefix));
    let path = lower.split(['#', '?']).next().unwrap_or_default();
    if text == "-" {
        return Some("standard input");
    }
    // Docker's rule for what is a git remote (its documentation of "build context", "Git repositories").
    if starts(&["git://", "git@", "ssh://", "github.com/"])
        || (starts(&["http://", "https://"]) && path.ends_with(".git"))
    {
        return Some("git");
    }
    if starts(&["s3://"]) {
        return Some("S3");
    }
    if starts(&["gs://"]) {
        return Some("Google Cloud Storage");
    }
    if starts(&["https://"]) && path.split('/').nth(2).is_some_and(|host| host.ends_with(".blob.core.windows.net")) {
        return Some("Azure Blob Storage");
    }
    if starts(&["http://", "https://"]) {
        return Some("http");
    }
    if starts(&["tar://"]) {
        return Some("tar archive");
    }
    let archive =
        [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"].iter().any(|ending| path.ends_with(ending));
    // A directory may be called anything.
    (archive && !Path::new(text).is_dir()).then_some("tar archive")
}

/// Hides what stands before the `@` of a URL: user names and passwords do not belong into messages.
pub(crate) fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_directories() {
        for (text, path) in [(".", "."), ("dir:///a/b", "/a/b"), ("dir://a", "a"), ("./s3:", "./s3:"), ("a b", "a b")] {
            assert_eq!(ContextSource::parse(text).unwrap(), ContextSource::Directory(path.into()), "{text}");
        }
        assert!(matches!(ContextSource::parse(""), Err(ContextError::Invalid { .. })));
        assert!(matches!(ContextSource::parse("dir://"), Err(ContextError::Invalid { .. })));
    }

    #[test]
    fn other_kinds_are_refused_by_name_and_without_their_password() {
        for (text, name) in [
            ("-", "standard input"),
            ("git://example.org/x#refs/heads/main", "git"),
            ("https://user:secret@example.org/x.git#main", "git"),
            ("git@example.org:x.git", "git"),
            ("s3://bucket/x.tar.gz", "S3"),
            ("gs://bucket/x", "Google"),
            ("https://account.blob.core.windows.net/c/x.tar.gz", "Azure"),
            ("https://example.org/x.tar", "http"),
            ("tar:///x.tar.gz", "tar"),
            ("context.tar.gz", "tar"),
        ] {
            let error = ContextSource::parse(text).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("use a directory") && !error.contains("secret"), "{error}");
        }
    }
}
