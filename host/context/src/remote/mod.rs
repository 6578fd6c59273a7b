//! How sources in a network are reached: one client for HTTP, bounds, patience, and who may see a password.

mod download;
mod error;
mod http;
mod tcp;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use self::http::Clients;
pub(crate) use self::{
    download::RESUMES,
    http::{
        ATTEMPTS, Answer, Remedies, Request, explain, host_and_port, innermost, is_link_local, read_chunk, refusal,
    },
};
use crate::{
    CloudAccess,
    ssh::{SshAccess, SshAgent},
};
pub use download::{Download, Requested, Validators, download};
pub use error::FetchError;

/// How long a server may be silent, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(60);

/// What reaching a source may cost. Only bombs reach these bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Bytes that come over the network for one source.
    pub download_bytes: u64,
    /// Bytes of all files of one source, unpacked.
    pub unpacked_bytes: u64,
    /// Files, directories and links of one source.
    pub entries: u64,
}

impl Default for FetchLimits {
    fn default() -> Self {
        // The Linux kernel with its whole history has some 6 GB and 90,000 files.
        Self { download_bytes: 64 << 30, unpacked_bytes: 256 << 30, entries: 5_000_000 }
    }
}

/// A user's name and password. Shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Basic {
    /// The user, or a token.
    pub username: String,
    /// May be empty, as where the name is a token.
    pub password: String,
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Basic(…)")
    }
}

/// What [`Remote`] is made from.
#[derive(Clone)]
pub struct RemoteOptions {
    /// Makes a new empty directory that stays as long as the build needs what was fetched.
    pub scratch: Arc<dyn Fn() -> io::Result<PathBuf> + Send + Sync>,
    /// Asked while something is waited for: whether the build was stopped.
    pub stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Whether the operator lets this host (`HOST` or `HOST:PORT`) be connected to.
    pub allowed: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// How long a server may be silent; `None` is a minute.
    pub patience: Option<Duration>,
    /// Whether certificates of git servers are not checked.
    pub skip_tls_verify: bool,
    /// How servers are reached over SSH.
    pub ssh: SshAccess,
    /// Who may ask the stores of clouds for objects.
    pub cloud: CloudAccess,
    /// Bounds.
    pub limits: FetchLimits,
}

/// The way to sources in a network. Clones are the same; nothing is connected or read before something is fetched.
#[derive(Clone)]
pub struct Remote {
    inner: Arc<Inner>,
    ssh: Arc<SshAccess>,
    cloud: Arc<CloudAccess>,
}

struct Inner {
    options: RemoteOptions,
    runtime: OnceLock<tokio::runtime::Runtime>,
    clients: Clients,
}

impl Remote {
    /// Connects to nothing yet.
    pub fn new(options: RemoteOptions) -> Self {
        let (ssh, cloud) = (Arc::new(options.ssh.clone()), Arc::new(options.cloud.clone()));
        Self { inner: Arc::new(Inner { options, runtime: OnceLock::new(), clients: Clients::default() }), ssh, cloud }
    }

    /// The same way with this agent's keys for SSH.
    pub fn with_ssh_agent(&self, agent: SshAgent) -> Self {
        Self { ssh: Arc::new(SshAccess { agent: Some(agent), ..(*self.ssh).clone() }), ..self.clone() }
    }

    pub(crate) fn ssh(&self) -> &SshAccess {
        &self.ssh
    }

    /// The same way with these credentials for the stores of clouds.
    pub(crate) fn with_cloud(&self, cloud: CloudAccess) -> Self {
        Self { cloud: Arc::new(cloud), ..self.clone() }
    }

    pub(crate) fn cloud(&self) -> &CloudAccess {
        &self.cloud
    }

    pub(crate) fn limits(&self) -> FetchLimits {
        self.inner.options.limits
    }

    pub(crate) fn patience(&self) -> Duration {
        self.inner.options.patience.unwrap_or(PATIENCE)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        (self.inner.options.stopped)()
    }

    /// Fails for a host that nothing may be fetched from.
    pub(crate) fn check_host(&self, host: &str) -> Result<(), FetchError> {
        match (self.inner.options.allowed)(host) {
            true => Ok(()),
            false => Err(FetchError::Forbidden { host: host.to_owned() }),
        }
    }

    /// A new empty directory.
    pub(crate) fn scratch(&self) -> Result<PathBuf, FetchError> {
        (self.inner.options.scratch)()
            .map_err(|source| FetchError::Storage { action: "make a directory".to_owned(), source })
    }

    fn runtime(&self) -> Result<&tokio::runtime::Runtime, FetchError> {
        if let Some(runtime) = self.inner.runtime.get() {
            return Ok(runtime);
        }
        let made = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let made = made.map_err(|source| FetchError::Storage { action: "start a thread".to_owned(), source })?;
        Ok(self.inner.runtime.get_or_init(|| made))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}
