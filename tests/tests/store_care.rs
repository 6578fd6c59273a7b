//! Looking after the store: `cofferdam store check` finds what is broken and nothing else, `cofferdam prune` makes room and
//! disturbs nobody.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use cofferdam_tests::{Finished, Program, Site, signal_child};
use serde_json::Value;

/// A store in which a build has left some of everything.
struct Scene {
    site: Site,
    digest: String,
}

const NAME: &str = "example/app:1";

impl Scene {
    fn new() -> Option<Self> {
        let site = Site::with_base("alpine")?;
        // Large enough for a recipe to keep which blocks its layer has.
        let lines: String = (0..500_000).map(|number| format!("line {number}\n")).collect();
        site.file("file", "content\n").file("large", lines).dockerfile(
            "FROM base AS builder
COPY file /source
RUN --mount=type=cache,target=/kept cat /source /source > /built && echo more >> /kept/file
FROM base
COPY --from=builder /built /app
COPY large /large
RUN rm /etc/motd; mkdir -p /etc/deep/er && ln -s /app /etc/deep/link && echo done > /done
",
        );
        let mut scene = Self { site, digest: String::new() };
        scene.digest = scene.build();
        Some(scene)
    }

    fn build(&self) -> String {
        self.site.build(&["-t", NAME]).success().digest()
    }

    fn store(&self) -> PathBuf {
        self.site.store()
    }

    fn program(&self, arguments: &[&str]) -> Program {
        Program::new(&self.store()).args(arguments)
    }

    fn check(&self, arguments: &[&str]) -> (Finished, Value) {
        let finished = self.program(&[&["store", "check", "--format", "json"], arguments].concat()).run();
        let answer = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.stderr));
        (finished, answer)
    }

    fn expect_sound(&self) {
        let (checked, answer) = self.check(&[]);
        assert_eq!((checked.code, &answer["sound"]), (0, &Value::Bool(true)), "{answer:#}");
        assert_eq!(answer["findings"], Value::Array(Vec::new()));
    }

    fn prune(&self, arguments: &[&str]) -> Value {
        let finished = self.program(&[&["prune", "--format", "json"], arguments].concat()).run().success();
        serde_json::from_str(&finished.stdout).expect("JSON")
    }

    fn files(&self, directory: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut waiting = vec![self.store().join(directory)];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                match entry.file_type().expect("a type").is_dir() {
                    true => waiting.push(entry.path()),
                    false => found.push(entry.path()),
                }
            }
        }
        found.sort();
        found
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("ours");
}

fn named(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|end| end == name)
}

#[test]
fn a_store_that_was_built_in_is_sound() {
    let Some(scene) = Scene::new() else { return };
    scene.expect_sound();
    let text = scene.program(&["store", "check"]).run().success().stdout;
    assert!(text.contains("is sound") && text.contains("unpacked layers") && text.contains("cache mounts"), "{text}");
}

#[test]
fn whatever_is_broken_is_found_and_mended() {
    let Some(scene) = Scene::new() else { return };
    let in_unpacked = |name: &str| {
        let found = scene.files("unpacked").into_iter().find(|path| named(path, name));
        found.unwrap_or_else(|| panic!("no `{name}` among the unpacked layers"))
    };
    let first = |directory: &str| scene.files(directory).into_iter().next().expect("files");
    let record = || scene.files("cache").into_iter().find(|path| !named(path, "file-hashes")).expect("records");
    let damages: &[(&str, &dyn Fn() -> PathBuf)] = &[
        ("a blob", &|| {
            let path = first("blobs");
            flip(&path);
            path
        }),
        ("a blob that was cut", &|| {
            let path = first("blobs");
            let bytes = fs::read(&path).expect("there");
            fs::write(&path, &bytes[..bytes.len() / 2]).expect("ours");
            path
        }),
        ("an index", &|| {
            let path = first("indexes");
            flip(&path);
            path
        }),
        ("a recipe", &|| {
            let path = first("block-indexes");
            flip(&path);
            path
        }),
        ("a result", &|| {
            let path = record();
            flip(&path);
            path
        }),
        ("a file of a layer", &|| {
            let path = in_unpacked("done");
            fs::write(&path, "dine\n").expect("ours");
            path
        }),
        ("a file too many", &|| {
            let path = in_unpacked("done").with_file_name("intruder");
            fs::write(&path, "").expect("ours");
            path
        }),
        ("a file too few", &|| {
            let path = in_unpacked("done");
            fs::remove_file(&path).expect("ours");
            path
        }),
    ];
    for (what, damage) in damages {
        scene.expect_sound();
        let path = damage();
        let (found, answer) = scene.check(&[]);
        let findings = answer["findings"].as_array().expect("findings");
        let finding = findings.iter().find(|finding| path.starts_with(finding["path"].as_str().expect("a path")));
        assert!(found.code == 1 && finding.is_some(), "{what}: {}: {answer:#}", path.display());
        let (mended, answer) = scene.check(&["--repair"]);
        assert_eq!(mended.code, 0, "{what}: {answer:#}");
        scene.expect_sound();
        assert_eq!(scene.build(), scene.digest, "{what}");
        // What nothing needed is made again for the next one.
        assert_eq!(scene.site.build(&["--no-cache", "-t", NAME]).success().digest(), scene.digest, "{what}");
    }
}

