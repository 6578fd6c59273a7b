//! A tiny image and the builder's side of a RUN.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_exec::{
    Changes, ExecError, Executor, Exit, Ids, NamespaceExecutor, Network, PrivateFile, ResolvedUser, Root, RunOutcome,
    RunRequest, Stream, Tier,
};

/// Where the store of the tests is, an executor, and a base image.
pub struct World {
    executor: NamespaceExecutor,
    pub directory: PathBuf,
    pub base: PathBuf,
    steps: Cell<u32>,
}

/// The directories of one step.
pub struct Step {
    pub request: RunRequest,
    pub upper: PathBuf,
}

/// What a RUN gave.
pub struct Ran {
    pub outcome: RunOutcome,
    pub stdout: String,
    pub stderr: String,
}

/// A busybox that runs in an empty root.
pub fn busybox() -> Option<PathBuf> {
    let candidates = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    candidates.into_iter().find(|path| {
        let ldd = Command::new("ldd").arg(path).output();
        path.is_file() && ldd.is_ok_and(|ldd| !ldd.status.success() || ldd.stdout.starts_with(b"\tstatically"))
    })
}

/// What probes and runs may not leave in a directory.
pub fn leftovers(directory: &Path) -> Vec<String> {
    let names =
        fs::read_dir(directory).expect("a directory").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(".cofferdam-probe") || name.starts_with("run-")).collect()
}

impl World {
    pub fn new(parent: &Path, busybox: PathBuf, executor: NamespaceExecutor) -> Self {
        let directory = parent.join(format!("cofferdam-exec-tests-{}", std::process::id()));
        let base = directory.join("base");
        for name in ["bin", "etc", "tmp", "srv", "lib64", "lib"] {
            fs::create_dir_all(base.join(name)).expect("a directory");
        }
        fs::create_dir_all(directory.join("scratch")).expect("a directory");
        fs::copy(&busybox, base.join("bin/busybox")).expect("busybox");
        let list = Command::new(&busybox).arg("--list").output().expect("busybox").stdout;
        for applet in String::from_utf8(list).expect("names").lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", base.join("bin").join(applet)).expect("a link");
        }
        fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\n")
            .expect("passwd");
        fs::write(base.join("etc/group"), "root:x:0:\napp:x:1000:\nextra:x:2000:app\n").expect("group");
        fs::write(base.join("srv/base"), "from the base\n").expect("a file");
        install_attacker(&base);
        Self { executor, directory, base, steps: Cell::new(0) }
    }

    pub fn tier(&self) -> Tier {
        self.executor.tier()
    }

    pub fn ids(&self) -> Ids {
        self.executor.ids()
    }

    /// A step whose command is `script`, run by the shell.
    pub fn step(&self, script: &str) -> Step {
        self.step_on(vec![self.base.clone()], script)
    }

    pub fn step_on(&self, lower: Vec<PathBuf>, script: &str) -> Step {
        let number = self.steps.get();
        self.steps.set(number + 1);
        let directory = self.directory.join(format!("step-{number}"));
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        fs::create_dir_all(&upper).expect("a directory");
        fs::create_dir_all(&work).expect("a directory");
        let request = RunRequest {
            root: Root::Overlay { lower, upper: upper.clone(), work },
            arguments: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            environment: vec![("PATH".into(), "/bin".into())],
            working_directory: "/".into(),
            user: ResolvedUser::root(),
            network: Network::Host,
            hostname: "builder".into(),
            stdin: None,
            files: PrivateFile::standard("builder"),
            mounts: Vec::new(),
            scratch_directory: self.directory.join("scratch"),
            emulators: Vec::new(),
            timeout: Some(std::time::Duration::from_secs(60)),
            cancel: None,
        };
        Step { request, upper }
    }

    pub fn try_run(&self, step: &Step) -> Result<Ran, ExecError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut sink = |stream: Stream, bytes: &[u8]| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        };
        let outcome = self.executor.run(&step.request, &mut sink)?;
        assert_eq!(leftovers(&self.directory.join("scratch")), Vec::<String>::new(), "the scratch directory is clean");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { outcome, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Runs a step that must be startable.
    pub fn run(&self, step: &Step) -> Ran {
        self.try_run(step).unwrap_or_else(|error| panic!("{error} ({error:?})"))
    }

    /// Runs a script that must succeed, and returns its output.
    pub fn output(&self, script: &str) -> String {
        let ran = self.run(&self.step(script));
        assert!(ran.outcome.exit.success(), "`{script}`: {}\n{}{}", ran.outcome.exit, ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Runs a script in an empty upper directory, and returns how it ended.
    pub fn exit(&self, script: &str) -> Exit {
        self.run(&self.step(script)).outcome.exit
    }
}

impl Ran {
    pub fn leave_out(&self) -> Vec<String> {
        let Changes::Upper { leave_out } = &self.outcome.changes else { panic!("an upper directory") };
        leave_out.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Puts this program and the libraries that it needs into the image.
fn install_attacker(base: &Path) {
    let program = std::env::current_exe().expect("a program");
    fs::copy(&program, base.join("bin/attack")).expect("the attacker");
    let ldd = Command::new("ldd").arg(&program).output().expect("ldd").stdout;
    for word in String::from_utf8_lossy(&ldd).split_ascii_whitespace().filter(|word| word.starts_with('/')) {
        let target = base.join(&word[1..]);
        fs::create_dir_all(target.parent().expect("a parent")).expect("a directory");
        fs::copy(word, target).expect("a library");
    }
}

/// Every path below a directory, sorted.
pub fn tree(directory: &Path) -> Vec<String> {
    fn walk(directory: &Path, top: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            found.push(path.strip_prefix(top).expect("below").to_string_lossy().into_owned());
            if entry.file_type().expect("a type").is_dir() {
                walk(&path, top, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}
