//! `cofferdam policy check`, `cofferdam plugin digest` and `cofferdam plugin run`.

use std::fs;

use cofferdam_tests::{Finished, Program, Site, repository_root};

fn cofferdam(site: &Site, arguments: &[&str]) -> Finished {
    Program::new(&site.store()).natively().current_dir(site.path()).args(arguments).run()
}

fn check(site: &Site, policy: &str) -> Finished {
    fs::write(site.path().join("policy.toml"), policy).expect("writable");
    cofferdam(site, &["policy", "check", "policy.toml"])
}

#[test]
fn a_policy_is_checked_before_it_is_in_force() {
    let site = Site::new();
    let fine =
        check(&site, "[registries]\npush = [\"*.corp.example\"]\n[plugins.credential-ecr]\nalso = [\"metadata\"]\n");
    assert_eq!(fine.success().stdout, "`policy.toml`\nno mistakes\n");
    for (text, words) in [
        ("[plugin.x]\n", vec!["line 1", "`plugin`"]),
        ("[run]\nnetwork = \"none\"\nnetworks = 1\n", vec!["line 3", "networks"]),
        ("[plugins.x]\nallow = [\"http:*\"]\n", vec!["plugins.x.allow", "`http:*` is not a capability"]),
        ("[plugins.x]\nallows = []\n", vec!["`plugins.x`", "allows"]),
        (
            "[plugins.credential-ecr]\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n",
            vec!["credential-ecr", "sha256"],
        ),
    ] {
        let wrong = check(&site, text);
        assert_eq!(wrong.code, 1, "{text}: {}", wrong.stdout);
        assert!(words.iter().all(|word| wrong.stderr.contains(word)), "{text}: {}", wrong.stderr);
    }
    let narrow =
        check(&site, "[plugins.instruction-run]\nallow = [\"rootfs\", \"fetch\"]\n[plugins.none]\n").success().stdout;
    for words in [
        "`instruction-run` does nothing: plugin `instruction-run` wants",
        "warning: `instruction-run` is granted `fetch`, which it does not want",
        "warning: there is no plugin `none` here",
    ] {
        assert!(narrow.contains(words), "{words}: {narrow}");
    }
    let missing = cofferdam(&site, &["policy", "check", "missing.toml"]);
    assert!(missing.code == 1 && missing.stderr.contains("missing.toml"), "{}", missing.stderr);
}

#[test]
fn a_digest_is_what_a_policy_pins() {
    let site = Site::new();
    let component = repository_root().join("plugins/prebuilt/tags-explicit.wasm");
    let component = component.to_str().expect("UTF-8");
    let digest = cofferdam(&site, &["plugin", "digest", component]).success().stdout;
    check(&site, &format!("[plugins.tags-explicit]\nsha256 = \"{}\"\n", digest.trim())).success();
    fs::write(site.path().join("x.wasm"), "no plugin").expect("writable");
    let refused = cofferdam(&site, &["plugin", "digest", "x.wasm"]);
    assert!(refused.code == 1 && refused.stderr.contains("x.wasm"), "{}", refused.stderr);
}

#[test]
fn plugins_run_by_themselves() {
    let site = Site::new();
    let tags = ["plugin", "run", "tags-explicit", "-t", "reg.example/app:1", "--facts", "facts.json"];
    fs::write(site.path().join("facts.json"), r#"{"date": {"seconds": 0, "nanoseconds": 0}}"#).expect("writable");
    let printed = cofferdam(&site, &tags).success().stdout;
    assert_eq!(printed, "reg.example/app:1\n");
    let program = Program::new(&site.store()).natively().env("GITHUB_TOKEN", "planted");
    let printed = program.args(["plugin", "run", "credential-ghcr", "--host", "ghcr.io"]).run().success().stdout;
    assert_eq!(printed, "kind     basic\nuser     unset\nsecret   (`--show-secret` prints it)\n");
    for (arguments, code, word) in [
        (vec!["credential-ghcr", "--host", "ghcr.io"], 1, "has no credential"),
        (vec!["credential-ghcr", "--host", "ghcr.io.evil.example"], 1, "does not name this host"),
        (vec!["credential-ghcr"], 2, "--host"),
        (vec!["instruction-run"], 1, "--no-cache"),
        (vec!["tags-git"], 2, "--tag"),
        (vec!["none"], 1, "plugin list"),
    ] {
        let refused = cofferdam(&site, &[&["plugin", "run"], &arguments[..]].concat());
        assert!(refused.code == code && refused.stderr.contains(word), "{arguments:?}: {}", refused.stderr);
    }
}
