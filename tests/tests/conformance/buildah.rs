//! The builds of buildah's own conformance suite, carried out for real and compared with what BuildKit made of them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_digest::Digest;
use cofferdam_tests::{Site, base, is_root, read_json, run, shared, skip};
use serde_json::{Value, json};

use crate::{
    reference::{Picture, part},
    table,
};

/// The reference builds had these names written in place of the first ones, in the Dockerfile of the context too.
const NAMES: [(&str, &str); 5] = [
    ("mirror.gcr.io/busybox", BUSYBOX),
    ("mirror.gcr.io/alpine", BUSYBOX),
    ("quay.io/libpod/busybox", BUSYBOX),
    ("quay.io/libpod/centos:7", DEBIAN),
    ("quay.io/fedora/python-311:latest", DEBIAN),
];
const BUSYBOX: &str = "127.0.0.1:5020/cbusybox:latest";
const DEBIAN: &str = "127.0.0.1:5020/debian:12";

/// The hash of the file /etc/passwd of the reference's busybox image, the one file of a base that a case copies.
const THEIR_PASSWD: &str = "c06119519e5dc88919c693060e9d95744c4437bce0156bca2bac5175a5a2c144";

/// Cases that differ on purpose.
const EXCEPTED: [(&str, &str); 3] = [
    (
        "037-ci-pipeline-modified",
        "it writes down the environment: BuildKit's had the proxies of the machine, Buildah's is ours",
    ),
    ("083-copy-parents-all-directories", REFUSED),
    ("088-copy-parents-directory-limit-parents-unknown-count-parent-directories", REFUSED),
];
const REFUSED: &str = "the BuildKit that was asked refuses `COPY --parents ./`, which released ones build";

/// Cases that BuildKit refuses and that are built here: the data's README follows Buildah in them. It writes one layer.
const AS_BUILDAH: [&str; 2] = ["160-replace-directory-with-symlink", "161-replace-symlink-with-directory-subdir"];

/// Files of contexts that are not what the reference build copied; all but their contents is compared. In the first four
/// another line stood where `# syntax=` stands. In the others BuildKit copied the file that an earlier build's context had under
/// that name, with the same size and time: a fault of it that is known.
const OTHER_TEXTS: [(&str, &str); 10] = [
    ("071-add-exclude-includes-star", "Dockerfile"),
    ("073-add-exclude-includes-dot", "Dockerfile"),
    ("074-copy-exclude-includes-subdir-slash", "Dockerfile"),
    ("076-copy-exclude-includes-slash", "Dockerfile"),
    ("095-dockerignore-exclude-plain-dot", "Dockerfile"),
    ("097-dockerignore-exclude-wildcard-dot", "Dockerfile"),
    ("101-dockerignore-exclude-deep-subdir-dot", "Dockerfile"),
    ("103-dockerignore-exclude-not-so-deep-subdir-dot", "Dockerfile"),
    ("107-dockerignore-exclude-deep-subdir-dot", "Dockerfile"),
    ("107-dockerignore-exclude-deep-subdir-dot", ".dockerignore"),
];

#[test]
fn builds_are_what_buildkit_makes_of_them() {
    let Some(cases) = shared("conformance/buildah/cases") else {
        skip("the conformance data buildah is not there");
        return;
    };
    if !is_root() {
        skip("contexts with owners are unpacked as root");
        return;
    }
    let Some(bases) = Bases::new() else { return };
    let mut names: Vec<String> = fs::read_dir(&cases)
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    let only = std::env::var("COFFERDAM_CASE").ok();
    if let Some(only) = &only {
        names.retain(|name| name.contains(only.as_str()));
    }
    let (mut passed, mut excepted, mut failures) = (0, Vec::new(), Vec::new());
    for name in names {
        let found = Case::new(&cases.join(&name), &name).differences(&bases);
        let reason = EXCEPTED.iter().find(|(case, _)| *case == name).map(|(_, reason)| *reason);
        match (found.is_empty(), reason) {
            (true, None) => passed += 1,
            (true, Some(_)) => failures.push(format!("{name}: excepted, but nothing differs")),
            (false, Some(reason)) => excepted.push((name, reason)),
            (false, None) => failures.push(format!("{name}:\n  {}", found.join("\n  "))),
        }
    }
    assert!(failures.is_empty(), "{} of {}\n{}", failures.len(), failures.len() + passed, failures.join("\n"));
    if only.is_some() {
        return;
    }
    assert!(excepted.len() * 100 <= (passed + excepted.len()) * 3, "{excepted:#?}");
    table::record("buildah", "images: configuration, history and every layer", passed, &excepted);
}

/// The images that cases start from, with two layers and one, like the reference's.
struct Bases {
    busybox: PathBuf,
    debian: PathBuf,
    /// The entry of busybox's /etc/passwd.
    passwd: Value,
}

