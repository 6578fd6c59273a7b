//! The socket of an SSH agent as a command sees it: its own socket, whose connections are passed on to the agent.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "sockets in a directory of this process")]

use std::{
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

/// A socket in a private directory, served until this is dropped.
pub struct AgentSocket {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl AgentSocket {
    /// Makes the socket `path`, with these permission bits, for the agent that listens at `agent`.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn serve(path: &Path, mode: u32, agent: &Path) -> io::Result<Self> {
        let listener = listen(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        let ended = Arc::new(AtomicBool::new(false));
        let (agent, until) = (agent.to_owned(), ended.clone());
        let serve = move || {
            for client in listener.incoming() {
                if until.load(Ordering::SeqCst) {
                    break;
                }
                // An agent that is gone is a closed connection, which every client tells in its own words.
                if let (Ok(client), Ok(agent)) = (client, UnixStream::connect(&agent)) {
                    thread::spawn(move || drop(pass_on(&client, &agent)));
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
        let socket = AgentSocket::serve(&long.join("socket"), 0o600, &directory.path().join("agent")).unwrap();
        let mut client = connect(&socket.path).unwrap();
        client.write_all(b"sign").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "sign yourself");
        answering.join().unwrap();
        drop(socket);
    }
}
