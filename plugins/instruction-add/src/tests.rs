use super::*;
use std::{
    io::Write,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use cofferdam_plugin_sdk::{
    fs::{Kind, Owner},
    instruction::Read,
    testing::{MemoryRoot, MemoryTree, StepBuilder, step},
};

/// What the system's tar makes of a directory with a file, a link and a hard link.
fn archive(compression: &str) -> Vec<u8> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("cofferdam-add-{}-{number}", std::process::id()));
    std::fs::create_dir_all(root.join("d")).unwrap();
    let mut file = std::fs::File::create(root.join("d/f")).unwrap();
    file.write_all(&vec![b'x'; 2_500_000]).unwrap();
    std::os::unix::fs::symlink("f", root.join("d/l")).unwrap();
    std::fs::hard_link(root.join("d/f"), root.join("d/z")).unwrap();
    let flags = ["-c", "--sort=name", "--owner=1234", "--group=2345", "--mtime=@1000000000", compression, "-C"];
    let output = Command::new("tar").args(flags).arg(&root).arg(".").output().unwrap();
    std::fs::remove_dir_all(root).unwrap();
    assert!(output.status.success());
    output.stdout
}

fn run(step: StepBuilder, content: &[u8]) -> Result<MemoryRoot, Error> {
    let mut tree = MemoryTree::default();
    tree.add_file(b"/some.file", content).add_file(b"/plain", b"plain");
    let root = MemoryRoot::default();
    Add::apply(&step.build(), &root, &[&tree], None).map(|warnings| {
        assert!(warnings.is_empty());
        root
    })
}

fn codes(step: StepBuilder) -> Vec<String> {
    Add::check(&step.build()).into_iter().map(|finding| finding.code).collect()
}

#[test]
fn an_archive_is_unpacked_whatever_its_name_and_compression() {
    for compression in ["--no-auto-compress", "--gzip", "--bzip2", "--xz", "--zstd"] {
        let root = run(step("ADD", "some.file /opt/new"), &archive(compression)).unwrap();
        assert_eq!(root.paths(), ["/opt", "/opt/new", "/opt/new/d", "/opt/new/d/f", "/opt/new/d/l", "/opt/new/d/z"]);
        let file = root.entry(b"/opt/new/d/f").unwrap();
        assert_eq!((file.content.len(), file.owner), (2_500_000, Owner { uid: 1234, gid: 2345 }), "{compression}");
        assert_eq!(file.mtime.unwrap().seconds, 1_000_000_000);
        assert_eq!(root.entry(b"/opt/new/d/l").unwrap().kind, Kind::Symlink);
        assert_eq!(root.entry(b"/opt/new/d/z").unwrap().content.len(), 2_500_000);
        assert_eq!(root.entry(b"/opt/new").unwrap().owner, Owner { uid: 0, gid: 0 });
    }
}

#[test]
fn chown_counts_for_what_is_unpacked() {
    let root = run(step("ADD", "some.file /x").flag("chown", Some("5:6")), &archive("--gzip")).unwrap();
    for path in ["/x", "/x/d", "/x/d/f", "/x/d/l"] {
        assert_eq!(root.entry(path.as_bytes()).unwrap().owner, Owner { uid: 5, gid: 6 }, "{path}");
    }
}

#[test]
fn chmod_does_not_count_for_what_is_unpacked() {
    let mut tree = MemoryTree::default();
    tree.add_file(b"/some.file", &archive("--gzip"));
    let root = MemoryRoot::default();
    let add = step("ADD", "some.file /x").flag("chmod", Some("600")).build();
    let findings = Add::apply(&add, &root, &[&tree], None).unwrap();
    assert_eq!(findings.into_iter().map(|finding| finding.code).collect::<Vec<_>>(), ["FlagWithoutEffect"]);
    assert_ne!(root.entry(b"/x/d/f").unwrap().mode, 0o600);
}

#[test]
fn unpacking_can_be_turned_off() {
    let content = archive("--gzip");
    let root = run(step("ADD", "some.file /x").flag("unpack", Some("false")), &content).unwrap();
    assert_eq!(root.content(b"/x").unwrap(), content);
}

