//! What a command sees, and what it leaves.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    time::Duration,
};

use cofferdam_exec::{
    CommandProblem, ExecError, Exit, Ids, Mount, MountSource, Network, Note, PrivateFile, ResolvedUser, Root,
    resolve_user,
};

use crate::{
    Test,
    world::{World, tree},
};

pub const TESTS: &[Test] = &[
    ("exit_codes_and_signals_are_passed_on", exit_codes_and_signals),
    ("programs_that_cannot_start_are_named", unstartable_programs),
    ("output_and_input_are_the_commands_own", streams),
    ("the_environment_is_exactly_what_was_given", environment),
    ("only_the_three_standard_descriptors_are_open", descriptors),
    ("a_command_that_changes_nothing_leaves_nothing", nothing_left),
    ("resolv_conf_and_hosts_are_private", private_files),
    ("a_dangling_resolv_conf_gets_its_target_for_the_time_of_the_command", dangling_resolv_conf),
    ("mount_points_below_an_opaque_directory_are_reported", opaque_directory),
    ("changes_are_in_the_upper_directory", changes),
    ("an_upper_directory_can_be_used_again", again),
    ("many_layers_with_odd_names_are_merged", many_layers),
    ("a_layer_that_is_there_twice_counts_at_the_top", repeated_layer),
    ("an_image_of_nothing_but_a_program_works", scratch),
    ("the_working_directory_is_made", working_directory),
    ("proc_dev_and_sys_are_there", surroundings),
    ("a_user_is_really_taken", user),
    ("owners_can_be_changed_where_ids_exist", owners),
    ("bindings_are_mounted", bindings),
    ("mounts_of_every_kind", mounts_of_every_kind),
    ("network_none_has_a_loopback_only", no_network),
    ("an_unfit_request_is_refused", unfit_requests),
];

fn exit_codes_and_signals(world: &World) {
    assert_eq!(world.exit("exit 0"), Exit::Code(0));
    assert_eq!(world.exit("exit 42"), Exit::Code(42));
    assert_eq!(world.exit("kill -TERM $$; sleep 5"), Exit::Signal(15));
    assert_eq!(world.exit("kill -KILL $$; sleep 5"), Exit::Signal(9));
    assert_eq!(world.exit("echo lost | true; yes | head -1 >/dev/null"), Exit::Code(0), "SIGPIPE ends `yes`");
    let failed = world.run(&world.step("false"));
    assert_eq!(failed.outcome.notes.contains(&Note::SingleId), world.ids() == Ids::Single);
}

fn unstartable_programs(world: &World) {
    let script = "printf '#!/no/such' >/srv/script; printf garbage >/srv/garbage; printf '#!/bin/sh' >/srv/plain
        chmod 755 /srv/script /srv/garbage";
    let mut step = world.step(script);
    world.run(&step);
    let mut problem = |program: &str| {
        step.request.arguments = vec![program.into()];
        match world.try_run(&step) {
            Err(ExecError::Command { program: named, problem }) if named == program => problem,
            Err(error) => panic!("{program}: {error}"),
            Ok(ran) => panic!("{program}: {}", ran.outcome.exit),
        }
    };
    assert_eq!(problem("nonsense"), CommandProblem::NotFound { in_path: true });
    assert_eq!(problem("nonsense").code(), 127);
    assert_eq!(problem("/bin/nonsense"), CommandProblem::NotFound { in_path: false });
    assert_eq!(problem("/srv/script"), CommandProblem::NoInterpreter);
    assert_eq!(problem("/srv/garbage"), CommandProblem::Format);
    assert_eq!(problem("/srv/plain"), CommandProblem::Denied);
    assert_eq!(problem("/srv").code(), 126);
}

fn streams(world: &World) {
    let ran = world.run(&world.step("echo out; echo err >&2; cat; echo end"));
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\nend\n", "err\n"));
    let mut step = world.step("cat; cat >/dev/stderr </dev/null; echo more >/dev/stdout");
    step.request.stdin = Some(b"given\n".to_vec());
    assert_eq!(world.run(&step).stdout, "given\nmore\n");
    let long = world.output("head -c 3000000 /dev/zero | tr '\\0' x");
    assert_eq!(long.len(), 3_000_000);
}

