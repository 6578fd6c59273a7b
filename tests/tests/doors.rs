//! Both front doors: their flags, what they print, their exit codes, and what they leave behind.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cofferdam_tests::{Finished, Image, Program, Site, run, signal_child};

/// What is in the store's directory for work in progress, besides its two lock files.
fn leftovers(site: &Site) -> Vec<PathBuf> {
    let listed = fs::read_dir(site.store().join("tmp"));
    let entries: Vec<fs::DirEntry> = listed.map(|entries| entries.flatten().collect()).unwrap_or_default();
    let paths = entries.iter().map(fs::DirEntry::path);
    paths.filter(|path| !["gate", "index-json", "use"].iter().any(|lock| path.ends_with(lock))).collect()
}

/// Whether anything is mounted in a place, or a process has `word` in its command line.
fn traces(place: &Path, word: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("there");
    let place = place.to_string_lossy().into_owned();
    let mut found: Vec<String> = mounts.lines().filter(|line| line.contains(&place)).map(str::to_owned).collect();
    for entry in fs::read_dir("/proc").expect("there").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(word) {
            found.push(line);
        }
    }
    found
}

fn simple() -> Site {
    let site = Site::new();
    site.file("file", "content").dockerfile(
        "FROM scratch AS first\nARG ONE\nARG TWO=default\nLABEL one=$ONE two=$TWO\nCOPY file /first\nFROM first AS second\nCOPY file /second\n",
    );
    site
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let site = simple();
    for arguments in [
        &["build", "--no-such-flag", "context"][..],
        &["build"],
        &["build", "context", "another"],
        &["build", "--push", "context"],
        &["build", "--output", "type=zip,dest=x", "context"],
        &["build", "--output", "type=local", "context"],
        &["build", "--annotation", "novalue", "context"],
        &["build", "--build-arg", "=x", "context"],
        &["build", "--platform", "nonsense", "context"],
        &["build", "--platform", "linux/amd64,linux/", "context"],
        &["build", "--timestamps", "later", "context"],
        &["build", "--progress", "fancy", "context"],
        &["nonsense"],
        &[],
    ] {
        let done = Program::new(&site.store()).args(arguments).current_dir(site.path()).run();
        assert_eq!(done.code, 2, "{arguments:?}: {}", done.stderr);
        assert!(!done.stderr.is_empty() && done.stdout.is_empty(), "{arguments:?}");
    }
    for arguments in [
        &["--context", "context", "--no-push", "--no-such-flag"][..],
        &["--context", "context"],
        &["--context", "context", "--no-push=maybe"],
        &["--context", "context", "--no-push", "--verbosity", "loud"],
        &["--context", "context", "--no-push", "--tar-path", "x.tar"],
    ] {
        let done = site.executor(arguments).run();
        assert_eq!(done.code, 2, "{arguments:?}: {}", done.stderr);
    }
    assert!(!site.store().exists(), "nothing was begun");
}

#[test]
fn standard_output_holds_the_digest_alone() {
    let site = simple();
    let built = site.build(&[]).success();
    assert_eq!(built.stdout, format!("{}\n", built.digest()));
    assert_eq!(built.digest().len(), "sha256:".len() + 64);
    assert!(
        built.stderr.contains("--output type=oci,dest=FILE") && built.stderr.contains("--push"),
        "how to export it"
    );
    let again = site.executor(&["--context", "context", "--no-push"]).run().success();
    assert_eq!(again.stdout, format!("{}\n", again.digest()));
}

#[test]
fn plain_progress_looks_as_docker_shows_it() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base AS builder\nRUN echo one && echo two >&2\nFROM base\nCOPY --from=builder /etc/passwd /x\n",
    );
    let built = site.build(&[]).success();
    let lines: Vec<&str> = built.stderr.lines().collect();
    let title = lines.iter().find(|line| line.contains("RUN echo one")).expect("a title");
    let (number, rest) = title.split_once(' ').expect("words");
    assert_eq!(rest, "[builder 2/2] RUN echo one && echo two >&2");
    let own: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(&format!("{number} "))).collect();
    assert!(own.iter().any(|line| line.ends_with(" one")) && own.iter().any(|line| line.ends_with(" two")), "{own:?}");
    assert!(own.iter().any(|line| line.starts_with("DONE ") && line.ends_with('s')), "{own:?}");
    assert!(
        lines.contains(&"#1 [stage-1 1/2] FROM base") || built.stderr.contains("1/2] FROM base"),
        "{}",
        built.stderr
    );
    assert!(!built.stderr.contains('\u{1b}'), "readable without colour");
}

