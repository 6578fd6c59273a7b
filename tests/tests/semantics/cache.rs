//! What is not done again.

use std::{fs, process::Command};

use cofferdam_tests::{Finished, Site, run};

/// For each step that has an action, whether it came from the cache.
fn steps(built: &Finished) -> Vec<(String, bool)> {
    let lines = || built.stderr.lines();
    let step = |line: &str| -> Option<(String, bool)> {
        let (number, rest) = line.split_once(" [")?;
        let title = rest.split_once("] ")?.1.to_owned();
        if title.starts_with("FROM") || !number.starts_with('#') {
            return None;
        }
        Some((title, lines().any(|line| line == format!("{number} CACHED"))))
    };
    lines().filter_map(step).collect()
}

#[track_caller]
fn assert_cached(built: &Finished, expected: &[bool]) {
    let steps = steps(built);
    let cached: Vec<bool> = steps.iter().map(|(_, cached)| *cached).collect();
    assert_eq!(cached, expected, "{steps:?}");
}

fn site() -> Option<Site> {
    let site = Site::with_base("alpine")?;
    site.file("first", "one").file("second", "two").file("other", "x");
    site.dockerfile(
        "FROM base\nCOPY first /first\nRUN cat /first > /copy\nCOPY second /second\nRUN date +%N > /date\n",
    );
    Some(site)
}

#[test]
fn a_second_build_does_nothing_again() {
    let Some(site) = site() else { return };
    let first = site.build(&[]).success();
    assert_cached(&first, &[false; 4]);
    let second = site.build(&[]).success();
    assert_cached(&second, &[true; 4]);
    assert_eq!(first.digest(), second.digest());
    // Files that no step reads, and times, are no reason to build.
    site.file("other", "changed").file("more", "");
    run(Command::new("touch").args(["-d", "2001-01-01"]).arg(site.context().join("first"))).success();
    assert_cached(&site.build(&[]).success(), &[true; 4]);
}

#[test]
fn a_change_is_felt_from_its_step_on() {
    let Some(site) = site() else { return };
    site.build(&[]).success();
    site.file("second", "changed");
    assert_cached(&site.build(&[]).success(), &[true, true, false, false]);
    site.file("first", "changed");
    assert_cached(&site.build(&[]).success(), &[false; 4]);
    site.mode("second", 0o755);
    assert_cached(&site.build(&[]).success(), &[true, true, false, false]);
    // Back to what was there before: everything is known.
    site.file("first", "one").file("second", "two");
    assert_cached(&site.build(&[]).success(), &[true; 4]);
}

#[test]
fn an_edit_that_keeps_size_and_time_is_seen() {
    let Some(site) = site() else { return };
    let path = site.context().join("first");
    let before = fs::metadata(&path).expect("there").modified().expect("a time");
    let first = site.build(&[]).success();
    let file = fs::File::options().write(true).open(&path).expect("ours");
    std::os::unix::fs::FileExt::write_all_at(&file, b"ONE", 0).expect("writable");
    file.set_modified(before).expect("ours");
    drop(file);
    let second = site.image(&[]);
    assert_eq!((second.content("/first"), second.content("/copy")), ("ONE".into(), "ONE".into()));
    assert_ne!(first.digest(), site.build(&[]).success().digest());
}

#[test]
fn the_cache_can_be_left_aside() {
    let Some(site) = site() else { return };
    site.build(&[]).success();
    assert_cached(&site.build(&["--no-cache"]).success(), &[false; 4]);
    assert_cached(&site.build(&[]).success(), &[true; 4]);
}

#[test]
fn arguments_and_variables_are_part_of_the_key() {
    let Some(site) = Site::with_base("alpine") else { return };
    let text = |value: &str| {
        format!(
            "FROM base\nRUN echo early > /early\nARG VALUE=1\nRUN echo $VALUE > /value\nENV E={value}\nRUN echo $E > /e\n"
        )
    };
    site.dockerfile(&text("1"));
    site.build(&[]).success();
    assert_cached(&site.build(&["--build-arg", "VALUE=1"]).success(), &[true; 3]);
    assert_cached(&site.build(&["--build-arg", "VALUE=2"]).success(), &[true, false, false]);
    assert_eq!(site.image(&["--build-arg", "VALUE=2"]).content("/value"), "2\n");
    assert_cached(&site.build(&[]).success(), &[true; 3]);
    site.dockerfile(&text("2"));
    assert_cached(&site.build(&[]).success(), &[true, true, false]);
}