#[test]
fn room_is_made_by_size_and_age() {
    let Some(scene) = Scene::new() else { return };
    let before = scene.files("");
    let would = scene.prune(&["--dry-run", "--all"]);
    assert!(would["freed-bytes"].as_u64() > Some(1 << 20), "{would:#}");
    assert_eq!(
        scene.files("blobs"),
        before.iter().filter(|path| path.starts_with(scene.store().join("blobs"))).cloned().collect::<Vec<_>>()
    );
    // Nothing is old.
    assert_eq!(scene.prune(&["--filter", "until=1h"])["freed-bytes"], 0);
    assert_eq!(scene.prune(&["--older-than", "1h", "--all", "--max-used-space", "0"])["freed-bytes"], 0);
    let all = scene.prune(&["--max-used-space", "100g", "--all"]);
    assert_eq!(all["freed-bytes"], 0, "{all:#}");
    // The image has a name: its blobs stay, and so it can still be written.
    let some = scene.prune(&[]);
    assert!(some["freed-bytes"].as_u64() > Some(0) && some["images"] == Value::Array(Vec::new()), "{some:#}");
    assert!(scene.files("unpacked").iter().all(|path| named(path, "boot") || path.extension().is_some()));
    assert!(!scene.files("blobs").is_empty());
    scene.expect_sound();
    assert_eq!(scene.build(), scene.digest);
    let none = scene.prune(&["--all"]);
    assert_eq!(none["images"][0]["name"], NAME, "{none:#}");
    assert_eq!((none["kept-bytes"].as_u64(), scene.files("blobs").len()), (Some(0), 0), "{none:#}");
    // Nobody else is at work: not even locks are left.
    assert!(scene.files("cache-mounts").is_empty() && scene.files("unpacked").iter().all(|path| named(path, "boot")));
    scene.expect_sound();
    assert_eq!(scene.build(), scene.digest);
    // What was used last stays.
    let half = none["freed-bytes"].as_u64().expect("a number") / 2;
    let kept = scene.prune(&["--all", "--keep-storage", &half.to_string()]);
    assert!(kept["kept-bytes"].as_u64() <= Some(half) && kept["kept-bytes"].as_u64() > Some(0), "{kept:#}");
    scene.expect_sound();
    assert_eq!(scene.build(), scene.digest);
    for wrong in [&["--filter", "label=x"][..], &["--older-than", "yesterday"], &["--max-used-space", "much"]] {
        assert_eq!(scene.program(&[&["prune"], wrong].concat()).run().code, 2, "{wrong:?}");
    }
}

#[test]
fn a_running_builder_keeps_what_it_has_seen() {
    let Some(scene) = Scene::new() else { return };
    let text = fs::read_to_string(scene.site.context().join("Dockerfile")).expect("written");
    let slow = format!(
        "{text}RUN touch /started; i=0; while [ $i -lt 40 ]; do sleep 0.1; i=$((i+1)); done; cat /app /done > /both\n"
    );
    scene.site.dockerfile(&slow);
    let mut command = scene.site.program(&["-t", "slow", "--progress", "plain"]).into_command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("started");
    let begun = Instant::now();
    while !scene.program(&["prune", "--dry-run"]).run().success().stdout.contains("at work") {
        assert!(begun.elapsed() < Duration::from_secs(30), "no builder is seen");
        thread::sleep(Duration::from_millis(50));
    }
    // It has found the steps that it knows, and is in the last one.
    thread::sleep(Duration::from_secs(2));
    let pruned = scene.prune(&["--all"]);
    assert_eq!(pruned["builders"], 1, "{pruned:#}");
    assert!(pruned["used-bytes"].as_u64() > Some(1 << 20), "{pruned:#}");
    let finished: Finished = child.wait_with_output().expect("ended").into();
    let digest = finished.success().digest();
    scene.expect_sound();
    // The same image as without all that.
    let _ = scene.prune(&["--all"]);
    assert_eq!(scene.site.build(&["-t", "slow"]).success().digest(), digest);
    // A builder that was killed holds nothing.
    let mut child = scene
        .site
        .program(&["--no-cache", "-t", "slow"])
        .into_command()
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    thread::sleep(Duration::from_secs(2));
    signal_child(&child, "KILL");
    let _ = child.wait();
    let pruned = scene.prune(&["--all"]);
    assert_eq!((&pruned["builders"], &pruned["kept-bytes"]), (&0.into(), &0.into()), "{pruned:#}");
}
