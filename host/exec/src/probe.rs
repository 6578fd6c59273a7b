//! What works on this machine: each tier is tried for real, in a forked child, in the directory where it would work.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    pipe::PipeFlags,
    process::WaitOptions,
    thread::{CapabilitySet, UnshareFlags},
};
use serde::{Deserialize, Serialize};

use crate::{
    EnterError, Executor, Ids, Launcher, NamespaceExecutor, Tier, TranslatorExecutor, UsernsKind, enter_user_namespace,
    stage::{
        Namespaces,
        mount::{attach, make_all_private, new_filesystem, open_directory, pivot_into},
        overlay::{Writable, mount_overlay},
    },
    sys::{self, Fork},
    userns,
};

/// What works here.
#[derive(Debug)]
pub struct ProbeReport {
    /// The directory in which overlayfs was tried.
    pub directory: PathBuf,
    /// Namespaces and overlayfs as root.
    pub native: Result<(), Reason>,
    /// The same in a user namespace of our own.
    pub userns: Result<UsernsKind, Reason>,
    /// Why the user namespace can't have more than one id, where that is so.
    pub many_ids: Result<(), Reason>,
    /// Whether the translator records what a namespace with one id can't have; `None` where no namespace has but one.
    pub recorded_ids: Option<Result<(), Reason>>,
    /// Root of an ordinary container.
    pub chroot: Result<(), Reason>,
    /// Nothing at all.
    pub emulated: Result<(), Reason>,
    /// The version of Landlock; 0 for none.
    pub landlock_abi: u32,
    /// Whether system calls can be filtered.
    pub seccomp: bool,
}

/// Why something does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What failed, in words that follow "can't".
    pub step: String,
    /// What the system said.
    pub problem: String,
    /// What would make it work.
    pub remedy: String,
}

impl Reason {
    fn not_tried() -> Self {
        Self { step: "say".into(), problem: "it was not tried".into(), remedy: "`cofferdam doctor` tries it".into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "can't {}: {}; {}", self.step, self.problem, self.remedy)
    }
}

/// One line of `cofferdam doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub name: &'static str,
    /// Whether it works.
    pub works: bool,
    /// What that means, or why it does not.
    pub why: String,
    /// What would make it work, or better; empty if there is nothing to do.
    pub remedy: String,
}

impl ProbeReport {
    /// The strongest tier that works.
    pub fn best(&self) -> Option<Tier> {
        let tiers = [
            // Root of a namespace with one id is nobody else's root.
            (Tier::NativeRoot, self.native.is_ok() && self.recorded_ids.is_none()),
            (Tier::Userns, self.userns.is_ok() || self.native.is_ok()),
            (Tier::Chroot, self.chroot.is_ok()),
            (Tier::Emulated, self.emulated.is_ok()),
        ];
        tiers.into_iter().find(|(_, works)| *works).map(|(tier, _)| tier)
    }

    /// The executor of the strongest tier, or of `wanted`, which enters the user namespace that it needs; `None` where
    /// there is none. To be called before any thread is started.
    ///
    /// # Errors
    /// See [`enter_user_namespace`].
    pub fn settle(&self, launcher: Launcher, wanted: Option<Tier>) -> Result<Option<Arc<dyn Executor>>, EnterError> {
        let may = |tier| wanted.is_none_or(|wanted| wanted == tier);
        let native = may(Tier::NativeRoot) && self.native.is_ok();
        if native || may(Tier::Userns) && self.userns.is_ok() {
            return Ok(match &self.recorded_ids {
                Some(Ok(())) => Some(Arc::new(TranslatorExecutor::with_namespaces(launcher))),
                _ => self.settle_on_overlays(launcher, native)?.map(|executor| Arc::new(executor) as _),
            });
        }
        let translator = if may(Tier::Chroot) && self.chroot.is_ok() {
            TranslatorExecutor::with_chroot(launcher)
        } else if may(Tier::Emulated) && self.emulated.is_ok() {
            TranslatorExecutor::new(launcher)
        } else {
            return Ok(None);
        };
        Ok(Some(Arc::new(translator)))
    }

