//! OpenSSH's server for git repositories on the loopback interface, and its agent.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{Repositories, run, skip, tool};

/// Where sshd wants an empty directory (Debian's unit makes it; here no unit runs).
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// An `sshd` that lets one key in, as the user of the tests, for nothing but git's own shell among the repositories. Ends with the
/// handle.
pub struct SshServer {
    process: Child,
    directory: tempfile::TempDir,
    address: String,
    port: u16,
}

impl SshServer {
    /// Starts it, with further lines of its configuration; `None` (reported as a skip) where there is none, or it can't run.
    pub fn start(repositories: &Repositories, settings: &[&str]) -> Option<Self> {
        let sshd = tool("sshd")?;
        tool("ssh-keygen")?;
        if !Path::new(PRIVILEGE_SEPARATION).is_dir() && fs::create_dir(PRIVILEGE_SEPARATION).is_err() {
            skip(&format!("sshd needs the directory {PRIVILEGE_SEPARATION}, which root has to make"));
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = |name: &str| directory.path().join(name);
        for (name, kind) in [("host-ed25519", "ed25519"), ("host-rsa", "rsa"), ("key", "ed25519"), ("other", "ed25519")]
        {
            run(Command::new("ssh-keygen").args(["-q", "-N", "", "-C", name, "-t", kind, "-f"]).arg(place(name)))
                .success();
        }
        fs::copy(place("key.pub"), place("authorized")).expect("writable");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let address = own_address();
        let shown = |name: &str| place(name).display().to_string();
        let mut lines = vec![
            format!("ListenAddress 127.0.0.1:{port}"),
            format!("ListenAddress {address}:22"),
            format!("HostKey {}", shown("host-ed25519")),
            format!("HostKey {}", shown("host-rsa")),
            format!("AuthorizedKeysFile {}", shown("authorized")),
            format!("ForceCommand cd {} && git-shell -c \"$SSH_ORIGINAL_COMMAND\"", repositories.path().display()),
        ];
        let fixed = [
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
        ];
        lines.extend(fixed.iter().chain(settings).map(|line| line.to_string()));
        fs::write(place("config"), lines.join("\n") + "\n").expect("writable");
        let log = fs::File::create(place("log")).expect("writable");
        let process = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(place("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        let mut server = Self { process, directory, address, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.process.try_wait().expect("ours").is_some();
            assert!(!ended && begun.elapsed() < Duration::from_secs(20), "sshd does not answer: {}", server.log());
            thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    /// `USER@127.0.0.1:PORT`, for URLs.
    pub fn login(&self) -> String {
        format!("{}@127.0.0.1:{}", self.user(), self.port)
    }

    /// `USER@ADDRESS` of the same server at the usual port, which root alone can serve; `None` (reported as a skip) elsewhere.
    pub fn login_at_usual_port(&self) -> Option<String> {
        if TcpStream::connect((self.address.as_str(), 22)).is_err() {
            skip("nobody but root may listen on port 22");
            return None;
        }
        Some(format!("{}@{}", self.user(), self.address))
    }

    /// Who may log in.
    pub fn user(&self) -> String {
        run(Command::new("id").arg("-un")).success().stdout.trim().to_owned()
    }

    /// The file of a private key: `key` is let in, `other` is not.
    pub fn key(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A line of a file of known hosts for `host` (`[127.0.0.1]:PORT` if empty), with the server's key of a kind (`ed25519` or
    /// `rsa`) or, for any other name, the public key of [`SshServer::key`].
    pub fn known(&self, host: &str, key: &str) -> String {
        let file = match key {
            "ed25519" | "rsa" => format!("host-{key}.pub"),
            other => format!("{other}.pub"),
        };
        let key = fs::read_to_string(self.key(&file)).expect("there");
        let host = if host.is_empty() { format!("[127.0.0.1]:{}", self.port) } else { host.to_owned() };
        format!("{host} {key}")
    }

    /// A file with such lines.
    pub fn known_hosts(&self, name: &str, lines: &[String]) -> PathBuf {
        let file = self.key(name);
        fs::write(&file, lines.concat()).expect("writable");
        file
    }

    /// What the server says of itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.key("log")).unwrap_or_default()
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address of the loopback interface that no other server of these tests has.
fn own_address() -> String {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // The last byte is neither 0 nor 255.
    format!("127.{}.{high}.{}", COUNT.fetch_add(1, Ordering::Relaxed) % 250 + 1, low % 250 + 1)
}

/// An `ssh-agent`, which ends with the handle.
pub struct KeyAgent {
    process: Child,
    directory: tempfile::TempDir,
}

impl KeyAgent {
    /// Starts one that holds these private keys; `None` (reported as a skip) where there is none.
    pub fn start(keys: &[PathBuf]) -> Option<Self> {
        let program = tool("ssh-agent")?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(program);
        command.arg("-D").arg("-a").arg(directory.path().join("agent"));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let agent = Self { process: process.expect("ssh-agent starts"), directory };
        let begun = Instant::now();
        while !agent.socket().exists() {
            assert!(begun.elapsed() < Duration::from_secs(20), "ssh-agent does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        for key in keys {
            run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", agent.socket())).success();
        }
        Some(agent)
    }

    /// What SSH_AUTH_SOCK names.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent")
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
