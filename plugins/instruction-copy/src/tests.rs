use super::*;
use cofferdam_plugin_sdk::{
    accounts::{GROUP, PASSWD, UNKNOWN},
    fs::{Kind, Owner},
    instruction::{Read, TreeRead, TreeSource},
    testing::{Entry, MemoryRoot, MemoryTree, StepBuilder, step},
};

fn context() -> MemoryTree {
    let mut tree = MemoryTree::default();
    tree.add_file(b"/a.txt", b"a").add_file(b"/b.txt", b"b").add_file(b"/dir/sub/c", b"c").add_file(b"/dir/d", b"d");
    tree.add_symlink(b"/link", b"a.txt").add_symlink(b"/dir/link", b"d").add_symlink(b"/broken", b"nowhere");
    tree.add_file(b"/x[1].txt", b"x");
    tree
}

fn run_on(step: StepBuilder, root: &MemoryRoot) -> Result<Vec<Diagnostic>, Error> {
    Copy::apply(&step.build(), root, &[&context()], None)
}

fn run(step: StepBuilder) -> MemoryRoot {
    let root = MemoryRoot::default();
    assert!(run_on(step, &root).unwrap().is_empty());
    root
}

fn code(step: StepBuilder) -> String {
    Copy::check(&step.build()).remove(0).code
}

#[test]
fn a_file_takes_the_destination_or_goes_into_it() {
    assert_eq!(run(step("COPY", "a.txt /x/y")).content(b"/x/y").unwrap(), b"a");
    assert_eq!(run(step("COPY", "a.txt /x/y/")).content(b"/x/y/a.txt").unwrap(), b"a");
    let root = MemoryRoot::default();
    root.add_file(b"/usr/bin/sh", b"");
    run_on(step("COPY", "a.txt /usr/bin"), &root).unwrap();
    assert_eq!(root.content(b"/usr/bin/a.txt").unwrap(), b"a");
}

#[test]
fn a_directory_gives_its_content() {
    let root = run(step("COPY", "dir /x"));
    assert_eq!(root.paths(), ["/x", "/x/d", "/x/link", "/x/sub", "/x/sub/c"]);
    assert_eq!(root.entry(b"/x/link").unwrap().kind, Kind::Symlink);
}

#[test]
fn the_whole_context_goes_beneath_the_working_directory() {
    let root = run(step("COPY", ". .").state(|state| state.working_directory = "/app".into()));
    assert_eq!(root.content(b"/app/dir/sub/c").unwrap(), b"c");
}

#[test]
fn several_sources_make_a_directory() {
    let root = run(step("COPY", "a.txt dir b.txt /x"));
    assert_eq!(root.content(b"/x/a.txt").unwrap(), b"a");
    assert_eq!(root.content(b"/x/d").unwrap(), b"d");
    assert_eq!(run(step("COPY", "a*.txt /x")).content(b"/x").unwrap(), b"a");
}

#[test]
fn several_files_of_one_pattern_replace_each_other_unless_there_is_a_directory() {
    let root = MemoryRoot::default();
    let warnings = run_on(step("COPY", "[ab].txt /x"), &root).unwrap();
    assert_eq!(root.content(b"/x").unwrap(), b"b");
    assert_eq!((warnings.len(), warnings[0].code.as_str()), (1, "CopyOverwrites"));
    assert_eq!(warnings[0].message, "`b.txt` replaces `a.txt`");
    let root = run(step("COPY", "d* /x"));
    assert_eq!(root.paths(), ["/x", "/x/d", "/x/link", "/x/sub", "/x/sub/c"]);
    let root = MemoryRoot::default();
    root.add_file(b"/x/y", b"");
    assert!(run_on(step("COPY", "[ab].txt /x"), &root).unwrap().is_empty());
    assert_eq!(root.content(b"/x/b.txt").unwrap(), b"b");
}

#[test]
fn an_empty_source_is_the_whole_context() {
    let copy = step("COPY", "").json(&["", "/x"]);
    assert_eq!(code(step("COPY", "").json(&["", "/x"])), "EmptyArgument");
    let root = MemoryRoot::default();
    run_on(copy, &root).unwrap();
    assert_eq!(root.content(b"/x/dir/d").unwrap(), b"d");
}

#[test]
fn a_link_that_was_named_is_followed() {
    let root = run(step("COPY", "link /x/"));
    assert_eq!((root.entry(b"/x/link").unwrap().kind, root.content(b"/x/link").unwrap()), (Kind::File, b"a".to_vec()));
}

