//! What the user wrote for the context.

use std::path::{Path, PathBuf};

use crate::{ArchiveSource, Basic, Context, ContextError, GitOptions, GitSource, Remote, archive::Received, fetch_git};

/// Where the context comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A git repository.
    Git(GitSource),
    /// A tar archive, or nothing but a Dockerfile.
    Archive(ArchiveSource),
}

impl ContextSource {
    /// A path, `dir://PATH`, a git repository as Docker writes it, or an archive: `-` or `tar://stdin`, `tar://PATH`, a path that
    /// ends like one, `http(s)://…`. The kinds that Docker and Kaniko know beyond that are
    /// recognised and refused by name.
    ///
    /// A directory whose name looks like another kind can be written with `./` or `dir://` in front.
    ///
    /// # Errors
    /// Empty, wrong, or [`ContextError::Unsupported`].
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        if let Some(path) = text.strip_prefix("dir://") {
            return Self::directory(path, text);
        }
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("github.com/") && !Path::new(text).is_dir() {
            return Ok(Self::Git(GitSource::parse(&format!("https://{text}"))?));
        }
        if GitSource::is_git(text) {
            return Ok(Self::Git(GitSource::parse(text)?));
        }
        if text == "-" || text == "tar://stdin" {
            return Ok(Self::Archive(ArchiveSource::Stdin));
        }
        if let Some(path) = text.strip_prefix("tar://") {
            return match path {
                "" => Self::directory(path, text),
                path => Ok(Self::Archive(ArchiveSource::File(path.into()))),
            };
        }
        match remote_kind(text) {
            Some("http") => Ok(Self::Archive(ArchiveSource::Url(text.to_owned()))),
            Some("tar archive") => Ok(Self::Archive(ArchiveSource::File(text.into()))),
            Some(kind) => Err(ContextError::Unsupported { kind, text: redacted(text) }),
            None => Self::directory(text, text),
        }
    }

    /// The same as Kaniko reads it, where `git://` is mostly fetched over `https`.
    ///
    /// # Errors
    /// As [`ContextSource::parse`].
    pub fn parse_kaniko(text: &str, git: &GitOptions, pull_method: Option<&str>) -> Result<Self, ContextError> {
        match text.starts_with("git://") {
            true => Ok(Self::Git(GitSource::parse_kaniko(text, git, pull_method)?)),
            false => Self::parse(text),
        }
    }

    /// Whether it comes from elsewhere, so that a directory in it is chosen after it was fetched.
    pub fn is_fetched(&self) -> bool {
        !matches!(self, Self::Directory(_))
    }

    /// Opens the context, which may mean to fetch it. A relative path is resolved against `working_directory`; `credential` is
    /// for the context's own host.
    ///
    /// # Errors
    /// It does not exist, is no directory, can't be read or fetched.
    pub fn open(
        &self,
        working_directory: &Path,
        remote: &Remote,
        credential: Option<&Basic>,
    ) -> Result<Context, ContextError> {
        match self {
            Self::Directory(path) => Context::open(&working_directory.join(path)),
            Self::Git(source) => Context::of_git(fetch_git(remote, source, credential)?),
            Self::Archive(source) => match source.receive(working_directory, remote)? {
                Received::Unpacked(directory) => Context::of_archive(&directory),
                Received::Dockerfile(bytes) => Context::of_dockerfile(&remote.scratch()?, source.shown(), bytes),
            },
        }
    }

    /// As [`ContextSource::open`], and then the directory of it that Kaniko's `--context-sub-path` names; of a plain directory
    /// it takes the whole, as Kaniko does.
    ///
    /// # Errors
    /// As [`ContextSource::open`]; there is no such directory.
    pub fn open_beneath(
        &self,
        working_directory: &Path,
        remote: &Remote,
        credential: Option<&Basic>,
        path: Option<&str>,
    ) -> Result<Context, ContextError> {
        let whole = self.open(working_directory, remote, credential)?;
        match path.filter(|path| !path.is_empty() && self.is_fetched()) {
            Some(path) => whole.beneath(path, &self.shown()),
            None => Ok(whole),
        }
    }

    /// How messages call it.
    pub fn shown(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Git(source) => source.shown(),
            Self::Archive(source) => source.shown(),
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
    fn repositories_are_told_from_directories() {
        for (text, url) in [
            ("git://example.org/x#refs/heads/main", "git://example.org/x"),
            ("https://user:secret@example.org/x.git#main", "https://example.org/x.git"),
            ("github.com/a/b", "https://github.com/a/b"),
            ("git@example.org:x.git#main", "git@example.org:x.git"),
        ] {
            let ContextSource::Git(source) = ContextSource::parse(text).unwrap() else { panic!("{text}") };
            assert_eq!(source.shown(), url);
        }
    }

    #[test]
    fn archives_are_told_from_directories() {
        for (text, source) in [
            ("-", ArchiveSource::Stdin),
            ("tar://stdin", ArchiveSource::Stdin),
            ("tar:///x.tar.gz", ArchiveSource::File("/x.tar.gz".into())),
            ("context.tar.zst", ArchiveSource::File("context.tar.zst".into())),
            ("https://example.org/x", ArchiveSource::Url("https://example.org/x".to_owned())),
        ] {
            assert_eq!(ContextSource::parse(text).unwrap(), ContextSource::Archive(source), "{text}");
        }
        assert!(matches!(ContextSource::parse("tar://"), Err(ContextError::Invalid { .. })));
    }

    #[test]
    fn other_kinds_are_refused_by_name_and_without_their_password() {
        for (text, name) in [
            ("s3://bucket/x.tar.gz", "S3"),
            ("gs://bucket/x", "Google"),
            ("https://account.blob.core.windows.net/c/x.tar.gz", "Azure"),
        ] {
            let error = ContextSource::parse(text).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("use a directory") && !error.contains("secret"), "{error}");
        }
    }
}
