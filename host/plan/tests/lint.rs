//! Lint with variables, ignore files and images: whole files, the rules' own examples, and their documentation.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test reads its data")]

mod common;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use cofferdam_dockerfile::{Severity, ignore::IgnorePatterns, parse, render};
use cofferdam_plan::{
    Facts, Options, Outcome, Planner,
    lint::{RULES, Rule, rules},
};

use common::{All, facts, options};

fn blessed() -> bool {
    std::env::var("COFFERDAM_BLESS").as_deref() == Ok("1")
}

/// Writes what is expected if that is asked for, and compares.
fn compare(file: &Path, found: &str) {
    if blessed() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(file).unwrap_or_default(), "{}", file.display());
}

#[test]
fn files_have_the_findings_that_they_had() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut names: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "dockerfile"));
    names.sort();
    assert!(!names.is_empty());
    for path in names {
        let bytes = fs::read(&path).unwrap();
        let parsed = parse(&bytes);
        let mut facts = facts(&parsed);
        let ignore = fs::read(path.with_extension("dockerignore")).unwrap_or_default();
        facts.ignore = IgnorePatterns::parse(&ignore).unwrap();
        let found = Planner::new(&parsed, &All, &options()).check(&facts);
        let text = render(&found, "Dockerfile", &String::from_utf8(bytes).unwrap());
        compare(&path.with_extension("expected"), &text);
    }
}

fn codes(text: &str) -> Vec<String> {
    let parsed = parse(text.as_bytes());
    let facts = Facts { ignore: IgnorePatterns::parse(b"ignored.txt").unwrap(), ..facts(&parsed) };
    Planner::new(&parsed, &All, &options()).check(&facts).into_iter().map(|finding| finding.code).collect()
}

#[test]
fn each_rule_finds_its_bad_example_and_passes_its_good_one() {
    for rule in RULES {
        let found = codes(rule.bad);
        assert!(!found.is_empty() && found.iter().all(|name| name == rule.name), "{}: {found:?}", rule.name);
        assert_eq!(codes(rule.good), [""; 0], "{}", rule.name);
    }
}

#[test]
fn without_facts_nothing_is_guessed() {
    let text = "FROM unknown/image\nLABEL a=$OF_THE_IMAGE\nFROM scratch\nLABEL a=$OF_NOBODY\n";
    let parsed = parse(text.as_bytes());
    let found = Planner::new(&parsed, &All, &options()).check(&Facts::default());
    let severities: Vec<_> = found.iter().map(|finding| (finding.code.as_str(), finding.severity)).collect();
    assert_eq!(severities, [("UndefinedVar", Severity::Note), ("UndefinedVar", Severity::Warning)]);
}

#[test]
fn a_build_lints_what_it_builds_and_fails_where_that_is_asked_for() {
    let text = "FROM scratch AS Unused\nENV A b\nWORKDIR x\nFROM scratch AS target\nWORKDIR y\n";
    let plan = |text: &str, target: Option<&str>| {
        let parsed = parse(text.as_bytes());
        let options = Options { target: target.map(str::to_owned), ..options() };
        Planner::new(&parsed, &All, &options).plan(&Facts::default())
    };
    let Outcome::Plan(_, warnings) = plan(text, None) else { panic!("it can be planned") };
    let found: Vec<_> = warnings.iter().map(|one| (one.span.unwrap().start.line, one.code.as_str())).collect();
    assert_eq!(found, [(1, "StageNameCasing"), (5, "WorkdirRelativePath")]);

    let Outcome::Failed(found) = plan(&format!("# check=error=true\n{text}"), None) else { panic!("it must fail") };
    let violation = found.iter().find(|finding| finding.severity == Severity::Error).unwrap();
    assert_eq!(violation.message, "lint violation found for rules: StageNameCasing, WorkdirRelativePath");
    let skipped = format!("# check=error=true;skip=StageNameCasing,WorkdirRelativePath\n{text}");
    assert!(matches!(plan(&skipped, None), Outcome::Plan(..)));
}

#[test]
fn a_check_finds_names_that_no_facts_can_mend() {
    let text = "FROM scratch\nCOPY --from=7 a /\nCOPY --from=$X a /\nCOPY --from=example/image a /\n";
    let parsed = parse(text.as_bytes());
    let found = Planner::new(&parsed, &All, &options()).check(&Facts::default());
    let codes: Vec<_> = found.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["UnknownStage", "VariableInFrom"]);
}

#[test]
fn a_slip_in_the_name_of_a_rule_is_noted() {
    let parsed = parse(b"# check=skip=FromAsCasng,all\nFROM scratch as x\n");
    let found = Planner::new(&parsed, &All, &options()).check(&Facts::default());
    let messages: Vec<_> = found.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "there is no check \"FromAsCasng\" (did you mean FromAsCasing?)",
            "there is no check \"all\"",
            "'as' and 'FROM' keywords' casing do not match",
        ]
    );
}

#[test]
fn arguments_that_are_passed_change_what_is_undefined_and_not_what_is_a_bad_default() {
    let text = "ARG TAG\nFROM alpine:$TAG\nARG A=$NOWHERE\nLABEL a=$A\n";
    let parsed = parse(text.as_bytes());
    let given = [("TAG", "1"), ("A", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = Options { build_arguments: given.into(), ..options() };
    let found = Planner::new(&parsed, &All, &options).check(&Facts::default());
    let found: Vec<_> = found.iter().map(|one| one.code.as_str()).collect();
    assert_eq!(found, ["InvalidDefaultArgInFrom"]);
}

#[test]
fn the_rules_are_documented() {
    let mut text = String::from(
        "# Lint rules\n\n\
         `cofferdam build --check` looks for these without building anything and without a network; an ordinary build shows \
         them too, for the stages that it builds. Names and messages are those of BuildKit. This page is made from the rules \
         themselves (`COFFERDAM_BLESS=1 cargo test -p cofferdam-plan --test lint`).\n\n\
         - `# check=skip=RULE,…` at the top of the Dockerfile leaves rules out (`all` for all of them); above an \
         instruction it does so for that one.\n\
         - `# check=error=true` makes the build fail where something is found.\n\
         - `# check=experimental=RULE,…` asks for experimental rules.\n\
         - `--build-arg BUILDKIT_DOCKERFILE_CHECK=…` says the same and counts instead of the directive.\n\n\
         A check does not know what a base image sets. A variable that may come from there is noted, and is no reason to \
         fail.\n\n| rule | about |\n| --- | --- |\n",
    );
    for rule in rules() {
        let anchor = rule.name.to_lowercase();
        writeln!(text, "| [{}](#{anchor}) | {} |", rule.name, rule.description).unwrap();
    }
    for Rule { name, description, format, help, experimental, bad, good, .. } in rules() {
        let note = if *experimental { "\n\nExperimental: only if it is asked for." } else { "" };
        write!(
            text,
            "\n## {name}\n\n{description}.{note}\n\nMessage: ``{format}``\n\nWhat to do: {help}.\n\nFound in:\n\n\
             ```dockerfile\n{bad}```\n\nNot in:\n\n```dockerfile\n{good}```\n",
        )
        .unwrap();
    }
    assert_eq!(rules().len(), 22);
    compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lint.md"), &text);
}
