//! Sources that are not in the context (Dockerfile reference, "ADD": URLs and git repositories).

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt,
    diagnostics::error,
    fs::{Path, Tree},
    instruction::Error,
    paths,
};
use cofferdam_transfer::{FETCHED, Source};

/// The fewest digits of a commit's id that `--checksum` takes.
const COMMIT_DIGITS: usize = 7;

/// The remote source that a word is, if it is one.
pub fn source(word: &str, keep_git_directory: bool) -> Option<Source> {
    let lower = word.to_ascii_lowercase();
    let place = lower.split(['#', '?']).next().unwrap_or(&lower);
    let is_web = lower.starts_with("http://") || lower.starts_with("https://");
    let is_git = lower.starts_with("git://") || lower.starts_with("ssh://") || is_scp_like(word);
    if is_git || is_web && place.trim_end_matches('/').ends_with(".git") {
        let url = if keep_git_directory { with_git_directory(word) } else { word.to_owned() };
        return Some(Source::Git { written: word.to_owned(), url });
    }
    is_web.then(|| Source::Url { url: word.to_owned(), name: file_name(word) })
}

/// The last component of the URL's path, as BuildKit takes it.
fn file_name(url: &str) -> Option<Path> {
    let (_, place) = url.split_once("://")?;
    let path = place.split(['#', '?']).next()?.split_once('/')?.1;
    let name = paths::base_name(&decoded(path)).to_vec();
    (!matches!(name.as_slice(), b"" | b"." | b"..")).then_some(name)
}

/// Without percent encoding; what is none stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(byte) = bytes.get(position) {
        let digits = bytes.get(position + 1..position + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                position += 3;
            }
            None => {
                plain.push(*byte);
                position += 1;
            }
        }
    }
    plain
}

/// The way in which the host is told to keep `.git`.
fn with_git_directory(url: &str) -> String {
    let (place, fragment) = match url.split_once('#') {
        Some((place, fragment)) => (place, format!("#{fragment}")),
        None => (url, String::new()),
    };
    let separator = if place.contains('?') { '&' } else { '?' };
    format!("{place}{separator}keep-git-dir=true{fragment}")
}

/// `git@host:path`, which git takes for ssh.
fn is_scp_like(word: &str) -> bool {
    word.split_once(':').is_some_and(|(user_and_host, path)| {
        let host = user_and_host.split_once('@').map(|(_, host)| host);
        host.is_some_and(|host| !host.is_empty() && !user_and_host.contains('/')) && !path.is_empty()
    })
}

/// What `--checksum` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// Of a file: `sha256:` and the digest.
    File(String),
    /// The beginning of a commit's id.
    Commit(String),
}

impl Checksum {
    /// Reads it for the one source that it is about.
    ///
    /// # Errors
    /// It is none for such a source.
    pub fn read(text: &str, source: &Source) -> Result<Self, Diagnostic> {
        let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match source {
            Source::Url { .. } => match text.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && is_hex(hex)) {
                Some(_) => Ok(Self::File(text.to_ascii_lowercase())),
                None => Err(error("InvalidChecksum", format!("`{text}` is no digest"))
                    .help("write `--checksum=sha256:` and the 64 digits that sha256sum prints")),
            },
            _ if is_hex(text) && (COMMIT_DIGITS..=64).contains(&text.len()) => {
                Ok(Self::Commit(text.to_ascii_lowercase()))
            }
            _ => Err(error("InvalidChecksum", format!("`{text}` is no commit"))
                .help("write the commit's id, or at least its first seven digits")),
        }
    }

    /// Compares what was fetched.
    ///
    /// # Errors
    /// It is something else, or the host's.
    pub fn verify(&self, written: &str, tree: &dyn Tree) -> Result<(), Error> {
        let (found, fits) = match self {
            Self::File(expected) => {
                let found = tree.digest(FETCHED)?;
                let fits = found == *expected;
                (format!("has the digest {found}, not {expected}"), fits)
            }
            Self::Commit(expected) => {
                let found = tree.revision()?.unwrap_or_default();
                let fits = found.starts_with(expected.as_str());
                (format!("is at commit {found}, not {expected}"), fits)
            }
        };
        let help = "look at what changed there; if it is right, correct `--checksum`";
        match fits {
            true => Ok(()),
            false => Err(error("ChecksumMismatch", format!("`{written}` {found}")).help(help).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_sources_are_told_from_names() {
        for word in ["https://x.example/a.tar.gz", "HTTP://x.example"] {
            assert!(matches!(source(word, false), Some(Source::Url { .. })), "{word}");
        }
        for word in [
            "https://x.example/a.git",
            "https://x.example/a.git#v1:dir",
            "git@x.example:a/b",
            "git://x/a",
            "ssh://git@x/a",
        ] {
            assert!(matches!(source(word, false), Some(Source::Git { .. })), "{word}");
        }
        for word in ["a.tar", "dir/a:b", "a@b", "./git@x:y", "http", "https:/x"] {
            assert_eq!(source(word, false), None, "{word}");
        }
    }

    #[test]
    fn files_are_called_as_their_urls_end() {
        let name = |url: &str| file_name(url).map(|name| String::from_utf8(name).unwrap());
        for (url, expected) in [
            ("https://x/a/b.tar?x=/y#z", Some("b.tar")),
            ("https://x/a%20b", Some("a b")),
            ("https://x/a/", Some("a")),
            ("https://x/a%2Fb", Some("b")),
            ("https://x/", None),
            ("https://x", None),
            ("https://x/..", None),
            ("https://x/%zz", Some("%zz")),
        ] {
            assert_eq!(name(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn the_host_is_told_to_keep_git() {
        for (written, url) in [
            ("https://x/a.git", "https://x/a.git?keep-git-dir=true"),
            ("https://x/a.git?ref=b", "https://x/a.git?ref=b&keep-git-dir=true"),
            ("git://x/a#v1:d", "git://x/a?keep-git-dir=true#v1:d"),
        ] {
            let expected = Source::Git { written: written.to_owned(), url: url.to_owned() };
            assert_eq!(source(written, true), Some(expected));
        }
    }
}
