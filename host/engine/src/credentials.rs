//! Credentials: from the helpers, which are plugins, to the registry client, and to nobody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use cofferdam_plugin_host::{
    Credential as Answer, CredentialAnswer, CredentialSources, Kind, MAX_SOURCE_BYTES, PluginHost, WebAnswer,
    WebRequest,
};
use cofferdam_registry::{
    Action, Client, ClientOptions, Credential, CredentialError, CredentialSource, HostCertificates, RetryPolicy,
    Secret, SlowestRate, Timeouts, Web,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::runtime::{Handle, Runtime};

use crate::{
    error::BuildError,
    registry_files,
    request::{CertificateFiles, RegistryAccess},
};

/// The client for a build, whose credentials come from helpers that reach servers on `runtime`.
///
/// # Errors
/// A file with certificates can't be read, or a helper that was asked for does not exist.
pub fn client(access: &RegistryAccess, plugins: &Arc<PluginHost>, runtime: &Handle) -> Result<Client, BuildError> {
    let web = Web::new(options(access)?);
    let sources = Arc::new(Sources::new(access, web.clone(), runtime.clone()));
    let chosen = access.credential_helpers.as_deref().map(|names| chosen(names, plugins)).transpose()?;
    Ok(Client::over(web, Arc::new(Helpers { plugins: plugins.clone(), sources, chosen })))
}

/// Asks one helper, whole name, without a build; none if it has no credential.
///
/// # Errors
/// The helper is not for the host, or fails.
pub fn ask(
    access: &RegistryAccess,
    plugins: &PluginHost,
    helper: &str,
    request: &HelperRequest<'_>,
) -> Result<Option<CredentialAnswer>, BuildError> {
    let runtime = runtime(1)?;
    let web = Web::new(options(&registry_files::resolved(access)?)?);
    let sources: Arc<dyn CredentialSources> = Arc::new(Sources::new(access, web, runtime.handle().clone()));
    let actions: &[&str] = if request.push { &["pull", "push"] } else { &["pull"] };
    let asked = plugins.credential_by(helper, request.host, request.repository, actions, &sources);
    runtime.shutdown_background();
    asked.map_err(BuildError::Credential)
}

/// What the client needs to run.
///
/// # Errors
/// The machine gives no more threads.
pub fn runtime(worker_threads: usize) -> Result<Runtime, BuildError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(worker_threads).enable_all().build();
    runtime.map_err(BuildError::Runtime)
}

/// What a helper is asked for.
#[derive(Debug, Clone, Copy)]
pub struct HelperRequest<'a> {
    /// `HOST` or `HOST:PORT`, as in references.
    pub host: &'a str,
    /// The repository, without the host.
    pub repository: Option<&'a str>,
    /// Whether it is to be pushed to.
    pub push: bool,
}

/// How the client behaves.
///
/// # Errors
/// A file with certificates can't be read.
pub fn options(access: &RegistryAccess) -> Result<ClientOptions, BuildError> {
    let patience = access.patience.map(|patience| Timeouts {
        connect: patience.min(Timeouts::default().connect),
        idle: patience,
        answer: patience,
        slowest: SlowestRate { window: patience, ..Timeouts::default().slowest },
    });
    let retries = RetryPolicy::default();
    let host_certificates =
        access.host_certificates.iter().map(|(host, files)| Ok((host.clone(), certificates(files)?)));
    Ok(ClientOptions {
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
    })
}

/// What helpers are called, less what may be left out.
const HELPER_PREFIX: &str = "credential-";

