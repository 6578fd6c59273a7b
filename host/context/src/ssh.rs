//! Servers that are reached over SSH: who is trusted, and with which keys.

mod known_hosts;
mod login;

use std::{fmt, io, os::unix::net::UnixStream, path::PathBuf, sync::Arc};

pub(crate) use self::login::{Login, Session, log_in};

/// How servers are reached over SSH.
#[derive(Debug, Clone, Default)]
pub struct SshAccess {
    /// The agent that has the keys; `None` where the build was given none.
    pub agent: Option<SshAgent>,
    /// The files that have the keys of servers (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). Those that do not exist are empty.
    pub known_hosts: Vec<PathBuf>,
}

/// Opens connections to an agent (draft-ietf-sshm-ssh-agent). The keys stay with it.
#[derive(Clone)]
pub struct SshAgent(Arc<dyn Fn() -> io::Result<UnixStream> + Send + Sync>);

impl SshAgent {
    /// One that `connect` reaches.
    pub fn new(connect: impl Fn() -> io::Result<UnixStream> + Send + Sync + 'static) -> Self {
        Self(Arc::new(connect))
    }

    fn connect(&self) -> io::Result<UnixStream> {
        (self.0)()
    }
}

impl fmt::Debug for SshAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SshAgent(…)")
    }
}
