//! The runner lab: environments that reproduce what CI runners allow.

use std::{
    ffi::OsStr,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use crate::{Finished, bases, binary, is_root, run, shared, skip};

/// What a runner allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Root with CAP_SYS_ADMIN.
    Native,
    /// An ordinary user with user namespaces and subordinate ids.
    Userns,
    /// An ordinary user with user namespaces, without subordinate ids.
    UsernsSingleId,
    /// Root with Docker's default capabilities.
    RootPod,
    /// Pod Security "restricted".
    Restricted,
    /// The same with the seccomp profile of old container runtimes.
    RestrictedOld,
    /// The same with a read-only root file system.
    RestrictedReadOnly,
    /// The same with a uid that has no entry in /etc/passwd.
    RestrictedArbitraryUid,
    /// The same with a seccomp profile that forbids ptrace: nothing can carry out a RUN there.
    RestrictedWithoutPtrace,
}

impl Environment {
    /// All in which everything works.
    pub const ALL: [Self; 8] = [
        Self::Native,
        Self::Userns,
        Self::UsernsSingleId,
        Self::RootPod,
        Self::Restricted,
        Self::RestrictedOld,
        Self::RestrictedReadOnly,
        Self::RestrictedArbitraryUid,
    ];

    /// The environment that `COFFERDAM_TEST_ENVIRONMENT` names: every [`crate::Program`] runs in it then. `None` without the
    /// variable: programs run as the tests do.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn under_test() -> Option<Self> {
        static UNDER_TEST: OnceLock<Option<Environment>> = OnceLock::new();
        *UNDER_TEST.get_or_init(|| {
            let name = std::env::var(Self::VARIABLE).ok()?;
            let found = Self::ALL.into_iter().find(|environment| environment.name() == name);
            let known = || Self::ALL.map(Self::name).join(", ");
            Some(found.unwrap_or_else(|| panic!("{}={name}: the environments are {}", Self::VARIABLE, known())))
        })
    }

    /// The variable that [`Environment::under_test`] reads.
    pub const VARIABLE: &'static str = "COFFERDAM_TEST_ENVIRONMENT";

    /// What it is called in tables and variables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native-root",
            Self::Userns => "userns",
            Self::UsernsSingleId => "userns-single-id",
            Self::RootPod => "rootpod",
            Self::Restricted => "restricted",
            Self::RestrictedOld => "restricted-old",
            Self::RestrictedReadOnly => "restricted-read-only",
            Self::RestrictedArbitraryUid => "restricted-arbitrary-uid",
            Self::RestrictedWithoutPtrace => "restricted-without-ptrace",
        }
    }

    /// The user in it.
    pub fn uid(self) -> u32 {
        match self {
            Self::Native | Self::RootPod => 0,
            Self::Userns
            | Self::Restricted
            | Self::RestrictedOld
            | Self::RestrictedReadOnly
            | Self::RestrictedWithoutPtrace => 1000,
            Self::UsernsSingleId => 1001,
            Self::RestrictedArbitraryUid => 1_000_650_000,
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Native => "env-native.sh",
            Self::Userns | Self::UsernsSingleId => "env-userns.sh",
            Self::RootPod => "env-rootpod.sh",
            _ => "env-restricted.sh",
        }
    }

    fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::UsernsSingleId => &[("LAB_UID", "1001")],
            Self::RestrictedOld => &[("LAB_PROFILE", "old")],
            Self::RestrictedReadOnly => &[("LAB_RO", "1")],
            Self::RestrictedWithoutPtrace => &[("LAB_PROFILE", WITHOUT_PTRACE)],
            Self::RestrictedArbitraryUid => &[("LAB_UID", "1000650000")],
            _ => &[],
        }
    }
}

/// The name of a seccomp profile that the lab does not have itself.
const WITHOUT_PTRACE: &str = "without-ptrace";

/// A command's surroundings in the lab: a work directory that appears as `/x`, and the program as `/cofferdam/cofferdam`.
pub struct Lab {
    scripts: PathBuf,
    state: PathBuf,
    work: tempfile::TempDir,
}

impl Lab {
    /// The program inside an environment.
    pub const PROGRAM: &'static str = "/cofferdam/cofferdam";

    /// Where the base images of the tests are inside an environment.
    const BASES: &'static str = "/bases";

    /// Prepares a work directory; `None` (reported as a skip) where there is no lab. Makes the lab the first time.
    pub fn new() -> Option<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(scripts) = scripts() else {
            skip("the runner lab is not there (../shared/lab)");
            return None;
        };
        if !is_root() {
            skip("the runner lab needs root");
            return None;
        }
        let state = state()?;
        if !state.join("image.tar").exists() || !state.join("bin/probe").exists() {
            let made = run(Command::new(scripts.join("setup.sh")).env("LAB", &state));
            if made.code != 0 {
                skip(&format!("the runner lab can't be made: {}", made.stderr.lines().last().unwrap_or_default()));
                return None;
            }
        }
        let work = tempfile::Builder::new().prefix("cofferdam-lab").tempdir().expect("a temporary directory");
        std::fs::set_permissions(work.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        Some(Self { scripts, state, work })
    }

