//! Plugins of strangers: the examples, built and run as a user would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use cofferdam_tests::{Program, Registry, Site, repository_root, run, skip};

/// Where this test's build puts what it makes.
fn target() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    own.ancestors().nth(3).expect("target/PROFILE/deps/TEST").to_path_buf()
}

/// An example plugin, built and packed; `None` (reported as a skip) where there is no compiler for WebAssembly.
fn example(name: &str) -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let packed = target().join("examples").join(format!("{name}.wasm"));
    let script = repository_root().join("scripts/build-example.sh");
    let built = run(Command::new(script).arg(name).arg(&packed).env("CARGO_TARGET_DIR", target()));
    if built.code == 3 {
        skip(&format!("examples can't be built: {}", built.stderr.lines().last().unwrap_or_default()));
        return None;
    }
    assert_eq!(built.code, 0, "{name} does not build: {}", built.stderr);
    Some(packed)
}

/// A site with an example in its directory of plugins.
fn site_with(name: &str) -> Option<Site> {
    let plugin = example(name)?;
    let site = Site::new();
    fs::create_dir(site.path().join("wasm")).expect("writable");
    fs::copy(plugin, site.path().join("wasm/example.wasm")).expect("writable");
    Some(site)
}

/// A site for the example instruction.
fn lines() -> Option<Site> {
    let site = site_with("instruction-lines")?;
    site.file("src/a.txt", "1\n2\n")
        .file("src/b.txt", "1\n")
        .file("src/hidden.txt", "1\n")
        .file("other.txt", "1\n2\n3\n");
    site.file(".dockerignore", "src/hidden.txt\n");
    site.dockerfile("FROM scratch\nWORKDIR /out\nCOUNT_LINES src/*.txt lines\n");
    Some(site)
}

const PLUGINS: [&str; 2] = ["--plugin-dir", "wasm"];

fn cofferdam(site: &Site, arguments: &[&str]) -> cofferdam_tests::Finished {
    let program = Program::new(&site.store()).env("BUILDKIT_PROGRESS", "plain").current_dir(site.path());
    program.args(arguments).run()
}

fn policy(site: &Site, text: &str) {
    fs::write(site.path().join("policy.toml"), text).expect("writable");
}

#[test]
fn an_instruction_reads_the_context_as_files_and_writes_to_the_image() {
    let Some(site) = lines() else { return };
    let image = site.image(&["--plugin-dir", "wasm", "--audit-log", "audit.jsonl"]);
    assert_eq!(image.content("/out/lines"), "2 src/a.txt\n1 src/b.txt\n3 total\n");
    assert_eq!(image.entry("/out/lines"), "file 644 0:0");

    let log = fs::read_to_string(site.path().join("audit.jsonl")).expect("written");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect();
    let used = |capability: &str| {
        let own = lines.iter().filter(|line| line["plugin"] == "instruction-lines" && line["capability"] == capability);
        own.map(|line| line["detail"].to_string()).collect::<Vec<_>>().join("; ")
    };
    assert!(used("context").contains("src/*.txt"), "{log}");
    assert!(used("rootfs").contains("/out/lines"), "{log}");
    assert!(
        lines.iter().all(|line| line["time"].is_string() && line["digest"].to_string().contains("sha256:")),
        "{log}"
    );

    // What it reads is its cache key: no more, no less.
    site.file("other.txt", "changed").file("src/hidden.txt", "changed");
    assert!(site.build(&PLUGINS).success().stderr.contains("CACHED"), "what it does not read does not matter");
    site.file("src/b.txt", "1\n2\n3\n");
    assert_eq!(site.image(&PLUGINS).content("/out/lines"), "2 src/a.txt\n3 src/b.txt\n5 total\n");
}

#[test]
fn an_instruction_reports_its_mistakes_like_any_other() {
    let Some(site) = lines() else { return };
    site.dockerfile("FROM scratch\nCOUNT_LINES\nEXPOSE x\nCOUNT_LINES --fast a b\n");
    let built = site.build(&PLUGINS);
    assert_eq!(built.code, 1);
    for text in
        ["2 | >>> COUNT_LINES", "needs a pattern and a destination", "`x` is not a port", "`--fast` is not a flag"]
    {
        assert!(built.stderr.contains(text), "{text}: {}", built.stderr);
    }
    let unknown = site.build(&[]);
    assert!(unknown.code == 1 && unknown.stderr.contains("plugin that claims COUNT_LINES"), "{}", unknown.stderr);
}

