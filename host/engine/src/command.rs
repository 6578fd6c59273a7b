//! Native commands of a step: the root mounted from the stage's layers, run by the executor, changes kept in an upper
//! directory.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_exec::{
    Cancel, Changes, Emulator, ExecError, Executor, Exit, Ids, Network, Note, PrivateFile, Root, RootForm, RunRequest,
    Stream, resolve_user,
};
use cofferdam_image::{LayerBlob, Store, TempDir};
use cofferdam_plugin_host::{
    Command, CommandMount, Exit as CommandExit, Network as CommandNetwork, RunCommand, RunCommandError,
};
use cofferdam_rootfs::{
    Attributes, ChangeSet, ConfinedDir, LayerIndex, Owner, RootFs, RootPath, RootfsError, UnpackForm, Unpacker,
    upper::{self, OwnerSource},
};

use crate::{
    error::StepError,
    events::{Event, Stream as EventStream, Vertex},
    flat::FlatRoot,
    layers::{LayerFailure, LayerWatch, StageLayer},
    mounts::MountSources,
    request::RunSurroundings,
    work::{Meter, Talk},
};

/// The files of the image that name users and groups are not larger than this, in bytes.
const ACCOUNTS_LIMIT_BYTES: u64 = 1 << 20;

/// What every command sees mounted. Where the image lacks one of these directories it has it from then on, as it has from
/// BuildKit and every other engine; other mount points leave nothing.
const SYSTEM_DIRECTORIES: [&str; 3] = ["dev", "proc", "sys"];

/// The name of the machine that commands see: the same everywhere.
const HOSTNAME: &str = "cofferdam";

/// Runs the native commands of one step.
pub struct StepCommands {
    /// The strategy.
    pub executor: Arc<dyn Executor>,
    /// For temporary directories.
    pub store: Store,
    /// How pending changes are written before a command.
    pub form: UnpackForm,
    /// The file system that the handler works on.
    pub rootfs: Arc<Mutex<RootFs>>,
    /// The layers below, the base first.
    pub layers: Vec<Arc<StageLayer>>,
    /// Who watches.
    pub talk: Talk,
    /// What the output belongs to.
    pub vertex: Vertex,
    /// Variables that every command sees and no image keeps.
    pub proxies: Vec<(String, String)>,
    /// What every command sees beside the image.
    pub surroundings: RunSurroundings,
    /// What runs programs for other processors.
    pub emulators: Vec<Emulator>,
    /// Ends the command when the build ends.
    pub cancel: Option<Cancel>,
    /// What was made for the first command.
    pub mounted: Option<Mounted>,
    /// The same, where nothing can be mounted.
    pub flat: Option<FlatRoot>,
    /// What mounts may show.
    pub mounts: MountSources,
    /// Why a command could not be run, in the executor's own words.
    pub failure: Option<StepError>,
    /// How the last command ended.
    pub last: Option<(Exit, Vec<Note>)>,
}

/// The directories of layers, the base first, each unpacked if nobody did it before; told as work of `vertex`.
///
/// # Errors
/// A layer can't be had, or the machine refused.
pub fn unpack(layers: &[Arc<StageLayer>], talk: &Talk, vertex: Vertex) -> Result<Vec<PathBuf>, LayerFailure> {
    let directory = |layer: &Arc<StageLayer>| {
        let watch = UnpackTalk { talk, vertex, blob: layer.blob(), meter: Meter::new() };
        let directory = layer.directory(&watch)?;
        if watch.meter.was_due() {
            watch.tell(watch.blob.size);
        }
        Ok(directory)
    };
    layers.iter().map(directory).collect()
}

/// Tells how far a layer is unpacked.
struct UnpackTalk<'w> {
    talk: &'w Talk,
    vertex: Vertex,
    blob: &'w LayerBlob,
    meter: Meter,
}

impl UnpackTalk<'_> {
    fn tell(&self, done_bytes: u64) {
        let (vertex, digest, total_bytes) = (self.vertex, self.blob.digest, self.blob.size);
        self.talk.event(Event::Unpacking { vertex, digest, done_bytes, total_bytes });
    }
}

impl LayerWatch for UnpackTalk<'_> {
    fn read_bytes(&self, done_bytes: u64) {
        if done_bytes < self.blob.size && self.meter.is_due() {
            self.tell(done_bytes);
        }
    }

    fn waits(&self) {
        let text = format!("waiting for another builder that unpacks layer {}", self.blob.digest);
        self.talk.event(Event::Note { vertex: self.vertex, text });
    }
}

/// The upper directory of a step's commands.
pub struct Mounted {
    directory: TempDir,
    lower: Vec<PathBuf>,
    leave_out: Vec<RootPath>,
}

impl Mounted {
    /// The directory that holds the changes.
    pub fn upper(&self) -> PathBuf {
        self.directory.path().join("upper")
    }
}

