//! The same input gives the same digest, whoever builds it, where, when, and with which privileges.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use cofferdam_tests::{
    Environment, Finished, Lab, Program, base, binary, document, is_root, read_json, repository_root, run, skip, tool,
};

const WITHOUT_RUN: &str = "\
FROM scratch AS parts
COPY . /all/
FROM base
ARG VERSION=1
ENV APP=/app VERSION=$VERSION
LABEL org.opencontainers.image.title=example
WORKDIR /app/work
COPY --chmod=640 settings.txt ./
COPY --chown=12:34 source /app/source
COPY --from=parts /all/source/deep /app/deep
ADD settings.txt link /app/added/
EXPOSE 80
USER nobody
CMD [\"/bin/sh\"]
";

/// Makes, changes and removes entries, each in a directory that the base has.
const WITH_RUN: &str = "\
FROM base AS made
WORKDIR /work
COPY . .
RUN mkdir -m 750 made && cat settings.txt > made/settings && ln -s settings made/link && ln made/settings made/second
RUN chmod 700 source && rm -r source/deep && echo changed >> settings.txt && rm /etc/group && echo hi > /tmp/left
FROM base
COPY --from=made /work /work
RUN rm -r /work/made && mkdir /work/made && echo new > /work/made/file
";

/// How one of the builds differs from the others.
#[derive(Clone, Copy)]
struct Way {
    /// Another user than the one that runs the tests.
    uid: Option<u32>,
    umask: &'static str,
    /// Whether the context's files are made in the opposite order.
    backwards: bool,
    executor: Option<&'static str>,
}

const PLAIN: Way = Way { uid: None, umask: "022", backwards: false, executor: None };
const ODD: Way = Way { uid: None, umask: "077", backwards: true, executor: None };
const SOMEBODY_ELSE: Way = Way { uid: Some(65534), ..ODD };

/// A build in a directory of its own, with an empty store.
struct Place {
    directory: tempfile::TempDir,
    way: Way,
}

impl Place {
    fn new(way: Way, dockerfile: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("cofferdam-same").tempdir().expect("a temporary directory");
        let place = Self { directory, way };
        // Named apart in length too: nothing may depend on where the context is.
        let context = place.context();
        lay_out(&context, dockerfile, way.backwards);
        fs::set_permissions(place.directory.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        if let Some(uid) = way.uid {
            give_away(place.directory.path(), uid);
        }
        run(place.by_user(&repository_root().join("scripts/hello-base.sh")).arg(place.base())).success();
        place
    }

    fn context(&self) -> PathBuf {
        self.directory.path().join(if self.way.backwards { "here/is/another/context" } else { "context" })
    }

    fn base(&self) -> PathBuf {
        self.directory.path().join("base")
    }

    fn layout(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// A program as this way's user, with its umask.
    fn by_user(&self, program: &Path) -> Command {
        let set_umask = format!("umask {}; exec \"$0\" \"$@\"", self.way.umask);
        let mut command = match self.way.uid {
            None => Command::new("/bin/sh"),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                let uid = uid.to_string();
                command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "/bin/sh"]);
                command
            }
        };
        command.args(["-c", &set_umask]).arg(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.directory.path());
        command.current_dir(self.directory.path());
        command
    }

    fn build(&self, change: impl FnOnce(&mut Command)) -> Finished {
        let mut command = self.by_user(binary());
        command.env("COFFERDAM_STORE", self.directory.path().join("store")).arg("build");
        command.arg("--build-context").arg(format!("base={}", self.base().display()));
        command.arg("--output").arg(format!("type=oci,tar=false,dest={}", self.layout().display()));
        if let Some(executor) = self.way.executor {
            command.args(["--executor", executor]);
        }
        change(&mut command);
        run(command.arg(self.context()))
    }

    /// `created` of the image and of its history, each once.
    fn created(&self) -> Vec<String> {
        let layout = self.layout();
        let index = read_json(&layout.join("index.json"));
        let digest = |value: &serde_json::Value| value["digest"].as_str().expect("a digest").to_owned();
        let manifest = document(&layout, &digest(&index["manifests"][0]));
        let config = document(&layout, &digest(&manifest["config"]));
        let history = config["history"].as_array().expect("a history").iter().map(|entry| &entry["created"]);
        let mut created: Vec<String> = std::iter::once(&config["created"])
            .chain(history)
            .map(|moment| moment.as_str().unwrap_or("none").to_owned())
            .collect();
        created.sort();
        created.dedup();
        created
    }

    /// The times of all entries of the image's last layer, each once, as `tar` shows them.
    fn times_of_last_layer(&self) -> Vec<String> {
        let layout = self.layout();
        let index = read_json(&layout.join("index.json"));
        let manifest = document(&layout, index["manifests"][0]["digest"].as_str().expect("a digest"));
        let last = manifest["layers"].as_array().and_then(|layers| layers.last()).expect("a layer");
        let blob = layout.join("blobs").join(last["digest"].as_str().expect("a digest").replace(':', "/"));
        let listed = run(Command::new("tar").args(["--utc", "--full-time", "-tvzf"]).arg(blob)).success().stdout;
        let time = |line: &str| line.split_whitespace().skip(3).take(2).collect::<Vec<_>>().join(" ");
        let mut times: Vec<String> = listed.lines().map(time).collect();
        assert!(!times.is_empty());
        times.sort();
        times.dedup();
        times
    }
}