#[test]
fn a_source_can_not_leave_the_tree() {
    assert_eq!(run(step("COPY", "../../a.txt /x")).content(b"/x").unwrap(), b"a");
}

#[test]
fn a_plain_name_must_exist_and_a_pattern_need_not() {
    let root = MemoryRoot::default();
    let Err(Error::Invalid(finding)) = run_on(step("COPY", "missing /x"), &root) else { panic!() };
    assert_eq!(finding.code, "SourceNotFound");
    assert_eq!(finding.message, "`missing` does not exist in the build context");
    let Err(Error::Invalid(finding)) = run_on(step("COPY", "missing /x").flag("from", Some("base")), &root) else {
        panic!()
    };
    assert_eq!(finding.message, "`missing` does not exist in `base`");
    let Err(Error::Invalid(finding)) = run_on(step("COPY", "broken /x"), &root) else { panic!() };
    let expected = "`broken` is a symbolic link to `nowhere`, which does not exist in the build context";
    assert_eq!(finding.message, expected);
    let warnings = run_on(step("COPY", "none*.txt [z].txt /x"), &root).unwrap();
    assert_eq!(warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["CopyMatchesNothing"; 2]);
    assert!(root.paths().is_empty());
}

#[test]
fn two_stars_are_any_depth_with_parents_and_one_star_without() {
    let mut tree = MemoryTree::default();
    for path in [&b"/top.t"[..], b"/x/one.t", b"/x/y/two.t"] {
        tree.add_file(path, b"");
    }
    let copied = |flag: bool| {
        let mut step = step("COPY", "**/*.t /to/");
        if flag {
            step = step.flag("parents", None);
        }
        let root = MemoryRoot::default();
        Copy::apply(&step.build(), &root, &[&tree], None).unwrap();
        root.paths()
    };
    assert_eq!(copied(false), ["/to", "/to/one.t"]);
    assert_eq!(copied(true), ["/to", "/to/top.t", "/to/x", "/to/x/one.t", "/to/x/y", "/to/x/y/two.t"]);
}

#[test]
fn owners_come_from_the_image() {
    let copy = step("COPY", "a.txt /new/dir/").flag("chown", Some("web:staff"));
    let root = MemoryRoot::default();
    root.add_file(PASSWD, b"web:x:33:44::/:\n");
    root.add_file(GROUP, b"staff:x:50:\n");
    run_on(copy, &root).unwrap();
    assert_eq!(root.entry(b"/new/dir/a.txt").unwrap().owner, Owner { uid: 33, gid: 50 });
    let warnings = run_on(step("COPY", "a.txt /x").flag("chown", Some("nobody:staff")), &root).unwrap();
    assert_eq!(warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), [UNKNOWN]);
    assert_eq!(root.entry(b"/x").unwrap().owner, Owner { uid: 0, gid: 50 });
}

#[test]
fn owners_are_kept_from_stages_but_not_from_the_context() {
    let mut tree = MemoryTree::default();
    tree.add_file(b"/f", b"");
    let theirs = Owner { uid: 100, gid: 200 };
    let entry = tree.entry(b"/f").unwrap();
    tree.add(b"/f", Entry { owner: theirs, ..entry });
    for (from, owner) in [(Some("base"), theirs), (None, Owner { uid: 0, gid: 0 })] {
        let mut step = step("COPY", "/f /x");
        if from.is_some() {
            step = step.flag("from", from);
        }
        let root = MemoryRoot::default();
        Copy::apply(&step.build(), &root, &[&tree], None).unwrap();
        assert_eq!(root.entry(b"/x").unwrap().owner, owner, "{from:?}");
    }
}

#[test]
fn modes_are_changed() {
    assert_eq!(run(step("COPY", "a.txt /x").flag("chmod", Some("4711"))).entry(b"/x").unwrap().mode, 0o4711);
    let copy = step("COPY", "<<EOF /x").heredoc("EOF", "").flag("chmod", Some("u+x,go="));
    assert_eq!(run(copy).entry(b"/x").unwrap().mode, 0o700);
}