    /// The executor that works with overlayfs, as root of the machine (`native`) or of a user namespace, which is entered;
    /// `None` where there is none. To be called before any thread is started.
    ///
    /// # Errors
    /// See [`enter_user_namespace`].
    pub fn settle_on_overlays(
        &self,
        launcher: Launcher,
        native: bool,
    ) -> Result<Option<NamespaceExecutor>, EnterError> {
        match &self.userns {
            _ if native => {}
            Ok(kind) => enter_user_namespace(kind)?,
            Err(_) => return Ok(None),
        }
        Ok(Some(NamespaceExecutor::new(launcher)))
    }

    /// Everything, strongest tier first.
    pub fn findings(&self) -> Vec<Finding> {
        let finding = |name, result: Result<String, &Reason>| match result {
            Ok(why) => Finding { name, works: true, why, remedy: String::new() },
            Err(reason) => Finding {
                name,
                works: false,
                why: format!("can't {}: {}", reason.step, reason.problem),
                remedy: reason.remedy.clone(),
            },
        };
        let same = |text: &str| text.to_owned();
        let userns = self.userns.as_ref().map(|kind| match kind {
            UsernsKind::Full { users, .. } => {
                let count: u64 = users.iter().map(|range| u64::from(range.count)).sum();
                let ids = if count == 1 { "id" } else { "ids" };
                format!("namespaces and overlayfs in a user namespace with {count} {ids}")
            }
            UsernsKind::SingleId => same("namespaces and overlayfs in a user namespace with one id"),
        });
        let mut findings = vec![
            finding("native-root", self.native.as_ref().map(|()| same("namespaces and overlayfs as root"))),
            finding("userns", userns),
        ];
        if self.userns.is_ok() {
            let ids = match &self.recorded_ids {
                None => self.many_ids.as_ref().map(|()| same("files can have any owner")),
                Some(Ok(())) => {
                    Ok(same("the translator records owners, users and devices, for which there are no ids"))
                }
                Some(Err(_)) => self.many_ids.as_ref().map(|()| String::new()),
            };
            findings.push(finding("userns-ids", ids));
        }
        findings.push(finding(
            "chroot",
            self.chroot.as_ref().map(|()| same("chroot, with the translator for what can't be in the tree")),
        ));
        findings.push(finding("emulated", self.emulated.as_ref().map(|()| same("the translator"))));
        let (works, why) = match self.landlock_abi {
            abi @ 6.. => (true, format!("ABI {abi}: ptrace, signals and abstract sockets stop at a RUN's border")),
            abi @ 2.. => (true, format!("ABI {abi}: ptrace stops at a RUN's border, abstract unix sockets don't")),
            abi => (false, format!("ABI {abi}: RUN is isolated by namespaces only")),
        };
        let remedy = match self.landlock_abi {
            6.. => "",
            2.. => "Linux 6.12 or later closes abstract unix sockets too",
            _ => "use Linux 5.19 or later with Landlock among the security modules (lsm= on the kernel's command line)",
        };
        findings.push(Finding { name: "landlock", works, why, remedy: remedy.into() });
        let (why, remedy) = match self.seccomp {
            true => ("system calls that no build needs are refused", ""),
            false => ("the kernel has no system call filters", "use a kernel with CONFIG_SECCOMP_FILTER"),
        };
        findings.push(Finding { name: "seccomp", works: self.seccomp, why: why.into(), remedy: remedy.into() });
        findings
    }
}

/// Tries everything, overlayfs in `store` (or the nearest directory above it that exists); takes some milliseconds and
/// leaves nothing behind. To be called before any thread is started.
pub fn probe(store: &Path) -> ProbeReport {
    Goal::Everything.probe(store)
}

/// Like [`probe`], but tries no more than [`ProbeReport::settle`] has to know: `wanted` alone, or all tiers down to the
/// strongest one that works.
pub fn probe_for(store: &Path, wanted: Option<Tier>) -> ProbeReport {
    wanted.map_or(Goal::Strongest, Goal::Only).probe(store)
}