/// The context. What is part of the input, names, bytes, modes and links, is always the same.
fn lay_out(context: &Path, dockerfile: &str, backwards: bool) {
    fs::create_dir_all(context).expect("writable");
    let mut entries: Vec<(&str, Option<&str>, u32)> = vec![
        ("Dockerfile", Some(dockerfile), 0o644),
        ("settings.txt", Some("colour=blue\n"), 0o644),
        ("source", None, 0o755),
        ("source/b.txt", Some("b\n"), 0o600),
        ("source/a.sh", Some("#!/bin/sh\n"), 0o755),
        ("source/.hidden", Some(""), 0o644),
        ("source/deep", None, 0o775),
        ("source/deep/z", Some("z"), 0o664),
        ("source/deep/y", Some("y"), 0o640),
    ];
    if backwards {
        entries.reverse();
        symlink("settings.txt", context.join("link")).expect("writable");
    }
    for (name, content, _) in &entries {
        let path = context.join(name);
        match content {
            Some(content) => {
                fs::create_dir_all(path.parent().expect("not the root")).expect("writable");
                fs::write(&path, content).expect("writable");
            }
            None => fs::create_dir_all(&path).expect("writable"),
        }
    }
    for (name, _, mode) in &entries {
        fs::set_permissions(context.join(name), PermissionsExt::from_mode(*mode)).expect("ours");
    }
    if !backwards {
        symlink("settings.txt", context.join("link")).expect("writable");
    }
    fs::set_permissions(context, PermissionsExt::from_mode(0o755)).expect("ours");
}

fn give_away(path: &Path, uid: u32) {
    lchown(path, Some(uid), Some(uid)).expect("root may");
    if path.symlink_metadata().expect("it exists").is_dir() {
        for entry in fs::read_dir(path).expect("readable") {
            give_away(&entry.expect("readable").path(), uid);
        }
    }
}

fn later() {
    std::thread::sleep(Duration::from_secs(2));
}

/// Whether a way can be gone on this machine.
fn is_possible(way: Way, with_run: bool) -> bool {
    if way.uid.is_some() && !is_root() {
        skip("building as another user needs root");
        return false;
    }
    let mut command = match way.uid {
        Some(uid) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &uid.to_string(), "--clear-groups", "unshare"]);
            command
        }
        None => Command::new("unshare"),
    };
    let needs_namespace = with_run && (way.uid.is_some() || way.executor == Some("userns") || !is_root());
    if needs_namespace && run(command.args(["--user", "--map-root-user", "--mount", "true"])).code != 0 {
        skip("this user may not make user namespaces");
        return false;
    }
    true
}

