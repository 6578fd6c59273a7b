//! The runner lab: environments that reproduce what CI runners allow.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use crate::{Finished, binary, is_root, run, shared, skip};

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

    /// Prepares a work directory; `None` (reported as a skip) where there is no lab. Makes the lab the first time.
    pub fn new() -> Option<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(scripts) = shared("lab") else {
            skip("the runner lab is not there (../shared/lab)");
            return None;
        };
        if !is_root() {
            skip("the runner lab needs root");
            return None;
        }
        let state = std::env::var_os("LAB")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/runner-lab")))?;
        if !state.join("image.tar").exists() || !state.join("bin/probe").exists() {
            let made = run(Command::new(scripts.join("setup.sh")).env("LAB", &state));
            if made.code != 0 {
                skip(&format!("the runner lab can't be made: {}", made.stderr.lines().last().unwrap_or_default()));
                return None;
            }
        }
        let work = tempfile::Builder::new().prefix("cofferdam-lab").tempdir().expect("a temporary directory");
        std::fs::set_permissions(work.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
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
        let program = binary().parent().expect("a directory");
        let mut extra = vec![format!("{}:/cofferdam:ro", program.display())];
        extra.extend_from_slice(binds);
        let mut command = Command::new(self.scripts.join(environment.script()));
        command.env("LAB", &self.state).env("LAB_X", self.work.path()).env("LAB_EXTRA", extra.join(","));
        command.envs(environment.variables().iter().copied());
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
