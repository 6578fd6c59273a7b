//! moto, the emulator of Amazon's services, with its server on the loopback interface.

use std::{
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{cargo, run, skip};

/// A running moto; ends with the handle.
pub struct Moto {
    process: Child,
    port: u16,
}

impl Moto {
    /// The directory of its modules, which scripts/install-test-tools.sh fills; `None` (reported as a skip) where it is missing.
    pub fn modules() -> Option<PathBuf> {
        let (_, target) = cargo();
        let modules = target.join("tools/moto");
        if !modules.join("complete").is_file() {
            skip("moto is not installed (scripts/install-test-tools.sh)");
            return None;
        }
        Some(modules)
    }

    /// Starts one that checks signatures and permissions of every request after the first `unchecked` ones; `None` (reported as
    /// a skip) where it is not installed.
    pub fn start(unchecked: u32) -> Option<Self> {
        let modules = Self::modules()?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let process = Command::new("python3")
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .env("PYTHONPATH", modules)
            .env("INITIAL_NO_AUTH_ACTION_COUNT", unchecked.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 starts");
        let moto = Self { process, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "moto does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(moto)
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
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

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
