//! Cofferdam's own image, in containers as clusters and runners make them: the image's command, environment and files, the
//! rights of a runner environment, and the machine's network.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    Bundle, Environment, Finished, Lab, judge::container_name, lab, program::without_cargo, read_json, repository_root,
    run, skip, tool,
};

/// Which of the two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// The program and nothing else.
    Minimal,
    /// With a shell.
    Debug,
}

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Debug => "debug",
        }
    }
}

/// An image that `scripts/build-image.sh` built.
pub struct OwnImage {
    bundle: Bundle,
    /// The OCI layout that it was written to.
    layout: PathBuf,
    _directory: tempfile::TempDir,
}

impl OwnImage {
    /// Built once for all tests of a process; `None` (reported as a skip) where a tool is missing, or RUN does not work.
    pub fn get(variant: Variant) -> Option<&'static Self> {
        static BUILT: [OnceLock<Option<OwnImage>>; 2] = [OnceLock::new(), OnceLock::new()];
        let built = BUILT[usize::from(variant == Variant::Debug)].get_or_init(|| Self::build(variant));
        if built.is_none() {
            skip("our own image can't be built here");
        }
        built.as_ref()
    }

    fn build(variant: Variant) -> Option<Self> {
        // Where temporary directories are may be a small memory.
        let directory = tempfile::Builder::new().prefix("cofferdam-image").tempdir().expect("a temporary directory");
        for needed in ["busybox", "strip"] {
            tool(needed)?;
        }
        let layout = directory.path().join("layout");
        build_image(variant, directory.path(), &[&format!("type=oci,dest={},tar=false", layout.display())]).success();
        let bundle = Bundle::copy(&format!("oci:{}", layout.display()))?;
        Some(Self { bundle, layout, _directory: directory })
    }

    /// Where the image lies as an OCI layout.
    pub fn layout(&self) -> &Path {
        &self.layout
    }

    /// The image's files, to be looked at.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.rootfs()
    }

    /// A container of the image, of which nothing runs yet; `None` (reported as a skip) where there is no runner lab.
    pub fn container(&self, environment: Environment) -> Option<Container<'_>> {
        Lab::new()?;
        Some(Container { image: self, environment, mounts: Vec::new(), variables: BTreeMap::new() })
    }
}

/// Runs `scripts/build-image.sh`, with a store in `directory`.
pub fn build_image(variant: Variant, directory: &Path, outputs: &[&str]) -> Finished {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(repository_root().join("scripts/build-image.sh"));
    let target = without_cargo(&mut command);
    command
        .env("CARGO_TARGET_DIR", target)
        .env("COFFERDAM_STORE", directory.join("store"))
        .env("CARGO_NET_OFFLINE", "true");
    command.arg(variant.name()).args(outputs.iter().flat_map(|output| ["--output", output]));
    run(&mut command)
}

/// A container to be started.
pub struct Container<'i> {
    image: &'i OwnImage,
    environment: Environment,
    mounts: Vec<Value>,
    variables: BTreeMap<String, String>,
}

impl Container<'_> {
    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Shows something of the machine, writable if the user may write there.
    #[must_use]
    pub fn volume(self, source: &Path, target: &str) -> Self {
        self.mount(source, target, "rw")
    }

    /// Shows something of the machine, read-only, as secrets and configuration are.
    #[must_use]
    pub fn read_only(self, source: &Path, target: &str) -> Self {
        self.mount(source, target, "ro")
    }

    /// An empty directory in memory that anybody may write in (`emptyDir`).
    #[must_use]
    pub fn empty_directory(mut self, target: &str) -> Self {
        self.mounts.push(json!({
            "destination": target, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"],
        }));
        self
    }

    fn mount(mut self, source: &Path, target: &str, mode: &str) -> Self {
        self.mounts.push(json!({"destination": target, "type": "bind", "source": source, "options": ["rbind", mode]}));
        self
    }

    /// Runs the image's entry point with arguments, as a pod with `args` does.
    #[track_caller]
    pub fn args(self, arguments: &[&str]) -> Finished {
        let entry_point = self.image.configuration()["process"]["args"].clone();
        let mut command: Vec<String> = serde_json::from_value(entry_point).expect("words");
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self.run(&command, "")
    }

    /// Runs another command instead (`command` of a pod, an entry point on a command line).
    #[track_caller]
    pub fn command(self, command: &[&str], input: &str) -> Finished {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        self.run(&command, input)
    }

    #[track_caller]
    fn run(self, command: &[String], input: &str) -> Finished {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let rootfs = directory.path().join("rootfs");
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(self.image.rootfs()).arg(&rootfs)).success();
        let mut config = lab::configuration(self.environment).expect("the lab, which `container` asked for");
        config["root"]["path"] = json!(rootfs);
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        let ours: Vec<Value> = self.mounts.iter().map(|mount| mount["destination"].clone()).collect();
        // What the lab adds to a container of its own.
        let of_the_lab = [json!("/tmp"), json!("/x"), json!("/lab")];
        mounts.retain(|mount| !of_the_lab.contains(&mount["destination"]) && !ours.contains(&mount["destination"]));
        mounts.extend(self.mounts);
        let image = self.image.configuration();
        let mut variables: Vec<String> = serde_json::from_value(image["process"]["env"].clone()).expect("words");
        variables.retain(|pair| !pair.starts_with("HOME=") && !pair.starts_with("TERM="));
        // Runtimes take it from the image's /etc/passwd.
        variables.push(format!("HOME={}", if self.environment.uid() == 0 { "/root" } else { "/" }));
        variables.extend(self.variables.iter().map(|(name, value)| format!("{name}={value}")));
        config["process"]["env"] = json!(variables);
        config["process"]["cwd"] = image["process"]["cwd"].clone();
        config["process"]["args"] = json!(command);
        fs::write(directory.path().join("config.json"), config.to_string()).expect("writable");
        let runc = tool("runc").expect("the image was unpacked for it");
        let mut container = Command::new(runc);
        container.arg("--root").arg(directory.path().join("state")).arg("run").arg("--bundle").arg(directory.path());
        container.arg(container_name()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = container.spawn().expect("runc starts");
        let mut stdin = running.stdin.take().expect("piped");
        // A command that reads nothing closes it early.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        running.wait_with_output().expect("it ends").into()
    }
}

impl OwnImage {
    /// As umoci translates the image's configuration for a runtime.
    fn configuration(&self) -> Value {
        read_json(&self.bundle.configuration_file())
    }
}