#[test]
fn other_files_are_copied() {
    let root = run(step("ADD", "some.file plain /x/"), b"\x1f\x8b\x08 not an archive").unwrap();
    assert_eq!(root.paths(), ["/x", "/x/plain", "/x/some.file"]);
    let root = run(step("ADD", "<<EOF /x").heredoc("EOF", "text"), b"").unwrap();
    assert_eq!(root.content(b"/x").unwrap(), b"text");
}

#[test]
fn a_damaged_archive_fails_by_name() {
    let content = archive("--gzip");
    let error = run(step("ADD", "some.file /x"), &content[..content.len() / 2]).unwrap_err();
    let Error::Invalid(finding) = error else { panic!() };
    assert_eq!(finding.code, "MalformedArchive");
    assert!(finding.message.starts_with("`some.file` can't be unpacked"), "{}", finding.message);
}

const URL: &str = "https://x.example/dir/a.tgz";

fn fetched(content: &[u8]) -> MemoryTree {
    let mut tree = MemoryTree::default();
    tree.add_file(b"/content", content).set_digest(&format!("sha256:{}", "0f".repeat(32)));
    tree
}

fn repository() -> MemoryTree {
    let mut tree = MemoryTree::default();
    tree.add_file(b"/code/main", b"main")
        .add_file(b"/README", b"read")
        .set_revision("0123456789abcdef0123456789abcdef01234567");
    tree
}

fn apply(step: StepBuilder, trees: &[&MemoryTree]) -> Result<MemoryRoot, Error> {
    let root = MemoryRoot::default();
    let trees: Vec<&dyn Tree> = trees.iter().map(|tree| *tree as &dyn Tree).collect();
    Add::apply(&step.build(), &root, &trees, None).map(|_| root)
}

fn refusal(result: Result<MemoryRoot, Error>) -> String {
    let Err(Error::Invalid(finding)) = result else { panic!("{:?}", result.map(|root| root.paths())) };
    format!("{}: {}", finding.code, finding.message)
}

#[test]
fn a_url_is_a_read_and_its_file_is_called_as_the_url_ends() {
    let planned = Add::plan(&step("ADD", &format!("{URL} /x/")).build()).unwrap();
    assert_eq!(planned.reads, [Read::Url(URL.to_owned())]);
    let tree = fetched(b"bytes");
    assert_eq!(apply(step("ADD", &format!("{URL} /x/")), &[&tree]).unwrap().content(b"/x/a.tgz").unwrap(), b"bytes");
    assert_eq!(apply(step("ADD", &format!("{URL} /y")), &[&tree]).unwrap().content(b"/y").unwrap(), b"bytes");
    assert_eq!(codes(step("ADD", "https://x.example/ /x/")), ["NoFileName"]);
    assert_eq!(apply(step("ADD", "https://x.example/ /y"), &[&tree]).unwrap().content(b"/y").unwrap(), b"bytes");
}

#[test]
fn a_fetched_archive_is_unpacked_only_if_that_is_asked_for() {
    let content = archive("--gzip");
    let tree = fetched(&content);
    assert_eq!(apply(step("ADD", &format!("{URL} /x/")), &[&tree]).unwrap().content(b"/x/a.tgz").unwrap(), content);
    let unpacked = apply(step("ADD", &format!("{URL} /x")).flag("unpack", Some("true")), &[&tree]).unwrap();
    assert_eq!(unpacked.paths(), ["/x", "/x/d", "/x/d/f", "/x/d/l", "/x/d/z"]);
}

#[test]
fn fetched_sources_and_those_of_the_context_go_together() {
    let words = format!("plain {URL} git://x/a https://x/b.git#v1:d /all/");
    let planned = Add::plan(&step("ADD", &words).build()).unwrap();
    assert!(matches!(&planned.reads[0], Read::Tree(read) if read.patterns == [b"/plain".to_vec()]));
    let git = |url: &str| Read::Git(url.to_owned());
    assert_eq!(planned.reads[1..], [Read::Url(URL.to_owned()), git("git://x/a"), git("https://x/b.git#v1:d")]);
    let mut context = MemoryTree::default();
    context.add_file(b"/plain", b"plain");
    let other = MemoryTree::default();
    let root = apply(step("ADD", &words), &[&context, &fetched(b"f"), &repository(), &other]).unwrap();
    assert_eq!(root.paths(), ["/all", "/all/README", "/all/a.tgz", "/all/code", "/all/code/main", "/all/plain"]);
    let kept = Add::plan(&step("ADD", "git://x/a#b /x/").flag("keep-git-dir", None).build()).unwrap();
    assert_eq!(kept.reads, [git("git://x/a?keep-git-dir=true#b")]);
}

