//! Builds work in every environment that runners give, with RUN and without, and give the same image; an executor that does
//! not work here says so before anything is built.

use std::{fs, path::Path};

use cofferdam_tests::{
    Environment, Finished, Lab, Registry, base,
    matrix::{self, Column},
    skip, tool,
};

/// Everything but RUN. A file of the base is read, so that its layer must be unpacked by whoever builds.
const WITHOUT_RUN: &str = "\
ARG BASE
FROM $BASE AS parts
WORKDIR /parts
COPY files ./files
COPY --chmod=4750 --chown=nobody:nobody files/tool ./tool

FROM $BASE
ENV APP=/srv/app PATH=/srv/app/bin:$PATH
LABEL org.opencontainers.image.title=everywhere
WORKDIR $APP
COPY --from=parts /parts/files ./
COPY --from=parts /parts/tool bin/
COPY --from=parts /bin/busybox /usr/local/bin/from-base
ADD files.tar archive/
EXPOSE 8080/tcp
VOLUME /data
USER nobody
HEALTHCHECK CMD true
STOPSIGNAL SIGINT
ENTRYPOINT [\"tool\"]
CMD [\"--help\"]
";

/// Needs the base's index, but none of its content.
const WITHOUT_CONTENT: &str = "\
ARG BASE
FROM $BASE
WORKDIR /srv
COPY --chown=nobody files /etc/example
CMD [\"true\"]
";

const WITH_RUN: &str = "\
ARG BASE
FROM $BASE
COPY files /files
RUN touch /made
";

/// What a RUN may do to files: new, changed, replaced and removed ones, owners, modes, links, devices, and another user.
const WITH_MANY_RUNS: &str = "\
ARG BASE
FROM $BASE AS parts
COPY files /files
RUN touch /made && mkdir -p /var/x/y && chown 33:44 /var/x && chmod 4711 /made && ln -s made /link
RUN echo more >> /files/tool; rm /bin/wget; mkfifo /pipe; mknod /device c 5 1; ln /files/tool /files/again
RUN rm -rf /var/x && mkdir /var/x && echo new > /var/x/y; mv /files/deep /deep; chmod 1777 /var/x; chown -h 7:8 /link
RUN test \"$(id -u):$(stat -c %u:%g:%a /made):$(stat -c %u /link)\" = 0:0:0:4711:7 && \
    echo '#!/bin/sh' > /usr/bin/hello && echo 'echo \"$0 $1\"' >> /usr/bin/hello && chmod 755 /usr/bin/hello && \
    hello you > /said && readlink /proc/self/exe >> /said && pwd >> /said && hostname >> /said
RUN --mount=type=tmpfs,target=/memory cd /memory && mkdir x && echo y > x/y && chown 5:6 . x/y && ln x/y z && rm x/y && \
    stat -c '%n %u:%g %a' . x z > /memories
USER nobody
RUN id -u > /tmp/who && test ! -w /etc && ! touch /etc/refused && test \"$(stat -c %u /tmp/who)\" = \"$(id -u)\"

FROM $BASE
COPY --from=parts /said /memories /tmp/who /srv/
COPY --from=parts --chown=5:6 /var/x /srv/x
RUN cd /srv/x && cp -a y copy && test \"$(stat -c %u:%g copy)\" = 5:6
";

/// One environment with a context, and a registry that it reaches.
struct Runner<'r> {
    environment: Environment,
    lab: Lab,
    registry: &'r Registry,
}

impl<'r> Runner<'r> {
    fn new(environment: Environment, registry: &'r Registry, dockerfile: &str) -> Option<Self> {
        let lab = Lab::new()?;
        let context = lab.work().join("context");
        lay_out(&context, dockerfile);
        Some(Self { environment, lab, registry })
    }

    /// Builds and pushes. The store is where the program puts it if nobody says anything, below `/x`, the one place
    /// that every environment may write to.
    fn build(&self, tag: &str) -> Finished {
        self.build_with(tag, "")
    }

    fn build_with(&self, tag: &str, options: &str) -> Finished {
        self.build_among(&[], tag, options)
    }

    /// With something more of this machine in the environment.
    fn build_among(&self, more: &[String], tag: &str, options: &str) -> Finished {
        let host = self.registry.host();
        let home = match self.environment {
            Environment::RestrictedArbitraryUid => "unset HOME; export TMPDIR=/x/tmp",
            _ => "export HOME=/x/home",
        };
        let text = format!(
            "mkdir -p /x/tmp /x/home; {home}; PATH=$PATH:/more DOCKER_CONFIG=/docker exec {} build --build-arg BASE={host}/library/alpine:3.21 \
             --tag {host}/everywhere:{tag} --push --progress json {options} /x/context",
            Lab::PROGRAM
        );
        let binds = [&[format!("{}:/docker:ro", self.registry.docker_config().display())], more].concat();
        self.lab.shell(self.environment, &binds, &text)
    }

    fn store(&self) -> std::path::PathBuf {
        let work = self.lab.work();
        match self.environment {
            Environment::RestrictedArbitraryUid => work.join(format!("tmp/cofferdam-{}/store", self.environment.uid())),
            _ => work.join("home/.cache/cofferdam/store"),
        }
    }
}

/// A context that everybody may read.
fn lay_out(context: &Path, dockerfile: &str) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let files = context.join("files");
    fs::create_dir_all(files.join("deep/empty")).expect("writable");
    fs::write(context.join("Dockerfile"), dockerfile).expect("writable");
    fs::write(files.join("tool"), "#!/bin/sh\necho tool\n").expect("writable");
    fs::write(files.join("deep/file"), "content\n").expect("writable");
    symlink("../tool", files.join("deep/link")).expect("writable");
    fs::write(context.join("files.tar"), archive()).expect("writable");
    for (name, mode) in [
        ("", 0o755),
        ("Dockerfile", 0o644),
        ("files.tar", 0o644),
        ("files", 0o755),
        ("files/tool", 0o755),
        ("files/deep", 0o755),
        ("files/deep/empty", 0o755),
        ("files/deep/file", 0o644),
    ] {
        fs::set_permissions(context.join(name), PermissionsExt::from_mode(mode)).expect("ours");
    }
}

/// A tar archive with one entry that no ordinary user could make: a setuid file of another owner (ustar, POSIX.1-1988).
fn archive() -> Vec<u8> {
    let content = b"from an archive\n";
    let mut header = [0_u8; 512];
    let mut field = |offset: usize, text: &str| header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    field(0, "special");
    field(100, "0004755\0");
    field(108, "0000014\0");
    field(116, "0000042\0");
    field(124, &format!("{:011o}\0", content.len()));
    field(136, "00000000000\0");
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\0");
    field(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(512 * 4, 0);
    archive
}

fn registry_with_base() -> Option<Registry> {
    let registry = Registry::with_password()?;
    registry.load(&base("alpine")?, "latest", "library/alpine:3.21")?;
    Some(registry)
}

/// Builds in an environment, pushes, and answers the digest that both say.
fn digest_in(environment: Environment, registry: &Registry, kind: &str, dockerfile: &str) -> Option<String> {
    let runner = Runner::new(environment, registry, dockerfile)?;
    let tag = format!("{kind}-{environment:?}");
    let built = runner.build(&tag);
    assert_eq!(built.code, 0, "{environment:?}\n{}\n{}", built.stdout, built.stderr);
    assert_eq!(Some(built.digest()), registry.digest(&format!("everywhere:{tag}")));
    Some(built.digest())
}

#[test]
fn a_build_without_run_gives_the_same_image_in_every_environment() {
    let Some(registry) = registry_with_base() else { return };
    let Some(native) = digest_in(Environment::Native, &registry, "plain", WITHOUT_RUN) else { return };
    for environment in Environment::ALL {
        assert_eq!(digest_in(environment, &registry, "plain", WITHOUT_RUN).as_ref(), Some(&native), "{environment:?}");
        matrix::record_same(environment, Column::WithoutRun, &[]);
    }
}

#[test]
fn a_base_is_not_unpacked_where_nobody_reads_its_content() {
    let Some(registry) = registry_with_base() else { return };
    for environment in Environment::ALL {
        let Some(runner) = Runner::new(environment, &registry, WITHOUT_CONTENT) else { return };
        let built = runner.build("lazy");
        assert_eq!(built.code, 0, "{environment:?}\n{}\n{}", built.stdout, built.stderr);
        let unpacked = runner.store().join("unpacked");
        let found: Vec<_> = fs::read_dir(&unpacked)
            .unwrap_or_else(|error| panic!("{environment:?}: {}: {error}", unpacked.display()))
            .map(|entry| entry.expect("readable").path())
            // The file that says in which boot layers were unpacked is none.
            .filter(|path| path.is_dir())
            .collect();
        assert!(found.is_empty(), "{environment:?} unpacked {found:?}");
    }
}

#[test]
fn a_build_with_run_gives_the_same_image_in_every_environment() {
    let Some(registry) = registry_with_base() else { return };
    let Some(native) = digest_in(Environment::Native, &registry, "run", WITH_MANY_RUNS) else { return };
    for environment in Environment::ALL {
        assert_eq!(digest_in(environment, &registry, "run", WITH_MANY_RUNS).as_ref(), Some(&native), "{environment:?}");
        matrix::record_same(environment, Column::Run, &[]);
    }
}

/// Programs of another processor, and what they do to files.
const FOREIGN: &str = "\
ARG BASE
FROM $BASE
COPY files /files
RUN uname -m >/machine && chown 33:44 /machine && chmod 4711 /machine && /files/deep/link >/said
USER nobody
RUN id -u >/tmp/who
";

#[test]
fn commands_for_another_processor_run_in_every_environment() {
    let Some(registry) = registry_with_base() else { return };
    let Some(platforms) = base("platforms") else { return };
    let Some(emulator) = tool("qemu-aarch64-static") else {
        return skip("qemu-aarch64-static is not installed (scripts/install-test-tools.sh)");
    };
    let source = format!("oci:{}:latest", platforms.display());
    let target = format!("docker://{}/library/alpine:3.21", registry.host());
    registry.skopeo(&["copy", "--all", &source, &target]).expect("it has a base").success();
    let more = [format!("{}:/more:ro", emulator.parent().expect("absolute").display())];
    let mut digests = Vec::new();
    for environment in [Environment::Native].into_iter().chain(Environment::ALL) {
        let Some(runner) = Runner::new(environment, &registry, FOREIGN) else { return };
        let built = runner.build_among(&more, &format!("foreign-{environment:?}"), "--platform linux/arm64");
        assert_eq!(built.code, 0, "{environment:?}\n{}\n{}", built.stdout, built.stderr);
        digests.push((environment, built.digest()));
    }
    assert!(digests.iter().all(|(_, digest)| *digest == digests[0].1), "{digests:#?}");
}

/// Which executors an environment allows, the strongest first.
fn executors(environment: Environment) -> &'static [&'static str] {
    match environment {
        Environment::Native => &["native", "userns", "chroot", "emulated"],
        Environment::Userns | Environment::UsernsSingleId => &["userns", "emulated"],
        Environment::RootPod => &["chroot", "emulated"],
        _ => &["emulated"],
    }
}

#[test]
fn every_executor_that_works_gives_the_same_image() {
    let Some(registry) = registry_with_base() else { return };
    let mut digests = Vec::new();
    for environment in [
        Environment::Native,
        Environment::Userns,
        Environment::UsernsSingleId,
        Environment::RootPod,
        Environment::Restricted,
    ] {
        for executor in executors(environment) {
            let Some(runner) = Runner::new(environment, &registry, WITH_MANY_RUNS) else { return };
            let tag = format!("{environment:?}-{executor}");
            let built = runner.build_with(&tag, &format!("--executor {executor}"));
            assert_eq!(built.code, 0, "{tag}\n{}\n{}", built.stdout, built.stderr);
            digests.push((tag, built.digest()));
        }
    }
    assert!(digests.iter().all(|(_, digest)| *digest == digests[0].1), "{digests:#?}");
}

#[test]
fn a_run_that_cannot_be_carried_out_is_told_before_anything_is_built() {
    let Some(registry) = registry_with_base() else { return };
    let userns: &[&str] = &["executor `userns`", "can't make a user namespace", "system call filter"];
    let chroot: &[&str] = &["executor `chroot`", "can't make the tree the root (chroot)", "add: [SYS_CHROOT]"];
    let ptrace: &[&str] =
        &["can't trace a process (ptrace)", "seccompProfile: {type: RuntimeDefault}", "in the pod's specification"];
    let refused = [
        (Environment::RootPod, "userns", userns),
        (Environment::Restricted, "userns", userns),
        (Environment::RestrictedOld, "userns", userns),
        (Environment::RestrictedReadOnly, "userns", userns),
        (Environment::RestrictedArbitraryUid, "userns", userns),
        (Environment::Restricted, "chroot", chroot),
        (Environment::Userns, "chroot", chroot),
        (Environment::RestrictedWithoutPtrace, "emulated", ptrace),
        (Environment::RestrictedWithoutPtrace, "auto", ptrace),
    ];
    for (environment, executor, told) in refused {
        let Some(runner) = Runner::new(environment, &registry, WITH_RUN) else { return };
        let built = runner.build_with("never", &format!("--executor {executor}"));
        assert_eq!(built.code, 1, "{environment:?}\n{}\n{}", built.stdout, built.stderr);
        assert!(built.stdout.is_empty(), "{environment:?}: {}", built.stdout);
        for text in told {
            assert!(built.stderr.contains(text), "{environment:?}: no `{text}` in\n{}", built.stderr);
        }
        assert!(!built.stderr.contains("\"kind\":\"step\""), "{environment:?} began\n{}", built.stderr);
    }
    assert_eq!(registry.tags("everywhere"), Some(Vec::new()), "something was pushed");
}

#[test]
fn the_doctor_says_what_works_in_every_environment() {
    for environment in Environment::ALL {
        let Some(lab) = Lab::new() else { return };
        let text = format!("COFFERDAM_STORE=/x/store {} doctor", Lab::PROGRAM);
        let said = lab.shell(environment, &[], &text).success().stdout;
        let expected = match environment {
            Environment::Native => "RUN is carried out by `native-root`",
            Environment::Userns | Environment::UsernsSingleId => "RUN is carried out by `userns`",
            Environment::RootPod => "RUN is carried out by `chroot`",
            _ => "RUN is carried out by `emulated`",
        };
        assert!(said.contains(expected), "{environment:?}\n{said}");
        assert!(said.contains("Dockerfiles without RUN build everywhere"), "{environment:?}\n{said}");
        if environment == Environment::UsernsSingleId {
            assert!(said.contains("one id") && said.contains("the translator records owners"), "{said}");
        }
        // Whatever does not work is told with a remedy.
        let mut lines = said.lines().peekable();
        while let Some(line) = lines.next() {
            let remedy = lines.peek().is_some_and(|next| next.starts_with("      "));
            assert!(!line.starts_with("no ") || remedy, "{environment:?}: no remedy for `{line}`\n{said}");
        }
        let json = lab.shell(environment, &[], &format!("{text} --json")).success().stdout;
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let executor = json["executor"].as_str().expect("there is one");
        assert!(expected.contains(&format!("`{executor}`")), "{environment:?}: {json}");
        matrix::record(environment, Column::Executor, &format!("`{executor}`"), &[]);
    }
}
