//! Tags, labels and annotations by the rules of docker/metadata-action (its README, "Inputs").
//!
//! [`rule`] and [`flavor`] read what the user wrote; [`expression`] fills in what stands between `{{` and `}}`, with dates by
//! [`moment`]; [`image`] applies the rules in the order of their priorities; [`labels`] says what the image is.

mod expression;
mod fields;
mod flavor;
mod image;
mod labels;
mod moment;
mod rule;
mod version;

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt, TagPolicy,
    diagnostics::error,
    source::Source,
    tags::{self, Decision, Error, Facts, Naming, Requested, unknown_option},
};

use expression::Surroundings;
use flavor::Flavor;
use rule::Rule;

/// The policy.
pub struct Metadata;

cofferdam_plugin_sdk::export_tags!(crate::Metadata);

impl TagPolicy for Metadata {
    fn decide(facts: &Facts, requested: &Requested) -> Result<Decision, Error> {
        let (mut rules, mut flavor) = (Vec::new(), Flavor::default());
        let (mut labels, mut annotations) = (Vec::new(), Vec::new());
        let mut short_digits = 7;
        for option in &requested.options {
            let lines = option.value.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            match option.key.as_str() {
                "tags" => rules.extend(lines.map(Rule::parse).collect::<Result<Vec<_>, _>>()?),
                "flavor" => lines.map(|line| flavor.read(line)).collect::<Result<(), _>>()?,
                "labels" => labels.extend(lines.map(labels::pair).collect::<Result<Vec<_>, _>>()?),
                "annotations" => annotations.extend(lines.map(labels::pair).collect::<Result<Vec<_>, _>>()?),
                "short-sha-length" => short_digits = digits(&option.value)?,
                key => {
                    let known = "it takes `tags`, `flavor`, `labels`, `annotations` and `short-sha-length`";
                    return Err(unknown_option("tags-metadata", key, known));
                }
            }
        }
        if rules.is_empty() {
            rules = Rule::usual();
        }
        let source = Source::of(facts);
        let surroundings = Surroundings { facts, source: &source, short_digits };
        let image = image::image(rules, &flavor, &surroundings)?;
        let mut all = Vec::new();
        tags::add(&mut all, requested.tags.iter().cloned())?;
        tags::add(&mut all, image.tags(&flavor, &surroundings)?)?;
        let own = labels::own(&surroundings, image.main.as_deref());
        Ok(Decision::Push(Naming {
            tags: all,
            labels: labels::with(&own, &labels, &surroundings)?,
            annotations: labels::with(&own, &annotations, &surroundings)?,
        }))
    }
}

fn digits(text: &str) -> Result<usize, Diagnostic> {
    match text.parse() {
        Ok(digits @ 1..=64) => Ok(digits),
        _ => Err(invalid(format!("`short-sha-length` is a number from 1 to 64, not `{text}`"))),
    }
}

