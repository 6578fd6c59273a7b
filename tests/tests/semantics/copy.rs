//! COPY and WORKDIR.

use cofferdam_tests::{Site, is_root, skip};

/// A context with files and directories of many kinds.
fn site() -> Option<Site> {
    if !is_root() {
        skip("owners can be unpacked as root only");
        return None;
    }
    let site = Site::new();
    site.file("a.txt", "a").file("b.txt", "b").file("dir/c.txt", "c").file("dir/sub/d.txt", "d");
    site.file("run.sh", "#!/bin/sh\n").mode("run.sh", 0o755).file("secret", "s").mode("secret", 0o600);
    site.link("dir/link", "c.txt").link("link.txt", "a.txt").link("dir/away", "/etc/passwd");
    Some(site)
}

#[test]
fn a_destination_is_a_file_or_a_directory_as_it_is_written() {
    let Some(site) = site() else { return };
    site.dockerfile(
        "FROM scratch
COPY a.txt /file
COPY a.txt /new/deep/
COPY a.txt b.txt /two/
COPY dir /merged
COPY dir /under/
COPY dir/ /dot/./
COPY a.txt /merged
COPY [\"a.txt\", \"/with blank/\"]
",
    );
    let image = site.image(&[]);
    assert_eq!(image.entry("/file"), "file 644 0:0");
    assert_eq!(image.content("/new/deep/a.txt"), "a");
    assert_eq!((image.entry("/new"), image.entry("/new/deep")), ("dir 755 0:0".into(), "dir 755 0:0".into()));
    assert_eq!(image.names("/two"), "a.txt b.txt");
    // The directory itself is not copied, just its contents; a file goes into a directory that is there.
    assert_eq!(image.names("/merged"), "a.txt away c.txt link sub");
    assert_eq!(image.names("/under"), "away c.txt link sub");
    assert_eq!(image.names("/dot"), "away c.txt link sub");
    assert_eq!(image.content("/merged/sub/d.txt"), "d");
    assert_eq!(image.names("/with blank"), "a.txt");
    assert_eq!(image.names("/"), "dot file merged new two under with blank");
}

#[test]
fn links_inside_a_directory_stay_and_a_named_link_is_followed() {
    let Some(site) = site() else { return };
    site.dockerfile("FROM scratch\nCOPY dir /d\nCOPY link.txt /x/\n");
    let image = site.image(&[]);
    assert_eq!(image.entry("/d/link"), "link c.txt");
    assert_eq!(image.entry("/d/away"), "link /etc/passwd");
    assert_eq!(image.entry("/x/link.txt"), "file 644 0:0");
    assert_eq!(image.content("/x/link.txt"), "a");
}

#[test]
fn modes_of_the_context_are_kept_and_owners_are_not() {
    let Some(site) = site() else { return };
    std::os::unix::fs::chown(site.context().join("a.txt"), Some(1234), Some(4321)).expect("root");
    site.mode("dir/sub", 0o700).file("sticky", "").mode("sticky", 0o4755);
    site.dockerfile("FROM scratch\nCOPY . /all/\n");
    let image = site.image(&[]);
    assert_eq!(image.entry("/all/a.txt"), "file 644 0:0");
    assert_eq!(image.entry("/all/run.sh"), "file 755 0:0");
    assert_eq!(image.entry("/all/secret"), "file 600 0:0");
    assert_eq!(image.entry("/all/dir/sub"), "dir 700 0:0");
    assert_eq!(image.entry("/all/sticky"), "file 4755 0:0");
}

#[test]
fn chown_takes_names_of_the_image_and_numbers() {
    let Some(site) = site() else { return };
    site.file("accounts/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/app:/bin/sh\n");
    site.file("accounts/group", "root:x:0:\napp:x:1000:\nstaff:x:50:\n");
    site.dockerfile(
        "FROM scratch
COPY accounts /etc
COPY --chown=app a.txt /by-name
COPY --chown=app:staff a.txt /by-names
COPY --chown=1001 a.txt /by-number
COPY --chown=7:8 dir /new/tree
COPY --chown=app:9 --chmod=640 a.txt /mixed
ARG OWNER=55:staff
COPY --chown=$OWNER a.txt /by-argument
",
    );
    let image = site.image(&[]);
    assert_eq!(image.entry("/by-name"), "file 644 1000:1000");
    assert_eq!(image.entry("/by-names"), "file 644 1000:50");
    assert_eq!(image.entry("/by-number"), "file 644 1001:1001");
    assert_eq!(image.entry("/new/tree/sub/d.txt"), "file 644 7:8");
    assert_eq!(image.entry("/new/tree/sub"), "dir 755 7:8");
    assert_eq!(image.entry("/mixed"), "file 640 1000:9");
    assert_eq!(image.entry("/by-argument"), "file 644 55:50");
}

/// BuildKit has it so, without a word.
#[test]
fn root_owns_what_is_given_to_nobody_and_a_warning_says_so() {
    let Some(site) = site() else { return };
    site.file("accounts/passwd", "app:x:1000:1001::/app:/bin/sh\n").file("accounts/group", "staff:x:50:\n");
    site.dockerfile(
        "FROM scratch
COPY --chown=ghost a.txt /before
COPY accounts /etc
COPY --chown=ghost:staff a.txt /user
COPY --chown=app:ghosts a.txt /group
",
    );
    let built = site.build(&[]).success();
    for text in
        ["no user `ghost` in /etc/passwd: root stands", "no group `ghosts` in /etc/group: the group of its user"]
    {
        assert!(built.stderr.contains(text), "{text}: {}", built.stderr);
    }
    let image = site.image(&[]);
    assert_eq!(image.entry("/before"), "file 644 0:0");
    assert_eq!(image.entry("/user"), "file 644 0:50");
    assert_eq!(image.entry("/group"), "file 644 1000:1001");
}

/// As their owners, what users noted beside the files of a checkout is no part of it (BuildKit's layers have file capabilities
/// alone).
#[test]
fn of_extended_attributes_of_the_context_only_capabilities_are_kept() {
    let Some(site) = site() else { return };
    let script = "import os, struct, sys
os.setxattr(sys.argv[1], 'user.origin', b'here')
os.setxattr(sys.argv[1], 'security.capability', struct.pack('<5I', 0x02000001, 1 << 13, 0, 0, 0))";
    let file = site.context().join("a.txt");
    let marked = cofferdam_tests::run(std::process::Command::new("python3").args(["-c", script]).arg(file));
    if marked.code != 0 {
        skip("the file system of the temporary directory has no extended attributes for users");
        return;
    }
    site.dockerfile("FROM scratch AS first\nCOPY a.txt /\nFROM scratch\nCOPY --from=first / /\nADD a.txt /b\n");
    let image = site.image(&[]);
    for (number, name) in [(0, "a.txt"), (1, "b")] {
        let names: Vec<_> = image.layer(number).0[name].xattrs.keys().cloned().collect();
        assert_eq!(names, ["security.capability"], "{name}");
    }
}

#[test]
fn chmod_sets_files_and_directories() {
    let Some(site) = site() else { return };
    site.dockerfile(
        "FROM scratch\nCOPY --chmod=600 a.txt run.sh /x/\nCOPY --chmod=0750 dir /y/\nCOPY --chmod=4711 a.txt /z\n",
    );
    let image = site.image(&[]);
    assert_eq!(image.entry("/x/a.txt"), "file 600 0:0");
    assert_eq!(image.entry("/x/run.sh"), "file 600 0:0");
    assert_eq!(image.entry("/y/sub"), "dir 750 0:0");
    assert_eq!(image.entry("/y/sub/d.txt"), "file 750 0:0");
    assert_eq!(image.entry("/z"), "file 4711 0:0");
}

#[test]
fn patterns_match_names_but_no_slashes() {
    let Some(site) = site() else { return };
    site.file("x1/deep.txt", "1").file("x2/deep.txt", "2").file("x2/other.md", "").file("odd[1].txt", "odd");
    site.dockerfile(
        "FROM scratch
COPY *.txt /all/
COPY x*/deep.txt /last/
COPY ?.txt /short/
COPY [ab].txt /class/
COPY odd[[]1].txt /quoted/
COPY *.txt missing*.md /some/
",
    );
    let image = site.image(&[]);
    assert_eq!(image.names("/all"), "a.txt b.txt link.txt odd[1].txt");
    assert_eq!(image.content("/last/deep.txt"), "2");
    assert_eq!(image.names("/short"), "a.txt b.txt");
    assert_eq!(image.names("/class"), "a.txt b.txt");
    assert_eq!(image.content("/quoted/odd[1].txt"), "odd");
    assert_eq!(image.names("/some"), "a.txt b.txt link.txt odd[1].txt");
}

#[test]
fn a_source_can_not_leave_the_context() {
    let Some(site) = site() else { return };
    std::fs::write(site.path().join("outside"), "outside").expect("writable");
    site.link("escape", "../outside").link("host", "/etc/hostname").link("up", "..");
    for (source, says) in [
        ("../outside", "`../outside` does not exist"),
        ("escape", "`escape` is a symbolic link to `../outside`, which does not exist"),
        ("host", "`host` is a symbolic link to `/etc/hostname`, which does not exist"),
        ("up/outside", "`up/outside` does not exist"),
    ] {
        site.dockerfile(&format!("FROM scratch\nCOPY {source} /x\n"));
        let failed = site.build(&[]);
        assert_eq!(failed.code, 1, "{source}: {}", failed.stderr);
        assert!(failed.stderr.contains(says), "{source}: {}", failed.stderr);
    }
    // What would lead above the context is the context itself, as in chroot.
    site.dockerfile("FROM scratch\nCOPY ../../a.txt /x\n");
    assert_eq!(site.image(&[]).content("/x"), "a");
}

#[test]
fn ignored_files_are_not_there() {
    let Some(site) = site() else { return };
    site.file("keep.log", "k").file("x.log", "x").file("dir/y.log", "y").file("node_modules/m/index.js", "");
    site.file("web/node_modules/m/index.js", "")
        .file("web/index.html", "")
        .file("docs/a.md", "")
        .file("docs/README.md", "");
    site.file("#hash", "");
    site.file(
        ".dockerignore",
        "# a comment\n*.log\n!keep.log\n**/node_modules\ndocs/*.md\n!docs/README.md\n/secret\nDockerfile\n\n  dir/sub/  \n",
    );
    site.dockerfile("FROM scratch\nCOPY . /\n");
    let image = site.image(&[]);
    assert_eq!(image.names("/"), "#hash .dockerignore a.txt b.txt dir docs keep.log link.txt run.sh web");
    assert_eq!(image.names("/dir"), "away c.txt link y.log");
    assert_eq!(image.names("/docs"), "README.md");
    assert_eq!(image.names("/web"), "index.html");
    site.dockerfile("FROM scratch\nCOPY x.log /\n");
    let failed = site.build(&[]);
    assert!(failed.code == 1 && failed.stderr.contains("`x.log` does not exist"), "{}", failed.stderr);
}

#[test]
fn an_ignore_file_beside_the_dockerfile_wins() {
    let Some(site) = site() else { return };
    site.file(".dockerignore", "a.txt\n").file("other.Dockerfile", "FROM scratch\nCOPY *.txt /\n");
    site.file("other.Dockerfile.dockerignore", "b.txt\n");
    let file = site.context().join("other.Dockerfile");
    let image = site.image(&["-f", file.to_str().expect("UTF-8")]);
    assert_eq!(image.names("/"), "a.txt link.txt");
}

#[test]
fn destinations_go_through_links_of_the_image() {
    let Some(site) = site() else { return };
    site.file("tree/real/here", "")
        .link("tree/relative", "real")
        .link("tree/absolute", "/real")
        .link("tree/file", "real/here");
    site.dockerfile(
        "FROM scratch AS base
COPY tree /
FROM base
COPY a.txt /relative/
COPY b.txt /absolute/b.txt
COPY dir/sub /absolute
COPY a.txt /file
COPY <<absolute.txt /elsewhere
document
absolute.txt
COPY a.txt /relative/
",
    );
    site.file("tree/real/target", "old").link("tree/elsewhere", "/real/target").file("tree/real/victim", "safe");
    site.link("tree/real/a.txt", "victim");
    let image = site.image(&[]);
    assert_eq!(
        (image.content("/real/target"), image.entry("/elsewhere")),
        ("document\n".into(), "link /real/target".into())
    );
    // What is named is written through; what gets its name in a directory takes the place of a link.
    assert_eq!((image.content("/real/a.txt"), image.content("/real/victim")), ("a".into(), "safe".into()));
    assert_eq!(image.content("/real/here"), "a");
    assert_eq!(image.names("/real"), "a.txt b.txt d.txt here target victim");
    assert_eq!(image.entry("/relative"), "link real");
    assert_eq!(image.entry("/absolute"), "link /real");
}

#[test]
fn here_documents_become_files() {
    let Some(site) = site() else { return };
    site.dockerfile(
        "FROM scratch
ARG NAME=world
COPY <<greeting <<\"raw\" /etc/
hello $NAME
greeting
hello $NAME
raw
COPY --chmod=755 <<-EOF /bin/run
\t#!/bin/sh
\techo
EOF
",
    );
    let image = site.image(&["--build-arg", "NAME=reader"]);
    assert_eq!(image.content("/etc/greeting"), "hello reader\n");
    assert_eq!(image.content("/etc/raw"), "hello $NAME\n");
    assert_eq!(image.content("/bin/run"), "#!/bin/sh\necho\n");
    assert_eq!(image.entry("/bin/run"), "file 755 0:0");
}

#[test]
fn a_working_directory_is_made_and_moves_destinations() {
    let Some(site) = site() else { return };
    site.file("etc/passwd", "app:x:1000:1001::/app:/bin/sh\n").file("etc/group", "app:x:1001:\n");
    site.dockerfile(
        "FROM scratch
COPY etc /etc
WORKDIR /srv
WORKDIR app/./x
COPY a.txt .
COPY b.txt ../b
ENV WHERE=/var
WORKDIR $WHERE/${MISSING:-data}
USER app
WORKDIR /home/app
",
    );
    let image = site.image(&[]);
    assert_eq!(image.config("WorkingDir"), "/home/app");
    assert_eq!(image.entry("/srv/app/x"), "dir 755 0:0");
    assert_eq!(image.entry("/srv/app/x/a.txt"), "file 644 0:0");
    assert_eq!(image.content("/srv/app/b"), "b");
    assert_eq!(image.entry("/var/data"), "dir 755 0:0");
    assert_eq!(image.entry("/home/app"), "dir 755 1000:1001");
}

#[test]
fn parents_are_kept() {
    let site = Site::new();
    site.file("x/a/one.txt", "1").file("x/b/two.txt", "2").file("x/b/three.md", "3").mode("x/b", 0o700);
    site.dockerfile(
        "FROM scratch
COPY --parents x/a/one.txt x/b /all/
COPY --parents x/./b/*.md /pivot
COPY --parents ./x/**/*.txt /deep/
COPY --parents **/*.md */** /any/
COPY --parents --chown=7:8 --exclude=*.md x/./ /owned/
",
    );
    let image = site.image(&[]);
    assert_eq!((image.names("/all/x/a"), image.names("/all/x/b")), ("one.txt".into(), "three.md two.txt".into()));
    assert_eq!(image.entry("/all/x/b"), "dir 700 0:0");
    assert_eq!((image.names("/pivot"), image.names("/pivot/b")), ("b".into(), "three.md".into()));
    assert_eq!(image.entry("/pivot"), "dir 755 0:0", "the destination is none of the parents");
    assert_eq!((image.content("/deep/x/a/one.txt"), image.content("/deep/x/b/two.txt")), ("1".into(), "2".into()));
    assert!(!image.has("/deep/x/b/three.md"));
    assert_eq!((image.names("/any"), image.names("/any/x/b")), ("x".into(), "three.md two.txt".into()));
    assert_eq!((image.names("/owned"), image.entry("/owned/a/one.txt")), ("a b".into(), "file 644 7:8".into()));
}

#[test]
fn a_linked_copy_stands_on_its_own() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.file("file", "f");
    site.dockerfile(
        "FROM base
RUN mkdir -p /real/sub && ln -s real /linked && touch /real/kept && echo someone:x:77:77::/:/bin/sh >> /etc/passwd
COPY --link file /linked/
COPY --link --chown=someone file /real/sub/
",
    );
    let image = site.image(&[]);
    assert_eq!(image.entry("/linked"), "dir 755 0:0", "the destination is not resolved in what is below");
    assert_eq!((image.names("/linked"), image.names("/real")), ("file".into(), "kept sub".into()));
    assert_eq!(image.entry("/real/sub/file"), "file 644 77:77");
}
