//! What a RUN did, as overlayfs leaves it: crafted upper directories, and one of a real mount.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests make the trees that they look at")]

use std::{
    collections::BTreeMap,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use cofferdam_rootfs::{
    Change, ChangeSet, ConfinedDir, DirectoryTree, IndexEntry, Kind, LayerIndex, MergedIndex, Metadata, Owner,
    RootPath, RootfsError, Timestamp, Tree, UnpackForm, Unpacker,
    upper::{self, OwnerSource},
};
use rustix::fs::{CWD, FileType, XattrFlags};

fn path(text: impl AsRef<[u8]>) -> RootPath {
    RootPath::new(text).unwrap()
}

/// A base layer, unpacked for real, and a place for an upper directory.
struct Base {
    real: tempfile::TempDir,
    index: LayerIndex,
    form: UnpackForm,
}

const THEN: Timestamp = Timestamp { seconds: 1_000_000, nanoseconds: 0 };

impl Base {
    /// From lines: `d path mode`, `f path mode`, `l path target`, `h path target`; owned by 5:6 if `Real`.
    fn new(form: UnpackForm, lines: &str) -> Self {
        let real = tempfile::tempdir().unwrap();
        for name in ["base", "upper", "work", "merged"] {
            std::fs::create_dir(real.path().join(name)).unwrap();
        }
        std::fs::set_permissions(real.path().join("upper"), PermissionsExt::from_mode(0o755)).unwrap();
        let mut base = Self { real, index: LayerIndex::default(), form };
        let target = Arc::new(ConfinedDir::open(&base.at("base")).unwrap());
        let mut unpacker = Unpacker::new(target, form);
        for line in lines.split(';').map(str::trim) {
            let words: Vec<&str> = line.split(' ').collect();
            let mode = u32::from_str_radix(words[2], 8).unwrap_or(0o644);
            let kind = match words[0] {
                "d" => Kind::Directory,
                "l" => Kind::Symlink { target: words[2].into() },
                _ => Kind::File { size: 3 },
            };
            let hard_link = (words[0] == "h").then(|| path(words[2]));
            let owner = Owner { uid: 5, gid: 6 };
            let metadata = Metadata { kind, mode, owner, mtime: THEN, xattrs: BTreeMap::new() };
            unpacker.entry(&path(words[1]), &metadata, hard_link.as_ref(), &mut &b"old"[..]).unwrap();
            base.index.entries.insert(&path(words[1]), &IndexEntry::Present { metadata, hard_link, opaque: false });
        }
        unpacker.finish().unwrap();
        base
    }

    fn at(&self, name: &str) -> PathBuf {
        self.real.path().join(name)
    }

    fn upper(&self, name: &str) -> PathBuf {
        self.at("upper").join(name)
    }

    /// Copies up as overlayfs does: everything stays.
    fn copy_up(&self, name: &str) {
        let copied = Command::new("cp").arg("-a").arg(self.at("base").join(name)).arg(self.upper(name)).status();
        assert!(copied.unwrap().success());
    }

    /// A directory as it is, without its content.
    fn copy_up_directory(&self, name: &str) {
        std::fs::create_dir(self.upper(name)).unwrap();
        let base = self.at("base").join(name);
        let chmod = Command::new("chmod").arg("--reference").arg(base).arg(self.upper(name)).status();
        assert!(chmod.unwrap().success());
        if self.form == UnpackForm::Real {
            std::os::unix::fs::chown(self.upper(name), Some(5), Some(6)).unwrap();
        }
    }

    fn changes_with(&self, owners: OwnerSource, leave_out: &[RootPath]) -> Result<ChangeSet, RootfsError> {
        let upper = Arc::new(ConfinedDir::open(&self.at("upper")).unwrap());
        let below = MergedIndex::new(vec![Arc::new(self.index.clone())]);
        upper::changes(&upper, &below, owners, leave_out)
    }

    fn changes(&self) -> ChangeSet {
        let owners = if self.form == UnpackForm::Real { OwnerSource::Real } else { OwnerSource::SingleId };
        self.changes_with(owners, &[]).unwrap()
    }
}

/// `kind mode uid path`, with what is special and the text of files.
fn listing(changes: &ChangeSet) -> Vec<String> {
    let line = |(path, change): (&RootPath, &Change)| match change {
        Change::Remove => format!("w {path}"),
        Change::Put { metadata, hard_link, opaque, content } => {
            let kind = match &metadata.kind {
                Kind::File { .. } => "f",
                Kind::Directory => "d",
                Kind::Symlink { .. } => "l",
                Kind::Fifo => "p",
                _ => "?",
            };
            let link = hard_link.as_ref().map(|target| format!(" = {target}")).unwrap_or_default();
            let opaque = if *opaque { " opaque" } else { "" };
            let text = content.as_ref().map(|content| {
                let mut text = String::new();
                content.open().unwrap().read_to_string(&mut text).unwrap();
                format!(" '{text}'")
            });
            let text = text.unwrap_or_default();
            format!("{kind} {:o} {} {path}{link}{opaque}{text}", metadata.mode, metadata.owner.uid)
        }
    };
    changes.changes.iter().map(line).collect()
}

fn can_make_devices() -> bool {
    let real = tempfile::tempdir().unwrap();
    let made = rustix::fs::mknodat(CWD, real.path().join("x"), FileType::CharacterDevice, 0o600.into(), 0);
    if made.is_err() {
        println!("skipped: whiteouts (needs root or a user namespace)");
    }
    made.is_ok()
}

fn whiteout(at: PathBuf) {
    rustix::fs::mknodat(CWD, at, FileType::CharacterDevice, 0o600.into(), 0).unwrap();
}

fn mark(at: &Path, name: &str, value: &str) {
    rustix::fs::setxattr(at, name, value.as_bytes(), XattrFlags::empty()).unwrap();
}

#[test]
fn what_was_copied_up_and_not_changed_is_no_change() {
    let base = Base::new(UnpackForm::SingleId, "d etc 755; f etc/conf 644; l etc/link conf");
    base.copy_up_directory("etc");
    base.copy_up("etc/conf");
    base.copy_up("etc/link");
    assert!(base.changes().is_empty());
    std::fs::set_permissions(base.upper("etc/conf"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(listing(&base.changes()), ["d 755 5 /etc", "f 600 5 /etc/conf 'old'"]);
}

#[test]
fn new_and_changed_entries_come_with_their_parents() {
    let base = Base::new(UnpackForm::SingleId, "d etc 755; f etc/conf 644; d etc/sub 755; d var 755");
    base.copy_up_directory("etc");
    base.copy_up_directory("etc/sub");
    base.copy_up_directory("var");
    std::fs::write(base.upper("etc/conf"), "new").unwrap();
    std::fs::create_dir(base.upper("new")).unwrap();
    std::fs::write(base.upper("new/file"), "text").unwrap();
    symlink("/anywhere", base.upper("new/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(base.upper("new/socket")).unwrap();
    assert_eq!(
        listing(&base.changes()),
        ["d 755 5 /etc", "f 644 5 /etc/conf 'new'", "d 755 0 /new", "f 644 0 /new/file 'text'", "l 777 0 /new/link"]
    );
}

#[test]
fn whiteouts_count_where_there_was_something() {
    if !can_make_devices() {
        return;
    }
    let base = Base::new(UnpackForm::SingleId, "d dir 755; f dir/a 644; f b 644; d gone 755; f gone/x 644");
    base.copy_up_directory("dir");
    whiteout(base.upper("dir/a"));
    whiteout(base.upper("dir/never"));
    whiteout(base.upper("never"));
    std::fs::create_dir(base.upper("gone")).unwrap();
    mark(&base.upper("gone"), "user.overlay.opaque", "y");
    whiteout(base.upper("gone/x"));
    assert_eq!(listing(&base.changes()), ["d 755 5 /dir", "w /dir/a", "d 755 5 /gone opaque"]);
}

#[test]
fn opaque_marks_count_where_they_hide_something() {
    let base = Base::new(UnpackForm::SingleId, "d dir 755; f dir/a 644; f file 644");
    for name in ["dir", "new", "file"] {
        std::fs::create_dir(base.upper(name)).unwrap();
        mark(&base.upper(name), "user.overlay.opaque", "y");
        std::fs::write(base.upper(name).join("a"), "new").unwrap();
    }
    assert_eq!(
        listing(&base.changes()),
        [
            "d 755 5 /dir opaque",
            "f 644 0 /dir/a 'new'",
            "d 755 0 /file",
            "f 644 0 /file/a 'new'",
            "d 755 0 /new",
            "f 644 0 /new/a 'new'"
        ]
    );
    for change in base.changes().changes.values() {
        let Change::Put { metadata, .. } = change else { panic!() };
        assert!(metadata.xattrs.is_empty());
    }
}

#[test]
fn names_of_one_file_stay_hard_links() {
    let base = Base::new(UnpackForm::SingleId, "f same 644; f old 644");
    std::fs::write(base.upper("z"), "text").unwrap();
    std::fs::hard_link(base.upper("z"), base.upper("a")).unwrap();
    // `ln old linked`: the file is copied up as it is, and needed in the layer.
    base.copy_up("old");
    std::fs::hard_link(base.upper("old"), base.upper("linked")).unwrap();
    base.copy_up("same");
    assert_eq!(
        listing(&base.changes()),
        ["f 644 0 /a 'text'", "f 644 5 /linked 'old'", "f 644 5 /old = /linked", "f 644 0 /z = /a"]
    );
}

#[test]
fn mount_points_of_the_executor_are_left_out() {
    let base = Base::new(UnpackForm::SingleId, "d etc 755");
    base.copy_up_directory("etc");
    std::fs::write(base.upper("etc/resolv.conf"), "").unwrap();
    std::fs::create_dir(base.upper("proc")).unwrap();
    std::fs::create_dir_all(base.upper("run/secrets")).unwrap();
    let leave_out = ["etc/resolv.conf", "proc", "run", "run/secrets"].map(path);
    assert!(base.changes_with(OwnerSource::SingleId, &leave_out).unwrap().is_empty());
    std::fs::write(base.upper("run/pid"), "1").unwrap();
    let changes = base.changes_with(OwnerSource::SingleId, &leave_out).unwrap();
    assert_eq!(listing(&changes), ["d 755 0 /run", "f 644 0 /run/pid '1'"]);
}

#[test]
fn redirected_entries_are_refused_by_name() {
    let base = Base::new(UnpackForm::SingleId, "d dir 755");
    std::fs::create_dir(base.upper("moved")).unwrap();
    mark(&base.upper("moved"), "user.overlay.redirect", "/dir");
    let refused = base.changes_with(OwnerSource::SingleId, &[]).err();
    assert!(matches!(refused, Some(RootfsError::Unsupported { path: at, .. }) if at == path("moved")));
}

/// The forms that work here: `Real` where owners can be given away, `SingleId` where user namespaces can be made.
fn forms() -> Vec<UnpackForm> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut forms = Vec::new();
    match std::os::unix::fs::chown(file.path(), Some(5), Some(6)) {
        Ok(()) => forms.push(UnpackForm::Real),
        Err(error) => println!("skipped: a real overlay mount as root ({error})"),
    }
    match Command::new("unshare").args(["-Urm", "true"]).output() {
        Ok(made) if made.status.success() => forms.push(UnpackForm::SingleId),
        made => println!("skipped: a real overlay mount in a user namespace ({made:?})"),
    }
    forms
}

/// Mounts in namespaces of its own, runs `script` in the merged directory, and leaves the upper directory.
fn run_on_overlay(base: &Base, script: &str) -> bool {
    let at = |name: &str| base.at(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={},userxattr", at("base"), at("upper"), at("work"));
    let mounted = format!("mount -t overlay overlay -o {options} {0} && cd {0} || exit 77; {script}", at("merged"));
    let namespaces = if base.form == UnpackForm::Real { "-m" } else { "-Urm" };
    let ran = Command::new("unshare").args([namespaces, "sh", "-ec", &mounted]).output().unwrap();
    if ran.status.code() == Some(77) || String::from_utf8_lossy(&ran.stderr).contains("unshare failed") {
        println!("skipped: a real overlay mount ({})", String::from_utf8_lossy(&ran.stderr).trim());
        return false;
    }
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    true
}

#[test]
fn a_real_mount_gives_what_the_script_did() {
    for form in forms() {
        let lines = "d etc 755; f etc/conf 644; f etc/other 600; d data 700; f data/x 644; f data/y 644; d d2 755; \
                     f d2/x 644; f kept 644; f touched 4755; h again touched; l link kept";
        let base = Base::new(form, lines);
        let script = "
            echo new > etc/conf; chmod 640 etc/other; chown 9:9 etc/other || :; : >> kept
            rm -r data; mkdir -m 750 data; echo z > data/z
            rm d2/x; rm -r d2; rm link
            mkdir -p a/b; echo deep > a/b/c; ln a/b/c a/link; ln kept hard; mkfifo -m 600 pipe
            chmod 1777 .; chmod 755 .; mkdir empty; rmdir empty; ls -R etc > /dev/null";
        if !run_on_overlay(&base, script) {
            continue;
        }
        // With a single id, what stands where something stood keeps its owner, and chown can't do a thing.
        let (replaced, given) = if form == UnpackForm::Real { (0, 9) } else { (5, 5) };
        assert_eq!(
            listing(&base.changes()),
            [
                "d 755 0 /a",
                "d 755 0 /a/b",
                "f 644 0 /a/b/c 'deep\n'",
                "f 644 0 /a/link = /a/b/c",
                "w /d2",
                &format!("d 750 {replaced} /data opaque"),
                "f 644 0 /data/z 'z\n'",
                "d 755 5 /etc",
                "f 644 5 /etc/conf 'new\n'",
                &format!("f 640 {given} /etc/other 'old'"),
                // A new name needs its file in the layer, even one that is as it was.
                "f 644 5 /hard 'old'",
                "f 644 5 /kept = /hard",
                "w /link",
                "p 600 0 /pipe",
            ],
            "{form:?}"
        );
    }
}

#[test]
fn unpacked_layers_mount_as_they_merge() {
    for form in forms() {
        mounts_as_it_merges(form);
    }
}

fn mounts_as_it_merges(form: UnpackForm) {
    // The upper directory stands for a second layer, written by the unpacker.
    let base = Base::new(form, "d a 755; f a/x 644; d b 755; f b/x 644; f c 644; d d 755; f d/x 644; f f 644");
    let mut unpacker = Unpacker::new(Arc::new(ConfinedDir::open(&base.at("upper")).unwrap()), form);
    let mut second = LayerIndex::default();
    let file = Metadata {
        kind: Kind::File { size: 1 },
        mode: 0o600,
        owner: Owner::default(),
        mtime: THEN,
        xattrs: BTreeMap::new(),
    };
    let directory = Metadata { kind: Kind::Directory, mode: 0o755, ..file.clone() };
    let put = |metadata: &Metadata, opaque| IndexEntry::Present { metadata: metadata.clone(), hard_link: None, opaque };
    unpacker.whiteout(&path("c")).unwrap();
    second.entries.insert(&path("c"), &IndexEntry::Whiteout);
    unpacker.whiteout(&path("a/x")).unwrap();
    second.entries.insert(&path("a/x"), &IndexEntry::Whiteout);
    unpacker.entry(&path("b"), &directory, None, &mut std::io::empty()).unwrap();
    unpacker.opaque(&path("b")).unwrap();
    second.entries.insert(&path("b"), &put(&directory, true));
    unpacker.entry(&path("b/y"), &file, None, &mut &b"y"[..]).unwrap();
    second.entries.insert(&path("b/y"), &put(&file, false));
    unpacker.entry(&path("d"), &file, None, &mut &b"d"[..]).unwrap();
    second.entries.insert(&path("d"), &put(&file, false));
    unpacker.entry(&path("f/x"), &file, None, &mut &b"x"[..]).unwrap();
    second.entries.insert(&path("f/x"), &put(&file, false));
    unpacker.finish().unwrap();
    let merged = MergedIndex::new(vec![Arc::new(base.index.clone()), Arc::new(second)]);
    let mut expected = Vec::new();
    merged.for_each(|path, _| expected.push(format!(".{path}")));
    let listed = base.at("listed");
    if run_on_overlay(&base, &format!("find . -mindepth 1 > {}", listed.display())) {
        let mut found: Vec<String> = std::fs::read_to_string(listed).unwrap().lines().map(str::to_owned).collect();
        found.sort();
        assert_eq!(found, expected);
    }
}

#[test]
fn removing_an_unpacked_layer_leaves_the_rest() {
    let base = Base::new(UnpackForm::SingleId, "d dir 0; f dir/x 0; l dir/out /etc");
    let root = ConfinedDir::open(base.real.path()).unwrap();
    root.remove_all(&path("base")).unwrap();
    assert_eq!(root.read_directory(&RootPath::root()).unwrap(), [&b"merged"[..], b"upper", b"work"]);
    assert_ne!(std::fs::metadata("/etc").unwrap().size(), 0);
    let tree = DirectoryTree::new(Arc::new(root));
    assert_eq!(tree.metadata(&path("base"), false).unwrap(), None);
}
