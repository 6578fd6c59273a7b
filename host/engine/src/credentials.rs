//! Credentials: from the helpers, which are plugins, to the registry client, and to nobody else.

use std::{path::PathBuf, sync::Arc};

use cofferdam_plugin_host::{Credential as Answer, CredentialSources, MAX_SOURCE_BYTES, PluginHost};
use cofferdam_registry::{
    Action, Client, ClientOptions, Credential, CredentialError, CredentialSource, Secret, Timeouts,
};

use crate::request::RegistryAccess;

/// The client for a build.
pub fn client(access: &RegistryAccess, plugins: &Arc<PluginHost>) -> Client {
    let patience = access.patience.map(|patience| Timeouts {
        connect: patience.min(Timeouts::default().connect),
        idle: patience,
        answer: patience,
    });
    let options = ClientOptions {
        timeouts: patience.unwrap_or_default(),
        insecure_hosts: access.insecure_hosts.iter().cloned().collect(),
        skip_tls_verify_hosts: access.skip_tls_verify_hosts.iter().cloned().collect(),
        insecure_pull: access.insecure_pull,
        insecure_push: access.insecure_push,
        skip_tls_verify_pull: access.skip_tls_verify_pull,
        skip_tls_verify_push: access.skip_tls_verify_push,
        ..ClientOptions::default()
    };
    let files: Arc<dyn CredentialSources> = Arc::new(GrantedFiles { docker_config: access.docker_config.clone() });
    Client::new(options, Arc::new(Helpers { plugins: plugins.clone(), files }))
}

struct Helpers {
    plugins: Arc<PluginHost>,
    files: Arc<dyn CredentialSources>,
}

impl CredentialSource for Helpers {
    fn credential(
        &self,
        host: &str,
        repository: &str,
        actions: &[Action],
    ) -> Result<Option<Credential>, CredentialError> {
        let actions: Vec<&str> =
            actions.iter().map(|action| if *action == Action::Push { "push" } else { "pull" }).collect();
        let repository = Some(repository).filter(|repository| !repository.is_empty());
        let found = self.plugins.credential(host, repository, &actions, &self.files);
        let found = found.map_err(|error| CredentialError { host: host.to_owned(), reason: crate::chain(&error) })?;
        Ok(found.map(|found| match found.credential {
            Answer::Basic { username, password } => {
                Credential::Basic { username, password: Secret::new(password.expose()) }
            }
            Answer::Bearer(token) => Credential::Bearer(Secret::new(token.expose())),
            Answer::IdentityToken(token) => Credential::IdentityToken(Secret::new(token.expose())),
        }))
    }
}

/// The files that a helper may be granted, by the names that capabilities use.
struct GrantedFiles {
    docker_config: Option<PathBuf>,
}

impl CredentialSources for GrantedFiles {
    fn file(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        match (name, &self.docker_config) {
            ("docker-config", Some(path)) => cofferdam_rootfs::read_named_file(path, MAX_SOURCE_BYTES as u64),
            _ => Ok(None),
        }
    }

    fn variable(&self, _: &str) -> Option<String> {
        // No first-party helper of this version is granted a variable.
        None
    }
}
