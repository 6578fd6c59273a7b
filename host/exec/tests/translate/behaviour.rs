//! What a command sees and does.

use cofferdam_exec::{Mount, MountSource};

use crate::world::World;

/// A name and what it does.
pub type Test = (&'static str, fn(&World));

/// All.
pub const TESTS: &[Test] = &[
    ("the_command_is_root_in_its_tree", the_command_is_root_in_its_tree),
    ("owners_and_modes_are_seen_by_every_call", owners_and_modes_are_seen_by_every_call),
    ("proc_tells_what_is_true_in_the_image", proc_tells_what_is_true_in_the_image),
    ("a_user_is_held_to_its_rights", a_user_is_held_to_its_rights),
    ("paths_stay_in_the_tree", paths_stay_in_the_tree),
    ("scripts_and_loaders_start_as_the_kernel_starts_them", scripts_and_loaders_start_as_the_kernel_starts_them),
    ("an_unknown_program_is_told", an_unknown_program_is_told),
    ("unix_sockets_have_names_however_long_the_way", unix_sockets_have_names_however_long_the_way),
    ("signals_and_jobs_work", signals_and_jobs_work),
    ("thousands_of_short_processes_leave_nothing", thousands_of_short_processes_leave_nothing),
    ("a_command_that_takes_too_long_is_stopped_with_all_it_started", a_command_that_takes_too_long_is_stopped),
    ("a_command_that_is_cancelled_is_gone", a_command_that_is_cancelled_is_gone),
    ("a_killed_builder_leaves_no_process", a_killed_builder_leaves_no_process),
    ("what_runs_in_the_background_ends_with_the_command", what_runs_in_the_background_ends_with_the_command),
    ("processes_that_are_stopped_while_they_start_go_on", processes_that_are_stopped_while_they_start_go_on),
    ("setuid_programs_give_root", setuid_programs_give_root),
    ("mounts_are_seen_and_leave_nothing", mounts_are_seen_and_leave_nothing),
    ("memory_holds_no_more_than_it_may", memory_holds_no_more_than_it_may),
    ("links_and_renames_stay_on_their_mount", links_and_renames_stay_on_their_mount),
    ("names_that_change_lead_elsewhere_at_once", names_that_change_lead_elsewhere_at_once),
    ("commands_see_all_processors", commands_see_all_processors),
    ("locks_of_a_command_are_not_the_layers", locks_of_a_command_are_not_the_layers),
    ("without_a_network_there_is_a_loopback_where_the_kernel_has_one", without_a_network_there_is_a_loopback),
    ("programs_for_another_processor_are_told", programs_for_another_processor_are_told),
];

fn the_command_is_root_in_its_tree(world: &World) {
    let said = world.output("id -u; pwd; cd /srv; pwd; cat base; ls /; readlink /proc/self/exe; hostname");
    assert_eq!(said, "0\n/\n/srv\nfrom the base\nbin\ndev\netc\nproc\nroot\nsrv\nsys\ntmp\n/bin/busybox\nbuilder\n");
}

fn owners_and_modes_are_seen_by_every_call(world: &World) {
    let step = world.step(
        "cd /srv; touch f; chown 33:44 f; chmod 4711 f; stat -c '%u %g %a' f; ln f g; stat -c '%u %g %a %h' g; \
         mv g h; stat -c '%u' h; mkdir -m 1777 d; stat -c %a d; mknod c c 5 1; stat -c '%F %t %T' c; \
         ln -s f l; chown -h 7 l; stat -c %u l; cp -a f copy; stat -c '%u %g %a' copy",
    );
    let said = world.output_of(&step);
    assert_eq!(said, "33 44 4711\n33 44 4711 2\n33\n1777\ncharacter special file 5 1\n7\n33 44 4711\n");
    assert_eq!(step.recorded("srv/h"), Some((33, 44, 0o4711)));
}

fn proc_tells_what_is_true_in_the_image(world: &World) {
    let script = "grep -E '^(Uid|Gid|Groups|TracerPid|CapEff|NoNewPrivs)' /proc/self/status; \
                  grep Uid /proc/$$/task/$$/status; cut -d' ' -f2,3 /proc/mounts | head -3; \
                  cut -d' ' -f5 /proc/self/mountinfo | head -2; grep -o '/bin/.*' /proc/self/maps | sort -u; \
                  grep -c \"$(echo $OUTSIDE)\" /proc/self/maps /proc/self/mounts /proc/self/mountinfo; \
                  cd /srv; for l in self/cwd self/root $$/exe; do readlink /proc/$l; done; ls -A /proc/self/fd | wc -l";
    let mut step = world.step(script);
    step.request.user = cofferdam_exec::ResolvedUser { uid: 33, gid: 34, groups: vec![5, 2000], home: "/srv".into() };
    step.request.environment.push(("OUTSIDE".into(), world.directory.to_str().expect("text").into()));
    let said = world.output_of(&step);
    assert_eq!(
        said.replace([' ', '\t'], "|"),
        "TracerPid:|0\nUid:|33|33|33|33\nGid:|34|34|34|34\nGroups:|5|2000|\nCapEff:|0000000000000000\nNoNewPrivs:|0\n\
         Uid:|33|33|33|33\n/|overlay\n/proc|proc\n/sys|sysfs\n/\n/proc\n/bin/busybox\n\
         /proc/self/maps:0\n/proc/self/mounts:0\n/proc/self/mountinfo:0\n/srv\n/\n/bin/busybox\n4\n"
    );
}

fn a_user_is_held_to_its_rights(world: &World) {
    let mut step = world.step(
        "id -u; touch /etc/x 2>/dev/null && echo wrote; touch /tmp/mine; stat -c '%u %g' /tmp/mine; \
         chown 0 /tmp/mine 2>/dev/null && echo gave; cat /etc/passwd >/dev/null && echo read",
    );
    step.request.user = cofferdam_exec::ResolvedUser { uid: 33, gid: 33, groups: vec![], home: "/srv".into() };
    assert_eq!(world.output_of(&step), "33\n33 33\nread\n");
}

fn paths_stay_in_the_tree(world: &World) {
    let said = world.output(
        "cd /; cat ../../../etc/group | head -1; ln -s /etc /tmp/e; cat /tmp/e/group | head -1; \
         ls /proc/1 2>/dev/null && echo others; cat /proc/self/root/etc/group | head -1; ls /../../bin/busybox; \
         echo hi | cat /dev/stdin; cat /dev/null; echo x > /dev/null; echo done",
    );
    assert_eq!(said, "root:x:0:\nroot:x:0:\nroot:x:0:\n/../../bin/busybox\nhi\ndone\n");
}

fn scripts_and_loaders_start_as_the_kernel_starts_them(world: &World) {
    let said = world.output(
        "cd /tmp; printf '#!/bin/sh -e\necho \"$0 $*\"; readlink /proc/self/exe\n' > s; chmod 755 s; ./s a b; \
         printf '#!/tmp/s x y\n' > t; chmod 755 t; /tmp/t c; printf 'echo plain\n' > u; chmod 755 u; ./u; \
         printf '#!/nowhere\n' > v; chmod 755 v; ./v 2>/dev/null; echo $?; chmod 644 s; ./s 2>/dev/null; echo $?",
    );
    assert_eq!(said, "./s a b\n/bin/busybox\n/tmp/s x y /tmp/t c\n/bin/busybox\nplain\n127\n126\n");
    // A dynamic program: this one, with its loader and libraries.
    let step = world.program_step(&["__attack", "path", "/nowhere", "1"]);
    assert_eq!(world.output_of(&step), "nothing\n");
}

fn an_unknown_program_is_told(world: &World) {
    let mut step = world.step("");
    step.request.arguments = vec!["nowhere".into()];
    let error = world.try_run(&step).map(|ran| ran.stdout).expect_err("there is none");
    assert_eq!(error.exit_code(), 127, "{error}");
}

fn unix_sockets_have_names_however_long_the_way(world: &World) {
    let deep = "d/".repeat(40);
    let said = world.output(&format!(
        "mkdir -p /tmp/{deep}; cd /tmp/{deep}; (nc -l -p 0 >/dev/null 2>&1 &); \
         syslogd -n -O /tmp/log & sleep 0.3; logger -t me hello; sleep 0.3; grep -c hello /tmp/log; test -S /dev/log && echo socket"
    ));
    assert_eq!(said, "1\nsocket\n");
}

fn signals_and_jobs_work(world: &World) {
    let said = world.output(
        "trap 'echo usr1' USR1; kill -USR1 $$; sleep 5 & kill $!; wait $!; echo $?; \
         (kill -STOP $(sh -c 'echo $PPID'); echo continued) & p=$!; sleep 0.2; kill -CONT $p; wait $p; echo $?; \
         sh -c 'kill -9 $$'; echo $?; mkfifo /tmp/f; (sleep 0.2; echo through > /tmp/f) & cat /tmp/f; \
         kill -0 1 2>/dev/null && echo others; timeout 1 cat /tmp/f; echo $?; yes | head -1",
    );
    assert_eq!(said, "usr1\n143\ncontinued\n0\n137\nthrough\n143\ny\n");
}

fn thousands_of_short_processes_leave_nothing(world: &World) {
    let said = world.output("i=0; while [ $i -lt 10000 ]; do /bin/true; i=$((i+1)); done; echo $i");
    assert_eq!(said, "10000\n");
    assert_eq!(processes_of(world), 0);
}

fn processes_of(world: &World) -> usize {
    let tree = world.directory.to_str().expect("text").to_owned();
    let entries = std::fs::read_dir("/proc").expect("readable").filter_map(Result::ok);
    let runs = |path: std::path::PathBuf| {
        std::fs::read_link(path.join("exe")).is_ok_and(|exe| exe.to_string_lossy().starts_with(&format!("{tree}/tree")))
    };
    entries.filter(|entry| runs(entry.path())).count()
}

fn a_command_that_takes_too_long_is_stopped(world: &World) {
    let mut step = world.step("sleep 1000 & (setsid sleep 1000 &) ; sleep 1000");
    step.request.timeout = Some(std::time::Duration::from_millis(500));
    let error = world.try_run(&step).map(|ran| ran.stdout).expect_err("it does not end");
    assert!(matches!(error, cofferdam_exec::ExecError::TimedOut { .. }), "{error}");
    assert_eq!(processes_of(world), 0);
}

fn a_command_that_is_cancelled_is_gone(world: &World) {
    let mut step = world.step("i=0; while [ $i -lt 50 ]; do sleep 1000 & i=$((i+1)); done; echo up; wait");
    let cancel = cofferdam_exec::Cancel::new().expect("a handle");
    step.request.cancel = Some(cancel.clone());
    let mut seen = false;
    let mut sink = |_: cofferdam_exec::Stream, _: &[u8]| {
        seen = true;
        cancel.cancel();
    };
    let error = world.run_into(&step, &mut sink).map(drop).expect_err("it was cancelled");
    assert!(matches!(error, cofferdam_exec::ExecError::Cancelled) && seen, "{error}");
    assert_eq!(processes_of(world), 0);
}

/// The builder is killed while its command runs.
fn a_killed_builder_leaves_no_process(world: &World) {
    use std::io::BufRead;
    let step = world.step("");
    let script = "sleep 1000 & (setsid sleep 1000 &); echo up; wait";
    let mut builder = std::process::Command::new(std::env::current_exe().expect("a path"))
        .arg("__run")
        .args([&step.tree, &step.journal, &step.request.scratch_directory])
        .args(["0", "/bin/sh", "-c", script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    std::io::BufReader::new(builder.stdout.take().expect("piped")).read_line(&mut line).expect("text");
    assert_eq!((line.as_str(), processes_of(world) > 1), ("up\n", true));
    builder.kill().expect("it runs");
    builder.wait().expect("it ended");
    // Nobody is left to wait for them.
    for _ in 0..500 {
        if processes_of(world) == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} processes are left", processes_of(world));
}

fn what_runs_in_the_background_ends_with_the_command(world: &World) {
    assert_eq!(world.output("sleep 1000 & (setsid sleep 1000 >/dev/null 2>&1 &); echo done"), "done\n");
    assert_eq!(processes_of(world), 0);
}

fn setuid_programs_give_root(world: &World) {
    let mut step = world.program_step(&[]);
    let script = "chown 0:0 /bin/test-program; chmod 4755 /bin/test-program; \
                  su -s /bin/sh www -c '/bin/test-program __whoami; id -u; touch /etc/mine 2>/dev/null || echo refused; \
                  cat /proc/self/status >/dev/null && echo own'; id -u";
    step.request.arguments = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    assert_eq!(world.output_of(&step), "33 0\n33\nrefused\nown\n0\n");
}

fn processes_that_are_stopped_while_they_start_go_on(world: &World) {
    let said = world.output(
        "i=0; while [ $i -lt 300 ]; do /bin/busybox true & kill -STOP $! 2>/dev/null; kill -CONT $! 2>/dev/null; wait $! || \
         echo bad; i=$((i+1)); done; echo $i",
    );
    assert_eq!(said, "300\n");
}

fn mounts_are_seen_and_leave_nothing(world: &World) {
    let bound = world.directory.join("bound");
    std::fs::create_dir_all(&bound).expect("a directory");
    std::fs::write(bound.join("file"), "bound\n").expect("a file");
    let mut step = world.step(
        "ls /run/secrets; stat -c '%u %g %a' /run/secrets/token; cat /run/secrets/token /mnt/file; \
         echo x 2>/dev/null >/mnt/x || echo refused; echo y >/memory/y && cat /memory/y; echo z >/srv/cache/z; \
         stat -c %a /memory; ls -d /mnt /memory; stat -f -c %n /mnt/ /memory /etc/; id -u",
    );
    let mount = |target: &str, source| Mount { target: target.into(), source };
    let path = |path: &std::path::Path, read_only| MountSource::Path { path: path.into(), read_only };
    step.request.mounts = vec![
        mount("/run/secrets/token", MountSource::File { contents: b"hush\n".to_vec(), mode: 0o440, uid: 33, gid: 44 }),
        mount("/mnt", path(&bound, true)),
        mount("/memory", MountSource::Memory { size_bytes: Some(1 << 20) }),
        mount("/srv/cache", path(&bound, false)),
    ];
    let said = world.output_of(&step);
    assert_eq!(said, "token\n33 44 440\nhush\nbound\nrefused\ny\n1777\n/memory\n/mnt\n/mnt/\n/memory\n/etc/\n0\n");
    assert!(bound.join("z").exists() && !bound.join("x").exists());
    for name in ["run", "mnt", "memory", "srv/cache"] {
        assert!(!step.tree.join(name).exists(), "{name}");
    }
    // The secret is for its owner alone.
    let mut other = world.step("cat /run/secrets/token 2>/dev/null || echo no");
    other.request.mounts = step.request.mounts[..1].to_vec();
    other.request.user = cofferdam_exec::ResolvedUser { uid: 1000, gid: 1000, groups: vec![], home: "/srv".into() };
    assert_eq!(world.output_of(&other), "no\n");
}

fn memory_holds_no_more_than_it_may(world: &World) {
    let mut step = world.step(
        "dd if=/dev/zero of=/memory/x bs=1000 count=100 2>/dev/null || echo full; stat -c %s /memory/x; \
         echo more 2>/dev/null >/memory/y || echo none; rm /memory/x; \
         dd if=/dev/zero of=/memory/y bs=1k count=64 2>/dev/null && echo again; \
         cp /memory/y /memory/z 2>/dev/null || echo no copy; \
         dd if=/dev/urandom of=/memory/y bs=1k count=64 conv=notrunc 2>/dev/null && echo over; \
         echo x 2>/dev/null >>/memory/y || echo nothing behind; rm /memory/*; truncate -s 1M /memory/holes && \
         echo text >/memory/small && echo holes; dd if=/dev/zero of=/srv/x bs=1k count=100 2>/dev/null && echo outside",
    );
    step.request.mounts =
        vec![Mount { target: "/memory".into(), source: MountSource::Memory { size_bytes: Some(64 << 10) } }];
    let expected = "full\n65536\nnone\nagain\nno copy\nover\nnothing behind\nholes\noutside\n";
    assert_eq!(world.output_of(&step), expected);
}

fn links_and_renames_stay_on_their_mount(world: &World) {
    let bound = world.directory.join("bound-apart");
    std::fs::create_dir_all(&bound).expect("a directory");
    std::fs::write(bound.join("file"), "bound\n").expect("a file");
    let mut step = world.step(
        "for to in /srv/cache /memory /dev /dev/shm; do ln /srv/base $to/x 2>&1 | grep -c 'cross-device'; done; \
         ln /srv/cache/file /srv/x 2>&1 | grep -c 'cross-device'; ln /dev/null /srv/x 2>&1 | grep -c 'cross-device'; \
         ln /proc/self/status /srv/x 2>&1 | grep -c 'cross-device'; echo s >/dev/shm/s; \
         ln /dev/shm/s /dev/s 2>&1 | grep -c 'cross-device'; ln /dev/shm/s /dev/shm/t && cat /dev/shm/t; \
         ln /srv/cache/file /srv/cache/again && cat /srv/cache/again; mv /srv/cache/file /srv/moved && cat /srv/moved; \
         rmdir /dev/shm 2>/dev/null || echo busy",
    );
    let mount = |target: &str, source| Mount { target: target.into(), source };
    step.request.mounts = vec![
        mount("/memory", MountSource::Memory { size_bytes: None }),
        mount("/srv/cache", MountSource::Path { path: bound.clone(), read_only: false }),
    ];
    assert_eq!(world.output_of(&step), format!("{}s\nbound\nbound\nbusy\n", "1\n".repeat(8)));
    assert!(!bound.join("file").exists() && bound.join("again").exists());
    std::fs::remove_dir_all(bound).expect("ours");
}

/// Directories that paths led to are remembered.
fn names_that_change_lead_elsewhere_at_once(world: &World) {
    let said = world.output(
        "cd /srv; see() { { read x <$1; } 2>/dev/null && echo $x || echo gone; }; mkdir -p a/b; echo one >a/b/f; ln -s a l; \
         ln -s /srv/l/b m; see l/b/f; see /srv/m/f; mv a c; see l/b/f; see /srv/m/f; see /srv/c/b/f; mkdir -p a/b; \
         echo two >a/b/f; see l/b/f; see /srv/m/f; ln -sfn c l; see l/b/f; see /srv/m/f; see /srv/l/b/f; rm l; see /srv/m/f; \
         mkdir -p l/b; echo three >l/b/f; see /srv/m/f; rm -r l; see /srv/m/f; ln -s a l; see /srv/m/f; \
         mv a/b x; see /srv/m/f; mv x a/b; see /srv/m/f; cd a/b; see f; mv /srv/a /srv/d; see f; pwd -P; see ../../d/b/f; \
         mkdir -p /srv/a/b; echo four >/srv/a/b/f; see f; see /srv/m/f; rm -r /srv/d; see f; cd /srv/a/b; see f",
    );
    let expected = "one one gone gone one two two one one one gone three gone two gone two two two /srv/d/b two two four gone four";
    assert_eq!(said.split_ascii_whitespace().collect::<Vec<_>>().join(" "), expected);
}

/// Though they share one with the tracer.
fn commands_see_all_processors(world: &World) {
    let said = world.output(
        "i=0; while [ $i -lt 300 ]; do test -e /srv/base; i=$((i+1)); done; nproc; \
         while [ $i -lt 600 ]; do test -e /srv/base; i=$((i+1)); done; grep Cpus_allowed_list /proc/$$/status; \
         while [ $i -lt 900 ]; do test -e /srv/base; i=$((i+1)); done; sh -c nproc; taskset 1 nproc; nproc",
    );
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let list = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).expect("it is there");
    let count = std::thread::available_parallelism().expect("some");
    assert_eq!(said, format!("{count}\n{list}\n{count}\n1\n{count}\n"));
}

fn locks_of_a_command_are_not_the_layers(world: &World) {
    if !world.on_layers.get() {
        return;
    }
    let step = world.program_step(&["__lock", "/srv/base"]);
    assert_eq!(world.output_of(&step), "locked\n");
    // What is in the layer is in nobody's hands, and who has it here has it not there.
    let layers = std::fs::File::open(step.layer_directory().join("srv/base")).expect("it is unpacked");
    rustix::fs::flock(&layers, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
    assert_eq!(world.output_of(&step), "locked\n");
}

fn without_a_network_there_is_a_loopback(world: &World) {
    let mut step = world.step(
        "grep -c : /proc/net/dev; mkfifo /tmp/quiet; nc -l -p 7777 <>/tmp/quiet >/tmp/got & \
         i=0; until echo hello | nc 127.0.0.1 7777 2>/tmp/error; do i=$((i+1)); test $i -lt 50 || { kill $!; break; }; sleep 0.2; done; \
         wait; cat /tmp/got; echo x | nc -w 1 192.0.2.1 80 2>/dev/null || echo alone; \
         cat /tmp/error >&2",
    );
    step.request.network = cofferdam_exec::Network::None;
    // As root of the machine, or of a namespace that is made for it.
    let unshare = |words: &[&str]| {
        let unshared = std::process::Command::new("unshare").args(words).arg("true").output();
        unshared.is_ok_and(|ended| ended.status.success())
    };
    let ran = world.run(&step);
    if unshare(&["-n"]) || unshare(&["-rn"]) {
        assert_eq!(ran.stdout, "1\nhello\nalone\n", "{}", ran.stderr);
    } else {
        assert!(ran.stdout.contains("alone") && ran.stderr.contains("Address family not supported"), "{}", ran.stderr);
    }
    // Descriptors are passed to a task by a socket of its network.
    let mut step = world.program_step(&["__terminals"]);
    step.request.network = cofferdam_exec::Network::None;
    let said = world.output_of(&step);
    assert!(said.contains("\non it: true true true\n"), "{said}");
}

fn programs_for_another_processor_are_told(world: &World) {
    // The beginning of a program is enough to know.
    let header = "\\177ELF\\001\\001\\001\\0\\0\\0\\0\\0\\0\\0\\0\\0\\002\\0\\003\\0\\001\\0\\0\\0";
    let step = world.step(&format!(
        "printf '{header}' > /tmp/old; dd if=/dev/zero bs=64 count=1 >> /tmp/old 2>/dev/null; chmod 755 /tmp/old; \
         /tmp/old 2>/dev/null; echo $?; /tmp/old 2>/dev/null; /bin/busybox true && echo go on"
    ));
    let ran = world.run(&step);
    assert!(ran.stdout.ends_with("go on\n") && !ran.stdout.starts_with("0\n"), "{}", ran.stdout);
    let notes: Vec<String> = ran.outcome.notes.iter().map(ToString::to_string).collect();
    assert!(notes.len() == 1 && notes[0].starts_with("`/tmp/old` is for 32-bit x86,"), "{notes:?}");
    let ran = world.run(&world.program_step(&["__attack", "int80", "/nowhere", "1"]));
    let notes: Vec<String> = ran.outcome.notes.iter().map(ToString::to_string).collect();
    assert!(notes.len() == 1 && notes[0].contains("int 0x80"), "{notes:?} {}", ran.stdout);
}
