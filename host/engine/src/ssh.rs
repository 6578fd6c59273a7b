//! The socket of an SSH agent as a command sees it: its own socket, whose connections are passed on to the agent, or
//! answered with the keys of files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "sockets in a directory of this process")]

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use cofferdam_context::SshAgent;

use crate::{
    error::BuildError,
    request::{BuildRequest, SshSource},
    ssh_keys::{KEY_LIMIT_BYTES, SshKeys},
};

/// The largest message that is read (OpenSSH's own bound).
const MESSAGE_LIMIT_BYTES: u32 = 256 << 10;

/// What answers.
#[derive(Clone)]
pub enum Agent {
    /// An agent that listens at this socket.
    Socket(PathBuf),
    /// This builder, with these keys.
    Keys(Arc<SshKeys>),
}

/// The agents of `--ssh`, by id.
///
/// # Errors
/// A socket or file is not there, or a file has no key that can be used.
pub fn agents(request: &BuildRequest) -> Result<BTreeMap<String, Agent>, BuildError> {
    let open = |(id, source): (&String, &SshSource)| {
        Agent::open(id, source, &request.working_directory).map(|agent| (id.clone(), agent))
    };
    request.ssh.iter().map(open).collect()
}

impl Agent {
    /// One socket, or files with keys.
    fn open(id: &str, source: &SshSource, here: &Path) -> Result<Self, BuildError> {
        use std::os::unix::fs::FileTypeExt;
        let mut keys = SshKeys::default();
        for path in &source.paths {
            let path = here.join(path);
            let failed = |source| BuildError::Handout { flag: "--ssh", id: id.to_owned(), path: path.clone(), source };
            let metadata = path.metadata().map_err(failed)?;
            if metadata.file_type().is_socket() && source.paths.len() == 1 {
                return Ok(Self::Socket(path));
            }
            if !metadata.is_file() || metadata.len() > KEY_LIMIT_BYTES {
                return Err(failed(io::Error::other("it is neither the socket of an agent nor a private key")));
            }
            let text = std::fs::read(&path).map_err(failed)?;
            keys.add(&text).map_err(|why| failed(io::Error::other(why)))?;
        }
        Ok(Self::Keys(Arc::new(keys)))
    }

    /// The same for whoever logs in at servers.
    pub fn for_sources(&self) -> SshAgent {
        let agent = self.clone();
        SshAgent::new(move || match &agent {
            Self::Socket(path) => connect(path),
            Self::Keys(keys) => {
                let (mine, theirs) = UnixStream::pair()?;
                let keys = keys.clone();
                let answer = move || drop(answer(&mine, &keys));
                thread::Builder::new().name("ssh-agent".to_owned()).spawn(answer)?;
                Ok(theirs)
            }
        })
    }
}

