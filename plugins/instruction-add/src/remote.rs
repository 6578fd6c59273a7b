//! Sources that are not in the context (Dockerfile reference, "ADD": URLs and git repositories).

/// What kind of remote source a word is, if it is one.
pub fn kind(word: &str) -> Option<&'static str> {
    let lower = word.to_ascii_lowercase();
    if lower.starts_with("git://") || lower.starts_with("ssh://") || is_scp_like(word) {
        return Some("a git repository");
    }
    if lower.starts_with("http://") || lower.starts_with("https://") {
        let repository = lower.split(['#', '?']).next().unwrap_or(&lower);
        return Some(if repository.ends_with(".git") { "a git repository" } else { "a URL" });
    }
    None
}

/// `git@host:path`, which git takes for ssh.
fn is_scp_like(word: &str) -> bool {
    word.split_once(':').is_some_and(|(user_and_host, path)| {
        let host = user_and_host.split_once('@').map(|(_, host)| host);
        host.is_some_and(|host| !host.is_empty() && !user_and_host.contains('/')) && !path.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_sources_are_told_from_names() {
        assert_eq!(kind("https://x.example/a.tar.gz"), Some("a URL"));
        assert_eq!(kind("HTTP://x.example"), Some("a URL"));
        for word in [
            "https://x.example/a.git",
            "https://x.example/a.git#v1:dir",
            "git@x.example:a/b",
            "git://x/a",
            "ssh://git@x/a",
        ] {
            assert_eq!(kind(word), Some("a git repository"), "{word}");
        }
        for word in ["a.tar", "dir/a:b", "a@b", "./git@x:y", "http", "https:/x"] {
            assert_eq!(kind(word), None, "{word}");
        }
    }
}
