//! Programs of other processors: RUN by an emulator that only the command has, and what it takes to run them elsewhere.

use std::{fs, path::Path, process::Command};

use cofferdam_tests::{Image, Registry, Site, base, is_root, run, shared, skip, tool};

const ARM: &[&str] = &["--platform", "linux/arm64"];

/// What a foreign program sees of itself, what it was called, scripts, owners, a user, a program that it made itself.
const COMMANDS: &str = r#"FROM base
COPY --chmod=755 script /script
RUN uname -m >/machine && chown 5:6 /machine && chmod 2755 /machine
RUN /script 'two words' >/arguments
RUN cp /bin/busybox /copy && ln -s /copy /echo && /echo applet >/applet && rm /copy
RUN ["/bin/sh", "-c", "echo $0 $1 >/called; cat /proc/self/comm >/dev/null", "name", "more"]
WORKDIR /work
RUN cd / && find . -name script >/found && (sleep 0 & wait; false) || echo $? >/code
USER 1000:1000
RUN id -u >/tmp/id && ! touch /refused 2>/dev/null
"#;

const SCRIPT: &str = "#!/bin/sh -e\necho \"$0\" \"$#\" \"$1\"\n";

fn emulated() -> Option<Site> {
    if tool("qemu-aarch64-static").is_none() {
        skip("qemu-aarch64-static is not installed (scripts/install-test-tools.sh)");
        return None;
    }
    let site = Site::with_base("platforms")?;
    site.file("script", SCRIPT).dockerfile(COMMANDS);
    Some(site)
}

