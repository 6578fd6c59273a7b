//! From a request to a traced command, and what it leaves.

use std::{
    fs,
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, symlink},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    pipe::PipeFlags,
    process::{DumpableBehavior, Pid},
    thread::{CapabilitySet, CapabilitySets},
};

use super::{
    bindings::{Binding, Bindings},
    domain::{self, Reach},
    filter::{self, Stopped},
    footing::Footing,
    identity::Identity,
    mounts::Mounts,
    network,
    terminals::MULTIPLEXER,
    tracee::Task,
    tracer::Tracer,
    views::Views,
};
use crate::{
    Below, Emulator, Exit, Journal, LayersBelow, Network, Note, Root, RunRequest,
    elf::{self, Program},
    emulator::header_of,
    stage::{
        command, detach_output,
        place::{Kind, Place, locate, open_at},
    },
    sys::{self, Close, Fork, trace},
    wire::{Failure, Start},
};

/// Devices of the machine that every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What a command left.
pub struct Ended {
    /// How it ended.
    pub exit: Exit,
    /// For the user.
    pub notes: Vec<Note>,
}

/// Runs a command to its end. To be called in a process of its own.
///
/// # Errors
/// It could not be started.
pub fn run(start: &Start) -> Result<Ended, Failure> {
    // What is made here has the mode that it is given; the command gets a mask of its own.
    rustix::process::umask(Mode::empty());
    let request = &start.request;
    let Root::Flat { directory, journal, below } = &request.root else {
        return Err(Failure::Request("the root is not a flat tree".into()));
    };
    let footing = Footing::new(start.real_root);
    let step = |step: &'static str| move |error: Errno| Failure::setup(step, error);
    let failed = |step: &'static str| move |error: std::io::Error| Failure::setup(step, error);
    let sockets = match request.network {
        Network::None if !start.namespaces.are_own() => network::leave()?,
        _ => true,
    };
    let mut notes = Vec::new();
    let mut record = Journal::load(journal).map_err(failed("read the journal of the root"))?;
    let layers = match below {
        Some(below) => put_on_layers(&mut record, below, directory)?,
        None => Vec::new(),
    };
    let (mut bindings, mut reach) = bind(request, directory, &record, &start.private, &mut notes)?;
    reach.runnable.extend(layers.iter().map(|layer| path_of(layer)));
    let emulators = known_emulators(&request.emulators)?;
    reach.runnable.extend(request.emulators.iter().map(|emulator| emulator.program.clone()));
    bindings.made_of(layers);
    let root = record.look(bindings.tree().file.as_fd()).map_err(step("look at the root"))?;
    record.settle_on(&root);
    let mut mounts = Mounts::bind(start, &mut bindings, &mut reach, &mut record)?;
    let bounded = std::mem::take(&mut mounts.bounded);
    let stopped = Stopped { footing, writing: !bounded.is_empty() };
    make_working_directory(&bindings, &record, &request.working_directory)?;

    trace::become_subreaper().map_err(step("become the parent of orphans"))?;
    let (told, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(step("make a pipe"))?;
    let (wait, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(step("make a pipe"))?;
    let input = command::input(request.stdin.as_deref())?;
    let child = match sys::fork().map_err(failed("start a process"))? {
        Fork::Child => {
            drop((told, go));
            let Err(failure) = become_command(start, stopped, directory, &reach, sockets, &input, wait);
            if let Ok(message) = serde_json::to_vec(&failure) {
                let _ = fs::File::from(tell).write_all(&message);
            }
            sys::exit_now(127)
        }
        Fork::Parent(child) => child,
    };
    drop((tell, wait));
    detach_output();
    let seized = wait_until_dumpable(child).and_then(|()| trace::seize(child));
    if let Err(error) = seized {
        let _ = trace::kill(child, None, libc::SIGKILL);
        return Err(Failure::setup("trace a process (ptrace)", error));
    }
    rustix::io::write(&go, b"!").map_err(step("start the command"))?;
    drop(go);

    let mut tracer = Tracer::new(
        bindings,
        bounded,
        footing,
        record,
        request.hostname.clone(),
        Views::new(start.private.join("views"), sockets),
    );
    tracer.without_checks = start.without_checks;
    tracer.emulators = emulators;
    let first = Task::first(child, Identity::of(&request.user));
    let exit = tracer.run(first).map_err(step("wait for the command"))?;
    let mut message = Vec::new();
    fs::File::from(told).read_to_end(&mut message).map_err(failed("hear from the command"))?;
    if !message.is_empty() {
        return Err(serde_json::from_slice(&message).unwrap_or_else(|error| Failure::Request(error.to_string())));
    }
    notes.append(&mut tracer.notes);
    tracer.end_watch(None);
    mounts.leave(&mut tracer.journal);
    tracer.journal.save(journal).map_err(failed("write the journal of the root"))?;
    Ok(Ended { exit, notes })
}

/// Emulators with what of their headers the kernel will go by.
fn known_emulators(emulators: &[Emulator]) -> Result<Vec<(Emulator, Program)>, Failure> {
    let known = |emulator: &Emulator| {
        let program = header_of(&emulator.program).ok_or(Errno::NOENT).and_then(|header| elf::parse(&header));
        let failed = |error| Failure::setup(format!("read `{}`", emulator.program.display()), error);
        Ok((emulator.clone(), program.map_err(failed)?))
    };
    emulators.iter().map(known).collect()
}

/// Says to a journal which layers its tree is made of, and answers where they are.
fn put_on_layers(record: &mut Journal, below: &LayersBelow, directory: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let table = Below::load(&below.table).map_err(|error| Failure::setup("read what the layers have", error))?;
    let mut layers = Vec::with_capacity(below.directories.len());
    for directory in &below.directories {
        let failed = |error: Errno| Failure::setup(format!("open the layer `{}`", directory.display()), error);
        layers.push(open_path(directory).and_then(|file| real_path(&file)).map_err(failed)?);
    }
    record.put_on(table, layers.clone(), directory).map_err(|error| Failure::setup("look at the root", error))?;
    Ok(layers)
}

/// A process that was forked from one that nobody may look into is such a one too, until it says otherwise.
fn wait_until_dumpable(child: Pid) -> Result<(), Errno> {
    let path = format!("/proc/{}/cwd", child.as_raw_nonzero());
    for _ in 0..2000 {
        match rustix::fs::readlink(&*path, Vec::new()) {
            Ok(_) => return Ok(()),
            Err(Errno::ACCESS | Errno::PERM) => std::thread::sleep(std::time::Duration::from_micros(100)),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::PERM)
}

/// Everything up to the program.
fn become_command(
    start: &Start,
    stopped: Stopped,
    tree: &Path,
    reach: &Reach,
    sockets: bool,
    input: &OwnedFd,
    wait: OwnedFd,
) -> Result<std::convert::Infallible, Failure> {
    let request = &start.request;
    let step = |step: &'static str| move |error: Errno| Failure::setup(step, error);
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(step("tie the process to its parent"))?;
    // The tracer, a process without privileges, has to look into this one.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(step("open the process to its tracer"))?;
    let mut word = Vec::new();
    fs::File::from(wait).read_to_end(&mut word).map_err(|error| Failure::setup("wait for the tracer", error))?;
    if word.is_empty() {
        sys::exit_now(127);
    }
    rustix::process::setsid().map_err(step("start a session"))?;
    rustix::stdio::dup2_stdin(input).map_err(step("provide the standard input"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::reset_signals();
    sys::close_from(3, Close::OnExec).map_err(|error| Failure::setup("close descriptors", error))?;
    trace::set_no_new_privileges().map_err(step("give up new privileges"))?;
    domain::enter(reach).map_err(|_| Failure::setup("enter a Landlock domain", Errno::PERM))?;
    stopped.footing.enter(tree).map_err(step("make the tree the root (chroot)"))?;
    give_up_capabilities().map_err(step("give up capabilities"))?;
    let mut program = filter::program(sockets, stopped);
    sys::install_filter(&mut program).map_err(|error| Failure::setup("install the system call filter", error))?;

    // From here on, paths are those of the image.
    let directory = &request.working_directory;
    rustix::process::chdir(directory.as_str())
        .map_err(|error| Failure::setup(format!("enter the working directory `{directory}`"), error))?;
    let problem = command::run_program(request)?;
    let program = request.arguments.first().cloned().unwrap_or_default();
    Err(Failure::Command { program, problem })
}

/// Real privileges would be used by the kernel where the command's own identity is nothing but the translator's.
fn give_up_capabilities() -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Err(Errno::INVAL) => break,
            // Without the right to do so there is little to give up; no_new_privs keeps it so.
            Err(Errno::PERM) => break,
            result => result?,
        }
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// The real path of something that is open.
fn real_path(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    use std::os::fd::AsRawFd;
    rustix::fs::readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new()).map(|path| path.into_bytes())
}

pub(super) fn binding(target: &[u8], source: &Path, read_only: bool) -> Result<Binding, Failure> {
    let failed = |error: Errno| Failure::setup(format!("bind `{}`", source.display()), error);
    let file = open_path(source).map_err(failed)?;
    let source = real_path(&file).map_err(failed)?;
    Ok(Binding { target: target.to_vec(), source, file, is_proc: false, read_only })
}

fn path_of(bytes: &[u8]) -> PathBuf {
    std::ffi::OsStr::from_bytes(bytes).into()
}

/// Everything that the command sees, and its domain.
fn bind(
    request: &RunRequest,
    directory: &Path,
    record: &Journal,
    private: &Path,
    notes: &mut Vec<Note>,
) -> Result<(Bindings, Reach), Failure> {
    let tree = binding(b"/", directory, false)?;
    let mut reach = Reach::default();
    reach.writable.push(path_of(&tree.source));
    let mut bindings = Bindings::new(tree);

    let views = private.join("views");
    fs::create_dir(&views).map_err(|error| Failure::setup("make a directory for copies", error))?;
    reach.readable.push(views);
    bindings.add(Binding { is_proc: true, ..binding(b"/proc", Path::new("/proc"), false)? });
    reach.readable.push("/proc".into());
    if let Ok(sys) = binding(b"/sys", Path::new("/sys"), true) {
        bindings.add(sys);
        reach.readable.push("/sys".into());
    }
    let dev = private.join("dev");
    make_dev(&dev).map_err(|error| Failure::setup("make /dev", error))?;
    bindings.add(binding(b"/dev", &dev, false)?);
    // A file system of its own, as everywhere.
    bindings.add(binding(b"/dev/shm", &dev.join("shm"), false)?);
    reach.writable.push(dev);
    for name in DEVICES {
        let device = Path::new("/dev").join(name);
        if let Ok(bound) = binding(device.as_os_str().as_bytes(), &device, false) {
            bindings.add(bound);
            reach.devices.push(device);
        }
    }
    // No right comes with it: see `terminals`.
    if let Ok(multiplexer) = binding(MULTIPLEXER.as_bytes(), Path::new("/dev/ptmx"), false) {
        bindings.add(multiplexer);
    }
    for (number, file) in request.files.iter().enumerate() {
        let failed = |error: std::io::Error| Failure::setup(format!("make a copy of `{}`", file.target), error);
        let Some(place) =
            place(&bindings, record, &file.target).ok().filter(|place| !place.exists() || place.fits(Kind::File))
        else {
            notes.push(Note::NotAFile { target: file.target.clone() });
            continue;
        };
        let copy = private.join(format!("file-{number}"));
        fs::write(&copy, &file.contents).map_err(failed)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).map_err(failed)?;
        bindings.add(binding(&target(&place), &copy, false)?);
        reach.writable.push(copy);
    }
    Ok((bindings, reach))
}

/// Where a path leads; what the layers have on the way is made.
pub(super) fn place(bindings: &Bindings, record: &Journal, target: &str) -> Result<Place, Errno> {
    let tree = bindings.tree().file.as_fd();
    loop {
        let place = locate(tree, target)?;
        let (Some(lazy), false) = (record.lazy(), place.exists()) else { return Ok(place) };
        let above = open_at(tree, &place.path(place.existing), OFlags::PATH | OFlags::DIRECTORY)?;
        if !lazy.make(above.as_fd(), &place.components[place.existing])? {
            return Ok(place);
        }
    }
}

pub(super) fn target(place: &Place) -> Vec<u8> {
    [b"/".as_slice(), &place.components.join(&b'/')].concat()
}

/// A /dev of the command's own: names for the devices that are bound there, links, and shared memory.
fn make_dev(dev: &Path) -> std::io::Result<()> {
    let make = |path: &Path, mode: u32| {
        fs::create_dir(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    make(dev, 0o755)?;
    make(&dev.join("shm"), 0o1777)?;
    make(&dev.join("pts"), 0o755)?;
    fs::write(dev.join("pts/ptmx"), "")?;
    for name in DEVICES {
        fs::write(dev.join(name), "")?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}

/// Makes the working directory if it is missing, as WORKDIR would have.
fn make_working_directory(bindings: &Bindings, record: &Journal, path: &str) -> Result<(), Failure> {
    let failed = |error: Errno| Failure::setup(format!("enter the working directory `{path}`"), error);
    let place = place(bindings, record, path).map_err(failed)?;
    if bindings.holding(&target(&place)) != 0 {
        return Ok(());
    }
    for count in place.existing + 1..=place.components.len() {
        rustix::fs::mkdirat(&bindings.tree().file, place.path(count), Mode::from_raw_mode(0o755)).map_err(failed)?;
    }
    Ok(())
}
