//! Fetching a repository and writing the files of one of its commits.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use gix::{
    ObjectId,
    bstr::{BString, ByteSlice},
    progress::Discard,
    protocol::handshake::Ref,
    remote::{Direction, fetch::Shallow, fetch::Tags},
};
use gix_transport::{
    Protocol,
    client::{
        blocking_io::{Transport, http::Transport as HttpTransport},
        git::{ConnectMode, blocking_io::Connection},
    },
};
use url::Url;

use super::{
    checkout::{self, CheckedOut},
    daemon,
    failure::Failure,
    locate,
    smart_http::SmartHttp,
    ssh,
};
use crate::{Basic, FetchError, GitFacts, GitSource, Remote};

/// Submodules of submodules: nobody nests deeper.
const SUBMODULE_DEPTH: usize = 8;

/// As many in one repository; the largest projects have some hundred.
const SUBMODULES_LIMIT: usize = 1000;

/// A repository that was fetched.
#[derive(Debug)]
pub struct FetchedGit {
    /// Its files, or those of the directory of it that was wanted.
    pub directory: PathBuf,
    /// What is known of the commit.
    pub facts: GitFacts,
    /// What a person should know: files that are kept elsewhere, submodules that lead nowhere.
    pub warnings: Vec<String>,
}

/// Fetches what `source` names. A password in the source's URL counts before `credential`; either goes to that host alone.
///
/// # Errors
/// Any [`FetchError`].
pub fn fetch_git(remote: &Remote, source: &GitSource, credential: Option<&Basic>) -> Result<FetchedGit, FetchError> {
    let place = remote.scratch()?;
    let files = place.join("files");
    make_directory(&files)?;
    let mut warnings = Vec::new();
    let job = Job { remote, credential: source.credential.as_ref().or(credential), origin: source.url.clone() };
    let facts = job.fetch(source, &place.join("repository"), &files, 0, &mut warnings)?;
    let directory = match &source.directory {
        None => files,
        Some(path) => beneath(&files, path)
            .ok_or_else(|| FetchError::NoDirectory { url: source.shown(), directory: path.clone() })?,
    };
    Ok(FetchedGit { directory, facts, warnings })
}

/// A directory of a fetched tree; symlinks in its path resolve in the tree.
pub(crate) fn beneath(top: &Path, path: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;

    use cofferdam_rootfs::{ConfinedDir, DirectoryTree, Kind, RootPath, Tree};

    let tree = DirectoryTree::new(std::sync::Arc::new(ConfinedDir::open(top).ok()?));
    let found = tree.resolve(&RootPath::new(path.as_bytes()).ok()?).ok()??;
    let is_directory = tree.metadata(&found, false).ok()?.is_some_and(|found| found.kind == Kind::Directory);
    is_directory.then(|| top.join(std::ffi::OsStr::from_bytes(found.as_bytes())))
}

/// What one fetch and those of its submodules share.
struct Job<'a> {
    remote: &'a Remote,
    credential: Option<&'a Basic>,
    /// What the credential is for.
    origin: Url,
}