#[test]
fn here_documents_are_files() {
    let copy = step("COPY", "<<A <<-\"B\" a.txt /x/").heredoc("A", "one\n").heredoc("B", "two\n");
    let root = run(copy.flag("chown", Some("5:6")));
    assert_eq!(root.content(b"/x/A").unwrap(), b"one\n");
    assert_eq!(root.content(b"/x/B").unwrap(), b"two\n");
    assert_eq!(root.content(b"/x/a.txt").unwrap(), b"a");
    assert_eq!(root.entry(b"/x").unwrap().owner, Owner { uid: 5, gid: 6 });
    let root = run(step("COPY", "<<EOF /etc/motd").heredoc("EOF", "hi\n"));
    assert_eq!(
        (root.content(b"/etc/motd").unwrap(), root.entry(b"/etc/motd").unwrap().mode),
        (b"hi\n".to_vec(), 0o644)
    );
}

#[test]
fn what_a_pattern_matched_can_be_excluded() {
    let root = run(step("COPY", "*.txt /x/").flag("exclude", Some("b*")).flag("exclude", Some("x*")));
    assert_eq!(root.paths(), ["/x", "/x/a.txt"]);
    let root = run(step("COPY", "dir /x/").flag("exclude", Some("sub")));
    assert_eq!(root.paths(), ["/x", "/x/d", "/x/link"]);
}

#[test]
fn only_what_matters_is_read() {
    let reads = |step: StepBuilder| Copy::plan(&step.build()).unwrap().reads;
    let tree = |source, patterns: &[&str]| {
        let patterns = patterns.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
        Read::Tree(TreeRead { source, patterns, exclude: Vec::new() })
    };
    assert_eq!(reads(step("COPY", "./a /x/")), [tree(TreeSource::Context, &["/a"])]);
    assert_eq!(
        reads(step("COPY", "a /x").flag("chown", Some("web"))),
        [tree(TreeSource::Context, &["/a"]), Read::RootfsPath(b"/x".to_vec()), Read::RootfsPath(PASSWD.to_vec())]
    );
    let from = TreeSource::Named("base".into());
    assert_eq!(reads(step("COPY", "a b /x").flag("from", Some("base"))), [tree(from, &["/a", "/b"])]);
    assert_eq!(reads(step("COPY", "<<EOF /x/").heredoc("EOF", "")), []);
}

#[test]
fn mistakes_have_names() {
    assert_eq!(code(step("COPY", "a")), "MissingArgument");
    assert_eq!(code(step("COPY", "a b").flag("parents", Some("some"))), "InvalidFlagValue");
    assert_eq!(code(step("COPY", "a b").flag("unpack", None)), "UnknownFlag");
    assert_eq!(code(step("COPY", "a b").flag("from", Some(""))), "MissingFlagValue");
    assert_eq!(code(step("COPY", "a b").flag("chown", Some("a:b:c"))), "InvalidOwner");
    assert_eq!(code(step("COPY", "a b").flag("chmod", Some("rw"))), "InvalidMode");
    assert!(Copy::check(&step("COPY", "a b").flag("link", Some("false")).build()).is_empty());
}

#[test]
fn parents_are_kept_behind_the_pivot() {
    let root = run(step("COPY", "dir/sub/c a.txt /x").flag("parents", None));
    assert_eq!(root.paths(), ["/x", "/x/a.txt", "/x/dir", "/x/dir/sub", "/x/dir/sub/c"]);
    let root = run(step("COPY", "dir/./sub /x/").flag("parents", None));
    assert_eq!(root.paths(), ["/x", "/x/sub", "/x/sub/c"]);
    let root = run(step("COPY", "./dir/d /x").flag("parents", None));
    assert_eq!(root.paths(), ["/x", "/x/dir", "/x/dir/d"]);
    let root = run(step("COPY", "./ /x").flag("parents", None).flag("chown", Some("7")));
    assert_eq!(root.content(b"/x/dir/d").unwrap(), b"d");
    assert_eq!(root.entry(b"/x/dir").unwrap().owner, Owner { uid: 7, gid: 7 });
}

#[test]
fn a_linked_copy_does_not_look_at_what_is_below() {
    let root = MemoryRoot::default();
    root.add_file(b"/usr/bin/sh", b"");
    let linked = || step("COPY", "a.txt /usr/bin").flag("link", None);
    run_on(linked(), &root).unwrap();
    assert_eq!(root.content(b"/usr/bin").unwrap(), b"a");
    let planned = Copy::plan(&linked().build()).unwrap();
    assert!(!planned.reads.iter().any(|read| matches!(read, Read::RootfsPath(_))), "{:?}", planned.reads);
}