/// A socket in a private directory, served until this is dropped.
pub struct AgentSocket {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl AgentSocket {
    /// Makes the socket `path`, with these permission bits, for an agent.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn serve(path: &Path, mode: u32, agent: &Agent) -> io::Result<Self> {
        let listener = listen(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        let ended = Arc::new(AtomicBool::new(false));
        let (agent, until) = (agent.clone(), ended.clone());
        let serve = move || {
            for client in listener.incoming() {
                if until.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                match &agent {
                    Agent::Keys(keys) => {
                        let keys = keys.clone();
                        thread::spawn(move || drop(answer(&client, &keys)));
                    }
                    // An agent that is gone is a closed connection, which every client tells in its own words.
                    Agent::Socket(agent) => {
                        if let Ok(agent) = UnixStream::connect(agent) {
                            thread::spawn(move || drop(pass_on(&client, &agent)));
                        }
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("ssh-agent".to_owned()).spawn(serve)?;
        Ok(Self { path: path.to_owned(), ended, thread: Some(thread) })
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread; if that fails nobody can connect any more, and it ends with the process.
        if connect(&self.path).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// A path of a socket has 107 bytes at most (unix(7)); its directory is named by a descriptor here.
fn short(path: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    use std::os::fd::AsRawFd;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = std::fs::File::open(parent)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((directory, short))
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let (_directory, short) = short(path)?;
    UnixListener::bind(short)
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_directory, short) = short(path)?;
    UnixStream::connect(short)
}

/// Answers messages until the client ends.
fn answer(mut client: &UnixStream, keys: &SshKeys) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MESSAGE_LIMIT_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut message = vec![0; length as usize];
        client.read_exact(&mut message)?;
        let answer = keys.answer(&message);
        let length = u32::try_from(answer.len()).map_err(io::Error::other)?;
        client.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())?;
    }
}

/// Both ways, until one side ends.
fn pass_on(client: &UnixStream, agent: &UnixStream) -> io::Result<()> {
    let (answers, asker) = (agent.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || drop(copy(&answers, &asker)));
    copy(client, agent)?;
    let _ = back.join();
    Ok(())
}

fn copy(mut from: &UnixStream, mut to: &UnixStream) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    let result = loop {
        match from.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    let _ = to.shutdown(Shutdown::Write);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_passed_on_and_what_is_answered_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let agent = UnixListener::bind(directory.path().join("agent")).unwrap();
        let answering = thread::spawn(move || {
            let (mut client, _) = agent.accept().unwrap();
            let mut asked = String::new();
            client.read_to_string(&mut asked).unwrap();
            client.write_all(format!("{asked} yourself").as_bytes()).unwrap();
        });
        // Longer than the path of a socket may be.
        let long = directory.path().join("x".repeat(100));
        std::fs::create_dir(&long).unwrap();
        let socket =
            AgentSocket::serve(&long.join("socket"), 0o600, &Agent::Socket(directory.path().join("agent"))).unwrap();
        let mut client = connect(&socket.path).unwrap();
        client.write_all(b"sign").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "sign yourself");
        answering.join().unwrap();
        drop(socket);
    }

    /// ssh-keygen signs with the agent and checks what came back.
    #[test]
    fn keys_of_files_sign_as_an_agent_does() {
        use std::process::Command;
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        if Command::new("ssh-keygen").arg("-?").output().is_err() {
            let demanded = std::env::var_os("COFFERDAM_REQUIRE_ALL").is_some_and(|value| value == "1");
            assert!(!demanded, "ssh-keygen is missing: run scripts/install-test-tools.sh");
            eprintln!("SKIPPED: ssh-keygen is missing; scripts/install-test-tools.sh installs it");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let kinds: [&[&str]; 5] = [
            &["-t", "ed25519"],
            &["-t", "rsa", "-b", "3072"],
            &["-t", "rsa", "-b", "2048", "-m", "PEM"],
            &["-t", "ecdsa", "-b", "256"],
            &["-t", "ecdsa", "-b", "384"],
        ];
        let mut keys = SshKeys::default();
        for (number, kind) in kinds.iter().enumerate() {
            let file = place.path().join(number.to_string());
            run(Command::new("ssh-keygen").args(*kind).args(["-q", "-N", "", "-C", "me", "-f"]).arg(&file));
            keys.add(&std::fs::read(file).unwrap()).unwrap();
        }
        let socket = place.path().join("socket");
        let _serving = AgentSocket::serve(&socket, 0o600, &Agent::Keys(Arc::new(keys))).unwrap();
        std::fs::write(place.path().join("text"), "to be signed").unwrap();
        for number in 0..kinds.len() {
            // Without the private key beside the public one, only the agent can sign.
            std::fs::remove_file(place.path().join(number.to_string())).unwrap();
            let public = place.path().join(format!("{number}.pub"));
            let mut sign = Command::new("ssh-keygen");
            sign.args(["-Y", "sign", "-n", "test", "-f"]).arg(public).arg("text").current_dir(place.path());
            run(sign.env("SSH_AUTH_SOCK", &socket));
            let mut check = Command::new("ssh-keygen");
            check.args(["-Y", "check-novalidate", "-n", "test", "-s", "text.sig"]).current_dir(place.path());
            run(check.stdin(std::fs::File::open(place.path().join("text")).unwrap()));
            std::fs::remove_file(place.path().join("text.sig")).unwrap();
        }
        let file = place.path().join("locked");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "secret", "-f"]).arg(&file));
        let error = SshKeys::default().add(&std::fs::read(file).unwrap()).unwrap_err();
        assert!(error.contains("passphrase") && error.contains("ssh-add"), "{error}");
    }
}
