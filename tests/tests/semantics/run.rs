//! RUN: what a command sees, and what becomes of what it does.

use std::os::unix::fs::MetadataExt;

use cofferdam_tests::Site;

use crate::executors;

#[test]
fn a_command_sees_the_constructed_environment_and_nothing_else() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base
ARG KEPT=loses
ENV KEPT=env
ARG GIVEN=argument
WORKDIR /work
RUN env | sort > /environment && pwd > /where && id > /who && cat > /input && ls /proc/self/fd | wc -l > /descriptors
RUN hostname > /host; ps | tail -n +2 | wc -l > /processes; umask > /mask; ls /dev > /devices
RUN echo $0 > /shell
RUN [\"/bin/sh\", \"-c\", \"echo exec form > /exec\"]
USER nobody
RUN id -u > /tmp/user && echo $HOME > /tmp/home
",
    );
    for executor in executors() {
        let output = format!("type=oci,dest=image-{executor},tar=false");
        let program = site.program(&["-t", "image", "--executor", executor, "--no-cache", "--output", &output]);
        program.env("BUILDER_SECRET", "x").env("GIVEN", "from the builder").env("LD_PRELOAD", "").run().success();
        has_the_constructed_environment(&cofferdam_tests::Image::open(&site.path().join(format!("image-{executor}"))));
    }
}

fn has_the_constructed_environment(image: &cofferdam_tests::Image) {
    let environment = image.content("/environment");
    let mut names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    names.retain(|name| !matches!(*name, "SHLVL" | "_"));
    assert_eq!(names, ["GIVEN", "HOME", "KEPT", "PATH", "PWD"], "{environment}");
    assert!(environment.contains("GIVEN=argument\n") && environment.contains("KEPT=env\n"), "{environment}");
    assert!(environment.contains("HOME=/root\n"), "{environment}");
    assert_eq!(image.content("/where"), "/work\n");
    assert!(image.content("/who").starts_with("uid=0(root) gid=0(root)"), "{}", image.content("/who"));
    assert_eq!(image.content("/input"), "", "standard input is closed");
    // Standard input, output, error, and the directory that `ls` reads.
    assert_eq!(image.content("/descriptors").trim(), "4");
    assert_eq!(image.content("/mask").trim(), "0022");
    let processes: u32 = image.content("/processes").trim().parse().expect("a number");
    assert!(processes <= 5, "only its own processes are seen, not {processes}");
    let devices = image.content("/devices");
    assert!(["full", "null", "random", "urandom", "zero"].iter().all(|name| devices.contains(name)), "{devices}");
    assert!(!["sda", "kmsg", "mem"].iter().any(|name| devices.lines().any(|device| device == *name)), "{devices}");
    assert_eq!(image.content("/shell"), "/bin/sh\n");
    assert_eq!(image.content("/exec"), "exec form\n");
    assert_eq!(image.content("/tmp/user"), "65534\n");
    assert_eq!(image.entry("/tmp/user"), "file 644 65534:65534");
}

#[test]
fn what_was_mounted_for_a_command_is_not_in_the_layer() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nRUN cat /etc/resolv.conf /etc/hosts > /dev/null; touch /only\n");
    let image = site.image(&[]);
    assert_eq!(image.layer_names(-1), ["only"]);
    for path in ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/.dockerenv"] {
        assert_eq!(image.entry(path), "nothing", "{path}");
    }
    assert_eq!((image.names("/proc"), image.names("/sys"), image.names("/dev")), Default::default());
}

