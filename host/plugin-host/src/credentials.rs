//! Credential helpers.

use std::{collections::BTreeSet, fmt, sync::Arc, time::SystemTime};

use cofferdam_dockerfile::Diagnostic;
use cofferdam_plugin_pack::{Capability, ParsedHost, Role};
use cofferdam_rootfs::Timestamp;
use wasmtime::component::Resource;

use crate::{
    CallError, PluginHost,
    answer_cache::Question,
    bindings::{
        credentials::{
            cofferdam::credentials::sources::{Error as SourceError, Host, HostSources},
            exports::cofferdam::credentials::helper as wit,
        },
        instruction::cofferdam::types::{
            diagnostics::{Denial, Error},
            values::Timestamp as WitTimestamp,
        },
    },
    call::{CallState, Witness},
    plugin::{Origin, Plugin, Ready},
    text, wasi,
    web::{WebAnswer, WebHandle, WebRequest, WebUses},
};

/// What helpers may be granted: files and variables, by the names that capabilities give them, and servers.
pub trait CredentialSources: Send + Sync {
    /// How many files go by this name, the first counting most. A helper that wants the name is asked once for each, until
    /// it answers.
    fn files(&self, _name: &str) -> usize {
        1
    }

    /// A file, for example `docker-config`; `None` if there is none. `turn` counts from 0 and is less than
    /// [`CredentialSources::files`] of the name, if there are any.
    ///
    /// # Errors
    /// The machine's. A file larger than [`MAX_SOURCE_BYTES`] need not be read to its end.
    fn file(&self, name: &str, turn: usize) -> std::io::Result<Option<Vec<u8>>>;

    /// Where the file of that turn is, for people; `None` if there is nothing to be said.
    fn place(&self, _name: &str, _turn: usize) -> Option<String> {
        None
    }

    /// A variable of the environment; `None` if it isn't set.
    fn variable(&self, name: &str) -> Option<String>;

    /// Sends a request that was allowed. Follows no redirect, and uses no proxy where the request says so.
    ///
    /// # Errors
    /// Nobody answered, or more came than was wanted: a text for people that names the request, without its query.
    fn exchange(&self, request: WebRequest) -> Result<WebAnswer, String>;
}

/// The most of one source that a helper is given.
pub const MAX_SOURCE_BYTES: usize = 4 << 20;

/// The helper for configuration files in Docker's form.
const CONFIGURATION_FILES: &str = "credential-docker-config";

/// Our own helpers in the order in which they are asked, which is Kaniko's: what was written down for this build first,
/// then what the machine or the service around it may know.
pub const OWN_HELPERS: [&str; 7] = [
    CONFIGURATION_FILES,
    "credential-env",
    "credential-google",
    "credential-ecr",
    "credential-acr",
    "credential-gitlab",
    "credential-ghcr",
];

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What a registry accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// As Basic, or for a token where the registry asks for Bearer.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Sent as Bearer as it is.
    Bearer(Secret),
    /// A refresh token, exchanged for an access token.
    IdentityToken(Secret),
}

/// A helper's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialAnswer {
    /// The credential.
    pub credential: Credential,
    /// When to ask again; without it, it holds for the whole build.
    pub expires_at: Option<Timestamp>,
    /// The helper that gave it.
    pub plugin: String,
}