#[test]
fn the_user_the_directory_and_the_shell_are_part_of_the_key() {
    let Some(site) = Site::with_base("alpine") else { return };
    for before in ["", "USER nobody\n", "WORKDIR /tmp\n", "SHELL [\"/bin/sh\", \"-ec\"]\n", "USER 65534:0\n"] {
        site.dockerfile(&format!("FROM base\n{before}RUN id > /tmp/id; pwd > /tmp/pwd\n"));
        let built = site.build(&[]).success();
        let (title, cached) = steps(&built).pop().expect("a step");
        assert!(title.starts_with("RUN id") && !cached, "{before}: {title}");
    }
}

#[test]
fn a_stage_that_was_rebuilt_with_the_same_result_invalidates_nothing() {
    let Some(site) = Site::with_base("alpine") else { return };
    let text = |comment: &str| {
        format!(
            "FROM base AS build\nRUN echo result > /out # {comment}\nFROM base\nCOPY --from=build /out /out\nRUN date +%N > /date\n"
        )
    };
    site.dockerfile(&text("one"));
    let first = site.build(&[]).success();
    site.dockerfile(&text("two"));
    let second = site.build(&[]).success();
    assert_eq!(first.digest(), second.digest(), "the command after the copy was not repeated");
    let steps = steps(&second);
    let cached = |start: &str| steps.iter().find(|(title, _)| title.starts_with(start)).expect("a step").1;
    assert!(!cached("RUN echo result") && cached("COPY --from=build") && cached("RUN date"), "{steps:?}");
}

#[test]
fn builds_at_the_same_time_share_a_store() {
    let Some(site) = site() else { return };
    std::thread::scope(|scope| {
        let start = |_| {
            let program = site.program(&[]);
            scope.spawn(move || program.run())
        };
        let builds: Vec<_> = (0..4).map(start).collect();
        for build in builds {
            build.join().expect("no panic").success();
        }
    });
    // Each may have run its own `date`; afterwards there is one answer for everybody.
    assert_cached(&site.build(&[]).success(), &[true; 4]);
}

