//! `--check`, `--call outline` and `--call targets`: what the program says of a Dockerfile without building it.

use cofferdam_tests::Site;
use serde_json::Value;

const FAULTY: &str = "\
# VERSION which one to build
ARG VERSION=1
FROM example.invalid/app:$VERSION as Base
ENV A b
LABEL version=$UNDEFINED
# final what is shipped
FROM scratch AS final
COPY ignored.txt /
";

fn faulty() -> Site {
    let site = Site::new();
    site.dockerfile(FAULTY).file(".dockerignore", "ignored.txt\n");
    site
}

#[test]
fn a_check_needs_no_network_and_fails_if_there_are_warnings() {
    let site = faulty();
    let checked = site.build(&["--check"]);
    assert_eq!(checked.code, 1, "{}", checked.stderr);
    assert!(checked.stdout.starts_with("Check complete, 3 warnings have been found!\n"), "{}", checked.stdout);
    for expected in [
        "\nWARNING: StageNameCasing - ",
        "\nWARNING: FromAsCasing - ",
        "\n'as' and 'FROM' keywords' casing do not match\nDockerfile:3\n",
        "\n   3 | >>> FROM example.invalid/app:$VERSION as Base\n",
        "\nWARNING: LegacyKeyValueFormat - ",
        // The base image may set it.
        "\nNOTE: UndefinedVar - ",
    ] {
        assert!(checked.stdout.contains(expected), "no `{expected}` in\n{}", checked.stdout);
    }
    assert!(!site.store().join("blobs").exists(), "nothing was built");
    assert_eq!(site.build(&["--call", "check,ignorestatus"]).code, 0);

    let asked = site.build(&["--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=experimental=CopyIgnoredFile"]);
    assert!(asked.stdout.contains("Attempting to Copy file \"ignored.txt\""), "{}", asked.stdout);
    let skipped = site.build(&["--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"]);
    assert_eq!((skipped.code, skipped.stdout.as_str()), (0, "Check complete, no warnings found.\n"));
    let wrong = site.build(&["--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=nope"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("invalid check option"), "{}", wrong.stderr);
}

#[test]
fn errors_of_a_check_are_those_of_a_build() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nMAINTAINER me\nRUNN x\n");
    let checked = site.build(&["--check"]);
    assert_eq!(checked.code, 1);
    assert!(checked.stdout.contains("WARNING: MaintainerDeprecated"), "{}", checked.stdout);
    assert!(checked.stderr.contains("ERROR: unknown instruction: RUNN (did you mean RUN?)"), "{}", checked.stderr);
    assert!(checked.stderr.contains("   3 | >>> RUNN x"), "{}", checked.stderr);
    // Which keywords there are is a matter of plugins; what FROM means is not.
    assert_eq!(site.build(&["--call", "targets"]).code, 0);
    assert_eq!(site.dockerfile("FROM two words\n").build(&["--call", "targets"]).code, 1);
}

#[test]
fn programs_get_the_json_that_they_get_from_docker() {
    let site = faulty();
    let json =
        |arguments: &[&str]| -> Value { serde_json::from_str(&site.build(arguments).stdout).expect("it is JSON") };
    let checked = json(&["--call", "check,format=json"]);
    let warning = &checked["warnings"][0];
    assert_eq!(warning["ruleName"], "FromAsCasing");
    assert_eq!(warning["location"]["ranges"][0]["start"]["line"], 3);
    assert_eq!(checked["sources"][0]["filename"], "Dockerfile");
    assert_eq!(checked.get("buildError"), None);

    let targets = json(&["--call", "targets,format=json"]);
    assert_eq!(targets["targets"][0]["name"], "base");
    assert_eq!(targets["targets"][1]["default"], true);
    assert_eq!(targets["targets"][1]["description"], "what is shipped");

    let outline = json(&["--call", "outline,format=json", "--target", "base", "--build-arg", "VERSION=2"]);
    let argument = &outline["args"][0];
    assert_eq!((&argument["name"], &argument["value"]), (&"VERSION".into(), &"2".into()));
    assert_eq!(argument["description"], "which one to build");
}

#[test]
fn people_get_tables() {
    let site = faulty();
    let targets = site.build(&["--call=targets"]);
    assert_eq!(targets.stdout, "TARGET            DESCRIPTION\nbase\nfinal (default)   what is shipped\n");
    let outline = site.build(&["--call=outline", "--target=base"]);
    let expected = "TARGET:      base\n\n\
                    BUILD ARG   VALUE   DESCRIPTION\nVERSION     1       which one to build\n";
    assert_eq!(outline.stdout, expected);
    let unknown = site.build(&["--call=outline", "--target=nope"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("there is no stage `nope`"), "{}", unknown.stderr);
    assert_eq!(site.build(&["--call=nope"]).code, 2);
}

#[test]
fn a_build_shows_warnings_and_fails_for_them_if_the_dockerfile_says_so() {
    let site = Site::new();
    let text = "FROM scratch as base\nCOPY Dockerfile /\n";
    let built = site.dockerfile(text).build(&[]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert!(built.stderr.contains("FromAsCasing"), "{}", built.stderr);

    let failed = site.dockerfile(&format!("# check=error=true\n{text}")).build(&[]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("lint violation found for rules: FromAsCasing"), "{}", failed.stderr);
    let skipped = site.dockerfile(&format!("# check=error=true;skip=FromAsCasing\n{text}")).build(&[]);
    assert_eq!(skipped.code, 0, "{}", skipped.stderr);
}