#[test]
fn without_its_grant_a_plugin_is_refused_with_the_line_that_would_allow_it() {
    let Some(site) = lines() else { return };
    policy(&site, "[plugins.instruction-lines]\nallow = [\"rootfs\"]\n");
    let refused = site.build(&["--plugin-dir", "wasm", "--policy", "policy.toml"]);
    assert_eq!(refused.code, 1);
    for text in
        ["`instruction-lines` wants `context`", "[plugins.instruction-lines]", "allow = [\"context\", \"rootfs\"]"]
    {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    policy(&site, "[plugins.instruction-lines]\nallow = [\"context\", \"rootfs\"]\n");
    site.build(&["--plugin-dir", "wasm", "--policy", "policy.toml"]).success();
    // Pinned to another file.
    policy(&site, &format!("[plugins.instruction-lines]\nsha256 = \"{}\"\n", "0".repeat(64)));
    let refused = site.build(&["--plugin-dir", "wasm", "--policy", "policy.toml"]);
    assert!(refused.code == 1 && refused.stderr.contains("sha256"), "{}", refused.stderr);
    policy(&site, "[plugin.misspelt]\n");
    let refused = site.build(&["--policy", "policy.toml"]);
    assert!(refused.code == 1 && refused.stderr.contains("plugin"), "{}", refused.stderr);
}

#[test]
fn a_keyword_of_ours_needs_the_operators_word() {
    let Some(site) = lines() else { return };
    let manifest = fs::read_to_string(repository_root().join("examples/instruction-lines/plugin.toml")).expect("there");
    let manifest = manifest.replace("COUNT_LINES = ", "COPY = ").replace("\"instruction-lines\"", "\"my-copy\"");
    fs::write(site.path().join("plugin.toml"), manifest).expect("writable");
    let packed =
        cofferdam(&site, &["plugin", "pack", "wasm/example.wasm", "--manifest", "plugin.toml", "-o", "wasm/copy.wasm"]);
    assert!(packed.success().digest().len() > 64);
    site.dockerfile("FROM scratch\nCOPY src/*.txt /lines\n");
    let refused = site.build(&PLUGINS);
    assert_eq!(refused.code, 1);
    for text in ["`my-copy` wants `keyword COPY`", "[plugins.my-copy]"] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    policy(&site, "[plugins.my-copy]\nallow = [\"context\", \"rootfs\"]\n[plugins.instruction-lines]\n");
    let image = site.image(&["--plugin-dir", "wasm", "--policy", "policy.toml"]);
    assert_eq!(image.content("/lines"), "2 src/a.txt\n1 src/b.txt\n3 total\n");
}

#[test]
fn what_was_not_declared_is_denied() {
    let Some(site) = lines() else { return };
    // The example with a handler that looks beyond what its `plan` declares: as files, then by the handle.
    let copy = site.path().join("curious");
    run(Command::new("cp").arg("-r").arg(repository_root().join("examples/instruction-lines")).arg(&copy)).success();
    let source = fs::read_to_string(copy.join("src/lib.rs")).expect("there");
    let begin = "let (_, destination) = arguments(&step)?;\n        let files";
    assert!(source.contains(begin), "the example has changed");
    let curious = r#"let (_, destination) = arguments(&step)?;
        for path in ["/context/other.txt", "/context/src/hidden.txt", "/context/../etc/passwd", "/etc/passwd", "/"] {
            if std::fs::read(path).is_ok() || std::fs::read_dir(path).is_ok() && path != "/" {
                return Err(Error::Invalid(error(format!("{path} can be read"))));
            }
        }
        if let Err(problem) = trees[0].stat(b"/other.txt", false) {
            return Err(failed(problem));
        }
        let files"#;
    fs::write(copy.join("src/lib.rs"), source.replace(begin, curious).replace("_trees:", "trees:")).expect("writable");
    let scripts = repository_root().join("scripts");
    let toolchain = run(&mut Command::new(scripts.join("wasm-toolchain.sh"))).success().stdout;
    let mut build = Command::new(scripts.join("wasm-cargo.sh"));
    build.args([toolchain.trim(), "wasm32-wasip2"]).arg(&copy).arg(target().join("guests/curious")).arg("--quiet");
    run(&mut build).success();
    let component = target().join("guests/curious/wasm32-wasip2/release/instruction_lines.wasm");
    let component = component.to_string_lossy();
    cofferdam(&site, &["plugin", "pack", &component, "--manifest", "curious/plugin.toml", "-o", "wasm/example.wasm"])
        .success();
    let refused = site.build(&PLUGINS);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("denied") && refused.stderr.contains("other.txt"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("can be read"), "{}", refused.stderr);
    assert!(refused.stderr.contains("3 | >>> COUNT_LINES src/*.txt lines"), "{}", refused.stderr);
}

#[test]
fn plugins_can_be_packed_inspected_and_listed() {
    let Some(site) = lines() else { return };
    let shown = cofferdam(&site, &["plugin", "inspect", "wasm/example.wasm"]).success().stdout;
    for text in ["instruction-lines 0.1.0", "instructions  COUNT_LINES", "wants         context rootfs", "sha256:"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let json = cofferdam(&site, &["plugin", "inspect", "--json", "wasm/example.wasm"]).success().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["kind"], &json["name"]), (&"instruction".into(), &"instruction-lines".into()));
    let listed = cofferdam(&site, &["plugin", "list", "--plugin-dir", "wasm"]).success().stdout;
    for name in
        ["instruction-run", "instruction-copy", "tags-explicit", "credential-docker-config", "instruction-lines"]
    {
        assert!(listed.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {listed}");
    }

    fs::write(site.path().join("no.wasm"), "nothing").expect("writable");
    let manifest = "api = \"0.1\"\nkind = \"tags\"\nname = \"x\"\nversion = \"1\"\nunknown = 1\n";
    fs::write(site.path().join("wrong.toml"), manifest).expect("writable");
    let refused = cofferdam(&site, &["plugin", "inspect", "no.wasm"]);
    assert!(refused.code == 1 && refused.stderr.contains("no.wasm"), "{}", refused.stderr);
    let arguments = ["plugin", "pack", "wasm/example.wasm", "--manifest", "wrong.toml", "-o", "out.wasm"];
    let refused = cofferdam(&site, &arguments);
    assert!(refused.code == 1 && refused.stderr.contains("unknown"), "{}", refused.stderr);
    assert!(!site.path().join("out.wasm").exists());
    // A version of the interface that this host does not have.
    let manifest = fs::read_to_string(repository_root().join("examples/instruction-lines/plugin.toml")).expect("there");
    fs::write(site.path().join("newer.toml"), manifest.replace("api = \"0.1\"", "api = \"0.9\"")).expect("writable");
    let arguments = ["plugin", "pack", "wasm/example.wasm", "--manifest", "newer.toml", "-o", "wasm/example.wasm"];
    let done = cofferdam(&site, &arguments);
    let refused = if done.code == 0 { site.build(&PLUGINS) } else { done };
    assert!(refused.code == 1 && refused.stderr.contains("0.9"), "{}", refused.stderr);
}

/// A repository with one commit on `main`, as the context.
fn checkout(site: &Site) -> String {
    site.file("file", "x").dockerfile("FROM scratch\nCOPY file /\n");
    git(&site.context(), &["init", "--quiet", "--initial-branch=main", "."]);
    git(&site.context(), &["add", "."]);
    git(&site.context(), &["commit", "--quiet", "--message", "first"]);
    git(&site.context(), &["rev-parse", "HEAD"])
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "user.name=Test", "-c", "user.email=test@example.com"]).arg("-C").arg(directory);
    run(command.args(arguments)).success().stdout.trim().to_owned()
}

