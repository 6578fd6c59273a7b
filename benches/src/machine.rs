//! Where and when the report was made.

use std::{fs, path::Path, process::Command};

use cofferdam_tests::{repository_root, run};

/// The surroundings of a run, taken at its start.
pub struct Machine {
    /// Of the repository; a `+` stands for uncommitted changes.
    pub commit: String,
    /// UTC.
    pub date: String,
    /// Processor, kernel, memory.
    pub hardware: String,
    /// Of the directory in which everything is measured.
    pub file_system: String,
    /// Over 1, 5 and 15 minutes.
    pub load: String,
}

impl Machine {
    /// Looks around.
    pub fn look(directory: &Path) -> Self {
        Self {
            commit: commit(),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            hardware: hardware(),
            file_system: file_system(directory),
            load: load(),
        }
    }
}

/// Of the machine now, over 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn commit() -> String {
    let git = |arguments: &[&str]| run(Command::new("git").arg("-C").arg(repository_root()).args(arguments)).stdout;
    let commit = git(&["rev-parse", "--short=10", "HEAD"]);
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"]).trim().is_empty();
    format!("{}{}", commit.trim(), if changed { "+" } else { "" })
}

fn hardware() -> String {
    let line = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory_kib: u64 = line("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = rustix::system::uname();
    format!(
        "{}, {cores} cores, {} GiB, Linux {} {}",
        line("/proc/cpuinfo", "model name"),
        memory_kib >> 20,
        kernel.release().to_string_lossy(),
        kernel.machine().to_string_lossy()
    )
}

fn file_system(directory: &Path) -> String {
    let found = run(Command::new("df").arg("--output=fstype").arg(directory)).stdout;
    match found.lines().last().unwrap_or_default().trim() {
        "tmpfs" => "tmpfs (bytes written are not counted there: choose another directory)".to_owned(),
        other => other.to_owned(),
    }
}