fn environment(world: &World) {
    let mut step = world.step("");
    step.request.arguments = vec!["/bin/env".into()];
    step.request.environment =
        vec![("A".into(), "1 2".into()), ("PATH".into(), "/bin".into()), ("B".into(), "".into())];
    assert_eq!(world.run(&step).stdout, "A=1 2\nPATH=/bin\nB=\n");
    step.request.environment.clear();
    assert_eq!(world.run(&step).stdout, "");
}

fn descriptors(world: &World) {
    // 3 is the directory that is being listed.
    assert_eq!(world.output("exec ls /proc/self/fd"), "0\n1\n2\n3\n");
    let held = fs::File::open(world.base.join("etc/passwd")).expect("a file");
    rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::empty()).expect("inheritable");
    assert_eq!(world.output("exec ls /proc/self/fd"), "0\n1\n2\n3\n", "not even what the builder leaks");
}

fn nothing_left(world: &World) {
    let before = fs::metadata(world.base.join("etc")).expect("a directory");
    let step = world.step("cat /etc/hosts /etc/resolv.conf; ls /proc /sys /dev; true");
    let ran = world.run(&step);
    assert!(ran.outcome.exit.success());
    assert_eq!(tree(&step.upper), Vec::<String>::new());
    assert_eq!(ran.leave_out(), Vec::<String>::new());
    let after = fs::metadata(world.base.join("etc")).expect("a directory");
    assert_eq!((before.mtime(), before.ctime()), (after.mtime(), after.ctime()), "the base is untouched");
    assert!(!world.base.join("proc").exists() && !world.base.join("etc/hosts").exists());
}

fn private_files(world: &World) {
    let mut step = world.step("cat /etc/resolv.conf; hostname; echo 1.2.3.4 x >>/etc/hosts; tail -1 /etc/hosts");
    step.request.files = PrivateFile::standard("somehost");
    step.request.files[0].contents = b"nameserver 192.0.2.1\n".to_vec();
    step.request.hostname = "somehost".into();
    assert_eq!(world.run(&step).stdout, "nameserver 192.0.2.1\nsomehost\n1.2.3.4 x\n");
    assert_eq!(tree(&step.upper), Vec::<String>::new());

    // What the command makes beside them stays, below a directory that looks as before.
    let looks = |path: PathBuf| fs::metadata(path).map(|metadata| (metadata.mode(), metadata.uid())).expect("metadata");
    fs::set_permissions(world.base.join("etc"), fs::Permissions::from_mode(0o751)).expect("permissions");
    let step = world.step("echo new >/etc/new");
    world.run(&step);
    assert_eq!(tree(&step.upper), ["etc", "etc/new"]);
    assert_eq!(looks(step.upper.join("etc")), looks(world.base.join("etc")));

    // Something else than a file in their place is left alone.
    let step = world.step("ls -d /etc/hosts");
    fs::create_dir_all(step.upper.join("etc/hosts")).expect("a directory");
    let ran = world.run(&step);
    assert!(ran.outcome.notes.contains(&Note::NotAFile { target: "/etc/hosts".into() }));
}

fn dangling_resolv_conf(world: &World) {
    let layer = world.directory.join("dangling");
    fs::create_dir_all(layer.join("etc")).expect("a directory");
    symlink("../run/resolved/stub.conf", layer.join("etc/resolv.conf")).expect("a link");
    let lower = vec![layer, world.base.clone()];
    let mut step = world.step_on(lower, "cat /etc/resolv.conf; readlink /etc/resolv.conf; ls /run/resolved");
    step.request.files[0].contents = b"nameserver 192.0.2.2\n".to_vec();
    let ran = world.run(&step);
    assert_eq!(ran.stdout, "nameserver 192.0.2.2\n../run/resolved/stub.conf\nstub.conf\n");
    assert_eq!((tree(&step.upper), ran.leave_out()), (vec![], vec![]));
}