/// What a probe is made for.
#[derive(Clone, Copy)]
enum Goal {
    Everything,
    Strongest,
    Only(Tier),
}

impl Goal {
    fn probe(self, store: &Path) -> ProbeReport {
        let directory = store.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned();
        let native = self.attempt(Tier::NativeRoot, false, || probe_native(&directory));
        let (userns, many_ids) = if self.includes(Tier::Userns, native.is_ok()) {
            probe_userns(&directory)
        } else {
            (Err(Reason::not_tried()), Err(Reason::not_tried()))
        };
        let has_namespaces = native.is_ok() || userns.is_ok();
        let translator = |real_root| probe_translator(&directory, Namespaces::Shared, real_root);
        let chroot = self.attempt(Tier::Chroot, has_namespaces, || translator(true));
        let emulated = self.attempt(Tier::Emulated, has_namespaces || chroot.is_ok(), || translator(false));
        let has_one_id =
            if native.is_ok() { userns::mapped_ids() == Ids::Single } else { userns == Ok(UsernsKind::SingleId) };
        let recorded_ids = has_one_id.then(|| probe_translator(&directory, Namespaces::OwnWithOneId, true));
        ProbeReport {
            directory,
            native,
            userns,
            many_ids,
            recorded_ids,
            chroot,
            emulated,
            landlock_abi: sys::landlock_abi(),
            seccomp: sys::has_seccomp(),
        }
    }

    fn includes(self, tier: Tier, has_stronger: bool) -> bool {
        match self {
            Self::Everything => true,
            Self::Strongest => !has_stronger,
            Self::Only(wanted) => wanted == tier,
        }
    }

    fn attempt(
        self,
        tier: Tier,
        has_stronger: bool,
        attempt: impl FnOnce() -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        if self.includes(tier, has_stronger) { attempt() } else { Err(Reason::not_tried()) }
    }
}

fn probe_native(directory: &Path) -> Result<(), Reason> {
    let step = "use the machine's namespaces as they are";
    let remedy = "run as root with CAP_SYS_ADMIN, or let the user namespace do";
    let reason = |problem: &str| Reason { step: step.into(), problem: problem.into(), remedy: remedy.into() };
    if !rustix::process::geteuid().is_root() {
        return Err(reason("the user is not root"));
    }
    let capabilities = rustix::thread::capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    if !capabilities.contains(CapabilitySet::SYS_ADMIN) {
        return Err(reason("root has no CAP_SYS_ADMIN here"));
    }
    in_child(directory, rehearse).map_err(explain)
}

fn probe_userns(directory: &Path) -> (Result<UsernsKind, Reason>, Result<(), Reason>) {
    let enter = |kind: &UsernsKind| {
        in_child(directory, |stage| {
            let entered = enter_user_namespace(kind).map_err(|error| match error {
                EnterError::Unshare(error) => Trouble::new("make a user namespace", error),
                EnterError::Map { program, message } => {
                    Trouble { step: format!("map ids with {program}"), errno: None, problem: message }
                }
                EnterError::Threads | EnterError::Helper(_) => {
                    Trouble { step: "enter a user namespace".into(), errno: None, problem: error.to_string() }
                }
            });
            entered.and_then(|()| rehearse(stage))
        })
        .map_err(explain)
    };
    let wish = |problem| Reason {
        step: "have more than one id".into(),
        problem,
        remedy: "install newuidmap and newgidmap (package `uidmap` or `shadow-utils`) and give the user lines in \
                 /etc/subuid and /etc/subgid, as `useradd` does; no_new_privs must be off"
            .into(),
    };
    let problem = match userns::full_kind() {
        Ok(kind) => match enter(&kind) {
            Ok(()) => return (Ok(kind), Ok(())),
            Err(reason) => reason.problem,
        },
        Err(problem) => problem,
    };
    let single = UsernsKind::SingleId;
    (enter(&single).map(|()| single), Err(wish(problem)))
}