#[track_caller]
fn tags(site: &Site, arguments: &[&str]) -> Vec<String> {
    let all = [&["tags", "-t", "reg.example/app"][..], arguments, &["context"]].concat();
    let names = cofferdam(site, &all).success().stdout;
    names.lines().map(|name| name.strip_prefix("reg.example/app:").expect("the name").to_owned()).collect()
}

#[test]
fn the_git_policy_names_commits_and_branches() {
    let site = Site::new();
    let commit = checkout(&site);
    assert_eq!(tags(&site, &["--tag-policy", "git"]), [commit.as_str(), "main", "latest"]);
    git(&site.context(), &["checkout", "--quiet", "-b", "feature/New_Thing"]);
    let branch = [commit.as_str(), "feature-new-thing", "feature-new-thing-dev"];
    assert_eq!(tags(&site, &["--tag-policy", "git"]), branch);
    assert_eq!(tags(&site, &["--tag-policy", "git:default-branch=feature/New_Thing"])[2], "latest");
    assert_eq!(tags(&site, &["--tag-policy", "git:short=true"])[0], commit[..12]);
    assert_eq!(tags(&site, &["--tag-policy", "git", "--tag-policy", "explicit"]).len(), 4, "the union, with latest");
    // A CI system checks out a commit and says the branch by a variable.
    git(&site.context(), &["checkout", "--quiet", "--detach"]);
    assert_eq!(tags(&site, &["--tag-policy", "git"]), [commit.as_str()]);
    let program = Program::new(&site.store()).env("GITLAB_CI", "true").env("CI_COMMIT_BRANCH", "main");
    let program = program.env("CI_DEFAULT_BRANCH", "main").current_dir(site.path());
    let named = program.args(["tags", "-t", "reg.example/app:own", "--tag-policy", "git", "context"]).run().success();
    let expected = ["own", &commit, "main", "latest"].map(|tag| format!("reg.example/app:{tag}\n")).concat();
    assert_eq!(named.stdout, expected);
    // An option that nobody knows, a policy that nobody has, a context that is no checkout.
    for (policy, word) in [("git:nope=1", "nope"), ("nosuch", "tags-git")] {
        let refused = cofferdam(&site, &["tags", "-t", "reg.example/app", "--tag-policy", policy, "context"]);
        assert!(refused.code == 1 && refused.stderr.contains(word), "{}", refused.stderr);
    }
    let refused = cofferdam(&site, &["tags", "-t", "reg.example/app", "--tag-policy", "git", "."]);
    assert!(refused.code == 1 && refused.stderr.contains("not a git checkout"), "{}", refused.stderr);
}

