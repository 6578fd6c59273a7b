//! Tags of a release: the git tag `v1.2.3` on the commit gives `1.2.3`, `1.2`, `1` and `latest`; a pre-release gives only
//! itself. Without such a tag, or from a checkout with changes, nothing is pushed.

mod version;

wit_bindgen::generate!({
    path: ["wit/types", "wit/tags"],
    world: "cofferdam:tags/tags",
    generate_all,
});

use cofferdam::types::diagnostics::{Diagnostic, Error, Severity};
use exports::cofferdam::tags::policy::{Decision, Facts, Guest, Naming, Refusal, Requested};
use version::Version;

struct Release;

#[cfg(target_arch = "wasm32")]
export!(Release);

impl Guest for Release {
    fn decide(facts: Facts, requested: Requested) -> Result<Decision, Error> {
        let mut prefix = "v";
        for option in &requested.options {
            match option.key.as_str() {
                "prefix" => prefix = &option.value,
                other => return Err(unknown_option(other)),
            }
        }
        let Some(git) = &facts.git else {
            return Ok(refused("the context is not a git checkout", "build from a checkout with its `.git`"));
        };
        if git.dirty {
            return Ok(refused("the checkout has changes that no release holds", "commit them, or put them aside"));
        }
        let versions = git.tags.iter().filter_map(|tag| Version::parse(tag.strip_prefix(prefix)?));
        let Some(version) = versions.max() else {
            let help = format!("tag the commit, for example `git tag {prefix}1.2.3`");
            return Ok(refused("no git tag on this commit is a version", &help));
        };
        let mut tags = requested.tags.clone();
        for tag in version.tags() {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(Decision::Push(Naming { tags, labels: Vec::new(), annotations: Vec::new() }))
    }
}

fn refused(reason: &str, help: &str) -> Decision {
    Decision::Refused(Refusal { reason: reason.to_owned(), help: Some(help.to_owned()) })
}

fn unknown_option(name: &str) -> Error {
    Error::Invalid(Diagnostic {
        severity: Severity::Error,
        code: "UnknownOption".to_owned(),
        message: format!("the policy has no option `{name}`"),
        span: None,
        help: Some("it takes `prefix=TEXT`, which is `v` by default".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use exports::cofferdam::tags::policy::{GitFacts, Timestamp};

    fn decide(tags: &[&str], dirty: bool, requested: &[&str]) -> Decision {
        let date = Timestamp { seconds: 0, nanoseconds: 0 };
        let git = GitFacts {
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            branch: Some("main".to_owned()),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            default_branch: Some("main".to_owned()),
            commit_time: date,
            dirty,
        };
        let requested = Requested {
            repository: "registry.example/app".to_owned(),
            tags: requested.iter().map(|tag| (*tag).to_owned()).collect(),
            options: Vec::new(),
        };
        Release::decide(Facts { git: Some(git), ci: None, date, digest: None, published: Vec::new() }, requested).unwrap()
    }

    fn tags(decision: Decision) -> Vec<String> {
        match decision {
            Decision::Push(naming) => naming.tags,
            Decision::Refused(refusal) => panic!("{}", refusal.reason),
        }
    }

    #[test]
    fn the_highest_version_on_the_commit_counts() {
        assert_eq!(tags(decide(&["v1.9.0", "v1.10.0", "nightly"], false, &[])), ["1.10.0", "1.10", "1", "latest"]);
        assert_eq!(tags(decide(&["v2.0.0-rc.1"], false, &["candidate"])), ["candidate", "2.0.0-rc.1"]);
    }

    #[test]
    fn what_is_no_release_is_refused() {
        assert!(matches!(decide(&["nightly", "1.2.3"], false, &[]), Decision::Refused(_)));
        assert!(matches!(decide(&["v1.2.3"], true, &[]), Decision::Refused(_)));
    }
}
