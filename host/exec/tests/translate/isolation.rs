//! Nothing outside is read or changed, whatever a command tries.

use std::fs;

use crate::{attack::SECRET, behaviour::Test, world::World};

/// All.
pub const TESTS: &[Test] = &[
    ("no_attack_reaches_what_is_outside", no_attack_reaches_what_is_outside),
    ("the_layer_of_a_file_is_not_changed_where_the_translator_is_deceived", the_layer_of_a_file_is_not_changed),
];

const ATTACKS: [&str; 22] = [
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
    "door",
    "race",
    "path",
];

fn no_attack_reaches_what_is_outside(world: &World) {
    let outside = world.directory.join("outside");
    fs::create_dir_all(&outside).expect("a directory");
    let secret = outside.join("secret");
    fs::write(&secret, SECRET).expect("a file");
    let path = secret.to_str().expect("text");
    let pid = std::process::id().to_string();
    for kind in ATTACKS {
        let step = world.program_step(&["__attack", kind, path, &pid]);
        let ran = world.run(&step);
        assert_eq!(ran.stdout, "nothing\n", "{kind}: {:?}\n{}", ran.outcome.exit, ran.stderr);
        if kind == "race" {
            assert!(ran.stderr.contains("refused") && !ran.stderr.starts_with("0 "), "no exchange: {}", ran.stderr);
        }
        fs::remove_dir_all(&step.tree).expect("ours");
    }
    assert_eq!(fs::read_to_string(&secret).expect("still there"), SECRET);
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
