//! What the mounts of a command show: parts of trees, caches of the store, secrets and agents that the build was given.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "directories that the store gave this process, and secrets that the user named"
)]

use std::{
    collections::BTreeMap,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cofferdam_digest::Digest;
use cofferdam_dockerfile::{Diagnostic, Severity};
use cofferdam_exec::{Mount, MountSource};
use cofferdam_image::{CacheMount, CacheSharing, TempDir};
use cofferdam_plan::{key::KeyHasher, step::TreeRead};
use cofferdam_plugin_host::{CommandMount, CommandMountSource, Sharing, TreePart};
use cofferdam_rootfs::{
    Attributes, ChangeSet, ConfinedDir, CopyOptions, Metadata, Owner, RootFs, RootPath, RootfsError, SpoolFactory,
    Timestamp, Tree, Unpacker,
};

use crate::{
    command,
    error::{BuildError, StepError},
    events::{Event, Vertex},
    flat::FlatRoot,
    hashed_tree::HashedTree,
    layers::{LayerFiles, StageLayer},
    request::{BuildRequest, SecretSource},
    ssh::{Agent, AgentSocket},
    stop::Stop,
    trees,
    work::Talk,
};

/// A secret is no larger than this, in bytes (BuildKit's bound).
const SECRET_LIMIT_BYTES: u64 = 500 << 10;

/// The build argument that keeps the caches of builds apart, as BuildKit has it.
const NAMESPACE_ARGUMENT: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// How often a cache that others have is asked for.
const CACHE_INTERVAL: Duration = Duration::from_millis(50);

/// After so many of them, a second, the log says what is waited for.
const CACHE_WAITS_WORTH_TELLING: u32 = 20;

/// What is copied of a tree has this name in the directory that it is copied to.
const PART: &str = "part";

/// What commands may be handed beside trees.
pub struct Handouts {
    secrets: BTreeMap<String, Vec<u8>>,
    agents: BTreeMap<String, Agent>,
    cache_namespace: String,
    /// Parts of directories that were copied for a mount, by the hash of what is in them.
    copies: Mutex<BTreeMap<Digest, Arc<TempDir>>>,
}

impl Handouts {
    /// Reads the secrets of a request; its agents are opened already.
    ///
    /// # Errors
    /// A file can't be read, or is too large.
    pub fn collect(request: &BuildRequest, agents: BTreeMap<String, Agent>) -> Result<Self, BuildError> {
        let mut secrets = BTreeMap::new();
        for (id, source) in &request.secrets {
            let value = match source {
                SecretSource::Value(value) => value.clone().into_bytes(),
                SecretSource::File(path) => {
                    let path = request.working_directory.join(path);
                    let (flag, id) = ("--secret", id.clone());
                    read_secret(&path).map_err(|source| BuildError::Handout { flag, id, path, source })?
                }
            };
            secrets.insert(id.clone(), value);
        }
        let cache_namespace = request.build_arguments.get(NAMESPACE_ARGUMENT).cloned().unwrap_or_default();
        Ok(Self { secrets, agents, cache_namespace, copies: Mutex::default() })
    }

    /// The secrets, by id.
    pub fn secrets(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.secrets
    }
}

fn read_secret(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut value = Vec::new();
    std::fs::File::open(path)?.take(SECRET_LIMIT_BYTES + 1).read_to_end(&mut value)?;
    match value.len() as u64 > SECRET_LIMIT_BYTES {
        true => Err(std::io::Error::other(format!("it is larger than {SECRET_LIMIT_BYTES} bytes"))),
        false => Ok(value),
    }
}

/// A tree that a step declared.
pub struct MountTree {
    /// The tree.
    pub tree: Arc<HashedTree>,
    /// Its layers, if it is made of some.
    pub layers: Option<Vec<Arc<StageLayer>>>,
    /// What of it was declared.
    pub read: TreeRead,
}

/// What the mounts of a step's commands may show.
pub struct MountSources {
    /// One for each tree that the step declared.
    pub trees: Vec<MountTree>,
    /// Store and form.
    pub files: Arc<LayerFiles>,
    /// For copies.
    pub spools: Arc<dyn SpoolFactory>,
    /// The start of the build.
    pub start: Timestamp,
    /// Secrets and agents.
    pub handouts: Arc<Handouts>,
    /// Ends waiting for a cache.
    pub stop: Stop,
    /// Whether files can be given any owner on the disk.
    pub owners_are_real: bool,
}

/// The mounts of one command, as the executor is told of them; what they need lives as long as this.
#[derive(Default)]
pub struct Prepared {
    /// For the executor.
    pub mounts: Vec<Mount>,
    /// Variables that they bring along.
    pub environment: Vec<(String, String)>,
    caches: Vec<(Digest, CacheMount)>,
    directories: Vec<Arc<TempDir>>,
    agents: Vec<AgentSocket>,
}

impl Prepared {
    /// Keeps what has to be kept when the command has ended.
    ///
    /// # Errors
    /// A cache can't be read.
    pub fn finish(self, flat: Option<&FlatRoot>) -> Result<(), StepError> {
        let Some(flat) = flat else { return Ok(()) };
        self.caches.iter().try_for_each(|(_, cache)| flat.remind(&cache.directory(), &cache.journal()))
    }
}

impl MountSources {
    /// Makes what a command's mounts show. `flat` is the root where nothing can be mounted.
    ///
    /// # Errors
    /// A secret or an agent that is required was not given; a tree, a layer or the store can't be read or written.
    pub fn prepare(
        &self,
        mounts: &[CommandMount],
        flat: Option<&FlatRoot>,
        talk: &Talk,
        vertex: Vertex,
    ) -> Result<Prepared, StepError> {
        let mut prepared = Prepared::default();
        let note = |text: String| talk.event(Event::Note { vertex, text });
        for mount in mounts {
            let source = match &mount.source {
                CommandMountSource::Bind { part, writable } => {
                    Some(self.bind(part, !writable, flat, &mut prepared, talk, vertex)?)
                }
                CommandMountSource::Cache { id, sharing, base, owner, mode, read_only } => {
                    let wanted = Cache { id, sharing: *sharing, base: base.as_ref(), owner: *owner, mode: *mode };
                    let directory = self.cache(&wanted, flat, &mut prepared, &note)?;
                    Some(MountSource::Path { path: directory, read_only: *read_only })
                }
                CommandMountSource::Memory { size_bytes } => Some(MountSource::Memory { size_bytes: *size_bytes }),
                CommandMountSource::File { content, mode } => {
                    Some(MountSource::File { contents: content.clone(), mode: *mode, uid: 0, gid: 0 })
                }
                CommandMountSource::Secret { id, required, environment, owner, mode } => {
                    self.secret(id, *required, environment.as_deref(), (*owner, *mode), &mut prepared)?
                }
                CommandMountSource::Ssh { id, required, owner, mode } => {
                    let socket = self.agent(id, *required, (*owner, *mode), flat, &mut prepared)?;
                    if let (Some(_), Some(target)) = (&socket, &mount.target) {
                        let name = "SSH_AUTH_SOCK".to_owned();
                        if !prepared.environment.iter().any(|(known, _)| *known == name) {
                            prepared.environment.push((name, target.clone()));
                        }
                    }
                    socket
                }
            };
            if let (Some(target), Some(source)) = (&mount.target, source) {
                prepared.mounts.push(Mount { target: target.clone(), source });
            }
        }
        Ok(prepared)
    }

    fn bind(
        &self,
        part: &TreePart,
        read_only: bool,
        flat: Option<&FlatRoot>,
        prepared: &mut Prepared,
        talk: &Talk,
        vertex: Vertex,
    ) -> Result<MountSource, StepError> {
        let from = &self.trees[part.tree];
        self.expect(from, &part.source)?;
        if let Some(flat) = flat {
            let directory = self.files.store.temp_dir("mount")?;
            flat.write_beside(directory.path(), &self.copied(part)?)?;
            let path = directory.path().join(PART);
            prepared.directories.push(Arc::new(directory));
            return Ok(MountSource::Path { path, read_only });
        }
        if let (Some(layers), Ok(path)) = (&from.layers, std::str::from_utf8(part.source.as_bytes())) {
            let mut lower = command::unpack(layers, talk, vertex)?;
            lower.reverse();
            if !lower.is_empty() {
                return Ok(MountSource::Layers { lower, path: path.to_owned(), read_only });
            }
        }
        let directory = self.copy(part)?;
        let lower = vec![directory.path().to_path_buf()];
        prepared.directories.push(directory);
        Ok(MountSource::Layers { lower, path: PART.to_owned(), read_only })
    }

    /// What is not there is told in words, before anything is copied.
    fn expect(&self, from: &MountTree, source: &RootPath) -> Result<Metadata, StepError> {
        from.tree.metadata(source, true)?.ok_or_else(|| {
            let message = format!("`{source}` does not exist in what `--mount` takes it from");
            let help = "check its spelling, and that `.dockerignore` does not leave it out";
            StepError::Finding(finding("SourceNotFound", message, help))
        })
    }

    /// A part of a tree as a directory, made once for all commands of the build that want the same.
    fn copy(&self, part: &TreePart) -> Result<Arc<TempDir>, StepError> {
        let from = &self.trees[part.tree];
        let key = trees::first_hash(&from.tree, &from.read)?.digest;
        let mut hasher = KeyHasher::new("mount");
        hasher.digest(&key).part(part.source.as_bytes());
        let key = hasher.finish();
        // Held meanwhile: who wants the same waits for it instead of making it again.
        let mut copies = self.handouts.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = copies.get(&key) {
            return Ok(directory.clone());
        }
        let directory = Arc::new(self.files.store.temp_dir("mount")?);
        self.write(directory.path(), &self.copied(part)?)?;
        copies.insert(key, directory.clone());
        Ok(directory)
    }

    /// A part of a tree as changes to nothing.
    fn copied(&self, part: &TreePart) -> Result<ChangeSet, StepError> {
        let tree: Arc<dyn Tree> = self.trees[part.tree].tree.clone();
        let metadata = self.expect(&self.trees[part.tree], &part.source)?;
        let mut root = RootFs::new(Vec::new(), self.spools.clone(), self.start);
        let target = RootPath::new(PART).map_err(RootfsError::from)?;
        let options = CopyOptions { keep_owner: true, ..CopyOptions::default() };
        root.copy_tree(&tree, &part.source, &target, &options)?;
        if metadata.is_directory() {
            let Metadata { mode, owner, mtime, .. } = metadata;
            root.put_directory(&target, &Attributes { mode, owner, mtime: Some(mtime) })?;
        }
        Ok(root.take_changes())
    }

    fn write(&self, directory: &Path, changes: &ChangeSet) -> Result<(), StepError> {
        let mut unpacker = Unpacker::new(Arc::new(ConfinedDir::open(directory)?), self.files.form);
        unpacker.change_set(changes)?;
        Ok(unpacker.finish()?)
    }

    fn cache(
        &self,
        cache: &Cache<'_>,
        flat: Option<&FlatRoot>,
        prepared: &mut Prepared,
        note: &dyn Fn(String),
    ) -> Result<std::path::PathBuf, StepError> {
        let key = self.cache_key(cache)?;
        // A command that has it twice has it once.
        if let Some((_, held)) = prepared.caches.iter().find(|(known, _)| *known == key) {
            return Ok(held.directory());
        }
        let sharing = match cache.sharing {
            Sharing::Shared => CacheSharing::Shared,
            Sharing::Locked => CacheSharing::Locked,
            Sharing::Private => CacheSharing::Private,
        };
        let fill = |directory: &Path| self.fill_cache(directory, cache, flat);
        let mut waits = 0;
        let mount = loop {
            match self.files.store.cache_mount(&self.files.form_name, &key, sharing, fill)? {
                Some(mount) => break mount,
                None if self.stop.is_stopped() => return Err(StepError::Exec(cofferdam_exec::ExecError::Cancelled)),
                None => {
                    // A short wait is not worth a line.
                    waits += 1;
                    if waits == CACHE_WAITS_WORTH_TELLING {
                        note(format!("waiting for another command that has locked the cache `{}`", cache.id));
                    }
                    std::thread::sleep(CACHE_INTERVAL);
                }
            }
        };
        let directory = mount.directory();
        if let Some(flat) = flat {
            if mount.journal().exists() {
                flat.remember(&mount.journal())?;
            } else if let Some(owner) = cache.owner {
                flat.give(&directory, owner, cache.mode.unwrap_or(0o755))?;
            }
        }
        prepared.caches.push((key, mount));
        Ok(directory)
    }

    fn cache_key(&self, cache: &Cache<'_>) -> Result<Digest, StepError> {
        let mut hasher = KeyHasher::new("cache-mount");
        hasher.part(&self.handouts.cache_namespace).part(cache.id);
        hasher.list(cache.owner.iter().map(|owner| format!("{}:{}", owner.uid, owner.gid)));
        hasher.list(cache.mode.iter().map(|mode| mode.to_le_bytes()));
        if let Some(part) = cache.base {
            let from = &self.trees[part.tree];
            hasher.digest(&trees::first_hash(&from.tree, &from.read)?.digest).part(part.source.as_bytes());
        }
        Ok(hasher.finish())
    }

    /// The first content of a cache, in an empty directory.
    fn fill_cache(&self, directory: &Path, cache: &Cache<'_>, flat: Option<&FlatRoot>) -> Result<(), StepError> {
        let failed = |source| StepError::Rootfs(RootfsError::Storage { action: "make a cache".to_owned(), source });
        if let Some(part) = cache.base {
            let copy = self.files.store.temp_dir("mount")?;
            let changes = self.copied(part)?;
            match flat {
                Some(flat) => flat.write_beside(copy.path(), &changes)?,
                None => self.write(copy.path(), &changes)?,
            }
            let part = copy.path().join(PART);
            if !part.is_dir() {
                let message = format!("the base of the cache `{}` is no directory", cache.id);
                return Err(StepError::Finding(finding("InvalidMount", message, "name a directory as its `source`")));
            }
            std::fs::remove_dir(directory).map_err(failed)?;
            std::fs::rename(&part, directory).map_err(failed)?;
        }
        if cache.base.is_none() || cache.mode.is_some() {
            let mode = std::fs::Permissions::from_mode(cache.mode.unwrap_or(0o755));
            std::fs::set_permissions(directory, mode).map_err(failed)?;
        }
        if let Some(Owner { uid, gid }) = cache.owner.filter(|_| self.owners_are_real && flat.is_none()) {
            std::os::unix::fs::chown(directory, Some(uid), Some(gid)).map_err(failed)?;
        }
        Ok(())
    }

    fn secret(
        &self,
        id: &str,
        required: bool,
        environment: Option<&str>,
        (Owner { uid, gid }, mode): (Owner, u32),
        prepared: &mut Prepared,
    ) -> Result<Option<MountSource>, StepError> {
        let Some(value) = self.handouts.secrets.get(id) else {
            return missing(required, "secret", "--secret", id);
        };
        if let Some(name) = environment {
            let text = std::str::from_utf8(value).ok().filter(|text| !text.contains('\0')).ok_or_else(|| {
                let message = format!("the secret `{id}` is no text, so it can't be a variable");
                StepError::Finding(finding("InvalidSecret", message, "mount it as a file, with `target`"))
            })?;
            prepared.environment.push((name.to_owned(), text.to_owned()));
        }
        Ok(Some(MountSource::File { contents: value.clone(), mode, uid, gid }))
    }

    fn agent(
        &self,
        id: &str,
        required: bool,
        (owner, mode): (Owner, u32),
        flat: Option<&FlatRoot>,
        prepared: &mut Prepared,
    ) -> Result<Option<MountSource>, StepError> {
        let Some(agent) = self.handouts.agents.get(id) else {
            return missing(required, "SSH agent", "--ssh", id);
        };
        let failed = |source| {
            let action = format!("make a socket for the SSH agent `{id}`");
            StepError::Rootfs(RootfsError::Storage { action, source })
        };
        let directory = self.files.store.temp_dir("ssh")?;
        let path = directory.path().join("agent");
        let on_disk = if flat.is_some() { 0o600 } else { mode };
        let socket = AgentSocket::serve(&path, on_disk, agent).map_err(failed)?;
        match flat {
            Some(flat) => flat.give(&path, owner, mode)?,
            None if self.owners_are_real => {
                std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
            }
            None => {}
        }
        prepared.agents.push(socket);
        prepared.directories.push(Arc::new(directory));
        Ok(Some(MountSource::Path { path, read_only: false }))
    }
}

/// What a step says of a cache.
struct Cache<'a> {
    id: &'a str,
    sharing: Sharing,
    base: Option<&'a TreePart>,
    owner: Option<Owner>,
    mode: Option<u32>,
}

fn missing(required: bool, what: &str, flag: &str, id: &str) -> Result<Option<MountSource>, StepError> {
    if !required {
        return Ok(None);
    }
    let message = format!("the build was given no {what} `{id}`, which the step requires");
    let help = match flag {
        "--ssh" => format!("pass `--ssh {id}`, with the agent's socket in SSH_AUTH_SOCK"),
        _ => format!("pass `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`"),
    };
    Err(StepError::Finding(finding("MissingSecret", message, &help)))
}

fn finding(code: &str, message: String, help: &str) -> Diagnostic {
    Diagnostic { severity: Severity::Error, code: code.to_owned(), message, span: None, help: Some(help.to_owned()) }
}
