//! Nothing outside is read or changed, whatever a command tries.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    attack::SECRET,
    behaviour::Test,
    world::{Step, World},
};

/// All.
pub const TESTS: &[Test] = &[
    ("no_attack_reaches_what_is_outside", no_attack_reaches_what_is_outside),
    ("without_the_translators_checks_the_domain_holds", without_the_translators_checks_the_domain_holds),
    ("the_layer_of_a_file_is_not_changed_where_the_translator_is_deceived", the_layer_of_a_file_is_not_changed),
];

const ATTACKS: [&str; 29] = [
    "path",
    "climb",
    "root-of-one",
    "root-of-builder",
    "environment",
    "memory",
    "symlink",
    "hard-link",
    "rename",
    "ptrace",
    "signal",
    "process-memory",
    "io-uring",
    "handle",
    "new-call",
    "x32",
    "int80",
    "mount",
    "namespace",
    "take",
    "directory",
    "change",
    "attributes",
    "execute",
    "descriptors",
    "tracer",
    "terminal",
    "door",
    "race",
];

fn no_attack_reaches_what_is_outside(world: &World) {
    let secrets = Secrets::plant(&world.directory.join("outside"));
    for kind in ATTACKS {
        secrets.attack(world, world.program_step(&[]), kind, &[]);
    }
}

/// Those that need nothing but the rights of the builder's user.
const ABOUT_FILES: [&str; 10] =
    ["path", "climb", "symlink", "hard-link", "rename", "take", "directory", "change", "attributes", "execute"];

/// Each of them reaches what it is after where nothing keeps it from there.
fn show_that_attacks_work(world: &World) {
    let place = world.directory.join("unprotected");
    for kind in ABOUT_FILES {
        let secrets = Secrets::plant(&place.join("outside"));
        let secret = secrets.directory.join("secret");
        for name in ["tmp", "srv"] {
            fs::create_dir_all(place.join(name)).expect("a directory");
        }
        fs::write(place.join("srv/base"), "").expect("a file");
        let ran = std::process::Command::new("/proc/self/exe")
            .args(["__attack", kind, secret.to_str().expect("text"), "1"])
            .current_dir(&place)
            .output()
            .expect("it starts");
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "found\n", "{kind} can't fail");
        fs::remove_dir_all(&place).expect("ours");
    }
}

/// With the paths of the machine, as if no path were exchanged and nothing checked: the domain and the filter alone keep the
/// command from all that the builder's user owns.
fn without_the_translators_checks_the_domain_holds(world: &World) {
    show_that_attacks_work(world);
    let outside = world.directory.join("outside");
    // Where a builder and a pod have what is not the command's.
    let places = ["home/.docker", "store/layers", "scratch/another", "tree-of-another-stage/etc", "var/run/secrets"];
    for (number, place) in places.iter().enumerate() {
        let secrets = Secrets::plant(&outside.join(place));
        for kind in ATTACKS.into_iter().filter(|kind| *kind != "race") {
            // One place is enough for what is about processes.
            let about_files =
                ["path", "climb", "symlink", "hard-link", "rename", "take", "directory", "change", "execute"];
            if number == 0 || about_files.contains(&kind) {
                secrets.attack(world, world.program_step(&[]), kind, &["unchecked"]);
            }
        }
    }
    if world.on_layers.get() {
        // What the command may read it may not change.
        let mut step = world.program_step(&[]);
        let file = step.layer_directory().join("srv/base");
        let words = ["/bin/test-program", "__attack", "change", file.to_str().expect("text"), "1", "unchecked"];
        step.request.arguments = words.map(str::to_owned).to_vec();
        assert_eq!(world.run(&step).stdout, "nothing\n");
        assert_eq!(fs::read_to_string(&file).expect("still there"), "from the base\n");
    }
}

/// A file that no command may read, and a program that none may start.
struct Secrets {
    directory: PathBuf,
    before: Vec<(PathBuf, u32, i64)>,
}

impl Secrets {
    fn plant(directory: &Path) -> Self {
        fs::create_dir_all(directory).expect("a directory");
        fs::write(directory.join("secret"), SECRET).expect("a file");
        fs::copy("/bin/true", directory.join("secret-program")).expect("a program");
        Self { directory: directory.into(), before: Self::state(directory) }
    }

    fn state(directory: &Path) -> Vec<(PathBuf, u32, i64)> {
        let mut state: Vec<_> = fs::read_dir(directory)
            .expect("readable")
            .map(|found| {
                let found = found.expect("readable");
                let seen = found.metadata().expect("it exists");
                (found.path(), seen.mode(), seen.mtime())
            })
            .collect();
        state.sort();
        state
    }

    fn attack(&self, world: &World, mut step: Step, kind: &str, more: &[&str]) {
        let secret = self.directory.join("secret");
        let pid = std::process::id().to_string();
        let words = ["/bin/test-program", "__attack", kind, secret.to_str().expect("text"), &pid];
        step.request.arguments = words.iter().chain(more).map(|&word| word.to_owned()).collect();
        let ran = world.run(&step);
        assert_eq!(ran.stdout, "nothing\n", "{kind} of {secret:?}: {:?}\n{}", ran.outcome.exit, ran.stderr);
        if kind == "race" {
            assert!(ran.stderr.contains("refused") && !ran.stderr.starts_with("0 "), "no exchange: {}", ran.stderr);
        }
        fs::remove_dir_all(&step.tree).expect("ours");
        assert_eq!(fs::read_to_string(&secret).expect("still there"), SECRET, "{kind}");
        assert_eq!(Self::state(&self.directory), self.before, "{kind}");
    }
}

/// The command may read its layers where they are: nothing but its Landlock domain keeps it from writing there.
fn the_layer_of_a_file_is_not_changed(world: &World) {
    if !world.on_layers.get() {
        return;
    }
    let mut step = world.program_step(&[]);
    let file = step.layer_directory().join("srv/base");
    let path = file.to_str().expect("text");
    let words = ["/bin/test-program", "__attack", "race-to-write", path, "1"];
    step.request.arguments = words.map(str::to_owned).to_vec();
    let ran = world.run(&step);
    assert_eq!(ran.stdout, "nothing\n", "{:?}\n{}", ran.outcome.exit, ran.stderr);
    assert!(ran.stderr.contains("refused") && !ran.stderr.starts_with("0 "), "no exchange: {}", ran.stderr);
    assert_eq!(fs::read_to_string(&file).expect("still there"), "from the base\n");
}
