//! What the user or a Dockerfile wrote for a git repository.

use std::num::NonZeroU32;

use url::Url;

use crate::{Basic, FetchError, source::redacted};

/// A git repository, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// Where it is: `git`, `http`, `https`, `ssh` or `file`, without user (but for `ssh`), password, query and fragment.
    pub url: Url,
    /// Whether the path of `ssh` begins at the user's home directory there: `USER@HOST:PATH`.
    pub from_home: bool,
    /// The user and password that stood in the URL.
    pub credential: Option<Basic>,
    /// A branch, a tag, any reference from `refs/` on, or a whole commit id; `None` is what HEAD means.
    pub reference: Option<String>,
    /// The commit, or the beginning of its id, that the reference must lead to.
    pub expected_commit: Option<String>,
    /// The directory of it that is wanted.
    pub directory: Option<String>,
    /// How many commits of the history are fetched; `None` is all of it.
    pub depth: Option<NonZeroU32>,
    /// Whether its submodules are fetched too.
    pub submodules: bool,
    /// Whether `.git` is kept beside the files.
    pub keep_git_directory: bool,
}

/// What Kaniko's `--git` says of a context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitOptions {
    /// `branch`.
    pub branch: Option<String>,
    /// `depth`; `None` or 0 is one commit, since nothing sees more.
    pub depth: Option<NonZeroU32>,
    /// `recurse-submodules`; `None` is as the door has it.
    pub submodules: Option<bool>,
    /// `insecure-skip-tls`.
    pub skip_tls_verify: bool,
}

impl GitSource {
    /// Docker's rule for what is a git repository (its documentation of "build context", "Git repositories"): `git://…`,
    /// `ssh://…`, `user@host:path`, and `http(s)://….git`; `file://….git` beside them.
    pub fn is_git(text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        let path = lower.split(['#', '?']).next().unwrap_or_default();
        let is_one_of = |schemes: &[&str]| schemes.iter().any(|scheme| lower.starts_with(scheme));
        is_one_of(&["git://", "ssh://"])
            || scp_like(text).is_some()
            || (is_one_of(&["http://", "https://", "file://"]) && path.trim_end_matches('/').ends_with(".git"))
    }