/// Builds, and tells how many bytes the builder and everything that it started have read.
fn bytes_read(site: &Site) -> (Finished, u64) {
    let program = site.program(&[]).into_command();
    let mut shell = Command::new("sh");
    // The shell's own account has what its children, reaped, have read.
    shell.args(["-c", r#""$@"; code=$?; cat /proc/$$/io >&2; exit $code"#, "sh"]).arg(program.get_program());
    shell.args(program.get_args()).env_clear().current_dir(site.path());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let built = run(&mut shell).success();
    let line = built.stderr.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("/proc/PID/io");
    let bytes = line.parse().expect("a number");
    (built, bytes)
}

#[test]
fn a_file_that_did_not_change_for_a_minute_is_not_read_again_and_an_edit_in_place_is_seen() {
    const SIZE: usize = 8 << 20;
    let site = Site::new();
    if run(Command::new("stat").args(["-f", "-c", "%T"]).arg(site.path())).success().stdout.trim() == "tmpfs" {
        return cofferdam_tests::skip("files on a tmpfs are read in every build: TMPDIR is one");
    }
    site.file("large", vec![b'a'; SIZE]).file("small", "1").dockerfile("FROM scratch\nCOPY . /\n");
    let path = site.context().join("large");
    let before = fs::metadata(&path).expect("there").modified().expect("a time");
    // Times of files that just changed say nothing yet: their hashes are not kept.
    std::thread::sleep(std::time::Duration::from_secs(62));
    site.file("small", "2");
    let (first, read) = bytes_read(&site);
    assert!(read >= SIZE as u64, "{read} bytes read, which can't be");
    let (second, read) = bytes_read(&site);
    assert_eq!(first.digest(), second.digest());
    assert!(read < SIZE as u64 / 4, "{read} bytes read again");

    let file = fs::File::options().write(true).open(&path).expect("ours");
    std::os::unix::fs::FileExt::write_all_at(&file, b"b", SIZE as u64 - 1).expect("writable");
    file.set_modified(before).expect("ours");
    drop(file);
    let third = site.image(&[]);
    assert!(third.content("/large").ends_with("ab"), "the edit was not seen");
}

#[test]
fn a_step_with_an_edited_file_gives_the_image_of_an_empty_store() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nCOPY . /data/\n");
    // Words in an order that is not the same twice, so that there is something to compress: 3 MB in all.
    let text = |seed: u64, words: u64| -> String {
        (0..words).map(|n| format!("{:x} ", (n + seed * 7919).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40)).collect()
    };
    for n in 0..300 {
        site.file(&format!("source/file-{n}"), text(n, 1500));
    }
    let first = site.build(&[]).success();
    let indexes = || fs::read_dir(site.store().join("block-indexes")).expect("the store has them").count();
    assert_eq!(indexes(), 1);
    site.file("source/file-150", text(150, 2000)).file("source/new", "new");
    let edited = site.build(&[]).success();
    assert_ne!(edited.digest(), first.digest());
    assert_eq!(indexes(), 1, "there is one for the step");
    let elsewhere = site.path().join("another-store");
    let fresh = site.build(&["--store", elsewhere.to_str().expect("UTF-8")]).success();
    assert_eq!(edited.digest(), fresh.digest());
    // Whatever became of the blob and of its index.
    for entry in fs::read_dir(site.store().join("blobs/sha256")).expect("the store has blobs") {
        let path = entry.expect("listed").path();
        let bytes = fs::read(&path).expect("a blob");
        if bytes.len() > 100_000 {
            fs::write(&path, &bytes[..bytes.len() / 2]).expect("ours");
        }
    }
    site.file("source/newer", "newer");
    let damaged = site.build(&[]).success();
    let fresh = site.build(&["--store", elsewhere.to_str().expect("UTF-8")]).success();
    assert_eq!(damaged.digest(), fresh.digest());
}

#[test]
fn modes_of_directories_that_parents_keeps_are_seen() {
    if !cofferdam_tests::is_root() {
        cofferdam_tests::skip("owners can be unpacked as root only");
        return;
    }
    let site = Site::new();
    site.file("a/b/file", "f").file("other/x", "").mode("a/b", 0o750);
    site.dockerfile(
        "FROM scratch\nCOPY --parents a/b/file /literal/\nCOPY --parents a/*/f* /pattern/\nCOPY other /other\n",
    );
    let image = site.image(&[]);
    assert_eq!(
        (image.entry("/literal/a/b"), image.entry("/pattern/a/b")),
        ("dir 750 0:0".into(), "dir 750 0:0".into())
    );
    assert_cached(&site.build(&[]).success(), &[true; 3]);
    site.mode("a", 0o711);
    assert_cached(&site.build(&[]).success(), &[false; 3]);
    let image = site.image(&[]);
    assert_eq!((image.entry("/literal/a"), image.entry("/pattern/a")), ("dir 711 0:0".into(), "dir 711 0:0".into()));
    // A directory that is above nothing that is read does not count, nor does the context itself.
    site.mode("other", 0o700).mode(".", 0o711);
    assert_cached(&site.build(&[]).success(), &[true, true, false]);
}

#[test]
fn a_mount_of_a_whole_stage_shows_the_times_that_it_has_now() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base AS parts\nARG TIME\nRUN touch -d @$TIME /file\n\
         FROM base\nRUN --mount=from=parts,target=/parts stat -c %Y /parts/file > /time\n",
    );
    assert_eq!(site.image(&["--build-arg", "TIME=1000"]).content("/time"), "1000\n");
    assert_eq!(site.image(&["--build-arg", "TIME=2000"]).content("/time"), "2000\n");
    assert_cached(&site.build(&["--build-arg", "TIME=1000"]).success(), &[true]);
}

#[test]
fn what_a_step_warned_of_is_told_again_when_it_is_found() {
    let site = Site::new();
    site.file("one.txt", "1");
    site.dockerfile("FROM scratch\nCOPY *.md /x/\n");
    for cached in [false, true] {
        let built = site.build(&[]).success();
        assert_eq!(built.stderr.contains("CACHED"), cached, "{}", built.stderr);
        assert!(built.stderr.contains("matches nothing in the build context (CopyMatchesNothing)"), "{}", built.stderr);
    }
}