#[test]
fn progress_can_be_json_lines() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nRUN echo \"quo\\\"ted\"; exit 3\n");
    let built = site.program(&["--progress", "json"]).run();
    assert_eq!(built.code, 3, "{}", built.stderr);
    let (mut events, mut others) = (Vec::new(), Vec::new());
    for line in built.stderr.lines() {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(event) if event["event"].is_string() => events.push(event),
            _ => others.push(line),
        }
    }
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of("started").len(), of("finished").len());
    assert!(of("output").iter().any(|event| event["bytes"].to_string().contains("ted")), "{events:#?}");
    assert!(of("finished").iter().any(|event| event["ending"]["failed"].is_string()), "{events:#?}");
    assert!(events.iter().all(|event| event["time"].as_f64() > Some(1e9)));
    assert!(others.iter().all(|line| !line.starts_with('#')), "no plain progress beside it: {others:?}");
}

#[test]
fn build_arguments_may_come_from_the_environment() {
    let site = simple();
    let labels = |built: Finished| {
        built.success();
        let image = Image::open(&site.path().join("out"));
        fs::remove_dir_all(site.path().join("out")).expect("ours");
        image.config("Labels")
    };
    let arguments = ["--build-arg", "ONE", "--build-arg", "TWO", "--output", "type=oci,dest=out,tar=false"];
    let built = site.program(&arguments).env("ONE", "a=b c").run();
    assert_eq!(labels(built), serde_json::json!({"one": "a=b c", "two": "default"}));
    let arguments =
        ["-c", "context", "--no-push", "--build-arg", "ONE", "--build-arg=TWO=x=y", "--oci-layout-path", "out"];
    let built = site.executor(&arguments).env("ONE", "1").run();
    assert_eq!(labels(built), serde_json::json!({"one": "1", "two": "x=y"}));
}

#[test]
fn kanikos_flags_do_what_they_did() {
    let site = simple();
    let context = format!("dir://{}", site.context().display());
    let built = site.executor(&[
        "--context",
        &context,
        "--dockerfile",
        "Dockerfile",
        "--destination",
        "reg.example/team/app:1",
        "--no-push=true",
        "--tar-path=image.tar",
        "--oci-layout-path=layout",
        "--digest-file=digest",
        "--target=first",
        "--label=a=b",
        "--label",
        "c=d",
        "--insecure=false",
        "--insecure-pull",
        "--skip-tls-verify=1",
        "--skip-tls-verify-pull=F",
        "--insecure-registry=reg.example",
        "--verbosity=debug",
    ]);
    let built = built.run().success();
    assert_eq!(fs::read_to_string(site.path().join("digest")).expect("written").trim_end(), built.digest());
    let image = Image::open(&site.path().join("layout"));
    let labels = image.config("Labels");
    assert_eq!((&labels["a"], &labels["c"]), (&"b".into(), &"d".into()));
    assert_eq!(image.layer_count(), 1, "only the first stage");
    let text = run(Command::new("tar").args(["-xOf", "image.tar", "manifest.json"]).current_dir(site.path())).success();
    assert!(text.stdout.contains("reg.example/team/app:1"), "{}", text.stdout);
    assert!(!Path::new("/kaniko").exists() && !Path::new("/workspace").exists(), "it needs no directory of its own");
    // A Dockerfile is looked for in the context, then in the current directory.
    site.file("docker/Dockerfile", "FROM scratch\nCOPY file /else\n");
    let done = site.executor(&["-c", "context", "-f", "docker/Dockerfile", "--no-push"]).run();
    assert_eq!(done.code, 0, "{}", done.stderr);
    // Less talk.
    let quiet = site.executor(&["-c", "context", "--no-push", "-v", "error"]).run().success();
    assert!(!quiet.stderr.lines().any(|line| line.starts_with('#')), "{}", quiet.stderr);
}

#[test]
fn a_dockerfile_may_come_from_standard_input() {
    let site = simple();
    let mut command = site.program(&["-f", "-", "--output", "type=oci,dest=out,tar=false"]).into_command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(b"FROM scratch\nCOPY file /\nLABEL from=stdin\n").expect("reads");
    let done: Finished = child.wait_with_output().expect("ends").into();
    done.success();
    assert_eq!(Image::open(&site.path().join("out")).config("Labels")["from"], "stdin");
}