#[test]
fn deleted_files_become_whiteouts() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.file("tree/a", "a").file("tree/b", "b").file("tree/sub/c", "c").file("tree/sub/d", "d").file("old/x", "x");
    site.dockerfile(
        "FROM base
COPY tree /tree
COPY old /old
RUN rm /tree/a && rm -rf /tree/sub && mkdir /tree/sub && echo new > /tree/sub/new && rm -rf /old && echo file > /old
RUN rm /tree/sub/new && rm /old && mkdir /old && touch /old/y
RUN touch /gone && rm /gone
",
    );
    let image = site.image(&[]);
    assert_eq!(image.names("/tree"), "b sub");
    assert_eq!(image.names("/tree/sub"), "");
    assert_eq!(image.names("/old"), "y");
    let first = image.layer_names(3);
    assert!(first.contains(&"tree/.wh.a".to_owned()), "{first:?}");
    assert!(first.contains(&"tree/sub/.wh..wh..opq".to_owned()), "{first:?}");
    assert!(first.contains(&"old".to_owned()) && !first.iter().any(|name| name.starts_with("old/")), "{first:?}");
    // As in BuildKit, a command that changed nothing has a layer with nothing in it.
    assert_eq!((image.layer_count(), image.layer_names(5)), (6, Vec::new()));
}

#[test]
fn links_pipes_modes_and_renames_survive() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.file("tree/file", "content").file("tree/dir/inner", "i");
    site.dockerfile(
        "FROM base
COPY tree /tree
RUN cd /tree && ln file hard && ln -s file soft && ln -s /nowhere dangling && mkfifo -m 600 pipe \\
 && cp /bin/busybox setuid && chmod 6755 setuid && mkdir -m 1777 sticky && mv dir moved && chown 12:34 moved/inner \\
 && chown -h 5:6 soft && chown 99 file && touch 'with blank' \"$(printf 'new\\nline')\" $(head -c 200 /dev/zero | tr '\\0' x)
RUN chmod 711 /tree
",
    );
    let image = site.image(&[]);
    let root = image.root();
    let inode = |path: &str| root.join(path).metadata().expect("there").ino();
    assert_eq!(inode("tree/hard"), inode("tree/file"), "hard links stay one file");
    // Of a hard link, both names change.
    assert_eq!(
        (image.entry("/tree/file"), image.entry("/tree/hard")),
        ("file 644 99:0".into(), "file 644 99:0".into())
    );
    assert_eq!(image.content("/tree/hard"), "content");
    assert_eq!(image.entry("/tree/soft"), "link file");
    assert_eq!(root.join("tree/soft").symlink_metadata().expect("there").uid(), 5);
    assert_eq!(image.entry("/tree/dangling"), "link /nowhere");
    assert_eq!(image.entry("/tree/pipe"), "fifo 600 0:0");
    assert_eq!(image.entry("/tree/setuid"), "file 6755 0:0");
    assert_eq!(image.entry("/tree/sticky"), "dir 1777 0:0");
    assert_eq!(image.entry("/tree/moved/inner"), "file 644 12:34");
    assert_eq!(image.content("/tree/moved/inner"), "i");
    assert!(!image.has("/tree/dir"));
    assert!(
        image.has("/tree/with blank")
            && image.has("/tree/new\nline")
            && image.has(&format!("/tree/{}", "x".repeat(200)))
    );
    assert_eq!(image.entry("/tree"), "dir 711 0:0");
}

#[test]
fn a_directory_of_an_earlier_layer_moves_with_all_that_is_in_it() {
    for executor in executors() {
        let Some(site) = Site::with_base("alpine") else { return };
        site.file("tree/dir/inner", "i").file("tree/dir/deep/er", "d").file("other/file", "o");
        site.dockerfile(
            "FROM base
COPY tree /tree
COPY other /other
RUN mv /tree /moved && mkdir /new && mv /other /new/other
RUN mv /moved/dir /new/dir && cat /new/dir/deep/er
",
        );
        let image = site.image(&["--executor", executor]);
        assert!(!image.has("/tree") && !image.has("/other"), "{executor}");
        assert_eq!(image.names("/moved"), "", "{executor}");
        assert_eq!(image.names("/new"), "dir other", "{executor}");
        assert_eq!(image.content("/new/other/file"), "o", "{executor}");
        assert_eq!(image.content("/new/dir/inner"), "i", "{executor}");
        assert_eq!(image.content("/new/dir/deep/er"), "d", "{executor}");
    }
}

