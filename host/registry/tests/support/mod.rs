//! Servers for the tests.

pub mod registry;

use std::{
    io::{self, Cursor, Read},
    sync::{Arc, Mutex},
    time::Duration,
};

use cofferdam_digest::Digest;
use cofferdam_registry::{
    Action, BlobUpload, Client, ClientOptions, Credential, CredentialError, CredentialSource, NoCredentials,
    RetryPolicy, SlowestRate, Timeouts,
};

/// Options that fail fast.
pub fn quick() -> ClientOptions {
    ClientOptions {
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            idle: Duration::from_millis(700),
            answer: Duration::from_millis(900),
            slowest: SlowestRate { bytes_per_second: 1000, window: Duration::from_millis(400) },
        },
        retries: RetryPolicy {
            attempts: 4,
            first_wait: Duration::from_millis(5),
            longest_wait: Duration::from_millis(20),
            longest_retry_after: Duration::from_secs(5),
        },
        ..ClientOptions::default()
    }
}

pub fn anonymous() -> Client {
    Client::new(quick(), Arc::new(NoCredentials))
}

pub fn with(credential: Credential) -> (Client, Arc<Known>) {
    let known = Arc::new(Known { credential: Mutex::new(credential), asked: Mutex::default() });
    (Client::new(quick(), Arc::clone(&known) as Arc<dyn CredentialSource>), known)
}

/// Knows one credential, and remembers what it was asked for.
pub struct Known {
    pub credential: Mutex<Credential>,
    pub asked: Mutex<Vec<(String, String, Vec<Action>)>>,
}

impl CredentialSource for Known {
    fn credential(
        &self,
        host: &str,
        repository: &str,
        actions: &[Action],
    ) -> Result<Option<Credential>, CredentialError> {
        self.asked.lock().unwrap().push((host.to_owned(), repository.to_owned(), actions.to_vec()));
        Ok(Some(self.credential.lock().unwrap().clone()))
    }
}

pub fn blob(bytes: &[u8]) -> BlobUpload {
    let (digest, size_bytes, bytes) = (Digest::of(bytes), bytes.len() as u64, bytes.to_vec());
    let source = move || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(Cursor::new(bytes.clone()))) };
    BlobUpload { digest, size_bytes, source: Arc::new(source), mount_from: Vec::new(), progress: None }
}

/// Whether the test has to be left out because a program is not installed; says so.
pub fn skipped(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
        return false;
    }
    assert!(std::env::var_os("COFFERDAM_REQUIRE_ALL").is_none(), "{program} is not installed");
    eprintln!("skipped: {program} is not installed");
    true
}