    /// Reads `URL[#REFERENCE[:DIRECTORY]]`, or BuildKit's form with a query (`?ref=…&subdir=…`).
    ///
    /// # Errors
    /// It is none of these, or asks for something that is not done here.
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        let invalid = |problem: String| FetchError::Invalid { text: redacted(text), problem };
        let (written, from_home) = match scp_like(text) {
            // There, nothing is percent encoded.
            Some((login, path)) => {
                (format!("ssh://{login}/{}", path.trim_start_matches('/').replace('%', "%25")), !path.starts_with('/'))
            }
            None => (text.to_owned(), false),
        };
        let mut url = Url::parse(&written).map_err(|error| invalid(format!("is no URL: {error}")))?;
        let is_ssh = url.scheme() == "ssh";
        if !is_ssh && !matches!(url.scheme(), "git" | "http" | "https" | "file") {
            return Err(invalid("is no git repository; use git://, https://, http://, ssh:// or file://".to_owned()));
        }
        if is_ssh && (url.username().is_empty() || url.password().is_some()) {
            return Err(invalid("needs a user and no password; write ssh://git@HOST/PATH, and use a key".to_owned()));
        }
        let credential = if is_ssh { None } else { credential(&url) };
        let fragment = url.fragment().map(decoded);
        let query: Vec<(String, String)> =
            url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        url.set_fragment(None);
        url.set_query(None);
        // The setters refuse where there is no host, and then there is no user either.
        let _ = if is_ssh { Ok(()) } else { url.set_username("") };
        let _ = url.set_password(None);
        let mut source = Self {
            url,
            from_home,
            credential,
            reference: None,
            expected_commit: None,
            directory: None,
            depth: NonZeroU32::new(1),
            submodules: true,
            keep_git_directory: false,
        };
        if let Some(fragment) = fragment {
            let (reference, directory) = fragment.split_once(':').unwrap_or((&fragment, ""));
            source.reference = some(reference);
            source.directory = some(directory);
        }
        for (key, value) in query {
            source.take(&key, &value).map_err(invalid)?;
        }
        if source.directory.as_deref().is_some_and(|path| path.split('/').any(|name| name == "..")) {
            return Err(invalid("names a directory with `..`; write its path from the repository's top".to_owned()));
        }
        Ok(source)
    }

    /// One pair of BuildKit's query form.
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let flag = |value: &str| match value {
            "" | "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(format!("has `{key}={value}`; write true or false")),
        };
        if matches!(key, "ref" | "tag" | "branch") && self.reference.is_some()
            || key == "subdir" && self.directory.is_some()
        {
            return Err(
                "names its reference or directory twice; write it once, behind `#` or as ref, branch or tag".to_owned()
            );
        }
        let reference = match key {
            "ref" => some(value),
            "tag" => some(value).map(|tag| format!("refs/tags/{}", tag.trim_start_matches("refs/tags/"))),
            "branch" => some(value).map(|branch| format!("refs/heads/{}", branch.trim_start_matches("refs/heads/"))),
            "subdir" => {
                self.directory = some(value.trim_start_matches('/'));
                return Ok(());
            }
            "checksum" | "commit" => {
                self.expected_commit = some(value);
                return Ok(());
            }
            "submodules" => {
                self.submodules = flag(value)?;
                return Ok(());
            }
            "keep-git-dir" => {
                self.keep_git_directory = flag(value)?;
                return Ok(());
            }
            _ => {
                return Err(format!(
                    "has `{key}=` in its query, which means nothing; there are ref, branch, tag, checksum, subdir, submodules and keep-git-dir"
                ));
            }
        };
        self.reference = reference;
        Ok(())
    }

    /// Reads Kaniko's form, `git://[TOKEN@]HOST/PATH[#REFERENCE][#COMMIT]`, which is fetched over `https`, or over the scheme
    /// that GIT_PULL_METHOD names. Port 9418 is git's own protocol.
    ///
    /// # Errors
    /// It is no such text.
    pub fn parse_kaniko(text: &str, options: &GitOptions, pull_method: Option<&str>) -> Result<Self, FetchError> {
        let invalid = |problem: &str| FetchError::Invalid { text: redacted(text), problem: problem.to_owned() };
        let rest = text.strip_prefix("git://").ok_or_else(|| invalid("does not begin with git://"))?;
        let mut parts = rest.split('#');
        let place = parts.next().unwrap_or_default();
        let (reference, commit) = (parts.next().and_then(some), parts.next().and_then(some));
        if parts.next().is_some() {
            return Err(invalid("has more than two `#`; write git://HOST/PATH#REFERENCE#COMMIT"));
        }
        let is_git_port = place.split('/').next().is_some_and(|host| host.ends_with(":9418"));
        let scheme = match pull_method.filter(|method| !method.is_empty()) {
            Some(method @ ("https" | "http" | "git")) => method,
            Some(_) => return Err(invalid("can't be fetched as GIT_PULL_METHOD says; use https, http or git")),
            None if is_git_port => "git",
            None => "https",
        };
        let mut source = Self::parse(&format!("{scheme}://{place}"))?;
        source.reference = commit.or(reference).or_else(|| options.branch.clone());
        source.submodules = options.submodules.unwrap_or(false);
        source.depth = options.depth.or(source.depth);
        Ok(source)
    }

    /// How messages call it.
    pub fn shown(&self) -> String {
        match self.from_home {
            true => format!("{}@{}:{}", self.url.username(), self.url.host_str().unwrap_or_default(), self.ssh_path()),
            false => self.url.to_string(),
        }
    }

    /// The path as the server's command is given it.
    pub(super) fn ssh_path(&self) -> String {
        let path = decoded(self.url.path());
        match self.from_home || path.starts_with("/~") {
            true => path.trim_start_matches('/').to_owned(),
            false => path,
        }
    }

    /// What an address means that begins with `./` or `../`: as git has it, `..` takes the repository's own name away first
    /// (git-submodule(1), "add").
    pub(super) fn beside(&self, address: &str) -> Result<Self, FetchError> {
        let mut base = self.url.clone();
        base.set_path(&format!("{}/", self.url.path().trim_end_matches('/')));
        let invalid = |error| FetchError::Invalid { text: redacted(address), problem: format!("is no URL: {error}") };
        let mut found = Self::parse(base.join(address).map_err(invalid)?.as_str())?;
        found.from_home = self.from_home;
        Ok(found)
    }

    /// Whether the reference is a whole commit id.
    pub(super) fn commit(&self) -> Option<&str> {
        let is_id = |text: &&str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.reference.as_deref().filter(is_id)
    }
}

fn credential(url: &Url) -> Option<Basic> {
    let (username, password) = (decoded(url.username()), url.password().map(decoded).unwrap_or_default());
    (!username.is_empty() || !password.is_empty()).then_some(Basic { username, password })
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Without percent encoding; what is none stays as it is.
pub(crate) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while position < bytes.len() {
        let digits = bytes.get(position + 1..position + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| bytes[position] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                position += 3;
            }
            None => {
                plain.push(bytes[position]);
                position += 1;
            }
        }
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_owned())
}

