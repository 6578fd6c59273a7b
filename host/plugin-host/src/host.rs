//! Loading plugins, and who answers for what.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use cofferdam_digest::Digest;
use cofferdam_plugin_pack::{Manifest, Role, read_manifest};

use crate::{
    AuditLog, CallError, Fault, FaultKind, Interrupt, Limits, PluginError, Policy,
    answer_cache::AnswerCache,
    call::{CallState, Witness},
    compile_cache::CompileCache,
    embedded, imports,
    plugin::{Code, Origin, Plugin},
    runtime::Runtime,
};

/// What plugins there are and what they may.
#[derive(Default)]
pub struct HostOptions {
    /// Directories whose `*.wasm` files are plugins, besides those of this program.
    pub plugin_directories: Vec<PathBuf>,
    /// Who may have what.
    pub policy: Policy,
    /// Where uses of capabilities are written.
    pub audit: Option<Arc<AuditLog>>,
    /// A private directory for what plugins of `plugin_directories` are compiled to; without it they are compiled anew in
    /// each run.
    pub compile_cache: Option<PathBuf>,
    /// Bounds of each call; the policy may make them smaller.
    pub limits: Limits,
    /// Where private temporary directories are made: the machine's, if nothing else is said.
    pub scratch: Option<PathBuf>,
    /// Asked while a plugin computes.
    pub interrupt: Option<Interrupt>,
}

/// All plugins of this run.
pub struct PluginHost {
    pub(crate) runtime: Runtime,
    pub(crate) policy: Arc<Policy>,
    pub(crate) answers: AnswerCache,
    pub(crate) scratch: PathBuf,
    pub(crate) interrupt: Option<Interrupt>,
    audit: Option<Arc<AuditLog>>,
    limits: Limits,
    /// By name.
    pub(crate) plugins: BTreeMap<String, Arc<Plugin>>,
    /// The handler of each keyword.
    keywords: BTreeMap<String, Arc<Plugin>>,
}

/// What is known of a loaded plugin, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFacts {
    /// Its manifest.
    pub manifest: Manifest,
    /// Of its component.
    pub digest: Digest,
    /// Where it came from.
    pub origin: Origin,
    /// For one of our own: what the policy took from it, so that it answers nothing.
    pub withheld: Option<String>,
}

/// A JavaScript or Python component with its language inside has some 20 MB.
const MAX_COMPONENT_BYTES: u64 = 128 << 20;