#[test]
fn extended_attributes_survive() {
    let Some(site) = Site::with_base("debian") else { return };
    // setxattr(2) by number: the base has perl, but no tool for it. cap_net_raw=ep, in the kernel's version 2 of the form.
    site.file(
        "setxattr.pl",
        "my ($path, $name, $value) = ('/x', 'security.capability', pack('VVVVV', 0x02000001, 1 << 13, 0, 0, 0));
my $number = `uname -m` =~ /x86_64/ ? 188 : 5;
syscall($number, $path, $name, $value, length $value, 0) == 0 or die qq(setxattr: $!);
",
    );
    site.dockerfile("FROM base\nCOPY setxattr.pl /\nRUN cp /bin/true /x && perl /setxattr.pl\nRUN mv /x /y\n");
    let script = "import os, sys\nprint(os.getxattr(sys.argv[1], 'security.capability').hex())";
    for executor in executors() {
        let image = site.image(&["--no-cache", "--executor", executor]);
        let file = image.root().join("y");
        let mut python = std::process::Command::new("python3");
        let shown = cofferdam_tests::run(python.args(["-c", script]).arg(file)).success();
        assert_eq!(shown.stdout.trim(), "0100000200200000000000000000000000000000", "{executor}");
    }
}

#[test]
fn here_documents_are_scripts() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base
ARG NAME=arg
RUN <<EOF
set -e
echo \"$NAME\" > /one
false || echo two > /two
EOF
RUN cat <<A > /three && cat <<'B' > /four
$NAME
A
$NAME
B
RUN <<EOF sh -s
echo five > /five
EOF
RUN <<-'EOF'
	#!/bin/busybox sh
	echo \"$0 $NAME\" > /six
	EOF
",
    );
    let image = site.image(&[]);
    assert_eq!(image.content("/one"), "arg\n");
    assert_eq!(image.content("/two"), "two\n");
    assert_eq!((image.content("/three"), image.content("/four")), ("arg\n".into(), "$NAME\n".into()));
    assert_eq!(image.content("/five"), "five\n");
    assert_eq!(image.content("/six"), "/dev/pipes/EOF arg\n");
    assert_eq!(image.layer_names(-1), ["six"], "the script is in no layer");
}

#[test]
fn the_shell_that_was_set_runs_the_commands() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nSHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN false; touch /too-far\n");
    let failed = site.build(&[]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    site.dockerfile("FROM base\nRUN false; touch /reached\nSHELL [\"/bin/busybox\", \"echo\"]\nRUN said > /x\n");
    assert_eq!(
        site.build(&[]).success().stderr.matches("said > /x").count(),
        3,
        "the title, the output, and the summary"
    );
}

#[test]
fn a_user_needs_to_be_known() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\nUSER 1234:5678\nRUN id -u > /tmp/uid; id -g > /tmp/gid\n");
    let image = site.image(&[]);
    assert_eq!((image.content("/tmp/uid"), image.content("/tmp/gid")), ("1234\n".into(), "5678\n".into()));
    site.dockerfile("FROM base\nUSER ghost\nRUN true\n");
    let failed = site.build(&[]);
    assert!(failed.code == 1 && failed.stderr.contains("ghost"), "{}", failed.stderr);
}

#[test]
fn a_command_leaves_no_process_behind() {
    let Some(site) = Site::with_base("alpine") else { return };
    let site = site.but_for(&["processes"]);
    site.dockerfile("FROM base\nRUN sleep 98765 & echo started\nRUN ps > /processes\n");
    let image = site.image(&[]);
    assert!(!image.content("/processes").contains("98765"));
    let running = |entry: &std::path::Path| {
        let line = std::fs::read(entry.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"98765")
    };
    let processes = std::fs::read_dir("/proc").expect("there");
    assert!(!processes.flatten().any(|entry| running(&entry.path())), "the command still runs");
}

#[test]
fn the_network_can_be_taken_away() {
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile(
        "FROM base\nRUN --network=none cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' \\n' > /interfaces\n",
    );
    for executor in executors() {
        let image = site.image(&["--no-cache", "--executor", executor]);
        assert_eq!(image.content("/interfaces"), "lo", "{executor}");
    }
}
