//! The stage process: what stands between the builder and one command.
//!
//! Three processes, each with one thread. The *keeper* is started by the builder, reads the request, and leaves the
//! builder's namespaces. Its child is *init*, process 1 of the new process namespace, which makes the root and starts the
//! *command*. When the command ends, so does init, and the kernel kills what is left in the namespace; mounts go with the
//! last process of the mount namespace. Each dies with its parent, so a killed builder leaves nothing. On a flat tree the
//! keeper's child is the *tracer*, process 1 where there are namespaces; where there are none, the keeper waits for what the
//! kernel kills with it.

use std::os::fd::AsFd;

use rustix::{
    io::Errno,
    process::{DumpableBehavior, Signal, WaitOptions},
};

use crate::{
    Ids, Root,
    error::IdKind,
    sys::{self, Close, Fork},
    userns::{self, IdMap},
    wire::{Channel, Failure, Report, Start},
};

mod binfmt;
pub mod command;
mod confine;
mod filter;
mod init;
pub mod mount;
mod mounts;
mod namespaces;
pub mod overlay;
pub mod place;
mod surroundings;

pub use filter::FILTERED;
pub use namespaces::Namespaces;

/// The first argument that makes a program a stage process: whoever links this crate calls [`run_stage_main`] at the very
/// start of `main` when it sees it.
pub const STAGE_ARGUMENT: &str = "__run-stage";

/// The whole life of a stage process. Expects a connected socket as standard input.
pub fn run_stage_main() -> ! {
    // Nothing owns a descriptor yet; what a careless starter left open ends here.
    let _ = sys::close_from(3, Close::Now);
    // A builder that ignores the end of its children is inherited from, too.
    sys::reset_signals();
    let mut channel = Channel::new(sys::take_stdin());
    let code = match keep(&mut channel) {
        Ok(code) => code,
        Err(failure) => {
            let _ = channel.send(&Report::Failed(failure));
            1
        }
    };
    sys::exit_now(code)
}

/// The keeper.
fn keep(channel: &mut Channel) -> Result<i32, Failure> {
    let step = |step: &'static str| move |error: Errno| Failure::setup(step, error);
    // Not dumpable: the command must not look into its ancestors, whose memory has the request.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("protect the stage process"))?;
    die_with_parent()?;
    // Away from the terminal: the command can neither open it nor get its signals.
    rustix::process::setsid().map_err(step("start a session"))?;
    let start = channel.receive_start().map_err(|error| Failure::setup("read the request", error))?;
    let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get().unsigned_abs());
    if parent != start.builder {
        // The builder died before the signal of its death was asked for.
        sys::exit_now(1);
    }
    let is_flat = matches!(start.request.root, Root::Flat { .. });
    if !is_flat {
        check_ids(&start)?;
    }
    // The builder's keys stay with the builder. Kernels without keyrings, and filters that forbid them, have none to give.
    let _ = sys::join_new_session_keyring();
    start.namespaces.enter(&start.request)?;
    if is_flat {
        return translate(&start, channel);
    }

    let (lifeline, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(step("make a pipe"))?;
    match sys::fork().map_err(|error| Failure::setup("start a process", error))? {
        Fork::Child => {
            drop(held);
            die_with_parent()?;
            if has_ended(lifeline) {
                sys::exit_now(1);
            }
            let report = match init::run(&start) {
                Ok(init::Ended { exit, leave_out, notes }) => {
                    for note in notes {
                        let _ = channel.send(&Report::Note(note));
                    }
                    Report::Ended { exit, leave_out }
                }
                Err(failure) => Report::Failed(failure),
            };
            let sent = channel.send(&report).is_ok();
            sys::exit_now(if sent { 0 } else { 1 })
        }
        Fork::Parent(init) => {
            drop(lifeline);
            detach_output();
            let _held = held;
            loop {
                match rustix::process::waitpid(Some(init), WaitOptions::empty()) {
                    Ok(Some((_, status))) => return Ok(status.exit_status().unwrap_or(1)),
                    Ok(None) | Err(Errno::INTR) => {}
                    Err(_) => return Ok(1),
                }
            }
        }
    }
}

/// The keeper of a command on a flat tree: often no namespace ends its processes, so it stays until they have ended. Its
/// child is the *tracer*, with which the kernel kills all that it traces.
#[cfg(target_arch = "x86_64")]
fn translate(start: &Start, channel: &mut Channel) -> Result<i32, Failure> {
    use rustix::event::{PollFd, PollFlags};
    let step = |step: &'static str| move |error: Errno| Failure::setup(step, error);
    // What the tracer leaves comes here.
    sys::trace::become_subreaper().map_err(step("become the parent of orphans"))?;
    let (ended, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(step("make a pipe"))?;
    match sys::fork().map_err(|error| Failure::setup("start a process", error))? {
        Fork::Child => {
            drop(ended);
            die_with_parent()?;
            let run = || start.namespaces.cover_machine().and_then(|()| crate::translate::start::run(start));
            let report = match run() {
                Ok(crate::translate::start::Ended { exit, notes }) => {
                    for note in notes {
                        let _ = channel.send(&Report::Note(note));
                    }
                    Report::Ended { exit, leave_out: Vec::new() }
                }
                Err(failure) => Report::Failed(failure),
            };
            let sent = channel.send(&report).is_ok();
            sys::exit_now(if sent { 0 } else { 1 })
        }
        Fork::Parent(tracer) => {
            drop(held);
            detach_output();
            // The builder says nothing any more: what comes from it is its end, or its wish to end the command.
            let mut polled = [
                PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
            ];
            while rustix::event::poll(&mut polled, None) == Err(Errno::INTR) {}
            if polled[1].revents().is_empty() {
                let _ = rustix::process::kill_process(tracer, Signal::KILL);
            }
            let mut code = 1;
            loop {
                match rustix::process::wait(WaitOptions::empty()) {
                    Ok(Some((process, status))) if process == tracer => code = status.exit_status().unwrap_or(1),
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(_) => return Ok(code),
                }
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn translate(_: &Start, _: &mut Channel) -> Result<i32, Failure> {
    Err(Failure::Request("the translator is not made for this processor".into()))
}

fn die_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::setup("tie the process to its parent", error))
}

/// Whether the other end of a pipe into which nothing is written is closed.
fn has_ended(pipe: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::new(&pipe, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
}

/// Lets go of the command's output, which else would not end with it.
pub fn detach_output() {
    use rustix::fs::{Mode, OFlags};
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Refuses ids that the kernel would refuse with a word that helps nobody.
fn check_ids(start: &Start) -> Result<(), Failure> {
    if userns::mapped_ids() == Ids::All {
        return Ok(());
    }
    let user = &start.request.user;
    let (users, groups) = (IdMap::current(IdKind::User), IdMap::current(IdKind::Group));
    let foreign = |kind, map: &IdMap, id| Failure::ForeignId { kind, id, mapped: map.to_string() };
    if !users.contains(user.uid) {
        return Err(foreign(IdKind::User, &users, user.uid));
    }
    match user.groups.iter().chain([&user.gid]).find(|&&gid| !groups.contains(gid)) {
        Some(&gid) => Err(foreign(IdKind::Group, &groups, gid)),
        None => Ok(()),
    }
}