/// Why no helper's answer can be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The host is not a plain `host` or `host:port`, so no pattern can be compared with it.
    #[error("`{0}` is not a registry host")]
    Host(String),
    /// A helper was asked by name, and is not for this host.
    #[error("the credential helper `{plugin}` is not asked for `{host}`: {why}")]
    NotFor {
        /// Its name.
        plugin: String,
        /// The host.
        host: String,
        /// Its manifest's patterns, or what the policy took from it.
        why: String,
    },
    /// The helper was denied a source that it needs.
    #[error("the credential helper `{plugin}` was denied `{capability}`: {message}")]
    Denied {
        /// Its name.
        plugin: String,
        /// As the policy spells it.
        capability: String,
        /// What it tried.
        message: String,
    },
    /// The helper found its input wrong, for example a config file that is no JSON.
    #[error("the credential helper `{plugin}`: {}{}{}", found_in(.place), .diagnostic.message, and_help(.diagnostic))]
    Refused {
        /// Its name.
        plugin: String,
        /// Where the file is that it was given.
        place: Option<String>,
        /// Its finding.
        diagnostic: Diagnostic,
    },
    /// The call came to nothing.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl PluginHost {
    /// Asks the helpers whose patterns cover a registry host and returns the first answer; `None` if no helper has any.
    /// Those from plugin directories come first, by name, then [`OWN_HELPERS`] in their order.
    ///
    /// `chosen` are the names of the helpers that may be asked besides the one for configuration files, which always is;
    /// without it all are. An answer with an end is given again until shortly before it.
    ///
    /// # Errors
    /// Any [`CredentialError`]: a helper that fails is not passed over, or a build would go on without credentials.
    pub fn credential(
        &self,
        host: &str,
        repository: Option<&str>,
        actions: &[&str],
        sources: &Arc<dyn CredentialSources>,
        chosen: Option<&BTreeSet<String>>,
    ) -> Result<Option<CredentialAnswer>, CredentialError> {
        let (parsed, request, now) = request_for(host, repository, actions)?;
        let is_chosen = |name: &str| name == CONFIGURATION_FILES || chosen.is_none_or(|chosen| chosen.contains(name));
        for plugin in self.helpers(&parsed).into_iter().filter(|plugin| is_chosen(plugin.name())) {
            if let Some(answer) = self.answer_of(plugin, &request, now, sources)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Asks one helper by its name and nobody else.
    ///
    /// # Errors
    /// As [`PluginHost::credential`], and if its manifest does not name the host.
    pub fn credential_by(
        &self,
        name: &str,
        host: &str,
        repository: Option<&str>,
        actions: &[&str],
        sources: &Arc<dyn CredentialSources>,
    ) -> Result<Option<CredentialAnswer>, CredentialError> {
        let (parsed, request, now) = request_for(host, repository, actions)?;
        if let Some(plugin) = self.helpers(&parsed).into_iter().find(|plugin| plugin.name() == name) {
            return self.answer_of(plugin, &request, now, sources);
        }
        let withheld = self.plugins.get(name).and_then(|plugin| plugin.withheld.clone());
        let why = withheld.unwrap_or_else(|| "its manifest does not name this host".to_owned());
        Err(CredentialError::NotFor { plugin: name.to_owned(), host: request.host, why })
    }

    /// One helper's answer, from an earlier call if that still holds.
    fn answer_of(
        &self,
        plugin: &Arc<Plugin>,
        request: &wit::Request,
        now: Timestamp,
        sources: &Arc<dyn CredentialSources>,
    ) -> Result<Option<CredentialAnswer>, CredentialError> {
        let question = Question {
            plugin: plugin.name().to_owned(),
            host: request.host.clone(),
            repository: request.repository.clone(),
            actions: request.actions.clone(),
        };
        if let Some(kept) = self.answers.get(&question, now) {
            return Ok(kept);
        }
        let uses = Arc::new(WebUses::default());
        for turn in 0..turns(plugin, sources.as_ref()) {
            let asked = self.ask(plugin, request, sources, turn, &uses);
            // Whoever may only pull needs no credential for what is public; a push without one could only fail later.
            let pulls = || !request.actions.iter().any(|action| action == "push");
            let answer = match asked {
                Err(CredentialError::Denied { capability, .. })
                    if capability == Capability::Metadata.to_string() && pulls() =>
                {
                    None
                }
                asked => asked?,
            };
            if let Some(answer) = answer {
                self.answers.keep(question, &answer, now);
                return Ok(Some(answer));
            }
        }
        if uses.any() {
            self.answers.keep_none(question, now);
        }
        Ok(None)
    }

    fn helpers(&self, host: &ParsedHost) -> Vec<&Arc<Plugin>> {
        // One of our own that may not read its source has no answer.
        let covers = |plugin: &&Arc<Plugin>| match &plugin.manifest.role {
            _ if plugin.withheld.is_some() => false,
            Role::Credentials { hosts } => hosts.iter().any(|pattern| pattern.matches(host)),
            Role::Instruction { .. } | Role::Tags | Role::Sbom => false,
        };
        let mut helpers: Vec<_> = self.plugins.values().filter(covers).collect();
        helpers.sort_by_key(|plugin| match plugin.origin {
            Origin::File(_) => 0,
            Origin::Embedded => {
                let place = OWN_HELPERS.iter().position(|&name| name == plugin.name());
                1 + place.unwrap_or(OWN_HELPERS.len())
            }
        });
        helpers
    }

    fn ask(
        &self,
        plugin: &Arc<Plugin>,
        request: &wit::Request,
        sources: &Arc<dyn CredentialSources>,
        turn: usize,
        uses: &Arc<WebUses>,
    ) -> Result<Option<CredentialAnswer>, CredentialError> {
        let mut state = self.state(plugin, self.interrupt.clone());
        state.witness.record("credentials", || request.host.clone());
        if plugin.imports.wasi {
            let world = wasi::world(&state.output, &plugin.digest, None);
            state.wasi = Some(world.map_err(|error| self.protocol(plugin, &error))?);
        }
        let handle = SourcesHandle { sources: sources.clone(), turn, witness: state.witness.clone() };
        let web = WebHandle {
            sources: sources.clone(),
            policy: self.policy.clone(),
            witness: state.witness.clone(),
            uses: uses.clone(),
            waited: Default::default(),
        };
        let (result, _) = plugin.call(&self.runtime, state, |store, ready| {
            let Ready::Credentials(pre) = ready else {
                return Err(wasmtime::Error::msg("the plugin is not a credential helper"));
            };
            let sources = store.data_mut().table.push(handle)?;
            let web = store.data_mut().table.push(web)?;
            let (sources, web) = (Resource::new_borrow(sources.rep()), Resource::new_borrow(web.rep()));
            pre.instantiate(&mut *store)?.cofferdam_credentials_helper().call_get(store, request, sources, web)
        });
        let name = || plugin.name().to_owned();
        match result? {
            Ok(answer) => Ok(answer.map(|answer| CredentialAnswer {
                credential: credential(answer.credential),
                expires_at: answer.expires_at.map(|at| Timestamp { seconds: at.seconds, nanoseconds: at.nanoseconds }),
                plugin: name(),
            })),
            Err(Error::Denied(denial)) => {
                let own = uses.denied().filter(|(capability, _)| capability.to_string() == denial.capability);
                let message = own.map_or_else(|| text::shown(&denial.message), |(_, message)| message);
                Err(CredentialError::Denied { plugin: name(), capability: text::shown(&denial.capability), message })
            }
            Err(Error::Invalid(found) | Error::Unsupported(found)) => {
                let place = plugin.manifest.capabilities.iter().find_map(|capability| match capability {
                    Capability::File(file) => sources.place(file, turn.min(sources.files(file).saturating_sub(1))),
                    _ => None,
                });
                Err(CredentialError::Refused { plugin: name(), place, diagnostic: text::diagnostic(found) })
            }
        }
    }
}

fn found_in(place: &Option<String>) -> String {
    place.as_ref().map_or_else(String::new, |place| format!("{place}: "))
}

fn and_help(diagnostic: &Diagnostic) -> String {
    diagnostic.help.as_ref().map_or_else(String::new, |help| format!("; {help}"))
}

/// What a helper is told, for a host that was parsed.
fn request_for(
    host: &str,
    repository: Option<&str>,
    actions: &[&str],
) -> Result<(ParsedHost, wit::Request, Timestamp), CredentialError> {
    let parsed = ParsedHost::parse(host).ok_or_else(|| CredentialError::Host(text::shown(host)))?;
    let now = now();
    let request = wit::Request {
        host: parsed.to_string(),
        repository: repository.map(str::to_owned),
        actions: actions.iter().map(|&action| action.to_owned()).collect(),
        now: WitTimestamp { seconds: now.seconds, nanoseconds: now.nanoseconds },
    };
    Ok((parsed, request, now))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }
}

