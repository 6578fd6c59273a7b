//! One JSON line for each use of a capability.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::Mutex,
    time::SystemTime,
};

use cofferdam_digest::Digest;
use serde::Serialize;

/// The audit log. Lines are appended whole, so several builds may share a file. It never stops a build: the first
/// failure is kept for [`AuditLog::take_error`], later ones are dropped.
#[derive(Debug)]
pub struct AuditLog {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    failed: bool,
    error: Option<io::Error>,
}

/// One use of a capability.
#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, UTC.
    time: String,
    plugin: &'a str,
    digest: &'a Digest,
    capability: &'a str,
    /// A path, a command, a host. Never a value of a variable, the content of a file, or a secret.
    detail: &'a str,
}

/// Longer details are cut: the log is for reading.
const MAX_DETAIL_BYTES: usize = 4096;

impl AuditLog {
    /// Opens a file for appending; made with mode 0600 if it is missing.
    ///
    /// # Errors
    /// The machine's.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { state: Mutex::new(State { file, failed: false, error: None }) })
    }

    /// The first failure to write, once: report it, the log is incomplete.
    pub fn take_error(&self) -> Option<io::Error> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).error.take()
    }

    /// Appends a line.
    pub(crate) fn record(&self, plugin: &str, digest: &Digest, capability: &str, detail: &str) {
        let detail = &detail[..detail.floor_char_boundary(MAX_DETAIL_BYTES)];
        let time = jiff::Timestamp::try_from(SystemTime::now()).map(|now| format!("{now:.3}")).unwrap_or_default();
        let mut line = serde_json::to_vec(&Line { time, plugin, digest, capability, detail }).expect("only strings");
        line.push(b'\n');
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if state.failed {
            return;
        }
        if let Err(error) = state.file.write_all(&line) {
            state.failed = true;
            state.error = Some(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_one_line_even_if_its_detail_has_several() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        let log = AuditLog::open(&path).unwrap();
        log.record("greet", &Digest::of(b""), "exec", "sh -c 'a\nb'");
        log.record("greet", &Digest::of(b""), "context", "/a");
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["detail"], "sh -c 'a\nb'");
        assert_eq!(lines[1]["capability"], "context");
        assert!(log.take_error().is_none());
    }

    #[test]
    fn a_full_disk_is_reported_once_and_stops_nothing() {
        let log = AuditLog::open(Path::new("/dev/full")).unwrap();
        log.record("greet", &Digest::of(b""), "exec", "");
        log.record("greet", &Digest::of(b""), "exec", "");
        assert!(log.take_error().is_some());
        assert!(log.take_error().is_none());
    }
}