impl Job<'_> {
    fn fetch(
        &self,
        source: &GitSource,
        repository: &Path,
        files: &Path,
        depth: usize,
        warnings: &mut Vec<String>,
    ) -> Result<GitFacts, FetchError> {
        let url = source.shown();
        let broken = |reason: String| FetchError::Git { url: url.clone(), reason };
        let (repository, found) = match source.url.scheme() {
            "file" => local(source)?,
            _ => self.receive(source, repository)?,
        };
        let commit = peeled(&repository, found.id).map_err(broken)?;
        if let Some(expected) = &source.expected_commit
            && !(is_beginning_of(expected, commit) || is_beginning_of(expected, found.id))
        {
            return Err(FetchError::OtherCommit { url, found: commit.to_string(), expected: expected.clone() });
        }
        let object = repository.find_commit(commit).map_err(|error| broken(super::text(error)))?;
        let tree = object.tree_id().map_err(|error| broken(error.to_string()))?.detach();
        let commit_time = object.time().map_err(|error| broken(error.to_string()))?.seconds;
        let stopped = || self.remote.is_stopped();
        let checked_out = checkout::write(&repository, tree, files, &url, self.remote.limits(), &stopped)?;
        if let Some((count, first)) = &checked_out.lfs {
            warnings.push(format!(
                "files of `{url}` are kept in Git LFS, which is not fetched: `{first}` is a pointer, one of {count}; where they are needed, build from a checkout of your own (`git lfs pull`)"
            ));
        }
        if source.submodules {
            self.submodules(source, files, &checked_out, depth, warnings)?;
        }
        if source.keep_git_directory && source.url.scheme() != "file" {
            keep(&repository, &files.join(".git"), &url, commit, &found, tree)?;
        }
        let facts = found.facts(commit, commit_time);
        if source.url.scheme() != "file" && !source.keep_git_directory {
            // Only space: what was fetched lies in the build's own directory.
            let _ = fs::remove_dir_all(repository.git_dir());
        }
        Ok(facts)
    }

    /// Fetches over a network into a new bare repository.
    fn receive(&self, source: &GitSource, place: &Path) -> Result<(gix::Repository, Found), FetchError> {
        let url = source.shown();
        let broken = |reason: String| FetchError::Git { url: url.clone(), reason };
        let options = gix::open::Options::isolated();
        let created = gix::ThreadSafeRepository::init_opts(place, gix::create::Kind::Bare, Default::default(), options);
        let repository = created.map_err(|error| broken(error.to_string()))?.to_thread_local();
        let failure = Failure::default();
        let found = match source.url.scheme() {
            "git" => {
                let (host, port) = (source.url.host_str().unwrap_or_default(), source.url.port());
                let (reading, writing) =
                    daemon::connect(self.remote, host, port.unwrap_or(daemon::PORT), &url, &failure)?;
                let path = super::source::decoded(source.url.path());
                let transport = Connection::new(
                    reading,
                    writing,
                    Protocol::V2,
                    path.into_bytes(),
                    Some((host, port)),
                    ConnectMode::Daemon,
                    false,
                );
                exchange(&repository, source, transport)
            }
            "ssh" => exchange(&repository, source, ssh::connect(self.remote, source, &failure)?),
            _ => {
                let credential = self.credential.filter(|_| source.url.origin() == self.origin.origin()).cloned();
                let http = SmartHttp::new(self.remote.clone(), credential, failure.clone());
                let parsed = gix::url::parse(url.as_str()).map_err(|error| broken(error.to_string()))?;
                exchange(&repository, source, HttpTransport::new_http(http, parsed, Protocol::V2, false))
            }
        };
        // The first cause, where it was ours; gix has a text of it only.
        let found = found.map_err(|error| failure.take().unwrap_or(error))?;
        Ok((repository, found))
    }

    fn submodules(
        &self,
        source: &GitSource,
        files: &Path,
        found: &CheckedOut,
        depth: usize,
        warnings: &mut Vec<String>,
    ) -> Result<(), FetchError> {
        let broken = |reason: String| FetchError::Git { url: source.shown(), reason };
        if found.submodules.is_empty() {
            return Ok(());
        }
        if depth >= SUBMODULE_DEPTH || found.submodules.len() > SUBMODULES_LIMIT {
            return Err(broken(format!(
                "it has more than {SUBMODULES_LIMIT} submodules, or {SUBMODULE_DEPTH} of them in each other"
            )));
        }
        let modules = gix::submodule::File::from_bytes(
            found.modules.as_deref().unwrap_or_default(),
            None,
            &gix::config::File::default(),
        );
        let modules = modules.map_err(|error| broken(format!("its .gitmodules can't be read: {error}")))?;
        for (number, (path, commit)) in found.submodules.iter().enumerate() {
            let name = modules.names().find(|name| modules.path(name).is_ok_and(|at| at == *path));
            let address = name.and_then(|name| {
                let key = format!("submodule.{name}.url");
                modules.config().string(&key).map(|url| url.to_string())
            });
            let Some(address) = address else {
                warnings.push(format!(
                    "the submodule `{path}` of `{}` has no address in .gitmodules: it is empty",
                    source.shown()
                ));
                continue;
            };
            let submodule = submodule_source(source, &address, *commit).map_err(broken)?;
            let into = files.join(path.to_str_lossy().as_ref());
            let repository = self.remote.scratch()?.join(format!("submodule-{number}"));
            self.fetch(&submodule, &repository, &into, depth + 1, warnings)?;
        }
        Ok(())
    }
}

