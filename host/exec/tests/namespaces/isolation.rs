//! A command cannot reach the builder. Each attack is first shown to work where nothing stands in its way.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use cofferdam_exec::{Exit, Ids, Mount, MountSource, ResolvedUser};

use crate::{Test, attack::SECRET, world::World};

pub const TESTS: &[Test] = &[
    ("secrets_of_the_builder_are_out_of_reach", secrets),
    ("the_kernel_is_out_of_reach", kernel),
    ("init_of_the_command_shows_nothing", init),
    ("mounts_of_the_machine_are_not_there", mounts),
    ("capabilities_are_those_of_a_container", capabilities),
];

/// A process like the builder: same user, a secret in its environment, memory, working directory and descriptors.
struct Victim(Child);

impl Victim {
    fn start(directory: &Path) -> Self {
        fs::write(directory.join("secret"), SECRET).expect("a secret");
        let held = fs::File::open(directory.join("secret")).expect("a file");
        // The file would be found under its number 0 otherwise, which every process has.
        let script = "exec 9<secret; exec \"$0\" __victim";
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .arg(std::env::current_exe().expect("a program"))
            .env("TOKEN", SECRET)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a victim");
        drop(held);
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("output")).read_line(&mut line).expect("output");
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn attack_outside(kind: &str, victim: u32, path: &str) -> String {
    let program = std::env::current_exe().expect("a program");
    let output = Command::new(program).args(["__attack", kind, &victim.to_string(), path]).output().expect("an attack");
    String::from_utf8(output.stdout).expect("text")
}

fn attack_inside(world: &World, kind: &str, victim: u32, path: &str, user: &ResolvedUser) -> String {
    let mut step = world.step("");
    let victim = victim.to_string();
    step.request.arguments = ["/bin/attack", "__attack", kind, &victim, path].map(str::to_owned).to_vec();
    step.request.user = user.clone();
    let cache = world.directory.join("cache");
    fs::create_dir_all(&cache).expect("a directory");
    step.request.mounts =
        vec![Mount { target: "/mnt".into(), source: MountSource::Path { path: cache, read_only: false } }];
    let ran = world.run(&step);
    assert_eq!(ran.outcome.exit, Exit::Code(0), "{kind}: {}", ran.stderr);
    ran.stdout
}

fn users(world: &World) -> Vec<ResolvedUser> {
    let mut users = vec![ResolvedUser::root()];
    if world.ids() != Ids::Single {
        users.push(ResolvedUser { uid: 1000, gid: 1000, groups: vec![], home: "/".into() });
    }
    users
}

fn secrets(world: &World) {
    let directory = world.directory.join("victim");
    fs::create_dir_all(&directory).expect("a directory");
    let victim = Victim::start(&directory);
    let path = directory.join("secret").to_string_lossy().into_owned();
    let kinds = [
        "environ",
        "memory",
        "descriptors",
        "root",
        "cwd",
        "path",
        "ptrace",
        "signal",
        "abstract-socket",
        "executable",
    ];
    for kind in kinds {
        assert_eq!(attack_outside(kind, victim.0.id(), &path), "found\n", "{kind} works without isolation");
        for user in users(world) {
            assert_eq!(attack_inside(world, kind, victim.0.id(), &path, &user), "nothing\n", "{kind}, {user:?}");
        }
    }
}

fn kernel(world: &World) {
    let mut kinds = vec!["mount", "namespace", "clone3-namespace", "device", "bpf", "handle", "raw-socket"];
    if attack_outside("keyring", 1, "") == "found\n" {
        kinds.push("keyring");
    }
    for kind in kinds {
        for user in users(world) {
            assert_eq!(attack_inside(world, kind, 1, "", &user), "nothing\n", "{kind}, {user:?}");
        }
    }
    let everyone = ["mount", "namespace", "clone3-namespace"].as_slice();
    let root_of_the_machine = ["device", "bpf", "handle", "raw-socket"].as_slice();
    let kinds = if world.ids() == Ids::All { [everyone, root_of_the_machine].concat() } else { everyone.to_vec() };
    for kind in kinds {
        // Root of a user namespace can mount and make namespaces too: the filter and the capabilities forbid it.
        let program = std::env::current_exe().expect("a program");
        let unshared = Command::new("unshare").arg("-m").arg(program).args(["__attack", kind, "1", ""]).output();
        assert_eq!(unshared.expect("unshare").stdout, b"found\n", "{kind} works without isolation");
    }
}

fn init(world: &World) {
    for file in ["environ", "mem", "exe", "cwd/.", "root/.", "maps", "fd/0", "stack", "auxv"] {
        let ran = world.run(
            &world.step(&format!("if [ -d /proc/1/{file} ]; then ls /proc/1/{file}; else cat /proc/1/{file}; fi")),
        );
        assert!(!ran.outcome.exit.success() && ran.stdout.is_empty(), "{file}: {}", ran.stdout);
    }
    // Neither dies from it.
    assert_eq!(world.output("kill -9 1; kill -TERM 1; kill -SEGV 1; sleep 0.1; echo alive"), "alive\n");
    let processes: u32 = world.output("ls /proc | grep -c '^[0-9]'").trim().parse().expect("a number");
    assert!((2..=4).contains(&processes), "init, the shell, ls and grep, but {processes}");
}

fn mounts(world: &World) {
    let mounts = world.output("cut -d' ' -f5 /proc/self/mountinfo");
    let allowed = ["/", "/dev", "/proc", "/sys", "/etc"];
    for mount in mounts.lines() {
        let known =
            allowed.iter().any(|top| mount == *top || mount.starts_with(&format!("{}/", top.trim_end_matches('/'))));
        assert!(known && (mount == "/" || allowed[1..].iter().any(|top| mount.starts_with(top))), "{mount}");
    }
    let text = world.output("cat /proc/self/mountinfo");
    let store = world.directory.to_string_lossy();
    let revealing: Vec<&str> = text.lines().filter(|line| line.contains(&*store) && !line.contains("/etc/")).collect();
    assert_eq!(revealing, Vec::<&str>::new(), "the overlay's options name no path of the store");
}

fn capabilities(world: &World) {
    let lines = world.output("grep ^Cap /proc/self/status; grep Seccomp: /proc/self/status");
    let none = "0000000000000000";
    // Docker's default set without NET_RAW, which would show the builder's traffic.
    let docker = "00000000a80405fb";
    let expected =
        format!("CapInh:\t{none}\nCapPrm:\t{docker}\nCapEff:\t{docker}\nCapBnd:\t{docker}\nCapAmb:\t{none}\n");
    assert_eq!(lines, expected + "Seccomp:\t2\n");
}