#[test]
fn targets_labels_and_named_contexts() {
    let site = simple();
    let other = site.path().join("other");
    fs::create_dir(&other).expect("writable");
    fs::write(other.join("x"), "other").expect("writable");
    site.dockerfile("FROM scratch AS one\nCOPY --from=other x /x\nLABEL a=file\nFROM scratch\nCOPY nothing /\n");
    let path = format!("other={}", other.display());
    let image =
        site.image(&["--target", "one", "--label", "a=flag", "--label", "b=has=equals", "--build-context", &path]);
    assert_eq!(image.config("Labels"), serde_json::json!({"a": "flag", "b": "has=equals"}));
    assert_eq!(image.layer_names(0), ["x"]);
}

#[test]
fn the_exit_code_of_a_command_is_passed_on() {
    let Some(site) = Site::with_base("alpine") else { return };
    for (command, code) in [
        ("exit 42", 42),
        ("exit 255", 255),
        ("kill -TERM $$", 128 + 15),
        ("kill -KILL $$", 128 + 9),
        ("no-such-command", 127),
        ("/etc/passwd", 126),
    ] {
        site.dockerfile(&format!("FROM base\nRUN {command}\n"));
        let built = site.build(&[]);
        assert_eq!(built.code, code, "{command}: {}", built.stderr);
        assert_eq!(built.stdout, "", "no digest of what does not exist");
        assert_eq!(leftovers(&site), [] as [PathBuf; 0], "{command}");
    }
    site.dockerfile("FROM base\nRUN [\"/no/such/program\"]\n");
    let built = site.build(&[]);
    assert_eq!(built.code, 127, "{}", built.stderr);
    assert!(built.stderr.contains("/no/such/program"), "{}", built.stderr);
}

#[test]
fn nothing_is_left_of_a_build_that_succeeded() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.file("x", "").dockerfile("FROM base\nRUN echo x > /x\nCOPY x /y\nADD x /z\nRUN rm /x\n");
    site.build(&[]).success();
    assert_eq!(leftovers(&site), [] as [PathBuf; 0]);
    assert_eq!(traces(&site.store(), "no such word anywhere"), [] as [&str; 0]);
}

/// Starts a build whose RUN sleeps, and waits until it does.
fn sleeping(site: &Site, seconds: &str) -> Child {
    site.dockerfile(&format!("FROM base\nRUN trap '' TERM INT; (sleep {seconds} &) ; echo ready; sleep {seconds}\n"));
    let mut command = site.program(&["--no-cache"]).into_command();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.ends_with(" ready"));
    assert!(ready, "the command did not start");
    // What is still written must not end the program by a closed pipe.
    std::thread::spawn(move || lines.count());
    child
}

/// Waits until a condition holds.
fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let Some(site) = Site::with_base("alpine") else { return };
    for (signal, code, seconds) in [("INT", 130, "54321"), ("TERM", 143, "54322")] {
        let mut child = sleeping(&site, seconds);
        signal_child(&child, signal);
        let begun = Instant::now();
        let status = child.wait().expect("ends");
        assert_eq!(status.code(), Some(code), "{signal}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{signal}: {:?}", begun.elapsed());
        assert_eq!(leftovers(&site), [] as [PathBuf; 0], "{signal}");
        // Processes that were killed end a little later on a busy machine.
        let left = || traces(&site.store(), &format!("sleep {seconds}"));
        assert!(eventually(|| left().is_empty()), "{signal}: {:#?}", left());
    }
    site.dockerfile("FROM base\nRUN true\n");
    site.build(&[]).success();
}

#[test]
fn what_a_killed_build_left_is_put_away_by_the_next() {
    let Some(site) = Site::with_base("alpine") else { return };
    let mut child = sleeping(&site, "65432");
    child.kill().expect("ours");
    child.wait().expect("ends");
    // The command dies with its builder, though nobody told it to.
    assert!(
        eventually(|| traces(&site.store(), "sleep 65432").is_empty()),
        "{:?}",
        traces(&site.store(), "sleep 65432")
    );
    assert!(!leftovers(&site).is_empty(), "a build that is killed can't put away its upper directory");
    site.dockerfile("FROM base\nRUN true\n");
    site.build(&[]).success();
    assert_eq!(leftovers(&site), [] as [PathBuf; 0]);
}

