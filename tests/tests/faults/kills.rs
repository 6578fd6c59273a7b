//! Ctrl-C, SIGTERM and `kill -9` at any moment of a build.

use std::{
    fmt::Write,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cofferdam_tests::{Finished, Registry, is_root, is_short, noise, report, run, signal_child, skip};

use crate::scene::{Scene, names};

/// A build that unpacks, runs, copies, and pushes.
struct Victim {
    scene: Scene,
    registry: Registry,
    /// What it gives.
    digest: String,
    /// How long it takes with an empty store.
    takes: Duration,
    killed: u32,
}

impl Victim {
    fn new() -> Option<Self> {
        if !is_root() {
            skip("RUN is tested as root here");
            return None;
        }
        let registry = Registry::open()?;
        let scene = Scene::with_base()?;
        scene.site.file("file", noise(2_000_000, 3));
        scene.site.dockerfile(&format!(
            "FROM base AS one\nRUN : {mark}; seq 1 20000 > /one; sleep 0.15\nCOPY file /\n\
             FROM base\nRUN : {mark}; sleep 0.1; seq 1 30000 > /two\nCOPY --from=one /one /file /from/\nRUN : {mark}; cat /two /from/one > /three\n",
            mark = scene.mark()
        ));
        let digest = scene.good(&[]);
        std::fs::remove_dir_all(scene.site.store()).expect("ours");
        let mut victim = Self { scene, registry, digest, takes: Duration::ZERO, killed: 0 };
        let begun = Instant::now();
        victim.build().success();
        victim.takes = begun.elapsed();
        Some(victim)
    }

    fn tag(&self) -> String {
        format!("app-{}", self.killed)
    }

    fn arguments(&self) -> [String; 5] {
        let out = format!("type=oci,dest={}", self.scene.site.path().join("out/image.tar").display());
        ["--push".into(), "--tag".into(), format!("{}/{}:1", self.registry.host(), self.tag()), "--output".into(), out]
    }

    fn command(&self) -> Command {
        let _ = std::fs::create_dir(self.scene.site.path().join("out"));
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.scene.program(&arguments).into_command()
    }

    fn build(&self) -> Finished {
        run(&mut self.command())
    }

    /// Starts a build, sends it a signal after a while, and looks at what is left. Says whether it had ended before.
    fn kill(&mut self, signal: &str, after: Duration) -> bool {
        self.killed += 1;
        let child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        thread::sleep(after);
        let sent = Instant::now();
        signal_child(&child, signal);
        let built: Finished = child.wait_with_output().expect("our child").into();
        let case = format!("{signal} after {after:?} of {:?}: {}\n{}", self.takes, built.code, built.stderr);
        assert!(sent.elapsed() < Duration::from_secs(8), "it takes too long to end: {case}");
        let number = match signal {
            "INT" => 2,
            "TERM" => 15,
            _ => 9,
        };
        let ended = built.code == 0;
        assert!(ended || built.code == 128 + number, "{case}");
        assert!(!built.stderr.contains("panicked"), "{case}");
        // Before the first line the program has not yet begun to listen.
        if !ended && signal != "KILL" && built.stderr.contains('#') {
            let errors = built.stderr.lines().filter(|line| line.starts_with("error: "));
            assert_eq!(
                errors.collect::<Vec<_>>(),
                ["error: interrupted; no tag was moved to an incomplete image"],
                "{case}"
            );
        }
        // The tag is there whole, or not at all.
        if self.registry.tags(&self.tag()).is_some_and(|tags| !tags.is_empty()) {
            assert_eq!(self.registry.digest(&format!("{}:1", self.tag())), Some(self.digest.clone()), "{case}");
        }
        let probes = || names(self.scene.site.path()).into_iter().chain(names(&self.scene.site.store()));
        let probes = || probes().filter(|name| name.starts_with(".cofferdam-probe")).collect::<Vec<_>>();
        if signal == "KILL" {
            // Its processes and mounts end with it; its files wait for the next build.
            let begun = Instant::now();
            let left = || self.scene.left(&self.scene.site.store());
            while left().iter().any(|left| left.starts_with("process") || left.contains(" - ")) {
                assert!(begun.elapsed() < Duration::from_secs(10), "{:#?} {case}", left());
                thread::sleep(Duration::from_millis(10));
            }
        } else if ended || built.stderr.contains('#') {
            self.scene.nothing_left(&self.scene.site.store());
            assert_eq!(probes(), Vec::<String>::new(), "{case}");
        }
        let next = self.build();
        assert_eq!(next.code, 0, "the next build: {}\nafter {case}", next.stderr);
        assert_eq!(next.digest(), self.digest, "after {case}");
        assert_eq!(self.registry.digest(&format!("{}:1", self.tag())), Some(self.digest.clone()), "{case}");
        self.scene.nothing_left(&self.scene.site.store());
        assert_eq!(
            (probes(), names(&self.scene.site.path().join("out"))),
            (vec![], vec!["image.tar".into()]),
            "{case}"
        );
        ended
    }

    /// Signals at moments over the whole build, each in an empty store or in one that knows the results.
    fn sweep(&mut self, moments: u32, signals: &[&str]) -> u32 {
        let mut in_time = 0;
        for number in 0..moments {
            let signal = signals[number as usize % signals.len()];
            let store = self.scene.site.store();
            if number % 5 != 4 {
                std::fs::remove_dir_all(&store).expect("ours");
            }
            let after = self.takes * (number + 1) / (moments + 1);
            in_time += u32::from(!self.kill(signal, after));
        }
        in_time
    }
}

#[test]
fn a_build_that_is_killed_at_any_moment_leaves_nothing_that_harms_the_next() {
    let Some(mut victim) = Victim::new() else { return };
    let in_time = victim.sweep(15, &["INT", "KILL", "TERM"]);
    assert!(in_time >= 5, "{in_time} of 15 were in time");
}

#[test]
fn a_push_that_hangs_ends_with_the_signal() {
    use cofferdam_tests::fault_proxy::{Fault, Rules, When};
    let Some(scene) = crate::scene::RegistryScene::new() else { return };
    for (method, path) in [("PUT", "/v2/app/blobs/uploads/*"), ("PUT", "/v2/app/manifests/1"), ("GET", "/v2/library/*")]
    {
        let proxy = scene.proxy(Rules::new().on(method, path, When::Always, Fault::StallRequest));
        let (file, tag) = (scene.from(&proxy.host()), format!("{}/app:1", proxy.host()));
        let store = scene.store(method);
        let program = scene.scene.program_in(&store, &["-f", &file, "--push", "--tag", &tag]);
        let mut child =
            program.into_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let begun = Instant::now();
        while !proxy.requests().iter().any(|request| request.method == method && request.path != "/v2/") {
            assert!(begun.elapsed() < Duration::from_secs(20) && child.try_wait().expect("ours").is_none());
            thread::sleep(Duration::from_millis(20));
        }
        let sent = Instant::now();
        signal_child(&child, "TERM");
        let built: Finished = child.wait_with_output().expect("our child").into();
        assert!(sent.elapsed() < Duration::from_secs(6), "{:?}", sent.elapsed());
        assert_eq!(built.code, 143, "{}", built.stderr);
        assert!(
            built.stderr.ends_with("error: interrupted; no tag was moved to an incomplete image\n"),
            "{}",
            built.stderr
        );
        scene.scene.nothing_left(&store);
        assert_eq!(scene.registry.tags("app"), Some(Vec::new()));
    }
}

#[test]
fn a_push_that_was_interrupted_publishes_nothing_even_if_its_uploads_still_end() {
    use cofferdam_tests::fault_proxy::{Fault, FaultProxy};
    let Some(scene) = crate::scene::RegistryScene::new() else { return };
    let proxy = FaultProxy::start(Some(scene.port()), |request, _| {
        // Late, but within the time that an interrupted build may take to end by itself.
        if request.method != "GET" && request.path.contains("/app/blobs/uploads/") {
            thread::sleep(Duration::from_millis(700));
        }
        Fault::None
    });
    let (file, tag) = (scene.from(&scene.registry.host()), format!("{}/app:1", proxy.host()));
    let store = scene.store("interrupted");
    let program = scene.scene.program_in(&store, &["-f", &file, "--push", "--tag", &tag]);
    let mut child = program.into_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let begun = Instant::now();
    while !proxy.requests().iter().any(|request| request.path.contains("/app/blobs/uploads/")) {
        assert!(begun.elapsed() < Duration::from_secs(20) && child.try_wait().expect("ours").is_none());
        thread::sleep(Duration::from_millis(20));
    }
    signal_child(&child, "INT");
    let built: Finished = child.wait_with_output().expect("our child").into();
    assert_eq!(built.code, 130, "{}", built.stderr);
    assert!(
        built.stderr.ends_with("error: interrupted; no tag was moved to an incomplete image\n"),
        "{}",
        built.stderr
    );
    assert_eq!(built.stderr.matches("interrupted after").count(), 1, "one summary: {}", built.stderr);
    assert_eq!(proxy.count("PUT", "/manifests/1"), 0);
    assert_eq!(scene.registry.tags("app"), Some(Vec::new()));
    scene.scene.nothing_left(&store);
}

#[test]
fn under_nohup_a_hangup_is_nothing() {
    if !is_root() {
        return skip("RUN is tested as root here");
    }
    let Some(scene) = Scene::with_base() else { return };
    scene.site.dockerfile(&format!("FROM base\nRUN : {}; sleep 1; echo on > /f\n", scene.mark()));
    let program = scene.program(&[]).into_command();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap '' HUP; exec "$@""#, "sh"]).arg(program.get_program()).args(program.get_args());
    shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(program.get_current_dir().unwrap_or(scene.site.path()));
    let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    thread::sleep(Duration::from_millis(600));
    signal_child(&child, "HUP");
    let built: Finished = child.wait_with_output().expect("our child").into();
    assert_eq!(built.code, 0, "{}", built.stderr);
}

/// `scripts/campaign.sh kills`.
#[test]
#[ignore = "a campaign"]
fn campaign() {
    let Some(mut victim) = Victim::new() else { return };
    let begun = Instant::now();
    let mut text =
        String::from("| signal | moments | in time | next build has the right digest |\n| --- | --- | --- | --- |\n");
    for signal in ["INT", "TERM", "KILL"] {
        let moments = if is_short() { 5 } else { 70 };
        let in_time = victim.sweep(moments, &[signal]);
        writeln!(text, "| SIG{signal} | {moments} | {in_time} | {moments} |").expect("memory");
    }
    let takes = victim.takes.as_millis();
    writeln!(text, "\nA build takes {takes} ms here; all of it took {} s.", begun.elapsed().as_secs()).expect("memory");
    report("kills", &text);
}
