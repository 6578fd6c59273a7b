//! A build without RUN works in every environment that runners give, and a RUN that can't be carried out says so first.

use std::{fs, path::Path};

use cofferdam_tests::{Environment, Finished, Lab, Registry, base};

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
        let host = self.registry.host();
        let home = match self.environment {
            Environment::RestrictedArbitraryUid => "unset HOME; export TMPDIR=/x/tmp",
            _ => "export HOME=/x/home",
        };
        let text = format!(
            "mkdir -p /x/tmp /x/home; {home}; DOCKER_CONFIG=/docker exec {} build --build-arg BASE={host}/library/alpine:3.21 \
             --tag {host}/everywhere:{tag} --push --progress json /x/context",
            Lab::PROGRAM
        );
        let binds = [format!("{}:/docker:ro", self.registry.docker_config().display())];
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

#[test]
fn a_build_without_run_gives_the_same_image_in_every_environment() {
    let Some(registry) = registry_with_base() else { return };
    let mut digests = Vec::new();
    for environment in Environment::ALL {
        let Some(runner) = Runner::new(environment, &registry, WITHOUT_RUN) else { return };
        let tag = format!("{environment:?}");
        let built = runner.build(&tag);
        assert_eq!(built.code, 0, "{environment:?}\n{}\n{}", built.stdout, built.stderr);
        assert_eq!(Some(built.digest()), registry.digest(&format!("everywhere:{tag}")));
        digests.push((environment, built.digest()));
    }
    assert!(digests.iter().all(|(_, digest)| *digest == digests[0].1), "{digests:#?}");
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
fn a_run_that_cannot_be_carried_out_is_told_before_anything_is_built() {
    let Some(registry) = registry_with_base() else { return };
    let without_run = [
        Environment::RootPod,
        Environment::Restricted,
        Environment::RestrictedOld,
        Environment::RestrictedReadOnly,
        Environment::RestrictedArbitraryUid,
    ];
    for environment in without_run {
        let Some(runner) = Runner::new(environment, &registry, WITH_RUN) else { return };
        let built = runner.build("never");
        assert_eq!(built.code, 1, "{environment:?}\n{}\n{}", built.stdout, built.stderr);
        assert!(built.stdout.is_empty(), "{environment:?}: {}", built.stdout);
        for text in ["`RUN touch /made` can't be run here", "userns", "doctor"] {
            assert!(built.stderr.contains(text), "{environment:?}: no `{text}` in\n{}", built.stderr);
        }
        // What is missing, in the kernel's words or ours, for each tier.
        let reasons = built.stderr.lines().filter(|line| line.contains(": can't ")).count();
        assert!(reasons >= 2, "{environment:?}\n{}", built.stderr);
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
            _ => "RUN can't be carried out here",
        };
        assert!(said.contains(expected), "{environment:?}\n{said}");
        assert!(said.contains("Dockerfiles without RUN build everywhere"), "{environment:?}\n{said}");
        if environment == Environment::UsernsSingleId {
            assert!(said.contains("one id"), "{said}");
        }
        // Whatever does not work is told with a remedy.
        let mut lines = said.lines().peekable();
        while let Some(line) = lines.next() {
            let remedy = lines.peek().is_some_and(|next| next.starts_with("      "));
            assert!(!line.starts_with("no ") || remedy, "{environment:?}: no remedy for `{line}`\n{said}");
        }
        let json = lab.shell(environment, &[], &format!("{text} --json")).success().stdout;
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["executor"].is_null(), expected.contains("can't"), "{environment:?}: {json}");
    }
}
