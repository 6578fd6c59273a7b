//! A way to sources for tests.

use std::{cell::RefCell, sync::Arc};

use cofferdam_context::{CloudAccess, FetchLimits, Remote, RemoteOptions, SshAccess};

thread_local! {
    /// What was fetched stays until the test ends, which has a thread of its own.
    static PLACES: RefCell<Vec<tempfile::TempDir>> = const { RefCell::new(Vec::new()) };
}

/// As a build has it.
#[allow(dead_code, reason = "not every test file has use for it")]
pub fn remote() -> Remote {
    remote_with(|_| {})
}

/// With other bounds.
#[allow(dead_code, reason = "not every test file has use for it")]
pub fn remote_with(change: impl FnOnce(&mut RemoteOptions)) -> Remote {
    let mut options = RemoteOptions {
        scratch: Arc::new(|| {
            let place = tempfile::tempdir()?;
            let path = place.path().to_path_buf();
            PLACES.with_borrow_mut(|places| places.push(place));
            Ok(path)
        }),
        stopped: Arc::new(|| false),
        allowed: Arc::new(|_| true),
        patience: None,
        skip_tls_verify: false,
        ssh: SshAccess::default(),
        cloud: CloudAccess::default(),
        limits: FetchLimits::default(),
    };
    change(&mut options);
    Remote::new(options)
}
