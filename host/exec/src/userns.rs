//! User namespaces: which ids there are, and entering one of our own.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    process::Command,
};

use rustix::{
    pipe::PipeFlags,
    process::{Pid, WaitOptions, getppid},
    thread::{CapabilitySet, UnshareFlags},
};
use serde::{Deserialize, Serialize};

use crate::{
    Ids,
    error::IdKind,
    sys::{self, Fork},
};

/// The kernel takes 340 lines (user_namespaces(7)).
const MAP_LINES_LIMIT: usize = 340;

/// Consecutive ids of the namespace, and the consecutive ids outside that they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id in the namespace.
    pub inside: u32,
    /// First id in the parent namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Who writes the map of a namespace with many ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapWriter {
    /// newuidmap and newgidmap, for the ids that /etc/subuid and /etc/subgid give to the user.
    Newuidmap,
    /// We do, as root of a container with CAP_SETUID, CAP_SETGID and CAP_SETFCAP but without CAP_SYS_ADMIN: all our own
    /// ids.
    Direct,
}

/// The kind of user namespace that can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsernsKind {
    /// With many ids.
    Full {
        /// User ids.
        users: Vec<IdRange>,
        /// Group ids.
        groups: Vec<IdRange>,
        /// How the map gets written.
        writer: MapWriter,
    },
    /// With our own id as 0, and no other.
    SingleId,
}

/// Why a user namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Called too late.
    #[error("more than one thread is running: a user namespace has to be entered before that")]
    Threads,
    /// The kernel refused the namespace.
    #[error("can't make a user namespace: {0}")]
    Unshare(#[source] io::Error),
    /// The map could not be written.
    #[error("can't map ids with {program}: {message}")]
    Map {
        /// newuidmap, newgidmap, or the file in /proc.
        program: String,
        /// What it said.
        message: String,
    },
    /// A process or pipe could not be made.
    #[error("can't start the process that maps the ids")]
    Helper(#[source] io::Error),
}

/// Makes this process root of a new user namespace. The process must have one thread; it keeps its memory, its
/// descriptors and, as the kernel sees it, its user: what it could read before it can read after.
///
/// # Errors
/// See [`EnterError`]; after one of them the process may be in a namespace without ids and should end.
pub fn enter_user_namespace(kind: &UsernsKind) -> Result<(), EnterError> {
    if !sys::is_single_threaded() {
        return Err(EnterError::Threads);
    }
    match kind {
        UsernsKind::SingleId => enter_alone(),
        UsernsKind::Full { users, groups, writer } => enter_with_helper(users, groups, *writer),
    }
}

fn enter_alone() -> Result<(), EnterError> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER).map_err(EnterError::Unshare)?;
    // A group may be mapped without privileges only where no group can be dropped (user_namespaces(7)).
    let lines = [("setgroups", "deny".into()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))];
    for (file, line) in lines {
        let path = format!("/proc/self/{file}");
        fs::write(&path, line).map_err(|error| EnterError::Map { program: path, message: error.to_string() })?;
    }
    Ok(())
}

/// The helper stays outside, where the map has to be written from.
fn enter_with_helper(users: &[IdRange], groups: &[IdRange], writer: MapWriter) -> Result<(), EnterError> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| EnterError::Helper(error.into()));
    let (go_read, go_write) = pipe()?;
    let (told_read, told_write) = pipe()?;
    match sys::fork().map_err(EnterError::Helper)? {
        Fork::Child => {
            drop((go_write, told_read));
            let result = help(go_read, users, groups, writer);
            if let Err((program, message)) = &result {
                let _ = fs::File::from(told_write).write_all(format!("{program}\n{message}").as_bytes());
            }
            sys::exit_now(if result.is_ok() { 0 } else { 1 })
        }
        Fork::Parent(helper) => {
            drop((go_read, told_write));
            let unshared = sys::unshare(UnshareFlags::NEWUSER).map_err(EnterError::Unshare);
            if unshared.is_ok() {
                let _ = rustix::io::write(&go_write, b"g");
            }
            drop(go_write);
            let mut told = String::new();
            let _ = fs::File::from(told_read).take(4096).read_to_string(&mut told);
            let ended = rustix::process::waitpid(Some(helper), WaitOptions::empty());
            unshared?;
            let code = ended.ok().flatten().and_then(|(_, status)| status.exit_status());
            if code != Some(0) {
                let (program, message) = told.split_once('\n').unwrap_or(("the helper", "it was killed"));
                return Err(EnterError::Map { program: program.into(), message: message.trim().into() });
            }
            Ok(())
        }
    }
}

/// The helper: waits until its parent is in the namespace, and maps. The error is the program and what it said.
fn help(go: OwnedFd, users: &[IdRange], groups: &[IdRange], writer: MapWriter) -> Result<(), (String, String)> {
    let mut byte = [0];
    if fs::File::from(go).read_exact(&mut byte).is_err() {
        return Ok(());
    }
    let parent = getppid().map(Pid::as_raw_nonzero).map_or(0, |pid| pid.get());
    for (program, file, ranges) in [("newuidmap", "uid_map", users), ("newgidmap", "gid_map", groups)] {
        match writer {
            MapWriter::Direct => {
                let path = format!("/proc/{parent}/{file}");
                let lines: String = ranges
                    .iter()
                    .map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count))
                    .collect();
                fs::write(&path, lines).map_err(|error| (path, error.to_string()))?;
            }
            MapWriter::Newuidmap => {
                let numbers = ranges.iter().flat_map(|range| [range.inside, range.outside, range.count]);
                let output = Command::new(program)
                    .arg(parent.to_string())
                    .args(numbers.map(|number| number.to_string()))
                    .output()
                    .map_err(|error| (program.to_owned(), error.to_string()))?;
                if !output.status.success() {
                    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return Err((program.into(), if message.is_empty() { output.status.to_string() } else { message }));
                }
            }
        }
    }
    Ok(())
}

