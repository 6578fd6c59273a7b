//! Credentials: from the helpers, which are plugins, to the registry client, and to nobody else.

use std::{path::PathBuf, sync::Arc};

use cofferdam_plugin_host::{Credential as Answer, CredentialSources, MAX_SOURCE_BYTES, PluginHost};
use cofferdam_registry::{
    Action, Client, ClientOptions, Credential, CredentialError, CredentialSource, HostCertificates, RetryPolicy,
    Secret, SlowestRate, Timeouts,
};

use crate::{
    error::BuildError,
    request::{CertificateFiles, RegistryAccess},
};

/// The client for a build.
///
/// # Errors
/// A file with certificates can't be read.
pub fn client(access: &RegistryAccess, plugins: &Arc<PluginHost>) -> Result<Client, BuildError> {
    let patience = access.patience.map(|patience| Timeouts {
        connect: patience.min(Timeouts::default().connect),
        idle: patience,
        answer: patience,
        slowest: SlowestRate { window: patience, ..Timeouts::default().slowest },
    });
    let retries = RetryPolicy::default();
    let host_certificates =
        access.host_certificates.iter().map(|(host, files)| Ok((host.clone(), certificates(files)?)));
    let options = ClientOptions {
        timeouts: patience.unwrap_or_default(),
        retries: RetryPolicy { attempts: access.attempts.unwrap_or(retries.attempts), ..retries },
        insecure_hosts: access.insecure_hosts.iter().cloned().collect(),
        skip_tls_verify_hosts: access.skip_tls_verify_hosts.iter().cloned().collect(),
        insecure_pull: access.insecure_pull,
        insecure_push: access.insecure_push,
        skip_tls_verify_pull: access.skip_tls_verify_pull,
        skip_tls_verify_push: access.skip_tls_verify_push,
        host_certificates: host_certificates.collect::<Result<_, BuildError>>()?,
        ..ClientOptions::default()
    };
    let text = access.docker_auth_config.clone().map(DockerConfig::Text);
    let configs = text.into_iter().chain(access.docker_configs.iter().cloned().map(DockerConfig::File));
    let files = configs.map(|config| Arc::new(config) as Arc<dyn CredentialSources>).collect();
    Ok(Client::new(options, Arc::new(Helpers { plugins: plugins.clone(), files })))
}

/// A certificate with its key is larger than this only if it is none, in bytes.
const CERTIFICATE_LIMIT_BYTES: u64 = 4 << 20;

fn certificates(files: &CertificateFiles) -> Result<HostCertificates, BuildError> {
    let read = |path: &PathBuf| {
        let read = cofferdam_rootfs::read_named_file(path, CERTIFICATE_LIMIT_BYTES);
        let found = read.and_then(|bytes| bytes.ok_or_else(|| std::io::ErrorKind::NotFound.into()));
        found.map_err(|source| BuildError::Certificate { path: path.clone(), source })
    };
    let all = |paths: &mut dyn Iterator<Item = &PathBuf>| paths.map(read).collect::<Result<Vec<_>, _>>();
    Ok(HostCertificates {
        ca_pem: all(&mut files.ca.iter())?.join(&b'\n'),
        client_pem: all(&mut files.client.iter().flat_map(|(certificate, key)| [certificate, key]))?.join(&b'\n'),
    })
}

struct Helpers {
    plugins: Arc<PluginHost>,
    /// In the order in which they are asked; the first that has an answer counts.
    files: Vec<Arc<dyn CredentialSources>>,
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
        let mut found = None;
        for files in &self.files {
            let asked = self.plugins.credential(host, repository, &actions, files);
            found = asked.map_err(|error| CredentialError { host: host.to_owned(), reason: crate::chain(&error) })?;
            if found.is_some() {
                break;
            }
        }
        Ok(found.map(|found| match found.credential {
            Answer::Basic { username, password } => {
                Credential::Basic { username, password: Secret::new(password.expose()) }
            }
            Answer::Bearer(token) => Credential::Bearer(Secret::new(token.expose())),
            Answer::IdentityToken(token) => Credential::IdentityToken(Secret::new(token.expose())),
        }))
    }
}

/// What a helper may be granted under the name `docker-config`.
enum DockerConfig {
    Text(Secret),
    File(PathBuf),
}

impl CredentialSources for DockerConfig {
    fn file(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        match (name, self) {
            ("docker-config", Self::Text(text)) => Ok(Some(text.expose().as_bytes().to_vec())),
            ("docker-config", Self::File(path)) => cofferdam_rootfs::read_named_file(path, MAX_SOURCE_BYTES as u64),
            _ => Ok(None),
        }
    }

    fn variable(&self, _: &str) -> Option<String> {
        // No first-party helper of this version is granted a variable.
        None
    }
}
