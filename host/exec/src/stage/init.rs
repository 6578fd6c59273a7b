//! Process 1 of a command's namespace: makes the root, starts the command, reaps what is orphaned, tells how it ended.

use std::{
    collections::BTreeSet,
    fs,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Gid, Mode, OFlags, Uid},
    io::Errno,
    process::WaitOptions,
};

use super::{
    binfmt, command, detach_output,
    mount::{attach, clone_of, make_all_private, open_directory, pivot_into},
    mounts,
    overlay::{Writable, mount_overlay, unmount_overlay},
    place::{Kind, MountPoints, Place, complete, locate, open_at, same_file_system},
    surroundings,
};
use crate::{
    Exit, Note, Root, RunRequest, sys,
    wire::{Failure, Start},
};

/// A detached mount and where it goes.
pub struct Pending {
    /// The mount.
    pub mount: OwnedFd,
    /// Absolute, in the root.
    pub target: String,
    /// Of its root.
    pub kind: Kind,
    /// Whether the command can do without it when the image has something else in its place.
    pub optional: bool,
}

/// What there is to tell when the command has ended.
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// The mount points that were made in the upper directory.
    pub leave_out: Vec<Vec<u8>>,
    /// For the user.
    pub notes: Vec<Note>,
}

/// Runs the command to its end.
pub fn run(start: &Start) -> Result<Ended, Failure> {
    // What is made here has the mode that it is given; the command gets a mask of its own.
    rustix::process::umask(Mode::empty());
    make_all_private().map_err(|error| Failure::setup("make the mounts private", error))?;
    let request = &start.request;
    // Until the command has ended.
    let _handlers = binfmt::register(&request.emulators)?;
    let pending = prepare_mounts(request, &start.private)?;
    let asked = mounts::prepare(request, &start.private)?;
    let merged = mount_root(request, &start.private, &pending, &asked)?;
    let root = open_directory(&merged).map_err(|error| Failure::setup("open the root", error))?;

    let (mut leave_out, mut notes) = (Vec::new(), Vec::new());
    put_mounts(root.as_fd(), pending, &mut leave_out, &mut notes)?;
    surroundings::fill_dev(root.as_fd())?;
    surroundings::attach_cgroups(root.as_fd());
    surroundings::cover(root.as_fd())?;
    put_mounts(root.as_fd(), asked, &mut leave_out, &mut notes)?;
    pivot_into(&merged).map_err(|error| Failure::setup("make the root the command's", error))?;

    let root = open_directory("/").map_err(|error| Failure::setup("open the root", error))?;
    let directory = working_directory(root.as_fd(), &request.working_directory)?;
    drop(root);
    let command = command::start(request, directory)?;
    detach_output();
    let exit = loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => {
                break match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => continue,
                };
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::setup("wait for the command", error)),
        }
    };
    Ok(Ended { exit, leave_out, notes })
}

/// The mounts that every command gets, but for its own bindings.
fn prepare_mounts(request: &RunRequest, private: &Path) -> Result<Vec<Pending>, Failure> {
    let directory =
        |mount, target: &str| Pending { mount, target: target.into(), kind: Kind::Directory, optional: false };
    let mut pending = vec![directory(surroundings::new_proc()?, "/proc")];
    pending.extend(surroundings::new_sys()?.map(|sys| directory(sys, "/sys")));
    pending.push(directory(surroundings::new_dev()?, "/dev"));
    for (number, file) in request.files.iter().enumerate() {
        let failed = |error: std::io::Error| Failure::setup(format!("make a copy of `{}`", file.target), error);
        let path = private.join(format!("file-{number}"));
        fs::write(&path, &file.contents).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(failed)?;
        let mount = clone_of(CWD, &path, false).map_err(|error| failed(error.into()))?;
        pending.push(Pending { mount, target: file.target.clone(), kind: Kind::File, optional: true });
    }
    Ok(pending)
}

