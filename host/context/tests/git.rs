//! Facts of checkouts that git itself made, and of hostile ones.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test starts git and makes files")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use cofferdam_context::{ContextError, GitFacts, git_facts};

const COMMIT_TIME: i64 = 1_700_000_000;

fn git_in(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=trunk"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_COMMITTER_DATE", format!("{COMMIT_TIME} +0200"))
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Whether git is here; says so where it is not, and fails where all tests are demanded.
fn have_git() -> bool {
    let found = Command::new("git").arg("--version").output().is_ok();
    if !found {
        let demanded = std::env::var_os("COFFERDAM_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!demanded, "git is missing: run scripts/install-test-tools.sh");
        eprintln!("SKIPPED: git is missing; scripts/install-test-tools.sh installs it");
    }
    found
}

fn checkout() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    git_in(place.path(), &["init", "-q"]);
    fs::create_dir_all(path("service/deep")).unwrap();
    fs::write(path("service/file"), "content\n").unwrap();
    fs::write(path("service/deep/other"), "other\n").unwrap();
    fs::write(path("script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("service/file", path("link")).unwrap();
    git_in(place.path(), &["add", "."]);
    git_in(place.path(), &["commit", "-q", "-m", "first"]);
    place
}

fn facts(directory: &Path) -> GitFacts {
    git_facts(directory).unwrap().unwrap()
}

#[test]
fn commit_branch_tags_and_time_are_those_of_git() {
    if !have_git() {
        return;
    }
    let place = checkout();
    let git = |arguments: &[&str]| git_in(place.path(), arguments);
    git(&["commit", "-q", "--allow-empty", "-m", "second"]);
    for (name, arguments) in [("v1.0", &["-m", "annotated"][..]), ("light", &[]), ("also/slashed", &[])] {
        git(&[&["tag", name], arguments].concat());
    }
    git(&["tag", "old", "HEAD~1"]);
    git(&["tag", "-m", "nested", "nested", "v1.0"]);
    let expected = GitFacts {
        commit: git(&["rev-parse", "HEAD"]),
        branch: Some("trunk".to_owned()),
        tags: ["also/slashed", "light", "nested", "v1.0"].map(str::to_owned).to_vec(),
        default_branch: None,
        commit_time: COMMIT_TIME,
        dirty: false,
    };
    assert_eq!(facts(place.path()), expected);
    assert_eq!(facts(&place.path().join("service/deep")), expected, "a directory of the checkout");

    git(&["pack-refs", "--all"]);
    git(&["gc", "-q"]);
    assert_eq!(facts(place.path()), expected, "packed");

    git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
    git(&["checkout", "-q", "-b", "feature/x"]);
    let on_branch = facts(place.path());
    assert_eq!(on_branch.default_branch.as_deref(), Some("main"));
    assert_eq!(on_branch.branch.as_deref(), Some("feature/x"));

    git(&["checkout", "-q", "--detach", "HEAD~1"]);
    let detached = facts(place.path());
    assert_eq!((detached.branch, &*detached.tags), (None, &["old".to_owned()][..]));

    let linked = tempfile::tempdir().unwrap();
    let tree = linked.path().join("tree");
    git(&["worktree", "add", "-q", tree.to_str().unwrap(), "trunk"]);
    assert_eq!(facts(&tree).commit, expected.commit);
    assert!(!facts(&tree).dirty);
}

#[test]
fn only_what_differs_from_the_commit_is_dirty() {
    if !have_git() {
        return;
    }
    type Change = fn(&Path);
    let changes: [(&str, bool, Change); 11] = [
        ("nothing", false, |_| {}),
        ("an untracked file", false, |root| fs::write(root.join("new"), "x").unwrap()),
        ("another time", false, |root| {
            let file = fs::File::options().write(true).open(root.join("service/file")).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(100)).unwrap();
        }),
        ("the same content again", false, |root| fs::write(root.join("service/file"), "content\n").unwrap()),
        ("other content of the same size", true, |root| fs::write(root.join("service/file"), "CONTENT\n").unwrap()),
        ("a removed file", true, |root| fs::remove_file(root.join("service/deep/other")).unwrap()),
        ("a removed directory", true, |root| fs::remove_dir_all(root.join("service")).unwrap()),
        ("another mode", true, |root| {
            fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("another link", true, |root| {
            fs::remove_file(root.join("link")).unwrap();
            symlink("script", root.join("link")).unwrap();
        }),
        ("a file instead of a directory", true, |root| {
            fs::remove_dir_all(root.join("service")).unwrap();
            fs::write(root.join("service"), "").unwrap();
        }),
        ("something staged", true, |root| {
            fs::write(root.join("staged"), "x").unwrap();
            git_in(root, &["add", "staged"]);
        }),
    ];
    for (name, dirty, change) in changes {
        let place = checkout();
        change(place.path());
        assert_eq!(facts(place.path()).dirty, dirty, "{name}");
        // Without the cached tree of the index, the commit's trees are compared one by one.
        git_in(place.path(), &["read-tree", "HEAD"]);
        git_in(place.path(), &["update-index", "-q", "--index-version", "4"]);
        let staged = name == "something staged";
        assert_eq!(facts(place.path()).dirty, dirty && !staged, "{name}, index read anew");
    }
}

#[test]
fn what_is_no_checkout_has_no_facts() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(git_facts(place.path()).unwrap(), None);
    fs::create_dir(place.path().join(".git")).unwrap();
    assert_eq!(git_facts(place.path()).unwrap(), None, "an empty .git");
    if have_git() {
        let empty = tempfile::tempdir().unwrap();
        git_in(empty.path(), &["init", "-q"]);
        assert_eq!(git_facts(empty.path()).unwrap(), None, "no commit yet");
    }
}

#[test]
fn nothing_that_the_repository_configures_is_run() {
    if !have_git() {
        return;
    }
    let place = checkout();
    let marker = place.path().join(".git/marker");
    let command = format!("touch {}; cat", marker.display());
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.gitProxy",
        "core.askPass",
        "filter.x.clean",
        "filter.x.smudge",
        "filter.x.process",
        "diff.x.textconv",
        "gpg.program",
        "credential.helper",
    ] {
        git_in(place.path(), &["config", key, &command]);
    }
    fs::write(place.path().join(".gitattributes"), "* filter=x diff=x\n").unwrap();
    fs::write(place.path().join("service/file"), "changed\n").unwrap();
    fs::create_dir_all(place.path().join(".git/hooks")).unwrap();
    for hook in ["post-index-change", "fsmonitor-watchman", "reference-transaction"] {
        let path = place.path().join(".git/hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\n{command}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert!(facts(place.path()).dirty);
    assert!(!marker.exists());
}

#[test]
fn files_that_would_make_a_reader_wait_or_fill_the_memory_are_refused() {
    if !have_git() {
        return;
    }
    let fifo = |path: &Path| {
        drop(fs::remove_file(path));
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    };
    for name in ["HEAD", "config", "index", "refs/tags/x", "objects/info/alternates", "packed-refs"] {
        let place = checkout();
        fifo(&place.path().join(".git").join(name));
        assert!(matches!(git_facts(place.path()), Err(ContextError::Git { .. })), "{name}");
    }
    let place = checkout();
    fs::File::create(place.path().join(".git/packed-refs")).unwrap().set_len(1 << 40).unwrap();
    let error = git_facts(place.path()).unwrap_err().to_string();
    assert!(error.contains("packed-refs") && error.contains("larger"), "{error}");

    let place = checkout();
    fs::create_dir(place.path().join("borrowed")).unwrap();
    fifo(&place.path().join("borrowed/x"));
    fs::write(place.path().join(".git/objects/info/alternates"), "../../borrowed\n").unwrap();
    assert!(matches!(git_facts(place.path()), Err(ContextError::Git { .. })));
}

#[test]
fn a_damaged_repository_is_an_error_and_never_a_panic() {
    if !have_git() {
        return;
    }
    let place = checkout();
    git_in(place.path(), &["tag", "-m", "annotated", "v1"]);
    git_in(place.path(), &["gc", "-q"]);
    let mut files =
        vec![place.path().join(".git/index"), place.path().join(".git/HEAD"), place.path().join(".git/packed-refs")];
    files.extend(fs::read_dir(place.path().join(".git/objects/pack")).unwrap().map(|entry| entry.unwrap().path()));
    for path in files {
        let good = fs::read(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        for position in (0..good.len()).step_by(good.len().div_ceil(60)) {
            let mut bad = good.clone();
            bad[position] ^= 0xff;
            fs::write(&path, &bad).unwrap();
            drop(git_facts(place.path()));
            fs::write(&path, &good[..position]).unwrap();
            drop(git_facts(place.path()));
        }
        fs::write(&path, &good).unwrap();
    }
    assert_eq!(facts(place.path()).tags, ["v1"]);
}

#[test]
fn a_strangers_repository_above_the_context_does_not_count() {
    if !have_git() || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs git, and root to give files away");
        return;
    }
    let place = checkout();
    chown(place.path().join(".git"), Some(12345), None).unwrap();
    assert_eq!(git_facts(&place.path().join("service")).unwrap(), None);
    // The context itself may belong to anybody: CI runners check out as another user.
    assert!(git_facts(place.path()).unwrap().is_some());
}
