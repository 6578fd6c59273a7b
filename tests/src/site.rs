//! A build context with a store of its own, and the images that are built from it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Environment, Finished, Image, Program, base, binary, run};

/// A temporary directory with a build context, a store, and room for outputs.
pub struct Site {
    directory: tempfile::TempDir,
    images: AtomicU32,
    base: Option<PathBuf>,
    unlike: &'static [&'static str],
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// An empty context.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("cofferdam-site").tempdir().expect("a temporary directory");
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        fs::create_dir(directory.path().join("context")).expect("writable");
        Self { directory, images: AtomicU32::new(0), base: None, unlike: &[] }
    }

    /// One whose Dockerfiles may say `FROM base`: the image of this kind. `None` (reported as a skip) where it can't be had.
    pub fn with_base(kind: &str) -> Option<Self> {
        Some(Self { base: Some(base(kind)?), ..Self::new() })
    }

    /// The same with a copy of the base, for tests that compare digests for minutes: other checkouts on this machine make the
    /// shared one anew.
    pub fn with_own_base(kind: &str) -> Option<Self> {
        let mut site = Self::with_base(kind)?;
        let copy = site.path().join("base");
        run(Command::new("cp").arg("-a").arg(site.base.take()?).arg(&copy)).success();
        site.base = Some(copy);
        Some(site)
    }

    /// Names entries of layers that two builds by the same builder need not have in common, such as a list of processes.
    pub fn but_for(self, unlike: &'static [&'static str]) -> Self {
        Self { unlike, ..self }
    }

    /// The directory that holds everything.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The context.
    pub fn context(&self) -> PathBuf {
        self.path().join("context")
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// Writes a file of the context, with mode 0644, and the directories above it.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let file = self.context().join(path);
        fs::create_dir_all(file.parent().expect("in the context")).expect("writable");
        fs::write(&file, content).expect("writable");
        self.mode(path, 0o644)
    }

    /// Writes the Dockerfile.
    pub fn dockerfile(&self, text: &str) -> &Self {
        self.file("Dockerfile", text)
    }

    /// Sets the mode of something in the context.
    pub fn mode(&self, path: &str, mode: u32) -> &Self {
        fs::set_permissions(self.context().join(path), PermissionsExt::from_mode(mode)).expect("ours");
        self
    }

    /// Makes a symbolic link in the context.
    pub fn link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.context().join(path)).expect("writable");
        self
    }

    /// `cofferdam build … CONTEXT`, ready to be run; by the executor that `COFFERDAM_TEST_EXECUTOR` names, if the arguments
    /// name none.
    pub fn program(&self, arguments: &[&str]) -> Program {
        self.program_of(binary(), &self.store(), arguments)
    }

    /// The same by another copy of the program, with another store.
    pub fn program_of(&self, binary: &Path, store: &Path, arguments: &[&str]) -> Program {
        let mut program = Program::called(binary, store).args(["build"]).current_dir(self.path());
        program = program.env("BUILDKIT_PROGRESS", "plain");
        if let Some(base) = &self.base {
            program = program.args(["--build-context", &format!("base=oci-layout://{}", base.display())]);
        }
        if let Ok(executor) = std::env::var("COFFERDAM_TEST_EXECUTOR")
            && !arguments.contains(&"--executor")
        {
            program = program.args(["--executor", &executor]);
        }
        program.args(arguments).args([self.context()])
    }

    /// `executor …` with Kaniko's flags, ready to be run.
    pub fn executor(&self, arguments: &[&str]) -> Program {
        let name = self.path().join("executor");
        if !name.exists() {
            symlink(binary(), &name).expect("writable");
        }
        Program::called(&name, &self.store()).args(arguments).current_dir(self.path())
    }

    /// Builds. In a runner environment native root builds the same, and must get the same image if it gets one.
    #[track_caller]
    pub fn build(&self, arguments: &[&str]) -> Finished {
        let built = self.program(arguments).run();
        if let Some(environment) = Environment::under_test()
            && built.code == 0
        {
            let reference = self.reference(arguments).run().success();
            if built.stdout.starts_with("sha256:") && self.unlike.is_empty() {
                let name = environment.name();
                assert_eq!(built.digest(), reference.digest(), "{name} (left) gives another image than native root");
            }
        }
        built
    }

    /// Builds, which must succeed, and takes the image out of the store. In a runner environment, the layers must be those of
    /// native root.
    #[track_caller]
    pub fn image(&self, arguments: &[&str]) -> Image {
        let number = self.images.fetch_add(1, Ordering::Relaxed) + 1;
        let image = |name: &str, program: &dyn Fn(&[&str]) -> Program| {
            let layout = self.path().join(format!("{name}-{number}"));
            let output = format!("type=oci,dest={},tar=false", layout.display());
            program(&["--tag", "image", "--output", &output]).run().success();
            Image::open(&layout)
        };
        let built = image("image", &|options| self.program(&[options, arguments].concat()));
        if let Some(environment) = Environment::under_test() {
            let reference = image("reference", &|options| self.reference(&[options, arguments].concat()));
            let differences = built.differences(&reference, self.unlike).join("\n");
            assert!(differences.is_empty(), "{}, and native root:\n{differences}", environment.name());
        }
        built
    }

    /// The same build by native root, with a store of its own.
    fn reference(&self, arguments: &[&str]) -> Program {
        let mut ours = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "--executor" => drop(arguments.next()),
                other => ours.push(other),
            }
        }
        self.program_of(binary(), &self.path().join("reference-store"), &ours).natively()
    }
}