/// What went wrong in a child, on its way to the parent.
#[derive(Serialize, Deserialize)]
struct Trouble {
    step: String,
    errno: Option<i32>,
    problem: String,
}

impl Trouble {
    fn new(step: &str, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self { step: step.into(), errno: error.raw_os_error(), problem: error.to_string() }
    }
}

/// Runs a whole command under the translator, on a tree with nothing but that program in it.
#[cfg(target_arch = "x86_64")]
fn probe_translator(directory: &Path, namespaces: Namespaces, real_root: bool) -> Result<(), Reason> {
    use crate::{
        Exit, Network, ResolvedUser, Root, RunRequest,
        wire::{Failure, Start},
    };
    // Without it, nothing but the translation would stand between a hostile command and the builder's files.
    if sys::landlock_abi() < 2 {
        return Err(Reason {
            step: "keep a translated command from the builder's files".into(),
            problem: "the kernel has no Landlock that allows renames (ABI 2)".into(),
            remedy: "use Linux 5.19 or later with Landlock among the security modules (lsm= on the kernel's command \
                     line)"
                .into(),
        });
    }
    let attempt = in_child(directory, |stage| {
        let tree = stage.path.join("tree");
        let program = tree.join("probe");
        fs::write(&program, asks_who_it_is())
            .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
            .map_err(|error| Trouble::new("write a program in the store", error))?;
        let start = Start {
            request: RunRequest {
                root: Root::Flat { directory: tree, journal: stage.path.join("journal"), below: None },
                arguments: vec!["/probe".into()],
                environment: Vec::new(),
                working_directory: "/".into(),
                user: ResolvedUser::root(),
                network: Network::Host,
                hostname: "probe".into(),
                stdin: None,
                files: Vec::new(),
                mounts: Vec::new(),
                scratch_directory: stage.path.clone(),
                emulators: Vec::new(),
                timeout: None,
                cancel: None,
            },
            private: stage.path.join("private"),
            namespaces,
            real_root,
            builder: 0,
            without_checks: false,
        };
        let failed = |failure| match failure {
            Failure::Setup { step, errno, .. } => Trouble::new(&step, io::Error::from_raw_os_error(errno)),
            failure => {
                let problem = crate::ExecError::from(failure).to_string();
                Trouble { step: "run a program under the translator".into(), errno: None, problem }
            }
        };
        namespaces.enter(&start.request).map_err(failed)?;
        let run = || match namespaces.cover_machine().and_then(|()| crate::translate::start::run(&start)) {
            Ok(ended) if ended.exit == Exit::Code(0) => Ok(()),
            Ok(ended) => {
                let step = "run a program under the translator".into();
                Err(Trouble { step, errno: None, problem: format!("it ended with {}", ended.exit) })
            }
            Err(failure) => Err(failed(failure)),
        };
        // What is forked now is process 1, if there are namespaces.
        in_fork(run)
    });
    attempt.map_err(|trouble| {
        let remedy = match trouble.step.as_str() {
            step if step.contains("ptrace") => ptrace_remedy(),
            step if step.contains("chroot") => "run as root of the container with CAP_SYS_CHROOT, which Docker gives: \
                 `securityContext: {runAsUser: 0, capabilities: {add: [SYS_CHROOT]}}`"
                .into(),
            step if step.contains("filter") => "use a kernel with CONFIG_SECCOMP_FILTER (Linux 4.8 or later), and a \
                 seccomp profile that allows the call `seccomp` (`seccompProfile: {type: RuntimeDefault}`)"
                .into(),
            step if step.contains("under the translator") => {
                "put the store on a volume where programs may be run (not mounted `noexec`): `--store`".into()
            }
            _ => "choose a store directory that this user can write".into(),
        };
        let Trouble { step, problem, .. } = trouble;
        Reason { step, problem, remedy }
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn probe_translator(_: &Path, _: Namespaces, _: bool) -> Result<(), Reason> {
    Err(Reason {
        step: "run commands under the translator".into(),
        problem: "it is not made for this processor yet".into(),
        remedy: "let this user make user namespaces, or run the builder as root with CAP_SYS_ADMIN".into(),
    })
}

/// Who forbids ptrace to this process, as far as that can be read.
#[cfg(target_arch = "x86_64")]
fn ptrace_remedy() -> String {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if scope.trim().parse::<u32>().is_ok_and(|scope| scope > 1) {
        return "allow ptrace of own children on the node: sysctl kernel.yama.ptrace_scope=1".into();
    }
    "allow the call `ptrace`: `securityContext: {seccompProfile: {type: RuntimeDefault}}` in the pod's specification \
     (on Linux 4.8 or later), or `capabilities: {add: [SYS_PTRACE]}`"
        .into()
}

/// A program of a few instructions: asks for its user id, which is 0 under the translator, and ends with it.
#[cfg(target_arch = "x86_64")]
fn asks_who_it_is() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS_BYTES: u64 = 64 + 56;
    // mov eax, getuid; syscall; mov edi, eax; mov eax, exit; syscall
    const CODE: [u8; 16] = [0xb8, 102, 0, 0, 0, 0x0f, 0x05, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    let size = HEADERS_BYTES + CODE.len() as u64;
    // Class 64, little-endian, version 1; ET_EXEC, EM_X86_64.
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(16, 0);
    for half in [2_u16, 62] {
        program.extend(half.to_le_bytes());
    }
    program.extend(1_u32.to_le_bytes());
    for word in [BASE + HEADERS_BYTES, 64, 0] {
        program.extend(word.to_le_bytes());
    }
    program.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        program.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    for word in [1_u32, 5] {
        program.extend(word.to_le_bytes());
    }
    for word in [0, BASE, BASE, size, size, 4096] {
        program.extend(word.to_le_bytes());
    }
    program.extend(CODE);
    program
}

/// Runs something in a child of its own.
fn in_child(directory: &Path, rehearse: impl FnOnce(&Rehearsal) -> Result<(), Trouble>) -> Result<(), Trouble> {
    let stage = Rehearsal::new(directory)
        .map_err(|error| Trouble::new(&format!("write in `{}`", directory.display()), error))?;
    in_fork(|| rehearse(&stage))
}

fn in_fork(attempt: impl FnOnce() -> Result<(), Trouble>) -> Result<(), Trouble> {
    let hear = || -> io::Result<Option<Trouble>> {
        let (told, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        match sys::fork()? {
            Fork::Child => {
                drop(told);
                if let Err(trouble) = attempt()
                    && let Ok(message) = serde_json::to_vec(&trouble)
                {
                    let _ = fs::File::from(tell).write_all(&message);
                }
                sys::exit_now(0)
            }
            Fork::Parent(child) => {
                drop(tell);
                let mut message = Vec::new();
                fs::File::from(told).take(1 << 16).read_to_end(&mut message)?;
                rustix::process::waitpid(Some(child), WaitOptions::empty())?;
                if message.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&message)?)) }
            }
        }
    };
    match hear() {
        Ok(None) => Ok(()),
        Ok(Some(trouble)) => Err(trouble),
        Err(error) => Err(Trouble::new("try it in a child process", error)),
    }
}