#[test]
fn a_custom_policy_decides_the_tags_of_a_push() {
    let Some(site) = site_with("tag-policy-rust") else { return };
    let Some(registry) = Registry::with_password() else { return };
    checkout(&site);
    let arguments = ["--plugin-dir", "wasm", "--tag-policy", "tags-release"];
    let name = format!("{}/team/app", registry.host());
    let push = |site: &Site| {
        let program = site.program(&arguments).args(["--tag", &name, "--push"]);
        program.env("DOCKER_CONFIG", registry.docker_config()).run()
    };
    let listed = || registry.skopeo(&["list-tags", &format!("docker://{name}")]);

    // A refusal comes before anything is done.
    let refused = push(&site);
    assert_eq!(refused.code, 1);
    for text in ["refuses: no git tag on this commit is a version", "git tag v1.2.3"] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    assert!(!refused.stderr.contains("COPY file"), "nothing was built: {}", refused.stderr);
    assert!(listed().is_none_or(|listed| listed.code != 0), "the repository was not even begun");

    git(&site.context(), &["tag", "v1.2.3"]);
    assert_eq!(tags(&site, &arguments), ["1.2.3", "1.2", "1", "latest"]);
    let pushed = push(&site).success();
    let Some(listed) = listed() else { return };
    let listed: serde_json::Value = serde_json::from_str(&listed.success().stdout).expect("JSON");
    let mut names: Vec<&str> = listed["Tags"].as_array().expect("tags").iter().filter_map(|tag| tag.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["1", "1.2", "1.2.3", "latest"]);
    let inspect = ["inspect", "--format", "{{.Digest}}", &format!("docker://{name}:1.2")];
    assert_eq!(registry.skopeo(&inspect).expect("skopeo").success().stdout.trim(), pushed.digest());

    // Options reach it, and changes that no release holds are refused.
    git(&site.context(), &["tag", "release-2.0.0"]);
    let options = ["--plugin-dir", "wasm", "--tag-policy", "release:prefix=release-"];
    assert_eq!(tags(&site, &options), ["2.0.0", "2.0", "2", "latest"]);
    site.file("file", "changed");
    let refused = push(&site);
    assert!(refused.code == 1 && refused.stderr.contains("the checkout has changes"), "{}", refused.stderr);
}