/// The repository of a submodule: over a network only where the whole is, and never a file of this machine then.
fn submodule_source(parent: &GitSource, address: &str, commit: ObjectId) -> Result<GitSource, String> {
    let is_relative = address.starts_with("./") || address.starts_with("../");
    let resolved = if is_relative { parent.beside(address) } else { GitSource::parse(address) };
    let mut source = resolved.map_err(|error| format!("its submodule: {error}"))?;
    if source.url.scheme() == "file" && parent.url.scheme() != "file" {
        return Err(format!(
            "its submodule's address `{address}` is a file of this machine, which a repository may not name"
        ));
    }
    source.reference = Some(commit.to_string());
    (source.depth, source.submodules, source.directory) = (parent.depth, true, None);
    Ok(source)
}

/// The reference that was found, and those of the repository.
struct Found {
    id: ObjectId,
    /// Its full name, where it has one.
    name: Option<BString>,
    references: Vec<(BString, ObjectId)>,
    /// What the remote HEAD means.
    head: Option<BString>,
}

impl Found {
    fn facts(&self, commit: ObjectId, commit_time: i64) -> GitFacts {
        let short = |name: &BString| super::short_name(name.as_bstr(), "refs/heads/");
        let name = match &self.name {
            Some(name) if name == "HEAD" => self.head.as_ref(),
            name => name.as_ref(),
        };
        let mut tags: Vec<String> = (self.references.iter())
            .filter(|(_, id)| *id == commit)
            .filter_map(|(name, _)| super::short_name(name.as_bstr(), "refs/tags/"))
            .collect();
        tags.sort();
        GitFacts {
            commit: commit.to_string(),
            branch: name.and_then(short),
            tags,
            default_branch: self.head.as_ref().and_then(short),
            commit_time,
            dirty: false,
        }
    }
}

/// The names that a reference may mean, the first that exists counts: branches before tags, as BuildKit has it.
fn candidates(source: &GitSource) -> Vec<String> {
    match source.reference.as_deref() {
        None => vec!["HEAD".to_owned()],
        Some(text) if text == "HEAD" || text.starts_with("refs/") => vec![text.to_owned()],
        Some(text) => vec![format!("refs/heads/{text}"), format!("refs/tags/{text}"), format!("refs/{text}")],
    }
}

/// Speaks with the server: references, then the pack.
fn exchange<T: Transport>(repository: &gix::Repository, source: &GitSource, transport: T) -> Result<Found, FetchError> {
    let url = source.shown();
    let broken = |error: gix::Error| FetchError::Git { url: url.clone(), reason: reason(&error) };
    let names = match source.commit() {
        Some(commit) => vec![commit.to_owned()],
        None => candidates(source),
    };
    let specs = names.iter().enumerate().map(|(number, name)| format!("+{name}:refs/cofferdam/{number}"));
    let specs: Vec<BString> = specs.map(BString::from).collect();
    let remote = repository.remote_at_without_url_rewrite(url.as_str()).map_err(broken)?;
    let remote = remote.with_fetch_tags(Tags::None);
    let bad_name = |_| missing(source, &[]);
    let remote = remote.with_refspecs(specs.iter().map(|spec| spec.as_bstr()), Direction::Fetch).map_err(bad_name)?;
    let connection = remote.to_connection_with_transport(transport).with_credentials(|_| Ok(None));
    let options = gix::remote::ref_map::Options { prefix_from_spec_as_filter_on_remote: false, ..Default::default() };
    let prepared = connection.prepare_fetch(Discard, options).map_err(broken)?;
    let map = prepared.ref_map();
    let references: Vec<(BString, ObjectId)> = map.remote_refs.iter().filter_map(named).collect();
    let head = map.remote_refs.iter().find_map(|reference| match reference {
        Ref::Symbolic { full_ref_name, target, .. } if full_ref_name == "HEAD" => Some(target.clone()),
        _ => None,
    });
    let chosen = names.iter().enumerate().find_map(|(number, name)| {
        let local = format!("refs/cofferdam/{number}");
        let mapping = map.mappings.iter().find(|mapping| mapping.local.as_ref().is_some_and(|at| *at == local))?;
        let id = mapping.remote.as_id().filter(|id| !id.is_null())?;
        Some((id.to_owned(), Some(BString::from(name.as_str())).filter(|_| source.commit().is_none())))
    });
    let Some((id, name)) = chosen else { return Err(missing(source, &references)) };
    let prepared = match source.depth {
        Some(depth) => prepared.with_shallow(Shallow::DepthAtRemote(depth)),
        None => prepared,
    };
    let received = prepared.receive(Discard, &AtomicBool::new(false));
    received.map_err(|error| match source.commit() {
        // A server's words for a commit that it does not have, or does not give to whoever knows its id.
        Some(_) if reason(&error).contains("not our ref") || reason(&error).contains("unadvertised") => {
            missing(source, &references)
        }
        _ => broken(error),
    })?;
    Ok(Found { id, name, references, head })
}