/// How often a helper is asked at most: as often as there are files by a name that it wants.
fn turns(plugin: &Plugin, sources: &dyn CredentialSources) -> usize {
    let files = plugin.manifest.capabilities.iter().map(|capability| match capability {
        Capability::File(name) => sources.files(name),
        _ => 1,
    });
    files.max().unwrap_or(1).max(1)
}

fn credential(of: wit::Credential) -> Credential {
    match of {
        wit::Credential::Basic(wit::Basic { username, password }) => {
            Credential::Basic { username, password: Secret::new(password) }
        }
        wit::Credential::Bearer(token) => Credential::Bearer(Secret::new(token)),
        wit::Credential::IdentityToken(token) => Credential::IdentityToken(Secret::new(token)),
    }
}

impl Secret {
    /// Hides a text.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the registry client alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The sources of one call.
pub struct SourcesHandle {
    sources: Arc<dyn CredentialSources>,
    /// Which of several files of one name.
    turn: usize,
    witness: Witness,
}

impl SourcesHandle {
    /// Records the use of a source, if the plugin was granted it.
    fn granted(&self, capability: &Capability) -> Result<(), SourceError> {
        if !self.witness.plugin.has(capability) {
            let message = "its manifest doesn't want it".to_owned();
            return Err(SourceError::Denied(Denial { capability: capability.to_string(), message }));
        }
        self.witness.record(&capability.to_string(), || "read".to_owned());
        Ok(())
    }
}

impl Host for CallState {}

impl HostSources for CallState {
    fn file(
        &mut self,
        sources: Resource<SourcesHandle>,
        name: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, SourceError>> {
        self.in_host(|state| {
            let handle = state.table.get(&sources)?;
            if let Err(denied) = handle.granted(&Capability::File(name.clone())) {
                return Ok(Err(denied));
            }
            let last = handle.sources.files(&name).saturating_sub(1);
            Ok(match handle.sources.file(&name, handle.turn.min(last)) {
                Ok(Some(bytes)) if bytes.len() > MAX_SOURCE_BYTES => {
                    Err(SourceError::TooLarge(MAX_SOURCE_BYTES as u64))
                }
                Ok(content) => Ok(content),
                Err(error) => Err(SourceError::Storage(error.to_string())),
            })
        })
    }

    fn variable(
        &mut self,
        sources: Resource<SourcesHandle>,
        name: String,
    ) -> wasmtime::Result<Result<Option<String>, SourceError>> {
        self.in_host(|state| {
            let handle = state.table.get(&sources)?;
            // A pattern is a grant, not a name.
            if name.contains('*') {
                return Ok(Ok(None));
            }
            if let Err(denied) = handle.granted(&Capability::Variable(name.clone())) {
                return Ok(Err(denied));
            }
            Ok(match handle.sources.variable(&name) {
                Some(value) if value.len() > MAX_SOURCE_BYTES => Err(SourceError::TooLarge(MAX_SOURCE_BYTES as u64)),
                value => Ok(value),
            })
        })
    }

    fn drop(&mut self, sources: Resource<SourcesHandle>) -> wasmtime::Result<()> {
        self.table.delete(sources)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let credential = Credential::Basic { username: "me".to_owned(), password: Secret("hunter2".to_owned()) };
        let shown = format!("{credential:?}");
        assert!(shown.contains("me") && !shown.contains("hunter2"), "{shown}");
    }
}
