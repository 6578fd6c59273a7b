//! gcp-storage-emulator, the emulator of Google Cloud Storage.

use std::{path::Path, process::Command};

use crate::{local_server::LocalServer, requirement::emulator, run, tool};

/// A running emulator with the bucket `bucket`; ends with the handle.
pub struct GoogleStorage(LocalServer);

impl GoogleStorage {
    /// Starts it; `None` (reported as a skip) where it is not installed.
    pub fn start() -> Option<Self> {
        let modules = emulator("gcp-storage-emulator")?;
        Some(Self(LocalServer::start(|port| {
            let mut command = Command::new("python3");
            command.args(["-m", "gcp_storage_emulator", "start", "-H", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["-M", "-q", "--default-bucket", "bucket"]).env("PYTHONPATH", modules);
            command
        })))
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.0.host()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Puts a file into the bucket, by a key that is encoded as URLs are.
    #[track_caller]
    pub fn put(&self, key: &str, file: &Path) {
        let url = format!("http://{}/bucket/{key}", self.host());
        let mut python = Command::new(tool("python3").expect("the emulator runs"));
        python.args(["-c", "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], open(sys.argv[2], 'rb').read(), method='PUT'))"]);
        run(python.arg(url).arg(file)).success();
    }
}
