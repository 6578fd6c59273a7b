//! The program under test, as a user starts it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use crate::{Environment, lab};

/// The repository.
pub fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository holds this crate")
}

/// What is shared beside the repository: runner lab, tutorials, conformance data. `None` where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = repository_root().join("../shared").join(path);
    path.exists().then(|| path.canonicalize().expect("it exists"))
}

/// The built program. Built here if that was not done yet, in the release profile that all of the tests use;
/// `COFFERDAM_TEST_PROGRAM` names another one, for example an installed one.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("COFFERDAM_TEST_PROGRAM") {
            return given.into();
        }
        let (mut build, target) = cargo();
        let status = build
            .args(["build", "--release", "--quiet", "--offline", "--workspace", "--bins"])
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the program does not build");
        target.join("release/cofferdam")
    })
}

/// A call of cargo in the repository that uses what it has built there, and the directory with that.
pub fn cargo() -> (Command, PathBuf) {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let target = without_cargo(&mut command);
    command.env("CARGO_TARGET_DIR", &target).current_dir(repository_root());
    (command, target)
}

/// Takes away what cargo told this test of its package; the answer is the directory with what cargo has built.
pub(crate) fn without_cargo(command: &mut Command) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let profile = own.ancestors().skip(1).find(|place| !place.ends_with("deps"));
    let target =
        profile.and_then(Path::parent).expect("target/PROFILE/deps/TEST or target/PROFILE/BENCH").to_path_buf();
    // These variables would make build scripts that look at them (ring's) run again, and a good part of the dependencies with
    // them, now and in the next plain build once more.
    let of_this_package =
        |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CFG_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_this_package) {
            command.env_remove(name);
        }
    }
    target
}

/// What a process left behind.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; 128 and the signal's number for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// The output of a process that must have succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.code == 0, "exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr);
        self
    }

    /// The digest that a build printed.
    #[track_caller]
    pub fn digest(&self) -> String {
        let line = self.stdout.lines().find(|line| line.starts_with("sha256:"));
        line.unwrap_or_else(|| panic!("no digest in {}\n{}", self.stdout, self.stderr)).to_owned()
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Self {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs any command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{command:?} does not start: {error}")).into()
}

/// One call of the program with a store of its own and an environment that holds nothing else. It runs as the tests do, or in
/// the runner environment under test ([`Environment::under_test`]).
pub struct Program {
    command: Command,
    store: PathBuf,
    environment: Option<Environment>,
}

impl Program {
    /// `cofferdam …`.
    pub fn new(store: &Path) -> Self {
        Self::called(binary(), store)
    }

    /// The program under another name.
    pub fn called(name: &Path, store: &Path) -> Self {
        let mut command = Command::new(name);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/nonexistent");
        // Tags lead to the image itself, which is what nearly all tests are about; those of attestations take this away.
        command.env("COFFERDAM_STORE", store).env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
        Self { command, store: store.to_path_buf(), environment: Environment::under_test() }
    }

    /// In a runner environment, whatever is under test.
    pub fn within(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// As the tests run, whatever is under test.
    pub fn natively(mut self) -> Self {
        self.environment = None;
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<std::ffi::OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts in a directory.
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Finished {
        run(&mut self.into_command())
    }

    /// The command, for those who need more.
    pub fn into_command(self) -> Command {
        match self.environment {
            Some(environment) => lab::moved_to(environment, &self.command, self.store.parent().expect("a directory")),
            None => self.command,
        }
    }
}

/// Sends `HUP`, `INT`, `KILL` or `TERM` to a child that was not waited for. Not by kill(1), which a busy machine may start when
/// the child is done.
///
/// # Panics
/// The signal is another one.
pub fn signal_child(child: &std::process::Child, name: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "TERM" => Signal::TERM,
        other => panic!("`{other}` is not among the signals that tests send"),
    };
    kill_process(Pid::from_child(child), signal).expect("it was not waited for");
}

/// Writes archives that no honest tool would write, with Python's tarfile: `script` calls `entry(archive, name, kind, target)`, and
/// has the path of a place outside in `outside`.
pub fn hostile_archives(script: &str, outside: &Path, directory: &Path) {
    let entry = "import tarfile, io, sys
outside = sys.argv[1]
def entry(archive, name, kind=tarfile.REGTYPE, target='', data=b'pwned'):
    info = tarfile.TarInfo(name); info.type = kind; info.linkname = target
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    archive.addfile(info, io.BytesIO(data) if kind == tarfile.REGTYPE else None)
";
    run(Command::new("python3").args(["-c", &format!("{entry}{script}")]).arg(outside).current_dir(directory))
        .success();
}
