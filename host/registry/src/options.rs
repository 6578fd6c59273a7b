//! How the client behaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// Whether content comes or goes; some options differ between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Direction {
    Pull,
    Push,
}

/// What the user, or the operator, said about registries. Hosts are written as in a reference (`registry.example:5000`).
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Hosts that may be used over plain HTTP, and over HTTPS without checking the certificate.
    pub insecure_hosts: BTreeSet<String>,
    /// Treat every host that is pulled from as one of `insecure_hosts` (`--insecure-pull`).
    pub insecure_pull: bool,
    /// Treat every host that is pushed to as one of `insecure_hosts` (`--insecure`).
    pub insecure_push: bool,
    /// Hosts whose certificate is not checked.
    pub skip_tls_verify_hosts: BTreeSet<String>,
    /// Check no certificate when pulling (`--skip-tls-verify-pull`).
    pub skip_tls_verify_pull: bool,
    /// Check no certificate when pushing (`--skip-tls-verify`).
    pub skip_tls_verify_push: bool,
    /// Certificates, in PEM, that are trusted beside the system's; each entry may hold several.
    pub ca_certificates_pem: Vec<Vec<u8>>,
    /// Certificates for single hosts.
    pub host_certificates: BTreeMap<String, HostCertificates>,
    /// What the client calls itself.
    pub user_agent: String,
    /// How many requests run at the same time for one host. An open [`BlobStream`](crate::BlobStream) counts as one.
    pub requests_per_host: usize,
    /// When something is given up.
    pub timeouts: Timeouts,
    /// How often and when something is tried again.
    pub retries: RetryPolicy,
    /// How long a credential is used before its source is asked again.
    pub credential_lifetime: Duration,
    /// How large a piece is, in bytes, where a registry does not take a blob in one.
    pub chunk_bytes: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            insecure_hosts: BTreeSet::new(),
            insecure_pull: false,
            insecure_push: false,
            skip_tls_verify_hosts: BTreeSet::new(),
            skip_tls_verify_pull: false,
            skip_tls_verify_push: false,
            ca_certificates_pem: Vec::new(),
            host_certificates: BTreeMap::new(),
            user_agent: concat!("cofferdam/", env!("CARGO_PKG_VERSION")).to_owned(),
            requests_per_host: 6,
            timeouts: Timeouts::default(),
            retries: RetryPolicy::default(),
            // Helpers give tokens that live for hours; a minute spares a push with many blobs the repeated question.
            credential_lifetime: Duration::from_secs(60),
            // Proxies before registries limit a request to 100 MB and less; few to 16.
            chunk_bytes: 16 * 1024 * 1024,
        }
    }
}

impl ClientOptions {
    pub(crate) fn is_insecure(&self, host: &str, direction: Direction) -> bool {
        let all = match direction {
            Direction::Pull => self.insecure_pull,
            Direction::Push => self.insecure_push,
        };
        all || self.insecure_hosts.contains(host)
    }

    /// Which of `host_certificates` are those of a host.
    pub(crate) fn certificates_of(&self, host: &str) -> Option<usize> {
        self.host_certificates.keys().position(|known| known == host)
    }

    pub(crate) fn skips_tls_verify(&self, host: &str, direction: Direction) -> bool {
        let all = match direction {
            Direction::Pull => self.skip_tls_verify_pull,
            Direction::Push => self.skip_tls_verify_push,
        };
        all || self.skip_tls_verify_hosts.contains(host)
    }
}

/// What TLS with one host needs, in PEM.
#[derive(Clone, Default)]
pub struct HostCertificates {
    /// Certificates that are trusted for this host, beside the system's.
    pub ca_pem: Vec<u8>,
    /// Our own certificate and its private key, one after the other, for hosts that ask who we are; empty is none.
    pub client_pem: Vec<u8>,
}

/// Without the private key.
impl fmt::Debug for HostCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCertificates").field("client", &!self.client_pem.is_empty()).finish_non_exhaustive()
    }
}

/// How long nothing may happen.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Between two pieces of a body, either way.
    pub idle: Duration,
    /// From the end of a request to the start of its answer. Long, as a registry may move a large blob in between.
    pub answer: Duration,
    /// How slow a body may come that does not stop.
    pub slowest: SlowestRate,
}

/// The least that must come while it is waited for. Without it, a server that sends a byte now and then holds a build for as
/// long as it likes. What is sent needs no such bound: its pieces are of 128 KiB, and each has [`Timeouts::idle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowestRate {
    /// Bytes in each second, on average over `window`.
    pub bytes_per_second: u64,
    /// How long it is averaged over. Time in which nothing was asked for does not count.
    pub window: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(180),
            slowest: SlowestRate { bytes_per_second: 1024, window: Duration::from_secs(30) },
        }
    }
}

/// When a request is sent again: on 408, 429, 5xx, a broken connection, and a timeout.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How often one request, or one transfer, is tried, the first time included.
    pub attempts: u32,
    /// The wait after the first failure; it doubles each time, and is spread by chance between its half and itself.
    pub first_wait: Duration,
    /// The longest such wait.
    pub longest_wait: Duration,
    /// The longest `Retry-After` that is obeyed; a longer one ends the request with an error.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_millis(300),
            longest_wait: Duration::from_secs(10),
            longest_retry_after: Duration::from_secs(90),
        }
    }
}