#[test]
fn a_policy_in_python_decides() {
    let Some(site) = site_with("tag-policy-python") else { return };
    let example = repository_root().join("examples/tag-policy-python");
    run(Command::new("python3").args(["-B", "-m", "unittest"]).current_dir(example)).success();
    let commit = checkout(&site);
    let mut log = Command::new("git");
    log.args(["log", "-1", "--format=%cd", "--date=format-local:%Y.%m.%d"])
        .env("TZ", "UTC")
        .current_dir(site.context());
    let day = run(&mut log).success().stdout.trim().to_owned();
    let dated = format!("{day}-{}", &commit[..12]);
    let arguments = ["--plugin-dir", "wasm", "--tag-policy", "calendar"];
    assert_eq!(tags(&site, &arguments), [day.as_str(), &dated, "latest"]);
    let own = ["tags", "-t", "reg.example/app:own", "context"];
    let named = cofferdam(&site, &[&own[..], &arguments].concat()).success().stdout;
    assert_eq!(named.lines().next(), Some("reg.example/app:own"));

    site.file("file", "changed");
    let refused = site.program(&[&arguments[..], &["--push", "-t", "reg.example/app"]].concat()).run();
    assert!(refused.code == 1 && refused.stderr.contains("refuses: the checkout has changes"), "{}", refused.stderr);
    let options =
        ["tags", "-t", "reg.example/app", "--plugin-dir", "wasm", "--tag-policy", "calendar:zone=x", "context"];
    let refused = cofferdam(&site, &options);
    assert!(refused.code == 1 && refused.stderr.contains("has no option `zone`"), "{}", refused.stderr);
}

#[test]
fn a_policy_in_javascript_decides() {
    let Some(site) = site_with("tag-policy-js") else { return };
    let example = repository_root().join("examples/tag-policy-js");
    run(Command::new("node").arg("--test").current_dir(example)).success();
    let commit = checkout(&site);
    let arguments = ["--plugin-dir", "wasm", "--tag-policy", "preview"];
    assert_eq!(tags(&site, &arguments), ["edge".to_owned(), format!("edge-{}", &commit[..12])]);
    git(&site.context(), &["checkout", "--quiet", "-b", "dev"]);
    let refused = site.program(&[&arguments[..], &["--push", "-t", "reg.example/app"]].concat()).run();
    assert!(refused.code == 1 && refused.stderr.contains("refuses: previews are of"), "{}", refused.stderr);
    let program = Program::new(&site.store()).env("GITLAB_CI", "true").env("CI_MERGE_REQUEST_IID", "42");
    let program = program.current_dir(site.path()).args(["tags", "-t", "reg.example/app:own", "context"]);
    let named = program.args(arguments).run().success().stdout;
    let expected = ["own", "pr-42", &format!("pr-42-{}", &commit[..12])].map(|tag| format!("reg.example/app:{tag}\n"));
    assert_eq!(named, expected.concat());
}

