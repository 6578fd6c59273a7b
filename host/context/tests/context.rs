//! Directories as contexts, and finding the Dockerfile in them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test makes files")]

mod common;

use std::{fs, io::Read, os::unix::fs::symlink, path::Path, sync::Arc};

use cofferdam_context::{Context, ContextError, ContextSource, DockerfileLocation, DockerfileText, Visibility};
use cofferdam_rootfs::{Owner, RootPath};

use common::remote;

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn read(context: &Context, location: &str, from: &Path) -> Result<DockerfileText, ContextError> {
    let location = if location.is_empty() { DockerfileLocation::Default } else { DockerfileLocation::parse(location) };
    context.read_dockerfile(&location, from, &mut &b"FROM stdin"[..], &remote())
}

fn path(text: &str) -> RootPath {
    RootPath::new(text).unwrap()
}

#[test]
fn a_directory_is_a_tree_that_belongs_to_root_and_hides_what_is_excluded() {
    let place = tempfile::tempdir().unwrap();
    write(place.path(), "kept/file", "x");
    write(place.path(), "secret/key", "y");
    write(place.path(), "secret/public", "z");
    symlink("/etc/passwd", place.path().join("outside")).unwrap();
    let context = ContextSource::parse(".").unwrap().open(place.path(), &remote(), None).unwrap();
    let visible =
        |path: &RootPath, _: bool| !path.starts_with(&RootPath::new("secret").unwrap()) || path.ends_with(b"public");
    let visibility = Visibility { visible: Arc::new(visible), may_hold_visible: Arc::new(|_, _| true) };
    let tree = context.tree(Some(visibility));
    assert_eq!(tree.read_directory(&path("")).unwrap(), [&b"kept"[..], b"outside", b"secret"]);
    assert_eq!(tree.read_directory(&path("secret")).unwrap(), [b"public"]);
    assert!(tree.open(&path("secret/key")).is_err());
    assert_eq!(tree.metadata(&path("kept/file"), false).unwrap().unwrap().owner, Owner { uid: 0, gid: 0 });
    assert!(tree.open(&path("outside")).is_err(), "resolves in the context");
    let mut text = String::new();
    context.tree(None).open(&path("secret/key")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "y");
}

#[test]
fn what_is_no_directory_is_refused_with_the_remedy() {
    let place = tempfile::tempdir().unwrap();
    write(place.path(), "file", "");
    let open =
        |text: &str| ContextSource::parse(text).unwrap().open(place.path(), &remote(), None).err().unwrap().to_string();
    assert!(open("missing").contains("does not exist"));
    assert!(open("file").contains("`-f`"));
    assert!(open("file/below").contains("not a directory"));
}

#[test]
fn the_dockerfile_is_found_as_docker_and_kaniko_find_it() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    for name in
        ["context/Dockerfile", "context/docker/only.Dockerfile", "here/Dockerfile", "here/other", "context/other"]
    {
        write(root, name, name);
    }
    let context = Context::open(&root.join("context")).unwrap();
    let here = root.join("here");
    let found = |location: &str| String::from_utf8(read(&context, location, &here).unwrap().bytes).unwrap();
    assert_eq!(found(""), "context/Dockerfile");
    assert_eq!(found("other"), "here/other", "the working directory first, as docker build");
    assert_eq!(found("docker/only.Dockerfile"), "context/docker/only.Dockerfile", "else the context, as Kaniko");
    assert_eq!(found("../context/docker/only.Dockerfile"), "context/docker/only.Dockerfile");
    assert_eq!(found(root.join("here/Dockerfile").to_str().unwrap()), "here/Dockerfile");
    assert_eq!(found("-"), "FROM stdin");
    let error = read(&context, "missing", &here).unwrap_err().to_string();
    assert!(error.contains("here/missing") && error.contains("context/missing") && error.contains("`-f`"), "{error}");

    fs::rename(root.join("context/Dockerfile"), root.join("context/dockerfile")).unwrap();
    assert_eq!(found(""), "context/Dockerfile", "the lower-case name");
    fs::remove_file(root.join("context/dockerfile")).unwrap();
    assert!(matches!(read(&context, "", &here), Err(ContextError::NoDockerfile { .. })));
}

#[test]
fn the_ignore_file_beside_the_dockerfile_wins() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    for name in
        ["c/Dockerfile", "c/a.Dockerfile", "c/a.Dockerfile.dockerignore", "outside", "outside.dockerignore", "plain"]
    {
        write(root, name, name);
    }
    let context = Context::open(&root.join("c")).unwrap();
    let ignore = |location: &str| read(&context, location, root).unwrap().ignore.map(|ignore| ignore.name);
    assert_eq!(ignore(""), None);
    write(root, "c/.dockerignore", "x");
    assert_eq!(ignore("").as_deref(), Some(".dockerignore"));
    assert_eq!(ignore("c/a.Dockerfile").as_deref(), Some("a.Dockerfile.dockerignore"));
    assert_eq!(ignore("-").as_deref(), Some(".dockerignore"));
    assert_eq!(ignore("plain").as_deref(), Some(".dockerignore"));
    assert!(ignore("outside").unwrap().ends_with("/outside.dockerignore"));
}

#[test]
fn a_link_in_the_context_never_leads_to_a_file_of_the_machine() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    write(root, "secret", "the secret");
    write(root, "c/real", "FROM inside");
    symlink(root.join("secret"), root.join("c/Dockerfile")).unwrap();
    symlink("../secret", root.join("c/climbs")).unwrap();
    symlink("/real", root.join("c/inside")).unwrap();
    symlink(root, root.join("c/up")).unwrap();
    symlink("c", root.join("alias")).unwrap();
    let context = Context::open(&root.join("c")).unwrap();
    for location in ["", "c/Dockerfile", "c/climbs", "alias/climbs", "c/../c/Dockerfile"] {
        assert!(matches!(read(&context, location, root), Err(ContextError::DockerfileElsewhere { .. })), "{location}");
    }
    assert!(matches!(read(&context, "c/up/secret", root), Err(ContextError::NoDockerfile { .. })));
    assert_eq!(read(&context, "c/inside", root).unwrap().bytes, b"FROM inside");
    assert_eq!(read(&context, "alias/inside", root).unwrap().bytes, b"FROM inside");
}

#[test]
fn odd_and_huge_dockerfiles_are_refused_without_waiting() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    fs::create_dir(root.join("c")).unwrap();
    for name in ["c/fifo", "fifo"] {
        rustix::fs::mknodat(rustix::fs::CWD, root.join(name), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
    }
    fs::File::create(root.join("c/huge")).unwrap().set_len(1 << 40).unwrap();
    let context = Context::open(&root.join("c")).unwrap();
    for location in ["c/fifo", "fifo", "c", "/"] {
        let error = read(&context, location, root).unwrap_err();
        assert!(!matches!(error, ContextError::TooLarge { .. }), "{location}: {error}");
    }
    assert!(matches!(read(&context, "c/huge", root), Err(ContextError::TooLarge { .. })));
    let endless = context.read_dockerfile(&DockerfileLocation::Stdin, root, &mut std::io::repeat(b'#'), &remote());
    assert!(matches!(endless, Err(ContextError::TooLarge { .. })));
}