/// Mounts the root with all mount points in it, and returns where.
fn mount_root(
    request: &RunRequest,
    private: &Path,
    pending: &[Pending],
    asked: &[Pending],
) -> Result<PathBuf, Failure> {
    let Root::Overlay { lower, upper, work } = &request.root else {
        return Err(Failure::Request("the root is not an overlay".into()));
    };
    let failed = |error: std::io::Error| Failure::setup("mount the root (overlayfs)", error);
    let merged = private.join("merged");
    fs::create_dir(&merged).map_err(failed)?;
    let open = |path: &PathBuf| {
        open_directory(path).map_err(|error| Failure::setup(format!("open `{}`", path.display()), error))
    };
    // A layer may be in an image twice, which overlayfs refuses (ELOOP). What it says at the top stands whatever it says
    // further down.
    let mut named = BTreeSet::new();
    let mut lower = lower.iter().filter(|path| named.insert(*path)).map(open).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(upper)?, open(work)?);

    // Look first, without changing anything: which mount points are missing?
    let empty = private.join("empty");
    fs::create_dir(&empty).map_err(failed)?;
    let mut seen = vec![upper.try_clone().map_err(failed)?];
    for directory in &lower {
        seen.push(directory.try_clone().map_err(failed)?);
    }
    seen.push(open(&empty)?);
    mount_overlay(&merged, &seen, None).map_err(|error| failed(error.into()))?;
    let points = {
        let root = open(&merged)?;
        missing_points(root.as_fd(), &[pending, asked], private)?
    };
    unmount_overlay(&merged).map_err(|error| failed(error.into()))?;

    match points {
        Some(points) => lower.insert(0, open(&points)?),
        None if lower.is_empty() => lower.push(open(&empty)?),
        None => {}
    }
    let writable = Writable { upper: upper.as_fd(), work: work.as_fd() };
    mount_overlay(&merged, &lower, Some(writable)).map_err(|error| failed(error.into()))?;
    Ok(merged)
}

/// A layer with the mount points that the root lacks, if it lacks any.
fn missing_points(root: BorrowedFd<'_>, mounts: &[&[Pending]], private: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut wanted: Vec<(Place, Kind)> = Vec::new();
    let mut look = |target: &str, kind: Kind| {
        if let Ok(place) = locate(root, target)
            && !place.exists()
            // What is covered by a mount of ours is made there.
            && !(place.components.len() > 1 && matches!(place.components[0].as_slice(), b"dev" | b"proc" | b"sys"))
        {
            wanted.push((place, kind));
        }
    };
    for mount in mounts.iter().copied().flatten() {
        look(&mount.target, mount.kind);
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let make = || {
        let mut points = MountPoints::new(private.join("points"), root)?;
        for (place, kind) in &wanted {
            points.add(place, *kind)?;
        }
        points.finish()
    };
    make().map(Some).map_err(|error| Failure::setup("make the mount points", error))
}

/// Puts each mount on its target, which is made in the root if even the layer of mount points could not provide it
/// (below an opaque directory of the upper one).
fn put_mounts(
    root: BorrowedFd<'_>,
    pending: Vec<Pending>,
    leave_out: &mut Vec<Vec<u8>>,
    notes: &mut Vec<Note>,
) -> Result<(), Failure> {
    for Pending { mount, target, kind, optional } in pending {
        let failed = |error: Errno| Failure::setup(format!("mount something at `{target}` of the image"), error);
        let unfit = |target: &str| {
            let wanted = if kind == Kind::Directory { "directory" } else { "file" };
            Failure::Request(format!("`{target}` of the image has to be a {wanted} to be mounted on"))
        };
        let place = match locate(root, &target) {
            Ok(place) => place,
            Err(_) if optional => {
                notes.push(Note::NotAFile { target });
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        if place.exists() && !place.fits(kind) {
            if !optional {
                return Err(unfit(&target));
            }
            notes.push(Note::NotAFile { target });
            continue;
        }
        if !place.exists() {
            let parent = open_at(root, &place.path(place.existing), OFlags::PATH).map_err(failed)?;
            let in_image = same_file_system(&parent, root).map_err(failed)?;
            let made = complete(root, &place, kind).map_err(failed)?;
            if in_image {
                leave_out.extend(made);
            }
        }
        let at = open_at(root, &place.path(place.components.len()), OFlags::PATH | OFlags::NOFOLLOW).map_err(failed)?;
        attach(mount, at).map_err(failed)?;
    }
    Ok(())
}

/// Opens the working directory, made if it is missing as WORKDIR would have made it.
fn working_directory(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Failure> {
    let failed = |error: Errno| Failure::setup(format!("enter the working directory `{path}`"), error);
    let place = locate(root, path).map_err(failed)?;
    for count in place.existing + 1..=place.components.len() {
        rustix::fs::mkdirat(root, place.path(count), Mode::from_raw_mode(0o755)).map_err(failed)?;
    }
    open_at(root, &place.path(place.components.len()), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)
}

/// Lets the command's user open its own output by name, as programs that log to /dev/stdout do.
pub fn hand_over_output(uid: u32, gid: u32) {
    for stream in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
}

/// Ends this process when it was forked for a command that never started.
pub fn give_up() -> ! {
    sys::exit_now(127)
}