impl Bases {
    /// `None` (reported as a skip) where they can't be made.
    fn new() -> Option<Self> {
        let (busybox, debian) = (base("busybox")?, base("debian")?);
        let passwd = Picture::built(&busybox, 1).layers.concat().into_iter();
        let passwd = passwd.into_iter().find(|entry| entry[part::NAME] == "./etc/passwd").expect("it has accounts");
        Some(Self { busybox, debian, passwd })
    }
}

struct Case {
    name: String,
    directory: PathBuf,
    description: Value,
}

impl Case {
    fn new(directory: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            description: read_json(&directory.join("case.json")),
        }
    }

    /// Builds it, and compares with what is expected.
    fn differences(&self, bases: &Bases) -> Vec<String> {
        let site = Site::new();
        let context = site.context();
        fs::set_permissions(&context, PermissionsExt::from_mode(0o755)).expect("ours");
        let archive = self.directory.join("context.tar");
        run(Command::new("tar").arg("--extract").arg("--preserve-permissions").arg("--numeric-owner").args([
            "--file".as_ref(),
            archive.as_os_str(),
            "--directory".as_ref(),
            context.as_os_str(),
        ]))
        .success();
        let dockerfile = context.join(self.description["dockerfileInContext"].as_str().expect("a path"));
        let text = fs::read_to_string(self.directory.join("Dockerfile")).expect("UTF-8");
        fs::write(&dockerfile, renamed(&text)).expect("writable");
        let layout = site.path().join("built");
        let mut arguments = vec![
            "--file".to_owned(),
            dockerfile.display().to_string(),
            format!("--output=type=oci,dest={},tar=false", layout.display()),
            format!("--build-context={BUSYBOX}=oci-layout://{}", bases.busybox.display()),
            format!("--build-context={DEBIAN}=oci-layout://{}", bases.debian.display()),
        ];
        for (name, value) in self.description["buildArgs"].as_object().into_iter().flatten() {
            arguments.push(format!("--build-arg={name}={}", renamed(value.as_str().expect("a text"))));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let finished = site.build(&arguments);
        match (finished.code, self.expected(bases, &context)) {
            (0, Some((expected, base_layers))) => {
                let mut built = Picture::built(&layout, base_layers);
                if AS_BUILDAH.contains(&self.name.as_str()) {
                    // Names, links and contents are Buildah's; its configuration and history are not what BuildKit writes.
                    built = Picture { config: Value::Null, ..built.flattened() };
                }
                built.differences(&expected)
            }
            (0, None) => vec!["built, and should not".to_owned()],
            (_, Some(_)) => vec![format!("failed: {}", finished.stderr)],
            (_, None) => Vec::new(),
        }
    }

    /// The expected image and the number of its base's layers; `None` for a refusal.
    fn expected(&self, bases: &Bases, context: &Path) -> Option<(Picture, usize)> {
        let as_buildah = AS_BUILDAH.contains(&self.name.as_str());
        let tool = if as_buildah { "buildah" } else { "buildkit" };
        let recorded = read_json(&self.directory.join(format!("expected.{tool}.json")));
        if recorded["rc"] != 0 {
            return None;
        }
        let (mut picture, base_layers) = Picture::expected(&recorded);
        if as_buildah {
            picture.config = Value::Null;
        }
        for entry in picture.layers.iter_mut().flatten() {
            if entry[part::HASH] == THEIR_PASSWD {
                entry[part::SIZE] = bases.passwd[part::SIZE].clone();
                entry[part::HASH] = bases.passwd[part::HASH].clone();
            }
            self.refresh(entry, context);
        }
        Some((picture, base_layers))
    }

    /// Gives a file of [`OTHER_TEXTS`] the content that the context has.
    fn refresh(&self, entry: &mut Value, context: &Path) {
        let name = entry[part::NAME].as_str().unwrap_or_default().to_owned();
        let file = name.rsplit('/').next().unwrap_or_default();
        if OTHER_TEXTS.contains(&(self.name.as_str(), file)) {
            let content = fs::read(context.join(file)).expect("readable");
            let hash = Digest::of(&content).to_string();
            assert!(entry[part::HASH] != hash[7..], "{}: `{file}` is the same", self.name);
            entry[part::SIZE] = json!(content.len());
            entry[part::HASH] = json!(hash[7..]);
        }
    }
}

/// A Dockerfile as the reference builds had it: with the names of the local images, without digests, which are those of other
/// images, and without the line that asks for another front end.
fn renamed(text: &str) -> String {
    let mut text: String = text.split_inclusive('\n').filter(|line| !line.starts_with("# syntax=")).collect();
    for (from, to) in NAMES {
        let mut renamed = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(from) {
            renamed.push_str(before);
            renamed.push_str(to);
            rest = match after.strip_prefix("@sha256:") {
                Some(digest) => digest.trim_start_matches(|character: char| character.is_ascii_hexdigit()),
                None => after,
            };
        }
        renamed.push_str(rest);
        text = renamed;
    }
    text
}
