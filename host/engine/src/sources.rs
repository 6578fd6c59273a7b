//! Where a build's files come from: the context, the Dockerfile in it, and the trees beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_context::{
    ArchiveSource, Context, ContextError, ContextSource, DockerfileLocation, FetchLimits, GitFacts, IgnoreText,
    NamedSource, Remote, RemoteOptions, SshAccess, Visibility,
};
use cofferdam_dockerfile::{
    CheckOptions, Diagnostic, Parsed, Severity,
    ignore::{IgnoreError, IgnorePatterns},
};
use cofferdam_image::{LayoutReference, Store, TempDir};
use cofferdam_plugin_host::Policy;
use cofferdam_rootfs::{RootPath, Tree};

use crate::{
    error::BuildError,
    events::{Ending, Kind},
    images::NamedImage,
    request::{BuildRequest, Timestamps},
    ssh::Agent,
    stop::Stop,
    work::Talk,
};

/// The build argument that says what `# check=` says, and counts instead.
const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The agent of `--ssh` whose keys open repositories, as in BuildKit.
const DEFAULT_AGENT: &str = "default";

/// The build argument that keeps the context's `.git`, as BuildKit has it.
const KEEP_GIT_ARGUMENT: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// The build argument that sets all times in the image.
const EPOCH_ARGUMENT: &str = "SOURCE_DATE_EPOCH";

/// The context and the trees beside it.
pub(crate) struct Sources {
    pub(crate) git: Option<GitFacts>,
    pub(crate) tree: Arc<dyn Tree>,
    pub(crate) directories: BTreeMap<String, Arc<dyn Tree>>,
    /// Which of the directories were fetched; `None` is the context.
    pub(crate) fetched: BTreeSet<Option<String>>,
    pub(crate) images: BTreeMap<String, NamedImage>,
    pub(crate) dockerfile_name: String,
    pub(crate) text: String,
    pub(crate) parsed: Parsed,
    pub(crate) ignore: IgnorePatterns,
}

impl Sources {
    /// Opens them; what lies elsewhere is fetched by `remote`, whose directories must stay as long as this is used.
    pub(crate) fn open(request: &BuildRequest, talk: &Talk, remote: &Remote) -> Result<Self, BuildError> {
        let here = &request.working_directory;
        let access = &request.sources;
        let mut source = match &access.kaniko_git {
            None => ContextSource::parse(&request.context)?,
            Some(git) => ContextSource::parse_kaniko(&request.context, git, access.git_pull_method.as_deref())?,
        };
        if let ContextSource::Git(git) = &mut source {
            git.keep_git_directory |= keeps_git(request, talk);
        }
        let location = request.dockerfile.as_deref().map(DockerfileLocation::parse).unwrap_or_default();
        if location == DockerfileLocation::Stdin && source == ContextSource::Archive(ArchiveSource::Stdin) {
            return Err(BuildError::StandardInputTwice);
        }
        let own_way = context_remote(request, remote);
        let context = fetched(talk, &source, || {
            source.open_beneath(here, &own_way, access.credential.as_ref(), access.context_directory.as_deref())
        })?;
        let mut all_fetched = BTreeSet::new();
        if source.is_fetched() {
            all_fetched.insert(None);
        }
        let dockerfile = context.read_dockerfile(&location, here, &mut io::stdin(), remote)?;
        let ignore = patterns(dockerfile.ignore.as_ref())?;
        let tree = context.tree(ignore.clone().map(visibility));
        let (mut directories, mut images) = (BTreeMap::new(), BTreeMap::new());
        for (name, text) in &request.contexts {
            match cofferdam_context::NamedContext::parse(&format!("{name}={text}"))?.source {
                NamedSource::Tree(source) => {
                    if source.is_fetched() {
                        all_fetched.insert(Some(name.clone()));
                    }
                    let named = fetched(talk, &source, || source.open(here, remote, None))?;
                    directories
                        .insert(name.clone(), named.tree(patterns(named.ignore_text()?.as_ref())?.map(visibility)));
                }
                NamedSource::OciLayout(text) => {
                    let parsed: Result<LayoutReference, _> = text.parse();
                    let mut reference = parsed
                        .map_err(|error| BuildError::NamedContext { name: name.clone(), reason: error.to_string() })?;
                    reference.directory = here.join(reference.directory);
                    images.insert(name.clone(), NamedImage::Layout(reference));
                }
                NamedSource::Image(reference) => {
                    images.insert(name.clone(), NamedImage::Registry(reference));
                }
            }
        }
        Ok(Self {
            git: facts_of(&context, talk),
            tree,
            directories,
            fetched: all_fetched,
            images,
            parsed: parsed(&dockerfile.bytes, request),
            ignore: ignore.unwrap_or_default(),
            text: String::from_utf8_lossy(&dockerfile.bytes).into_owned(),
            dockerfile_name: dockerfile.name,
        })
    }
}

/// What timestamps are set to: what the user asked for, else what an ARG before the first FROM declares (BuildKit, "Build
/// reproducibility").
pub(crate) fn timestamps(request: &BuildRequest, parsed: &Parsed) -> Result<Timestamps, BuildError> {
    if request.timestamps != Timestamps::Automatic || request.build_arguments.contains_key(EPOCH_ARGUMENT) {
        return Ok(request.timestamps);
    }
    let before = parsed.instructions.iter().take_while(|instruction| instruction.keyword != "FROM");
    let declared = before.filter(|instruction| instruction.keyword == "ARG").flat_map(|arg| arg.arg_declarations());
    let of_epoch = declared.flatten().filter(|argument| argument.name == EPOCH_ARGUMENT).last();
    match of_epoch.and_then(|argument| argument.default).as_deref() {
        // The context's own time is the default here.
        None | Some("" | "context") => Ok(Timestamps::Automatic),
        Some(text) => text.parse().map(Timestamps::Epoch).map_err(|_| BuildError::Epoch(text.to_owned())),
    }
}

