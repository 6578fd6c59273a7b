//! The builders that are measured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_tests::{Program, Registry, run};

use crate::{
    Outcome,
    case::Pass,
    measure::{Usage, measure},
};

/// One build and push.
pub struct Job<'a> {
    /// The context, with a Dockerfile.
    pub context: &'a Path,
    /// A directory that the builder keeps between builds; it need not exist.
    pub store: &'a Path,
    /// Where base images are, and where images go.
    pub registry: &'a Registry,
    /// How it is reached: the value of the Dockerfiles' argument `REGISTRY`.
    pub host: &'a str,
    /// Repository and tag.
    pub name: &'a str,
    /// Repository of a cache that is read and written.
    pub cache: Option<&'a str>,
    /// Where the output goes.
    pub log: &'a Path,
}

impl Job<'_> {
    /// What the Dockerfile must know.
    fn argument(&self) -> String {
        format!("REGISTRY={}", self.host)
    }

    /// The image.
    fn image(&self) -> String {
        format!("{}/{}", self.host, self.name)
    }
}

/// A program that builds images.
pub trait Builder {
    /// How it is called in reports.
    fn name(&self) -> &'static str;

    /// What it says of its version.
    fn version(&self) -> String;

    /// Whether it is measured here.
    fn takes_part(&self, _case: &str, _pass: Pass) -> bool {
        true
    }

    /// Whether it has caches that others can read.
    fn has_caches(&self) -> bool {
        true
    }

    /// Builds and pushes.
    fn build(&self, job: &Job<'_>) -> Outcome<Usage>;

    /// Leaves a store for good: after this it is files only.
    fn leave(&self, store: &Path) -> Outcome<()>;
}

/// This project's.
pub struct Cofferdam {
    /// The program's file.
    pub program: PathBuf,
}

impl Builder for Cofferdam {
    fn name(&self) -> &'static str {
        "Cofferdam"
    }

    fn version(&self) -> String {
        run(Command::new(&self.program).arg("--version")).stdout.trim().to_owned()
    }

    fn build(&self, job: &Job<'_>) -> Outcome<Usage> {
        let mut program = Program::called(&self.program, job.store)
            .args(["build", "--push", "--progress", "plain", "--build-arg", &job.argument()])
            .args(["--tag", &job.image()]);
        if let Some(cache) = job.cache {
            program =
                program.args(["--cache-from", cache, "--cache-to", &format!("type=registry,ref={cache},mode=max")]);
        }
        measure(&mut program.args([job.context]).into_command(), job.log)
    }

    fn leave(&self, _: &Path) -> Outcome<()> {
        Ok(())
    }
}

/// Debian's, which builds in one process and pushes in another.
pub struct Buildah {
    program: PathBuf,
    /// Which images are accepted: any.
    policy: PathBuf,
    storage_driver: &'static str,
}

impl Buildah {
    /// `directory` is for small files and outlives the value.
    pub fn new(program: PathBuf, directory: &Path) -> Outcome<Self> {
        let policy = directory.join("policy.json");
        fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
        let mut buildah = Self { program, policy, storage_driver: "overlay" };
        // What is fast where it works; the other one works everywhere.
        let probe = directory.join("buildah-probe");
        if run(buildah.command(&probe).arg("info")).code != 0 {
            buildah.storage_driver = "vfs";
        }
        buildah.leave(&probe)?;
        Ok(buildah)
    }

    fn command(&self, store: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", store);
        command.env("TMPDIR", store.join("tmp"));
        command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
        command.args(["--storage-driver", self.storage_driver]);
        command
    }
}

impl Builder for Buildah {
    fn name(&self) -> &'static str {
        "Buildah"
    }

    fn version(&self) -> String {
        let version = run(Command::new(&self.program).arg("--version")).stdout;
        format!("{} (`--isolation chroot --layers`, storage driver {})", version.trim(), self.storage_driver)
    }

    fn build(&self, job: &Job<'_>) -> Outcome<Usage> {
        fs::create_dir_all(job.store.join("tmp"))?;
        let image = job.image();
        let mut build = self.command(job.store);
        build.args(["bud", "--isolation", "chroot", "--layers", "--tls-verify=false", "--signature-policy"]);
        build.arg(&self.policy).args(["--build-arg", &job.argument(), "--tag", &image]);
        if let Some(cache) = job.cache {
            build.args(["--cache-from", cache, "--cache-to", cache]);
        }
        let built = measure(build.arg(job.context), job.log)?;
        let mut push = self.command(job.store);
        push.args(["push", "--tls-verify=false", "--signature-policy"]).arg(&self.policy).arg(&image);
        Ok(built + measure(&mut push, job.log)?)
    }

    fn leave(&self, store: &Path) -> Outcome<()> {
        // Its storage leaves a mount behind on purpose, for its next call.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        // The latest first: they lie in one another.
        let mounted = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
        for place in mounted.filter(|place| place.starts_with(store)) {
            rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH)?;
        }
        Ok(())
    }
}
