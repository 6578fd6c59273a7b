//! A build that is to go wrong, and what is looked at afterwards.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use cofferdam_tests::{Finished, Program, Registry, Site, binary, fault_proxy::FaultProxy, noise};

/// A site with a copy of the program of its own, by which its processes are known.
pub struct Scene {
    pub site: Site,
    binary: PathBuf,
    _directory: tempfile::TempDir,
}

impl Scene {
    /// An empty context, `FROM scratch`.
    pub fn new() -> Self {
        Self::around(Site::new())
    }

    /// One whose Dockerfiles may say `FROM base`, with the image alpine, and run commands.
    pub fn with_base() -> Option<Self> {
        Some(Self::around(Site::with_own_base("alpine")?))
    }

    /// Around a site.
    pub fn around(site: Site) -> Self {
        fs::create_dir(site.path().join("scratch")).expect("writable");
        // A hard link has a path of its own, which /proc/PID/exe shows. The file system of the program's own file has room.
        let beside = binary().parent().expect("a directory");
        let directory = tempfile::Builder::new().prefix("faults-").tempdir_in(beside).expect("writable");
        let own = directory.path().join("cofferdam");
        fs::hard_link(binary(), &own).expect("the same file system");
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        Self { site, binary: own, _directory: directory }
    }

    /// `cofferdam build …` with the usual store.
    pub fn program(&self, arguments: &[&str]) -> Program {
        self.program_in(&self.site.store(), arguments)
    }

    /// `cofferdam build …` with a store.
    pub fn program_in(&self, store: &Path, arguments: &[&str]) -> Program {
        self.site.program_of(&self.binary, store, arguments).env("TMPDIR", self.site.path().join("scratch"))
    }

    /// `cofferdam …` that looks after the store.
    pub fn care(&self, arguments: &[&str]) -> Program {
        Program::called(&self.binary, &self.site.store()).args(arguments)
    }

    /// A build that must succeed; answers the digest. Nothing is left behind.
    #[track_caller]
    pub fn good(&self, arguments: &[&str]) -> String {
        self.good_in(&self.site.store(), arguments)
    }

    /// The same with a store.
    #[track_caller]
    pub fn good_in(&self, store: &Path, arguments: &[&str]) -> String {
        let built = self.program_in(store, arguments).run().success();
        self.nothing_left(store);
        built.digest()
    }

    /// A build that must fail as it should; answers what it said.
    #[track_caller]
    pub fn bad(&self, arguments: &[&str], says: &[&str]) -> String {
        self.bad_in(&self.site.store(), arguments, says)
    }

    /// The same with a store.
    #[track_caller]
    pub fn bad_in(&self, store: &Path, arguments: &[&str], says: &[&str]) -> String {
        let built = self.program_in(store, arguments).run();
        self.nothing_left(store);
        ends_well(&built, says);
        built.stderr
    }

