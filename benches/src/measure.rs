//! What a process cost: CPU, wall time, memory, bytes.

use std::{
    fs,
    ops::Add,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use wait4::Wait4;

use crate::Outcome;

/// How often the memory of the process is looked at. The mark only rises, so no more than the growth of the last
/// interval is missed.
const SAMPLE: Duration = Duration::from_millis(5);

/// Its descendants are looked at every so many samples: walking the tree costs more.
const TREE_EVERY: u32 = 4;

/// What a process and all of its descendants used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of the process and of every descendant that was waited for.
    pub cpu: Duration,
    /// From before the start to the end.
    pub wall: Duration,
    /// The highest mark of resident memory of any one process that runs the same program: the commands of RUN are not in it.
    pub peak_bytes: u64,
    /// Bytes that `read` and its kin returned, from files, pipes and (with some programs) sockets.
    pub read_bytes: u64,
    /// Bytes that were passed to `write` and its kin.
    pub passed_bytes: u64,
    /// Bytes of the pages of files that were made dirty, which is what goes to the disk.
    pub written_bytes: u64,
}

impl Add for Usage {
    type Output = Self;

    /// One after the other.
    fn add(self, next: Self) -> Self {
        Self {
            cpu: self.cpu + next.cpu,
            wall: self.wall + next.wall,
            peak_bytes: self.peak_bytes.max(next.peak_bytes),
            read_bytes: self.read_bytes + next.read_bytes,
            passed_bytes: self.passed_bytes + next.passed_bytes,
            written_bytes: self.written_bytes + next.written_bytes,
        }
    }
}

/// Runs a command to its end, with its output in a file.
///
/// # Errors
/// It does not start, or does not succeed; then the end of its output is in the message.
pub fn measure(command: &mut Command, log: &Path) -> Outcome<Usage> {
    let output = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let begun = Instant::now();
    let child = command.spawn().map_err(|error| format!("{command:?} does not start: {error}"))?;
    let pid = Pid::from_child(&child);
    let (stop, stopped) = channel();
    let sampler = std::thread::spawn(move || peak(pid, &stopped));
    // The process stays a zombie, whose counters can still be read and hold those of the children that it waited for.
    while let Err(error) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    let wall = begun.elapsed();
    drop::<std::sync::mpsc::Sender<()>>(stop);
    let counters = fs::read_to_string(proc(pid, "io"))?;
    let used = child.wait4()?;
    let peak_bytes = sampler.join().map_err(|_| "the sampler panicked")?;
    if !used.status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        return Err(format!("{command:?}: {}\n{end}", used.status).into());
    }
    Ok(Usage {
        cpu: used.rusage.utime + used.rusage.stime,
        wall,
        peak_bytes,
        read_bytes: field(&counters, "rchar:"),
        passed_bytes: field(&counters, "wchar:"),
        written_bytes: field(&counters, "write_bytes:"),
    })
}

/// Watches the process until it is over, and its descendants as far as they run the same program.
fn peak(root: Pid, stopped: &Receiver<()>) -> u64 {
    let program = program(root);
    let mut peak = 0;
    for sample in 0_u32.. {
        peak = peak.max(high_water_mark(root));
        if sample % TREE_EVERY == 0 {
            for pid in descendants(root).into_iter().filter(|pid| self::program(*pid) == program) {
                peak = peak.max(high_water_mark(pid));
            }
        }
        match stopped.recv_timeout(SAMPLE) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    peak
}

/// What tells the file apart that a process runs.
fn program(pid: Pid) -> Option<(u64, u64)> {
    let file = fs::metadata(proc(pid, "exe")).ok()?;
    Some((file.dev(), file.ino()))
}

fn high_water_mark(pid: Pid) -> u64 {
    let status = fs::read_to_string(proc(pid, "status")).unwrap_or_default();
    field(&status, "VmHWM:") * 1024
}

fn descendants(root: Pid) -> Vec<Pid> {
    let (mut found, mut ahead) = (Vec::new(), vec![root]);
    while let Some(pid) = ahead.pop() {
        let Ok(threads) = fs::read_dir(proc(pid, "task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?));
            let children: Vec<Pid> = children.collect();
            found.extend(&children);
            ahead.extend(&children);
        }
    }
    found
}

fn proc(pid: Pid, file: &str) -> String {
    format!("/proc/{}/{file}", pid.as_raw_nonzero())
}

/// The number after a name in one of the kernel's tables; 0 if it is not there.
fn field(table: &str, name: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> Outcome<Usage> {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        measure(command.args(["-c", text]).current_dir(directory.path()), &directory.path().join("log"))
    }

    #[test]
    fn children_of_children_count() {
        let usage = shell("sh -c 'dd if=/dev/zero of=file bs=1048576 count=8 status=none; sleep 0.1'; true").unwrap();
        assert!((8 << 20..9 << 20).contains(&usage.passed_bytes), "{usage:?}");
        assert!(usage.read_bytes >= 8 << 20, "{usage:?}");
        assert!(usage.wall >= Duration::from_millis(100) && usage.peak_bytes > 100 << 10, "{usage:?}");
        let busy = shell("sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done'; true").unwrap();
        assert!(busy.cpu > Duration::from_millis(20), "{busy:?}");
    }

    #[test]
    fn a_failure_shows_the_end_of_the_output() {
        let error = shell("echo why; exit 3").unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("why"), "{error}");
    }
}