/// A reference of the server with what it leads to.
fn named(reference: &Ref) -> Option<(BString, ObjectId)> {
    match reference {
        Ref::Peeled { full_ref_name, object, .. }
        | Ref::Direct { full_ref_name, object }
        | Ref::Symbolic { full_ref_name, object, .. } => Some((full_ref_name.clone(), *object)),
        Ref::Unborn { .. } => None,
    }
}

/// A repository of this machine: read where it is.
fn local(source: &GitSource) -> Result<(gix::Repository, Found), FetchError> {
    let url = source.shown();
    let broken = |reason: String| FetchError::Git { url: url.clone(), reason };
    let path = source.url.to_file_path().map_err(|()| broken("its path is none; write file:///PATH".to_owned()))?;
    let git_directory = if path.join("HEAD").is_file() { path.clone() } else { path.join(".git") };
    if !git_directory.join("HEAD").is_file() {
        return Err(broken("there is no repository at this path; check its spelling".to_owned()));
    }
    locate::inspect(&git_directory).map_err(broken)?;
    let repository = super::open(&git_directory).map_err(broken)?;
    let mut references = Vec::new();
    let platform = repository.references().map_err(|error| broken(super::text(error)))?;
    for reference in platform.all().map_err(|error| broken(super::text(error)))? {
        let Ok(mut reference) = reference else { continue };
        let name = reference.name().as_bstr().to_owned();
        if let Ok(id) = reference.peel_to_id() {
            references.push((name, id.detach()));
        }
    }
    let head = repository.head().map_err(|error| broken(super::text(error)))?;
    let head_name = head.referent_name().map(|name| name.as_bstr().to_owned());
    let found = match source.commit() {
        Some(commit) => {
            let id = ObjectId::from_hex(commit.as_bytes()).ok().filter(|id| repository.has_object(*id));
            id.map(|id| (id, None))
        }
        None => candidates(source).into_iter().find_map(|name| match name.as_str() {
            "HEAD" => repository.head_id().ok().map(|id| (id.detach(), Some(BString::from("HEAD")))),
            name => references.iter().find(|(known, _)| known == name).map(|(known, id)| (*id, Some(known.clone()))),
        }),
    };
    let Some((id, name)) = found else { return Err(missing(source, &references)) };
    drop(head);
    Ok((repository, Found { id, name, references, head: head_name }))
}