    /// The directory that appears as `/x`.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// Runs a command (a shell text) in an environment. `binds` are `SOURCE:TARGET[:ro]`.
    #[track_caller]
    pub fn shell(&self, environment: Environment, binds: &[String], text: &str) -> Finished {
        if environment == Environment::RestrictedWithoutPtrace {
            self.forbid_ptrace();
        }
        let mut command = script(environment, &self.scripts, &self.state, self.work.path(), binds);
        run(command.args(["/bin/sh", "-c", text]))
    }

    /// Makes today's default profile without ptrace one of the lab's.
    fn forbid_ptrace(&self) {
        let place = |name: &str| self.state.join(format!("profiles/docker-{name}-nocaps.json"));
        let text = std::fs::read_to_string(place("new")).expect("the lab has a profile");
        let mut profile: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for rule in profile["syscalls"].as_array_mut().expect("rules") {
            rule["names"].as_array_mut().expect("names").retain(|name| name != "ptrace");
        }
        std::fs::write(place(WITHOUT_PTRACE), profile.to_string()).expect("writable");
    }
}

/// The configuration of a container in an environment, as the lab writes it for the runtime; `None` (reported as a skip) where
/// there is no lab.
pub(crate) fn configuration(environment: Environment) -> Option<serde_json::Value> {
    let lab = Lab::new()?;
    if environment == Environment::RestrictedWithoutPtrace {
        lab.forbid_ptrace();
    }
    let kind = environment.script().trim_start_matches("env-").trim_end_matches(".sh");
    let mut writer = Command::new("python3");
    writer.arg(lab.scripts.join("mkbundle.py")).arg(kind).args([lab.work(), lab.work()]).arg("true");
    run(writer.env("LAB", &lab.state).envs(environment.variables().iter().copied())).success();
    Some(crate::read_json(&lab.work().join("config.json")))
}

/// A call of the program as it is made in an environment. Directory and variables are those of `command`; temporary files of the
/// tests have the same paths there, and what is in `site` and only root may use is given to the environment's user.
///
/// # Panics
/// There is no lab.
pub(crate) fn moved_to(environment: Environment, command: &Command, site: &Path) -> Command {
    // Made if it was not there yet.
    drop(Lab::new().expect("the runner lab"));
    let (scripts, state) = (scripts().expect("the runner lab"), state().expect("a home"));
    give_away(site, environment.uid());
    let (temporary, bases) = (std::env::temp_dir(), bases::directory());
    let binds = [format!("{0}:{0}", temporary.display()), format!("{}:{}:ro", bases.display(), Lab::BASES)];
    let mut moved = script(environment, &scripts, &state, site, &binds);
    let directory = command.get_current_dir().unwrap_or(Path::new("/x"));
    moved.args(["/bin/sh", "-c", "cd \"$1\" && shift && exec env -i \"$@\"", "sh"]).arg(directory);
    for (name, value) in command.get_envs() {
        let mut pair = name.to_owned();
        pair.push("=");
        pair.push(value.unwrap_or_default());
        moved.arg(pair);
    }
    let program = command.get_program();
    moved.arg(if program == binary() { OsStr::new(Lab::PROGRAM) } else { program });
    let here = bases.to_string_lossy().into_owned();
    moved.args(command.get_args().map(|argument| match argument.to_str() {
        Some(text) => text.replace(&here, Lab::BASES).into(),
        None => argument.to_owned(),
    }));
    moved
}

fn scripts() -> Option<PathBuf> {
    shared("lab")
}

fn state() -> Option<PathBuf> {
    let given = std::env::var_os("LAB").map(PathBuf::from);
    given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/runner-lab")))
}

/// The lab's script for an environment, which takes a command; `work` appears as `/x`.
fn script(environment: Environment, scripts: &Path, state: &Path, work: &Path, binds: &[String]) -> Command {
    let program = binary().parent().expect("a directory");
    let mut extra = vec![format!("{}:/cofferdam:ro", program.display())];
    extra.extend_from_slice(binds);
    let mut command = Command::new(scripts.join(environment.script()));
    command.env("LAB", state).env("LAB_X", work).env("LAB_EXTRA", extra.join(","));
    command.envs(environment.variables().iter().copied());
    command
}

/// Gives to a user what only root may use; what the program itself made is that user's already, or its subordinates'.
fn give_away(path: &Path, uid: u32) {
    // Gone meanwhile, if a build beside this one removed it.
    let Ok(metadata) = path.symlink_metadata() else { return };
    let kind = metadata.file_type();
    let needed = if kind.is_dir() {
        0o5
    } else if kind.is_socket() {
        0o6
    } else {
        0o4
    };
    if metadata.uid() == 0 && uid != 0 && metadata.mode() & needed != needed {
        let _ = lchown(path, Some(uid), Some(uid));
        let _ = std::fs::set_permissions(path, metadata.permissions());
    }
    if kind.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            give_away(&entry.path(), uid);
        }
    }
}
