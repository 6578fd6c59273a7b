//! The integration tests of what Dockerfiles mean, with the program in each environment.

use cofferdam_tests::{
    Environment, Lab, cargo, is_short,
    matrix::{self, Column},
    report, run,
};

/// Tests that differ from native root: where, which, and why.
const EXCEPTED: [(&[Environment], &[&str], &str); 1] = [(
    TRANSLATED,
    &["run::the_network_can_be_taken_away"],
    "with `--network=none` no connection is made, but /proc/net/dev shows the machine's interfaces: there is no namespace",
)];

/// Where nothing can be mounted.
const TRANSLATED: &[Environment] = &[
    Environment::RootPod,
    Environment::Restricted,
    Environment::RestrictedOld,
    Environment::RestrictedReadOnly,
    Environment::RestrictedArbitraryUid,
];

/// A part of `scripts/campaign.sh runners`. COFFERDAM_TEST_ENVIRONMENT limits it to one environment.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    if Lab::new().is_none() {
        return;
    }
    let (environments, filter): (&[Environment], &str) =
        if is_short() { (&[Environment::Restricted], "run::") } else { (&Environment::ALL, "") };
    let one = Environment::under_test().map(|environment| [environment]);
    let environments = one.as_ref().map_or(environments, |one| &one[..]);
    let mut text = "Integration tests (`semantics`), each build compared with native root's:\n\n".to_owned();
    for &environment in environments {
        let (mut suite, _) = cargo();
        suite.args([
            "test",
            "--release",
            "--offline",
            "--workspace",
            "--test",
            "semantics",
            "--",
            "--test-threads",
            "2",
        ]);
        suite.arg(filter).env(Environment::VARIABLE, environment.name()).env_remove("COFFERDAM_BLESS");
        let ran = run(&mut suite);
        let results = ran.stdout.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
        let (passed, failed): (Vec<_>, Vec<_>) = results.partition(|(_, result)| *result == "ok");
        let excepted = |test: &str| {
            EXCEPTED
                .iter()
                .find(|(places, names, _)| places.contains(&environment) && names.contains(&test))
                .map(|(.., why)| *why)
        };
        let exceptions: Vec<(&str, &str)> =
            failed.iter().filter_map(|(test, _)| Some((*test, excepted(test)?))).collect();
        let name = environment.name();
        assert!(!passed.is_empty(), "{name}: no test ran\n{}", ran.stderr);
        assert_eq!(exceptions.len(), failed.len(), "{name}: {failed:?}\n{}\n{}", ran.stdout, ran.stderr);
        if !is_short() {
            matrix::record_same(environment, Column::Tests, &exceptions);
        }
        text.push_str(&format!("- {name}: {} the same, {} excepted\n", passed.len(), failed.len()));
    }
    report("tests", &text);
}
