//! Files of /proc that say what the kernel knows: ids, mounts and paths that are not the command's. It gets copies of them
//! that say what is true in the image (proc(5)).

use std::{fs, path::PathBuf};

use rustix::{io::Errno, process::Pid};

use super::{bindings::Bindings, identity::Identity, resolve::Found, tracee::Task, tracer::Tracer};

/// Larger files are not copied.
const LIMIT_BYTES: u64 = 16 << 20;

/// Where copies are put until they are open.
pub struct Views {
    directory: PathBuf,
    /// Whether the command has the machine's network interfaces.
    interfaces: bool,
    made: u64,
}

impl Views {
    /// In a directory that the command may read, and nobody else.
    pub fn new(directory: PathBuf, interfaces: bool) -> Self {
        Self { directory, interfaces, made: 0 }
    }
}

impl Tracer {
    /// The copy to be opened for a file of /proc; `None` for those that tell nothing.
    ///
    /// # Errors
    /// As open(2).
    pub fn view(&mut self, task: &Task, found: &Found) -> Result<Option<PathBuf>, Errno> {
        let holder = self.bindings.get(self.bindings.holding(&found.path));
        if !holder.is_proc || found.magic.is_some() {
            return Ok(None);
        }
        let below: Vec<&[u8]> =
            found.path[holder.target.len()..].split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let (id, name) = match below.as_slice() {
            [id, name] | [_, b"task", id, name] => (*id, *name),
            [id, b"net", b"dev"] if !self.views.interfaces => (*id, NET_DEV),
            _ => return Ok(None),
        };
        let Some(id) = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let text = match name {
            b"status" => {
                self.affinity.spread();
                let who = if id == task.id || id == task.process {
                    &task.identity
                } else {
                    &self.tasks.get(&id).ok_or(Errno::NOENT)?.identity
                };
                status(&self.read_proc(found)?, who)
            }
            NET_DEV => loopback(&self.read_proc(found)?),
            b"mounts" => mounts(&self.bindings),
            b"mountinfo" => mount_information(&self.bindings),
            b"maps" | b"smaps" | b"numa_maps" => self.maps(&self.read_proc(found)?),
            _ => return Ok(None),
        };
        let path = self.views.directory.join(self.views.made.to_string());
        self.views.made += 1;
        fs::write(&path, text).map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
        Ok(Some(path))
    }

    fn read_proc(&self, found: &Found) -> Result<String, Errno> {
        use std::{io::Read, os::unix::ffi::OsStrExt};
        let path = self.bindings.outside(&found.path);
        let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        let mut bytes = Vec::new();
        let file = fs::File::open(std::ffi::OsStr::from_bytes(&path)).map_err(failed)?;
        file.take(LIMIT_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Paths at the ends of lines.
    fn maps(&self, text: &str) -> String {
        let mut said = String::with_capacity(text.len());
        for line in text.lines() {
            match line.find(" /") {
                Some(at) => {
                    let (before, path) = line.split_at(at + 1);
                    said.push_str(before);
                    match self.bindings.inside(path.as_bytes()) {
                        Some(inside) => said.push_str(&String::from_utf8_lossy(&inside)),
                        // Of another place of this machine: none of the command's business.
                        None => said.push('/'),
                    }
                }
                None => said.push_str(line),
            }
            said.push('\n');
        }
        said
    }
}

/// The file of /proc/net that lists the network interfaces.
const NET_DEV: &[u8] = b"net/dev";

/// Of the lines about network interfaces, the heading and the one that every network has.
fn loopback(text: &str) -> String {
    let lines = text.lines().enumerate().filter(|(number, line)| *number < 2 || line.trim_start().starts_with("lo:"));
    lines.map(|(_, line)| format!("{line}\n")).collect()
}

fn status(text: &str, who: &Identity) -> String {
    let mut said = String::with_capacity(text.len());
    for line in text.lines() {
        let (key, _) = line.split_once(':').unwrap_or((line, ""));
        let ids = |ids: super::identity::FourIds| {
            format!("{key}:\t{}\t{}\t{}\t{}", ids.real, ids.effective, ids.saved, ids.file)
        };
        let set = |set: u64| format!("{key}:\t{set:016x}");
        let sets = who.capabilities;
        said.push_str(&match key {
            "Uid" => ids(who.user),
            "Gid" => ids(who.group),
            "Groups" => {
                let groups: Vec<String> = who.groups.iter().map(u32::to_string).collect();
                format!("{key}:\t{} ", groups.join(" "))
            }
            "TracerPid" => format!("{key}:\t0"),
            "CapInh" => set(sets.inheritable),
            "CapPrm" => set(sets.permitted),
            "CapEff" => set(sets.effective),
            "CapBnd" => set(sets.bounding),
            "CapAmb" => set(0),
            "NoNewPrivs" => format!("{key}:\t{}", u8::from(who.no_new_privileges)),
            _ => line.to_owned(),
        });
        said.push('\n');
    }
    said
}

/// Source and type of what is at a mount point, as a container would have it.
fn kind(target: &[u8]) -> (&'static str, &'static str) {
    match target {
        b"/" => ("overlay", "overlay"),
        b"/proc" => ("proc", "proc"),
        b"/sys" => ("sysfs", "sysfs"),
        _ => ("tmpfs", "tmpfs"),
    }
}

/// A path with the characters escaped that separate fields (proc_pid_mounts(5)).
fn escaped(path: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(path).chars() {
        match character {
            ' ' | '\t' | '\n' | '\\' => text.push_str(&format!("\\{:03o}", character as u32)),
            other => text.push(other),
        }
    }
    text
}

fn mounts(bindings: &Bindings) -> String {
    let line = |binding: &super::bindings::Binding| {
        let (source, kind) = kind(&binding.target);
        let how = if binding.read_only { "ro" } else { "rw" };
        format!("{source} {} {kind} {how},relatime 0 0\n", escaped(&binding.target))
    };
    bindings.all().iter().map(line).collect()
}

fn mount_information(bindings: &Bindings) -> String {
    let line = |(number, binding): (usize, &super::bindings::Binding)| {
        let (source, kind) = kind(&binding.target);
        let how = if binding.read_only { "ro" } else { "rw" };
        let device = rustix::fs::fstat(&binding.file).map_or(0, |stat| stat.st_dev);
        let (major, minor) = (libc::major(device), libc::minor(device));
        let parent = if number == 0 { 1 } else { 2 };
        let target = escaped(&binding.target);
        format!("{} {parent} {major}:{minor} / {target} {how},relatime - {kind} {source} {how}\n", number + 2)
    };
    bindings.all().iter().enumerate().map(line).collect()
}