/// The whole names of the helpers that may be asked.
fn chosen(names: &[String], plugins: &PluginHost) -> Result<BTreeSet<String>, BuildError> {
    let helpers = plugins.plugins().into_iter().filter(|plugin| plugin.manifest.kind() == Kind::Credentials);
    let known: BTreeSet<String> = helpers.map(|plugin| plugin.manifest.name).collect();
    let whole = |name: &String| {
        let prefixed = format!("{HELPER_PREFIX}{name}");
        [name.clone(), prefixed].into_iter().find(|name| known.contains(name)).ok_or_else(|| {
            let short = known.iter().map(|name| name.strip_prefix(HELPER_PREFIX).unwrap_or(name).to_owned());
            BuildError::CredentialHelper { name: name.clone(), known: short.collect() }
        })
    };
    names.iter().map(whole).collect()
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
    sources: Arc<dyn CredentialSources>,
    /// The helpers that may be asked; all without it.
    chosen: Option<BTreeSet<String>>,
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
        let found = self.plugins.credential(host, repository, &actions, &self.sources, self.chosen.as_ref());
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

/// The name by which helpers ask for configuration files in Docker's form.
const DOCKER_CONFIG: &str = "docker-config";

/// The name by which the helper for Google Cloud asks for its key or configuration, and for the token that the latter names.
const GOOGLE_CREDENTIALS: &str = "google-credentials";
const GOOGLE_SUBJECT_TOKEN: &str = "google-subject-token";

/// What helpers may be granted of the builder's surroundings.
struct Sources {
    /// In the order in which they count.
    docker_configs: Vec<DockerConfig>,
    files: BTreeMap<String, PathBuf>,
    variables: BTreeMap<String, Secret>,
    web: Web,
    runtime: Handle,
}

/// One configuration in Docker's form.
enum DockerConfig {
    Text(Secret),
    File(PathBuf),
}

impl Sources {
    fn new(access: &RegistryAccess, web: Web, runtime: Handle) -> Self {
        let text = access.docker_auth_config.clone().map(DockerConfig::Text);
        let configs = text.into_iter().chain(access.docker_configs.iter().cloned().map(DockerConfig::File));
        Self {
            docker_configs: configs.collect(),
            files: access.credential_files.clone(),
            variables: access.credential_variables.clone(),
            web,
            runtime,
        }
    }

    /// A file by the name that helpers have for it, if there is one.
    fn path(&self, name: &str) -> Option<PathBuf> {
        if name != GOOGLE_SUBJECT_TOKEN {
            return self.files.get(name).cloned();
        }
        // Workload identity federation: the configuration says where the token is.
        let path = self.files.get(GOOGLE_CREDENTIALS)?;
        let bytes = cofferdam_rootfs::read_named_file(path, MAX_SOURCE_BYTES as u64).ok()??;
        let configuration: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        Some(PathBuf::from(configuration.pointer("/credential_source/file")?.as_str()?))
    }
}

impl CredentialSources for Sources {
    fn files(&self, name: &str) -> usize {
        if name == DOCKER_CONFIG { self.docker_configs.len() } else { 0 }
    }

    fn file(&self, name: &str, turn: usize) -> std::io::Result<Option<Vec<u8>>> {
        let path = match self.docker_configs.get(turn).filter(|_| name == DOCKER_CONFIG) {
            Some(DockerConfig::Text(text)) => return Ok(Some(text.expose().as_bytes().to_vec())),
            Some(DockerConfig::File(path)) => Some(path.clone()),
            None => self.path(name),
        };
        path.map_or(Ok(None), |path| cofferdam_rootfs::read_named_file(&path, MAX_SOURCE_BYTES as u64))
    }

    fn place(&self, name: &str, turn: usize) -> Option<String> {
        match self.docker_configs.get(turn).filter(|_| name == DOCKER_CONFIG) {
            Some(DockerConfig::Text(_)) => Some("DOCKER_AUTH_CONFIG".to_owned()),
            Some(DockerConfig::File(path)) => Some(format!("`{}`", path.display())),
            None => Some(format!("`{}`", self.path(name)?.display())),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|value| value.expose().to_owned())
    }

    fn exchange(&self, request: WebRequest) -> Result<WebAnswer, String> {
        let method = Method::from_bytes(request.method.name().as_bytes()).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            // The plugin host has looked at both.
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let mut value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let sent = self.web.send(cofferdam_registry::WebRequest {
            method,
            url: request.url,
            headers,
            body: request.body.into(),
            direct: request.direct,
            patience: request.patience,
            limit_bytes: request.limit_bytes,
        });
        // Helpers are asked on threads that may block.
        let answer = self.runtime.block_on(sent).map_err(|error| crate::chain(&error))?;
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        Ok(WebAnswer {
            status: answer.status,
            headers: answer.headers.iter().filter_map(text).collect(),
            body: answer.body.to_vec(),
        })
    }
}
