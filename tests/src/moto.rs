//! moto, the emulator of Amazon's services, with its server on the loopback interface.

use std::{path::PathBuf, process::Command};

use crate::{local_server::LocalServer, requirement::emulator, run};

/// A running moto; ends with the handle.
pub struct Moto(LocalServer);

impl Moto {
    /// The directory of its modules, which scripts/install-test-tools.sh fills; `None` (reported as a skip) where it is missing.
    pub fn modules() -> Option<PathBuf> {
        emulator("moto")
    }

    /// Starts one that checks signatures and permissions of every request after the first `unchecked` ones; `None` (reported as
    /// a skip) where it is not installed.
    pub fn start(unchecked: u32) -> Option<Self> {
        let modules = Self::modules()?;
        Some(Self(LocalServer::start(|port| {
            let mut command = Command::new("python3");
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
            command.env("PYTHONPATH", modules).env("INITIAL_NO_AUTH_ACTION_COUNT", unchecked.to_string());
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

    /// Runs lines of Python with Amazon's own library, in which `client(SERVICE)` is a client of this server; the answer is what
    /// they print.
    #[track_caller]
    pub fn python(&self, script: &str) -> String {
        let begin = format!(
            "import boto3, json\ndef client(service):\n    return boto3.client(service, endpoint_url='http://{}', \
             region_name='eu-west-1', aws_access_key_id='any', aws_secret_access_key='any')\n",
            self.host()
        );
        let mut command = Command::new("python3");
        command.args(["-c", &format!("{begin}{script}")]).env("PYTHONPATH", Self::modules().expect("it runs"));
        run(&mut command).success().stdout
    }
}