fn keeps_git(request: &BuildRequest, talk: &Talk) -> bool {
    match request.build_arguments.get(KEEP_GIT_ARGUMENT).map(String::as_str) {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
        None | Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => false,
        Some(other) => {
            talk.warn(format!("`{KEEP_GIT_ARGUMENT}={other}` is neither true nor false: `.git` is not kept"));
            false
        }
    }
}

/// The way to the context. Its server may be shown the keys of the user's own agent where no other was given; what a Dockerfile
/// names gets none but those of `--ssh`.
fn context_remote(request: &BuildRequest, remote: &Remote) -> Remote {
    match &request.sources.ssh_auth_socket {
        Some(socket) if !request.ssh.contains_key(DEFAULT_AGENT) => {
            remote.with_ssh_agent(Agent::Socket(request.working_directory.join(socket)).for_sources())
        }
        _ => remote.clone(),
    }
}

/// The way to what lies elsewhere. What is fetched lies in the store's temporary directories, which go with the last clone.
pub(crate) fn remote(
    request: &BuildRequest,
    policy: &Policy,
    stop: &Stop,
    store: Option<Store>,
    agents: &BTreeMap<String, Agent>,
) -> Remote {
    let (path, stop) = (request.store.clone(), stop.clone());
    let kept: Mutex<(Option<Store>, Vec<TempDir>)> = Mutex::new((store, Vec::new()));
    let scratch = move || {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (store, directories) = &mut *kept;
        let store = match store {
            Some(store) => store,
            none => none.insert(Store::open(&path).map_err(io::Error::other)?),
        };
        let directory = store.temp_dir("fetched").map_err(io::Error::other)?;
        let path: PathBuf = directory.path().to_path_buf();
        directories.push(directory);
        Ok(path)
    };
    let limits = FetchLimits::default();
    Remote::new(RemoteOptions {
        scratch: Arc::new(scratch),
        stopped: Arc::new(move || stop.is_stopped()),
        allowed: Arc::new({
            let policy = policy.clone();
            move |host| policy.may_fetch(host)
        }),
        patience: request.registries.patience,
        skip_tls_verify: request.sources.kaniko_git.as_ref().is_some_and(|git| git.skip_tls_verify),
        ssh: SshAccess {
            agent: agents.get(DEFAULT_AGENT).map(Agent::for_sources),
            known_hosts: request.sources.known_hosts.clone(),
        },
        cloud: request.sources.cloud.clone(),
        limits: FetchLimits {
            unpacked_bytes: request.execution.layer_limit_bytes.unwrap_or(limits.unpacked_bytes),
            ..limits
        },
    })
}

/// Opens a context, and says so if that means fetching it.
fn fetched(
    talk: &Talk,
    source: &ContextSource,
    open: impl FnOnce() -> Result<Context, ContextError>,
) -> Result<Context, BuildError> {
    if !source.is_fetched() {
        return Ok(open()?);
    }
    let work = talk.begin(Kind::Fetch, format!("fetching {}", source.shown()));
    match open() {
        Ok(context) => {
            for warning in context.warnings() {
                talk.warn(warning.clone());
            }
            if let Ok(Some(facts)) = context.git_facts() {
                work.note(format!("commit {}", facts.commit));
            }
            work.end(Ending::Done);
            Ok(context)
        }
        Err(error) => {
            work.end(Ending::Failed(crate::chain(&error)));
            Err(error.into())
        }
    }
}

/// The facts of the context's checkout. A repository that can't be read is no reason not to build.
fn facts_of(context: &Context, talk: &Talk) -> Option<GitFacts> {
    context.git_facts().unwrap_or_else(|error| {
        let text = format!("the context's git repository is not used: {}", crate::chain(&error));
        talk.warn(text);
        None
    })
}

/// The Dockerfile, with the check options of the command line instead of its own.
fn parsed(bytes: &[u8], request: &BuildRequest) -> Parsed {
    let mut parsed = cofferdam_dockerfile::parse(bytes);
    match request.build_arguments.get(CHECK_ARGUMENT).map(|value| CheckOptions::parse(value)) {
        None => {}
        Some(Ok(options)) => parsed.directives.check = options,
        Some(Err(reason)) => parsed.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            code: "InvalidCheckOption".to_owned(),
            message: format!("{CHECK_ARGUMENT}: {reason}"),
            span: None,
            help: Some("the options are `skip=RULE,…`, `experimental=RULE,…` and `error=true`".to_owned()),
        }),
    }
    parsed
}

/// The patterns of an ignore file.
fn patterns(ignore: Option<&IgnoreText>) -> Result<Option<IgnorePatterns>, BuildError> {
    let Some(ignore) = ignore else { return Ok(None) };
    let wrong = |error: IgnoreError| BuildError::NamedContext { name: ignore.name.clone(), reason: error.to_string() };
    IgnorePatterns::parse(&ignore.bytes).map(Some).map_err(wrong)
}

/// What an ignore file leaves of a tree.
fn visibility(patterns: IgnorePatterns) -> Visibility {
    let patterns = Arc::new(patterns);
    let inside = patterns.clone();
    Visibility {
        visible: Arc::new(move |path: &RootPath, _| !patterns.excluded(path)),
        may_hold_visible: Arc::new(move |path: &RootPath, _| inside.might_reinclude_below(path)),
    }
}