/// `user@host:path`, which git takes for SSH, as what is before the colon and what is behind it.
fn scp_like(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(login, path)| {
        let host = login.split_once('@').map(|(_, host)| host);
        host.is_some_and(|host| !host.is_empty() && !login.contains('/')) && !path.is_empty() && !path.starts_with("//")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>, Option<String>) {
        let source = GitSource::parse(text).unwrap();
        (source.shown(), source.reference, source.directory)
    }

    fn want(url: &str, reference: &str, directory: &str) -> (String, Option<String>, Option<String>) {
        (url.to_owned(), some(reference), some(directory))
    }

    #[test]
    fn git_is_told_from_the_rest() {
        for text in
            ["git://x/a", "https://x/a.git", "https://x/a.git#v1:d", "http://x/a.git?ref=b", "git@x:a/b", "ssh://x/a"]
        {
            assert!(GitSource::is_git(text), "{text}");
        }
        for text in ["https://x/a", "https://x/a.git.tar", "a.git", "./git@x:y", "dir/a:b", "https://u@x:80/y"] {
            assert!(!GitSource::is_git(text), "{text}");
        }
    }

    #[test]
    fn references_and_directories_stand_in_the_fragment_or_the_query() {
        assert_eq!(parsed("https://h.example/a.git"), want("https://h.example/a.git", "", ""));
        assert_eq!(parsed("https://h.example/a.git#v1"), want("https://h.example/a.git", "v1", ""));
        assert_eq!(
            parsed("git://h.example:99/a#refs/pull/1/head:d/e"),
            want("git://h.example:99/a", "refs/pull/1/head", "d/e")
        );
        assert_eq!(parsed("https://h.example/a.git#:d"), want("https://h.example/a.git", "", "d"));
        assert_eq!(
            parsed("https://h.example/a.git?tag=v1&subdir=/d"),
            want("https://h.example/a.git", "refs/tags/v1", "d")
        );
        let source =
            GitSource::parse("https://h.example/a.git?branch=b&commit=abc1234&submodules=0&keep-git-dir").unwrap();
        assert_eq!(source.expected_commit.as_deref(), Some("abc1234"));
        assert!(!source.submodules && source.keep_git_directory);
        let source = GitSource::parse("git://h/a?keep-git-dir=true#b:d").unwrap();
        assert!(source.keep_git_directory && source.reference.as_deref() == Some("b"));
        for text in
            ["https://h/a.git?x=1", "https://h/a.git?ref=a&tag=b", "https://h/a.git?ref=a#b", "https://h/a.git#b:../c"]
        {
            assert!(GitSource::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ssh_is_written_as_a_url_or_as_scp_has_it() {
        let read = |text: &str| {
            let source = GitSource::parse(text).unwrap();
            (source.shown(), source.url.port(), source.ssh_path())
        };
        for (text, shown, port, path) in [
            ("git@h.example:a/b.git", "git@h.example:a/b.git", None, "a/b.git"),
            ("git@h.example:/a/b", "ssh://git@h.example/a/b", None, "/a/b"),
            ("git@h.example:a%41 b", "git@h.example:a%41 b", None, "a%41 b"),
            ("ssh://git@h.example/a%20b", "ssh://git@h.example/a%20b", None, "/a b"),
            ("ssh://git@h.example:2222/a", "ssh://git@h.example:2222/a", Some(2222), "/a"),
            ("ssh://me@[::1]:22/~/a", "ssh://me@[::1]:22/~/a", Some(22), "~/a"),
        ] {
            assert_eq!(read(text), (shown.to_owned(), port, path.to_owned()), "{text}");
        }
        let source = GitSource::parse("git@h:a/b.git?keep-git-dir=1#v1:d").unwrap();
        assert!(source.keep_git_directory && source.ssh_path() == "a/b.git");
        assert_eq!((source.reference, source.directory), (some("v1"), some("d")));
        for text in ["ssh://h/a", "ssh://git:secret@h/a", "ssh:///a"] {
            let error = GitSource::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let beside = |text: &str, address: &str| GitSource::parse(text).unwrap().beside(address).unwrap().shown();
        assert_eq!(beside("git@h:a/b.git", "../c"), "git@h:a/c");
        assert_eq!(beside("https://h/a/b.git", "./c"), "https://h/a/b.git/c");
    }

    #[test]
    fn passwords_are_taken_out_and_never_shown() {
        let source = GitSource::parse("https://me:s%40crt@h.example/a.git#b").unwrap();
        assert_eq!(source.credential, Some(Basic { username: "me".to_owned(), password: "s@crt".to_owned() }));
        assert!(!format!("{source:?}").contains("crt") && source.shown() == "https://h.example/a.git");
    }

    #[test]
    fn kaniko_reads_git_as_https() {
        let read = |text: &str, method: Option<&str>| {
            let source = GitSource::parse_kaniko(text, &GitOptions::default(), method).unwrap();
            (source.shown(), source.reference)
        };
        assert_eq!(read("git://h/a.git#refs/heads/main", None), ("https://h/a.git".into(), some("refs/heads/main")));
        assert_eq!(read("git://h/a#refs/heads/x#0123", Some("http")), ("http://h/a".into(), some("0123")));
        assert_eq!(read("git://h:9418/a", None), ("git://h:9418/a".into(), None));
        let options = GitOptions { branch: some("b"), submodules: Some(true), ..GitOptions::default() };
        let source = GitSource::parse_kaniko("git://TOKEN@h/a", &options, None).unwrap();
        assert_eq!((source.reference, source.submodules), (some("b"), true));
        assert_eq!(source.credential.unwrap().username, "TOKEN");
        assert!(GitSource::parse_kaniko("git://h/a#b#c#d", &GitOptions::default(), None).is_err());
    }
}
