//! What the tests share: a place to build in, repositories, packed contexts, a server of files.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use cofferdam_tests::{
    Finished, Image, Program, Repositories, binary,
    fault_proxy::{Fault, FaultProxy},
    run,
};

/// The program with a store of its own, and a place for what it writes.
pub struct Scene {
    pub place: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self { place: tempfile::tempdir().expect("a temporary directory") }
    }

    pub fn store(&self) -> PathBuf {
        self.place.path().join("store")
    }

    pub fn layout(&self) -> PathBuf {
        self.place.path().join("layout")
    }

    /// `cofferdam build … CONTEXT`.
    pub fn docker(&self, arguments: &[&str], context: &str) -> Program {
        let output = format!("type=oci,dest={},tar=false", self.layout().display());
        let program = Program::new(&self.store()).args(["build", "--tag", "image", "--output", &output]);
        program.args(arguments).args([context]).current_dir(self.place.path()).env("BUILDKIT_PROGRESS", "plain")
    }

    /// `executor …`, which is the program under another name.
    pub fn kaniko(&self, arguments: &[&str]) -> Program {
        let executor = self.place.path().join("executor");
        if !executor.exists() {
            std::os::unix::fs::symlink(binary(), &executor).expect("writable");
        }
        let layout = self.layout();
        Program::called(&executor, &self.store())
            .args(["--no-push", "--destination", "image", "--oci-layout-path"])
            .args([layout])
            .args(arguments)
            .current_dir(self.place.path())
    }

    pub fn image(&self, program: Program) -> Image {
        let _ = std::fs::remove_dir_all(self.layout());
        program.run().success();
        Image::open(&self.layout())
    }
}

pub fn refused(program: Program, says: &[&str]) -> Finished {
    let finished = program.run();
    assert_ne!(finished.code, 0, "{}", finished.stderr);
    for text in says {
        assert!(finished.stderr.contains(text), "`{text}` is not in {}", finished.stderr);
    }
    finished
}

/// A repository with a Dockerfile at its top and another one in a directory.
pub fn application() -> Option<(Repositories, String)> {
    let repositories = Repositories::new()?;
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY . /app/\n"),
        (".dockerignore", "secret\n"),
        ("secret", "no\n"),
        ("page", "top\n"),
        ("service/Dockerfile", "FROM scratch\nCOPY page /service\n"),
        ("service/page", "service\n"),
    ];
    let commit = repositories.commit("app.git", &files);
    repositories.git("app.git", &["tag", "v1"]);
    repositories.commit("app.git", &[("page", "later\n")]);
    Some((repositories, commit))
}

/// Serves one file with what HTTP says of its version, and answers conditional and partial requests as a server does.
pub fn file_server(path: &'static str, content: Vec<u8>, etag: &'static str) -> FaultProxy {
    FaultProxy::start(None, move |request, _| {
        if request.path != path {
            return Fault::status(404, "no such file");
        }
        let mut headers = vec![
            ("ETag".to_owned(), etag.to_owned()),
            ("Last-Modified".to_owned(), "Tue, 14 Nov 2023 22:13:20 GMT".to_owned()),
        ];
        if request.header("if-none-match") == Some(etag) {
            return Fault::Answer(304, headers, Vec::new());
        }
        let from =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match from {
            Some(from) if request.header("if-range") == Some(etag) => {
                let last = content.len() - 1;
                headers.push(("Content-Range".to_owned(), format!("bytes {from}-{last}/{}", content.len())));
                Fault::Answer(206, headers, content[from..].to_vec())
            }
            _ => Fault::Answer(200, headers, content.clone()),
        }
    })
}

/// A context that holds nothing but a Dockerfile.
pub fn dockerfile(scene: &Scene, text: &str) {
    let context = scene.place.path().join("context");
    std::fs::create_dir_all(&context).expect("writable");
    std::fs::write(context.join("Dockerfile"), text).expect("writable");
}

/// A context packed by the machine's tar.
pub fn packed(scene: &Scene, compression: &str) -> Vec<u8> {
    let tree = scene.place.path().join("tree");
    if !tree.exists() {
        std::fs::create_dir_all(tree.join("service")).expect("writable");
        let files = [
            ("Dockerfile", "FROM scratch\nCOPY . /app/\n"),
            (".dockerignore", "secret\n"),
            ("secret", "no\n"),
            ("service/Dockerfile", "FROM scratch\nCOPY service/page /page\n"),
            ("service/page", "page\n"),
        ];
        for (name, content) in files {
            std::fs::write(tree.join(name), content).expect("writable");
        }
        let script = "chmod 755 service && chmod 711 service/page && ln -s service/page link && ln service/page hard";
        run(Command::new("sh").args(["-c", script]).current_dir(&tree)).success();
    }
    let file = scene.place.path().join("packed.tar");
    run(Command::new("tar").args([compression, "--owner=7", "-cf"]).arg(&file).arg("-C").arg(&tree).arg(".")).success();
    std::fs::read(file).expect("readable")
}

/// Runs a program with this on its standard input.
pub fn fed(program: Program, input: &[u8]) -> Finished {
    let mut command = program.into_command();
    let mut running =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // A program that refuses its input ends before it has read it.
    let _ = running.stdin.take().expect("piped").write_all(input);
    running.wait_with_output().expect("it ends").into()
}

pub fn check_packed(image: &Image) {
    assert_eq!(image.names("/app"), ".dockerignore Dockerfile hard link service");
    assert_eq!(image.entry("/app/service/page"), "file 711 0:0", "owners of an archive are not the image's");
    assert_eq!(image.entry("/app/link"), "link service/page");
    assert_eq!(image.content("/app/hard"), "page\n");
}

/// Builds from a packed context at both doors, from a directory of it, and with it as a named context. `seen_by` lets a program
/// reach where it is.
#[track_caller]
pub fn check_everywhere(scene: &Scene, written: &str, seen_by: impl Fn(Program) -> Program) {
    let here = scene.place.path().join("here");
    std::fs::create_dir_all(&here).expect("writable");
    std::fs::write(here.join("Dockerfile"), "FROM scratch\nCOPY --from=code service/page /\n").expect("writable");
    std::fs::write(here.join("beneath"), "FROM scratch\nCOPY page /\n").expect("writable");
    check_packed(&scene.image(seen_by(scene.docker(&[], written))));
    let context = format!("--context={written}");
    check_packed(&scene.image(seen_by(scene.kaniko(&[&context]))));
    let beneath = scene.kaniko(&[&context, "--context-sub-path=service", "--dockerfile=here/beneath"]);
    assert_eq!(scene.image(seen_by(beneath)).content("/page"), "page\n");
    let named = format!("code={written}");
    let image = scene.image(seen_by(scene.docker(&["--build-context", &named], "here")));
    assert_eq!(image.content("/page"), "page\n");
    let gone = scene.kaniko(&[&context, "--context-sub-path=gone"]);
    refused(seen_by(gone), &["has no directory `gone`"]);
}