/// The machine's handlers, which are nobody's to change.
fn machines_handlers() -> Vec<String> {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn commands_for_another_processor_give_the_same_image_by_every_executor() {
    let Some(site) = emulated() else { return };
    if !is_root() {
        return skip("every executor is there for root only");
    }
    let before = machines_handlers();
    let mut digests = Vec::new();
    for executor in ["native", "userns", "chroot", "emulated"] {
        let store = site.path().join(format!("store-{executor}"));
        let layout = site.path().join(executor);
        let output = format!("type=oci,dest={},tar=false", layout.display());
        let arguments = [ARM, &["--executor", executor, "-t", "image", "-o", &output]].concat();
        let built = site.program_of(cofferdam_tests::binary(), &store, &arguments).run().success();
        let image = Image::open(&layout);
        for (path, content) in [
            ("/machine", "aarch64\n"),
            ("/arguments", "/script 1 two words\n"),
            ("/applet", "applet\n"),
            ("/called", "name more\n"),
            ("/found", "./script\n"),
            ("/code", "1\n"),
            ("/tmp/id", "1000\n"),
        ] {
            assert_eq!(image.content(path), content, "{executor}: {path}");
        }
        assert_eq!(image.entry("/echo"), "link /copy", "{executor}");
        assert!(!image.has("/usr/bin/qemu-aarch64-static") && !image.has("/refused"), "{executor}");
        digests.push((executor, built.digest()));
        assert_eq!(machines_handlers(), before);
    }
    assert!(digests.iter().all(|(_, digest)| *digest == digests[0].1), "{digests:#?}");
}

#[test]
fn both_platforms_run_their_own_programs_side_by_side() {
    let Some(site) = emulated() else { return };
    site.dockerfile("FROM base\nRUN uname -m >/machine\n");
    site.build(&["--platform", "linux/amd64,linux/arm64", "-o", "files"]).success();
    let machine = |platform: &str| fs::read_to_string(site.path().join("files").join(platform).join("machine"));
    let machines = ["linux_amd64", "linux_arm64"].map(|platform| machine(platform).expect("written"));
    assert_eq!(machines, ["x86_64\n", "aarch64\n"]);
}

#[test]
fn without_an_emulator_it_is_said_what_to_do_before_anything_is_built() {
    let Some(site) = Site::with_base("platforms") else { return };
    site.dockerfile("FROM --platform=$BUILDPLATFORM base AS native\nRUN touch /made\nFROM base\nRUN uname -m\nCOPY --from=native /made /\n");
    let built = site.program(ARM).env("PATH", "/nonexistent").run();
    assert_eq!(built.code, 1, "{}", built.stderr);
    for said in
        ["`RUN uname -m`", "linux/arm64", "`qemu-aarch64-static`", "qemu-user-static", "--platform=$BUILDPLATFORM"]
    {
        assert!(built.stderr.contains(said), "{said} in {}", built.stderr);
    }
    assert!(!built.stderr.contains("RUN touch"), "{}", built.stderr);
    // Where nothing is run, nothing is needed.
    site.dockerfile("FROM base\nCOPY Dockerfile /\n");
    site.program(ARM).env("PATH", "/nonexistent").run().success();
}

/// The tutorial's program, compiled on this machine for both platforms in one command.
#[test]
fn the_go_tutorial_is_built_for_two_platforms_and_pushed_as_one() {
    let Some(tutorials) = shared("tutorials") else {
        return skip("the tutorials are not there (../shared/tutorials)");
    };
    let (Some(golang), Some(platforms)) = (base("golang"), base("platforms")) else { return };
    let Some(registry) = Registry::with_password() else { return };
    let host = registry.host();
    registry.load(&golang, "latest", "library/golang:1.23");
    let (source, target) =
        (format!("oci:{}:latest", platforms.display()), format!("docker://{host}/library/alpine:3.21"));
    registry.skopeo(&["copy", "--all", &source, &target]).expect("it was loaded with it").success();
    let site = Site::new();
    let project = tutorials.join("go-hello");
    for name in ["go.mod", "hello-devops.go"] {
        site.file(name, fs::read(project.join(name)).expect("readable"));
    }
    // What a Dockerfile has to say beside what the tutorial's says.
    let text = fs::read_to_string(project.join("Dockerfile")).expect("readable");
    let text = text.replace("FROM golang", &format!("FROM --platform=$BUILDPLATFORM {host}/library/golang"));
    let text = text.replace("FROM alpine", &format!("FROM {host}/library/alpine"));
    let compile = "RUN cat /proc/sys/kernel/random/uuid >/unique\nARG TARGETOS TARGETARCH\n\
                   RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build .";
    site.dockerfile(&text.replace("RUN go build .", compile));
    let name = format!("{host}/team/hello:1");
    let arguments = ["--platform", "linux/amd64,linux/arm64", "--push", "-t", &name];
    let built = site.program(&arguments).env("DOCKER_CONFIG", registry.docker_config()).run().success();
    // The stage before the platform's arguments was carried out once.
    assert_eq!(
        built.stderr.matches("] RUN cat /proc/sys/kernel/random/uuid >/unique\n#").count(),
        1,
        "{}",
        built.stderr
    );
    assert_eq!(registry.digest("team/hello:1").as_deref(), Some(built.digest().as_str()));
    let (user, password) = registry.credentials().expect("it has a password");
    for (architecture, emulator) in [("amd64", None), ("arm64", Some("qemu-aarch64-static"))] {
        let layout = site.path().join(architecture);
        let Some(skopeo) = tool("skopeo") else { return };
        let mut pull = Command::new(skopeo);
        pull.args(["--insecure-policy", "--override-arch", architecture, "copy", "--src-tls-verify=false"]);
        pull.arg(format!("--src-creds={user}:{password}")).arg(format!("docker://{name}"));
        run(pull.arg(format!("oci:{}:latest", layout.display()))).success();
        let image = Image::open(&layout);
        assert_eq!(image.document()["architecture"], architecture);
        let program = image.root().join("usr/local/bin/hello-devops");
        let printed = match emulator.map(|name| tool(name).ok_or(name)) {
            None => run(&mut Command::new(&program)),
            Some(Ok(emulator)) => run(Command::new(emulator).arg(&program)),
            Some(Err(name)) => return skip(&format!("{name} is not installed (scripts/install-test-tools.sh)")),
        };
        let printed = printed.success().stdout;
        assert!(printed.starts_with("Hello DevOps!\n"), "{printed}");
        assert!(printed.contains(&format!("Architecture: {architecture}\n")), "{printed}");
        assert!(!Path::new(&image.root()).join("usr/local/go").exists());
    }
}
