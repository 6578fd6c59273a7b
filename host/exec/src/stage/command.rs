//! The command: the last steps before its program takes the process over.

use std::{
    ffi::CString,
    io::{self, Read, Seek, Write},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{MemfdFlags, Mode, OFlags},
    io::Errno,
    pipe::PipeFlags,
    process::{Pid, WaitOptions},
};

use super::{confine, filter, init};
use crate::{
    RunRequest,
    error::CommandProblem,
    sys::{self, Close, Fork},
    wire::Failure,
};

/// What shells search when `PATH` is not set, in the order of container engines.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts the command in `directory`; returns once its program runs.
pub fn start(request: &RunRequest, directory: OwnedFd) -> Result<Pid, Failure> {
    let input = input(request.stdin.as_deref())?;
    init::hand_over_output(request.user.uid, request.user.gid);
    let (told, tell) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failure::setup("make a pipe", error))?;
    match sys::fork().map_err(|error| Failure::setup("start a process", error))? {
        Fork::Child => {
            drop(told);
            let Err(failure) = become_command(request, &directory, &input);
            if let Ok(message) = serde_json::to_vec(&failure) {
                let _ = std::fs::File::from(tell).write_all(&message);
            }
            init::give_up()
        }
        Fork::Parent(command) => {
            drop(tell);
            let mut message = Vec::new();
            // The program's start closes the other end.
            std::fs::File::from(told)
                .read_to_end(&mut message)
                .map_err(|error| Failure::setup("hear from the command", error))?;
            if message.is_empty() {
                return Ok(command);
            }
            let _ = rustix::process::waitpid(Some(command), WaitOptions::empty());
            Err(serde_json::from_slice(&message).unwrap_or_else(|error| Failure::Request(error.to_string())))
        }
    }
}

/// The command's standard input: a file of its own in memory, or nothing.
pub fn input(contents: Option<&[u8]>) -> Result<OwnedFd, Failure> {
    let failed = |error: io::Error| Failure::setup("provide the standard input", error);
    let Some(contents) = contents else {
        return rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()));
    };
    let mut file = std::fs::File::from(
        rustix::fs::memfd_create("stdin", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?,
    );
    file.write_all(contents).and_then(|()| file.rewind()).map_err(failed)?;
    Ok(file.into())
}

fn become_command(
    request: &RunRequest,
    directory: &OwnedFd,
    input: &OwnedFd,
) -> Result<std::convert::Infallible, Failure> {
    let step = |step: &'static str| move |error: Errno| Failure::setup(step, error);
    rustix::process::setsid().map_err(step("start a session"))?;
    rustix::process::fchdir(directory).map_err(step("enter the working directory"))?;
    rustix::stdio::dup2_stdin(input).map_err(step("provide the standard input"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::reset_signals();
    sys::close_from(3, Close::OnExec).map_err(|error| Failure::setup("close descriptors", error))?;

    // As long as all capabilities are there: domain and filter need one of them (or no_new_privs, which would break
    // sudo and su).
    confine::enter_domain()?;
    confine::limit_capabilities(request.network).map_err(step("limit the capabilities"))?;
    filter::install().map_err(|error| Failure::setup("install the system call filter", error))?;
    confine::become_user(&request.user, request.network)?;

    let problem = run_program(request)?;
    let program = request.arguments.first().cloned().unwrap_or_default();
    Err(Failure::Command { program, problem })
}

/// Tries to start the program. Returns only with what is wrong.
pub fn run_program(request: &RunRequest) -> Result<CommandProblem, Failure> {
    let text = |string: &str| CString::new(string).map_err(|_| Failure::Request("a NUL byte in an argument".into()));
    let arguments = request.arguments.iter().map(|word| text(word)).collect::<Result<Vec<_>, _>>()?;
    let environment = request
        .environment
        .iter()
        .map(|(name, value)| text(&format!("{name}={value}")))
        .collect::<Result<Vec<_>, _>>()?;
    let name = &request.arguments[0];
    if name.contains('/') {
        let error = sys::execve(&text(name)?, &arguments, &environment);
        return Ok(problem(&error, name, false));
    }
    let path = request.environment.iter().rfind(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    let mut worst = CommandProblem::NotFound { in_path: true };
    for directory in path.unwrap_or(DEFAULT_PATH).split(':') {
        let candidate = if directory.is_empty() { format!("./{name}") } else { format!("{directory}/{name}") };
        // A directory or a file without the bit is no candidate (execvp(3) goes on too, and remembers).
        if !Path::new(&candidate).is_file() {
            continue;
        }
        match problem(&sys::execve(&text(&candidate)?, &arguments, &environment), &candidate, true) {
            CommandProblem::Denied => worst = CommandProblem::Denied,
            CommandProblem::NotFound { .. } => {}
            other => return Ok(other),
        }
    }
    Ok(worst)
}

fn problem(error: &io::Error, path: &str, in_path: bool) -> CommandProblem {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if Path::new(path).exists() => CommandProblem::NoInterpreter,
        Some(Errno::NOENT | Errno::NOTDIR) => CommandProblem::NotFound { in_path },
        Some(Errno::ACCESS | Errno::PERM | Errno::ISDIR) => CommandProblem::Denied,
        Some(Errno::NOEXEC) => CommandProblem::Format,
        _ => CommandProblem::Other { errno: error.raw_os_error().unwrap_or(libc::EIO) },
    }
}