impl PluginHost {
    /// Loads the plugins of this program and those of the directories: reads manifests, checks pins and grants, compares
    /// manifests with real imports. Nothing is compiled yet.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn load(options: HostOptions) -> Result<Self, Vec<PluginError>> {
        let HostOptions { plugin_directories, policy, audit, compile_cache, limits, scratch, interrupt } = options;
        let mut errors = Vec::new();
        let cache = compile_cache.as_deref().map(CompileCache::open).transpose();
        let cache = cache.map_err(|error| errors.push(error.into())).ok().flatten();
        let runtime = Runtime::new(cache).map_err(|error| vec![PluginError::Engine(format!("{error:#}"))])?;
        let mut host = Self {
            runtime,
            limits: policy.limits(limits),
            policy: Arc::new(policy),
            answers: AnswerCache::default(),
            scratch: scratch.unwrap_or_else(env::temp_dir),
            interrupt,
            audit,
            plugins: BTreeMap::new(),
            keywords: BTreeMap::new(),
        };
        for it in embedded::all() {
            let code = Code { wasm: it.wasm.into(), native: it.native };
            host.add(code, it.digest, Origin::Embedded).unwrap_or_else(|error| errors.push(error));
        }
        for directory in &plugin_directories {
            match components(directory) {
                Ok(paths) => {
                    for path in paths {
                        host.add_file(&path).unwrap_or_else(|error| errors.push(error));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(host) } else { Err(errors) }
    }

    /// The loaded plugins, sorted by name.
    pub fn plugins(&self) -> Vec<PluginFacts> {
        self.plugins.values().map(|plugin| plugin.facts()).collect()
    }

    /// The policy that the plugins were loaded under.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The handler of a keyword.
    pub(crate) fn handler(&self, keyword: &str) -> Option<&Arc<Plugin>> {
        self.keywords.get(keyword)
    }

    pub(crate) fn claimed_keywords(&self) -> Vec<String> {
        self.keywords.keys().cloned().collect()
    }

    /// The state of a call that is handed nothing yet.
    pub(crate) fn state(&self, plugin: &Arc<Plugin>, interrupt: Option<Interrupt>) -> CallState {
        CallState::new(Witness { plugin: plugin.clone(), audit: self.audit.clone() }, self.limits, interrupt)
    }

    pub(crate) fn protocol(&self, plugin: &Plugin, error: &wasmtime::Error) -> CallError {
        let message = format!("{error:#}");
        CallError::Fault(Fault { plugin: plugin.name().to_owned(), kind: FaultKind::Protocol, message })
    }

    fn add_file(&mut self, path: &Path) -> Result<(), PluginError> {
        let storage = |source| PluginError::Storage { path: path.to_owned(), source };
        let mut wasm = Vec::new();
        // A fifo would be waited for.
        if !fs::metadata(path).map_err(storage)?.is_file() {
            return Err(storage(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = fs::File::open(path).map_err(storage)?;
        file.take(MAX_COMPONENT_BYTES + 1).read_to_end(&mut wasm).map_err(storage)?;
        if wasm.len() as u64 > MAX_COMPONENT_BYTES {
            return Err(PluginError::TooLarge { path: path.to_owned(), limit: MAX_COMPONENT_BYTES });
        }
        let digest = Digest::of(&wasm);
        self.add(Code { wasm: wasm.into(), native: None }, digest, Origin::File(path.to_owned()))
    }

    fn add(&mut self, code: Code, digest: Digest, origin: Origin) -> Result<(), PluginError> {
        let manifest =
            read_manifest(&code.wasm).map_err(|source| PluginError::Manifest { plugin: origin.to_string(), source })?;
        let name = manifest.name.clone();
        let imports = imports::check(&code.wasm, manifest.kind())
            .map_err(|source| PluginError::Interface { plugin: name.clone(), source })?;
        // An operator who takes a capability from one of our own forbids what it does, not every build.
        let withheld = match self.policy.admit(&manifest, &digest, origin == Origin::Embedded) {
            Err(denial @ PluginError::Denied { .. }) if origin == Origin::Embedded => Some(denial.to_string()),
            admitted => admitted.map(|()| None)?,
        };
        if let Some(first) = self.plugins.get(&name) {
            let (first, second) = (first.origin.to_string(), origin.to_string());
            return Err(PluginError::NameTaken { name, first, second });
        }
        let plugin = Arc::new(Plugin {
            manifest,
            digest,
            imports,
            origin,
            code,
            withheld,
            ready: Default::default(),
            preparing: Default::default(),
        });
        self.claim(&plugin)?;
        self.plugins.insert(name, plugin);
        Ok(())
    }

    /// Makes a handler the one of its keywords.
    fn claim(&mut self, plugin: &Arc<Plugin>) -> Result<(), PluginError> {
        let Role::Instruction { keywords, .. } = &plugin.manifest.role else { return Ok(()) };
        for keyword in keywords.keys() {
            match self.keywords.get(keyword) {
                // Embedded plugins are loaded first.
                Some(other) if other.origin == Origin::Embedded => {
                    self.policy.admit_claim(&plugin.manifest, keyword)?
                }
                Some(other) => {
                    let (first, second) = (other.name().to_owned(), plugin.name().to_owned());
                    return Err(PluginError::KeywordTaken { keyword: keyword.clone(), first, second });
                }
                None => {}
            }
        }
        for keyword in keywords.keys() {
            self.keywords.insert(keyword.clone(), plugin.clone());
        }
        Ok(())
    }
}

/// The `*.wasm` files of a directory, sorted.
fn components(directory: &Path) -> Result<Vec<PathBuf>, PluginError> {
    let storage = |source| PluginError::Storage { path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(storage)? {
        let path = entry.map_err(storage)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
