//! The executor of the tiers `native-root` and `userns`: starts a stage process for each command, and listens to it.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    net::{AddressFamily, SocketFlags, SocketType},
};

use crate::{
    Changes, ExecError, Executor, Exit, Ids, Isolation, Landlock, Note, OutputSink, Root, RootForm, RunOutcome,
    RunRequest, STAGE_ARGUMENT, Stream, Tier,
    stage::Namespaces,
    sys, userns,
    wire::{Channel, Report, Reports, Start},
};

/// Which program to start as the stage process: it must call [`crate::run_stage_main`] when its first argument is
/// [`STAGE_ARGUMENT`].
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
}

impl Default for Launcher {
    /// This very program, even if its file was replaced meanwhile.
    fn default() -> Self {
        Self { program: "/proc/self/exe".into() }
    }
}

impl Launcher {
    /// Another program.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

/// Runs commands in namespaces of their own on an overlayfs.
#[derive(Debug)]
pub struct NamespaceExecutor {
    launcher: Launcher,
    ids: Ids,
    isolation: Isolation,
}

impl NamespaceExecutor {
    /// For this process as it is now: root of the machine, or of the namespace that
    /// [`crate::enter_user_namespace`] made.
    pub fn new(launcher: Launcher) -> Self {
        let isolation = Isolation {
            landlock: match sys::landlock_abi() {
                6.. => Landlock::Scoped,
                2..6 => Landlock::Ptrace,
                _ => Landlock::Missing,
            },
            seccomp: sys::has_seccomp() && crate::stage::FILTERED,
        };
        Self { launcher, ids: userns::mapped_ids(), isolation }
    }

    pub(crate) fn start(&self, start: &Start) -> Result<Conversation, ExecError> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(|error| ExecError::Launch(error.into()))?;
        let mut child = Command::new(&self.launcher.program)
            .arg0("cofferdam-run")
            .arg(STAGE_ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(ExecError::Launch)?;
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        let orderly = matches!(start.request.root, Root::Flat { .. });
        let conversation = Conversation { child: StageProcess(child), orderly, control: Some(ours), stdout, stderr };
        let control = conversation.control.as_ref().expect("just put there").try_clone().map_err(ExecError::Launch)?;
        Channel::new(control).send(start).map_err(ExecError::Launch)?;
        Ok(conversation)
    }
}

impl Executor for NamespaceExecutor {
    fn tier(&self) -> Tier {
        if self.ids == Ids::All { Tier::NativeRoot } else { Tier::Userns }
    }

    fn form(&self) -> RootForm {
        RootForm::Overlay
    }

    fn ids(&self) -> Ids {
        self.ids
    }

    fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn run(&self, request: &RunRequest, output: &mut dyn OutputSink) -> Result<RunOutcome, ExecError> {
        let Root::Overlay { work, .. } = &request.root else {
            return Err(ExecError::Form { wanted: RootForm::Overlay });
        };
        check(request)?;
        let private = PrivateDirectory::new(&request.scratch_directory)?;
        // After a killed command, and after every other: what overlayfs leaves there makes it refuse the directory.
        let _ = fs::remove_dir_all(work.join("work"));
        let start = Start {
            request: request.clone(),
            private: private.path.clone(),
            namespaces: Namespaces::Own,
            real_root: false,
            builder: std::process::id(),
            without_checks: false,
        };
        let outcome = self.start(&start).and_then(|conversation| conversation.listen(request, output));
        let _ = fs::remove_dir_all(work.join("work"));
        let mut outcome = outcome?;
        if self.ids == Ids::Single && !outcome.exit.success() {
            outcome.notes.push(Note::SingleId);
        }
        Ok(outcome)
    }
}

/// Refuses what could not even be handed over.
pub(crate) fn check(request: &RunRequest) -> Result<(), ExecError> {
    let refuse = |what: &str| Err(ExecError::Request(what.into()));
    let mut words = request.arguments.iter().chain(request.environment.iter().flat_map(|(name, value)| [name, value]));
    if request.arguments.first().is_none_or(String::is_empty) {
        return refuse("there is no command");
    }
    if words.any(|word| word.contains('\0')) {
        return refuse("an argument or a variable has a NUL byte");
    }
    if !request.working_directory.starts_with('/') {
        return refuse("the working directory is not absolute");
    }
    let mut targets =
        request.files.iter().map(|file| &file.target).chain(request.mounts.iter().map(|mount| &mount.target));
    if targets.any(|target| !target.starts_with('/')) {
        return refuse("the target of a mount is not absolute");
    }
    Ok(())
}

/// A running stage process; killed with all that it started when it is dropped.
struct StageProcess(Child);

impl Drop for StageProcess {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Conversation {
    child: StageProcess,
    /// Whether the stage process is told to end what it started, and left alone until it has.
    orderly: bool,
    control: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// How long a stage process may take to end what it started.
const END_WAIT: Duration = Duration::from_secs(10);

impl Drop for Conversation {
    fn drop(&mut self) {
        if !self.orderly {
            return;
        }
        self.control = None;
        let begun = Instant::now();
        while matches!(self.child.0.try_wait(), Ok(None)) && begun.elapsed() < END_WAIT {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Conversation {
    /// Passes the output on until the command has ended.
    pub(crate) fn listen(mut self, request: &RunRequest, output: &mut dyn OutputSink) -> Result<RunOutcome, ExecError> {
        let deadline = request.timeout.map(|timeout| (Instant::now() + timeout, timeout));
        let mut reports = Reports::default();
        let mut notes = Vec::new();
        let mut end = None;
        let mut buffer = vec![0; 64 << 10];
        while self.control.is_some() || self.stdout.is_some() || self.stderr.is_some() {
            let ready = self.wait(request, deadline.map(|(at, _)| at))?;
            if ready.cancelled {
                return Err(ExecError::Cancelled);
            }
            if let Some((at, after)) = deadline
                && Instant::now() >= at
            {
                return Err(ExecError::TimedOut { after });
            }
            if ready.stdout {
                pump(&mut self.stdout, &mut buffer, |bytes| output.output(Stream::Stdout, bytes))?;
            }
            if ready.stderr {
                pump(&mut self.stderr, &mut buffer, |bytes| output.output(Stream::Stderr, bytes))?;
            }
            if ready.control {
                let mut result = Ok(());
                pump(&mut self.control, &mut buffer, |bytes| result = reports.push(bytes))?;
                result.map_err(ExecError::Launch)?;
                while let Some(report) = reports.next().map_err(ExecError::Launch)? {
                    match report {
                        Report::Note(note) => notes.push(note),
                        Report::Ended { exit, leave_out } => end = Some(Ok((exit, leave_out))),
                        Report::Failed(failure) => end = Some(Err(failure)),
                    }
                }
            }
        }
        // Only now is every process of the command gone: the kernel ends the last of a process namespace before it
        // lets anyone wait for its first.
        let status = self.child.0.wait().map_err(ExecError::Launch)?;
        let (exit, leave_out): (Exit, Vec<Vec<u8>>) = match end {
            Some(result) => result?,
            None => return Err(ExecError::Lost { status: status.to_string() }),
        };
        Ok(RunOutcome { exit, changes: Changes::Upper { leave_out }, notes })
    }

    fn wait(&self, request: &RunRequest, deadline: Option<Instant>) -> Result<Ready, ExecError> {
        let sources = [
            self.control.as_ref().map(AsFd::as_fd),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
            request.cancel.as_ref().map(AsFd::as_fd),
        ];
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left: Duration| Timespec {
            tv_sec: left.as_secs().min(i32::MAX as u64) as i64,
            tv_nsec: left.subsec_nanos().into(),
        });
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(ExecError::Launch(error.into())),
        }
        let mut answers = polled.iter().map(|polled| !polled.revents().is_empty());
        let mut ready = sources.map(|source| source.is_some() && answers.next().unwrap_or(false)).into_iter();
        let mut next = || ready.next().unwrap_or(false);
        Ok(Ready { control: next(), stdout: next(), stderr: next(), cancelled: next() })
    }
}

#[derive(Default)]
struct Ready {
    control: bool,
    stdout: bool,
    stderr: bool,
    cancelled: bool,
}

/// Reads once; at the end of the stream, closes it.
fn pump(source: &mut Option<OwnedFd>, buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> Result<(), ExecError> {
    let Some(fd) = source.as_ref() else { return Ok(()) };
    match rustix::io::read(fd, &mut *buffer) {
        // A socket whose other end was killed with bytes unread says so instead of ending.
        Ok(0) | Err(rustix::io::Errno::CONNRESET) => *source = None,
        Ok(count) => take(&buffer[..count]),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
        Err(error) => return Err(ExecError::Launch(error.into())),
    }
    Ok(())
}

/// A directory that lives as long as a command.
pub(crate) struct PrivateDirectory {
    pub(crate) path: PathBuf,
}

impl PrivateDirectory {
    pub(crate) fn new(parent: &Path) -> Result<Self, ExecError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("run-{}-{number}", std::process::id()));
        let failed = |source: io::Error| ExecError::Setup {
            step: format!("make a directory in `{}`", parent.display()),
            source,
            hint: None,
        };
        // What a killed builder with the same process id left behind.
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fs::create_dir(&path).map_err(failed)?;
        Ok(Self { path })
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