/// Where the commands of a step are handed to the plugin host, and what they left behind is taken back from.
#[derive(Clone)]
pub struct SharedCommands(pub Arc<Mutex<StepCommands>>);

impl RunCommand for SharedCommands {
    fn run(&mut self, command: Command, mounts: Vec<CommandMount>) -> Result<CommandExit, RunCommandError> {
        let mut commands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match commands.run(command, &mounts) {
            Ok(Exit::Code(code)) => Ok(CommandExit::Code(code)),
            Ok(Exit::Signal(signal)) => Ok(CommandExit::Signal(signal)),
            Err(StepError::Finding(finding)) => Err(RunCommandError::Invalid(finding)),
            Err(error) => {
                let told = std::io::Error::other(error.to_string());
                commands.failure = Some(error);
                Err(RunCommandError::Failed(told.into()))
            }
        }
    }
}

impl StepCommands {
    fn run(&mut self, command: Command, mounts: &[CommandMount]) -> Result<Exit, StepError> {
        if self.mounted.is_none() && self.flat.is_none() {
            self.make_system_directories()?;
        }
        match self.executor.form() {
            RootForm::Overlay if self.mounted.is_none() => self.mounted = Some(self.mount()?),
            RootForm::Flat if self.flat.is_none() => self.flat = Some(self.begin_flat()?),
            RootForm::Overlay | RootForm::Flat => {}
        }
        let mut request = self.request(command)?;
        let prepared = self.mounts.prepare(mounts, self.flat.as_ref(), &self.talk, self.vertex)?;
        request.mounts.clone_from(&prepared.mounts);
        for (name, value) in &prepared.environment {
            request.environment.retain(|(known, _)| known != name);
            request.environment.push((name.clone(), value.clone()));
        }
        let (talk, vertex) = (self.talk.clone(), self.vertex);
        let mut sink = move |stream: Stream, bytes: &[u8]| {
            let stream = match stream {
                Stream::Stdout => EventStream::Stdout,
                Stream::Stderr => EventStream::Stderr,
            };
            talk.event(Event::Output { vertex, stream, bytes: bytes.to_vec() });
        };
        let outcome = self.executor.run(&request, &mut sink)?;
        prepared.finish(self.flat.as_ref())?;
        let leave_out = match (outcome.changes, self.executor.form()) {
            (Changes::Upper { leave_out }, RootForm::Overlay) => leave_out,
            (Changes::Tree, RootForm::Flat) => Vec::new(),
            (_, wanted) => return Err(StepError::Exec(ExecError::Form { wanted })),
        };
        if let Some(mounted) = &mut self.mounted {
            for path in leave_out {
                mounted.leave_out.push(RootPath::new(path).map_err(RootfsError::from)?);
            }
        }
        self.last = Some((outcome.exit, outcome.notes));
        Ok(outcome.exit)
    }

    fn make_system_directories(&self) -> Result<(), StepError> {
        let mut rootfs = self.rootfs.lock().unwrap_or_else(PoisonError::into_inner);
        let attributes = Attributes { mode: 0o755, owner: Owner::default(), mtime: None };
        for name in SYSTEM_DIRECTORIES {
            let path = RootPath::new(name).map_err(RootfsError::from)?;
            if rootfs.stat(&path, false)?.is_none() {
                rootfs.put_directory(&path, &attributes)?;
            }
        }
        Ok(())
    }

    /// The layers unpacked, and what the handler itself changed so far written on top.
    fn mount(&self) -> Result<Mounted, StepError> {
        let mut lower = unpack(&self.layers, &self.talk, self.vertex)?;
        lower.reverse();
        let directory = self.store.temp_dir("run")?;
        for name in ["upper", "work", "scratch"] {
            let path = directory.path().join(name);
            self.store.make_directory(&path)?;
        }
        let mut rootfs = self.rootfs.lock().unwrap_or_else(PoisonError::into_inner);
        let target = Arc::new(ConfinedDir::open(&directory.path().join("upper"))?);
        upper::prepare(&target, rootfs.below().index(), self.owners())?;
        if rootfs.is_changed() {
            let changes = rootfs.take_changes();
            let mut unpacker = Unpacker::new(target, self.form);
            unpacker.change_set(&changes)?;
            unpacker.finish()?;
        }
        Ok(Mounted { directory, lower, leave_out: Vec::new() })
    }

    /// The same as one tree.
    fn begin_flat(&self) -> Result<FlatRoot, StepError> {
        let directories = unpack(&self.layers, &self.talk, self.vertex)?;
        let mut rootfs = self.rootfs.lock().unwrap_or_else(PoisonError::into_inner);
        let below = rootfs.below().clone();
        let pending = rootfs.take_changes();
        drop(rootfs);
        FlatRoot::begin(&self.store, &below, directories, pending)
    }