/// What the user wrote is wrong.
fn invalid(message: impl Into<String>) -> Diagnostic {
    error("InvalidRule", message.into()).help("the rules are those of docker/metadata-action")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_plugin_sdk::testing::{COMMIT, FactsBuilder, requested};

    fn github(event: &str, reference: &str) -> FactsBuilder {
        let variables = [
            ("GITHUB_EVENT_NAME", event),
            ("GITHUB_REF", reference),
            ("GITHUB_SHA", COMMIT),
            ("GITHUB_BASE_REF", if event == "pull_request" { "main" } else { "" }),
            ("GITHUB_SERVER_URL", "https://git.example"),
            ("GITHUB_REPOSITORY", "team/Hello"),
            ("event.repository.license.spdx_id", "MIT"),
        ];
        FactsBuilder::default().default_branch("main").system("github", &variables)
    }

    fn decide(facts: FactsBuilder, rules: &str, flavor: &str) -> Result<Naming, String> {
        let options = [("tags", rules), ("flavor", flavor)];
        match Metadata::decide(&facts.build(), &requested(&[], &options)) {
            Ok(Decision::Push(naming)) => Ok(naming),
            Ok(Decision::Refused(refusal)) => Err(refusal.reason),
            Err(Error::Invalid(finding)) => Err(finding.message),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn rules_make_tags() {
        let push = || github("push", "refs/heads/feature/one");
        let main = || github("push", "refs/heads/main");
        let tag = |name: &str| github("push", &format!("refs/tags/{name}"));
        let pull = || github("pull_request", "refs/pull/7/merge");
        let semver =
            "type=semver,pattern={{version}}\ntype=semver,pattern={{major}}.{{minor}}\ntype=semver,pattern={{major}}";
        for (facts, rules, flavor, expected) in [
            (push(), "", "", &["feature-one"][..]),
            (pull(), "", "", &["pr-7"]),
            (tag("v1.2.3"), "", "", &["v1.2.3", "latest"]),
            (github("schedule", "refs/heads/main"), "", "", &["nightly", "main"]),
            (main(), "type=schedule", "", &[]),
            (tag("v1.2.3"), semver, "", &["1.2.3", "1.2", "1", "latest"]),
            (tag("v1.2.3-beta.1"), semver, "", &["1.2.3-beta.1"]),
            (tag("v1.2.3"), semver, "latest=false", &["1.2.3", "1.2", "1"]),
            (tag("nightly"), semver, "", &[]),
            (tag("p1/v1.2.3"), "type=match,pattern=v(.*),group=1", "", &["1.2.3", "latest"]),
            (tag("p1/v1.2.3"), "type=match,pattern=v(.*),group=5", "", &[]),
            (tag("app-1.2.3"), r"type=semver,pattern={{version}},match=app-(\d+\.\d+\.\d+)", "", &["1.2.3", "latest"]),
            (tag("1.2rc3"), "type=pep440,pattern={{version}}", "", &["1.2rc3"]),
            (push(), "type=semver,pattern={{version}},value=v4.0.0", "", &["4.0.0", "latest"]),
            (main(), "type=edge\ntype=sha", "", &["edge", "sha-860c190"]),
            (push(), "type=edge\ntype=edge,branch=feature/one,suffix=-2", "", &["edge-2"]),
            (push(), "type=sha,format=long,prefix=\ntype=raw,{{branch}}-{{sha}}", "", &["feature-one-860c190", COMMIT]),
            (main(), "type=raw,value=stable,enable={{is_default_branch}}", "", &["stable"]),
            (push(), "type=raw,value=stable,enable={{is_default_branch}}", "", &[]),
            (pull(), "type=raw,value=to-{{base_ref}}", "", &["to-main"]),
            (main(), "stable\ntype=ref,event=branch", "latest=true", &["main", "stable", "latest"]),
            (
                main(),
                "type=ref,event=branch,priority=50\nstable",
                "prefix=a-,onlatest=true,suffix=-z,latest=true",
                &["a-stable-z", "a-main-z", "a-latest"],
            ),
            (main(), "type=raw,value={{date 'YYYYMMDD'}},prefix=", "prefix=x-", &["20200110"]),
        ] {
            let made = decide(facts, rules, flavor).unwrap();
            assert_eq!(made.tags, expected, "{rules} {flavor}");
        }
        for wrong in ["type=raw,value=x,enable=maybe", "type=raw,value={{nope}}", "type=nope"] {
            assert!(decide(main(), wrong, "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_systems_have_the_same_rules() {
        let rules = "type=ref,event=branch\ntype=ref,event=tag\ntype=ref,event=pr\ntype=sha";
        let gitlab = [("CI_MERGE_REQUEST_IID", "12"), ("CI_COMMIT_SHA", COMMIT)];
        let gitlab = FactsBuilder::default().system("gitlab", &gitlab);
        assert_eq!(decide(gitlab, rules, "").unwrap().tags, ["pr-12", "sha-860c190"]);
        let jenkins = FactsBuilder::default().system("jenkins", &[("TAG_NAME", "v2")]);
        assert_eq!(decide(jenkins, rules, "").unwrap().tags, ["v2", "sha-860c190", "latest"]);
        assert_eq!(decide(FactsBuilder::default().branch("dev"), rules, "").unwrap().tags, ["dev", "sha-860c190"]);
    }

    #[test]
    fn the_image_says_what_it_is() {
        let options = [("tags", "type=sha"), ("labels", "org.opencontainers.image.title=Mine\nteam={{branch}}")];
        let decided = Metadata::decide(&github("push", "refs/heads/main").build(), &requested(&["v1"], &options));
        let Ok(Decision::Push(naming)) = decided else { panic!() };
        assert_eq!(naming.tags, ["v1", "sha-860c190"]);
        let labels: Vec<String> = naming.labels.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
        let prefix = "org.opencontainers.image";
        assert_eq!(
            labels,
            [
                format!("{prefix}.created=2020-01-10T00:30:00Z"),
                format!("{prefix}.licenses=MIT"),
                format!("{prefix}.revision={COMMIT}"),
                format!("{prefix}.source=https://git.example/team/Hello"),
                format!("{prefix}.title=Mine"),
                format!("{prefix}.url=https://git.example/team/Hello"),
                format!("{prefix}.version=sha-860c190"),
                "team=main".to_owned(),
            ]
        );
        assert_eq!(naming.annotations.len(), 7);
        assert!(Metadata::decide(&github("push", "x").build(), &requested(&[], &[("lables", "a=b")])).is_err());
    }
}
