//! What the user wrote for the context.

use std::path::{Path, PathBuf};

use crate::{
    ArchiveSource, Basic, Context, ContextError, GitOptions, GitSource, ObjectSource, Remote, archive::Received,
    fetch_git,
};

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
    /// ends like one, `http(s)://…`, `s3://…`, `gs://…`, a blob of Azure's.
    ///
    /// A directory whose name looks like another kind can be written with `./` or `dir://` in front.
    ///
    /// # Errors
    /// Empty or wrong.
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
        if ObjectSource::is_object(text) {
            return Ok(Self::Archive(ArchiveSource::Object(ObjectSource::parse(text)?)));
        }
        if lower.starts_with("http://") || lower.starts_with("https://") {
            return Ok(Self::Archive(ArchiveSource::Url(text.to_owned())));
        }
        // A directory may be called anything.
        match is_called_archive(&lower) && !Path::new(text).is_dir() {
            true => Ok(Self::Archive(ArchiveSource::File(text.into()))),
            false => Self::directory(text, text),
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

/// Whether a path, in lower case, ends like an archive's.
fn is_called_archive(path: &str) -> bool {
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"].iter().any(|ending| path.ends_with(ending))
}

/// Parameters of URLs that are as good as a password: signatures of clouds' stores, and tokens.
const SECRET_PARAMETERS: [&str; 10] = [
    "access_token",
    "job_token",
    "password",
    "private_token",
    "sig",
    "signature",
    "token",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-signature",
];

/// Hides what stands before the `@` of a URL, and signatures and tokens in its query: they do not belong into messages.
pub(crate) fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let text = match authority.rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]),
        None => text.to_owned(),
    };
    let Some((address, query)) = text.split_once('?') else { return text };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if SECRET_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) => format!("{name}=…"),
        _ => pair.to_owned(),
    });
    format!("{address}?{}", shown.collect::<Vec<_>>().join("&"))
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
    fn objects_are_told_from_other_urls() {
        for text in ["s3://bucket/x.tar.gz", "gs://bucket/x", "https://account.blob.core.windows.net/c/x.tar.gz"] {
            let ContextSource::Archive(ArchiveSource::Object(source)) = ContextSource::parse(text).unwrap() else {
                panic!("{text}")
            };
            assert_eq!(source.shown(), text);
        }
        let signed = "https://account.blob.core.windows.net/c/x.tar.gz?sv=1&sig=secret";
        assert_eq!(
            ContextSource::parse(signed).unwrap(),
            ContextSource::Archive(ArchiveSource::Url(signed.to_owned()))
        );
    }

    #[test]
    fn passwords_signatures_and_tokens_are_hidden() {
        for (text, shown) in [
            ("https://u:p@h/x?a=b", "https://…@h/x?a=b"),
            ("https://h?u=me@example", "https://h?u=me@example"),
            ("https://h/x?sv=1&sig=a%2Fb&se=2", "https://h/x?sv=1&sig=…&se=2"),
            ("https://h/x?X-Amz-Signature=ab&X-Amz-Date=1", "https://h/x?X-Amz-Signature=…&X-Amz-Date=1"),
            ("./a?sig=b", "./a?sig=b"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }
}