#[test]
fn without_run_nothing_but_the_input_counts() {
    let first = Place::new(PLAIN, WITHOUT_RUN).build(|_| {}).success().digest();
    later();
    for way in [ODD, SOMEBODY_ELSE] {
        if is_possible(way, false) {
            let digest = Place::new(way, WITHOUT_RUN).build(|_| {}).success().digest();
            assert_eq!(digest, first, "uid {:?}, umask {}", way.uid, way.umask);
        }
    }
    // What is part of the input does count.
    let other = Place::new(PLAIN, WITHOUT_RUN);
    fs::set_permissions(other.context().join("source/b.txt"), PermissionsExt::from_mode(0o644)).expect("ours");
    assert_ne!(other.build(|_| {}).success().digest(), first, "a mode was lost");
}

#[test]
fn with_run_nothing_but_the_input_counts() {
    if !is_possible(PLAIN, true) {
        return;
    }
    let first = Place::new(PLAIN, WITH_RUN).build(|_| {}).success().digest();
    later();
    for way in [ODD, Way { executor: Some("userns"), ..PLAIN }, SOMEBODY_ELSE] {
        if is_possible(way, true) {
            let digest = Place::new(way, WITH_RUN).build(|_| {}).success().digest();
            assert_eq!(digest, first, "uid {:?}, umask {}, executor {:?}", way.uid, way.umask, way.executor);
        }
    }
}