/// The ids of the namespace that this process is in.
pub fn mapped_ids() -> Ids {
    let (users, groups) = (IdMap::current(IdKind::User), IdMap::current(IdKind::Group));
    match users.count().min(groups.count()) {
        count if count >= u64::from(u32::MAX) => Ids::All,
        0 | 1 => Ids::Single,
        _ => Ids::Range { end: users.end().min(groups.end()) },
    }
}

/// The map of a namespace, as it says itself in /proc.
#[derive(Debug)]
pub struct IdMap(Vec<IdRange>);

impl IdMap {
    /// Of the namespace that this process is in; empty if it can't be read.
    pub fn current(kind: IdKind) -> Self {
        let file = if kind == IdKind::User { "/proc/self/uid_map" } else { "/proc/self/gid_map" };
        Self::parse(&fs::read_to_string(file).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let range = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
            let mut next = || numbers.next().flatten();
            Some(IdRange { inside: next()?, outside: next()?, count: next()? })
        };
        Self(text.lines().filter_map(range).collect())
    }

    /// Whether an id exists in the namespace.
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|range| id.checked_sub(range.inside).is_some_and(|offset| offset < range.count))
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|range| u64::from(range.count)).sum()
    }

    fn end(&self) -> u32 {
        self.0.iter().map(|range| range.inside.saturating_add(range.count)).max().unwrap_or(0)
    }

    /// Every id of the namespace, mapped to itself in a namespace below.
    fn identity(&self) -> Vec<IdRange> {
        self.0.iter().map(|range| IdRange { outside: range.inside, ..*range }).collect()
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().enumerate() {
            let separator = if number > 0 { ", " } else { "" };
            match range.count {
                1 => write!(formatter, "{separator}{}", range.inside)?,
                count => write!(formatter, "{separator}{} to {}", range.inside, range.inside + (count - 1))?,
            }
        }
        Ok(())
    }
}

/// Which full map this user could have; the error says what is missing.
pub fn full_kind() -> Result<UsernsKind, String> {
    let capabilities = rustix::thread::capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    if capabilities.contains(CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETFCAP) {
        let users = IdMap::current(IdKind::User).identity();
        let groups = IdMap::current(IdKind::Group).identity();
        return Ok(UsernsKind::Full { users, groups, writer: MapWriter::Direct });
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let names = own_names(uid);
    let ranges = |file: &str, own: u32| -> Result<Vec<IdRange>, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("`{file}`: {error}"))?;
        let ranges = subordinate(&text, &names, own);
        if ranges.len() < 2 { Err(format!("`{file}` has no line for {}", names.join(" or "))) } else { Ok(ranges) }
    };
    let users = ranges("/etc/subuid", uid)?;
    let groups = ranges("/etc/subgid", gid)?;
    Ok(UsernsKind::Full { users, groups, writer: MapWriter::Newuidmap })
}

/// What a line of /etc/subuid can call this user.
fn own_names(uid: u32) -> Vec<String> {
    let mut names = vec![uid.to_string()];
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    // A user of a directory service has no line; newuidmap checks the name itself.
    names.extend(name.or_else(|| std::env::var("USER").ok()).or_else(|| std::env::var("LOGNAME").ok()));
    names
}

/// Our own id as 0, then all subordinate ids one after the other (subuid(5): `name:first:count`).
fn subordinate(text: &str, names: &[String], own: u32) -> Vec<IdRange> {
    let mut ranges = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut next = 1_u32;
    for line in text.lines() {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, first, count] = fields[..] else { continue };
        let (Ok(outside), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else { continue };
        if count == 0 || !names.iter().any(|own| own == name) || outside.checked_add(count).is_none() {
            continue;
        }
        let Some(end) = next.checked_add(count) else { break };
        ranges.push(IdRange { inside: next, outside, count });
        next = end;
        if ranges.len() == MAP_LINES_LIMIT {
            break;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_follow_the_own_one_without_a_gap() {
        let text = "other:1:2\nci:100000:65536\n# ci:5:5\n1000:300000:10\nci:bad:1\nci:4294967295:2\n";
        let names = ["1000".to_owned(), "ci".to_owned()];
        let range = |inside, outside, count| IdRange { inside, outside, count };
        let expected = [range(0, 1000, 1), range(1, 100_000, 65536), range(65537, 300_000, 10)];
        assert_eq!(subordinate(text, &names, 1000), expected);
        assert_eq!(subordinate(text, &["nobody".to_owned()], 7), [range(0, 7, 1)]);
    }

    #[test]
    fn a_map_tells_which_ids_it_has() {
        let map = IdMap::parse("         0       1000          1\n         1     100000      65536\n");
        assert!(map.contains(0) && map.contains(65536) && !map.contains(65537));
        assert_eq!((map.count(), map.end()), (65537, 65537));
        assert_eq!(map.to_string(), "0, 1 to 65536");
        let all = IdMap::parse("0 0 4294967295\n");
        assert_eq!((all.count(), all.to_string()), (u64::from(u32::MAX), "0 to 4294967294".into()));
    }
}