    /// The root in the executor's form, and where a command may keep things.
    fn root(&self) -> Result<(Root, PathBuf), StepError> {
        if let Some(flat) = &self.flat {
            return Ok((flat.root(), flat.scratch()));
        }
        let mounted = self.mounted.as_ref().ok_or_else(|| StepError::Plugin("nothing is mounted".to_owned()))?;
        let base = mounted.directory.path();
        let root = Root::Overlay { lower: mounted.lower.clone(), upper: mounted.upper(), work: base.join("work") };
        Ok((root, base.join("scratch")))
    }

    fn request(&self, command: Command) -> Result<RunRequest, StepError> {
        let rootfs = self.rootfs.lock().unwrap_or_else(PoisonError::into_inner);
        if rootfs.is_changed() {
            let message = "a handler that has run a command can't change files and run another one";
            return Err(StepError::Plugin(message.to_owned()));
        }
        let account = |path: &str| match rootfs.read_file(&RootPath::new(path)?, ACCOUNTS_LIMIT_BYTES) {
            Err(RootfsError::NotFound(_)) => Ok(Vec::new()),
            read => read,
        };
        let (passwd, group) = (account("etc/passwd")?, account("etc/group")?);
        drop(rootfs);
        let user =
            resolve_user(&command.user, &passwd, &group).map_err(|error| StepError::Plugin(error.to_string()))?;
        let pairs = command.environment.into_iter().map(|pair| (pair.key, pair.value));
        let mut environment: Vec<(String, String)> = pairs.collect();
        let mut missing = |name: &str, value: &str| {
            if !environment.iter().any(|(known, _)| known == name) {
                environment.push((name.to_owned(), value.to_owned()));
            }
        };
        missing("PATH", cofferdam_plan::Config::DEFAULT_PATH);
        missing("HOME", &user.home);
        for (name, value) in &self.proxies {
            missing(name, value);
        }
        let (root, scratch_directory) = self.root()?;
        Ok(RunRequest {
            root,
            arguments: command.arguments,
            environment,
            working_directory: command.working_directory,
            user,
            network: match command.network {
                CommandNetwork::None => Network::None,
                CommandNetwork::Default if self.surroundings.without_network => Network::None,
                CommandNetwork::Default | CommandNetwork::Host => Network::Host,
            },
            hostname: HOSTNAME.to_owned(),
            stdin: command.input,
            files: self.files(),
            mounts: Vec::new(),
            scratch_directory,
            emulators: self.emulators.clone(),
            timeout: None,
            cancel: self.cancel.clone(),
        })
    }

    /// The files that stand in for the image's own.
    fn files(&self) -> Vec<PrivateFile> {
        let mut files = PrivateFile::standard(HOSTNAME);
        if let Some(hosts) = files.iter_mut().find(|file| file.target == "/etc/hosts") {
            // First, so that they count before the machine's.
            let lines = self.surroundings.hosts.iter().map(|(name, address)| format!("{address}\t{name}\n"));
            hosts.contents = [lines.collect::<String>().as_bytes(), &hosts.contents].concat();
        }
        files
    }

    /// What the step changed, whoever did it.
    ///
    /// # Errors
    /// The upper directory can't be read, or the handler changed files after its last command.
    pub fn changes(&self) -> Result<ChangeSet, StepError> {
        let mut rootfs = self.rootfs.lock().unwrap_or_else(PoisonError::into_inner);
        if self.mounted.is_none() && self.flat.is_none() {
            return Ok(rootfs.take_changes());
        }
        if rootfs.is_changed() {
            let message = "a handler that has run a command can't change files afterwards";
            return Err(StepError::Plugin(message.to_owned()));
        }
        if let Some(flat) = &self.flat {
            return flat.changes(rootfs.below());
        }
        let Some(mounted) = &self.mounted else { return Ok(ChangeSet::default()) };
        let upper = Arc::new(ConfinedDir::open(&mounted.upper())?);
        Ok(upper::compared_changes(&upper, rootfs.below(), self.owners(), &mounted.leave_out)?)
    }

    fn owners(&self) -> OwnerSource {
        match self.executor.ids() {
            Ids::Single => OwnerSource::SingleId,
            Ids::All | Ids::Range { .. } => OwnerSource::Real,
        }
    }

    /// Hands what commands wrote over as the unpacked form of the layer that was made from it, so that it is not unpacked
    /// again. Times become those of the layer: what a later command sees must not depend on whether this step was cached.
    ///
    /// # Errors
    /// The machine refused.
    pub fn hand_over(&mut self, layer: &StageLayer, index: &LayerIndex) -> Result<(), StepError> {
        if let Some(flat) = self.flat.take() {
            layer.adopt(&flat.settle(index)?)?;
            return Ok(());
        }
        let Some(mounted) = self.mounted.take() else { return Ok(()) };
        let upper = ConfinedDir::open(&mounted.upper())?;
        upper::settle(&upper, index, &mounted.leave_out)?;
        layer.adopt(&mounted.upper())?;
        Ok(())
    }
}