fn opaque_directory(world: &World) {
    let mut step = world.step("rm -r /srv && mkdir /srv && ls -a /srv | wc -l");
    world.run(&step);
    let opaque = world.step("cat /srv/below/file");
    // The same upper directory again: its /srv hides every lower one.
    step.request.arguments = opaque.request.arguments;
    step.request.files.push(PrivateFile { target: "/srv/below/file".into(), contents: b"private".to_vec() });
    let ran = world.run(&step);
    assert_eq!(ran.stdout, "private");
    assert_eq!(ran.leave_out(), ["srv/below", "srv/below/file"]);
}

fn changes(world: &World) {
    let step =
        world.step("echo changed >>/srv/base; rm /etc/group; mkdir -m 2750 /made; ln -s /x /made/link; mkfifo /made/p");
    assert!(world.run(&step).outcome.exit.success());
    let expected = ["etc", "etc/group", "made", "made/link", "made/p", "srv", "srv/base"];
    assert_eq!(tree(&step.upper), expected);
    assert_eq!(fs::read_to_string(step.upper.join("srv/base")).expect("a file"), "from the base\nchanged\n");
    let whiteout = fs::symlink_metadata(step.upper.join("etc/group")).expect("a whiteout");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(fs::metadata(step.upper.join("made")).expect("a directory").mode() & 0o7777, 0o2750);

    let step = world.step("rm -r /srv; mkdir /srv; umask; touch /made");
    assert_eq!(world.run(&step).stdout, "0022\n");
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(step.upper.join("srv"), "user.overlay.opaque", &mut value).expect("a mark");
    assert_eq!(&value[..length], b"y");
    assert_eq!(fs::metadata(step.upper.join("made")).expect("a file").mode() & 0o7777, 0o644);
}

fn again(world: &World) {
    let step = world.step("echo x >>/srv/again; cat /srv/again");
    assert_eq!(world.run(&step).stdout, "x\n");
    assert_eq!(world.run(&step).stdout, "x\nx\n");
    let Root::Overlay { work, .. } = &step.request.root else { panic!("an overlay") };
    assert_eq!(tree(work), Vec::<String>::new(), "the work directory is left empty");
}

fn many_layers(world: &World) {
    let mut lower = Vec::new();
    for number in 0..130 {
        let layer = world.directory.join(format!("a layer: {number}, with \\ and \"{}\"", "long".repeat(20)));
        fs::create_dir_all(layer.join("srv")).expect("a directory");
        fs::write(layer.join(format!("srv/{number}")), "").expect("a file");
        lower.push(layer);
    }
    lower.push(world.base.clone());
    let ran = world.run(&world.step_on(lower, "ls /srv | wc -l"));
    assert_eq!(ran.stdout, "131\n");
}

fn repeated_layer(world: &World) {
    let layer = |name: &str, content: &str| {
        let directory = world.directory.join(name);
        fs::create_dir_all(directory.join("srv")).expect("a directory");
        fs::write(directory.join("srv/repeated"), content).expect("a file");
        directory
    };
    let (one, other) = (layer("repeated-one", "one\n"), layer("repeated-other", "other\n"));
    let stack = vec![one.clone(), other, one, world.base.clone()];
    assert_eq!(world.run(&world.step_on(stack, "cat /srv/repeated")).stdout, "one\n");
}

fn scratch(world: &World) {
    let mut step = world.step_on(Vec::new(), "");
    fs::create_dir(step.upper.join("x")).expect("a directory");
    fs::copy(world.base.join("bin/busybox"), step.upper.join("x/busybox")).expect("a program");
    step.request.arguments = ["/x/busybox", "ls", "/"].map(str::to_owned).to_vec();
    assert_eq!(world.run(&step).stdout, "dev\netc\nproc\nsys\nx\n");
    assert_eq!(tree(&step.upper), ["x", "x/busybox"]);
}