/// Everything that a RUN needs, in small.
fn rehearse(stage: &Rehearsal) -> Result<(), Trouble> {
    let step = |step: &'static str| move |error: rustix::io::Errno| Trouble::new(step, error);
    let namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    sys::unshare(namespaces).map_err(|error| Trouble::new("make mount, process, ipc and name namespaces", error))?;
    make_all_private().map_err(step("make the mounts private"))?;
    let open = |name: &str| open_directory(stage.path.join(name)).map_err(step("open the probe's directory"));
    let (lower, upper, work) = (open("lower")?, open("upper")?, open("work")?);
    let merged = stage.path.join("merged");
    let writable = Writable { upper: upper.as_fd(), work: work.as_fd() };
    mount_overlay(&merged, &[lower], Some(writable)).map_err(step("mount overlayfs with userxattr in the store"))?;
    let written = merged.join("proc/written");
    fs::write(&written, "x")
        .and_then(|()| fs::remove_file(&written))
        .map_err(|error| Trouble::new("write through overlayfs in the store", error))?;

    // Process 1 of the namespace.
    in_fork(|| {
        let proc =
            new_filesystem("proc", &[], rustix::mount::MountAttrFlags::empty()).map_err(step("mount a fresh /proc"))?;
        let target = open_directory(merged.join("proc")).map_err(step("open the probe's directory"))?;
        attach(proc, target).map_err(step("mount a fresh /proc"))?;
        pivot_into(&merged).map_err(step("change the root (pivot_root)"))
    })
}