/// The repository lacks what was asked for; the message names what it has.
fn missing(source: &GitSource, references: &[(BString, ObjectId)]) -> FetchError {
    const SHOWN: usize = 8;
    let short = |prefix: &str| -> Vec<String> {
        references.iter().filter_map(|(name, _)| super::short_name(name.as_bstr(), prefix)).collect()
    };
    let (branches, tags) = (short("refs/heads/"), short("refs/tags/"));
    let list = |kind: &str, names: &[String]| match names.len() {
        0 => None,
        count if count > SHOWN => Some(format!("{kind} are {} and {} more", names[..SHOWN].join(", "), count - SHOWN)),
        _ => Some(format!("{kind} are {}", names.join(", "))),
    };
    let known: Vec<String> = [list("branches", &branches), list("tags", &tags)].into_iter().flatten().collect();
    let wanted = match (source.commit(), source.reference.as_deref()) {
        (Some(commit), _) => format!("commit {commit} that it gives"),
        (None, Some(name)) if name.starts_with("refs/") => format!("reference `{name}`"),
        (None, Some(name)) => format!("branch or tag `{name}`"),
        (None, None) => "commit".to_owned(),
    };
    let known = match source.commit() {
        Some(_) => "; check the id, or name a branch or tag that leads to it".to_owned(),
        None if known.is_empty() => "; it is empty, or shows nothing to this user".to_owned(),
        None => format!("; {}", known.join("; ")),
    };
    FetchError::MissingReference { url: source.shown(), wanted, known }
}

fn is_beginning_of(text: &str, id: ObjectId) -> bool {
    text.len() >= 7 && id.to_string().starts_with(&text.to_ascii_lowercase())
}

/// The commit that an id leads to.
fn peeled(repository: &gix::Repository, mut id: ObjectId) -> Result<ObjectId, String> {
    for _ in 0..super::TAG_DEPTH {
        super::check_size(repository, id)?;
        match repository.find_header(id).map_err(super::text)?.kind() {
            gix::object::Kind::Commit => return Ok(id),
            gix::object::Kind::Tag => {
                id = repository.find_tag(id).map_err(super::text)?.target_id().map_err(super::text)?.detach();
            }
            kind => return Err(format!("the reference leads to a {kind}, which is no commit")),
        }
    }
    Err("the reference is a tag of too many tags".to_owned())
}

/// Makes the fetched repository the `.git` of the files. Nothing in it depends on the time or on this machine.
fn keep(
    repository: &gix::Repository,
    to: &Path,
    url: &str,
    commit: ObjectId,
    found: &Found,
    tree: ObjectId,
) -> Result<(), FetchError> {
    let failed = |source| FetchError::Storage { action: format!("write `{}`", to.display()), source };
    let broken = |error: gix::Error| FetchError::Git { url: url.to_owned(), reason: reason(&error) };
    let index = repository.index_from_tree(&tree).map_err(broken)?;
    let from = repository.git_dir();
    for name in ["hooks", "refs/cofferdam", "logs", "info", "branches"] {
        match fs::remove_dir_all(from.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let _ = fs::remove_file(from.join("description"));
    let name = match &found.name {
        Some(name) if name == "HEAD" => found.head.as_ref(),
        name => name.as_ref(),
    };
    let branch = name.filter(|name| name.starts_with(b"refs/heads/")).map(|name| name.to_string());
    let head = match &branch {
        Some(branch) => {
            let file = from.join(branch);
            fs::create_dir_all(file.parent().unwrap_or(from)).map_err(failed)?;
            fs::write(file, format!("{commit}\n")).map_err(failed)?;
            format!("ref: {branch}\n")
        }
        None => format!("{commit}\n"),
    };
    fs::write(from.join("HEAD"), head).map_err(failed)?;
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[remote \"origin\"]\n\turl = {url}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    );
    fs::write(from.join("config"), config).map_err(failed)?;
    let mut index = index;
    index.set_path(from.join("index"));
    index
        .write(Default::default())
        .map_err(|error| FetchError::Git { url: url.to_owned(), reason: error.to_string() })?;
    fs::rename(from, to).map_err(failed)
}

fn make_directory(path: &Path) -> Result<(), FetchError> {
    let failed = |source| FetchError::Storage { action: format!("make `{}`", path.display()), source };
    fs::create_dir_all(path).map_err(failed)
}

/// The innermost cause, which is the server's own word where it gave one: gix wraps it in what it was doing.
fn reason(error: &gix::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("{innermost}; check the address, and that there is a repository that may be read")
}
