//! Components made from the text files in `tests/guests`, and what they are called with.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use cofferdam_dockerfile::{Position, Span};
use cofferdam_plan::step::{Arguments, Handlers, KeyValue, State, Step};
use cofferdam_plugin_host::{Applied, ApplyError, ApplyHandles, HostOptions, Limits, PluginHost, Policy, RunCommand};
use cofferdam_rootfs::{ConfinedDir, DirectoryTree, FileSpools, RootFs, Timestamp, Tree};

pub use crate::component::*;

/// A private directory with plugins.
pub struct Plugins(tempfile::TempDir);

impl Plugins {
    pub fn new(components: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in components {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        Self(directory)
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    pub fn options(&self) -> HostOptions {
        HostOptions { plugin_directories: vec![self.path()], policy: Policy::default(), ..HostOptions::default() }
    }
}

/// A host with one more plugin.
pub fn host(component: &[u8], limits: Limits) -> PluginHost {
    let plugins = Plugins::new(&[("probe.wasm", component)]);
    PluginHost::load(HostOptions { limits, ..plugins.options() }).map_err(|errors| format!("{errors:?}")).unwrap()
}

pub fn step(keyword: &str, text: &str) -> Step {
    let place = |column| Position { line: 1, column };
    Step {
        keyword: keyword.to_owned(),
        flags: Vec::new(),
        arguments: Arguments {
            text: text.to_owned(),
            words: text.split(' ').map(str::to_owned).collect(),
            ..Arguments::default()
        },
        heredocs: Vec::new(),
        state: State {
            environment: vec![KeyValue { key: "PATH".into(), value: "/bin".into() }],
            working_directory: "/".into(),
            platform: "linux/amd64".into(),
            shell: vec!["/bin/sh".into(), "-c".into()],
            ..State::default()
        },
        span: Span { start: place(1), end: place(20) },
    }
}

pub fn tree(directory: &Path) -> Arc<dyn Tree> {
    Arc::new(DirectoryTree::new(Arc::new(ConfinedDir::open(directory).unwrap())))
}

pub fn rootfs() -> Arc<Mutex<RootFs>> {
    let spools = Arc::new(FileSpools::new(Box::new(tempfile::tempfile)));
    Arc::new(Mutex::new(RootFs::new(Vec::new(), spools, Timestamp::default())))
}

/// `apply` of a step on the trees, with the plan that the plugin itself makes.
pub fn apply(
    host: &PluginHost,
    step: &Step,
    root: &Arc<Mutex<RootFs>>,
    trees: &[&Arc<dyn Tree>],
) -> Result<Applied, ApplyError> {
    apply_with(host, step, root, trees, None)
}

pub fn apply_with(
    host: &PluginHost,
    step: &Step,
    root: &Arc<Mutex<RootFs>>,
    trees: &[&Arc<dyn Tree>],
    executor: Option<Box<dyn RunCommand>>,
) -> Result<Applied, ApplyError> {
    let planned = host.plan(step).unwrap();
    let trees = trees.iter().map(|&tree| tree.clone()).collect();
    host.apply(step, &planned, ApplyHandles { rootfs: root.clone(), trees, executor, interrupt: None })
}
