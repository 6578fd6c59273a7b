//! What a RUN is asked to do.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Cancel, Emulator, ResolvedUser};

/// The root file system that the command sees, in the form that the executor asked for
/// ([`crate::Executor::form`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Root {
    /// Read-only directories under one that takes the changes (overlayfs, with its marks in `user.overlay.*`).
    Overlay {
        /// Top first; may be empty. Overlayfs takes at most 500 different ones.
        lower: Vec<PathBuf>,
        /// Takes the changes. What is in it already is seen by the command, above every `lower`; its own owner and mode
        /// are those of `/`.
        upper: PathBuf,
        /// An empty directory on the file system of `upper`, overlayfs's own.
        work: PathBuf,
    },
    /// A private tree that may be changed in place. Of what it is made of, names appear in it as the command asks for them.
    Flat {
        /// The tree. Everything in it belongs to the builder's own user, who may read and write all of it.
        directory: PathBuf,
        /// The file that says what of the tree is not true on the disk ([`crate::Journal`]): read before the command and
        /// written after it.
        journal: PathBuf,
        /// What the tree is made of when somebody asks for it; `None` if everything is there.
        below: Option<LayersBelow>,
    },
}

/// The layers that a flat tree is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayersBelow {
    /// The file that [`crate::Below`] reads: what they have.
    pub table: PathBuf,
    /// Where they are unpacked, the base first. The command may read what is there.
    pub directories: Vec<PathBuf>,
}

/// What of the network a command gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The network of the builder.
    #[default]
    Host,
    /// A loopback interface, nothing else.
    None,
}

/// A file that the command sees instead of the image's own: a private, writable copy that never ends up in the layer.
#[derive(Clone, Serialize, Deserialize)]
pub struct PrivateFile {
    /// Absolute, resolved in the root.
    pub target: String,
    /// The bytes.
    pub contents: Vec<u8>,
}

impl PrivateFile {
    /// `/etc/resolv.conf`, `/etc/hosts` and `/etc/hostname`: the first two as this machine has them (a missing file is
    /// empty, or the loopback names), as container engines hand them to a command.
    pub fn standard(hostname: &str) -> Vec<Self> {
        const LIMIT_BYTES: u64 = 1 << 20;
        let machine = |path: &str| -> Option<Vec<u8>> {
            use std::io::Read;
            let mut contents = Vec::new();
            std::fs::File::open(path).ok()?.take(LIMIT_BYTES).read_to_end(&mut contents).ok()?;
            Some(contents)
        };
        let mut hosts = machine("/etc/hosts").unwrap_or_else(|| b"127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_vec());
        if !hosts.ends_with(b"\n") && !hosts.is_empty() {
            hosts.push(b'\n');
        }
        hosts.extend_from_slice(format!("127.0.0.1\t{hostname}\n").as_bytes());
        vec![
            Self { target: "/etc/resolv.conf".into(), contents: machine("/etc/resolv.conf").unwrap_or_default() },
            Self { target: "/etc/hosts".into(), contents: hosts },
            Self { target: "/etc/hostname".into(), contents: format!("{hostname}\n").into_bytes() },
        ]
    }
}

/// Something that the command sees at a place of the root and that is no part of the root.
#[derive(Clone, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute, resolved in the root; made for the time of the command if it is missing.
    pub target: String,
    /// What is there.
    pub source: MountSource,
}

/// What a [`Mount`] shows.
#[derive(Clone, Serialize, Deserialize)]
pub enum MountSource {
    /// An existing file, directory or socket of this machine; what is written there stays.
    Path {
        /// Of this machine.
        path: PathBuf,
        /// Whether the command may not write there.
        read_only: bool,
    },
    /// A part of read-only layers. For executors of [`crate::RootForm::Overlay`].
    Layers {
        /// Top first, at least one; as those of [`Root::Overlay`].
        lower: Vec<PathBuf>,
        /// A file or directory in them, resolved there as chroot would.
        path: String,
        /// Whether the command may not write there; what it writes is forgotten after it.
        read_only: bool,
    },
    /// An empty directory in memory. Where nothing can be mounted it is one on the disk, and without a bound.
    Memory {
        /// How much fits in; without it, what the kernel gives (half of the memory).
        size_bytes: Option<u64>,
    },
    /// A file in memory, never on a disk if anything else is possible here.
    File {
        /// Its content.
        contents: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl fmt::Debug for Mount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what: &dyn fmt::Debug = match &self.source {
            MountSource::Path { path, .. } => path,
            MountSource::Layers { path, .. } => path,
            MountSource::Memory { .. } => &"memory",
            MountSource::File { .. } => &"file",
        };
        formatter.debug_struct("Mount").field("target", &self.target).field("source", what).finish_non_exhaustive()
    }
}

/// One command to run.
#[derive(Clone, Serialize, Deserialize)]
pub struct RunRequest {
    /// What the command sees as `/`.
    pub root: Root,
    /// The command and its arguments; at least one. A name without `/` is looked up in the `PATH` of `environment`.
    pub arguments: Vec<String>,
    /// The whole environment: nothing is added, nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// Absolute, resolved in the root; made (0755, owned by root) if it is missing.
    pub working_directory: String,
    /// Who the command runs as, from [`crate::resolve_user`].
    pub user: ResolvedUser,
    /// What it can reach.
    pub network: Network,
    /// The name of the machine that it sees.
    pub hostname: String,
    /// What it reads from its standard input; with `None` that is at its end from the start.
    pub stdin: Option<Vec<u8>>,
    /// Files that stand in for the image's own.
    pub files: Vec<PrivateFile>,
    /// Further mounts, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// An existing private directory of the store, on the file system of the layers, for what lives as long as the
    /// command. A subdirectory is made and removed; after a `kill -9` of the builder it stays behind.
    pub scratch_directory: PathBuf,
    /// What runs programs for other processors, if any has to.
    pub emulators: Vec<Emulator>,
    /// How long the command may take.
    pub timeout: Option<Duration>,
    /// Stops the command from another thread.
    #[serde(skip)]
    pub cancel: Option<Cancel>,
}

impl fmt::Debug for RunRequest {
    /// Values of variables, the input and file contents may hold secrets: their names and sizes are shown only.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RunRequest")
            .field("root", &self.root)
            .field("arguments", &self.arguments.first())
            .field("environment", &self.environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("working_directory", &self.working_directory)
            .field("user", &self.user)
            .field("network", &self.network)
            .field("stdin_bytes", &self.stdin.as_ref().map(Vec::len))
            .field("files", &self.files.iter().map(|file| &file.target).collect::<Vec<_>>())
            .field("mounts", &self.mounts)
            .finish_non_exhaustive()
    }
}
