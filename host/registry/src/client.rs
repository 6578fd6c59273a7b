//! The client: what a build asks of registries.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{ClientOptions, CredentialSource, RegistryHost, Web, host::Host, http::Http, options::Direction};

/// Talks to any number of registries. Cheap to clone; clones share connections, tokens and limits. Its methods are in
/// the files of what they do: manifests, pulling, pushing.
///
/// All methods need a tokio runtime with time and I/O.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    web: Web,
    source: Arc<dyn CredentialSource>,
    hosts: Mutex<BTreeMap<(RegistryHost, Direction), Arc<Host>>>,
}

impl Client {
    /// A client that asks `source` who we are when a registry wants to know. Opens no connection and reads no file.
    pub fn new(options: ClientOptions, source: Arc<dyn CredentialSource>) -> Self {
        Self::over(Web::new(options), source)
    }

    /// The same with connections that others use too: a source that asks servers itself.
    pub fn over(web: Web, source: Arc<dyn CredentialSource>) -> Self {
        Self(Arc::new(Inner { web, source, hosts: Mutex::default() }))
    }

    pub(crate) fn host(&self, host: &RegistryHost, direction: Direction) -> Arc<Host> {
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let made = hosts.entry((host.clone(), direction)).or_insert_with(|| {
            let Web { options, clients } = self.0.web.clone();
            let http = Http { options, clients, direction };
            Arc::new(Host::new(host.clone(), http, Arc::clone(&self.0.source)))
        });
        Arc::clone(made)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.0.web.options).finish_non_exhaustive()
    }
}
