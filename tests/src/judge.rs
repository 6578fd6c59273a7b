//! Other people's tools as judges: skopeo copies, umoci unpacks, runc runs.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Finished, Registry, run, tool};

const CAPABILITIES: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
];

/// An image that was unpacked by umoci, ready to be run by runc.
pub struct Bundle {
    runc: PathBuf,
    directory: tempfile::TempDir,
}

impl Bundle {
    /// Pulls an image by skopeo and unpacks it by umoci; `None` (reported as a skip) where a tool is missing.
    #[track_caller]
    pub fn pull(registry: &Registry, name: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let layout = format!("oci:{}:image", directory.path().join("layout").display());
        let image = format!("docker://{}/{name}", registry.host());
        // Not every umoci knows zstd. Layers that are compressed with gzip stay what they are.
        registry.skopeo(&["copy", "--dest-compress-format", "gzip", &image, &layout])?.success();
        Self::unpack(directory)
    }

    /// Copies an image from anywhere that skopeo knows (`oci-archive:FILE`, `docker-archive:FILE`), and unpacks it.
    #[track_caller]
    pub fn copy(source: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let layout = format!("oci:{}:image", directory.path().join("layout").display());
        run(Command::new(tool("skopeo")?).args(["--insecure-policy", "copy", source, &layout])).success();
        Self::unpack(directory)
    }

    #[track_caller]
    fn unpack(directory: tempfile::TempDir) -> Option<Self> {
        let (umoci, runc) = (tool("umoci")?, tool("runc")?);
        let image = format!("{}:image", directory.path().join("layout").display());
        let mut command = Command::new(umoci);
        command.args(["unpack", "--image", &image]).arg(directory.path().join("bundle"));
        if !crate::is_root() {
            command.arg("--rootless");
        }
        run(&mut command).success();
        Some(Self { runc, directory })
    }

    /// The image's files.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.path().join("bundle/rootfs")
    }

    /// Runs the image's command to its end, in namespaces of its own.
    #[track_caller]
    pub fn run(&self) -> Finished {
        self.configure();
        run(self.runc().args(["run", "--bundle"]).arg(self.bundle()).arg(container_name()))
    }

    /// Starts the image's command.
    #[track_caller]
    pub fn start(&self) -> Running {
        self.configure();
        let (name, pid_file) = (container_name(), self.directory.path().join("pid"));
        let mut command = self.runc();
        command.args(["run", "--pid-file"]).arg(&pid_file).arg("--bundle").arg(self.bundle()).arg(&name);
        let log = std::fs::File::create(self.directory.path().join("output")).expect("writable");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let process = command.spawn().expect("runc starts");
        let mut delete = self.runc();
        delete.args(["delete", "--force", &name]);
        let mut running = Running { process, delete, pid: 0 };
        let begun = Instant::now();
        while running.pid == 0 {
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            running.pid = text.trim().parse().unwrap_or_default();
            let over = running.process.try_wait().expect("our child").is_some();
            assert!(!over && begun.elapsed() < Duration::from_secs(20), "runc does not start: {}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// What a started command wrote so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }

    /// The runtime's configuration, as umoci made it of the image's.
    pub(crate) fn configuration_file(&self) -> PathBuf {
        self.bundle().join("config.json")
    }

    fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    fn runc(&self) -> Command {
        let mut command = Command::new(&self.runc);
        command.arg("--root").arg(self.directory.path().join("state"));
        command
    }

    /// umoci's configuration wants a terminal, which tests do not have, and leaves out most capabilities that images are
    /// used to: Docker grants these by default.
    fn configure(&self) {
        let file = self.configuration_file();
        let mut config: Value = read_json(&file);
        config["process"]["terminal"] = json!(false);
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(CAPABILITIES);
        }
        for set in ["inheritable", "ambient"] {
            config["process"]["capabilities"][set] = json!([]);
        }
        std::fs::write(&file, config.to_string()).expect("writable");
    }
}

/// A command in a container; ends with the handle.
pub struct Running {
    process: Child,
    delete: Command,
    pid: u32,
}

impl Running {
    /// Asks for a page inside the container's network until it answers.
    #[track_caller]
    pub fn fetch(&mut self, address: &str) -> Option<String> {
        let (nsenter, curl) = (tool("nsenter")?, tool("curl")?);
        let begun = Instant::now();
        loop {
            let mut command = Command::new(&nsenter);
            command.args(["--target", &self.pid.to_string(), "--net"]).arg(&curl);
            let answer = run(command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", address]));
            if answer.code == 0 {
                return Some(answer.stdout);
            }
            let over = self.process.try_wait().expect("our child");
            assert!(over.is_none(), "the container ended with {over:?}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{address} does not answer: {}", answer.stderr);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.delete.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A JSON file.
#[track_caller]
pub fn read_json(file: &Path) -> Value {
    let text = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A document of an OCI layout or a store: `sha256:…`.
#[track_caller]
pub fn document(layout: &Path, digest: &str) -> Value {
    read_json(&layout.join("blobs").join(digest.replace(':', "/")))
}

/// A name that no other container of the tests has.
pub(crate) fn container_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("cofferdam-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}
