//! Random sequences of COPY, ADD and RUN, built here and by Debian's `buildah`: the file systems that come out are compared.
//! `scripts/campaign.sh differential` runs many.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_digest::Digest;
use cofferdam_tests::{Finished, Image, Site, base, is_root, run, tool};

/// What `buildah` itself leaves in an image that commands ran in, and what is mounted there.
const ITS_OWN: [&str; 7] = ["dev", "proc", "sys", "run", "etc/hostname", "etc/hosts", "etc/resolv.conf"];

#[test]
fn random_builds_are_what_buildah_makes_of_them() {
    compare(5);
}

#[test]
#[ignore = "a campaign"]
fn campaign() {
    let short = std::env::var_os("COFFERDAM_CAMPAIGN_SHORT").is_some_and(|short| short == "1");
    let sequences = if short { 10 } else { 100 };
    let (compared, refused) = compare(sequences);
    if let Some(directory) = std::env::var_os("COFFERDAM_CAMPAIGN_RESULTS") {
        let text = format!("{sequences} sequences: {compared} with equal file systems, {refused} that both refuse.\n");
        fs::write(PathBuf::from(directory).join("differential"), text).expect("writable");
    }
}

/// Builds so many sequences; answers how many were compared, and how many both builders refused.
fn compare(sequences: u64) -> (u64, u64) {
    let Some(buildah) = tool("buildah") else { return (0, 0) };
    if !is_root() {
        cofferdam_tests::skip("buildah's chroot isolation needs root");
        return (0, 0);
    }
    let Some(base) = base("alpine") else { return (0, 0) };
    let buildah = Buildah::new(buildah, &base);
    let (mut compared, mut refused) = (0, 0);
    let first = std::env::var("COFFERDAM_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in first..first + sequences {
        let site = Site::new();
        let dockerfile = Sequence::new(seed).write(&site);
        site.dockerfile(&dockerfile);
        let ours = site.path().join("ours");
        let built = site.build(&[
            "--tag",
            "image",
            "--build-context",
            &format!("base=oci-layout://{}", base.display()),
            "--output",
            &format!("type=oci,dest={},tar=false", ours.display()),
        ]);
        let theirs = site.path().join("theirs");
        match (built.code, buildah.build(&site, &theirs)) {
            (0, Ok(())) => {
                let differences = differences(&Image::open(&ours), &Image::open(&theirs));
                assert!(differences.is_empty(), "seed {seed}\n{dockerfile}\n{}", differences.join("\n"));
                compared += 1;
            }
            (0, Err(error)) => panic!("seed {seed}: only buildah refuses\n{dockerfile}\n{error}"),
            (_, Ok(())) => panic!("seed {seed}: only buildah builds\n{dockerfile}\n{}", built.stderr),
            (_, Err(_)) => refused += 1,
        }
    }
    assert!(compared * 2 > sequences, "most are refused: {compared} of {sequences}");
    (compared, refused)
}

/// Debian's `buildah` with a store of its own.
struct Buildah {
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl Buildah {
    /// With one image, `base`.
    fn new(program: PathBuf, base: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
            .expect("writable");
        let buildah = Self { program, directory };
        // The name of the image is made of the path, which must be one that a name can have.
        run(Command::new("cp").arg("-r").arg(base).arg(buildah.directory.path().join("base"))).success();
        let pulled = buildah.call("pull", &["--quiet", "oci:base:latest"]).success();
        buildah.call_plainly("tag", &[pulled.stdout.trim(), "localhost/base:latest"]).success();
        buildah
    }

    /// Builds the site's Dockerfile to an OCI layout, or says why not.
    fn build(&self, site: &Site, layout: &Path) -> Result<(), String> {
        let context = site.context().display().to_string();
        let options = ["--isolation", "chroot", "--network", "host", "--pull-never", "--tag", "theirs", &context];
        let built = self.call("build", &options);
        if built.code != 0 {
            return Err(built.stderr);
        }
        self.call("push", &["--quiet", "theirs", &format!("oci:{}:latest", layout.display())]).success();
        self.call_plainly("rmi", &["--force", "theirs"]).success();
        Ok(())
    }

    fn call(&self, verb: &str, arguments: &[&str]) -> Finished {
        let policy = self.directory.path().join("policy.json").display().to_string();
        self.call_plainly(verb, &[&["--signature-policy", &policy], arguments].concat())
    }

    fn call_plainly(&self, verb: &str, arguments: &[&str]) -> Finished {
        let place = |name: &str| self.directory.path().join(name);
        let mut command = Command::new(&self.program);
        command.current_dir(self.directory.path());
        command.arg("--root").arg(place("root")).arg("--runroot").arg(place("run"));
        run(command.args(["--storage-driver", "vfs", verb]).args(arguments))
    }
}

/// A source of decisions that a seed determines (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

/// One Dockerfile and its context.
struct Sequence {
    dice: Dice,
}

/// Names that steps meet at again.
const PLACES: [&str; 6] = ["/a", "/a/b", "/c", "/c/d/e", "/srv", "/srv/f"];
const SOURCES: [&str; 8] = ["one", "two", "dir", "dir/deep", "dir/*", "o*", ".", "links"];

impl Sequence {
    fn new(seed: u64) -> Self {
        Self { dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1) }
    }