#[test]
fn results_of_earlier_builds_make_no_difference() {
    if !is_possible(PLAIN, true) {
        return;
    }
    let place = Place::new(PLAIN, WITH_RUN);
    let fresh = place.build(|_| {}).success().digest();
    later();
    let cached = place.build(|command| {
        command.args(["--progress", "json"]);
    });
    let cached = cached.success();
    assert!(cached.stderr.contains(r#""ending":"cached""#), "nothing was taken from the cache\n{}", cached.stderr);
    assert_eq!(cached.digest(), fresh);
    let again = place.build(|command| {
        command.arg("--no-cache");
    });
    assert_eq!(again.success().digest(), fresh);
    // Only the first RUN comes from the cache: what follows sees the same tree as if it had just been run.
    let changed = WITH_RUN.replace("echo changed", "echo  changed");
    fs::write(place.context().join("Dockerfile"), &changed).expect("writable");
    let continued = place.build(|_| {}).success().digest();
    assert_eq!(continued, Place::new(PLAIN, &changed).build(|_| {}).success().digest());
}

/// A layer that only another stage reads is stored as it is; in an image it is compressed.
#[test]
fn a_stage_that_was_built_for_another_one_makes_the_same_image() {
    if !is_possible(PLAIN, true) {
        return;
    }
    let place = Place::new(PLAIN, WITH_RUN);
    place.build(|_| {}).success();
    let of_stage = |place: &Place| {
        place.build(|command| {
            command.args(["--target", "made", "--progress", "json"]);
        })
    };
    let before = of_stage(&place).success();
    assert!(before.stderr.contains(r#""ending":"cached""#), "nothing was taken from the cache\n{}", before.stderr);
    let empty = Place::new(PLAIN, WITH_RUN);
    assert_eq!(before.digest(), of_stage(&empty).success().digest());
    // What the store has of its layers is damaged: the steps are carried out again.
    let damaged = Place::new(PLAIN, WITH_RUN);
    damaged.build(|_| {}).success();
    let blobs = damaged.directory.path().join("store/blobs/sha256");
    for blob in fs::read_dir(blobs).expect("a store").map(|entry| entry.expect("readable").path()) {
        let mut bytes = fs::read(&blob).expect("readable");
        if bytes.len() > 512 && bytes[257..262] == *b"ustar" {
            let end = bytes.len() - 1;
            bytes[end] ^= 1;
            fs::set_permissions(&blob, PermissionsExt::from_mode(0o644)).expect("ours");
            fs::write(&blob, bytes).expect("writable");
        }
    }
    assert_eq!(of_stage(&damaged).success().digest(), before.digest());
}

#[test]
fn privileges_of_the_runner_make_no_difference() {
    let Some(alpine) = base("alpine") else { return };
    let mut digests = Vec::new();
    for environment in [Environment::Native, Environment::Userns, Environment::UsernsSingleId] {
        let Some(lab) = Lab::new() else { return };
        lay_out(&lab.work().join("context"), WITH_RUN, environment != Environment::Native);
        give_away(&lab.work().join("context"), environment.uid());
        let text = format!(
            "COFFERDAM_STORE=/x/store {} build --build-context base=oci-layout:///base:latest /x/context",
            Lab::PROGRAM
        );
        let built = lab.shell(environment, &[format!("{}:/base:ro", alpine.display())], &text).success();
        digests.push((environment, built.digest()));
    }
    assert!(digests.iter().all(|(_, digest)| *digest == digests[0].1), "{digests:?}");
}

#[test]
fn source_date_epoch_is_the_time_of_everything() {
    let place = Place::new(PLAIN, WITHOUT_RUN);
    let without = place.build(|_| {}).success().digest();
    assert_eq!(place.created(), ["1970-01-01T00:00:00Z"]);
    assert_eq!(place.times_of_last_layer(), ["1970-01-01 00:00:00"]);
    for by_argument in [false, true] {
        fs::remove_dir_all(place.layout()).expect("it was written");
        let built = place.build(|command| {
            match by_argument {
                false => command.env("SOURCE_DATE_EPOCH", "1700000000"),
                true => command.args(["--build-arg", "SOURCE_DATE_EPOCH=1700000000"]),
            };
        });
        assert_ne!(built.success().digest(), without);
        assert_eq!(place.created(), ["2023-11-14T22:13:20Z"]);
        assert_eq!(place.times_of_last_layer(), ["2023-11-14 22:13:20"]);
    }
    let wrong = place.build(|command| {
        command.env("SOURCE_DATE_EPOCH", "yesterday");
    });
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
}

#[test]
fn a_git_context_has_the_time_of_its_commit() {
    let Some(git) = tool("git") else { return };
    if !is_possible(PLAIN, true) {
        return;
    }
    let place = Place::new(PLAIN, WITH_RUN);
    let commit = |place: &Place, arguments: &[&str], time: &str| {
        let mut command = Command::new(&git);
        command.current_dir(place.context()).args(["-c", "user.name=A", "-c", "user.email=a@example.org"]);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", place.directory.path());
        command.env("GIT_AUTHOR_DATE", "1500000000 +0000").env("GIT_COMMITTER_DATE", time);
        run(command.args(arguments)).success();
    };
    // The repository's own files are no part of the image: they hold the times of this machine.
    fs::write(place.context().join(".dockerignore"), ".git\n").expect("writable");
    commit(&place, &["init", "--quiet"], "");
    commit(&place, &["add", "."], "");
    commit(&place, &["commit", "--quiet", "--message", "First"], "1600000000 +0200");
    place.build(|_| {}).success();
    assert_eq!(place.created(), ["2020-09-13T12:26:40Z"]);

    // What an earlier build left in the store must not show: the image of a commit is the same with an empty one.
    commit(&place, &["commit", "--quiet", "--allow-empty", "--message", "Second"], "1600001000 +0200");
    let with_results = place.build(|_| {}).success().digest();
    for name in ["store", "image"] {
        fs::remove_dir_all(place.directory.path().join(name)).expect("it was written");
    }
    let with_empty_store = place.build(|_| {}).success().digest();
    assert_eq!(with_results, with_empty_store);
    assert_eq!(place.created(), ["2020-09-13T12:43:20Z"]);
}

#[test]
fn real_times_are_the_clocks() {
    let place = Place::new(PLAIN, WITHOUT_RUN);
    let build = || {
        place.build(|command| {
            command.args(["--timestamps", "real", "--no-cache"]);
        })
    };
    let first = build().success().digest();
    let year = Program::called(Path::new("/bin/date"), place.directory.path()).args(["-u", "+%Y-"]).run().stdout;
    assert!(place.created().iter().all(|created| created.starts_with(year.trim())), "{:?}", place.created());
    later();
    fs::remove_dir_all(place.layout()).expect("it was written");
    assert_ne!(build().success().digest(), first);
    // Layers with the clock's times are no results for builds that promise other ones.
    let in_used_store = place.build(|_| {}).success().digest();
    assert_eq!(in_used_store, Place::new(PLAIN, WITHOUT_RUN).build(|_| {}).success().digest());
}