#[test]
fn a_checksum_is_compared() {
    let digest = format!("sha256:{}", "0F".repeat(32));
    let with = |words: &str, checksum: &str| step("ADD", words).flag("checksum", Some(checksum));
    let url = format!("{URL} /x");
    assert!(apply(with(&url, &digest), &[&fetched(b"f")]).is_ok());
    let said = refusal(apply(with(&url, &format!("sha256:{}", "00".repeat(32))), &[&fetched(b"f")]));
    assert!(said.starts_with("ChecksumMismatch") && said.contains("has the digest sha256:0f0f"), "{said}");
    assert!(apply(with("git://x/a /x", "0123456"), &[&repository()]).is_ok());
    let said = refusal(apply(with("git://x/a /x", "fedcba9"), &[&repository()]));
    assert!(said.contains("is at commit 0123456789abcdef") && said.contains("not fedcba9"), "{said}");
    assert_eq!(codes(with(&url, "md5:00")), ["InvalidChecksum"]);
    assert_eq!(codes(with(&url, "0123456")), ["InvalidChecksum"]);
    assert_eq!(codes(with("git://x/a /x", "012345")), ["InvalidChecksum"]);
    assert_eq!(codes(with("git://x/a git://x/b /x/", "0123456")), ["FlagWithoutEffect"]);
}

#[test]
fn flags_of_remote_sources_are_errors_without_one() {
    let add = step("ADD", "plain /x").flag("checksum", Some("sha256:00")).flag("keep-git-dir", None);
    assert_eq!(codes(add), ["FlagWithoutEffect", "FlagWithoutEffect"]);
    assert_eq!(codes(step("ADD", "plain /x").flag("from", Some("base"))), ["UnknownFlag"]);
    assert_eq!(codes(step("ADD", "plain /x").flag("unpack", Some("maybe"))), ["InvalidFlagValue"]);
}

/// One entry of a tar archive without content (ustar, POSIX.1-1988).
fn entry(name: &str, kind: u8, target: &str) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    let mut field = |offset: usize, text: &str| header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    field(0, name);
    field(100, "0000755\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, "00000000000\0");
    field(136, "00000000000\0");
    field(148, "        ");
    field(156, std::str::from_utf8(&[kind]).unwrap());
    field(157, target);
    field(257, "ustar\0");
    field(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn to_an_archive_the_destination_is_the_root() {
    let unpacked = |entries: &[Vec<u8>]| {
        let archive = [entries.concat(), vec![0; 1024]].concat();
        run(step("ADD", "some.file /opt/new"), &archive)
    };
    let root = unpacked(&[
        entry("up", b'2', "../.."),
        entry("up/etc/x", b'0', ""),
        entry("etc/here", b'2', "/etc/up"),
        entry("etc/up", b'2', "../srv"),
        entry("etc/here/y", b'0', ""),
        entry("etc/here/z", b'1', "up/etc/x"),
        entry("up", b'5', ""),
        entry("up/own", b'0', ""),
    ]);
    let paths = root.unwrap().paths();
    let of = |name: &str| paths.iter().any(|path| path == name);
    assert!(of("/opt/new/etc/x") && of("/opt/new/srv/y") && of("/opt/new/srv/z") && of("/opt/new/up/own"), "{paths:?}");
    assert!(paths.iter().all(|path| path == "/opt" || path.starts_with("/opt/new")), "{paths:?}");
    let circle = unpacked(&[entry("a", b'2', "b"), entry("b", b'2', "a"), entry("a/x", b'0', "")]);
    let Err(Error::Invalid(finding)) = circle else { panic!() };
    assert!(finding.message.contains("too many symbolic links"), "{}", finding.message);
}