#[test]
fn facts_are_printed_and_replayed() {
    let site = Site::new();
    let commit = checkout(&site);
    let printed = cofferdam(&site, &["tags", "--print-facts", "context"]).success().stdout;
    let facts: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&facts["git"]["commit"], &facts["git"]["branch"]), (&commit.as_str().into(), &"main".into()));
    std::fs::write(site.path().join("facts.json"), printed.replace("\"main\"", "\"dev\"")).expect("writable");
    let replayed = |policy: &str| {
        let arguments = ["tags", "--facts", "facts.json", "--tag-policy", policy, "-t", "reg.example/app"];
        cofferdam(&site, &arguments).success().stdout
    };
    assert_eq!(
        replayed("git"),
        [commit.as_str(), "dev", "dev-dev"].map(|tag| format!("reg.example/app:{tag}\n")).concat()
    );
    std::fs::write(site.path().join("facts.json"), printed.replace("\"dirty\"", "\"drity\"")).expect("writable");
    let wrong = cofferdam(&site, &["tags", "--facts", "facts.json", "-t", "reg.example/app"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("drity"), "{}", wrong.stderr);
    // What GitHub writes into a file.
    std::fs::write(
        site.path().join("event.json"),
        r#"{"repository": {"default_branch": "trunk"}, "token": "planted"}"#,
    )
    .expect("writable");
    let program = Program::new(&site.store()).env("GITHUB_ACTIONS", "true").env("GITHUB_EVENT_PATH", "event.json");
    let printed = program.current_dir(site.path()).args(["tags", "--print-facts", "context"]).run().success().stdout;
    assert!(printed.contains(r#""default_branch": "trunk""#) && !printed.contains("planted"), "{printed}");
}

#[test]
fn a_policy_names_the_image_and_says_what_it_is() {
    let Some(registry) = Registry::with_password() else { return };
    let site = Site::new();
    let commit = checkout(&site);
    git(&site.context(), &["tag", "v1.2.3"]);
    git(&site.context(), &["checkout", "--quiet", "--detach"]);
    site.file("file", "x").dockerfile("FROM scratch\nCOPY file /\nLABEL kept=yes\n");
    let name = format!("{}/team/app", registry.host());
    let rules = "metadata:tags=type=semver,pattern={{version}}\ntype=semver,pattern={{major}}.{{minor}}\ntype=sha";
    let labels = "metadata:labels=org.opencontainers.image.vendor=Team\norg.opencontainers.image.title=policy";
    let arguments = ["--tag-policy", "metadata", "--tag-option", rules, "--tag-option", labels, "--push", "-t", &name];
    let own = ["--label", "org.opencontainers.image.title=mine", "--annotation", "manifest:team=a"];
    let program = site.program(&arguments).args(own).env("DOCKER_CONFIG", registry.docker_config());
    program.run().success();
    let short = format!("sha-{}", &commit[..7]);
    let mut tags = registry.tags("team/app").expect("listed");
    tags.sort();
    let mut expected = ["1.2".to_owned(), "1.2.3".to_owned(), "latest".to_owned(), short];
    expected.sort();
    assert_eq!(tags, expected);
    let Some(inspected) = registry.skopeo(&["inspect", &format!("docker://{name}:1.2.3")]) else { return };
    let inspected: serde_json::Value = serde_json::from_str(&inspected.success().stdout).expect("JSON");
    let label = |name: &str| inspected["Labels"][name].as_str().unwrap_or_default().to_owned();
    for (name, value) in [("title", "mine"), ("vendor", "Team"), ("version", "1.2.3"), ("revision", &commit)] {
        assert_eq!(label(&format!("org.opencontainers.image.{name}")), value, "{name}");
    }
    assert_eq!(label("kept"), "yes");
    let manifest = registry.manifest("team/app:1.2.3").expect("pushed");
    assert_eq!(manifest["annotations"]["org.opencontainers.image.version"], "1.2.3");
    assert_eq!(manifest["annotations"]["team"], "a");
}

#[test]
fn a_published_version_is_not_replaced() {
    let Some(registry) = Registry::with_password() else { return };
    let site = Site::new();
    checkout(&site);
    git(&site.context(), &["tag", "v1.2.3"]);
    site.dockerfile("FROM scratch\nCOPY file /\n").file("file", "one");
    let name = format!("{}/team/app", registry.host());
    let push = |policy: &str| {
        let program = site.program(&["--tag-policy", policy, "--push", "-t", &name]);
        program.env("DOCKER_CONFIG", registry.docker_config()).run()
    };
    push("semver").success();
    push("semver").success();
    let first = registry.digest("team/app:1.2.3");
    site.file("file", "two");
    let refused = push("semver");
    assert!(refused.code == 1 && refused.stderr.contains("is published already"), "{}", refused.stderr);
    assert_eq!(registry.digest("team/app:1.2.3"), first);
    assert_eq!(registry.digest("team/app:latest"), first, "nothing of it was pushed");
    push("semver:overwrite=true").success();
    assert_ne!(registry.digest("team/app:1.2.3"), first);
    // `latest` off the default branch.
    git(&site.context(), &["checkout", "--quiet", "-b", "dev"]);
    let latest = format!("{name}:latest");
    let refused = site.program(&["--tag-policy", "gitlab", "--push", "-t", &latest]).run();
    assert!(refused.code == 1 && refused.stderr.contains("default branch's"), "{}", refused.stderr);
}