/// The directories of a rehearsal, gone with the value.
struct Rehearsal {
    path: PathBuf,
    /// Tells others that somebody is at it.
    _lock: OwnedFd,
}

/// How the names of a rehearsal's directories begin.
const REHEARSAL: &str = ".cofferdam-probe-";

impl Rehearsal {
    fn new(directory: &Path) -> io::Result<Self> {
        for place in [Some(directory), directory.parent()].into_iter().flatten() {
            remove_abandoned(place);
        }
        for number in 0.. {
            let path = directory.join(format!("{REHEARSAL}{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                // Of a process with the same id elsewhere.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Between the two, another one may have taken it for abandoned.
            let Some(lock) = locked(&path) else { continue };
            if !path.is_dir() {
                continue;
            }
            let stage = Self { path, _lock: lock };
            for name in ["lower", "lower/proc", "upper", "work", "merged", "tree", "private"] {
                fs::create_dir(stage.path.join(name))?;
            }
            return Ok(stage);
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn locked(path: &Path) -> Option<OwnedFd> {
    let directory = open_directory_to_list(path).ok()?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(directory)
}

fn open_directory_to_list(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Removes what killed builders left of their rehearsals.
fn remove_abandoned(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let ours = entry.file_name().as_encoded_bytes().starts_with(REHEARSAL.as_bytes());
        if ours && let Some(_lock) = locked(&entry.path()) {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    // Overlayfs makes its own without any permission.
    for name in ["work/work", "work/work/incompat", "work/work/incompat/volatile"] {
        let _ = fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o700));
    }
    let _ = fs::remove_dir_all(path);
}

/// Adds what would help.
fn explain(trouble: Trouble) -> Reason {
    let Trouble { step, errno, problem } = trouble;
    let remedy = match errno.map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOSPC) => "raise the limits in /proc/sys/user (max_user_namespaces and its kin)".into(),
        _ if step.contains("fresh /proc") => {
            "parts of this container's own /proc are covered, so the kernel allows no new one: run the builder's \
             container with an uncovered /proc (`procMount: Unmasked`, or `--security-opt systempaths=unconfined`)"
                .into()
        }
        _ if step.contains("overlayfs") => {
            "use Linux 5.11 or later, and a store on a file system that overlayfs can write on (ext4, xfs, btrfs or \
             tmpfs; no overlay, NFS or FUSE): `--store` or a volume"
                .into()
        }
        _ if step.starts_with("write in") => "choose a store directory that this user can write".into(),
        _ => permission_remedy(),
    };
    Reason { step, problem, remedy }
}

/// Who forbids namespaces to this process, as far as that can be read.
fn permission_remedy() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    if read("/proc/sys/user/max_user_namespaces") == "0" {
        return "allow user namespaces: sysctl user.max_user_namespaces=15000".into();
    }
    if read("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        return "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1".into();
    }
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        return "give the builder an AppArmor profile with `userns`, or set sysctl \
                kernel.apparmor_restrict_unprivileged_userns=0"
            .into();
    }
    if read("/proc/self/status").lines().any(|line| line.split_ascii_whitespace().eq(["Seccomp:", "2"])) {
        return "a system call filter (a container's seccomp profile) forbids it: run the builder's container with a \
                profile that allows unshare, clone and mount (`seccompProfile: Unconfined`, or a localhost profile)"
            .into();
    }
    "let this user make user namespaces, or run the builder as root".into()
}