fn working_directory(world: &World) {
    let mut step = world.step("pwd; echo >here");
    step.request.working_directory = "/srv/a/../b/c".into();
    assert_eq!(world.run(&step).stdout, "/srv/b/c\n");
    assert_eq!(tree(&step.upper), ["srv", "srv/b", "srv/b/c", "srv/b/c/here"]);
    let made = fs::metadata(step.upper.join("srv/b")).expect("a directory");
    assert_eq!((made.mode() & 0o7777, made.uid()), (0o755, rustix::process::getuid().as_raw()));

    // An absolute symlink of the image stays in the image.
    let mut step = world.step("pwd -P");
    symlink("/srv", step.upper.join("link")).expect("a link");
    step.request.working_directory = "/link/deep".into();
    assert_eq!(world.run(&step).stdout, "/srv/deep\n");
}

fn surroundings(world: &World) {
    assert_eq!(world.output("echo $$"), "2\n", "a process namespace with our init and the command");
    let script = "echo x >/dev/null; head -c 3 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; test -c /dev/tty
        test -w /dev/shm && echo s >/dev/shm/s; test -d /sys/kernel && test -e /dev/pts/ptmx; echo ok; ls /dev";
    let listing = "core_pattern";
    let output = world.output(script);
    assert!(output.starts_with("3\n4\nok\n"), "{output}");
    let expected = "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    assert_eq!(output["3\n4\nok\n".len()..], *expected);
    assert_ne!(world.exit(&format!("echo x >/proc/sys/kernel/{listing}")), Exit::Code(0));
    assert_ne!(world.exit("mkdir /sys/new || echo 1 >/sys/kernel/uevent_seqnum"), Exit::Code(0));
    assert_eq!(world.output("cat /proc/timer_list /proc/interrupts 2>/dev/null; ls /sys/firmware"), "");
    assert_eq!(world.output("cat < /proc/self/stat | cut -d' ' -f2"), "(cat)\n");
}

fn user(world: &World) {
    let passwd = fs::read(world.base.join("etc/passwd")).expect("passwd");
    let group = fs::read(world.base.join("etc/group")).expect("group");
    let mut step =
        world.step("id -u; id -g; id -G; grep CapEff /proc/self/status; echo x >/dev/stdout; echo x >/etc/y");
    step.request.user = resolve_user("app", &passwd, &group).expect("a user");
    if world.ids() == Ids::Single {
        let error = world.try_run(&step).err().expect("no such id").to_string();
        assert!(error.contains("user 1000") && error.contains("/etc/subuid"), "{error}");
        return;
    }
    let ran = world.run(&step);
    assert_eq!(ran.stdout, "1000\n1000\n1000 2000\nCapEff:\t0000000000000000\nx\n");
    assert_eq!(ran.outcome.exit, Exit::Code(1), "it can't write where only root may");
    step.request.user = ResolvedUser { uid: 65534, gid: 65534, groups: vec![], home: "/".into() };
    step.request.arguments = ["/bin/sh", "-c", "id -G"].map(str::to_owned).to_vec();
    assert_eq!(world.run(&step).stdout, "65534\n");
}

fn owners(world: &World) {
    let step = world.step("touch /srv/file; chown 33:42 /srv/file && stat -c %u:%g /srv/file");
    let ran = world.run(&step);
    if world.ids() == Ids::Single {
        assert!(!ran.outcome.exit.success() && ran.outcome.notes == [Note::SingleId], "{:?}", ran.outcome);
    } else {
        assert_eq!(ran.stdout, "33:42\n");
        let file = fs::metadata(step.upper.join("srv/file")).expect("a file");
        assert_eq!((file.uid(), file.gid()), (33, 42), "the builder sees the same ids");
    }
}

