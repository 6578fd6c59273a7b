//! Tags of a release, from the version in a git tag (Semantic Versioning 2.0.0).
//!
//! `v1.2.3` gives `1.2.3`, `1.2`, `1` and `latest`. Before 1.0.0 anything may change between minor versions, so there is no
//! `0`; a pre-release gives only itself. A version means one image for ever: if the repository has another one under it, nothing
//! is pushed.

use cofferdam_plugin_sdk::{
    TagPolicy,
    source::Source,
    tags::{self, Decision, Error, Facts, Requested, push, refused, unknown_option},
};
use semver::Version;

/// The policy.
pub struct Semver;

cofferdam_plugin_sdk::export_tags!(crate::Semver);

impl TagPolicy for Semver {
    fn decide(facts: &Facts, requested: &Requested) -> Result<Decision, Error> {
        let options = Options::parse(requested)?;
        let mut all = Vec::new();
        tags::add(&mut all, requested.tags.iter().cloned())?;
        let Some(version) = version(facts, &options) else { return Ok(push(all)) };
        let own = tag(&version);
        let other = facts
            .published
            .iter()
            .find(|published| published.tag == own && Some(&published.digest) != facts.digest.as_ref());
        if let Some(other) = other.filter(|_| facts.digest.is_some() && !options.overwrite) {
            let reason = format!("`{}:{own}` is published already, as {}", requested.repository, other.digest);
            return Ok(refused(reason, "release a new version; `overwrite=true` replaces it"));
        }
        tags::add(&mut all, names(&version, options.latest))?;
        Ok(push(all))
    }
}

struct Options {
    prefix: Option<String>,
    latest: bool,
    overwrite: bool,
}

impl Options {
    fn parse(requested: &Requested) -> Result<Self, Error> {
        let mut options = Self { prefix: None, latest: true, overwrite: false };
        for option in &requested.options {
            match option.key.as_str() {
                "prefix" => options.prefix = Some(option.value.clone()),
                "latest" => options.latest = tags::boolean("latest", &option.value)?,
                "overwrite" => options.overwrite = tags::boolean("overwrite", &option.value)?,
                key => {
                    let known = "it takes `prefix=TEXT`, `latest=false` and `overwrite=true`";
                    return Err(unknown_option("tags-semver", key, known));
                }
            }
        }
        Ok(options)
    }
}

/// The highest version among the tags of what is built.
fn version(facts: &Facts, options: &Options) -> Option<Version> {
    let source = Source::of(facts);
    let built = source.tag().map(str::to_owned).into_iter();
    let on_commit = facts.git.iter().flat_map(|git| git.tags.clone());
    let parse = |tag: String| {
        let text = match &options.prefix {
            Some(prefix) => tag.strip_prefix(prefix.as_str())?,
            None => tag.strip_prefix('v').unwrap_or(&tag),
        };
        Version::parse(text).ok()
    };
    built.chain(on_commit).filter_map(parse).max()
}

/// A tag can't hold the `+` of build metadata.
fn tag(version: &Version) -> String {
    version.to_string().replace('+', "-")
}

fn names(version: &Version, latest: bool) -> Vec<String> {
    let mut names = vec![tag(version)];
    if version.pre.is_empty() {
        names.push(format!("{}.{}", version.major, version.minor));
        names.extend((version.major > 0).then(|| version.major.to_string()));
        names.extend(latest.then(|| "latest".to_owned()));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::{FactsBuilder, requested};

    fn decide(facts: FactsBuilder, options: &[(&str, &str)]) -> Vec<String> {
        match Semver::decide(&facts.build(), &requested(&[], options)).unwrap() {
            Decision::Push(naming) => naming.tags,
            Decision::Refused(refusal) => panic!("{}", refusal.reason),
        }
    }

    #[test]
    fn a_release_has_the_tags_that_it_may_move() {
        let tag = |name: &str| FactsBuilder::default().tag(name);
        assert_eq!(decide(tag("v1.2.3"), &[]), ["1.2.3", "1.2", "1", "latest"]);
        assert_eq!(decide(tag("1.2.3").tag("v1.10.0"), &[("latest", "false")]), ["1.10.0", "1.10", "1"]);
        assert_eq!(decide(tag("v0.2.3"), &[]), ["0.2.3", "0.2", "latest"]);
        assert_eq!(decide(tag("v2.0.0-rc.1"), &[]), ["2.0.0-rc.1"]);
        assert_eq!(decide(tag("v1.0.0+build.5"), &[])[0], "1.0.0-build.5");
        assert_eq!(decide(tag("app-1.2.3").tag("v9.0.0"), &[("prefix", "app-")])[0], "1.2.3");
        assert!(decide(tag("nightly"), &[]).is_empty());
        let gitlab = FactsBuilder::default().system("gitlab", &[("CI_COMMIT_TAG", "v3.0.0")]);
        assert_eq!(decide(gitlab, &[])[0], "3.0.0");
    }

    #[test]
    fn a_version_never_changes_its_meaning() {
        let built = |digest: &str| {
            FactsBuilder::default().tag("v1.2.3").built(digest, &[("1.2.3", "sha256:a"), ("1.2", "sha256:0")])
        };
        assert_eq!(decide(built("sha256:a"), &[])[0], "1.2.3");
        let decision = Semver::decide(&built("sha256:b").build(), &requested(&[], &[])).unwrap();
        assert!(
            matches!(decision, Decision::Refused(refusal) if refusal.reason.contains("app:1.2.3` is published already, as sha256:a"))
        );
        assert_eq!(decide(built("sha256:b"), &[("overwrite", "true")])[0], "1.2.3");
    }

    #[test]
    fn misspelt_options_are_errors() {
        for option in [("prefx", "v"), ("latest", "no")] {
            assert!(
                Semver::decide(&FactsBuilder::default().build(), &requested(&[], &[option])).is_err(),
                "{option:?}"
            );
        }
    }
}
