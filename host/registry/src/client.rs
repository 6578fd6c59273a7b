//! The client: what a build asks of registries.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    ClientOptions, CredentialSource, RegistryHost,
    host::Host,
    http::{Clients, Http},
    options::Direction,
};

/// Talks to any number of registries. Cheap to clone; clones share connections, tokens and limits. Its methods are in
/// the files of what they do: manifests, pulling, pushing.
///
/// All methods need a tokio runtime with time and I/O.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    options: Arc<ClientOptions>,
    clients: Arc<Clients>,
    source: Arc<dyn CredentialSource>,
    hosts: Mutex<BTreeMap<(RegistryHost, Direction), Arc<Host>>>,
}

impl Client {
    /// A client that asks `source` who we are when a registry wants to know. Opens no connection and reads no file.
    pub fn new(options: ClientOptions, source: Arc<dyn CredentialSource>) -> Self {
        let options = Arc::new(options);
        let clients = Arc::new(Clients::new(Arc::clone(&options)));
        Self(Arc::new(Inner { options, clients, source, hosts: Mutex::default() }))
    }

    pub(crate) fn host(&self, host: &RegistryHost, direction: Direction) -> Arc<Host> {
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let made = hosts.entry((host.clone(), direction)).or_insert_with(|| {
            let http = Http { options: Arc::clone(&self.0.options), clients: Arc::clone(&self.0.clients), direction };
            Arc::new(Host::new(host.clone(), http, Arc::clone(&self.0.source)))
        });
        Arc::clone(made)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.0.options).finish_non_exhaustive()
    }
}