#[test]
fn help_versions_and_completions_are_answers() {
    let site = Site::new();
    let ask = |arguments: &[&str]| Program::new(&site.store()).args(arguments).run().success().stdout;
    for word in ["build", "doctor", "plugin", "tags", "Exit codes", "executor"] {
        assert!(ask(&["--help"]).contains(word), "{word}");
    }
    for flag in [
        "--file",
        "--tag",
        "--target",
        "--build-arg",
        "--build-context",
        "--label",
        "--platform",
        "--output",
        "--push",
        "--no-cache",
        "--progress",
        "--plugin-dir",
        "--policy",
        "--audit-log",
    ] {
        assert!(ask(&["build", "--help"]).contains(flag), "{flag}");
    }
    assert!(ask(&["--version"]).starts_with("cofferdam "));
    let help = site.executor(&["--help"]).run().success().stdout;
    for flag in [
        "--context",
        "--dockerfile",
        "--destination",
        "--build-arg",
        "--target",
        "--label",
        "--no-push",
        "--tar-path",
        "--oci-layout-path",
        "--digest-file",
        "--insecure",
        "--insecure-pull",
        "--insecure-registry",
        "--skip-tls-verify",
        "--skip-tls-verify-pull",
        "--verbosity",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(ask(&["completions", shell]).contains("cofferdam"), "{shell}");
    }
    let doctor: serde_json::Value = serde_json::from_str(&ask(&["doctor", "--json"])).expect("JSON");
    assert!(doctor["findings"].as_array().is_some_and(|findings| findings.len() > 3), "{doctor}");
}

/// What Kaniko's users keep in their pipelines: names in files, flags without an effect here, flags that are refused.
#[test]
fn kanikos_records_name_what_was_built() {
    let site = simple();
    let output = site.path().join("output");
    fs::create_dir(&output).expect("writable");
    let arguments = [
        "--context=dir://context",
        "--destination=registry.example:5000/team/app:1",
        "--destination=registry.example:5000/team/app:latest",
        "--no-push=true",
        "--image-name-with-digest-file=names",
        "--image-name-tag-with-digest-file=tags",
        "--snapshot-mode=redo",
        "--use-new-run",
        "--force",
        "--cleanup=false",
        "--compressed-caching=false",
        "--reproducible",
        "--compression=gzip",
        "--single-snapshot=false",
    ];
    let built = site.executor(&arguments).env("BUILDER_OUTPUT", &output).run().success();
    let digest = built.digest();
    let read = |name: &str| fs::read_to_string(site.path().join(name)).expect("written");
    let name = "registry.example:5000/team/app";
    assert_eq!(read("names"), format!("{name}@{digest}\n").repeat(2));
    assert_eq!(read("tags"), format!("{name}:1@{digest}\n{name}:latest@{digest}\n"));
    let images = read("output/images");
    let first: serde_json::Value = serde_json::from_str(images.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first, serde_json::json!({ "name": format!("{name}:1"), "digest": digest }));
}

/// A push that would fail at its end fails at its beginning, before anything is built.
#[test]
fn the_permission_to_push_is_checked_first() {
    let site = simple();
    let arguments = ["--context=context", "--destination=127.0.0.1:1/team/app", "--push-retry=0"];
    let refused = site.executor(&arguments).run();
    assert!(!refused.stderr.contains("COPY"), "{}", refused.stderr);
    assert!(refused.stderr.contains("127.0.0.1:1/team/app"), "{}", refused.stderr);
    assert_ne!(refused.code, 0);
}

#[test]
fn commands_see_the_hosts_and_the_network_that_they_are_given() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nRUN grep first.example /etc/hosts > /hosts || echo none > /hosts\nRUN tail -n +3 /proc/net/dev | wc -l > /devices\nRUN --network=host echo as it says > /said\n");
    let plain = site.image(&[]);
    assert_eq!(plain.content("/hosts"), "none\n");
    let hosts = ["--add-host", "first.example:10.1.2.3", "--add-host", "first.example=[fd00::1]"];
    let with_hosts = site.image(&hosts);
    assert_eq!(with_hosts.content("/hosts"), "10.1.2.3\tfirst.example\nfd00::1\tfirst.example\n");
    let without_network = site.image(&["--network", "none"]);
    let devices = |image: &Image| image.content("/devices").trim().parse::<u32>().expect("a number");
    assert!(devices(&without_network) <= 1 && devices(&plain) >= 1);
    // What another build was given does not show.
    assert_eq!(site.image(&[]).content("/hosts"), "none\n");
    for (flag, value) in
        [("--shm-size", "1g"), ("--ulimit", "nofile=1024"), ("--add-host", "a:host-gateway"), ("--network", "bridge")]
    {
        let refused = site.build(&[flag, value]);
        assert!(refused.code == 2 && refused.stderr.contains(flag), "{flag}: {}", refused.stderr);
    }
}
