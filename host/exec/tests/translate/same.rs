//! The translator against the kernel: the same calls give the same.
//!
//! Root makes the calls for real, keeps what they gave, and compares; the ordinary user that the tests run as afterwards
//! compares with what root kept.

use std::path::{Path, PathBuf};

use cofferdam_exec::{Executor, Launcher, NamespaceExecutor, Root, Stream, Tier};

use crate::{
    behaviour::Test,
    operations,
    world::{Step, World},
};

/// All.
pub const TESTS: &[Test] = &[
    ("random_calls_give_what_they_give_to_root", random_calls_give_what_they_give_to_root),
    ("random_calls_on_a_base_give_what_they_give_to_root", random_calls_on_a_base_give_what_they_give_to_root),
    (
        "names_of_one_file_of_the_base_part_where_they_part_on_overlayfs",
        names_of_one_file_of_the_base_part_where_they_part_on_overlayfs,
    ),
];

/// How many calls each sequence has.
const CALLS: usize = 500;

/// Where root keeps what the kernel gave.
pub const EXPECTED: &str = "COFFERDAM_TEST_EXPECTED";

/// What the calls find.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Files, directories and links of the base, all of them root's.
    Base,
    /// The same, with owners of many kinds, which only root can make.
    OwnedBase,
}

/// `COFFERDAM_TEST_SEQUENCES` asks for more than a minute's worth, `COFFERDAM_TEST_SEED` for others.
fn random_calls_give_what_they_give_to_root(world: &World) {
    compare(world, Found::Nothing);
}

/// The same, where the calls find files, directories and links of the base.
fn random_calls_on_a_base_give_what_they_give_to_root(world: &World) {
    if !world.on_layers.get() {
        return;
    }
    compare(world, Found::Base);
    match has_other_side() {
        true => compare(world, Found::OwnedBase),
        false => println!("skipped: a base with owners needs root"),
    }
}

fn compare(world: &World, what: Found) {
    let asked = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let sequences = asked("COFFERDAM_TEST_SEQUENCES").unwrap_or(10);
    let first = asked("COFFERDAM_TEST_SEED").unwrap_or(1);
    let (name, place) = match what {
        Found::Nothing if world.on_layers.get() => ("", "in a tree made of layers"),
        Found::Nothing => ("", "in a whole tree"),
        Found::Base => ("base-", "on files of the base"),
        Found::OwnedBase => ("owned-base-", "on files of the base with owners of many kinds"),
    };
    let mut differences = Vec::new();
    for seed in first..first + sequences {
        let mut step = world.program_step(&["__operations", &seed.to_string(), &CALLS.to_string()]);
        step.owned |= what == Found::OwnedBase;
        let key = format!("{name}{seed}");
        let base = |root: &Path| {
            if what != Found::Nothing {
                make_base(root, seed, what == Found::OwnedBase);
            }
        };
        let Some(expected) = expected(world, &step, &key, &base) else { return };
        base(&step.tree);
        let found = world.output_of(&step);
        if let Some(difference) = difference(&expected, &found) {
            differences.push(format!("seed {seed}:\n{difference}"));
        }
        for directory in [&step.tree, &step.layer_directory()] {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    println!("  {} calls compared {place}", sequences as usize * CALLS);
}

/// The first line that differs, and some before it.
pub fn difference(expected: &str, found: &str) -> Option<String> {
    let (lines, told): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let at = (0..lines.len().max(told.len())).find(|&at| lines.get(at) != told.get(at))?;
    let before = lines[at.min(lines.len()).saturating_sub(8)..at.min(lines.len())].join("\n");
    let [kernel, here] = [&lines, &told].map(|lines| lines.get(at).copied().unwrap_or_default());
    Some(format!("{before}\n  the kernel: {kernel}\n  here:       {here}"))
}

/// What the calls find. On the other side it is not beneath but in the upper directory: overlayfs renames no directory of a
/// layer (EXDEV), here it can be done.
fn make_base(root: &Path, seed: u64, owned: bool) {
    std::fs::create_dir(root.join("w")).expect("a directory");
    operations::fill(&root.join("w"), seed, 2, owned);
}

/// What the kernel gives to a step, from root's own run if this is an ordinary user; `None` (reported as a skip) where
/// nobody was root.
pub fn expected(world: &World, step: &Step, name: &str, base: &dyn Fn(&Path)) -> Option<String> {
    let Some(kept) = std::env::var_os(EXPECTED).map(|kept| PathBuf::from(kept).join(name)) else {
        println!("skipped: the other side needs root");
        return None;
    };
    Some(std::fs::read_to_string(&kept).unwrap_or_else(|_| {
        let expected = by_the_kernel(world, step, base);
        std::fs::write(&kept, &expected).expect("writable");
        expected
    }))
}

/// Whether root of this machine can be the other side.
pub fn has_other_side() -> bool {
    let has_namespaces = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    NamespaceExecutor::new(Launcher::default()).tier() == Tier::NativeRoot && has_namespaces
}

/// What a step gives on an overlay of its tree, with `base` in the upper directory.
fn by_the_kernel(world: &World, step: &Step, base: &dyn Fn(&Path)) -> String {
    let place = world.directory.join("reference");
    for name in ["upper", "work"] {
        std::fs::create_dir_all(place.join(name)).expect("a directory");
    }
    base(&place.join("upper"));
    let mut request = step.request.clone();
    request.root =
        Root::Overlay { lower: vec![step.tree.clone()], upper: place.join("upper"), work: place.join("work") };
    let mut expected = Vec::new();
    let mut sink = |_: Stream, bytes: &[u8]| expected.extend_from_slice(bytes);
    let outcome = NamespaceExecutor::new(Launcher::default()).run(&request, &mut sink).expect("it runs");
    let expected = String::from_utf8_lossy(&expected).into_owned();
    assert!(outcome.exit.success(), "{expected}");
    std::fs::remove_dir_all(&place).expect("ours");
    expected
}

/// Two names of a file of the base are one file until something of it changes: then overlayfs copies it, and the other name
/// keeps what it had.
fn names_of_one_file_of_the_base_part_where_they_part_on_overlayfs(world: &World) {
    if !world.on_layers.get() {
        return;
    }
    let step = world.step(
        "cd /srv; same() { test $1 -ef $2 && echo same || echo two; stat -c '%n %h %s %a' $1 $2; }; \
         same one two; cp -a one two /tmp; same /tmp/one /tmp/two; cat one > /dev/null; same one two; \
         echo more >> one; same one two; cat one two; \
         same three four; chmod 600 four; same three four; same five six; ln six seven; same five six; same six seven; \
         rm two; cat one; mv one two; cat two; ls",
    );
    for (first, second) in [("one", "two"), ("three", "four"), ("five", "six")] {
        std::fs::write(step.tree.join("srv").join(first), "linked\n").expect("writable");
        std::fs::hard_link(step.tree.join("srv").join(first), step.tree.join("srv").join(second)).expect("a link");
    }
    let expected = "same\none 2 7 644\ntwo 2 7 644\nsame\n/tmp/one 2 7 644\n/tmp/two 2 7 644\nsame\none 2 7 644\n\
                    two 2 7 644\ntwo\none 1 12 644\ntwo 2 7 644\nlinked\nmore\nlinked\n";
    if has_other_side() {
        let by_kernel = by_the_kernel(world, &step, &|_| ());
        assert!(by_kernel.starts_with(expected), "{by_kernel}");
        assert_eq!(world.output_of(&step), by_kernel);
        return;
    }
    let said = world.output_of(&step);
    assert!(said.starts_with(expected), "{said}");
}