    /// Nothing temporary, no process, no mount.
    #[track_caller]
    pub fn nothing_left(&self, store: &Path) {
        let begun = Instant::now();
        loop {
            let left = self.left(store);
            if left.is_empty() {
                return;
            }
            // Processes that were killed end a little later.
            assert!(begun.elapsed() < Duration::from_secs(10), "left behind: {left:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is left behind, or still at work.
    pub fn left(&self, store: &Path) -> Vec<String> {
        let mut left: Vec<String> = self.processes(store).into_iter().map(|(_, what)| what).collect();
        left.extend(temporary(store));
        left.extend(names(&self.site.path().join("scratch")));
        for directory in [self.site.path(), &self.site.path().join("out")] {
            left.extend(names(directory).into_iter().filter(|name| name.contains("partial")));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let inside = |line: &&str| line.contains(&*self.site.path().to_string_lossy());
        // What a test mounts itself is called `disk`.
        let mounts = mounts.lines().filter(inside).filter(|line| !line.split(' ').any(|word| word.ends_with("/disk")));
        left.extend(mounts.map(str::to_owned));
        left
    }

    /// The processes of the program that work on a store, stages of RUN included: they know of no store, so builds with RUN
    /// on several stores at once need several scenes.
    pub fn processes(&self, store: &Path) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        let variable = format!("COFFERDAM_STORE={}", store.display());
        for entry in fs::read_dir("/proc").expect("proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let ours = fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == self.binary);
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment);
            let elsewhere =
                environment.contains("COFFERDAM_STORE=") && !environment.split('\0').any(|pair| pair == variable);
            // The commands of RUN say so themselves.
            if ours && !elsewhere || command.contains(&self.mark()) {
                found.push((pid, format!("process {pid}: {command}")));
            }
        }
        found
    }

    /// A word for the commands of RUN, by which they are known.
    pub fn mark(&self) -> String {
        let own = self.site.path().file_name().expect("a name").to_string_lossy().into_owned();
        format!("mark-{own}")
    }
}

/// One message at the end, with what it must say and a remedy or a place before it; and code 1.
#[track_caller]
pub fn ends_well(built: &Finished, says: &[&str]) {
    let said = &built.stderr;
    assert_eq!(built.code, 1, "{said}");
    assert_eq!(built.stdout, "", "no digest of what was not built\n{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one message\n{said}");
    let at = said.find("\nerror: ").map_or(0, |at| at + 1);
    for text in says {
        assert!(said[at..].contains(text), "no `{text}` in\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// What lies in the store's directory for temporary files, but for the locks that stay.
pub fn temporary(store: &Path) -> Vec<String> {
    let names = names(&store.join("tmp")).into_iter();
    names.filter(|name| !matches!(name.as_str(), "gate" | "index-json" | "use")).collect()
}

/// The names in a directory; none if there is none.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A scene with a registry that has a base image.
pub struct RegistryScene {
    pub scene: Scene,
    pub registry: Registry,
}

impl RegistryScene {
    /// The base is `library/base:1`: two layers, one of 300 kB.
    pub fn new() -> Option<Self> {
        let registry = Registry::open()?;
        let scene = Scene::new();
        let base = Site::new();
        base.file("data", noise(300_000, 1)).file("etc/name", "base\n");
        base.dockerfile("FROM scratch\nCOPY etc /etc/\nCOPY data /\nENV BASE=1\n");
        base.build(&["--push", "--tag", &format!("{}/library/base:1", registry.host())]).success();
        scene.site.file("file", noise(100_000, 2));
        Some(Self { scene, registry })
    }

    /// A proxy before the registry.
    pub fn proxy(&self, rules: cofferdam_tests::fault_proxy::Rules) -> FaultProxy {
        FaultProxy::with_rules(Some(self.port()), rules)
    }

    pub fn port(&self) -> u16 {
        self.registry.port()
    }

    /// The Dockerfile, with the base behind a host.
    pub fn from(&self, host: &str) -> String {
        let name = format!("Dockerfile.{}", host.replace(':', "-"));
        let place = self.scene.site.path().join(name);
        let mut new = tempfile::NamedTempFile::new_in(self.scene.site.path()).expect("writable");
        write!(new, "FROM {host}/library/base:1\nCOPY file /f\nLABEL a=b\n").expect("writable");
        // Whole at once: another thread may be reading it.
        new.persist(&place).expect("writable");
        place.to_string_lossy().into_owned()
    }

    /// A directory for a store that knows nothing.
    pub fn store(&self, name: &str) -> PathBuf {
        self.scene.site.path().join(format!("store-{name}"))
    }
}

/// Runs jobs on some threads: most of them wait.
pub fn at_once<J: Sync>(jobs: &[J], threads: usize, run: impl Fn(&J) + Sync) {
    let next = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let mut number = next.lock().expect("no panic inside");
                    let Some(job) = jobs.get(*number) else { return };
                    *number += 1;
                    drop(number);
                    run(job);
                }
            });
        }
    });
}

/// Runs a command and answers the most memory that it, or a process that it waited for, held at once.
pub fn measured(mut command: std::process::Command) -> (Finished, u64) {
    let child = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let child = child.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let status = format!("/proc/{}/status", child.id());
    let waiting = thread::spawn(move || child.wait_with_output().expect("our child"));
    let mut peak_kb = 0;
    while !waiting.is_finished() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        peak_kb = peak_kb.max(kb.unwrap_or_default());
        thread::sleep(Duration::from_millis(5));
    }
    (waiting.join().expect("no panic").into(), peak_kb << 10)
}
