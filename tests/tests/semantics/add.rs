//! ADD of local files and archives.

use std::{os::unix::fs::MetadataExt, path::Path, process::Command};

use cofferdam_tests::{Site, hostile_archives, is_root, run, skip};

/// Packs a tree with owners, modes, links and a fifo, by the machine's tar.
fn pack(site: &Site, name: &str, flags: &[&str]) {
    let tree = site.path().join("tree");
    if !tree.exists() {
        let script = "mkdir -p tree/bin tree/private && cd tree && echo tool > bin/tool && ln -s tool bin/alias && \
            ln -s /etc/passwd absolute && ln bin/tool bin/hard && chmod 700 private && echo data > private/data && \
            chmod 600 private/data && mkfifo pipe && chmod 644 pipe && chown -R 12:34 private && \
            chown 5:6 bin/tool && chmod 4755 bin/tool";
        run(Command::new("/bin/sh").args(["-c", script]).current_dir(site.path())).success();
    }
    let file = site.context().join(name);
    run(Command::new("tar").args(flags).arg("-cf").arg(file).arg("-C").arg(tree).arg(".")).success();
}

fn site() -> Option<Site> {
    if !is_root() {
        skip("owners can be set and unpacked as root only");
        return None;
    }
    Some(Site::new())
}

fn inode(path: &Path) -> u64 {
    path.metadata().expect("there").ino()
}

#[test]
fn archives_are_unpacked_with_owners_modes_and_links() {
    let Some(site) = site() else { return };
    for (name, flags) in [
        ("plain.tar", &["--format=ustar"][..]),
        ("x.tar.gz", &["--format=gnu", "--gzip"]),
        ("x.tgz", &["--format=posix", "--gzip"]),
        ("x.tar.bz2", &["--bzip2"]),
        ("x.tar.xz", &["--xz"]),
        ("x.tar.zst", &["--zstd"]),
        ("no-suffix", &["--gzip"]),
    ] {
        pack(&site, name, flags);
        site.dockerfile(&format!("FROM scratch\nADD {name} /opt/\n"));
        let image = site.image(&[]);
        assert_eq!(image.names("/opt"), "absolute bin pipe private", "{name}");
        assert_eq!(image.entry("/opt/bin/tool"), "file 4755 5:6", "{name}");
        assert_eq!(image.content("/opt/bin/tool"), "tool\n", "{name}");
        assert_eq!(image.entry("/opt/bin/alias"), "link tool", "{name}");
        assert_eq!(image.entry("/opt/absolute"), "link /etc/passwd", "{name}");
        assert_eq!(image.entry("/opt/private"), "dir 700 12:34", "{name}");
        assert_eq!(image.entry("/opt/private/data"), "file 600 12:34", "{name}");
        assert_eq!(image.entry("/opt/pipe"), "fifo 644 0:0", "{name}");
        let root = image.root();
        assert_eq!(inode(&root.join("opt/bin/hard")), inode(&root.join("opt/bin/tool")), "{name}: a hard link");
    }
}

#[test]
fn what_is_no_archive_is_copied() {
    let Some(site) = site() else { return };
    site.file("text.txt", "text").file("fake.tar", "this is no archive").file("dir/x.tar.gz", "not unpacked either");
    run(Command::new("sh").args(["-c", "echo just compressed | gzip -n > only.gz"]).current_dir(site.context()))
        .success();
    site.dockerfile(
        "FROM scratch
ADD text.txt /a/
ADD fake.tar /a/
ADD only.gz /a/
ADD dir /d/
ADD --chown=3:4 --chmod=600 text.txt /mine
",
    );
    let image = site.image(&[]);
    assert_eq!(image.names("/a"), "fake.tar only.gz text.txt");
    assert_eq!(image.content("/a/fake.tar"), "this is no archive");
    assert_eq!(image.names("/d"), "x.tar.gz");
    assert_eq!(image.entry("/mine"), "file 600 3:4");
}

#[test]
fn an_archive_inside_a_directory_and_one_for_copy_stay_archives() {
    let Some(site) = site() else { return };
    pack(&site, "x.tar.gz", &["--gzip"]);
    site.dockerfile("FROM scratch\nCOPY x.tar.gz /copied/\nADD --unpack=false x.tar.gz /added/\nADD . /all/\n");
    let image = site.image(&[]);
    assert_eq!(image.names("/copied"), "x.tar.gz");
    assert_eq!(image.names("/added"), "x.tar.gz");
    assert_eq!(image.names("/all"), "Dockerfile x.tar.gz");
}

#[test]
fn an_archive_can_not_write_outside_of_its_destination() {
    let Some(site) = site() else { return };
    let victim = site.path().join("victim");
    std::fs::create_dir(&victim).expect("writable");
    let script = "with tarfile.open('dots.tar', 'w') as archive: entry(archive, 'ok'); entry(archive, '../' * 40 + outside + '/pwned')
with tarfile.open('link.tar', 'w') as archive:
    entry(archive, 'out', tarfile.SYMTYPE, outside); entry(archive, 'out/pwned')
with tarfile.open('up.tar', 'w') as archive:
    entry(archive, 'up', tarfile.SYMTYPE, '../' * 40); entry(archive, 'up' + outside + '/pwned')
with tarfile.open('hard.tar', 'w') as archive: entry(archive, 'shadow', tarfile.LNKTYPE, '/etc/shadow')
";
    hostile_archives(script, &victim, &site.context());
    for archive in ["dots.tar", "link.tar", "up.tar", "hard.tar"] {
        site.dockerfile(&format!("FROM scratch\nADD {archive} /opt/\n"));
        let built = site.build(&[]);
        let names = std::fs::read_dir(&victim).expect("there").count();
        assert_eq!(names, 0, "{archive} wrote to the machine");
        if archive == "hard.tar" {
            assert_eq!(built.code, 1, "a hard link to what is not there: {}", built.stderr);
        }
    }
}

#[test]
fn unpacking_merges_with_what_is_there() {
    let Some(site) = site() else { return };
    pack(&site, "x.tar", &[]);
    site.file("old/tool", "old").file("old/other", "other");
    site.dockerfile("FROM scratch\nCOPY old /opt/bin\nADD x.tar /opt\n");
    let image = site.image(&[]);
    assert_eq!(image.names("/opt/bin"), "alias hard other tool");
    assert_eq!(image.content("/opt/bin/tool"), "tool\n");
}