    /// Writes the context and answers the Dockerfile.
    fn write(mut self, site: &Site) -> String {
        let dice = &mut self.dice;
        for file in ["one", "two", "dir/three", "dir/deep/four", "dir/deep/five", "links/six"] {
            site.file(file, format!("{file} {}", dice.roll(1000)));
            site.mode(file, [0o644, 0o600, 0o755, 0o4755, 0o640][dice.roll(5)]);
            let owner = [0, 1000, 65534][dice.roll(3)];
            chown(site.context().join(file), Some(owner), Some(owner)).expect("root");
        }
        // No setgid: with --chown buildah takes the bit from directories, and BuildKit leaves it.
        site.mode("dir", [0o755, 0o700, 0o711, 0o1777][dice.roll(4)]).mode("dir/deep", [0o755, 0o711][dice.roll(2)]);
        symlink("six", site.context().join("links/relative")).expect("writable");
        symlink("/etc/passwd", site.context().join("links/absolute")).expect("writable");
        symlink("nowhere", site.context().join("links/broken")).expect("writable");
        fs::hard_link(site.context().join("links/six"), site.context().join("links/hard")).expect("writable");
        let archive = site.context().join("archive.tar");
        run(Command::new("tar")
            .args(["--owner=7", "--group=8", "-C"])
            .arg(site.context())
            .arg("-cf")
            .arg(&archive)
            .args(["dir", "one"]))
        .success();
        let mut text = "FROM base AS first\n".to_owned();
        self.steps(&mut text, false);
        if self.dice.roll(2) == 0 {
            text.push_str("FROM base\n");
            self.steps(&mut text, true);
        }
        text
    }

    fn steps(&mut self, text: &mut String, has_first: bool) {
        // What stages copy from each other is there.
        text.push_str("RUN mkdir -p /a/b && echo start > /a/b/start && chown -R 3:4 /a\n");
        for _ in 0..2 + self.dice.roll(6) {
            let dice = &mut self.dice;
            let place = dice.pick(&PLACES);
            match dice.roll(10) {
                0..=2 => {
                    let flag = dice.pick(&["", "", "--chown=11:12 ", "--chmod=750 ", "--chown=nobody "]);
                    let source = dice.pick(&SOURCES);
                    writeln!(text, "COPY {flag}{source} {place}/").expect("it is a string");
                }
                3 => writeln!(text, "COPY one two dir {place}/").expect("it is a string"),
                4 => writeln!(text, "ADD archive.tar {place}/").expect("it is a string"),
                5 if has_first => writeln!(text, "COPY --from=first /a {place}/").expect("it is a string"),
                6 => writeln!(text, "WORKDIR {place}").expect("it is a string"),
                _ => {
                    let commands: Vec<String> = (0..1 + dice.roll(4)).map(|_| command(dice)).collect();
                    writeln!(text, "RUN {}; true", commands.join("; ")).expect("it is a string");
                }
            }
        }
    }
}

/// A command of the shell that may fail.
fn command(dice: &mut Dice) -> String {
    let (one, other) = (dice.pick(&PLACES), dice.pick(&PLACES));
    let name = dice.pick(&["one", "two", "three", "x", "y"]);
    match dice.roll(13) {
        0 => format!("mkdir -p {one}"),
        1 => format!("mkdir -m 1777 -p {one}/{name}"),
        2 => format!("echo {name} >> {one}/{name}"),
        3 => format!("rm -f {one}/{name}"),
        4 => format!("rm -rf {one} && mkdir -p {one} && echo again > {one}/{name}"),
        5 => format!("mv {one}/{name} {other}/moved"),
        6 => format!("ln {one}/{name} {other}/hard"),
        7 => format!("ln -s {one}/{name} {other}/soft"),
        8 => format!("chmod {} {one}/{name}", dice.pick(&["600", "4711", "u+x,go="])),
        9 => format!("chown {} {one}/{name}", dice.pick(&["5:6", "nobody", ":9"])),
        10 => format!("cp -a {one}/. {other}/copy"),
        11 => format!("mkfifo {one}/pipe"),
        _ => format!("chmod {} {one}", dice.pick(&["700", "755", "3775"])),
    }
}

/// What differs between two file systems, a line for each difference.
fn differences(ours: &Image, theirs: &Image) -> Vec<String> {
    let (ours, theirs) = (listing(&ours.root()), listing(&theirs.root()));
    assert!(
        ours.len() > 100 && ours.contains_key("a"),
        "there is a base, and what the first step made or a later one made again"
    );
    let mut found = Vec::new();
    for (path, entry) in &ours {
        match theirs.get(path) {
            None => found.push(format!("only here: {path} {entry}")),
            Some(other) if other != entry => found.push(format!("{path}: {entry}, with buildah {other}")),
            Some(_) => {}
        }
    }
    found.extend(
        theirs.iter().filter(|(path, _)| !ours.contains_key(*path)).map(|it| format!("missing: {} {}", it.0, it.1)),
    );
    found
}

fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // The first name of each file that has several.
    let mut links = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.symlink_metadata().expect("there").is_dir() {
                open.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(root).expect("beneath").to_string_lossy().into_owned();
        if ITS_OWN.iter().any(|own| name.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        {
            continue;
        }
        let metadata = path.symlink_metadata().expect("there");
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).expect("a link").display())
        } else if kind.is_file() {
            let first = links.entry(metadata.ino()).or_insert_with(|| name.clone());
            format!("{} {} as {first}", metadata.len(), Digest::of(&fs::read(&path).expect("readable")))
        } else {
            format!("{kind:?}")
        };
        let mode = if kind.is_symlink() { 0o777 } else { metadata.mode() & 0o7777 };
        found.insert(name, format!("{mode:o} {}:{} {content}", metadata.uid(), metadata.gid()));
    }
    found
}