fn bindings(world: &World) {
    let source = world.directory.join("bound");
    fs::create_dir_all(&source).expect("a directory");
    fs::write(source.join("file"), "bound\n").expect("a file");
    let mut step = world.step("cat /mnt/deep/file /dev/shm/secret; echo w >/cache/w; echo x >/mnt/deep/x");
    let bind = |path: PathBuf, target: &str, read_only| Mount {
        target: target.into(),
        source: MountSource::Path { path, read_only },
    };
    step.request.mounts = vec![
        bind(source.clone(), "/mnt/deep", true),
        bind(source.join("file"), "/dev/shm/secret", true),
        bind(source.clone(), "/cache", false),
    ];
    let ran = world.run(&step);
    assert_eq!((ran.stdout.as_str(), ran.outcome.exit), ("bound\nbound\n", Exit::Code(1)), "{}", ran.stderr);
    assert!(source.join("w").exists() && !source.join("x").exists());
    assert_eq!((tree(&step.upper), ran.leave_out()), (vec![], vec![]));
}

fn mounts_of_every_kind(world: &World) {
    let (top, below) = (world.directory.join("layer-top"), world.directory.join("layer-below"));
    for directory in [&top, &below] {
        fs::create_dir_all(directory.join("part")).expect("a directory");
    }
    fs::write(below.join("part/a"), "below\n").expect("a file");
    fs::write(below.join("part/b"), "below\n").expect("a file");
    fs::write(top.join("part/b"), "top\n").expect("a file");
    let mut step = world.step(
        "stat -c '%u %g %a' /run/secrets/token; cat /run/secrets/token /ro/a /ro/b /one; \
         echo x 2>/dev/null >/ro/x || echo refused; echo x >/rw/a && cat /rw/a; \
         dd if=/dev/zero of=/memory/big bs=64k count=3 2>/dev/null || echo full",
    );
    let layers = |path: &str, read_only| MountSource::Layers {
        lower: vec![top.clone(), below.clone()],
        path: path.into(),
        read_only,
    };
    let secret = MountSource::File { contents: b"hush\n".to_vec(), mode: 0o400, uid: 0, gid: 0 };
    step.request.mounts = [
        ("/run/secrets/token", secret),
        ("/ro", layers("/part", true)),
        ("/rw", layers("/part", false)),
        ("/one", layers("part/b", true)),
        ("/memory", MountSource::Memory { size_bytes: Some(128 << 10) }),
    ]
    .map(|(target, source)| Mount { target: target.into(), source })
    .to_vec();
    let ran = world.run(&step);
    let said = "0 0 400\nhush\nbelow\ntop\ntop\nrefused\nx\nfull\n";
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (said, ""));
    assert_eq!(fs::read_to_string(below.join("part/a")).expect("still there"), "below\n", "writes are forgotten");
    assert!(!top.join("part/a").exists());
    assert_eq!((tree(&step.upper), ran.leave_out()), (vec![], vec![]));
}

fn no_network(world: &World) {
    let mut step = world.step("ls /proc/self/net/dev_mcast >/dev/null; tail -n +3 /proc/net/dev | cut -d: -f1; ping -c1 127.0.0.1 >/dev/null && echo up");
    step.request.network = Network::None;
    let ran = world.run(&step);
    assert_eq!(ran.stdout.replace(' ', ""), "lo\nup\n", "{}", ran.stderr);
}

fn unfit_requests(world: &World) {
    let refused = |change: &dyn Fn(&mut cofferdam_exec::RunRequest)| {
        let mut step = world.step("true");
        change(&mut step.request);
        matches!(world.try_run(&step), Err(ExecError::Request(_) | ExecError::Form { .. }))
    };
    assert!(refused(&|request| request.arguments.clear()));
    assert!(refused(&|request| request.working_directory = "relative".into()));
    assert!(refused(&|request| request.arguments.push("a\0b".into())));
    assert!(refused(
        &|request| request.root = Root::Flat { directory: "/".into(), journal: "/journal".into(), below: None }
    ));
    assert!(refused(&|request| request.files[0].target = "etc/hosts".into()));

    let mut step = world.step("true");
    fs::write(step.upper.join("proc"), "").expect("a file");
    let error = world.try_run(&step).err().expect("no /proc").to_string();
    assert!(error.contains("/proc"), "{error}");
    step.request.timeout = Some(Duration::from_secs(1));
}
