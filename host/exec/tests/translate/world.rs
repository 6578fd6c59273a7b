//! A tiny image as a flat tree, and the builder's side of a RUN.

use std::{
    cell::{Cell, OnceCell, RefCell},
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_exec::{
    Below, ExecError, Executor, Journal, Launcher, Network, OutputSink, PrivateFile, ResolvedUser, Root, RunOutcome,
    RunRequest, Stream, TranslatorExecutor,
};

use crate::layers::{self, Layer};

/// Where the trees of the tests are, and an executor.
pub struct World {
    executor: RefCell<TranslatorExecutor>,
    /// All of it.
    pub directory: PathBuf,
    busybox: PathBuf,
    steps: Cell<u32>,
    /// Whether trees are made of a layer when somebody asks for it.
    pub on_layers: Cell<bool>,
}

/// One command with a tree of its own.
pub struct Step {
    /// What is asked for.
    pub request: RunRequest,
    /// The tree.
    pub tree: PathBuf,
    /// Its journal.
    pub journal: PathBuf,
    /// Whether the owners that the tree has on the disk are those of the image.
    pub owned: bool,
    /// What the tree is made of, once it was run on a layer.
    layer: OnceCell<Layer>,
}

/// What a RUN gave.
pub struct Ran {
    /// How it ended.
    pub outcome: RunOutcome,
    /// What it said.
    pub stdout: String,
    /// What it complained about.
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

impl World {
    /// In a new directory.
    pub fn new(parent: &Path, busybox: &Path) -> Self {
        let directory = parent.join(format!("cofferdam-translate-{}", std::process::id()));
        fs::create_dir_all(directory.join("scratch")).expect("a directory");
        Self {
            executor: RefCell::new(TranslatorExecutor::new(Launcher::default()).without_checks()),
            directory,
            busybox: busybox.to_owned(),
            steps: Cell::new(0),
            on_layers: Cell::new(false),
        }
    }

    /// Runs what follows in another way.
    pub fn run_by(&self, executor: TranslatorExecutor) {
        self.executor.replace(executor.without_checks());
    }

    /// A step whose command is `script`, run by the shell in a fresh tree.
    pub fn step(&self, script: &str) -> Step {
        let number = self.steps.get();
        self.steps.set(number + 1);
        let tree = self.directory.join(format!("tree-{number}"));
        for name in ["bin", "etc", "tmp", "srv", "root", "proc", "dev", "sys"] {
            fs::create_dir_all(tree.join(name)).expect("a directory");
        }
        fs::set_permissions(tree.join("tmp"), PermissionsExt::from_mode(0o777)).expect("ours");
        fs::copy(&self.busybox, tree.join("bin/busybox")).expect("busybox");
        fs::set_permissions(tree.join("bin/busybox"), PermissionsExt::from_mode(0o755)).expect("ours");
        let list = Command::new(&self.busybox).arg("--list").output().expect("busybox").stdout;
        for applet in String::from_utf8(list).expect("names").lines().filter(|name| *name != "busybox") {
            symlink("busybox", tree.join("bin").join(applet)).expect("a link");
        }
        let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n";
        fs::write(tree.join("etc/passwd"), passwd).expect("passwd");
        fs::write(tree.join("etc/group"), "root:x:0:\napp:x:1000:\nwww:x:33:\nextra:x:2000:app\n").expect("group");
        for name in ["base", "locked", "by-link"] {
            fs::write(tree.join("srv").join(name), "from the base\n").expect("a file");
        }
        let journal = self.directory.join(format!("journal-{number}"));
        let request = RunRequest {
            root: Root::Flat { directory: tree.clone(), journal: journal.clone(), below: None },
            arguments: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            environment: vec![("PATH".into(), "/bin".into()), ("HOME".into(), "/root".into())],
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
        Step { request, tree, journal, owned: false, layer: OnceCell::new() }
    }

    /// A step that runs this very program as one of its other parts.
    pub fn program_step(&self, words: &[&str]) -> Step {
        let mut step = self.step("");
        install_program(&step.tree);
        step.request.arguments = ["/bin/test-program"].iter().chain(words).map(|&word| word.to_owned()).collect();
        step
    }

    /// Runs a step.
    pub fn try_run(&self, step: &Step) -> Result<Ran, ExecError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut sink = |stream: Stream, bytes: &[u8]| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        };
        let outcome = self.run_into(step, &mut sink)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { outcome, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Runs a step with its output into `sink`.
    pub fn run_into(&self, step: &Step, sink: &mut dyn OutputSink) -> Result<RunOutcome, ExecError> {
        let mut request = step.request.clone();
        if self.on_layers.get() {
            let layer = step.layer.get_or_init(|| step.put_on_layer());
            let (directory, journal) = (step.tree.clone(), step.journal.clone());
            request.root = Root::Flat { directory, journal, below: Some(layer.below.clone()) };
        }
        let outcome = self.executor.borrow().run(&request, sink);
        if let Some(layer) = step.layer.get() {
            layers::check(layer, &step.tree, &step.journal);
        }
        outcome
    }

    /// Runs a step that must be startable.
    pub fn run(&self, step: &Step) -> Ran {
        self.try_run(step).unwrap_or_else(|error| panic!("{error} ({error:?})"))
    }

    /// Runs a script that must succeed, and returns its output.
    pub fn output(&self, script: &str) -> String {
        self.output_of(&self.step(script))
    }

    /// The same of a step.
    pub fn output_of(&self, step: &Step) -> String {
        let ran = self.run(step);
        assert!(
            ran.outcome.exit.success(),
            "{:?}: {}\n{}{}",
            step.request.arguments,
            ran.outcome.exit,
            ran.stdout,
            ran.stderr
        );
        ran.stdout
    }
}

/// Puts this program and the libraries that it needs into a tree.
fn install_program(tree: &Path) {
    let program = std::env::current_exe().expect("a program");
    fs::copy(&program, tree.join("bin/test-program")).expect("a copy");
    let ldd = Command::new("ldd").arg(&program).output().expect("ldd").stdout;
    for word in String::from_utf8_lossy(&ldd).split_ascii_whitespace().filter(|word| word.starts_with('/')) {
        let target = tree.join(&word[1..]);
        fs::create_dir_all(target.parent().expect("a parent")).expect("a directory");
        fs::copy(word, target).expect("a library");
    }
}

impl Step {
    /// The tree becomes a layer, and an empty one takes its place.
    fn put_on_layer(&self) -> Layer {
        let layer = self.layer_directory();
        fs::rename(&self.tree, &layer).expect("ours");
        fs::create_dir(&self.tree).expect("a directory");
        Layer::of(&layer, self.tree.with_extension("below"), self.owned)
    }

    /// Where the layer is that the tree is made of.
    pub fn layer_directory(&self) -> PathBuf {
        self.tree.with_extension("layer")
    }

    /// What the journal says of a path of the tree: owner, group, mode.
    pub fn recorded(&self, path: &str) -> Option<(u32, u32, u32)> {
        let mut journal = Journal::load(&self.journal).expect("a journal");
        if let Some(layer) = self.layer.get() {
            let table = Below::load(&layer.below.table).expect("a table");
            journal.put_on(table, Vec::new(), &self.tree).expect("a tree");
        }
        let file = rustix::fs::open(
            self.tree.join(path),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW,
            rustix::fs::Mode::empty(),
        )
        .expect("it exists");
        use std::os::fd::AsFd;
        let seen = journal.look(file.as_fd()).expect("readable");
        Some((seen.uid, seen.gid, seen.mode & 0o7777))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Root runs the tests again as nobody in particular.
pub fn again_as_an_ordinary_user(directory: &Path, arguments: &[String]) -> usize {
    use std::os::unix::process::CommandExt;
    const USER: u32 = 12345;
    if !rustix::process::geteuid().is_root() {
        return 0;
    }
    println!("again as user {USER}");
    let place = directory.join(format!("cofferdam-translate-user-{}", std::process::id()));
    fs::create_dir(&place).expect("a directory");
    rustix::fs::chown(&place, Some(rustix::fs::Uid::from_raw(USER)), Some(rustix::fs::Gid::from_raw(USER)))
        .expect("chown");
    // The build directory may be out of this user's reach.
    let program = place.join("test");
    fs::copy(std::env::current_exe().expect("a path"), &program).expect("a copy");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("ours");
    let status = Command::new(&program)
        .args(arguments)
        .env("COFFERDAM_TEST_DIRECTORY", &place)
        .uid(USER)
        .gid(USER)
        .current_dir("/")
        .status()
        .expect("it starts");
    fs::remove_dir_all(&place).expect("ours");
    usize::from(!status.success())
}
